//! Sockets on which the host's daemons should meet: one side names another place than the other, or nobody asks.

use std::path::{Path, PathBuf};

use config::dovecot::ListenerKind;
use config::opendkim::names;
use config::postfix::{self, Host, Service};
use config::{Problems, dovecot};

use super::super::files::Files;
use super::super::report::Finding;
use crate::plank::Plank;

pub fn find(files: &Files, found: &mut Vec<Finding>) {
    let Some(host) = &files.postfix else { return };
    if let Some(config) = &files.dovecot {
        logins(host, config, found);
        deliveries(host, config, found);
    }
    filter(files, host, found);
}

/// The unix sockets of a service of Dovecot.
pub(crate) fn sockets(config: &dovecot::Config, service: &str) -> Vec<PathBuf> {
    let service = config.service(service, &mut Problems::default());
    let paths = service.into_iter().flat_map(|service| service.listeners).filter_map(|listener| {
        match listener.kind {
            ListenerKind::Unix { path, .. } => Some(path),
            _ => None,
        }
    });
    paths.collect()
}

/// Whether one of the sockets is the one that is asked: `/var/run` and `/run` are one directory.
fn meet(sockets: &[PathBuf], asked: &Path) -> bool {
    let plain = |path: &Path| match path.strip_prefix("/var/run") {
        Ok(rest) => Path::new("/run").join(rest),
        Err(_) => path.to_owned(),
    };
    sockets.iter().any(|socket| plain(socket) == plain(asked))
}

/// Where a server asks Dovecot who may log in, if it is one of Dovecot's unix sockets.
pub(crate) fn login_socket(host: &Host, service: &Service) -> Option<PathBuf> {
    let (view, mut quiet) = (host.view(service), Problems::default());
    let asks = view.get(postfix::SMTPD_SASL_AUTH_ENABLE, &mut quiet)
        && view.get(postfix::SMTPD_SASL_TYPE, &mut quiet) == "dovecot";
    let path = view.get(postfix::SMTPD_SASL_PATH, &mut quiet);
    let path = path.strip_prefix("unix:").unwrap_or(&path);
    (asks && !path.starts_with("inet:")).then(|| host.path(service, path))
}

/// smtpd asks Dovecot who may log in.
fn logins(host: &Host, config: &dovecot::Config, found: &mut Vec<Finding>) {
    let mut quiet = Problems::default();
    for service in super::smtp_servers(host) {
        let view = host.view(service);
        let enabled = view.get(postfix::SMTPD_SASL_AUTH_ENABLE, &mut quiet);
        let kind = view.get(postfix::SMTPD_SASL_TYPE, &mut quiet);
        if !enabled {
            continue;
        }
        let place = view
            .place(postfix::SMTPD_SASL_PATH)
            .or_else(|| view.place(postfix::SMTPD_SASL_AUTH_ENABLE));
        if kind != "dovecot" {
            let text = format!(
                "smtpd_sasl_type is {kind}, but this host has Dovecot, whose users it then does not know"
            );
            found.push(
                Finding::warning(view.place(postfix::SMTPD_SASL_AUTH_ENABLE), text)
                    .mend("write smtpd_sasl_type = dovecot and smtpd_sasl_path = private/auth")
                    .of(Plank::SmtpIn),
            );
            return;
        }
        let Some(asked) = login_socket(host, service) else { continue };
        if !meet(&sockets(config, "auth"), &asked) {
            let text = format!(
                "{} asks {} who may log in, and Dovecot's service auth has no such socket: nobody can log in to send",
                service.name,
                asked.display()
            );
            found.push(
                Finding::critical(place, text)
                    .mend(format!("in service auth of dovecot.conf write unix_listener {} {{ mode = 0660 user = postfix group = postfix }}", asked.display()))
                    .of(Plank::SmtpIn)
                    .of(Plank::Auth),
            );
            return;
        }
    }
}

/// Deliveries to Dovecot by LMTP.
fn deliveries(host: &Host, config: &dovecot::Config, found: &mut Vec<Finding>) {
    let queue = PathBuf::from(super::text(host, "queue_directory"));
    for name in ["virtual_transport", "mailbox_transport", "local_transport"] {
        let value = super::text(host, name);
        let Some(path) = value.strip_prefix("lmtp:unix:") else { continue };
        let asked = queue.join(path.trim_start_matches("./"));
        if !meet(&sockets(config, "lmtp"), &asked) {
            let text = format!(
                "{name} delivers to {}, and Dovecot's service lmtp has no such socket: this mail waits in the queue",
                asked.display()
            );
            found.push(
                Finding::critical(super::place(host, name), text)
                    .mend(format!("in service lmtp of dovecot.conf write unix_listener {} {{ mode = 0600 user = postfix group = postfix }}", asked.display()))
                    .of(Plank::Mda)
                    .of(Plank::SmtpOut),
            );
            continue;
        }
        let mut quiet = Problems::default();
        let protocols = config.global().get(dovecot::PROTOCOLS, &mut quiet);
        if !protocols.iter().any(|word| word.text == "lmtp") {
            let text = format!(
                "{name} delivers to Dovecot's LMTP, and protocols of dovecot.conf has no lmtp: this mail waits in the queue"
            );
            let at = config
                .global()
                .place(dovecot::PROTOCOLS)
                .unwrap_or_else(|| super::place(host, name));
            found.push(Finding::critical(at, text).mend("add lmtp to protocols").of(Plank::Mda));
        }
    }
}

/// OpenDKIM, and whether mail passes it.
fn filter(files: &Files, host: &Host, found: &mut Vec<Finding>) {
    let Some(config) = &files.opendkim else { return };
    let Some(socket) = config.text(names::SOCKET) else { return };
    let at = config.place(names::SOCKET);
    let queue = super::text(host, "queue_directory");
    let views = super::smtp_servers(host).map(|service| host.view(service));
    let mut named: Vec<String> = Vec::new();
    for view in views.chain(std::iter::once(host.main())) {
        for name in ["smtpd_milters", "non_smtpd_milters"] {
            let text = view.text(name, &mut Problems::default()).unwrap_or_default();
            named.extend(
                text.as_str()
                    .split(|c: char| c.is_whitespace() || ",{}".contains(c))
                    .map(str::to_owned),
            );
        }
    }
    if named.iter().any(|milter| meets(milter, socket, &queue)) {
        if super::text(host, "non_smtpd_milters").is_empty() {
            let text = "non_smtpd_milters is empty: mail of this host's own programs and its notices go out unsigned";
            found.push(
                Finding::note(super::place(host, "smtpd_milters"), text)
                    .mend("write non_smtpd_milters = $smtpd_milters"),
            );
        }
        return;
    }
    let signs = config.list(names::KEYTABLE).is_some() || config.text(names::KEYFILE).is_some();
    let text = format!(
        "OpenDKIM listens at {socket}, and no milter of main.cf or master.cf is there: {}",
        if signs { "mail goes out unsigned" } else { "it sees no mail" }
    );
    let finding = if signs { Finding::critical(at, text) } else { Finding::note(at, text) };
    let mend =
        format!("write smtpd_milters = {} and non_smtpd_milters = $smtpd_milters", milter(socket));
    found.push(finding.mend(mend).of(Plank::Dkim));
}

/// Whether Postfix's and OpenDKIM's words mean one socket: `inet:localhost:8891` and `inet:8891@127.0.0.1`.
fn meets(milter: &str, socket: &str, queue: &str) -> bool {
    let local = |host: &str| {
        matches!(
            host,
            "localhost" | "127.0.0.1" | "[127.0.0.1]" | "[::1]" | "::1" | "" | "0.0.0.0" | "*"
        )
    };
    match (milter.split_once(':'), socket.split_once(':')) {
        (Some(("inet" | "inet6", address)), Some(("inet" | "inet6", socket))) => {
            let (host, port) = address.rsplit_once(':').unwrap_or(("", address));
            let (other_port, other) = socket.split_once('@').unwrap_or((socket, ""));
            port == other_port && (host == other || (local(host) && local(other)))
        }
        (Some(("unix" | "local", path)), other) => {
            let socket = match other {
                Some(("unix" | "local", path)) => path,
                Some(("inet" | "inet6", _)) => return false,
                _ => socket,
            };
            let socket = socket.replace("/var/run/", "/run/");
            let below = socket.strip_prefix(&format!("{queue}/"));
            // In the jail of chroot an absolute path begins at the queue directory.
            path.replace("/var/run/", "/run/") == socket
                || below.is_some_and(|below| path.trim_start_matches('/') == below)
        }
        _ => false,
    }
}

/// OpenDKIM's socket in Postfix's words.
fn milter(socket: &str) -> String {
    match socket.split_once(':') {
        Some(("inet" | "inet6", address)) => {
            let (port, host) = address.split_once('@').unwrap_or((address, "localhost"));
            format!("inet:{host}:{port}")
        }
        Some(("local" | "unix", path)) => format!("unix:{path}"),
        _ => format!("unix:{socket}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::say;
    use super::*;

    const MASTER: &str = "smtp inet n - n - - smtpd\nsubmission inet n - n - - smtpd\n";
    const MAIN: &str = "queue_directory = /q\nsmtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = private/auth\n";

    fn told(main: &str, dovecot: &str, opendkim: Option<&str>) -> String {
        let mut texts = vec![
            ("postfix/main.cf", main),
            ("postfix/master.cf", MASTER),
            ("dovecot.conf", dovecot),
        ];
        texts.extend(opendkim.map(|text| ("opendkim.conf", text)));
        say(&texts, find)
    }

    #[test]
    fn a_login_socket_that_nobody_serves_is_told() {
        let auth = |path: &str| {
            format!("service auth {{\n  unix_listener {path} {{\n    mode = 0660\n  }}\n}}\n")
        };
        assert_eq!(told(MAIN, &auth("/q/private/auth"), None), "");
        insta::assert_snapshot!(told(MAIN, &auth("auth"), None), @"Critical /postfix/main.cf:4: smtp asks /q/private/auth who may log in, and Dovecot's service auth has no such socket: nobody can log in to send; in service auth of dovecot.conf write unix_listener /q/private/auth { mode = 0660 user = postfix group = postfix }");
        insta::assert_snapshot!(told("smtpd_sasl_auth_enable = yes\n", "", None), @"Warning /postfix/main.cf:1: smtpd_sasl_type is cyrus, but this host has Dovecot, whose users it then does not know; write smtpd_sasl_type = dovecot and smtpd_sasl_path = private/auth");
    }

    #[test]
    fn an_lmtp_socket_that_nobody_serves_is_told() {
        let main = "queue_directory = /q\nvirtual_transport = lmtp:unix:private/dovecot-lmtp\n";
        let lmtp = "protocols = imap lmtp\nservice lmtp {\n  unix_listener /q/private/dovecot-lmtp {\n    mode = 0600\n  }\n}\n";
        assert_eq!(told(main, lmtp, None), "");
        let (var, run) = ("lmtp:unix:/var/run/dovecot/lmtp", "unix_listener /run/dovecot/lmtp {");
        let linked = main.replace("lmtp:unix:private/dovecot-lmtp", var);
        let served = lmtp.replace("unix_listener /q/private/dovecot-lmtp {", run);
        assert_eq!(told(&linked, &served, None), "");
        let text = told(main, "protocols = imap lmtp\n", None);
        assert!(text.starts_with("Critical /postfix/main.cf:2: virtual_transport delivers to /q/private/dovecot-lmtp, and Dovecot's service lmtp has no such socket"), "{text}");
        let text = told(main, &lmtp.replace(" lmtp\n", "\n"), None);
        assert!(text.starts_with("Critical /dovecot.conf:1: virtual_transport delivers to Dovecot's LMTP, and protocols"), "{text}");
    }

    /// The notes of a sending host set OpenDKIM up and never tell Postfix of it.
    #[test]
    fn a_filter_that_nobody_asks_is_told() {
        insta::assert_snapshot!(told("", "", Some("Socket inet:8891@localhost\nKeyFile /k\n")), @"Critical /opendkim.conf:1: OpenDKIM listens at inet:8891@localhost, and no milter of main.cf or master.cf is there: mail goes out unsigned; write smtpd_milters = inet:localhost:8891 and non_smtpd_milters = $smtpd_milters");
        for (main, socket) in [
            (
                "smtpd_milters = inet:127.0.0.1:8891\nnon_smtpd_milters = $smtpd_milters\n",
                "inet:8891@localhost",
            ),
            (
                "queue_directory = /q\nsmtpd_milters = unix:opendkim/o.sock, unix:x\nnon_smtpd_milters = x\n",
                "local:/q/opendkim/o.sock",
            ),
            (
                "queue_directory = /q\nsmtpd_milters = unix:/run/o.sock\nnon_smtpd_milters = x\n",
                "/var/run/o.sock",
            ),
        ] {
            assert_eq!(told(main, "", Some(&format!("Socket {socket}\n"))), "", "{main}{socket}");
        }
        let text =
            told("smtpd_milters = inet:localhost:8891\n", "", Some("Socket inet:8891@localhost\n"));
        assert!(text.starts_with("Note /postfix/main.cf:1: non_smtpd_milters is empty"), "{text}");
    }
}
