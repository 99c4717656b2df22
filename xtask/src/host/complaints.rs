//! What the originals' logs may not say while nobody restarts one of them, and the exact lines that a reload of Dovecot
//! brings without us too.

/// All that is looked at: a Dovecot that is away is missed by Postfix's smtpd, and that is no complaint of this kind.
const WORDS: [&str; 5] = ["throttl", "panic", "Panic", "fatal", "Fatal"];

/// Who starts for a client, and reads Dovecot's configuration before anything else.
const FOR_A_CLIENT: [&str; 4] = ["imap-login", "pop3-login", "imap", "pop3"];

/// A process that Dovecot has just started when it reloads finds the socket of its configuration being replaced, and ends.
/// The suite `swap` meets the first three, which are those of 2.3; the others are those of 2.4. `*` is a number.
const NO_CONFIGURATION: [&str; 6] = [
    "Fatal: Error reading configuration: stat(/run/dovecot/config) failed: No such file or directory \
     (path is from CONFIG_FILE environment)",
    "Fatal: Error reading configuration: read(/run/dovecot/config) failed: read(size=*) failed: Connection reset by peer \
     - Also failed to read config by executing doveconf: /run/dovecot/config is a UNIX socket \
     (path is from CONFIG_FILE environment)",
    "Fatal: Error reading configuration: read(/run/dovecot/config) failed: read(size=*) failed: Connection reset by peer \
     - Also failed to read config by executing doveconf: stat(/run/dovecot/config) failed: No such file or directory \
     (path is from CONFIG_FILE environment)",
    "Fatal: Failed to read configuration: stat(/run/dovecot/config) failed: No such file or directory \
     (path is from CONFIG_FILE environment)",
    "Fatal: Failed to read configuration: fd_read() failed: Connection reset by peer \
     - Also failed to read config by executing doveconf: /run/dovecot/config is a UNIX socket \
     (path is from CONFIG_FILE environment)",
    "Fatal: Failed to read configuration: fd_read() failed: Connection reset by peer \
     - Also failed to read config by executing doveconf: stat(/run/dovecot/config) failed: No such file or directory \
     (path is from CONFIG_FILE environment)",
];

/// The lines of a log (`journalctl -o short`) that may not be there.
pub fn of(log: &str) -> Vec<&str> {
    let mut ended: Vec<&str> = log.lines().filter_map(|line| unconfigured(text(line))).collect();
    let complains = |line: &&str| WORDS.iter().any(|word| line.contains(word));
    let mut bad: Vec<&str> = log.lines().filter(complains).collect();
    bad.retain(|line| unconfigured(text(line)).is_none());
    // Dovecot's master tells the end of each of them.
    bad.retain(|line| {
        let known = told_by_master(text(line))
            .and_then(|service| ended.iter().position(|other| *other == service));
        known.map(|at| ended.swap_remove(at)).is_none()
    });
    bad
}

/// Behind the time, the host and `name[pid]: `.
fn text(line: &str) -> &str {
    line.split_once("]: ").map_or(line, |(_, text)| text)
}

/// The service of which a process found no configuration.
fn unconfigured(text: &str) -> Option<&str> {
    let (service, rest) = text.split_once(": ")?;
    let known = NO_CONFIGURATION.iter().any(|line| is_like(rest, line));
    (known && FOR_A_CLIENT.contains(&service)).then_some(service)
}

/// The service of a process that has ended by its own word (`Fatal`).
fn told_by_master(text: &str) -> Option<&str> {
    let (service, rest) = text.strip_prefix("master: Error: service(")?.split_once("): child ")?;
    // 2.4 names it twice.
    let service = match service.split_once("): service(") {
        Some((service, again)) if service == again => service,
        _ => service,
    };
    let (pid, rest) = rest.split_once(' ')?;
    (is_number(pid) && rest == "returned error 89 (Fatal failure)").then_some(service)
}

fn is_like(text: &str, line: &str) -> bool {
    let Some((before, behind)) = line.split_once('*') else { return text == line };
    let number = text.strip_prefix(before).and_then(|rest| rest.strip_suffix(behind));
    number.is_some_and(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "Nov 22 15:53:19 mail.example.com dovecot[2579]: ";
    const STAT: &str = "pop3-login: Fatal: Error reading configuration: stat(/run/dovecot/config) failed: \
                        No such file or directory (path is from CONFIG_FILE environment)";
    const ENDED: &str =
        "master: Error: service(pop3-login): child 3190 returned error 89 (Fatal failure)";

    fn log(texts: &[&str]) -> String {
        texts.iter().map(|text| format!("{BEGIN}{text}\n")).collect()
    }

    #[test]
    fn an_end_is_forgiven_once_for_each_process_without_configuration() {
        let read = format!("pop3-login: {}", NO_CONFIGURATION[1].replace('*', "8192"));
        for order in [[STAT, ENDED], [ENDED, STAT], [read.as_str(), ENDED]] {
            assert!(of(&log(&order)).is_empty(), "{order:?}");
        }
        let imap = format!("imap: {}", NO_CONFIGURATION[4]);
        let ended = "master: Error: service(imap): service(imap): child 15492 returned error 89 (Fatal failure)";
        assert!(of(&log(&[&imap, ended])).is_empty());
        assert_eq!(of(&log(&[&imap, ended, ended])).len(), 1);
        assert_eq!(of(&log(&[&imap, &ended.replacen("imap", "pop3", 1)])).len(), 1);
        assert_eq!(of(&log(&[STAT, ENDED, ENDED])), [format!("{BEGIN}{ENDED}")]);
        assert_eq!(of(&log(&[ENDED])).len(), 1);
        let other = ENDED.replace("pop3", "imap");
        assert_eq!(of(&log(&[STAT, &other])), [format!("{BEGIN}{other}")]);
    }

    #[test]
    fn other_words_are_complaints() {
        for text in [
            "pop3-login: Fatal: Error reading configuration: stat(/run/dovecot/config) failed: Permission denied",
            "auth: Fatal: Error reading configuration: stat(/run/dovecot/config) failed: No such file or directory \
             (path is from CONFIG_FILE environment)",
            "master: Error: service(pop3-login): child 3190 killed with signal 6 (core dumped), Fatal failure",
            "master: Error: service(auth): command startup failed, throttling for 2.000 secs",
            "warning: process /usr/lib/postfix/sbin/smtp pid 9 exit status 1; fatal: no",
        ] {
            assert_eq!(of(&log(&[STAT, text])), [format!("{BEGIN}{text}")]);
        }
        assert!(of(&log(&["pop3-login: Info: Login"])).is_empty());
    }
}
