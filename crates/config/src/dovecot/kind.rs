//! The kinds of values in dovecot.conf.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::tree::Value;
use crate::register::Fact;
use crate::text::Word;

/// Why a text is no value of its kind, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub what: String,
    pub instead: String,
}

pub(super) fn fault(what: impl Into<String>, instead: impl Into<String>) -> Fault {
    Fault { what: what.into(), instead: instead.into() }
}

/// A kind of value.
pub trait Kind: 'static {
    type Value;

    /// Reads a text; `value` has its place and whether it names a file.
    ///
    /// # Errors
    ///
    /// [`Fault`], without the name of the setting.
    fn read(text: &str, value: Option<&Value>, fact: &Fact) -> Result<Self::Value, Fault>;

    /// What stands for a value that even the default does not give.
    fn nothing() -> Self::Value;
}

macro_rules! kind {
    ($(#[$about:meta])* $name:ident: $type:ty = $nothing:expr, |$text:ident, $value:ident, $fact:ident| $read:expr) => {
        $(#[$about])*
        #[derive(Debug)]
        pub enum $name {}

        impl Kind for $name {
            type Value = $type;

            fn read($text: &str, $value: Option<&Value>, $fact: &Fact) -> Result<$type, Fault> {
                $read
            }

            fn nothing() -> $type {
                $nothing
            }
        }
    };
}

kind!(
    /// `yes` or `no`.
    Bool: bool = false,
    |text, _value, _fact| match text.to_ascii_lowercase().as_str() {
        "yes" | "y" | "1" => Ok(true),
        "no" => Ok(false),
        _ => Err(fault(format!("\"{text}\" is neither yes nor no"), "write yes or no")),
    }
);

kind!(
    /// A decimal number.
    Integer: u64 = 0,
    |text, _value, _fact| match text {
        "unlimited" => Ok(u64::MAX),
        _ => text.parse().map_err(|_| fault(format!("\"{text}\" is no number"), "write a decimal number")),
    }
);

kind!(
    /// A file mode in octal.
    Mode: u32 = 0,
    |text, _value, _fact| u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| fault(format!("\"{text}\" is no file mode"), "write it in octal, such as 0660"))
);

kind!(
    /// A number of octets with a unit.
    Size: u64 = 0,
    |text, _value, _fact| match text {
        "unlimited" => Ok(u64::MAX),
        _ => size(text).ok_or_else(|| fault(format!("\"{text}\" is no size"), "write a number and one of B k M G T")),
    }
);

kind!(
    /// A time; only 0 needs no unit.
    Time: Duration = Duration::ZERO,
    |text, _value, _fact| match text {
        "infinite" | "unlimited" => Ok(Duration::MAX),
        _ => duration(text)
            .ok_or_else(|| fault(format!("\"{text}\" is no time"), "write a number and one of secs mins hours days weeks")),
    }
);

kind!(
    /// Any text.
    Text: String = String::new(),
    |text, _value, _fact| Ok(text.to_owned())
);

kind!(
    /// Words divided by blanks or commas.
    List: Vec<Word> = Vec::new(),
    |text, value, _fact| {
        let words = text.split(|c: char| c.is_ascii_whitespace() || c == ',').filter(|word| !word.is_empty());
        Ok(words.map(|word| Word { text: word.to_owned(), at: value.map(|value| value.at.clone()) }).collect())
    }
);

kind!(
    /// One of a few words.
    Choice: String = String::new(),
    |text, _value, fact| {
        if text == fact.default || fact.detail.split('|').any(|known| known == text) {
            return Ok(text.to_owned());
        }
        Err(fault(format!("\"{text}\" is not a possible value"), format!("write one of: {}", fact.detail.replace('|', ", "))))
    }
);

kind!(
    /// `<path`, or the content itself.
    File: FileValue = FileValue::Unset,
    |text, value, _fact| Ok(match value.and_then(|value| value.file.as_ref()) {
        Some(path) => FileValue::At(path.clone()),
        None if text.is_empty() => FileValue::Unset,
        None => FileValue::Inline(text.to_owned()),
    })
);

/// A value that is usually a file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileValue {
    #[default]
    Unset,
    At(PathBuf),
    /// Written without `<`: Dovecot takes the text itself, which for a certificate is a slip.
    Inline(String),
}

impl FileValue {
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::At(path) => Some(path),
            Self::Unset | Self::Inline(_) => None,
        }
    }
}

fn number_and_unit(text: &str) -> Option<(u64, String)> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = text[..text.len() - unit.len()].parse().ok()?;
    Some((number, unit.trim_start_matches(' ').to_ascii_lowercase()))
}

fn size(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text)?;
    let factor: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "ki" | "kb" | "kib" => 1 << 10,
        "m" | "mi" | "mb" | "mib" => 1 << 20,
        "g" | "gi" | "gb" | "gib" => 1 << 30,
        "t" | "ti" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    if unit.is_empty() {
        return (number == 0).then_some(Duration::ZERO);
    }
    let begins = |names: &[&str]| names.iter().any(|name| name.starts_with(unit.as_str()));
    let factor = if begins(&["secs", "seconds"]) {
        1
    } else if begins(&["mins", "minutes"]) {
        60
    } else if begins(&["msecs", "mseconds", "millisecs", "milliseconds"]) {
        return Some(Duration::from_millis(number));
    } else if begins(&["hours"]) {
        3600
    } else if begins(&["days"]) {
        86_400
    } else if begins(&["weeks"]) {
        604_800
    } else {
        return None;
    };
    number.checked_mul(factor).map(Duration::from_secs)
}

/// Reads a value by the name of its kind, only to know whether it can be read.
pub fn check(value: &Value, fact: &Fact) -> Result<(), Fault> {
    let (text, value) = (value.text.as_str(), Some(value));
    match fact.kind {
        "bool" => Bool::read(text, value, fact).map(drop),
        "integer" => Integer::read(text, value, fact).map(drop),
        "mode" => Mode::read(text, value, fact).map(drop),
        "size" => Size::read(text, value, fact).map(drop),
        "time" => Time::read(text, value, fact).map(drop),
        "choice" => Choice::read(text, value, fact).map(drop),
        _ => Ok(()),
    }
}

/// A time or a size as a plain number, so that two ways to write it can be compared.
pub fn normal(value: &Value, fact: &Fact) -> Option<String> {
    match fact.kind {
        "size" => Size::read(&value.text, None, fact).ok().map(|size| size.to_string()),
        // Dovecot prints an endless time as the largest number of seconds.
        "time" => Time::read(&value.text, None, fact).ok().map(|time| time.as_millis().to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_dovecots_units() {
        for (text, seconds) in [
            ("0", Some(0)),
            ("30", None),
            ("30s", Some(30)),
            ("2 mins", Some(120)),
            ("1 hour", Some(3600)),
            ("1d", Some(86_400)),
            ("1 weeks", Some(604_800)),
            ("1500 msecs", Some(1)),
            ("1 x", None),
            ("", None),
        ] {
            assert_eq!(duration(text).map(|d| d.as_secs()), seconds, "{text}");
        }
        for (text, bytes) in [
            ("64 k", Some(65_536)),
            ("1G", Some(1 << 30)),
            ("128KiB", Some(131_072)),
            ("18446744073709551615 B", Some(u64::MAX)),
            ("18446744073709551615 k", None),
            ("5x", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}
