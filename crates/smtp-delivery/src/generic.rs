//! `smtp_generic_maps` in the header: addresses of this site as the outside is to see them.

use mail_types::{quote_822, unquote_822};
use message::addresses;

use crate::server::Service;

/// Fields that hold addresses of senders or recipients.
const FIELDS: [&str; 19] = [
    "apparently-to",
    "bcc",
    "cc",
    "disposition-notification-to",
    "errors-to",
    "from",
    "mail-followup-to",
    "mail-reply-to",
    "reply-to",
    "resent-bcc",
    "resent-cc",
    "resent-from",
    "resent-reply-to",
    "resent-sender",
    "resent-to",
    "return-path",
    "return-receipt-to",
    "sender",
    "to",
];

/// The whole field, folded anew, if one of its addresses changes. Its lines are divided by LF.
///
/// # Errors
///
/// A table cannot answer: the message must not go out now.
pub async fn field(service: &Service, field: &[u8]) -> Result<Option<String>, String> {
    let Ok(text) = std::str::from_utf8(field) else { return Ok(None) };
    let Some((name, value)) = text.split_once(':') else { return Ok(None) };
    let known = name.trim_end().to_ascii_lowercase();
    if FIELDS.binary_search(&known.as_str()).is_err() {
        return Ok(None);
    }
    let (mut result, mut at, mut any) = (format!("{}:", name.trim_end()), 0, false);
    for span in addresses::spans(value) {
        let before = value.get(at..span.start).unwrap_or_default();
        let address = unquote_822(value.get(span.clone()).unwrap_or_default());
        let mapped = service.generic(&address).await?;
        result.push_str(before);
        if mapped == address {
            result.push_str(value.get(span.clone()).unwrap_or_default());
        } else {
            any = true;
            result.push_str(&quote_822(&mapped));
        }
        at = span.end;
    }
    result.push_str(value.get(at..).unwrap_or_default());
    Ok(any.then(|| addresses::fold(&result)))
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_are_in_the_order_that_their_search_needs() {
        assert!(super::FIELDS.is_sorted());
    }
}
