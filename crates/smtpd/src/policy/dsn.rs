//! Enhanced status codes inside rejection texts.

use mail_types::EnhancedStatus;

/// Splits `5.7.1 no such user` into status and text; without a status at the front, `default` is it.
#[must_use]
pub fn split_status<'a>(default: &str, text: &'a str) -> (String, &'a str) {
    match EnhancedStatus::prefix_of(text) {
        Some((status, rest)) => (status.to_string(), rest.trim_start()),
        None => (default.to_owned(), text),
    }
}

/// What is being refused, in the words of the reply.
pub const SENDER: &str = "Sender address";
pub const RECIPIENT: &str = "Recipient address";

/// An address status (x.1.y) that fits what is refused: a sender gets sender codes, a recipient recipient codes,
/// anything else none. Returns a line to log when the code had to change.
#[must_use]
pub fn fixed_status(status: &str, class: &str) -> (String, Option<String>) {
    let digit = status.chars().next().filter(char::is_ascii_digit);
    let (Some(digit), Some(detail)) = (digit, status.get(1..).and_then(|s| s.strip_prefix(".1.")))
    else {
        return (status.to_owned(), None);
    };
    let subject = match (class, detail) {
        (SENDER, "2" | "8") => "1.8",
        (SENDER, "1" | "3" | "4" | "6" | "7") => "1.7",
        (SENDER, _) => "1.0",
        (RECIPIENT, "1") => "1.1",
        (RECIPIENT, "2" | "8") => "1.2",
        (RECIPIENT, "3" | "7") => "1.3",
        (RECIPIENT, "4") => "1.4",
        (RECIPIENT, "5") => "1.5",
        (RECIPIENT, "6") => "1.6",
        (RECIPIENT, _) => "1.0",
        _ => "0.0",
    };
    let fixed = format!("{digit}.{subject}");
    let note = (fixed != status)
        .then(|| format!("mapping DSN status {status} into {class} status {fixed}"));
    (fixed, note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_fit_what_is_refused() {
        assert_eq!(fixed_status("5.1.1", SENDER).0, "5.1.7");
        assert_eq!(fixed_status("5.1.5", SENDER).0, "5.1.0");
        assert_eq!(fixed_status("5.1.8", RECIPIENT).0, "5.1.2");
        assert_eq!(fixed_status("5.1.1", RECIPIENT), ("5.1.1".into(), None));
        assert_eq!(fixed_status("4.1.1", "Client host").0, "4.0.0");
        assert_eq!(fixed_status("5.7.1", SENDER), ("5.7.1".into(), None));
        assert_eq!(split_status("5.7.1", "4.2.0 later"), ("4.2.0".into(), "later"));
        assert_eq!(split_status("5.7.1", "no"), ("5.7.1".into(), "no"));
    }
}
