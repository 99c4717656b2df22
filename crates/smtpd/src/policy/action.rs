//! The right-hand side of an access table.

/// What a table entry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    Dunno,
    /// `OK`, `RELAY`, or a number without text.
    Permit(&'a str),
    Reject(&'a str),
    Defer(&'a str),
    /// A reply code of the administrator's own.
    Code(u16, &'a str),
    DeferIfPermit(&'a str),
    DeferIfReject(&'a str),
    HangUp(&'a str),
    Info(&'a str),
    Warn(&'a str),
    Filter(&'a str),
    Hold(&'a str),
    Discard(&'a str),
    Redirect(&'a str),
    Bcc(&'a str),
    Prepend(&'a str),
    /// Anything else is a list of restrictions.
    Restrictions(&'a str),
}

impl<'a> Action<'a> {
    #[must_use]
    pub fn parse(value: &'a str) -> Self {
        let end = value.find([' ', '\t']).unwrap_or(value.len());
        let (word, rest) = value.split_at(end);
        let text = rest.trim_start();
        match word.to_ascii_uppercase().as_str() {
            "DUNNO" => Self::Dunno,
            "REJECT" => Self::Reject(text),
            "DEFER" => Self::Defer(text),
            "HANGUP" => Self::HangUp(text),
            "INFO" => Self::Info(text),
            "WARN" => Self::Warn(text),
            "FILTER" => Self::Filter(text),
            "HOLD" => Self::Hold(text),
            "DISCARD" => Self::Discard(text),
            "REDIRECT" => Self::Redirect(text),
            "BCC" => Self::Bcc(text),
            "DEFER_IF_PERMIT" => Self::DeferIfPermit(text),
            "DEFER_IF_REJECT" => Self::DeferIfReject(text),
            "PREPEND" => Self::Prepend(text),
            "OK" | "RELAY" => Self::Permit(word),
            _ if !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit()) => {
                Self::Permit(word)
            }
            _ => match word.parse::<u16>() {
                Ok(code) if word.len() == 3 && (400..600).contains(&code) && !text.is_empty() => {
                    Self::Code(code, text)
                }
                _ => Self::Restrictions(value),
            },
        }
    }
}

/// `Name: text`, a message header.
#[must_use]
pub fn is_header(text: &str) -> bool {
    text.split_once(':').is_some_and(|(name, _)| {
        let name = name.trim_end_matches([' ', '\t']);
        !name.is_empty() && name.bytes().all(|c| (b'!'..=b'~').contains(&c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_told_apart() {
        for (value, action) in [
            ("OK", Action::Permit("OK")),
            ("relay anything", Action::Permit("relay")),
            ("550", Action::Permit("550")),
            ("1234567890", Action::Permit("1234567890")),
            ("550 5.7.1 no", Action::Code(550, "5.7.1 no")),
            ("REJECT  go away", Action::Reject("go away")),
            ("dunno text", Action::Dunno),
            ("HOLD", Action::Hold("")),
            (
                "reject_non_fqdn_sender, reject",
                Action::Restrictions("reject_non_fqdn_sender, reject"),
            ),
            ("250 ok", Action::Restrictions("250 ok")),
        ] {
            assert_eq!(Action::parse(value), action, "{value}");
        }
        assert!(is_header("X-Spam: yes"));
        assert!(!is_header("no header"));
        assert!(!is_header("two words: x"));
    }
}
