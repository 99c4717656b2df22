//! The author of a message: the first address of a header field, in all the forms that mail programs write.

/// An address; the domain in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    pub user: String,
    pub domain: String,
}

/// Reads the first address that has a domain. `None` if there is none before a `<…>` without one.
pub fn parse(value: &[u8]) -> Option<Author> {
    let text = String::from_utf8_lossy(value);
    let (mut address, mut in_brackets, mut depth) = (String::new(), false, 0_usize);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            '\\' if depth > 0 => drop(characters.next()),
            _ if depth > 0 => {}
            '"' => quoted(&mut characters, &mut address),
            '<' if !in_brackets => {
                in_brackets = true;
                address.clear();
            }
            '>' if in_brackets => break,
            // the end of a source route, or of a group's name
            ':' => address.clear(),
            ',' | ';' if in_brackets => {}
            ',' | ';' if address.contains('@') => break,
            ',' | ';' => address.clear(),
            character if character.is_whitespace() => {}
            character => address.push(character),
        }
    }
    let (user, domain) = address.rsplit_once('@')?;
    (!user.is_empty() && !domain.is_empty())
        .then(|| Author { user: user.to_owned(), domain: domain.to_ascii_lowercase() })
}

/// A quoted string is taken without its quotes' meaning for what stands in it.
fn quoted(characters: &mut std::str::Chars<'_>, into: &mut String) {
    into.push('"');
    while let Some(character) = characters.next() {
        into.push(character);
        match character {
            '\\' => into.extend(characters.next()),
            '"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authors_are_found_in_every_form() {
        for (value, expected) in [
            (" alice@Example.COM", Some("alice@example.com")),
            (" Alice <alice@example.com>", Some("alice@example.com")),
            (" \"Doe, Alice <x@y>\" <alice@example.com>", Some("alice@example.com")),
            (" alice@example.com (Alice <x@y>), bob@example.org", Some("alice@example.com")),
            (" alice\r\n\t@ example.com", Some("alice@example.com")),
            (" Staff: alice@example.com, bob@example.org;", Some("alice@example.com")),
            (" <@relay.example,@b.example:alice@example.com>", Some("alice@example.com")),
            (" \"a b\"@example.com", Some("\"a b\"@example.com")),
            (" nobody", None),
            (" <>", None),
            (" @example.com", None),
            (" alice@", None),
            ("", None),
            (" (open alice@example.com", None),
        ] {
            let found = parse(value.as_bytes()).map(|one| format!("{}@{}", one.user, one.domain));
            assert_eq!(found.as_deref(), expected, "{value}");
        }
    }
}
