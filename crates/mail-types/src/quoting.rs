//! Addresses inside (`a b@c`) and outside (`"a b"@c`): RFC 5322 quoting of the local part, as Postfix does it.

/// The external form: the local part in quotes if it is not a dot-atom. 8-bit text needs no quotes.
/// The empty local part becomes `""`.
#[must_use]
pub fn quote_822(internal: &str) -> String {
    let (local, domain) = match internal.rsplit_once('@') {
        Some((local, domain)) => (local, Some(domain)),
        None => (internal, None),
    };
    let mut external = String::with_capacity(internal.len() + 2);
    if is_dot_atom(local) {
        external.push_str(local);
    } else {
        external.push('"');
        for c in local.chars() {
            if matches!(c, '"' | '\\' | '\r') {
                external.push('\\');
            }
            external.push(c);
        }
        external.push('"');
    }
    if let Some(domain) = domain {
        external.push('@');
        external.push_str(domain);
    }
    external
}

/// The internal form: quotes and backslashes of quoted strings taken away.
#[must_use]
pub fn unquote_822(external: &str) -> String {
    let mut internal = String::with_capacity(external.len());
    let mut chars = external.chars();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' => internal.extend(chars.next()),
            '@' if !quoted => {
                internal.push('@');
                internal.extend(chars.by_ref());
            }
            _ => internal.push(c),
        }
    }
    internal
}

fn is_dot_atom(local: &str) -> bool {
    const SPECIALS: &str = "()<>@,;:\\\".[]";
    !local.is_empty()
        && local.split('.').all(|atom| {
            !atom.is_empty()
                && atom
                    .chars()
                    .all(|c| !c.is_ascii() || (c.is_ascii_graphic() && !SPECIALS.contains(c)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_and_back() {
        for (internal, external) in [
            ("user@dom", "user@dom"),
            ("first.last@dom", "first.last@dom"),
            ("first last@dom", "\"first last\"@dom"),
            (".dot@dom", "\".dot\"@dom"),
            ("dot.@dom", "\"dot.\"@dom"),
            ("a\"b@dom", "\"a\\\"b\"@dom"),
            ("a@b@dom", "\"a@b\"@dom"),
            ("jörg@dom", "jörg@dom"),
            ("bare", "bare"),
            ("", "\"\""),
        ] {
            assert_eq!(quote_822(internal), external);
            assert_eq!(unquote_822(external), internal);
        }
    }
}
