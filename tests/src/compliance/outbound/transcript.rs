//! What became of the messages of a case, with everything taken out that differs from run to run.

use std::fmt;

use harness::remote::Conversation;

/// One side's account of a case.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    /// Where each message ended, in the order of sending: `gone`, `deferred`.
    pub queues: Vec<String>,
    /// Lines of the delivery service.
    pub log: Vec<String>,
    /// What each host was told.
    pub told: Vec<(String, Vec<String>)>,
    /// The defer logs of messages that stayed.
    pub deferred: Vec<String>,
    /// What notices to the sender say of each recipient.
    pub notices: Vec<String>,
}

impl Transcript {
    pub fn was_told(&self, server: &str, text: &str) -> bool {
        let mut lines =
            self.told.iter().filter(|(name, _)| name == server).flat_map(|(_, lines)| lines);
        lines.any(|line| line.starts_with(text))
    }

    pub fn difference(&self, ours: &Self, any_log: bool) -> Result<(), String> {
        let told = |side: &Self| {
            let mut lines = Vec::new();
            for (name, said) in &side.told {
                lines.extend(said.iter().map(|line| format!("{name}: {line}")));
            }
            lines
        };
        compare("queue", &self.queues, &ours.queues)?;
        if !any_log {
            compare("log", &self.log, &ours.log)?;
        }
        compare("words to the remote host", &told(self), &told(ours))?;
        compare("defer log", &self.deferred, &ours.deferred)?;
        compare("notice", &self.notices, &ours.notices)
    }
}

fn compare(what: &str, theirs: &[String], ours: &[String]) -> Result<(), String> {
    if theirs == ours {
        return Ok(());
    }
    let shown =
        |lines: &[String]| lines.iter().map(|line| format!("    {line}\n")).collect::<String>();
    Err(format!("{what} of Postfix:\n{}  {what} of ours:\n{}", shown(theirs), shown(ours)))
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  queue: {}", self.queues.join(", "))?;
        for line in &self.log {
            writeln!(f, "  log: {line}")?;
        }
        for (name, lines) in &self.told {
            for line in lines {
                writeln!(f, "  {name}: {line}")?;
            }
        }
        for line in self.deferred.iter() {
            writeln!(f, "  defer: {line}")?;
        }
        for line in &self.notices {
            writeln!(f, "  notice: {line}")?;
        }
        Ok(())
    }
}

/// A log line without delays and queue ids.
pub fn log_line(text: &str) -> String {
    // Which ciphers two TLS libraries agree on is not ours to say.
    let text = match text.split_once(": TLSv1") {
        Some((before, _)) if before.contains("TLS connection established") => before,
        _ => text,
    };
    let mut parts = Vec::new();
    for part in text.split(", ") {
        let masked = ["delay=", "delays="].iter().find(|name| part.starts_with(**name));
        match masked {
            // One number, or four.
            Some(name) => {
                let number = |text: &str| text.parse::<f64>().is_ok();
                let numbers = part[name.len()..].split('/').filter(|text| number(text)).count();
                parts.push(format!("{name}{numbers}"));
            }
            None => parts.push(part.to_owned()),
        }
    }
    without_ids(&parts.join(", "))
}

/// Queue ids, long or short, become `ID`.
pub fn without_ids(text: &str) -> String {
    let mut words = Vec::new();
    for word in text.split(' ') {
        if words.ends_with(&["message".to_owned(), "size".to_owned()])
            && word.parse::<u64>().is_ok()
        {
            words.push("N".to_owned());
            continue;
        }
        let bare = word.trim_end_matches([':', ';', ',', '.', ')']);
        let id = bare.len() >= 9
            && bare.len() <= 14
            && bare.bytes().all(|c| c.is_ascii_digit() || (b'A'..=b'F').contains(&c));
        words.push(if id { format!("ID{}", &word[bare.len()..]) } else { word.to_owned() });
    }
    words.join(" ")
}

/// What a host heard, connection after connection; of header fields only those that say the same in every run.
pub fn told(conversations: &[Conversation]) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, conversation) in conversations.iter().enumerate() {
        lines.push(format!("-- connection {}", number + 1));
        for command in &conversation.commands {
            if command.starts_with("\\x16\\x03") {
                lines.push("(a handshake)".to_owned());
                break;
            }
            lines.push(sized(command));
        }
        for content in &conversation.contents {
            lines.extend(quiet_content(content).into_iter().map(|line| format!("| {line}")));
        }
    }
    lines
}

/// The size of a message depends on the length of ids and paths, XFORWARD tells of the client; SCRAM begins with a random number.
fn sized(command: &str) -> String {
    if let Some((before, _)) = command.split_once("AUTH SCRAM-") {
        return format!("{before}AUTH SCRAM");
    }
    let mask = |word: &str| match word.split_once('=') {
        Some((name @ ("SIZE" | "PORT" | "IDENT"), _)) => format!("{name}=N"),
        _ => word.to_owned(),
    };
    command.split(' ').map(mask).collect::<Vec<_>>().join(" ")
}

/// Ours does not show what would let the postmaster log in.
fn without_login(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["", "Out:", "AUTH", mechanism, _] => format!(" Out: AUTH {mechanism} (hidden)"),
        _ => line.to_owned(),
    }
}

fn quiet_content(content: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut header = true;
    let mut skipping = false;
    for line in content.lines() {
        if header && line.is_empty() {
            header = false;
        }
        if header {
            let continued = line.starts_with([' ', '\t', '\\']); // a host shows a tab as `\t`
            if !continued {
                skipping =
                    ["Received:", "Date:", "Message-Id:"].iter().any(|name| line.starts_with(name));
            }
            if skipping {
                continue;
            }
        }
        lines.push(line.to_owned());
    }
    lines
}

/// The defer log without offsets.
pub fn defer_log(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with("offset="));
    lines.map(without_ids).collect()
}

/// The delivery report of a notice, from the first recipient on; of one to the postmaster all.
pub fn notice(text: &str) -> Vec<String> {
    if text.contains("\nTranscript of session follows.\n") {
        let lines = quiet_content(text).into_iter();
        return lines.map(|line| without_login(&sized(&without_ids(&line)))).collect();
    }
    let subject = text.lines().find(|line| line.starts_with("Subject: ")).unwrap_or_default();
    let mut lines = vec![subject.to_owned()];
    let report = text.split("Content-Type: message/delivery-status").nth(1);
    let report =
        report.or_else(|| text.split("Content-Type: message/global-delivery-status").nth(1));
    let from_first =
        |report: &str| report.find("Final-Recipient:").map(|at| report[at..].to_owned());
    for line in report.and_then(from_first).unwrap_or_default().lines() {
        if line.starts_with("--") {
            break;
        }
        if !line.is_empty() && !line.starts_with("Will-Retry-Until") {
            lines.push(without_ids(line));
        }
    }
    lines
}
