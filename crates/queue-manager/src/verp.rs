//! Variable envelope return paths: the sender's address tells which recipient a bounce is about.

use protocol::postfix::Recipient;

/// `owner+user=example.com@list.example` for `owner@list.example`: the recipient as the sender wrote it.
#[must_use]
pub fn sender(delimiters: &str, sender: &str, recipient: &Recipient) -> String {
    let mut signs = delimiters.chars();
    let (Some(first), Some(second)) = (signs.next(), signs.next()) else {
        return sender.to_owned();
    };
    let recipient = match recipient.original.as_str() {
        "" => recipient.address.as_str(),
        original => original,
    };
    let (owner, origin) = parts(sender);
    let (user, domain) = parts(recipient);
    let domain = if domain.is_empty() { String::new() } else { format!("{second}{domain}") };
    let origin = if origin.is_empty() { String::new() } else { format!("@{origin}") };
    format!("{owner}{first}{user}{domain}{origin}")
}

fn parts(address: &str) -> (&str, &str) {
    address.rsplit_once('@').unwrap_or((address, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recipient_stands_in_the_sender() {
        let to = |original: &str, address: &str| Recipient {
            original: original.into(),
            address: address.into(),
            ..Recipient::default()
        };
        for (delimiters, from, recipient, expected) in [
            ("+=", "o@l", to("", "u@d"), "o+u=d@l"),
            ("-=", "o@l", to("alias", "u@d"), "o-alias@l"),
            ("+=", "o", to("", "u@d"), "o+u=d"),
            ("+", "o@l", to("", "u@d"), "o@l"),
        ] {
            assert_eq!(sender(delimiters, from, &recipient), expected);
        }
    }
}
