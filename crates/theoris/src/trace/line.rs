//! One line of a log, whatever wrote it: the journal, or syslog with an old or a new stamp.

use serde::Deserialize;
use serde_json::Value;

use message::log_date;

/// A line taken apart as far as a search needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Microseconds since the epoch.
    pub at: i64,
    pub host: String,
    /// `postfix/smtpd[123]`
    pub source: String,
    pub text: String,
}

impl Line {
    /// Reads a line of a log file. `newest` (seconds) is when the file was written last: old stamps have no year.
    pub fn of_syslog(line: &[u8], newest: i64) -> Option<Self> {
        let (at, rest) = match log_date::read_traditional(line, newest) {
            Some(at) => (at, line.get(15..)?),
            None => {
                let end = line.iter().take(40).position(|octet| *octet == b' ')?;
                let stamp = std::str::from_utf8(line.get(..end)?).ok()?;
                (log_date::read_rfc3339(stamp)?, line.get(end..)?)
            }
        };
        let rest = String::from_utf8_lossy(rest);
        let (host, rest) = rest.trim_start().split_once(' ')?;
        let (source, text) = rest.split_once(": ")?;
        Some(Self { at, host: host.to_owned(), source: source.to_owned(), text: text.to_owned() })
    }

    /// Reads a line of `journalctl --output=json`.
    pub fn of_journal(line: &[u8]) -> Option<Self> {
        let entry: Entry = serde_json::from_slice(line).ok()?;
        let text = text(&entry.message?)?;
        let number = |value: &Option<Value>| value.as_ref().and_then(text_of_number);
        let at = number(&entry.source_time).or_else(|| number(&entry.time))?.parse().ok()?;
        let identifier = entry.identifier.as_ref().and_then(self::text).unwrap_or_default();
        let pid = number(&entry.syslog_pid).or_else(|| number(&entry.pid));
        let source = pid.map_or(identifier.clone(), |pid| format!("{identifier}[{pid}]"));
        let host = entry.host.as_ref().and_then(self::text).unwrap_or_default();
        Some(Self { at, host, source, text })
    }

    /// The queue id that the line begins with.
    pub fn queue_id(&self) -> Option<&str> {
        let (id, _) = self.text.split_once(": ")?;
        is_queue_id(id).then_some(id)
    }
}

/// Short ids are hexadecimal, long ones have letters and digits without vowels (postconf(5), enable_long_queue_ids).
pub fn is_queue_id(text: &str) -> bool {
    let short = text.bytes().all(|octet| octet.is_ascii_digit() || (b'A'..=b'F').contains(&octet));
    let long =
        text.bytes().all(|octet| octet.is_ascii_alphanumeric() && !b"AEIOUaeiou".contains(&octet));
    (short && (6..=20).contains(&text.len())) || (long && (12..=24).contains(&text.len()))
}

/// The fields that are asked for.
pub const FIELDS: &str =
    "MESSAGE,SYSLOG_IDENTIFIER,SYSLOG_PID,_PID,_HOSTNAME,_SOURCE_REALTIME_TIMESTAMP";

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "MESSAGE")]
    message: Option<Value>,
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    identifier: Option<Value>,
    #[serde(rename = "SYSLOG_PID")]
    syslog_pid: Option<Value>,
    #[serde(rename = "_PID")]
    pid: Option<Value>,
    #[serde(rename = "_HOSTNAME")]
    host: Option<Value>,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    time: Option<Value>,
    #[serde(rename = "_SOURCE_REALTIME_TIMESTAMP")]
    source_time: Option<Value>,
}

/// A field is a string, or an array of octets where it is no UTF-8, or null where it is too large; one that was given
/// several times is an array of those.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let octets = |item: &Value| item.as_u64().and_then(|octet| u8::try_from(octet).ok());
            match items.iter().map(octets).collect::<Option<Vec<u8>>>() {
                Some(octets) => Some(String::from_utf8_lossy(&octets).into_owned()),
                None => items.first().and_then(Value::as_str).map(str::to_owned),
            }
        }
        _ => None,
    }
}

fn text_of_number(value: &Value) -> Option<String> {
    text(value).filter(|text| !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_stamps_are_read() {
        let text = "mail postfix/smtpd[12345]: A1B2C3D4E5: client=unknown[192.168.1.100]";
        for (stamp, at) in [
            (
                "Apr 10 09:30:00",
                log_date::read_traditional(b"Apr 10 09:30:00", 1_795_327_200).unwrap(),
            ),
            ("2026-04-10T09:30:00.123456+09:00", 1_775_781_000_123_456),
        ] {
            let line =
                Line::of_syslog(format!("{stamp} {text}").as_bytes(), 1_795_327_200).unwrap();
            assert_eq!(
                (line.at, line.host.as_str(), line.source.as_str()),
                (at, "mail", "postfix/smtpd[12345]")
            );
            assert_eq!(line.queue_id(), Some("A1B2C3D4E5"));
        }
        for wrong in [
            "",
            "nonsense",
            "Apr 10 09:30:00",
            "Apr 10 09:30:00 mail",
            "\u{fffd}\0\0",
            "2026-04-10T09:30:00Z x y",
        ] {
            assert_eq!(Line::of_syslog(wrong.as_bytes(), 0), None, "{wrong}");
        }
    }

    #[test]
    fn the_journals_json_is_read() {
        let line = Line::of_journal(br#"{"__REALTIME_TIMESTAMP":"1775781000123456","MESSAGE":"A1B2C3D4E5: removed","SYSLOG_IDENTIFIER":"postfix/qmgr","_PID":"7","_HOSTNAME":"mail"}"#).unwrap();
        assert_eq!(
            line,
            Line {
                at: 1_775_781_000_123_456,
                host: "mail".into(),
                source: "postfix/qmgr[7]".into(),
                text: "A1B2C3D4E5: removed".into()
            }
        );
        let line = Line::of_journal(br#"{"__REALTIME_TIMESTAMP":"1","MESSAGE":[65,255,66],"SYSLOG_IDENTIFIER":["a","b"],"SYSLOG_PID":"9","_PID":"7"}"#).unwrap();
        assert_eq!((line.text.as_str(), line.source.as_str()), ("A\u{fffd}B", "a[9]"));
        for wrong in [
            "",
            "{}",
            "[]",
            r#"{"MESSAGE":null,"__REALTIME_TIMESTAMP":"1"}"#,
            r#"{"MESSAGE":"x","__REALTIME_TIMESTAMP":"-1"}"#,
        ] {
            assert_eq!(Line::of_journal(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn queue_ids_are_told_from_words() {
        for (text, is) in [
            ("A1B2C3D4E5", true),
            ("4Xk3Yd0Z1Yz3Rqw", true),
            ("NOQUEUE", false),
            ("warning", false),
            ("connect from x", false),
            ("", false),
            ("123", false),
            ("statistics", false),
        ] {
            assert_eq!(is_queue_id(text), is, "{text}");
        }
    }
}
