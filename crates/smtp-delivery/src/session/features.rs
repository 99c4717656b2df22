//! What a server offers in its reply to EHLO or LHLO.

use protocol::smtp::ReceivedReply;
use serde::{Deserialize, Serialize};

/// XFORWARD has seven.
const MOST_ATTRIBUTES: usize = 20;

/// The extensions that matter to a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// The name by which the server calls itself.
    pub name: String,
    pub eight_bit: bool,
    pub pipelining: bool,
    pub size: bool,
    /// Zero: it names none.
    pub size_limit: u64,
    pub starttls: bool,
    pub dsn: bool,
    pub smtputf8: bool,
    pub auth: bool,
    /// The mechanisms that are left after the filter.
    pub mechanisms: Vec<String>,
    /// What XFORWARD may tell, in capitals.
    pub xforward: Vec<String>,
}

/// Extensions that are to be taken for not offered (`smtp_discard_ehlo_keywords`), in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discard(Vec<String>);

const KNOWN: [&str; 15] = [
    "8bitmime",
    "auth",
    "etrn",
    "pipelining",
    "size",
    "verp",
    "vrfy",
    "xclient",
    "xforward",
    "starttls",
    "enhancedstatuscodes",
    "dsn",
    "smtputf8",
    "chunking",
    "silent-discard",
];

impl Discard {
    pub fn parse(words: &str) -> Self {
        let words = words.split(|c: char| c.is_ascii_whitespace() || c == ',');
        let words = words.map(str::to_ascii_lowercase);
        let mut found: Vec<String> = words.filter(|word| KNOWN.contains(&word.as_str())).collect();
        found.sort_by_key(|word| KNOWN.iter().position(|known| known == word));
        found.dedup();
        Self(found)
    }

    fn has(&self, keyword: &str) -> bool {
        self.0.iter().any(|word| word == keyword)
    }

    /// The log line, unless silence was asked for.
    pub fn note(&self) -> Option<String> {
        let loud = !self.0.is_empty() && !self.has("silent-discard");
        loud.then(|| {
            let words: Vec<String> = self.0.iter().map(|word| word.to_ascii_uppercase()).collect();
            format!("discarding EHLO keywords: {}", words.join(" "))
        })
    }
}

/// What reading a reply takes beside it.
pub struct Reading<'a> {
    pub discard: &'a Discard,
    /// Whether AUTH interests us.
    pub sasl: bool,
    pub filter: &'a [String],
    /// `mx[192.0.2.1]:25`, for warnings.
    pub server: &'a str,
}

impl Features {
    /// Reads a positive reply; `notes` gets the lines that are to be logged.
    pub fn read(reply: &ReceivedReply, reading: &Reading<'_>, notes: &mut Vec<String>) -> Self {
        let mut features = Self::default();
        for (index, line) in reply.lines().enumerate() {
            let end = line.find([' ', '\t', '=']).unwrap_or(line.len());
            let (word, rest) = line.split_at_checked(end).unwrap_or((line, ""));
            let rest = rest.trim_start_matches([' ', '\t', '=']);
            if index == 0 {
                features.name = word.to_owned();
                continue;
            }
            let keyword = word.to_ascii_lowercase();
            if !reading.discard.has(&keyword) {
                features.add(&keyword, rest, reading, notes);
            }
        }
        features
    }

    fn add(&mut self, keyword: &str, rest: &str, reading: &Reading<'_>, notes: &mut Vec<String>) {
        match keyword {
            "8bitmime" => self.eight_bit = true,
            "pipelining" => self.pipelining = true,
            "starttls" => self.starttls = true,
            "dsn" => self.dsn = true,
            "smtputf8" => self.smtputf8 = true,
            "size" => {
                self.size = true;
                match rest.split([' ', '\t']).next() {
                    None | Some("") => {}
                    Some(limit) if limit.bytes().all(|c| c.is_ascii_digit()) => {
                        self.size_limit = limit.parse().unwrap_or(0);
                    }
                    Some(bad) => notes.push(format!(
                        "warning: bad EHLO SIZE limit \"{bad}\" from {}",
                        reading.server
                    )),
                }
            }
            "xforward" => {
                let words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
                self.xforward.extend(words.take(MOST_ATTRIBUTES).map(str::to_ascii_uppercase));
            }
            "auth" if reading.sasl => self.mechanisms(rest, reading, notes),
            _ => {}
        }
    }

    fn mechanisms(&mut self, offered: &str, reading: &Reading<'_>, notes: &mut Vec<String>) {
        let wanted = |word: &&str| reading.filter.is_empty() || allowed(reading.filter, word);
        let words: Vec<&str> =
            offered.split([' ', '\t']).filter(|word| !word.is_empty()).filter(wanted).collect();
        if words.is_empty() && !self.auth {
            let server = reading.server;
            notes.push(match offered {
                "" => format!("warning: {server} offered null AUTH mechanism list"),
                _ => format!("warning: {server} offered no supported AUTH mechanisms: '{offered}'"),
            });
        }
        self.auth = true;
        for word in words {
            let word = word.to_ascii_uppercase();
            if !self.mechanisms.contains(&word) {
                self.mechanisms.push(word);
            }
        }
    }
}

/// `smtp_sasl_mechanism_filter`: the first fitting word decides, `!` in front of it is no.
fn allowed(filter: &[String], mechanism: &str) -> bool {
    let fitting = filter.iter().find(|word| {
        word.trim_start_matches('!').eq_ignore_ascii_case(mechanism)
            || matches!(word.as_str(), "static:all" | "static:rest")
    });
    fitting.is_some_and(|word| !word.starts_with('!'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::smtp::ReplyReader;

    fn read(lines: &[&str], discard: &str, filter: &[&str]) -> (Features, Vec<String>) {
        let mut reader = ReplyReader::default();
        let reply = lines.iter().find_map(|line| reader.line(line.as_bytes()).unwrap()).unwrap();
        let (discard, mut notes) = (Discard::parse(discard), Vec::new());
        let filter: Vec<String> = filter.iter().map(|word| (*word).to_owned()).collect();
        let reading =
            Reading { discard: &discard, sasl: true, filter: &filter, server: "h[1.2.3.4]:25" };
        (Features::read(&reply, &reading, &mut notes), notes)
    }

    #[test]
    fn extensions_are_found_in_any_case_and_old_forms() {
        let lines = [
            "250-mx.example.org greets",
            "250-8bitmime",
            "250-PIPELINING",
            "250-SIZE 1000",
            "250-AUTH=PLAIN LOGIN",
            "250-AUTH plain CRAM-MD5",
            "250-STARTTLS",
            "250 DSN",
        ];
        let (features, notes) = read(&lines, "", &[]);
        assert_eq!(features.name, "mx.example.org");
        assert!(features.eight_bit && features.pipelining && features.size && features.dsn);
        assert!(features.starttls && !features.smtputf8);
        assert_eq!(features.size_limit, 1000);
        assert_eq!(features.mechanisms, ["PLAIN", "LOGIN", "CRAM-MD5"]);
        assert!(notes.is_empty());
        let (features, _) = read(&lines, "pipelining, STARTTLS dsn", &["!plain", "login"]);
        assert!(!features.pipelining && !features.starttls && !features.dsn);
        assert_eq!(features.mechanisms, ["LOGIN"]);
    }

    #[test]
    fn oddities_are_told() {
        let (features, notes) =
            read(&["250-mx", "250-SIZE big", "250 AUTH GSSAPI"], "", &["plain"]);
        assert!(features.auth && features.mechanisms.is_empty() && features.size_limit == 0);
        assert_eq!(
            notes,
            [
                "warning: bad EHLO SIZE limit \"big\" from h[1.2.3.4]:25",
                "warning: h[1.2.3.4]:25 offered no supported AUTH mechanisms: 'GSSAPI'",
            ]
        );
        let note = Discard::parse("pipelining dsn nonsense").note();
        assert_eq!(note.as_deref(), Some("discarding EHLO keywords: PIPELINING DSN"));
        assert_eq!(Discard::parse("dsn, silent-discard").note(), None);
    }
}
