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

/// The header's lines with their addresses rewritten; fields without a change stay as they are.
///
/// # Errors
///
/// A table cannot answer: the message must not go out now.
pub async fn header(service: &Service, lines: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, String> {
    let mut rewritten = Vec::with_capacity(lines.len());
    for field in fields(lines) {
        match changed(service, &field).await? {
            Some(text) => rewritten.extend(text.split('\n').map(|line| line.as_bytes().to_vec())),
            None => rewritten.extend(field),
        }
    }
    Ok(rewritten)
}

/// Lines with those that continue them.
fn fields(lines: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    let mut fields: Vec<Vec<Vec<u8>>> = Vec::new();
    for line in lines {
        match (fields.last_mut(), line.first()) {
            (Some(field), Some(b' ' | b'\t')) => field.push(line),
            _ => fields.push(vec![line]),
        }
    }
    fields
}

/// The whole field, folded anew, if one of its addresses changes.
async fn changed(service: &Service, field: &[Vec<u8>]) -> Result<Option<String>, String> {
    let text = field.join(&b"\n"[..]);
    let Ok(text) = String::from_utf8(text) else { return Ok(None) };
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
    use super::*;

    #[test]
    fn fields_are_found_with_their_continuations() {
        assert!(FIELDS.is_sorted());
        let line = |text: &str| text.as_bytes().to_vec();
        let found = fields(vec![line("To: a,"), line(" b"), line("Subject: x"), line("")]);
        let expected =
            vec![vec![line("To: a,"), line(" b")], vec![line("Subject: x")], vec![line("")]];
        assert_eq!(found, expected);
    }
}
