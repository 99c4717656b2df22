//! Address lists (RFC 5322 section 3.4), as Dovecot shows them in ENVELOPE: also the broken ones.

use mail_types::mime::Address;

use crate::parameters::Scanner;

/// More addresses than this in one field are not shown.
const MOST: usize = 10_000;

/// Reads the addresses of a field's value, unfolded or not.
#[must_use]
pub fn parse(value: &[u8]) -> Vec<Address> {
    let mut scanner = Scanner::new(value);
    let mut list = Vec::new();
    let mut in_group = false;
    while list.len() < MOST {
        scanner.skip_blank();
        match scanner.peek() {
            None => break,
            Some(b',') => {
                // Nothing before a comma: an address of which everything is missing.
                scanner.skip();
                list.push(missing());
            }
            Some(b';') => {
                scanner.skip();
                if !std::mem::take(&mut in_group) {
                    return list;
                }
                list.push(Address::default());
                scanner.skip_blank();
                scanner.take(b',');
            }
            Some(_) => match read(&mut scanner) {
                Read::Address(address) => {
                    list.push(address);
                    scanner.skip_blank();
                    scanner.take(b',');
                }
                // What follows a broken address is not believed.
                Read::Broken(address) => {
                    list.push(address);
                    return list;
                }
                Read::Group(name) => {
                    in_group = true;
                    list.push(Address { mailbox: Some(name), ..Address::default() });
                }
            },
        }
    }
    if in_group {
        list.push(Address::default());
    }
    list
}

enum Read {
    Address(Address),
    Broken(Address),
    Group(Vec<u8>),
}

/// One address, or the beginning of a group.
fn read(scanner: &mut Scanner<'_>) -> Read {
    let mut comment = None;
    let mut words = Words::default();
    loop {
        comment = scanner.skip_blank().or(comment);
        match scanner.peek() {
            Some(b'"') => match scanner.closed_quoted() {
                Some(word) => words.push(&word),
                None => return Read::Broken(missing()),
            },
            Some(b'<') => {
                let mut address = angle(scanner);
                address.name = words.phrase();
                // A comment after the address is its name only where no phrase is.
                let trailing = scanner.skip_blank();
                if address.name.is_none() {
                    address.name = trailing.or(comment).filter(|name| !name.is_empty());
                }
                return ended(scanner, address);
            }
            Some(b'@') => {
                scanner.skip();
                let host = domain(scanner);
                let trailing = scanner.skip_blank();
                let address = Address {
                    name: trailing.or(comment).filter(|name| !name.is_empty()),
                    route: None,
                    mailbox: Some(words.local_part().unwrap_or_else(missing_mailbox)),
                    host: Some(host.unwrap_or_else(missing_domain)),
                };
                return ended(scanner, address);
            }
            Some(b':') => {
                scanner.skip();
                return Read::Group(words.phrase().unwrap_or_default());
            }
            Some(b',' | b';') | None => {
                return Read::Address(words.alone(comment));
            }
            Some(_) => {
                let word = scanner.run(is_word);
                if word.is_empty() {
                    scanner.skip();
                } else {
                    words.push(word);
                }
            }
        }
    }
}

/// `<@route:local@host>`.
fn angle(scanner: &mut Scanner<'_>) -> Address {
    scanner.skip();
    scanner.skip_blank();
    let mut route = None;
    if scanner.peek() == Some(b'@') {
        route = Some(read_route(scanner));
    }
    let mut words = Words::default();
    let mut host = None;
    let mut empty = true;
    loop {
        scanner.skip_blank();
        match scanner.peek() {
            Some(b'>') => {
                scanner.skip();
                break;
            }
            Some(b'"') => words.push(&scanner.quoted()),
            Some(b'@') => {
                scanner.skip();
                empty = false;
                host = domain(scanner).or(host);
            }
            Some(b',' | b';') | None => {
                host = Some(b"SYNTAX_ERROR".to_vec());
                break;
            }
            Some(_) => {
                let word = scanner.run(is_word);
                if word.is_empty() {
                    scanner.skip();
                } else {
                    words.push(word);
                }
            }
        }
    }
    let mailbox = words.local_part();
    empty &= mailbox.is_none();
    if empty {
        // `<>`: nothing is missing, it is the null address.
        return Address {
            name: None,
            route,
            mailbox: Some(missing_mailbox()),
            host: Some(missing_domain()),
        };
    }
    Address {
        name: None,
        route,
        mailbox: Some(mailbox.unwrap_or_else(missing_mailbox)),
        host: Some(host.unwrap_or_else(missing_domain)),
    }
}

/// `@a,@b:` without its colon.
fn read_route(scanner: &mut Scanner<'_>) -> Vec<u8> {
    let mut route = Vec::new();
    loop {
        scanner.skip_blank();
        match scanner.peek() {
            Some(b'@') => {
                scanner.skip();
                if !route.is_empty() {
                    route.push(b',');
                }
                route.push(b'@');
                route.extend(domain(scanner).unwrap_or_default());
            }
            Some(b',') => scanner.skip(),
            Some(b':') => {
                scanner.skip();
                return route;
            }
            _ => return route,
        }
    }
}

/// A domain: atoms with dots, or a literal in brackets.
fn domain(scanner: &mut Scanner<'_>) -> Option<Vec<u8>> {
    scanner.skip_blank();
    let mut out = Vec::new();
    if scanner.take(b'[') {
        out.push(b'[');
        out.extend_from_slice(scanner.run(|octet| octet != b']' && octet > b' '));
        if scanner.take(b']') {
            out.push(b']');
        }
    } else {
        out.extend_from_slice(scanner.run(is_word));
    }
    (!out.is_empty()).then_some(out)
}

fn is_end(scanner: &Scanner<'_>) -> bool {
    matches!(scanner.peek(), None | Some(b',' | b';'))
}

/// An address must be followed by a comma, the end of its group, or nothing.
fn ended(scanner: &mut Scanner<'_>, address: Address) -> Read {
    scanner.skip_blank();
    if is_end(scanner) { Read::Address(address) } else { Read::Broken(address) }
}

fn missing() -> Address {
    Address { mailbox: Some(missing_mailbox()), host: Some(missing_domain()), ..Address::default() }
}

fn is_word(octet: u8) -> bool {
    octet > b' ' && octet != 0x7f && !b"()<>@,;:\"[]".contains(&octet)
}

fn missing_mailbox() -> Vec<u8> {
    b"MISSING_MAILBOX".to_vec()
}

fn missing_domain() -> Vec<u8> {
    b"MISSING_DOMAIN".to_vec()
}

/// Words as they come before it is clear what they are.
#[derive(Debug, Default)]
struct Words(Vec<Vec<u8>>);

impl Words {
    fn push(&mut self, word: &[u8]) {
        self.0.push(word.to_vec());
    }

    fn phrase(&self) -> Option<Vec<u8>> {
        (!self.0.is_empty()).then(|| self.0.join(&b' ')).filter(|phrase| !phrase.is_empty())
    }

    /// Words without an address: one is a mailbox, several are a name.
    fn alone(&self, comment: Option<Vec<u8>>) -> Address {
        if self.0.len() > 1 {
            return Address { name: self.phrase(), ..missing() };
        }
        Address {
            name: comment.filter(|name| !name.is_empty()),
            mailbox: Some(self.phrase().unwrap_or_else(missing_mailbox)),
            ..missing()
        }
    }

    fn local_part(&self) -> Option<Vec<u8>> {
        let mut out: Vec<u8> = Vec::new();
        for word in &self.0 {
            // `a . b@c` is one local part; two words without a dot between them are not.
            if !out.is_empty() && !out.ends_with(b".") && !word.starts_with(b".") {
                out.push(b' ');
            }
            out.extend_from_slice(word);
        }
        (!out.is_empty()).then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(value: &str) -> String {
        let text = |octets: &Option<Vec<u8>>| {
            octets
                .as_ref()
                .map_or("NIL".to_owned(), |octets| format!("{:?}", String::from_utf8_lossy(octets)))
        };
        let shown = |address: &Address| {
            let Address { name, route, mailbox, host } = address;
            format!("({} {} {} {})", text(name), text(route), text(mailbox), text(host))
        };
        parse(value.as_bytes()).iter().map(shown).collect()
    }

    #[test]
    fn addresses_as_dovecot_shows_them() {
        for (value, expected) in [
            ("a@b.example", r#"(NIL NIL "a" "b.example")"#),
            ("A B <a@b>", r#"("A B" NIL "a" "b")"#),
            ("\"A, \\\"B\\\"\" <a@b>, c@d", r#"("A, \"B\"" NIL "a" "b")(NIL NIL "c" "d")"#),
            ("a@b (Comment Name)", r#"("Comment Name" NIL "a" "b")"#),
            ("=?utf-8?Q?J=C3=BC?= <j@x>", r#"("=?utf-8?Q?J=C3=BC?=" NIL "j" "x")"#),
            ("<@route.example,@two:a@b>", r#"(NIL "@route.example,@two" "a" "b")"#),
            (
                "Group: a@b, C <c@d>;",
                r#"(NIL NIL "Group" NIL)(NIL NIL "a" "b")("C" NIL "c" "d")(NIL NIL NIL NIL)"#,
            ),
            (
                "undisclosed-recipients:;",
                r#"(NIL NIL "undisclosed-recipients" NIL)(NIL NIL NIL NIL)"#,
            ),
            ("root", r#"(NIL NIL "root" "MISSING_DOMAIN")"#),
            ("<root>", r#"(NIL NIL "root" "MISSING_DOMAIN")"#),
            ("@x", r#"(NIL NIL "MISSING_MAILBOX" "x")"#),
            ("\"quoted local\"@x", r#"(NIL NIL "quoted local" "x")"#),
            ("a@[192.0.2.1]", r#"(NIL NIL "a" "[192.0.2.1]")"#),
            (
                ", ,",
                r#"(NIL NIL "MISSING_MAILBOX" "MISSING_DOMAIN")(NIL NIL "MISSING_MAILBOX" "MISSING_DOMAIN")"#,
            ),
            ("A B", r#"("A B" NIL "MISSING_MAILBOX" "MISSING_DOMAIN")"#),
            ("a@b c@d", r#"(NIL NIL "a" "b")"#),
            ("<a@b", r#"(NIL NIL "a" "SYNTAX_ERROR")"#),
            ("a@b; c@d", r#"(NIL NIL "a" "b")"#),
            ("a@b,", r#"(NIL NIL "a" "b")"#),
            ("", ""),
        ] {
            assert_eq!(shown(value), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn anything_can_be_an_address(value in "[a@<>,;:\"()\\\\\\[\\]. ]{0,30}") {
            prop_assert!(parse(value.as_bytes()).len() <= 31);
        }
    }
}
