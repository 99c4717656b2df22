//! The kinds of values in main.cf: how a text becomes a number, a time, a list.

use std::time::Duration;

use super::network::{Network, NetworkError, as_network};
use super::words::{Match, Pattern, Table, matches, words};
use crate::Place;
use crate::register::Fact;
use crate::text::{Sourced, Word};

/// Why a text is no value of its kind, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at: Option<Place>,
    pub what: String,
    pub instead: String,
}

/// A kind of value.
pub trait Kind: 'static {
    type Value;

    /// Reads an expanded text.
    ///
    /// # Errors
    ///
    /// [`Fault`], without the name of the setting.
    fn read(text: &Sourced, fact: &Fact) -> Result<Self::Value, Fault>;

    /// What stands for a value that even the default does not give.
    fn nothing() -> Self::Value;
}

fn fault(text: &Sourced, what: impl Into<String>, instead: impl Into<String>) -> Fault {
    Fault { at: text.place().cloned(), what: what.into(), instead: instead.into() }
}

/// `yes` or `no`.
#[derive(Debug)]
pub enum Bool {}

impl Kind for Bool {
    type Value = bool;

    fn read(text: &Sourced, _: &Fact) -> Result<bool, Fault> {
        let word = text.as_str().trim_ascii();
        if word.eq_ignore_ascii_case("yes") {
            Ok(true)
        } else if word.eq_ignore_ascii_case("no") {
            Ok(false)
        } else {
            Err(fault(text, format!("\"{text}\" is neither yes nor no"), "write yes or no"))
        }
    }

    fn nothing() -> bool {
        false
    }
}

/// A decimal number.
#[derive(Debug)]
pub enum Integer {}

impl Kind for Integer {
    type Value = i64;

    fn read(text: &Sourced, _: &Fact) -> Result<i64, Fault> {
        text.as_str()
            .trim_ascii()
            .parse()
            .map_err(|_| fault(text, format!("\"{text}\" is no number"), "write a decimal number"))
    }

    fn nothing() -> i64 {
        0
    }
}

/// A number of octets; 0 is "no limit" where the setting says so.
#[derive(Debug)]
pub enum Size {}

impl Kind for Size {
    type Value = u64;

    fn read(text: &Sourced, _: &Fact) -> Result<u64, Fault> {
        text.as_str().trim_ascii().parse().map_err(|_| {
            fault(
                text,
                format!("\"{text}\" is no number of bytes"),
                "write a plain decimal number: no units, no sign",
            )
        })
    }

    fn nothing() -> u64 {
        0
    }
}

/// A number with a unit; without one, the unit that the setting's default has.
#[derive(Debug)]
pub enum Time {}

impl Kind for Time {
    type Value = Duration;

    fn read(text: &Sourced, fact: &Fact) -> Result<Duration, Fault> {
        duration(text.as_str().trim_ascii(), fact.detail).ok_or_else(|| {
            fault(
                text,
                format!("\"{text}\" is no time"),
                "write a number and one of s m h d w, such as 300s",
            )
        })
    }

    fn nothing() -> Duration {
        Duration::ZERO
    }
}

/// As in Postfix the letter behind the number counts, and nothing behind it: the default of `postscreen_dnsbl_max_ttl` is
/// `5mh` where `postscreen_dnsbl_ttl` is `5m`.
fn duration(text: &str, unit: &str) -> Option<Duration> {
    let written = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let factor = match written.chars().chain(unit.chars()).next()?.to_ascii_lowercase() {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let digits = &text[..text.len() - written.len()];
    let seconds: u64 = digits.parse::<u32>().ok()?.into();
    Some(Duration::from_secs(seconds * factor))
}

/// Any text.
#[derive(Debug)]
pub enum Text {}

impl Kind for Text {
    type Value = String;

    fn read(text: &Sourced, _: &Fact) -> Result<String, Fault> {
        Ok(text.as_str().to_owned())
    }

    fn nothing() -> String {
        String::new()
    }
}

/// Text in which `$name` is left for the moment of use (`mailbox_command`, `forward_path`).
#[derive(Debug)]
pub enum Raw {}

impl Kind for Raw {
    type Value = String;

    fn read(text: &Sourced, _: &Fact) -> Result<String, Fault> {
        Ok(text.as_str().to_owned())
    }

    fn nothing() -> String {
        String::new()
    }
}

/// Words divided by blanks or commas.
#[derive(Debug)]
pub enum List {}

impl Kind for List {
    type Value = Vec<Word>;

    fn read(text: &Sourced, _: &Fact) -> Result<Vec<Word>, Fault> {
        Ok(words(text))
    }

    fn nothing() -> Vec<Word> {
        Vec::new()
    }
}

/// One of a few words, in lower case; empty where the default is empty.
#[derive(Debug)]
pub enum Choice {}

impl Kind for Choice {
    type Value = String;

    fn read(text: &Sourced, fact: &Fact) -> Result<String, Fault> {
        let word = text.as_str().trim_ascii().to_ascii_lowercase();
        if word == fact.default || fact.detail.split('|').any(|known| known == word) {
            return Ok(word);
        }
        let instead = format!("write one of: {}", fact.detail.replace('|', ", "));
        Err(fault(text, format!("\"{text}\" is not a possible value"), instead))
    }

    fn nothing() -> String {
        String::new()
    }
}

/// Lookup tables, asked in this order.
#[derive(Debug)]
pub enum Maps {}

impl Kind for Maps {
    type Value = Vec<Table>;

    fn read(text: &Sourced, _: &Fact) -> Result<Vec<Table>, Fault> {
        let table = |word: &Word| {
            Table::parse(word).ok_or_else(|| Fault {
                at: word.at.clone(),
                what: format!("\"{word}\" names no type of table"),
                instead: format!("write type:name, such as hash:{word}"),
            })
        };
        words(text).iter().map(table).collect()
    }

    fn nothing() -> Vec<Table> {
        Vec::new()
    }
}

/// A match list of names.
#[derive(Debug)]
pub enum Matches {}

impl Kind for Matches {
    type Value = Vec<Match>;

    fn read(text: &Sourced, _: &Fact) -> Result<Vec<Match>, Fault> {
        Ok(matches(text))
    }

    fn nothing() -> Vec<Match> {
        Vec::new()
    }
}

/// A match list of networks and host names.
#[derive(Debug)]
pub enum Networks {}

impl Kind for Networks {
    type Value = Vec<Match>;

    fn read(text: &Sourced, _: &Fact) -> Result<Vec<Match>, Fault> {
        let mut list = Vec::new();
        for item in matches(text) {
            if let Pattern::Text(word) = &item.pattern
                && let Err(error) = Network::parse(word)
                && (error != NetworkError::NotAnAddress
                    || word.contains('/')
                    || word.starts_with('['))
            {
                let instead = "write address/prefix-length, such as 192.168.0.0/16 or [fe80::]/10";
                return Err(Fault {
                    at: item.at,
                    what: format!("bad network \"{word}\": {error}"),
                    instead: instead.into(),
                });
            }
            list.push(as_network(item));
        }
        Ok(list)
    }

    fn nothing() -> Vec<Match> {
        Vec::new()
    }
}

/// Access restrictions: the words as written, with their places; what they mean is smtpd's affair.
#[derive(Debug)]
pub enum Restrictions {}

impl Kind for Restrictions {
    type Value = Vec<Word>;

    fn read(text: &Sourced, _: &Fact) -> Result<Vec<Word>, Fault> {
        Ok(words(text))
    }

    fn nothing() -> Vec<Word> {
        Vec::new()
    }
}

/// Reads a value by the name of its kind, only to know whether it can be read.
///
/// # Errors
///
/// [`Fault`], without the name of the setting.
pub fn check(text: &Sourced, fact: &Fact) -> Result<(), Fault> {
    match fact.kind {
        "bool" => Bool::read(text, fact).map(drop),
        "integer" => Integer::read(text, fact).map(drop),
        "size" => Size::read(text, fact).map(drop),
        "time" => Time::read(text, fact).map(drop),
        "choice" => Choice::read(text, fact).map(drop),
        "maps" => Maps::read(text, fact).map(drop),
        "networks" => Networks::read(text, fact).map(drop),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postfix::names::FACTS;
    use crate::register::find;

    #[test]
    fn times_take_the_unit_of_their_default() {
        for (text, unit, seconds) in [
            ("5", "d", Some(432_000)),
            ("30", "s", Some(30)),
            ("2w", "s", Some(1_209_600)),
            ("1H", "s", Some(3600)),
            ("5mh", "s", Some(300)),
            ("5x", "s", None),
            ("-5s", "s", None),
            ("", "s", None),
            ("1 s", "s", None),
        ] {
            assert_eq!(duration(text, unit).map(|d| d.as_secs()), seconds, "{text}");
        }
    }

    #[test]
    fn bad_values_say_what_to_write() {
        let fact = |name| find(FACTS, name).unwrap();
        let text = |text: &str| Sourced::new(text, &Place::new("main.cf", 3));
        let faults = [
            Bool::read(&text("true"), fact("soft_bounce")).unwrap_err(),
            Integer::read(&text("10k"), fact("smtpd_recipient_limit")).unwrap_err(),
            Size::read(&text("10M"), fact("message_size_limit")).unwrap_err(),
            Time::read(&text("soon"), fact("queue_run_delay")).unwrap_err(),
            Choice::read(&text("maybe"), fact("smtpd_tls_security_level")).unwrap_err(),
            Maps::read(&text("hash:/a /etc/b"), fact("alias_maps")).unwrap_err(),
            Networks::read(&text("127.0.0.1/8"), fact("mynetworks")).unwrap_err(),
        ];
        let shown: Vec<String> =
            faults.iter().map(|fault| format!("{}; {}", fault.what, fault.instead)).collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        "true" is neither yes nor no; write yes or no
        "10k" is no number; write a decimal number
        "10M" is no number of bytes; write a plain decimal number: no units, no sign
        "soon" is no time; write a number and one of s m h d w, such as 300s
        "maybe" is not a possible value; write one of: none, may, encrypt
        "/etc/b" names no type of table; write type:name, such as hash:/etc/b
        bad network "127.0.0.1/8": host bits are set; 127.0.0.0/8 may be meant; write address/prefix-length, such as 192.168.0.0/16 or [fe80::]/10
        "#);
    }
}
