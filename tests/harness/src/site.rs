//! A sample of `etc/` laid out below a private directory: same files, with every path, port and owner moved.
//! Our daemons and the originals start on the same result.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::certificates::Authority;
use crate::{Daemon, Log, dkim, ports};

/// The samples in `etc/`.
pub const SAMPLES: &[&str] = &["vps", "guide", "lab", "sender", "container"];

/// The daemons, in the order in which they are started.
pub const DAEMONS: &[&str] =
    &["authd", "lmtp-delivery", "smtp-delivery", "queue-manager", "smtpd", "imapd", "pop3d"];

/// Host paths that move below the site's root. Nothing else is touched.
const MOVED: &[&str] = &[
    "/etc/postfix",
    "/etc/dovecot",
    "/etc/aliases",
    "/etc/letsencrypt",
    "/etc/opendkim",
    "/etc/pki",
    "/run/opendkim",
    "/var/spool/postfix",
    "/var/lib/postfix",
    "/var/mail",
];

/// The names and standard ports of the samples' TCP listeners.
const PORTS: &[(&str, u16)] = &[
    ("smtp", 25),
    ("submission", 587),
    ("smtps", 465),
    ("imap", 143),
    ("imaps", 993),
    ("pop3", 110),
    ("pop3s", 995),
    ("milter", 8891),
    ("lmtp", 2003),
];

/// The host that a sample is laid out for.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// Where all its listeners are.
    pub address: Ipv4Addr,
    /// Two domains that stand for each other: the same sample makes a second host.
    pub swapped: Option<(&'a str, &'a str)>,
    /// Where names are resolved; without it as the machine does.
    pub nameserver: Option<SocketAddr>,
}

impl Default for Host<'_> {
    fn default() -> Self {
        Self { address: Ipv4Addr::LOCALHOST, swapped: None, nameserver: None }
    }
}

impl Host<'_> {
    /// The sample's text for this host.
    fn swap(&self, text: &str) -> String {
        match self.swapped {
            Some((one, other)) => {
                text.replace(one, "\u{0}").replace(other, one).replace('\u{0}', other)
            }
            None => text.to_owned(),
        }
    }
}

/// A rendered sample.
#[derive(Debug)]
pub struct Site {
    root: PathBuf,
    ports: BTreeMap<&'static str, u16>,
    address: Ipv4Addr,
    host: String,
    nameserver: Option<SocketAddr>,
    /// The private authority's certificate, for clients.
    pub ca: PathBuf,
    /// The public halves of the keys in its KeyTable.
    pub dkim: Vec<dkim::Published>,
    /// Lines of all daemons of the site.
    pub log: Log,
}

/// Who owns what on the site.
#[derive(Clone, Copy, Debug)]
struct Owners {
    postfix: (u32, u32),
    vmail: (u32, u32),
    /// `None`: whoever lays the site out.
    opendkim: Option<(u32, u32)>,
}

impl Owners {
    /// Root has Debian's users and a vmail of its own; an ordinary user is all of them.
    fn of_this_process() -> Self {
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        if uid != 0 {
            return Self { postfix: (uid, gid), vmail: (uid, gid), opendkim: None };
        }
        let ids = |name: &str| {
            let user = nix::unistd::User::from_name(name).unwrap()?;
            Some((user.uid.as_raw(), user.gid.as_raw()))
        };
        Self {
            postfix: ids("postfix").unwrap_or((uid, gid)),
            vmail: (crate::dovecot::VMAIL, crate::dovecot::VMAIL),
            opendkim: ids("opendkim"),
        }
    }
}

impl Site {
    /// Lays `sample` (a directory of `etc/`) out below `root`, on free ports.
    pub fn render(sample: &Path, root: &Path) -> Self {
        Self::render_for(&Host::default(), sample, root, |_| ports::free())
    }

    /// As [`Site::render`], for a certain host; `port` chooses the port for a standard one.
    pub fn render_for(
        host: &Host<'_>,
        sample: &Path,
        root: &Path,
        mut port: impl FnMut(u16) -> u16,
    ) -> Self {
        let mut site = Self {
            root: root.to_owned(),
            ports: PORTS.iter().map(|(name, standard)| (*name, port(*standard))).collect(),
            address: host.address,
            host: host.swap("mail.example.com"),
            nameserver: host.nameserver,
            ca: root.join("ca/ca.pem"),
            dkim: Vec::new(),
            log: Log::default(),
        };
        let owners = Owners::of_this_process();
        site.copy(host, sample, &root.join("etc"), owners);
        site.theoris_toml();
        site.directories(owners);
        site.certificates(host);
        if let Ok(table) = fs::read_to_string(root.join("etc/opendkim/KeyTable")) {
            site.dkim = dkim::generate(&table, owners.opendkim);
        } else if let Ok(text) = fs::read_to_string(root.join("etc/opendkim.conf")) {
            site.dkim = dkim::generate(&one_key(&text), owners.opendkim);
        }
        site
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where names are resolved, if not as the machine does.
    pub fn nameserver(&self) -> Option<SocketAddr> {
        self.nameserver
    }

    /// The name that its certificate is for: `mail.example.com`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Replaces a parameter of main.cf, or adds it.
    pub fn set_main(&self, name: &str, value: &str) {
        let path = self.postfix().join("main.cf");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, set(&text, name, value)).unwrap();
    }

    /// Takes a domain out of the tables of virtual domains, mailboxes and aliases.
    pub fn forget_domain(&self, domain: &str) {
        for table in ["virtual_domains", "virtual_mailbox", "virtual_alias"] {
            let path = self.postfix().join(table);
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let of = |line: &&str| {
                let key = line.split_whitespace().next().unwrap_or_default();
                key != domain && !key.ends_with(&format!("@{domain}"))
            };
            fs::write(
                path,
                text.lines().filter(of).map(|line| format!("{line}\n")).collect::<String>(),
            )
            .unwrap();
        }
    }

    /// The port of `smtp`, `submission`, `smtps`, `imap`, `imaps`, `pop3` or `pop3s`.
    pub fn port(&self, name: &str) -> u16 {
        self.ports[name]
    }

    /// Postfix's configuration directory.
    pub fn postfix(&self) -> PathBuf {
        self.root.join("etc/postfix")
    }

    /// Dovecot's configuration file.
    pub fn dovecot(&self) -> PathBuf {
        self.root.join("etc/dovecot/dovecot.conf")
    }

    pub fn queue(&self) -> PathBuf {
        self.root.join("var/spool/postfix")
    }

    /// The Maildir of a virtual user of the sample `guide`.
    pub fn maildir(&self, address: &str) -> PathBuf {
        let (user, domain) = address.split_once('@').unwrap();
        self.root.join("var/mail/vhosts").join(domain).join(user).join("Maildir")
    }

    /// The command line of one of our daemons on this site.
    pub fn arguments(&self, daemon: &str) -> Vec<String> {
        let postfix = self.postfix().display().to_string();
        let dovecot = self.dovecot().display().to_string();
        let own = match daemon {
            "lmtp-delivery" => vec!["-c".into(), postfix, "--dovecot".into(), dovecot],
            "authd" | "imapd" | "pop3d" => vec!["-c".into(), dovecot],
            "dkim-milter" => {
                vec!["-x".into(), self.root.join("etc/opendkim.conf").display().to_string()]
            }
            _ => vec!["-c".into(), postfix],
        };
        let toml = self.root.join("etc/theoris.toml").display().to_string();
        [own, vec!["--theoris".into(), toml]].concat()
    }

    /// Starts one of our daemons and waits until it is ready.
    #[track_caller]
    pub fn start(&self, daemon: &str) -> Daemon {
        let arguments = self.arguments(daemon);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Daemon::start_with(daemon, &self.root.join("run"), &arguments, self.log.clone(), |_| {})
    }

    /// As [`Site::start`], with the log where the configuration wants it, which must be stdout, stderr or a file.
    #[track_caller]
    pub fn start_as_configured(&self, daemon: &str) -> Daemon {
        let arguments = self.arguments(daemon);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Daemon::start_with(
            daemon,
            &self.root.join("run"),
            &arguments,
            self.log.clone(),
            |command| {
                command.env_remove("THEORIS_LOG");
            },
        )
    }

    /// The daemons that have a configuration here: not every host signs its mail, or has readers.
    pub fn daemons(&self) -> impl Iterator<Item = &'static str> {
        let filter = self.root.join("etc/opendkim.conf").exists().then_some("dkim-milter");
        let dovecot = fs::read_to_string(self.dovecot()).unwrap_or_default();
        let protocols = dovecot.lines().find_map(|line| line.strip_prefix("protocols ="));
        let protocols = protocols.unwrap_or_default().to_owned();
        let serves = move |daemon: &&'static str| match *daemon {
            "imapd" => protocols.contains("imap"),
            "pop3d" => protocols.contains("pop3"),
            _ => true,
        };
        filter.into_iter().chain(DAEMONS.iter().copied().filter(serves))
    }

    /// Starts all of our daemons.
    #[track_caller]
    pub fn start_all(&self) -> Vec<Daemon> {
        self.daemons().map(|daemon| self.start(daemon)).collect()
    }

    fn copy(&self, host: &Host<'_>, from: &Path, to: &Path, owners: Owners) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            if source.is_dir() {
                self.copy(host, &source, &target, owners);
                continue;
            }
            let text = self.moved(&host.swap(&fs::read_to_string(&source).unwrap()));
            let text = match entry.file_name().to_str() {
                Some("main.cf") => self.main_cf(&text, owners),
                Some("master.cf") => self.master_cf(&text),
                Some("dovecot.conf") => self.dovecot_conf(&text, owners),
                Some("TrustedHosts") => text.replace("127.0.0.1", &self.address.to_string()),
                Some("opendkim.conf") => self.opendkim_conf(&text),
                _ => text,
            };
            fs::write(target, text).unwrap();
        }
    }

    /// Puts the root in front of every path of [`MOVED`].
    fn moved(&self, text: &str) -> String {
        let root = self.root.display().to_string();
        MOVED
            .iter()
            .fold(text.to_owned(), |text, path| text.replace(path, &format!("{root}{path}")))
    }

    fn main_cf(&self, text: &str, owners: Owners) -> String {
        let shown = self.root.display();
        let text = text.replace("static:5000", &format!("static:{}", owners.vmail.0));
        let mut text = set(&text, "inet_interfaces", &self.address.to_string());
        text = set(&text, "inet_protocols", "ipv4");
        let milter = format!("inet:{}:{}", self.address, self.ports["milter"]);
        text = text.replace("inet:localhost:8891", &milter);
        let lmtp = format!("inet:{}:{}", self.address, self.ports["lmtp"]);
        text = text.replace("inet:dovecot:2003", &lmtp);
        let mut more = vec![
            ("queue_directory", format!("{shown}/var/spool/postfix")),
            ("data_directory", format!("{shown}/var/lib/postfix")),
        ];
        if let Some(user) = nix::unistd::User::from_uid(nix::unistd::getuid())
            .unwrap()
            .filter(|user| !user.uid.is_root())
        {
            more.push(("mail_owner", user.name));
        }
        if Path::new("/usr/lib/postfix/sbin").exists() {
            more.push(("daemon_directory", "/usr/lib/postfix/sbin".to_owned()));
        }
        for (name, value) in more {
            text = set(&text, name, &value);
        }
        text
    }

    fn master_cf(&self, text: &str) -> String {
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some(name), Some("inet")) if self.ports.contains_key(name) => {
                    line.replacen(name, &format!("{}:{}", self.address, self.ports[name]), 1) + "\n"
                }
                _ => format!("{line}\n"),
            }
        };
        text.lines().map(line).collect()
    }

    fn opendkim_conf(&self, text: &str) -> String {
        let socket = format!("inet:{}@{}", self.ports["milter"], self.address);
        let text = text.replace("inet:8891@localhost", &socket);
        let kept = |line: &&str| {
            nix::unistd::getuid().is_root() || !line.trim_start().starts_with("UserID")
        };
        let text: String = text.lines().filter(kept).map(|line| format!("{line}\n")).collect();
        // The site lies below /tmp, where anybody may write.
        format!("{text}RequireSafeKeys no\n")
    }

    fn dovecot_conf(&self, text: &str, owners: Owners) -> String {
        let mut text = text.replace("listen = *, ::", &format!("listen = {}", self.address));
        text = text.replace("listen = *\n", &format!("listen = {}\n", self.address));
        for (name, standard) in PORTS {
            text = text.replace(
                &format!("    port = {standard}\n"),
                &format!("    port = {}\n", self.ports[name]),
            );
        }
        let shown = self.root.display();
        let (uid, gid) = owners.vmail;
        text = text.replace("uid=vmail gid=vmail", &format!("uid={uid} gid={gid}"));
        text = text.replace("mail_uid = vmail", &format!("mail_uid = {uid}"));
        text = text.replace("mail_gid = vmail", &format!("mail_gid = {gid}"));
        text = text.replace("mail_privileged_group = vmail\n", "");
        text = text.replace("    user = vmail\n", &format!("    user = {uid}\n"));
        if nix::unistd::getuid().as_raw() != 0 {
            // One uid is everything: no owner is set, none can be.
            let owned = |line: &&str| {
                !["    user = ", "    group = "].iter().any(|key| line.starts_with(key))
            };
            text = text.lines().filter(owned).map(|line| format!("{line}\n")).collect();
            text = text.replace("mail_privileged_group = mail\n", "");
            text = text.replace("first_valid_uid = 1000", &format!("first_valid_uid = {uid}"));
        }
        let has_readers = text.contains("protocols = imap");
        if has_readers && !text.contains("listen = ") {
            text.push_str(&format!("listen = {}\n", self.address));
        }
        if has_readers && !text.contains("service imap-login") {
            let ports = &self.ports;
            text.push_str(&format!(
                "service imap-login {{\n  inet_listener imap {{\n    port = {}\n  }}\n  inet_listener imaps {{\n    port = {}\n    ssl = yes\n  }}\n}}\n\
                 service pop3-login {{\n  inet_listener pop3 {{\n    port = {}\n  }}\n  inet_listener pop3s {{\n    port = {}\n    ssl = yes\n  }}\n}}\n",
                ports["imap"], ports["imaps"], ports["pop3"], ports["pop3s"]
            ));
        }
        format!("{text}base_dir = {shown}/run/dovecot\nstate_dir = {shown}/var/lib/dovecot\n")
    }

    /// What the originals have no setting for.
    fn theoris_toml(&self) {
        let text = match self.nameserver {
            Some(server) => format!("[resolver]\nservers = [\"{server}\"]\n"),
            None => String::new(),
        };
        fs::write(self.root.join("etc/theoris.toml"), text).unwrap();
    }

    fn directories(&self, owners: Owners) {
        let own = |path: &Path, (uid, gid): (u32, u32)| {
            if nix::unistd::getuid().is_root() {
                nix::unistd::chown(path, Some(uid.into()), Some(gid.into())).unwrap();
            }
        };
        for name in [
            "run/dovecot",
            "var/lib/dovecot",
            "var/lib/postfix",
            "var/mail/vhosts",
            "var/spool/postfix",
        ] {
            fs::create_dir_all(self.root.join(name)).unwrap();
        }
        for name in ["run/opendkim", "var/spool/postfix/opendkim"] {
            fs::create_dir_all(self.root.join(name)).unwrap();
            // The filter's socket is for Postfix too.
            let owner = owners.opendkim.map_or(owners.postfix.0, |(uid, _)| uid);
            own(&self.root.join(name), (owner, owners.postfix.1));
        }
        own(&self.root.join("var/lib/postfix"), owners.postfix);
        own(&self.root.join("var/mail/vhosts"), owners.vmail);
        for name in [
            "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming",
            "maildrop", "private", "public", "saved", "trace",
        ] {
            let path = self.queue().join(name);
            fs::create_dir_all(&path).unwrap();
            own(&path, owners.postfix);
        }
        fs::create_dir_all(self.queue().join("pid")).unwrap();
    }

    /// A private authority, and certificates wherever the configuration names some.
    fn certificates(&self, host: &Host<'_>) {
        let authority = Authority::new(&self.root.join("ca"));
        let names = ["mail.example.com", "example.com", "mail.mydomain.local", "localhost"];
        let names = names.map(|name| host.swap(name));
        let address = self.address.to_string();
        let hosts: Vec<&str> = names.iter().map(String::as_str).chain([&*address]).collect();
        let identity = authority.issue("server", &hosts);
        for directory in ["example.com-0001", "mail.example.com"] {
            let directory = host.swap(directory);
            let live = self.root.join("etc/letsencrypt/live").join(directory);
            fs::create_dir_all(&live).unwrap();
            fs::copy(&identity.chain, live.join("fullchain.pem")).unwrap();
            fs::copy(&identity.key, live.join("privkey.pem")).unwrap();
        }
        for name in ["postfix", "dovecot"] {
            let directory = self.root.join("etc/pki").join(name);
            fs::create_dir_all(directory.join("private")).unwrap();
            fs::copy(&identity.chain, directory.join(format!("{name}.pem"))).unwrap();
            fs::copy(&identity.key, directory.join(format!("private/{name}.pem"))).unwrap();
        }
    }
}

/// `Domain`, `Selector` and `KeyFile` of opendkim.conf as the line of a KeyTable.
fn one_key(text: &str) -> String {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(char::is_whitespace));
        lines.find(|(known, _)| *known == name).map_or("", |(_, value)| value.trim())
    };
    format!("key {}:{}:{}", value("Domain"), value("Selector"), value("KeyFile"))
}

/// Replaces the value of a main.cf parameter, or adds it.
fn set(text: &str, name: &str, value: &str) -> String {
    let wanted = format!("{name} = {value}");
    let is_it = |line: &str| line.split('=').next().is_some_and(|key| key.trim_end() == name);
    if text.lines().any(is_it) {
        text.lines()
            .map(|line| if is_it(line) { format!("{wanted}\n") } else { format!("{line}\n") })
            .collect()
    } else {
        format!("{text}{wanted}\n")
    }
}
