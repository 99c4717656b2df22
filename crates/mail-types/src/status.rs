//! Enhanced status codes (RFC 3463).

use std::fmt;

use serde::{Deserialize, Serialize};

/// What happens to the recipient: done, later, never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    Success,
    Transient,
    Permanent,
}

/// `class.subject.detail`, such as `5.1.1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnhancedStatus {
    class: Class,
    subject: u16,
    detail: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an enhanced status code: {0:?}")]
pub struct BadStatus(pub String);

impl EnhancedStatus {
    #[must_use]
    pub const fn new(class: Class, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// # Errors
    ///
    /// [`BadStatus`] if the whole text is not `2|4|5` `.` 1-3 digits `.` 1-3 digits.
    pub fn parse(text: &str) -> Result<Self, BadStatus> {
        match Self::prefix_of(text) {
            Some((status, "")) => Ok(status),
            _ => Err(BadStatus(text.chars().take(40).collect())),
        }
    }

    /// The code at the start of `text` and what follows it, without the blanks between.
    #[must_use]
    pub fn prefix_of(text: &str) -> Option<(Self, &str)> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (code, rest) = text.split_at(end);
        if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
            return None;
        }
        let mut parts = code.split('.');
        let class = match parts.next()? {
            "2" => Class::Success,
            "4" => Class::Transient,
            "5" => Class::Permanent,
            _ => return None,
        };
        let number = |part: Option<&str>| -> Option<u16> {
            let part = part?;
            (1..=3).contains(&part.len()).then(|| part.parse().ok())?
        };
        let (subject, detail) = (number(parts.next())?, number(parts.next())?);
        parts.next().is_none().then_some((Self { class, subject, detail }, rest.trim_start()))
    }

    #[must_use]
    pub const fn class(self) -> Class {
        self.class
    }

    #[must_use]
    pub const fn subject(self) -> u16 {
        self.subject
    }

    #[must_use]
    pub const fn detail(self) -> u16 {
        self.detail
    }

    /// The same subject and detail in another class, such as 5.1.1 softened to 4.1.1.
    #[must_use]
    pub const fn with_class(self, class: Class) -> Self {
        Self { class, ..self }
    }
}

impl Class {
    #[must_use]
    pub const fn digit(self) -> u8 {
        match self {
            Self::Success => 2,
            Self::Transient => 4,
            Self::Permanent => 5,
        }
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class.digit(), self.subject, self.detail)
    }
}

impl fmt::Debug for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for EnhancedStatus {
    type Err = BadStatus;
    fn from_str(text: &str) -> Result<Self, BadStatus> {
        Self::parse(text)
    }
}

impl TryFrom<String> for EnhancedStatus {
    type Error = BadStatus;
    fn try_from(text: String) -> Result<Self, BadStatus> {
        Self::parse(&text)
    }
}

impl From<EnhancedStatus> for String {
    fn from(status: EnhancedStatus) -> Self {
        status.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_strictly() {
        for good in ["2.0.0", "4.7.25", "5.1.1", "5.999.999"] {
            assert_eq!(EnhancedStatus::parse(good).unwrap().to_string(), good);
        }
        for bad in
            ["", "5", "5.1", "5.1.", "3.0.0", "5.1.1.1", "5.1234.1", "5.1.1x", "5.1.1 no", "5..1"]
        {
            assert!(EnhancedStatus::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_text_may_begin_with_a_code() {
        let (status, rest) = EnhancedStatus::prefix_of("5.7.1 \t no such subject").unwrap();
        assert_eq!((status.to_string().as_str(), rest), ("5.7.1", "no such subject"));
        assert_eq!(EnhancedStatus::prefix_of("5.7.1no"), None);
        assert_eq!(status.with_class(Class::Transient).to_string(), "4.7.1");
    }
}
