//! The lines that login processes log, as Dovecot's: `login_log_format` and its elements.

use crate::facts::{Facts, Security};

/// What the elements may name.
#[derive(Debug)]
pub struct Words<'a> {
    pub service: &'a str,
    pub user: &'a str,
    /// SASL mechanism; empty before the first attempt.
    pub method: &'a str,
    pub facts: &'a Facts,
    /// Process of the mailbox worker, once there is one.
    pub mail_pid: Option<u32>,
    /// Why TLS could not be agreed on, or how it ended.
    pub tls_failure: Option<&'a str>,
}

/// `Login: user=<info>, method=PLAIN, rip=…`: the message joined with the elements that say something.
#[must_use]
pub fn line(format: &str, elements: &str, message: &str, words: &Words<'_>) -> String {
    let mut told = Vec::new();
    for element in elements.split_ascii_whitespace() {
        let (text, empty) = expand(element, words);
        // An element with variables that all came out empty says nothing, but `user=<>` stays.
        if !empty || element.contains("%u") {
            told.push(text);
        }
    }
    let told = told.join(", ");
    if told.is_empty() {
        return message.to_owned();
    }
    format.replace("%$", message).replace("%s", &told)
}

/// The element's text, and whether all its variables were empty.
fn expand(element: &str, words: &Words<'_>) -> (String, bool) {
    let mut text = String::new();
    let mut rest = element;
    let (mut variables, mut said) = (0, 0);
    while let Some(at) = rest.find('%') {
        text.push_str(rest.get(..at).unwrap_or_default());
        let behind = rest.get(at + 1..).unwrap_or_default();
        let (name, after) = match behind.strip_prefix('{').and_then(|name| name.split_once('}')) {
            Some((name, after)) => (name, after),
            None => {
                let end = behind.chars().next().map_or(0, char::len_utf8);
                behind.split_at(end)
            }
        };
        let value = variable(name, words);
        variables += 1;
        said += usize::from(!value.is_empty());
        text.push_str(&value);
        rest = after;
    }
    text.push_str(rest);
    (text, variables > 0 && said == 0)
}

fn variable(name: &str, words: &Words<'_>) -> String {
    let (local_part, domain) = words.user.split_once('@').unwrap_or((words.user, ""));
    match name {
        "%" => "%".to_owned(),
        "u" | "user" => printable(words.user),
        "n" | "username" => printable(local_part),
        "d" | "domain" => printable(domain),
        "s" | "service" => words.service.to_owned(),
        "m" | "mech" => words.method.to_owned(),
        "r" | "rip" => words.facts.remote.ip().to_string(),
        "l" | "lip" => words.facts.local.ip().to_string(),
        "a" | "lport" => words.facts.local.port().to_string(),
        "b" | "rport" => words.facts.remote.port().to_string(),
        "e" | "mail_pid" => words.mail_pid.map(|pid| pid.to_string()).unwrap_or_default(),
        "p" | "pid" => std::process::id().to_string(),
        "c" | "secured" => match (words.tls_failure, words.facts.security) {
            (Some(failure), Security::Tls) => format!("TLS: {failure}"),
            (Some(failure), _) => format!("TLS handshaking: {failure}"),
            (None, Security::Tls) => "TLS".to_owned(),
            (None, Security::Trusted) => "secured".to_owned(),
            (None, Security::None) => String::new(),
        },
        "session" => words.facts.session.clone(),
        "local_name" => words.facts.server_name.clone().unwrap_or_default(),
        _ => String::new(),
    }
}

/// A name from the network cannot forge a line of the log.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ELEMENTS: &str = "user=<%u> method=%m rip=%r lip=%l mpid=%e %c session=<%{session}>";

    /// Captured from Dovecot 2.3.19.
    #[test]
    fn lines_are_dovecots() {
        let mut facts =
            Facts::new("127.0.0.1:9".parse().unwrap(), "127.0.0.1:143".parse().unwrap(), &[]);
        facts.session = "5F3Ers9gaL5/AAAB".into();
        let mut words = Words {
            service: "imap",
            user: "info",
            method: "PLAIN",
            facts: &facts,
            mail_pid: Some(151),
            tls_failure: None,
        };
        assert_eq!(
            line("%$: %s", ELEMENTS, "Login", &words),
            "Login: user=<info>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.1, mpid=151, secured, \
             session=<5F3Ers9gaL5/AAAB>"
        );
        words = Words { user: "", method: "", mail_pid: None, ..words };
        words.tls_failure = Some("Connection closed");
        assert_eq!(
            line("%$: %s", ELEMENTS, "Disconnected", &words),
            "Disconnected: user=<>, rip=127.0.0.1, lip=127.0.0.1, \
             TLS handshaking: Connection closed, session=<5F3Ers9gaL5/AAAB>"
        );
        words.user = "a\nb";
        assert!(line("%$: %s", ELEMENTS, "x", &words).contains("user=<a?b>"));
    }
}
