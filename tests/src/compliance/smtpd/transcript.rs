//! What one server said, wrote and queued, with everything taken out that differs from run to run.

use super::case::Case;

/// One server's side of a case.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Transcript {
    pub replies: Vec<String>,
    pub log: Vec<String>,
    /// The same lines as they were written, from the program's name on.
    pub raw: Vec<String>,
    /// Queue files as postcat shows them.
    pub queued: Vec<String>,
    /// Notices to the postmaster, as postcat shows them.
    pub notices: Vec<String>,
    /// What a policy server was told.
    pub policy: Vec<String>,
}

impl Transcript {
    /// What a case wants besides replies, and is not here.
    pub fn lacks(&self, case: &Case) -> Option<String> {
        let read = self.queued.iter().filter(|text| !text.is_empty()).count();
        if read < case.queued {
            return Some(format!("wanted {} messages in the queue, found {read}", case.queued));
        }
        if let Some(told) = case.told
            && self.notices.len() != told
        {
            return Some(format!("wanted {told} notices, got {:#?}", self.notices));
        }
        let missing = |what: &str, wanted: &[String], lines: &[String]| {
            let absent = |wanted: &&String| !lines.iter().any(|line| line.contains(*wanted));
            let text = wanted.iter().find(absent)?;
            Some(format!("wanted {text:?} in the {what}: {lines:#?}"))
        };
        missing("log", &case.log, &self.log)
            .or_else(|| missing("policy requests", &case.asked, &self.policy))
    }
}

/// Queue ids, ports and times by their kind, and TLS without the server's signature, which rustls does not tell.
pub fn normal(text: &str) -> String {
    let text = match text.split_once(" server-signature ") {
        Some((before, signature)) if signature.ends_with("))") => format!("{before})"),
        Some((before, signature)) if signature.ends_with("SHA256)") => format!("{before})"),
        Some((before, _)) => before.to_owned(),
        None => text.to_owned(),
    };
    let mut words = Vec::new();
    for word in text.split(' ') {
        let bare = word.trim_end_matches([':', ';', ',', '.']);
        let tail = &word[bare.len()..];
        words.push(if is_queue_id(bare) {
            format!("ID{tail}")
        } else if let Some((address, _)) = word.split_once("]:").filter(|(_, port)| {
            word.starts_with('[') || port.trim_end_matches(['>', ':']).parse::<u16>().is_ok()
        }) {
            // An address with its port.
            format!("{address}]:PORT{}", if word.ends_with(':') { ":" } else { "" })
        } else if word.starts_with("127.0.0.1:") {
            "127.0.0.1:PORT".to_owned() // a service
        } else if words.last().is_some_and(|last| last == "after") && word.parse::<f64>().is_ok() {
            "SECONDS".to_owned()
        } else {
            word.to_owned()
        });
    }
    words.join(" ")
}

pub fn is_queue_id(word: &str) -> bool {
    word.len() >= 9
        && word.len() <= 14
        && word.bytes().all(|c| c.is_ascii_digit() || (b'A'..=b'F').contains(&c))
        && word.bytes().any(|c| c.is_ascii_digit())
}

/// Lines of `postcat -q` that say something about the message, not about this run.
pub fn queue_file(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let stands_for = |name: &str| {
            line.strip_prefix("named_attribute: ").is_some_and(|rest| rest.starts_with(name))
        };
        let skip = line.starts_with("***")
            || line.starts_with("message_size:")
            || line.starts_with("message_arrival_time:")
            || line.starts_with("create_time:")
            || line.starts_with("arrival_time:")
            || line.starts_with("original_recipient: ") && line.ends_with(": ")
            || stands_for("log_client_port=")
            || stands_for("client_port=")
            || stands_for("server_port=")
            || stands_for("log_ident=");
        if skip {
            continue;
        }
        let mut line = normal(line);
        if line.starts_with("\tfor <") || line.starts_with("\tby ") {
            line = line.split("; ").next().unwrap_or_default().to_owned();
        }
        if line.starts_with('\t') && line.contains(" +0000 (") {
            line = "\tDATE".to_owned();
        }
        if line.starts_with("Date: ") || line.starts_with("Message-Id: ") {
            line = line.split(": ").next().unwrap_or_default().to_owned();
        }
        lines.push(line);
    }
    lines.join("\n")
}
