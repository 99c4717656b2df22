//! The address inside a MAIL or RCPT argument.
//!
//! Postfix reads RFC 822 addresses here, with comments, phrases and white space, unless
//! `strict_rfc821_envelopes` is set. The result is the internal form: no quotes, no backslashes, no source
//! route, `user@domain` or a bare `user`; `mail_types::quote_822` makes the external form again.

/// The argument holds no address, or several, or (strictly) anything besides `<address>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("illegal address syntax")]
pub struct BadAddress;

enum Part {
    /// An atom, a quoted string or a domain literal, in internal form.
    Word(String),
    Operator(char),
    Comment,
}

/// Takes the address out of `argument` (`<a@b.example>` and what people write instead), in internal form.
/// The null address is the empty string.
///
/// # Errors
///
/// [`BadAddress`], which the client sees as 501 5.1.7 or 501 5.1.3.
pub fn extract(argument: &str, strict: bool) -> Result<String, BadAddress> {
    let inner =
        argument.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(argument);
    let inner = match inner.strip_prefix('@').and_then(|_| inner.split_once(':')) {
        Some((_route, address)) => address, // RFC 5321 section 4.1.1.3: a source route is ignored
        None => inner,
    };
    let found = addresses(&parts(inner));
    if found.addresses.len() > 1 || (strict && (found.other || !argument.starts_with('<'))) {
        return Err(BadAddress);
    }
    let address = found.addresses.into_iter().next().unwrap_or_default();
    if strict && address.starts_with('@') {
        return Err(BadAddress);
    }
    Ok(address)
}

fn parts(text: &str) -> Vec<Part> {
    let mut rest = text.chars().peekable();
    let mut found = Vec::new();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => {}
            '(' => {
                skip_comment(&mut rest);
                found.push(Part::Comment);
            }
            '[' => found.push(Part::Word(format!("[{}]", until(&mut rest, ']')))),
            '"' => found.push(Part::Word(until(&mut rest, '"'))),
            _ if is_operator(c) => found.push(Part::Operator(c)),
            _ => {
                let mut atom = String::new();
                let mut next = Some(c);
                while let Some(c) = next.take() {
                    match c {
                        '\\' => atom.extend(rest.next()),
                        _ => atom.push(c),
                    }
                    next = rest.next_if(|&c| {
                        !is_operator(c) && !matches!(c, ' ' | '\t' | '\r' | '\n' | '"' | '(' | '[')
                    });
                }
                found.push(Part::Word(atom));
            }
        }
    }
    found
}

fn is_operator(c: char) -> bool {
    matches!(c, '|' | ')' | ',' | '.' | ':' | ';' | '<' | '>' | '@' | ']' | '%' | '!')
}

fn until(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, close: char) -> String {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        match c {
            '\\' => text.extend(rest.next()),
            _ if c == close => break,
            _ => text.push(c),
        }
    }
    text
}

fn skip_comment(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    let mut depth = 1_u32;
    while let Some(c) = rest.next() {
        match c {
            '\\' => drop(rest.next()),
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
            _ => {}
        }
    }
}

#[derive(Default)]
struct Found {
    addresses: Vec<String>,
    /// Comments, phrases, list punctuation: anything that is no address and no bracket.
    other: bool,
}

/// Groups the parts into addresses: a comma, or two words with nothing between them, separates; words in front
/// of a bracket are a display name.
fn addresses(parts: &[Part]) -> Found {
    let mut found = Found::default();
    let mut words = Vec::new(); // since the last separator: a display name if `<` follows
    let mut current = String::new();
    let mut after_word = false;
    let close = |current: &mut String, into: &mut Vec<String>| {
        if !current.is_empty() {
            into.push(std::mem::take(current));
        }
    };
    for part in parts {
        match part {
            Part::Comment => found.other = true,
            Part::Word(word) => {
                if after_word {
                    close(&mut current, &mut words);
                }
                current.push_str(word);
                after_word = true;
            }
            Part::Operator('<') => {
                close(&mut current, &mut words);
                found.other |= !words.is_empty();
                words.clear();
                after_word = false;
            }
            Part::Operator('>' | ',' | ';') => {
                found.other |= !matches!(part, Part::Operator('>'));
                close(&mut current, &mut words);
                found.addresses.append(&mut words);
                after_word = false;
            }
            Part::Operator(c) => {
                current.push(*c);
                after_word = false;
            }
        }
    }
    close(&mut current, &mut words);
    found.addresses.append(&mut words);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_where_people_put_them() {
        for (argument, lenient, strict) in [
            ("<a@b.example>", Ok("a@b.example"), Ok("a@b.example")),
            ("<>", Ok(""), Ok("")),
            ("<Postmaster>", Ok("Postmaster"), Ok("Postmaster")),
            ("a@b.example", Ok("a@b.example"), Err(BadAddress)),
            ("<@hop.example,@next.example:a@b.example>", Ok("a@b.example"), Ok("a@b.example")),
            ("<\"a b\"@c.example>", Ok("a b@c.example"), Ok("a b@c.example")),
            ("<\"a@b\"@c.example>", Ok("a@b@c.example"), Ok("a@b@c.example")),
            ("<a@[192.0.2.1]>", Ok("a@[192.0.2.1]"), Ok("a@[192.0.2.1]")),
            ("<a@[IPv6:2001:db8::1]>", Ok("a@[IPv6:2001:db8::1]"), Ok("a@[IPv6:2001:db8::1]")),
            ("<a (comment) @b.example>", Ok("a@b.example"), Err(BadAddress)),
            ("<a @ b.example>", Ok("a@b.example"), Ok("a@b.example")),
            ("<Name <a@b.example>>", Ok("a@b.example"), Err(BadAddress)),
            ("<<a@b.example>>", Ok("a@b.example"), Ok("a@b.example")),
            ("<a b@c.example>", Err(BadAddress), Err(BadAddress)),
            ("<a@b.example,c@d.example>", Err(BadAddress), Err(BadAddress)),
            ("<@b.example>", Ok("@b.example"), Err(BadAddress)),
            ("<a\\@b@c.example>", Ok("a@b@c.example"), Ok("a@b@c.example")),
        ] {
            assert_eq!(extract(argument, false), lenient.map(String::from), "{argument}");
            assert_eq!(extract(argument, true), strict.map(String::from), "{argument}");
        }
    }
}
