//! Which Postfix stands at the other end.

/// The versions at which the internal protocols changed. Later patch levels speak the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dialect {
    V3_4,
    /// showq tells `forced_expire`.
    V3_5,
    /// Servers speak first and name their protocol.
    #[default]
    V3_6,
    /// `smtputf8` is called `sendopts`.
    V3_10,
    /// showq tells the original recipient and the class of the reason.
    V3_11,
}

impl Dialect {
    /// From `mail_version`, such as `3.7.11` or `3.10.2-RC1`. Nothing for versions before 3.4.
    #[must_use]
    pub fn of_version(mail_version: &str) -> Option<Self> {
        let mut parts = mail_version.trim().split(['.', '-']);
        let major: u32 = parts.next()?.parse().ok()?;
        let minor: u32 = parts.next()?.parse().ok()?;
        match (major, minor) {
            (3, 4) => Some(Self::V3_4),
            (3, 5) => Some(Self::V3_5),
            (3, 6..=9) => Some(Self::V3_6),
            (3, 10) => Some(Self::V3_10),
            (3, 11..) | (4.., _) => Some(Self::V3_11),
            _ => None,
        }
    }

    #[must_use]
    pub fn server_names_protocol(self) -> bool {
        self >= Self::V3_6
    }

    /// The attribute that holds the SMTPUTF8 flags.
    #[must_use]
    pub fn sendopts(self) -> &'static str {
        if self >= Self::V3_10 { "sendopts" } else { "smtputf8" }
    }

    #[must_use]
    pub fn showq_tells_forced_expire(self) -> bool {
        self >= Self::V3_5
    }

    #[must_use]
    pub fn showq_tells_original_recipient(self) -> bool {
        self >= Self::V3_11
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_a_dialect() {
        for (version, dialect) in [
            ("3.3.9", None),
            ("3.4.23", Some(Dialect::V3_4)),
            ("3.5.25", Some(Dialect::V3_5)),
            ("3.7.11", Some(Dialect::V3_6)),
            ("3.10.13", Some(Dialect::V3_10)),
            ("3.11-20260101", Some(Dialect::V3_11)),
            ("x", None),
        ] {
            assert_eq!(Dialect::of_version(version), dialect, "{version}");
        }
    }
}
