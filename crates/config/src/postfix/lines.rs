//! Logical lines of main.cf and master.cf: comments dropped, continuations joined, each part with its place.

use std::path::Path;

use crate::text::Sourced;
use crate::{Place, Problems};

/// A longer logical line is refused.
const LONGEST_LINE: usize = 1 << 20;

/// The logical lines of a file. A line that starts with white space continues the one before, also
/// across comments and empty lines; the white space stays part of the text, as in Postfix.
pub fn logical_lines(path: &Path, content: &[u8], problems: &mut Problems) -> Vec<Sourced> {
    let file = Place::file(path);
    let mut lines: Vec<Sourced> = Vec::new();
    // Whether a line that starts with blanks has something to continue.
    let mut open = false;
    for (index, raw) in content.split(|&byte| byte == b'\n').enumerate() {
        let at = file.at_line(index + 1);
        let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
        let start = raw.trim_ascii_start();
        if start.is_empty() || start[0] == b'#' {
            continue;
        }
        let continues = start.len() < raw.len();
        if continues && !open {
            problems
                .warning(
                    at.clone(),
                    "a line that starts with a blank continues nothing, and is ignored",
                )
                .instead("begin the line in its first column");
            continue;
        }
        if let Some(byte) = raw.iter().find(|byte| **byte == 0) {
            problems
                .error(at.clone(), format!("a byte {byte:#04x} in the line"))
                .instead("write plain text");
            open = false;
            continue;
        }
        let text = String::from_utf8_lossy(raw);
        if matches!(text, std::borrow::Cow::Owned(_)) {
            problems
                .warning(at.clone(), "text that is not UTF-8")
                .instead("save the file as UTF-8");
        }
        match lines.last_mut() {
            Some(line) if continues && line.len() + text.len() > LONGEST_LINE => {
                too_long(&at, problems)
            }
            Some(line) if continues => line.push(&text, Some(&at)),
            _ if text.len() > LONGEST_LINE => {
                too_long(&at, problems);
                open = false;
                continue;
            }
            _ => lines.push(Sourced::new(text, &at)),
        }
        open = true;
    }
    lines
}

fn too_long(at: &Place, problems: &mut Problems) {
    problems
        .error(at.clone(), format!("a line of more than {} KiB", LONGEST_LINE >> 10))
        .instead("put long lists into a table");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> (Vec<String>, String) {
        let mut problems = Problems::default();
        let lines = logical_lines("main.cf".as_ref(), content, &mut problems);
        (
            lines.iter().map(|line| format!("{}|{line}", line.place().unwrap().line)).collect(),
            problems.to_string(),
        )
    }

    #[test]
    fn continuations_go_through_comments_and_empty_lines() {
        for (content, lines) in [
            ("a = 1\nb = 2\n", &["1|a = 1", "2|b = 2"][..]),
            ("a = 1\n# c\n\n  # d\n  2\nb = 3", &["1|a = 1  2", "6|b = 3"]),
            ("a =\r\n\tx\r\n", &["1|a =\tx"]),
            ("# only\n\n   \n", &[]),
            ("a = 1", &["1|a = 1"]),
        ] {
            assert_eq!(read(content.as_bytes()).0, lines, "{content:?}");
        }
    }

    #[test]
    fn bad_lines_are_told_and_left_out() {
        insta::assert_snapshot!(read(b"  lost\na\0b = 1\n  more\nc = \xff\n").1, @r"
        main.cf:1: warning: a line that starts with a blank continues nothing, and is ignored; begin the line in its first column
        main.cf:2: a byte 0x00 in the line; write plain text
        main.cf:3: warning: a line that starts with a blank continues nothing, and is ignored; begin the line in its first column
        main.cf:4: warning: text that is not UTF-8; save the file as UTF-8
        ");
        let mut long = b"a = ".to_vec();
        long.resize(10 << 20, b'x');
        long.extend(b"\nb = 1\n");
        let (lines, problems) = read(&long);
        assert_eq!(lines, ["2|b = 1"]);
        assert_eq!(
            problems,
            "main.cf:1: a line of more than 1024 KiB; put long lists into a table\n"
        );
    }
}
