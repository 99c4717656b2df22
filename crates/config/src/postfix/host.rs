//! A Postfix host: main.cf, master.cf and what they take from the machine.
//!
//! Read: postfix, for all that daemons read.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::main_cf::{self, Entry, MainCf};
use super::master_cf::{self, Service};
use super::network::Network;
use super::unknown;
use super::view::View;
use crate::files::why;
use crate::forget::is_forgotten;
use crate::text::Sourced;
use crate::{Files, Place, Problems};

/// The configuration of one Postfix instance.
#[derive(Clone, Debug)]
pub struct Host {
    directory: PathBuf,
    pub(super) main: MainCf,
    services: Vec<Service>,
    pub(super) machine: Machine,
}

/// What defaults take from the machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub host_name: String,
    pub addresses: Vec<(IpAddr, u8)>,
    /// That of the Postfix which is installed: our neighbours speak as it does.
    pub version: Option<String>,
}

impl Host {
    /// Reads `main.cf` and `master.cf` in `directory`. What cannot be read is a problem; the host then
    /// holds what could.
    pub fn read(files: &dyn Files, directory: &Path, problems: &mut Problems) -> Self {
        let mut found = Problems::default();
        let host = Self::read_all(files, directory, &mut found);
        problems.extend(found.by_place());
        host
    }

    fn read_all(files: &dyn Files, directory: &Path, problems: &mut Problems) -> Self {
        let mut content = |name: &str| {
            let path = directory.join(name);
            let content = files.read(&path).unwrap_or_else(|error| {
                let what = format!("cannot read it: {}", why(&error));
                problems
                    .error(Place::file(&path), what)
                    .instead("name Postfix's configuration directory with -c");
                Vec::new()
            });
            (path, content)
        };
        let ((main_path, main), (master_path, master)) = (content("main.cf"), content("master.cf"));
        let mut host = Self {
            directory: directory.to_owned(),
            main: main_cf::read(&main_path, &main, problems),
            services: master_cf::read(&master_path, &master, problems),
            machine: Machine {
                host_name: files.host_name(),
                addresses: files.addresses(),
                version: None,
            },
        };
        host.forget();
        host.read_version(files);
        host.read_origin(files, problems);
        unknown::report(&host, problems);
        unknown::report_values(&host, problems);
        host
    }

    /// The settings of main.cf alone.
    pub fn main(&self) -> View<'_> {
        View::new(self, None)
    }

    /// The settings as the service sees them: main.cf, then its `-o` overrides.
    pub fn view<'h>(&'h self, service: &'h Service) -> View<'h> {
        View::new(self, Some(service))
    }

    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter()
    }

    /// The service of this name and type.
    pub fn service(&self, name: &str, kind: super::ServiceType) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name && service.kind == kind)
    }

    /// The services that run `command` (`smtpd`, `local`, …).
    pub fn running(&self, command: &str) -> impl Iterator<Item = &Service> {
        self.services.iter().filter(move |service| service.command == command)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a path that the service's configuration names is in the file system. Relative paths start
    /// at the queue directory; with the chroot column `y`, absolute ones do too.
    pub fn path(&self, service: &Service, path: impl AsRef<Path>) -> PathBuf {
        let queue =
            PathBuf::from(self.main().expanded("queue_directory").unwrap_or_default().as_str());
        let path = path.as_ref();
        match path.strip_prefix("/") {
            Ok(inside) if self.is_chrooted(service) => queue.join(inside),
            Ok(_) => path.to_owned(),
            Err(_) => queue.join(path),
        }
    }

    /// The chroot column, with its default below compatibility level 1 as Postfix has it.
    pub fn is_chrooted(&self, service: &Service) -> bool {
        service.chroot.unwrap_or_else(|| {
            let level = self.main().expanded("compatibility_level").unwrap_or_default();
            matches!(level.as_str().split('.').next(), Some("" | "0"))
        })
    }

    /// Tells each setting that one of the commands (`smtpd`, `cleanup`, …) would read, that has another value
    /// than its default, and that we do not obey: an error where ignoring it would change what is
    /// accepted, relayed, delivered or exposed.
    pub fn report_unsupported(&self, commands: &[&str], problems: &mut Problems) {
        unknown::report_unsupported(self, commands, problems);
    }

    /// Leaves out what a proof leaves out.
    fn forget(&mut self) {
        self.main.retain(|name, _| !is_forgotten("postfix", name));
        for service in &mut self.services {
            service.overrides.retain(|known| !is_forgotten("postfix", &known.name));
        }
    }

    /// Each program of Postfix holds `mail_version=3.10.5` as a text.
    fn read_version(&mut self, files: &dyn Files) {
        let directory = self.main().expanded("daemon_directory").unwrap_or_default();
        let Ok(program) = files.read(&Path::new(directory.as_str()).join("master")) else { return };
        self.machine.version = version_in(&program);
    }

    /// Debian's myorigin may name a file, whose first line is the domain.
    fn read_origin(&mut self, files: &dyn Files, problems: &mut Problems) {
        let Ok(name) = self.main().expanded("myorigin") else { return };
        let Some(path) = name.as_str().strip_prefix('/').map(|_| PathBuf::from(name.as_str()))
        else {
            return;
        };
        let at = name.place().cloned().unwrap_or_else(|| Place::new(&self.directory, 0));
        match files.read(&path) {
            Ok(content) => {
                let text = String::from_utf8_lossy(&content).into_owned();
                let line = text.lines().next().unwrap_or_default().trim_ascii().to_owned();
                let value = Sourced::new(line, &Place::new(&path, 1));
                self.main.insert("myorigin".into(), Entry { at, value });
            }
            Err(error) => {
                let what = format!(
                    "myorigin names {}, which cannot be read: {}",
                    path.display(),
                    why(&error)
                );
                problems
                    .error(at.clone(), what)
                    .instead("name a readable file, or write the domain itself");
            }
        }
    }
}

fn version_in(program: &[u8]) -> Option<String> {
    const STAMP: &[u8] = b"mail_version=";
    let at = program.windows(STAMP.len()).position(|bytes| bytes == STAMP)?;
    let rest = program.get(at + STAMP.len()..)?;
    let version = rest.get(..rest.iter().position(|byte| *byte == 0)?)?;
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b".-+".contains(byte);
    let is_version = version.len() <= 40
        && version.first().is_some_and(u8::is_ascii_digit)
        && version.iter().all(fits);
    is_version.then(|| String::from_utf8_lossy(version).into_owned())
}

impl Machine {
    /// `mynetworks` when main.cf does not set it.
    pub(super) fn networks(&self, style: &str) -> String {
        let mut networks = Vec::new();
        for &(address, prefix) in &self.addresses {
            let length = match (style, address) {
                ("host", IpAddr::V4(_)) => 32,
                ("host", IpAddr::V6(_)) => 128,
                ("class", IpAddr::V4(v4)) => match v4.octets()[0] {
                    0..=127 => 8,
                    128..=191 => 16,
                    _ => 24,
                },
                _ => prefix,
            };
            let network = Network::holding(address, length).to_string();
            if !networks.contains(&network) {
                networks.push(network);
            }
        }
        networks.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Memory;

    #[test]
    fn the_version_is_that_of_the_installed_postfix_unless_main_cf_says_another() {
        for (main, program, version) in [
            ("", "\x7fELF\0mail_version\0mail_version=3.10.5\0x", "3.10.5"),
            ("mail_version = 3.5.1\n", "\0mail_version=3.10.5\0", "3.5.1"),
            ("", "\0mail_version=%s\0", "3.7.11"),
            ("", "\0mail_version=3.10", "3.7.11"),
        ] {
            let files = Memory::with([
                ("/p/main.cf", main),
                ("/p/master.cf", ""),
                ("/usr/lib/postfix/sbin/master", program),
            ]);
            let mut problems = Problems::default();
            let host = Host::read(&files, "/p".as_ref(), &mut problems);
            assert_eq!(host.main().get(super::super::MAIL_VERSION, &mut problems), version);
        }
    }
    use crate::postfix::{self, ServiceType};

    fn host(main: &str, master: &str) -> (Host, String) {
        let files = Memory::with([
            ("/p/main.cf", main),
            ("/p/master.cf", master),
            ("/etc/mailname", "mail.example.org\nmore\n"),
        ]);
        let mut problems = Problems::default();
        let host = Host::read(&files, "/p".as_ref(), &mut problems);
        (host, problems.to_string())
    }

    fn text(host: &Host, name: &str) -> String {
        host.main().text(name, &mut Problems::default()).unwrap().as_str().to_owned()
    }

    #[test]
    fn the_machine_fills_in_names_and_networks() {
        let (plain, _) = host("", "");
        assert_eq!(text(&plain, "myhostname"), "host.example.com");
        assert_eq!(text(&plain, "mydomain"), "example.com");
        assert_eq!(
            text(&plain, "mynetworks"),
            "127.0.0.0/8 192.0.2.0/24 [::1]/128",
            "below level 2: the subnet"
        );
        let (new, _) = host("compatibility_level = 3.6\nmyhostname = only\n", "");
        assert_eq!(text(&new, "mynetworks"), "127.0.0.1/32 192.0.2.1/32 [::1]/128");
        assert_eq!(text(&new, "mydomain"), "localdomain");
        let (own, _) = host("mynetworks_style = host\n", "");
        assert_eq!(text(&own, "mynetworks"), "127.0.0.1/32 192.0.2.1/32 [::1]/128");
    }

    #[test]
    fn myorigin_may_name_a_file() {
        let (host, problems) = host("myorigin = /etc/mailname\n", "");
        assert_eq!((text(&host, "myorigin").as_str(), problems.as_str()), ("mail.example.org", ""));
    }

    #[test]
    fn the_chroot_column_is_a_rule_for_paths() {
        let master =
            "jail inet n - y - - smtpd\nfree inet n - n - - smtpd\nasks inet n - - - - smtpd\n";
        let (host, problems) = host("queue_directory = /q\n", master);
        let path = |name: &str, path: &str| {
            let service = host.service(name, ServiceType::Inet).unwrap();
            host.path(service, path).display().to_string()
        };
        assert_eq!(problems, "");
        assert_eq!(path("jail", "/var/run/x"), "/q/var/run/x");
        assert_eq!(path("free", "/var/run/x"), "/var/run/x");
        assert_eq!(
            path("asks", "/var/run/x"),
            "/q/var/run/x",
            "compatibility level 0: chroot is the default"
        );
        let (newer, _) = self::host("queue_directory = /q\ncompatibility_level = 3.6\n", master);
        let asks = newer.service("asks", ServiceType::Inet).unwrap();
        assert_eq!(newer.path(asks, "/var/run/x").display().to_string(), "/var/run/x");
        for name in ["jail", "free"] {
            assert_eq!(path(name, "private/auth"), "/q/private/auth");
        }
    }

    #[test]
    fn overrides_and_stress_count_for_their_service() {
        let master = "smtp inet n - n - - smtpd\nsubmission inet n - n - - smtpd\n -o smtpd_tls_security_level=encrypt -o myhostname=sub.example.com\n -o { smtpd_banner = $myhostname  hello }\n";
        let (host, problems) =
            host("smtpd_tls_security_level = may\nmyhostname = mail.example.com\n", master);
        let mut said = Problems::default();
        let (smtp, submission) = (
            host.service("smtp", ServiceType::Inet).unwrap(),
            host.service("submission", ServiceType::Inet).unwrap(),
        );
        assert_eq!(host.view(smtp).get(postfix::SMTPD_TLS_SECURITY_LEVEL, &mut said), "may");
        let view = host.view(submission);
        assert_eq!(view.get(postfix::SMTPD_TLS_SECURITY_LEVEL, &mut said), "encrypt");
        assert_eq!(view.get(postfix::SMTPD_BANNER, &mut said), "sub.example.com  hello");
        assert_eq!(view.place(postfix::SMTPD_BANNER).unwrap().to_string(), "/p/master.cf:4");
        assert_eq!(view.get(postfix::SMTPD_TIMEOUT, &mut said).as_secs(), 300);
        assert_eq!(view.under_stress().get(postfix::SMTPD_TIMEOUT, &mut said).as_secs(), 10);
        assert_eq!((problems, said.to_string()), (String::new(), String::new()));
    }

    #[test]
    fn a_transport_has_its_own_setting_or_the_default() {
        let (host, problems) = host(
            "default_destination_rate_delay = 2s\nslow_destination_rate_delay = 9s\n",
            "slow unix - - n - - smtp\n",
        );
        let mut said = Problems::default();
        let mut delay = |transport| {
            host.main()
                .for_transport(transport, postfix::DEFAULT_DESTINATION_RATE_DELAY, &mut said)
                .as_secs()
        };
        assert_eq!((delay("slow"), delay("smtp")), (9, 2));
        let mut limit = |transport| {
            host.main().for_transport(
                transport,
                postfix::DEFAULT_DESTINATION_CONCURRENCY_LIMIT,
                &mut said,
            )
        };
        assert_eq!((limit("local"), limit("smtp")), (2, 20));
        assert_eq!(problems, "");
        let (host, problems) = self::host(
            "local_destination_concurrency_limit = 7\nlocal_destination_recipient_limit = 8\n",
            "",
        );
        let limit = |setting| host.main().for_transport("local", setting, &mut Problems::default());
        assert_eq!(limit(postfix::DEFAULT_DESTINATION_CONCURRENCY_LIMIT), 7);
        assert_eq!(limit(postfix::DEFAULT_DESTINATION_RECIPIENT_LIMIT), 8);
        assert_eq!(problems, "");
        for transport in ["lmtp", "relay", "smtp", "virtual"] {
            let main = format!(
                "{transport}_destination_concurrency_limit = 7\n{transport}_destination_recipient_limit = 8\n"
            );
            let (host, problems) = self::host(&main, "");
            let limit =
                |setting| host.main().for_transport(transport, setting, &mut Problems::default());
            assert_eq!(limit(postfix::DEFAULT_DESTINATION_CONCURRENCY_LIMIT), 7);
            assert_eq!(limit(postfix::DEFAULT_DESTINATION_RECIPIENT_LIMIT), 8);
            assert_eq!(problems, "");
        }
    }

    #[test]
    fn an_adopted_entry_is_live_for_us() {
        let master = "#theoris: smtp inet n - n - - smtpd\n#theoris:   -o smtpd_tls_auth_only=yes\npickup unix n - n 60 1 pickup\n";
        let (host, problems) = host("", master);
        let shown: Vec<_> = host
            .services()
            .map(|service| (service.name.as_str(), service.adopted, service.overrides.len()))
            .collect();
        assert_eq!((shown, problems.as_str()), (vec![("smtp", true, 1), ("pickup", false, 0)], ""));
    }

    #[test]
    fn a_bad_value_is_an_error_where_we_obey_and_a_warning_elsewhere() {
        let (_, problems) = host("smtpd_recipient_limit = x\nqmqpd_timeout = x\n", "");
        insta::assert_snapshot!(problems, @r#"
        /p/main.cf:1: smtpd_recipient_limit: "x" is no number; write a decimal number
        /p/main.cf:2: warning: qmqpd_timeout: "x" is no time; write a number and one of s m h d w, such as 300s
        "#);
    }

    #[test]
    fn old_names_and_names_of_the_service_count() {
        let (host, _) = host(
            "virtual_maps = inline:{a=b}\n",
            "x unix - - n - - smtpd\n -o syslog_name=$service_name$config_directory\n",
        );
        assert_eq!(text(&host, "virtual_alias_maps"), "inline:{a=b}");
        let service = host.service("x", ServiceType::Unix).unwrap();
        assert_eq!(host.view(service).get(postfix::SYSLOG_NAME, &mut Problems::default()), "x/p");
    }
}
