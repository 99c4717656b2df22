//! The text of a table file as logical lines (postmap(1), "TABLE FORMAT").
//!
//! A line that starts with white space continues the one before it, with its blanks. Empty lines and
//! comments do not end a logical line.

use std::fmt;

/// One logical line and where it began.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub number: usize,
    pub text: String,
}

/// What reading a file found, in Postfix's words, without the file's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub line: usize,
    pub text: String,
    /// The line was skipped. A note that is not an error only tells (a duplicate, for example).
    pub skipped: bool,
}

impl Note {
    pub fn skipped(line: usize, text: impl Into<String>) -> Self {
        Self { line, text: text.into(), skipped: true }
    }

    pub fn remark(line: usize, text: impl Into<String>) -> Self {
        Self { line, text: text.into(), skipped: false }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

/// The logical lines of `bytes`. A line that is not UTF-8 is skipped, as postmap does.
pub fn lines(bytes: &[u8], notes: &mut Vec<Note>) -> Vec<Line> {
    let mut found: Vec<Line> = Vec::new();
    let mut skipping = false;
    for (index, physical) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        let continues = physical.first().is_some_and(u8::is_ascii_whitespace);
        match physical.iter().find(|byte| !byte.is_ascii_whitespace()) {
            None | Some(b'#') => continue,
            Some(_) => {}
        }
        let Ok(text) = std::str::from_utf8(physical) else {
            notes.push(Note::skipped(number, "non-UTF-8 input; skipping this entry"));
            if continues && !skipping {
                found.pop();
            }
            skipping = true;
            continue;
        };
        if !continues {
            skipping = false;
            found.push(Line { number, text: text.to_owned() });
        } else if skipping {
        } else if let Some(last) = found.last_mut() {
            last.text.push_str(text);
        } else {
            notes.push(Note::skipped(number, "logical line must not start with whitespace"));
        }
    }
    found
}

/// Splits `key value` at the first white space, outside of a key in double quotes.
pub fn key_and_value(line: &str) -> (&str, &str) {
    let mut quoted = false;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if !quoted && c.is_ascii_whitespace() => {
                return (&line[..at], line[at..].trim_ascii());
            }
            _ => {}
        }
    }
    (line, "")
}

#[cfg(test)]
mod tests {
    use super::{key_and_value, lines};

    #[test]
    fn continued_lines_keep_their_blanks_and_comments_do_not_end_them() {
        let mut notes = Vec::new();
        let found =
            lines(b" lost\nk v  \n# note\n\n   cont\nnext x\n\xff y\n  z\nlast 1", &mut notes);
        let found: Vec<_> = found.iter().map(|line| (line.number, line.text.as_str())).collect();
        assert_eq!(found, [(2, "k v     cont"), (6, "next x"), (9, "last 1")]);
        let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
        insta::assert_debug_snapshot!(notes, @r#"
        [
            "line 1: logical line must not start with whitespace",
            "line 7: non-UTF-8 input; skipping this entry",
        ]
        "#);
    }

    #[test]
    fn a_quoted_key_keeps_its_blanks_and_quotes() {
        assert_eq!(key_and_value("\"a b\"@x  q val "), ("\"a b\"@x", "q val"));
        assert_eq!(key_and_value("a\tb"), ("a", "b"));
        assert_eq!(key_and_value("alone"), ("alone", ""));
    }
}
