//! The lines of dovecot.conf: comments, continuations, quotes.

use crate::{Place, Problems};

/// A longer line is refused.
const LONGEST_LINE: usize = 1 << 20;

/// One logical line, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// `key = value`
    Setting {
        key: String,
        value: Written,
    },
    /// `kind name {`
    Open {
        kind: String,
        name: Option<String>,
    },
    /// `}`
    Close,
    Include {
        pattern: String,
        must_exist: bool,
    },
}

/// A value as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// Unquoted: `$name` is replaced.
    Plain(String),
    /// Quoted: taken literally.
    Quoted(String),
    /// `<path`
    File(String),
}

/// The logical lines of a file with their places.
pub fn lines(file: &Place, content: &[u8], problems: &mut Problems) -> Vec<(Place, Line)> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let mut lines = Vec::new();
    let mut joined: Option<(Place, String)> = None;
    for (index, raw) in content.split(|&byte| byte == b'\n').enumerate() {
        let at = file.at_line(index + 1);
        let Some(text) = plain_text(raw, &at, problems) else {
            joined = None;
            continue;
        };
        let text = without_comment(text.trim_ascii(), &at, problems);
        if text.is_empty() {
            if let Some((start, _)) = joined.take() {
                problems
                    .warning(start, "a line continued with \\ is cut by an empty or comment line, and lost as in Dovecot")
                    .instead("move the comment away");
            }
            continue;
        }
        let (start, mut line) = joined.take().unwrap_or((at.clone(), String::new()));
        if line.len() + text.len() > LONGEST_LINE {
            too_long(&start, problems);
            continue;
        }
        if let Some(text) = text.strip_suffix('\\') {
            line.push_str(text.trim_ascii_end());
            line.push(' ');
            joined = Some((start, line));
            continue;
        }
        line.push_str(text);
        match parse(&line) {
            Ok(parsed) => lines.push((start, parsed)),
            Err((what, instead)) => {
                problems.error(start, what).instead(instead);
            }
        }
    }
    if let Some((at, _)) = joined {
        problems
            .error(at, "the file ends inside a line continued with \\")
            .instead("remove the last backslash");
    }
    lines
}

fn plain_text(raw: &[u8], at: &Place, problems: &mut Problems) -> Option<String> {
    if raw.contains(&0) {
        problems.error(at.clone(), "a NUL byte in the line").instead("write plain text");
        return None;
    }
    if raw.len() > LONGEST_LINE {
        too_long(at, problems);
        return None;
    }
    match std::str::from_utf8(raw) {
        Ok(text) => Some(text.to_owned()),
        Err(_) => {
            problems
                .warning(at.clone(), "text that is not UTF-8")
                .instead("save the file as UTF-8");
            Some(String::from_utf8_lossy(raw).into_owned())
        }
    }
}

fn too_long(at: &Place, problems: &mut Problems) {
    problems
        .error(at.clone(), format!("a line of more than {} KiB", LONGEST_LINE >> 10))
        .instead("divide it");
}

/// Cuts off `# …` outside quotes.
fn without_comment<'t>(text: &'t str, at: &Place, problems: &mut Problems) -> &'t str {
    let bytes = text.as_bytes();
    let mut offset = 0;
    while offset < bytes.len() {
        match bytes[offset] {
            quote @ (b'"' | b'\'') => {
                offset += 1;
                while offset < bytes.len() && bytes[offset] != quote {
                    offset += if bytes[offset] == b'\\' { 2 } else { 1 };
                }
            }
            b'#' => {
                if offset > 0 && !bytes[offset - 1].is_ascii_whitespace() {
                    problems
                        .warning(at.clone(), "a # without a blank before it begins a comment")
                        .instead("put a blank before it, or quote the value");
                }
                return text[..offset].trim_ascii_end();
            }
            _ => {}
        }
        offset += 1;
    }
    text
}

type Fault = (String, &'static str);

fn parse(line: &str) -> Result<Line, Fault> {
    if line == "}" {
        return Ok(Line::Close);
    }
    if let Some(quoted) = line.strip_prefix('"') {
        return quoted_key(quoted);
    }
    let end = line.find(|c: char| c.is_ascii_whitespace() || c == '=').unwrap_or(line.len());
    let (key, rest) = (&line[..end], line[end..].trim_ascii_start());
    match key {
        "!include" | "!include_try" => {
            return Ok(Line::Include { pattern: unquoted(rest), must_exist: key == "!include" });
        }
        "" => return Err((format!("no name before \"{}\"", short(line)), "write: name = value")),
        _ => {}
    }
    if let Some(value) = rest.strip_prefix('=') {
        return setting(key, value.trim_ascii());
    }
    if rest.is_empty() && !key.ends_with('{') {
        return Err((
            format!("\"{}\" is neither a setting nor a block", short(line)),
            "write: name = value, or: name {",
        ));
    }
    if rest.is_empty() {
        return Err((format!("no blank before {{ in \"{}\"", short(line)), "write: name {"));
    }
    block(key, rest)
}

/// `"SORT=DISPLAY" = yes`: a name that holds what would end it.
fn quoted_key(quoted: &str) -> Result<Line, Fault> {
    let mut escaped = false;
    let end = quoted.char_indices().find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at)
    });
    let Some(end) = end else {
        return Err(("a name without its closing quote".to_owned(), "close the quote"));
    };
    match quoted[end + 1..].trim_ascii_start().strip_prefix('=') {
        Some(value) => setting(&unescaped(&quoted[..end]), value.trim_ascii()),
        None => {
            Err((format!("no = after \"{}\"", short(&quoted[..end])), "write: \"name\" = value"))
        }
    }
}

fn setting(key: &str, value: &str) -> Result<Line, Fault> {
    let key = key.to_owned();
    if let Some(path) = value.strip_prefix('<') {
        return Ok(Line::Setting { key, value: Written::File(path.trim_ascii().to_owned()) });
    }
    let value = match value.chars().next() {
        Some(quote @ ('"' | '\'')) if value.len() > 1 && value.ends_with(quote) => {
            Written::Quoted(unescaped(&value[1..value.len() - 1]))
        }
        Some('"' | '\'') if !value[1..].contains(&value[..1]) => {
            return Err((
                format!("{key}: a quote without its end"),
                "close the quote on the same line",
            ));
        }
        _ => Written::Plain(value.to_owned()),
    };
    Ok(Line::Setting { key, value })
}

fn block(kind: &str, rest: &str) -> Result<Line, Fault> {
    // `group @kind name {`
    if kind == "group"
        && let Some((group, rest)) = rest.split_once(|c: char| c.is_ascii_whitespace())
        && group.starts_with('@')
    {
        return block(group, rest.trim_ascii_start());
    }
    let (name, after) = if let Some(quoted) = rest.strip_prefix('"') {
        let end = quoted.find('"').ok_or_else(|| {
            ("a block's name without its closing quote".to_owned(), "close the quote")
        })?;
        (Some(unescaped(&quoted[..end])), quoted[end + 1..].trim_ascii_start())
    } else if rest.starts_with('{') {
        (None, rest)
    } else {
        let end = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
        (Some(rest[..end].to_owned()), rest[end..].trim_ascii_start())
    };
    match after {
        "{" => Ok(Line::Open { kind: kind.to_owned(), name }),
        _ if after.starts_with('{') => Err((
            format!("text after {{ in the block \"{kind}\""),
            "write the block's settings on lines of their own",
        )),
        _ => Err((format!("\"{kind}\" has neither = nor {{"), "write: name = value, or: name {")),
    }
}

fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(if c == '\\' { chars.next().unwrap_or(c) } else { c });
    }
    plain
}

fn unquoted(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
    inner.unwrap_or(text).to_owned()
}

fn short(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str) -> (Vec<Line>, String) {
        let mut problems = Problems::default();
        let lines = lines(&Place::file("d"), content.as_bytes(), &mut problems);
        (lines.into_iter().map(|(_, line)| line).collect(), problems.to_string())
    }

    fn plain(key: &str, value: &str) -> Line {
        Line::Setting { key: key.into(), value: Written::Plain(value.into()) }
    }

    #[test]
    fn lines_are_read_as_dovecot_reads_them() {
        let quoted =
            |text: &str| Line::Setting { key: "a".into(), value: Written::Quoted(text.into()) };
        for (text, line) in [
            ("a = b c # d", plain("a", "b c")),
            ("a=b", plain("a", "b")),
            ("a =", plain("a", "")),
            ("a = one \\\n   two\\\n three", plain("a", "one two three")),
            ("a = \"x # y\"", quoted("x # y")),
            ("a = 'it\\'s'", quoted("it's")),
            ("a = \"x\" y", plain("a", "\"x\" y")),
            (
                "a = </etc/x",
                Line::Setting { key: "a".into(), value: Written::File("/etc/x".into()) },
            ),
            ("a {", Line::Open { kind: "a".into(), name: None }),
            ("a b {", Line::Open { kind: "a".into(), name: Some("b".into()) }),
            ("a \"b c\" {", Line::Open { kind: "a".into(), name: Some("b c".into()) }),
            ("\"a = \\\"b\" = c", plain("a = \"b", "c")),
            ("group @a b {", Line::Open { kind: "@a".into(), name: Some("b".into()) }),
            ("}", Line::Close),
            ("!include x/*.conf", Line::Include { pattern: "x/*.conf".into(), must_exist: true }),
            ("!include_try \"y z\"", Line::Include { pattern: "y z".into(), must_exist: false }),
        ] {
            assert_eq!(read(text), (vec![line], String::new()), "{text}");
        }
    }

    #[test]
    fn bad_lines_are_told() {
        let bad = "= x\nlonely\na b\na {x\na { b = c }\na = \"open\nssl{\na = b#c\na = x \\\n# comment\nb = y\nb = x\\";
        insta::assert_snapshot!(read(bad).1, @r#"
        d:1: no name before "= x"; write: name = value
        d:2: "lonely" is neither a setting nor a block; write: name = value, or: name {
        d:3: "a" has neither = nor {; write: name = value, or: name {
        d:4: text after { in the block "a"; write the block's settings on lines of their own
        d:5: text after { in the block "a"; write the block's settings on lines of their own
        d:6: a: a quote without its end; close the quote on the same line
        d:7: no blank before { in "ssl{"; write: name {
        d:8: warning: a # without a blank before it begins a comment; put a blank before it, or quote the value
        d:9: warning: a line continued with \ is cut by an empty or comment line, and lost as in Dovecot; move the comment away
        d:12: the file ends inside a line continued with \; remove the last backslash
        "#);
    }

    proptest::proptest! {
        #[test]
        fn any_text_ends(text in "[a={}\"'\\\\# \n!<$]{0,80}") {
            let _ = read(&text);
        }
    }
}
