//! alias(5) files: `name: target, target…`, and what a target can be.

use crate::fixed::{Fixed, insert};
use crate::source::{Note, lines};

/// Reads the source of `newaliases` and `postalias`.
pub(crate) fn parse(bytes: &[u8]) -> (Fixed, Vec<Note>) {
    let mut notes = Vec::new();
    let mut table = Fixed::new();
    for line in lines(bytes, &mut notes) {
        match name_and_targets(&line.text) {
            Some((name, targets)) => {
                insert(&mut table, &name, &targets, line.number, &mut notes);
            }
            None => notes.push(Note::skipped(line.number, "need name:value pair")),
        }
    }
    (table, notes)
}

fn name_and_targets(line: &str) -> Option<(String, String)> {
    let colon = outside_quotes(line).find(|&(_, c)| c == ':')?.0;
    let (name, targets) = (unquoted(&line[..colon]), without_backslashes(&line[colon + 1..]));
    (!name.is_empty() && !targets.is_empty()).then_some((name, targets))
}

/// `\user` is `user` to Postfix: an alias that finds itself stops anyway. Quoted text is left alone.
fn without_backslashes(targets: &str) -> String {
    let mut kept = String::new();
    let (mut quoted, mut escaped) = (false, false);
    for c in targets.trim().chars() {
        let literal = std::mem::take(&mut escaped);
        match c {
            '\\' if !literal => {
                escaped = true;
                if !quoted {
                    continue;
                }
            }
            '"' if !literal => quoted = !quoted,
            _ => {}
        }
        kept.push(c);
    }
    kept
}

/// One right-hand side of an alias or one entry of a .forward file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `user`, `user@example.com`, and `\user`, which is the same as `user`.
    Address(String),
    /// `|command` with its arguments, for the shell.
    Command(String),
    /// `/path`, an mbox, or a Maildir when it ends with a slash.
    File(String),
    /// `:include:/path`
    Include(String),
}

impl Target {
    /// The targets of one value, in its order.
    #[must_use]
    pub fn parse_list(value: &str) -> Vec<Self> {
        let mut targets = Vec::new();
        let mut start = 0;
        for (at, _) in outside_quotes(value).filter(|&(_, c)| c == ',' || c == '\n') {
            targets.extend(Self::parse(&value[start..at]));
            start = at + 1;
        }
        targets.extend(Self::parse(&value[start..]));
        targets
    }

    fn parse(item: &str) -> Option<Self> {
        let item = item.trim();
        if let Some(path) = strip_prefix_ignore_case(item, ":include:") {
            return Some(Self::Include(unquoted(path)));
        }
        let address = angle_address(item).unwrap_or(item);
        // An address keeps the quotes of its local part; a command or file sheds them.
        let plain = unquoted(address);
        match plain.chars().next()? {
            '|' => Some(Self::Command(plain[1..].trim().to_owned())),
            '/' => Some(Self::File(plain)),
            _ if strip_prefix_ignore_case(&plain, ":include:").is_some() => {
                Some(Self::Include(plain[":include:".len()..].to_owned()))
            }
            _ => Some(Self::Address(without_backslashes(without_comments(address).trim()))),
        }
    }
}

fn strip_prefix_ignore_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let start = text.get(..prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

/// The address of `Some One <user@example.com>`.
fn angle_address(item: &str) -> Option<&str> {
    let open = outside_quotes(item).find(|&(_, c)| c == '<')?.0;
    let rest = &item[open + 1..];
    let close = outside_quotes(rest).find(|&(_, c)| c == '>')?.0;
    Some(&rest[..close])
}

/// The characters that stand outside of `"…"` and `(…)`.
fn outside_quotes(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quoted, mut comment, mut escaped) = (false, 0_usize, false);
    text.char_indices().filter(move |&(_, c)| {
        if std::mem::take(&mut escaped) {
            return !quoted && comment == 0;
        }
        match c {
            '\\' => escaped = true,
            '"' if comment == 0 => {
                quoted = !quoted;
                return false;
            }
            '(' if !quoted => comment += 1,
            ')' if !quoted && comment > 0 => {
                comment -= 1;
                return false;
            }
            _ => {}
        }
        !quoted && comment == 0
    })
}

/// Without quotes and comments, as the delivery agent sees the text.
fn unquoted(text: &str) -> String {
    let mut plain = String::new();
    let (mut quoted, mut comment) = (false, 0_usize);
    let mut chars = text.trim().chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => plain.extend(chars.next()),
            '"' if comment == 0 => quoted = !quoted,
            '(' if !quoted => comment += 1,
            ')' if !quoted && comment > 0 => comment -= 1,
            c if comment == 0 => plain.push(c),
            _ => {}
        }
    }
    plain.trim().to_owned()
}

fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    let (mut quoted, mut comment, mut escaped) = (false, 0_usize, false);
    for c in text.chars() {
        let literal = std::mem::take(&mut escaped);
        match c {
            '\\' if !literal => escaped = true,
            '"' if !literal && comment == 0 => quoted = !quoted,
            '(' if !literal && !quoted => {
                comment += 1;
                continue;
            }
            ')' if !literal && !quoted && comment > 0 => {
                comment -= 1;
                continue;
            }
            _ => {}
        }
        if comment == 0 {
            kept.push(c);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::{Target, parse};

    /// Values of `postalias -s` (Postfix 3.7.11) for the same text.
    #[test]
    fn alias_files_read_as_postalias_reads_them() {
        let text = "a: b, c\n\"q N\": |\"cmd x\", /file, :include:/x\nMulti:\n  one,\n  two # hm\n\
                    x : (comment) y@z\nbad\n  \na: dup\nempty:\nu: \"|cmd y\", <v@w>, Foo Bar <g@h>\n";
        let (table, notes) = parse(text.as_bytes());
        assert_eq!(table["q n"], "|\"cmd x\", /file, :include:/x");
        assert_eq!((table["a"].as_str(), table["x"].as_str()), ("b, c", "(comment) y@z"));
        assert_eq!(table["multi"], "one,  two # hm");
        let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
        insta::assert_debug_snapshot!(notes, @r#"
        [
            "line 7: need name:value pair",
            "line 9: duplicate entry: \"a\"",
            "line 10: need name:value pair",
        ]
        "#);
    }

    #[test]
    fn targets_are_told_apart() {
        let value =
            r#"|"cmd x, y", "|cmd z", /file, "/a b/", :include:/x, Foo (c) <g@h>, \root, "a b"@c"#;
        insta::assert_debug_snapshot!(Target::parse_list(value), @r#"
        [
            Command(
                "cmd x, y",
            ),
            Command(
                "cmd z",
            ),
            File(
                "/file",
            ),
            File(
                "/a b/",
            ),
            Include(
                "/x",
            ),
            Address(
                "g@h",
            ),
            Address(
                "root",
            ),
            Address(
                "\"a b\"@c",
            ),
        ]
        "#);
    }
}
