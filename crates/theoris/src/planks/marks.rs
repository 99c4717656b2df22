//! The marks in master.cf: `#theoris: ` before every physical line of an entry that we serve. A comment for Postfix,
//! live for us, and taken away again without a trace.
//!
//! Every line of an entry gets the mark: a continuation line that kept none would attach to the entry above.

pub use config::postfix::ADOPTED;
use serde::{Deserialize, Serialize};

/// An entry's identity, as Postfix has it: `smtp`, `unix`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    pub name: String,
    pub kind: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.name, self.kind)
    }
}

/// An entry of master.cf with the physical lines that make it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    /// The eighth field: `smtp`, `smtpd`, `pipe`, …
    pub command: String,
    pub marked: bool,
    /// Counted from 0; comments between its lines are not among them.
    pub lines: Vec<usize>,
}

/// The entries, marked and live ones.
pub fn entries(text: &[u8]) -> Vec<Entry> {
    let mut found: Vec<(Vec<u8>, bool, Vec<usize>)> = Vec::new();
    for (index, raw) in lines(text).enumerate() {
        let (raw, marked) = match raw.strip_prefix(ADOPTED.as_bytes()) {
            Some(live) => (live, true),
            None => (raw, false),
        };
        let start = raw.trim_ascii_start();
        if start.is_empty() || start.starts_with(b"#") {
            continue;
        }
        match found.last_mut() {
            Some((line, of_marked, indices)) if start.len() < raw.len() => {
                // A live continuation belongs to the live entry above, as Postfix sees the file.
                if marked == *of_marked {
                    line.extend_from_slice(raw);
                    indices.push(index);
                }
            }
            None if start.len() < raw.len() => {}
            _ => found.push((raw.to_vec(), marked, vec![index])),
        }
    }
    found.into_iter().filter_map(|(line, marked, lines)| entry(&line, marked, lines)).collect()
}

fn entry(line: &[u8], marked: bool, lines: Vec<usize>) -> Option<Entry> {
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_ascii_whitespace();
    let key = Key { name: words.next()?.to_owned(), kind: words.next()?.to_owned() };
    let command = words.nth(5)?.to_owned();
    Some(Entry { key, command, marked, lines })
}

/// Puts the mark before the lines of the live entries that are named. Nothing else changes.
pub fn mark(text: &[u8], keys: &[Key]) -> Vec<u8> {
    change(
        text,
        |entry| !entry.marked && keys.contains(&entry.key),
        |line, out| {
            out.extend_from_slice(ADOPTED.as_bytes());
            out.extend_from_slice(line);
        },
    )
}

/// Takes the mark from the lines of the entries that are named. Nothing else changes.
pub fn unmark(text: &[u8], keys: &[Key]) -> Vec<u8> {
    change(
        text,
        |entry| entry.marked && keys.contains(&entry.key),
        |line, out| {
            out.extend_from_slice(line.strip_prefix(ADOPTED.as_bytes()).unwrap_or(line));
        },
    )
}

fn change(
    text: &[u8],
    chosen: impl Fn(&Entry) -> bool,
    write: impl Fn(&[u8], &mut Vec<u8>),
) -> Vec<u8> {
    let touched: std::collections::BTreeSet<usize> =
        entries(text).into_iter().filter(chosen).flat_map(|entry| entry.lines).collect();
    let mut out = Vec::with_capacity(text.len() + touched.len() * ADOPTED.len());
    for (index, line) in lines(text).enumerate() {
        if touched.contains(&index) {
            write(line, &mut out);
        } else {
            out.extend_from_slice(line);
        }
    }
    out
}

/// Physical lines with their ends.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(name: &str, kind: &str) -> Key {
        Key { name: name.into(), kind: kind.into() }
    }

    const MASTER: &str = "# head\nsmtp inet n - y - - smtpd\nsubmission inet n - y - - smtpd\n  -o syslog_name=postfix/submission\n#  -o smtpd_sasl_auth_enable=no\n\n\t-o smtpd_tls_security_level=encrypt\nsmtp unix - - y - - smtp\nslow\n   unix - - y\n - 2 smtp -o x=y\n";

    #[test]
    fn every_physical_line_of_an_entry_is_marked_and_comments_are_not() {
        let marked = mark(MASTER.as_bytes(), &[key("submission", "inet"), key("slow", "unix")]);
        insta::assert_snapshot!(String::from_utf8_lossy(&marked), @r"
        # head
        smtp inet n - y - - smtpd
        #theoris: submission inet n - y - - smtpd
        #theoris:   -o syslog_name=postfix/submission
        #  -o smtpd_sasl_auth_enable=no

        #theoris: 	-o smtpd_tls_security_level=encrypt
        smtp unix - - y - - smtp
        #theoris: slow
        #theoris:    unix - - y
        #theoris:  - 2 smtp -o x=y
        ");
        assert_eq!(entries(&marked).iter().filter(|entry| entry.marked).count(), 2);
    }

    #[test]
    fn what_we_mark_is_live_for_our_daemons_with_all_its_lines() {
        let marked = mark(MASTER.as_bytes(), &[key("submission", "inet")]);
        let files = config::files::Memory::with([
            ("/p/main.cf", &b"compatibility_level = 3.6\n"[..]),
            ("/p/master.cf", &marked),
        ]);
        let mut problems = config::Problems::default();
        let host = config::postfix::Host::read(&files, "/p".as_ref(), &mut problems);
        let service = host.services().find(|service| service.adopted).unwrap();
        assert_eq!((service.name.as_str(), service.overrides.len()), ("submission", 2));
    }

    #[test]
    fn a_second_live_entry_does_not_hide_behind_the_marked_one() {
        let marked = mark(MASTER.as_bytes(), &[key("smtp", "unix")]);
        let text = [&marked[..], b"smtp unix - - y - - smtp\n"].concat();
        let named: Vec<_> =
            entries(&text).into_iter().filter(|entry| entry.key == key("smtp", "unix")).collect();
        assert_eq!(named.iter().map(|entry| entry.marked).collect::<Vec<_>>(), [true, false]);
        assert_eq!(unmark(&text, &[key("smtp", "unix")]).len(), text.len() - ADOPTED.len());
    }

    /// Lines as people and machines write them, ends included.
    fn line() -> impl Strategy<Value = String> {
        let name = proptest::sample::select(vec!["smtp", "relay", "[::1]:25", "a"]);
        let kind = proptest::sample::select(vec!["unix", "inet"]);
        let end = proptest::sample::select(vec!["\n", "\r\n"]);
        let body = prop_oneof![
            4 => (name, kind).prop_map(|(name, kind)| format!("{name} {kind} - - y - - smtp")),
            3 => "[ \t]{1,3}-o [a-z]{1,4}=[ -~]{0,5}",
            1 => "#[ -~]{0,9}",
            1 => "[ \t]{0,3}",
            1 => "\\PC{0,12}",
        ];
        (body, end).prop_map(|(body, end)| body + end)
    }

    proptest! {
        #[test]
        fn mark_then_unmark_gives_the_very_same_bytes(
            lines in proptest::collection::vec(line(), 0..20),
            cut in any::<bool>(),
            chosen in proptest::sample::subsequence(
                vec![key("smtp", "unix"), key("relay", "unix"), key("a", "inet"), key("[::1]:25", "inet")], 0..=4,
            ),
        ) {
            let mut text = lines.concat().into_bytes();
            if cut {
                text.pop();
            }
            prop_assume!(!String::from_utf8_lossy(&text).contains(ADOPTED));
            let marked = mark(&text, &chosen);
            prop_assert_eq!(&unmark(&marked, &chosen), &text);
            // Only the lines of the chosen entries differ, each by the mark alone.
            let touched: Vec<usize> = entries(&text)
                .into_iter()
                .filter(|entry| chosen.contains(&entry.key))
                .flat_map(|entry| entry.lines)
                .collect();
            for (index, (before, after)) in super::lines(&text).zip(super::lines(&marked)).enumerate() {
                let expected = if touched.contains(&index) {
                    [ADOPTED.as_bytes(), before].concat()
                } else {
                    before.to_vec()
                };
                prop_assert_eq!(after, &expected[..]);
            }
            // Postfix sees none of the chosen ones any more, and all the others as they were.
            let live = |text: &[u8]| -> Vec<(Key, String)> {
                let live = entries(text).into_iter().filter(|entry| !entry.marked);
                live.map(|entry| (entry.key, entry.command)).collect()
            };
            let mut expected = live(&text);
            expected.retain(|(key, _)| !chosen.contains(key));
            prop_assert_eq!(live(&marked), expected);
        }

        #[test]
        fn any_bytes_come_back(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assume!(!text.windows(ADOPTED.len()).any(|window| window == ADOPTED.as_bytes()));
            let keys: Vec<Key> = entries(&text).into_iter().map(|entry| entry.key).collect();
            prop_assert_eq!(unmark(&mark(&text, &keys), &keys), text);
        }
    }
}
