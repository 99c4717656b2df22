//! `service` blocks over Dovecot's own: who listens where.
//!
//! Read: dovecot, on behalf of the daemons.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::names::*;
use super::parser;
use super::tree::{Config, Section};
use super::view::typed;
use crate::files::Memory;
use crate::register::Setting;
use crate::text::Word;
use crate::{Place, Problems};

/// What Dovecot 2.3.19 has when the file says nothing (`doveconf -d`).
const DEFAULTS: &str = include_str!("../../register/dovecot-services.conf");

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    pub name: String,
    /// Its protocol is among `protocols`, or it belongs to none.
    pub enabled: bool,
    pub executable: String,
    pub user: String,
    pub group: String,
    pub extra_groups: Vec<Word>,
    pub privileged_group: String,
    pub chroot: String,
    pub process_min_avail: u64,
    /// 0: `default_process_limit`.
    pub process_limit: u64,
    /// 0: `default_client_limit`.
    pub client_limit: u64,
    pub service_count: u64,
    pub listeners: Vec<Listener>,
    /// Where the host's file speaks of it; nowhere when all is default.
    pub at: Option<Place>,
}

/// A socket of a service. One with mode 0 or port 0 is disabled and not listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The name in the file: a path or, for an inet listener, any word.
    pub name: String,
    pub kind: ListenerKind,
    pub at: Option<Place>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerKind {
    Unix {
        path: PathBuf,
        mode: u32,
        user: String,
        group: String,
    },
    Fifo {
        path: PathBuf,
        mode: u32,
        user: String,
        group: String,
    },
    /// `addresses` empty: those of `listen`.
    Inet {
        addresses: Vec<String>,
        port: u16,
        ssl: bool,
        haproxy: bool,
    },
}

impl Config {
    /// All services, the host's settings over Dovecot's defaults, sorted as Dovecot lists them and then as written.
    pub fn services(&self, problems: &mut Problems) -> Vec<Service> {
        let view = self.global();
        let protocols = view.get(PROTOCOLS, problems);
        let base = PathBuf::from(view.get(BASE_DIR, problems));
        let own = view.blocks("service");
        let mut all = defaults(&[
            ("$default_internal_user", view.get(DEFAULT_INTERNAL_USER, problems)),
            ("$default_internal_group", view.get(DEFAULT_INTERNAL_GROUP, problems)),
            ("$default_login_user", view.get(DEFAULT_LOGIN_USER, problems)),
        ]);
        for block in &own {
            match all.iter_mut().find(|known| known.name == block.name) {
                Some(known) => known.merge(block),
                None => all.push(block.clone()),
            }
        }
        let mut services = Vec::new();
        for section in &all {
            let at = own.iter().find(|block| block.name == section.name && block.at.line > 0);
            let at = at.map(|block| block.at.clone());
            let mut reader = Reader { section, base: &base, problems };
            services.push(reader.service(&protocols, at));
        }
        services
    }

    /// The service of this name, with its listeners.
    pub fn service(&self, name: &str, problems: &mut Problems) -> Option<Service> {
        self.services(problems).into_iter().find(|service| service.name == name)
    }
}

/// Dovecot's own `service` blocks with the names of its users filled in.
fn defaults(variables: &[(&str, String)]) -> Vec<Section> {
    let mut text = DEFAULTS.to_owned();
    for (name, value) in variables {
        text = text.replace(name, value);
    }
    let files = Memory::with([("defaults", text)]);
    parser::read(&files, "defaults".as_ref(), &mut Problems::default()).0.sections
}

struct Reader<'r> {
    section: &'r Section,
    base: &'r PathBuf,
    problems: &'r mut Problems,
}

impl Reader<'_> {
    fn get<K: Kind>(&mut self, setting: Setting<K>) -> K::Value {
        self.of(self.section, setting)
    }

    fn of<K: Kind>(&mut self, section: &Section, setting: Setting<K>) -> K::Value {
        let name = setting.name().rsplit('/').next().unwrap_or_default();
        typed(section.value(name), setting, self.problems)
    }

    fn service(&mut self, protocols: &[Word], at: Option<Place>) -> Service {
        let protocol = self.get(SERVICE_PROTOCOL);
        let mut listeners = Vec::new();
        for section in &self.section.sections {
            listeners.extend(self.listener(section));
        }
        Service {
            name: self.section.name.clone().unwrap_or_default(),
            enabled: protocol.is_empty() || protocols.iter().any(|known| known.text == protocol),
            executable: self.get(SERVICE_EXECUTABLE),
            user: self.get(SERVICE_USER),
            group: self.get(SERVICE_GROUP),
            extra_groups: self.get(SERVICE_EXTRA_GROUPS),
            privileged_group: self.get(SERVICE_PRIVILEGED_GROUP),
            chroot: self.get(SERVICE_CHROOT),
            process_min_avail: self.get(SERVICE_PROCESS_MIN_AVAIL),
            process_limit: self.get(SERVICE_PROCESS_LIMIT),
            client_limit: self.get(SERVICE_CLIENT_LIMIT),
            service_count: self.get(SERVICE_SERVICE_COUNT),
            listeners,
            at,
        }
    }

    fn listener(&mut self, section: &Section) -> Option<Listener> {
        let name = section.name.clone().unwrap_or_default();
        let path = self.base.join(&name);
        let kind = match section.kind.as_str() {
            "unix_listener" => ListenerKind::Unix {
                path,
                mode: self.of(section, SERVICE_UNIX_LISTENER_MODE),
                user: self.of(section, SERVICE_UNIX_LISTENER_USER),
                group: self.of(section, SERVICE_UNIX_LISTENER_GROUP),
            },
            "fifo_listener" => ListenerKind::Fifo {
                path,
                mode: self.of(section, SERVICE_FIFO_LISTENER_MODE),
                user: self.of(section, SERVICE_FIFO_LISTENER_USER),
                group: self.of(section, SERVICE_FIFO_LISTENER_GROUP),
            },
            "inet_listener" => ListenerKind::Inet {
                addresses: self.addresses(section),
                port: self.port(section)?,
                ssl: self.of(section, SERVICE_INET_LISTENER_SSL),
                haproxy: self.of(section, SERVICE_INET_LISTENER_HAPROXY),
            },
            _ => return None,
        };
        let live = match &kind {
            ListenerKind::Unix { mode, .. } | ListenerKind::Fifo { mode, .. } => *mode != 0,
            ListenerKind::Inet { port, .. } => *port != 0,
        };
        let at =
            (&*section.at.file != std::path::Path::new("defaults")).then(|| section.at.clone());
        live.then_some(Listener { name, kind, at })
    }

    fn addresses(&mut self, section: &Section) -> Vec<String> {
        let written = self.of(section, SERVICE_INET_LISTENER_ADDRESS);
        let words = written.split(|c: char| c.is_ascii_whitespace() || c == ',');
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    fn port(&mut self, section: &Section) -> Option<u16> {
        let port = self.of(section, SERVICE_INET_LISTENER_PORT);
        u16::try_from(port)
            .inspect_err(|_| {
                let at = section.value("port").map(|value| value.at.clone());
                self.problems
                    .error(at, format!("port: {port} is no port"))
                    .instead("write 0 to 65535");
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_listeners_stand_beside_dovecots_own() {
        let files = Memory::with([(
            "/d",
            "protocols = imap\ndefault_internal_user = dov\nservice auth {\n  unix_listener /q/private/auth {\n    mode = 0660\n    user = postfix\n  }\n\
             unix_listener auth-userdb {\n mode = 0\n }\n}\nservice imap-login {\n  inet_listener imap {\n    port = 0\n  }\n  inet_listener imaps {\n    port = 1993\n  }\n}\n",
        )]);
        let mut problems = Problems::default();
        let config = Config::read(&files, "/d".as_ref(), &mut problems);
        let shown = |name: &str, problems: &mut Problems| {
            let service = config.service(name, problems).unwrap();
            let listeners: Vec<String> =
                service.listeners.iter().map(|listener| format!("{:?}", listener.kind)).collect();
            format!(
                "{} {} {}\n{}",
                service.name,
                service.enabled,
                service.user,
                listeners.join("\n")
            )
        };
        insta::assert_snapshot!(shown("auth", &mut problems), @r#"
        auth true dov
        Unix { path: "/run/dovecot/auth-client", mode: 384, user: "dov", group: "" }
        Unix { path: "/run/dovecot/auth-login", mode: 384, user: "dov", group: "" }
        Unix { path: "/run/dovecot/auth-master", mode: 384, user: "", group: "" }
        Unix { path: "/run/dovecot/login/login", mode: 438, user: "", group: "" }
        Unix { path: "/run/dovecot/token-login/tokenlogin", mode: 438, user: "", group: "" }
        Unix { path: "/q/private/auth", mode: 432, user: "postfix", group: "" }
        "#);
        insta::assert_snapshot!(shown("imap-login", &mut problems), @r"
        imap-login true dovenull
        Inet { addresses: [], port: 1993, ssl: true, haproxy: false }
        ");
        assert!(!config.service("pop3", &mut problems).unwrap().enabled);
        assert_eq!(problems.to_string(), "");
    }

    /// Each line of a service block changes what is read; without the line, Dovecot's default stands.
    #[test]
    fn every_setting_of_a_service_is_read() {
        let read = |inside: &str| {
            let text = format!("protocols = imap\nservice extra {{\n{inside}\n}}\n");
            let files = Memory::with([("/d", text)]);
            let mut problems = Problems::default();
            let config = Config::read(&files, "/d".as_ref(), &mut problems);
            let service = config.service("extra", &mut problems).unwrap();
            assert_eq!(problems.to_string(), "", "{inside}");
            service
        };
        let unix = |line: &str| format!("unix_listener x {{\n{line}\n}}");
        let fifo = |line: &str| format!("fifo_listener x {{\n{line}\n}}");
        let inet = |line: &str| format!("inet_listener x {{\nport = 1\n{line}\n}}");
        let plain = read("");
        for line in [
            "executable = x",
            "user = x",
            "group = x",
            "extra_groups = x",
            "privileged_group = x",
            "chroot = x",
            "process_min_avail = 7",
            "process_limit = 7",
            "client_limit = 7",
            "service_count = 7",
            "protocol = pop3",
        ] {
            assert_ne!(read(line), plain, "{line}");
        }
        for (with, without) in [
            (unix("mode = 0660"), unix("")),
            (unix("user = x"), unix("")),
            (unix("group = x"), unix("")),
            (fifo("mode = 0660"), fifo("")),
            (fifo("user = x"), fifo("")),
            (fifo("group = x"), fifo("")),
            (inet("ssl = yes"), inet("")),
            (inet("haproxy = yes"), inet("")),
            (inet("address = 127.0.0.1"), inet("")),
            (inet("port = 2"), inet("")),
        ] {
            assert_ne!(read(&with).listeners, read(&without).listeners, "{with}");
        }
    }

    #[test]
    fn the_internal_users_are_those_of_the_file() {
        let files = Memory::with([(
            "/d",
            "default_internal_user = iu\ndefault_internal_group = ig\ndefault_login_user = lu\n",
        )]);
        let mut problems = Problems::default();
        let config = Config::read(&files, "/d".as_ref(), &mut problems);
        assert_eq!(config.service("auth", &mut problems).unwrap().user, "iu");
        assert_eq!(config.service("imap-login", &mut problems).unwrap().user, "lu");
        let dict = config.service("dict", &mut problems).unwrap();
        assert!(
            matches!(&dict.listeners[0].kind, ListenerKind::Unix { group, .. } if group == "ig"),
            "{dict:?}"
        );
    }
}
