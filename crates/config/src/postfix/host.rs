//! A Postfix host: main.cf, master.cf and what they take from the machine.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::main_cf::{self, Entry, MainCf};
use super::master_cf::{self, Service};
use super::network::Network;
use super::unknown;
use super::view::View;
use crate::files::why;
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
}

impl Host {
    /// Reads `main.cf` and `master.cf` in `directory`. What cannot be read is a problem; the host then
    /// holds what could.
    pub fn read(files: &dyn Files, directory: &Path, problems: &mut Problems) -> Self {
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
            machine: Machine { host_name: files.host_name(), addresses: files.addresses() },
        };
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
