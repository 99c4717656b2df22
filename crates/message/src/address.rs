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
            Some(b',') => scanner.skip(),
            Some(b';') => {
                scanner.skip();
                if std::mem::take(&mut in_group) {
                    list.push(Address::default());
                }
            }
            Some(_) => match read(&mut scanner) {
                Read::Address(address) => list.push(address),
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
    Group(Vec<u8>),
}

/// One address, or the beginning of a group.
fn read(scanner: &mut Scanner<'_>) -> Read {
    let mut comment = None;
    let mut words = Words::default();
    loop {
        comment = scanner.skip_blank().or(comment);
        match scanner.peek() {
            Some(b'"') => words.push(&scanner.quoted()),
            Some(b'<') => {
                let mut address = angle(scanner);
                address.name = words.phrase();
                // A comment after the address is its name only where no phrase is.
                let trailing = scanner.skip_blank();
                if address.name.is_none() {
                    address.name = trailing.or(comment).filter(|name| !name.is_empty());
                }
                skip_rest(scanner);
                return Read::Address(address);
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
                skip_rest(scanner);
                return Read::Address(address);
            }
            Some(b':') => {
                scanner.skip();
                return Read::Group(words.phrase().unwrap_or_default());
            }
            Some(b',' | b';') | None => {
                return Read::Address(Address {
                    name: comment.filter(|name| !name.is_empty()),
                    route: None,
                    mailbox: Some(words.phrase().unwrap_or_else(missing_mailbox)),
                    host: Some(missing_domain()),
                });
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
            Some(b',' | b';') | None => break,
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

fn skip_rest(scanner: &mut Scanner<'_>) {
    loop {
        scanner.skip_blank();
        match scanner.peek() {
            Some(b',' | b';') | None => return,
            Some(b'"') => {
                scanner.quoted();
            }
            Some(_) => scanner.skip(),
        }
    }
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
            (", ,", ""),
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
