//! Authentication-Results (RFC 8601): reading fields of others, writing our own.

use crate::dkim::verify::{Outcome, Protection, Verdict};

/// Octets of one field that are read.
const MAX_FIELD: usize = 64 * 1024;
/// Column at which a result goes to a line of its own, as OpenDKIM writes it.
const MARGIN: usize = 75;

/// What matters of a field that arrived: who says it, and of which methods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Results {
    pub authserv_id: String,
    /// Lower-case names of the methods; `None` when the text behind the name is no list of results.
    pub methods: Option<Vec<String>>,
}

impl Results {
    /// Reads the value of a field. `None` when there is not even a name at its beginning.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = without_comments(value.get(..value.len().min(MAX_FIELD))?)?;
        let mut items = split_outside_quotes(&text, ';').into_iter();
        let mut first = items.next()?;
        first = first.trim().to_owned();
        let authserv_id = match first.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next()?.to_owned(),
            None => first.split_whitespace().next()?.to_owned(),
        };
        let methods = items.filter(|item| !item.trim().is_empty()).map(|item| method(&item));
        Some(Self { authserv_id, methods: methods.collect() })
    }

    /// Whether the field claims to be from `authserv_id`, with or without a job's id or a version behind it.
    #[must_use]
    pub fn is_from(&self, authserv_id: &str) -> bool {
        let name = self.authserv_id.split('/').next().unwrap_or_default();
        name.trim_end_matches('.').eq_ignore_ascii_case(authserv_id.trim_end_matches('.'))
    }
}

/// `method[/version] = result …`, or `none`, which has no method.
fn method(item: &str) -> Option<String> {
    let item = item.trim();
    if item.eq_ignore_ascii_case("none") {
        return Some("none".to_owned());
    }
    let (name, _) = item.split_once('=')?;
    let name = name.split('/').next()?.trim();
    let is_keyword = !name.is_empty()
        && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'));
    is_keyword.then(|| name.to_ascii_lowercase())
}

/// The text with each comment as a space; `None` when one does not end.
fn without_comments(value: &[u8]) -> Option<String> {
    let mut text = String::new();
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for character in String::from_utf8_lossy(value).chars() {
        if std::mem::take(&mut escaped) {
            if depth == 0 {
                text.push(character);
            }
            continue;
        }
        match character {
            '\\' if quoted || depth > 0 => escaped = true,
            '"' if depth == 0 => {
                quoted = !quoted;
                text.push('"');
            }
            '(' if !quoted => depth += 1,
            ')' if !quoted && depth > 0 => {
                depth -= 1;
                text.push(' ');
            }
            '\r' | '\n' => text.push(' '),
            character if depth == 0 => text.push(character),
            _ => {}
        }
    }
    (depth == 0 && !quoted).then_some(text)
}

fn split_outside_quotes(text: &str, separator: char) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        if character == '"' {
            quoted = !quoted;
        }
        if character == separator && !quoted {
            items.push(String::new());
        } else if let Some(last) = items.last_mut() {
            last.push(character);
        }
    }
    items
}

/// One `dkim=` item as OpenDKIM writes it. `with_text` adds `header.b`.
#[must_use]
pub fn dkim_item(outcome: &Outcome, with_text: bool) -> String {
    let mut item = format!("dkim={}", outcome.verdict.word());
    if let Some(fault) = outcome.fault
        && matches!(outcome.verdict, Verdict::Fail | Verdict::Policy)
    {
        item.push_str(&format!(" reason=\"{}\"", fault.text()));
    }
    let protection = outcome.protection.map(|protection| match protection {
        Protection::Unprotected => "unprotected",
        Protection::Secure => "secure",
    });
    match (outcome.key_bits, protection) {
        (0, _) => {}
        (bits, None) => item.push_str(&format!(" ({bits}-bit key)")),
        (bits, Some(protection)) => item.push_str(&format!(" ({bits}-bit key; {protection})")),
    }
    let received = &outcome.received;
    if let Some(domain) = &received.domain {
        item.push_str(&format!(" header.d={}", printable(domain)));
        item.push_str(&format!(" header.i={}", printable(&received.identity)));
        // OpenDKIM shows its first algorithm while none was read
        let algorithm = received.algorithm.map_or("rsa-sha1", |algorithm| algorithm.name());
        item.push_str(&format!(" header.a={algorithm}"));
        if let Some(selector) = &received.selector {
            item.push_str(&format!(" header.s={}", printable(selector)));
        }
        if with_text && !outcome.text.is_empty() {
            item.push_str(&format!(" header.b={}", printable(&outcome.text)));
        }
    }
    item
}

/// What a stranger wrote must not end the value that it stands in.
fn printable(text: &str) -> String {
    let is_plain =
        |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '(' | ')' | ';' | '\\' | ',');
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    let inner: String =
        text.chars()
            .map(|c| {
                if (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\') { c } else { '?' }
            })
            .collect();
    format!("\"{inner}\"")
}

/// The value of a field: the name and then the items, each on a line of its own unless it still fits; folded with LF and a tab.
#[must_use]
pub fn write(authserv_id: &str, items: &[String]) -> String {
    let mut text = format!("{authserv_id};");
    let mut column = "Authentication-Results".len() + 3 + text.len();
    for (index, item) in items.iter().enumerate() {
        let item = if index + 1 == items.len() { item.clone() } else { format!("{item};") };
        if column + item.len() >= MARGIN {
            text.push_str("\n\t");
            column = 8;
        } else {
            text.push(' ');
        }
        text.push_str(&item);
        column += item.len();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_and_the_methods_are_found() {
        for (value, name, methods) in [
            (" mx.example.net; dkim=pass header.d=a.example", "mx.example.net", Some(vec!["dkim"])),
            (" mx.example.net 1; none", "mx.example.net", Some(vec!["none"])),
            (
                "mx.example.net/ABC;\r\n\tspf=pass smtp.mailfrom=a; DKIM/1 = fail (why; because)",
                "mx.example.net/ABC",
                Some(vec!["spf", "dkim"]),
            ),
            (
                "(c;) \"mx.example.net\" ; dkim=pass reason=\"a;b\"",
                "mx.example.net",
                Some(vec!["dkim"]),
            ),
            ("mx.example.net;", "mx.example.net", Some(vec![])),
            ("mx.example.net; nonsense", "mx.example.net", None),
            ("mx.example.net", "mx.example.net", Some(vec![])),
        ] {
            let results = Results::parse(value.as_bytes()).unwrap();
            assert_eq!(results.authserv_id, name, "{value}");
            let methods =
                methods.map(|list| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(results.methods, methods, "{value}");
        }
        for value in ["", " ", "(only", "\"open", ";"] {
            assert_eq!(Results::parse(value.as_bytes()), None, "{value}");
        }
        let results = Results::parse(b"MX.example.net./1; dkim=pass").unwrap();
        assert!(results.is_from("mx.Example.net") && !results.is_from("example.net"));
    }

    #[test]
    fn items_share_the_first_line_while_they_fit() {
        let item = "dkim=none".to_owned();
        assert_eq!(
            write("mx.example.net", &[item.clone(), "dkim-atps=neutral".to_owned()]),
            "mx.example.net; dkim=none; dkim-atps=neutral"
        );
        let long = format!("dkim=pass {}", "x".repeat(60));
        assert_eq!(
            write("mx.example.net", &[long.clone(), item]),
            format!("mx.example.net;\n\t{long};\n\tdkim=none")
        );
    }
}
