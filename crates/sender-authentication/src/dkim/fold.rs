//! The tags of a new signature in OpenDKIM's lines: as it folds, so that eyes and tools see no change.

/// Columns of a line.
const MARGIN: usize = 75;
/// Behind `DKIM-Signature: `.
const START: usize = 16;
/// Column behind CRLF TAB, and behind CRLF TAB SPACE.
const TAB: usize = 8;
const TAB_SPACE: usize = 9;

/// Joins tags, each `name=value` without its semicolon, with CRLF and a tab where a line is full. The last one is `b`,
/// which always has a line of its own.
#[must_use]
pub fn fold(tags: &[(&str, String)]) -> String {
    let mut out = String::new();
    let mut column = START;
    for (index, (name, value)) in tags.iter().enumerate() {
        let last = index + 1 == tags.len();
        let tag = format!("{name}={value}{}", if last { "" } else { ";" });
        if index == 0 {
            out.push_str(&tag);
            column += tag.len();
        } else if column + tag.len() > MARGIN || *name == "b" {
            out.push_str("\r\n\t");
            column = match *name {
                "h" => at_colons(&tag, &mut out),
                "b" | "bh" | "z" => at_margin(&tag, name.len() + 2, &mut out),
                _ => {
                    out.push_str(&tag);
                    TAB + tag.len()
                }
            };
        } else {
            out.push(' ');
            out.push_str(&tag);
            column += 1 + tag.len();
        }
    }
    out
}

fn at_colons(tag: &str, out: &mut String) -> usize {
    let mut column = TAB;
    for (index, name) in tag.split(':').enumerate() {
        if index > 0 {
            out.push(':');
            if column + name.len() + 1 > MARGIN {
                out.push_str("\r\n\t ");
                column = TAB_SPACE;
            } else {
                column += 1;
            }
        }
        out.push_str(name);
        column += name.len();
    }
    column
}

/// The first `whole` characters stay together.
fn at_margin(tag: &str, whole: usize, out: &mut String) -> usize {
    let mut column = TAB;
    for (index, character) in tag.chars().enumerate() {
        if index >= whole && column >= MARGIN {
            out.push_str("\r\n\t ");
            column = TAB_SPACE;
        }
        out.push(character);
        column += 1;
    }
    column
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_where_opendkim_breaks_them() {
        let tag = |name, value: &str| (name, value.to_owned());
        let folded = fold(&[
            tag("v", "1"),
            tag("a", "rsa-sha256"),
            tag("c", "simple/simple"),
            tag("d", "example.com"),
            tag("s", "sel1"),
            tag("t", "1795295633"),
            tag("x", "1795299233"),
            tag("i", "@example.com"),
            tag("r", "y"),
            tag("bh", "ZUTJa2HqT3B/By8pG+dZTR0COpkOEbE92duQ7VD8Fgs="),
            tag("l", "10"),
            tag("h", "From:To:Subject:Date:X-Custom:X-Folded:From:Subject"),
            tag(
                "z",
                "From:=20Alice=20<alice@sub.example.com>|To:=20Bob=20<bob@example.org>|Subject:=20all",
            ),
            tag(
                "b",
                "RfQn+XfAHc4DtEd41RfjlZJQfYXqaZqofTs+avrlJqc77YB/CAF86FKIYuDpFANYWup4RDjn3cRBY6",
            ),
        ]);
        assert_eq!(
            folded.replace("\r\n", "\n"),
            "v=1; a=rsa-sha256; c=simple/simple; d=example.com; s=sel1;\n\
             \tt=1795295633; x=1795299233; i=@example.com; r=y;\n\
             \tbh=ZUTJa2HqT3B/By8pG+dZTR0COpkOEbE92duQ7VD8Fgs=; l=10;\n\
             \th=From:To:Subject:Date:X-Custom:X-Folded:From:Subject;\n\
             \tz=From:=20Alice=20<alice@sub.example.com>|To:=20Bob=20<bob@example.\n\
             \t org>|Subject:=20all;\n\
             \tb=RfQn+XfAHc4DtEd41RfjlZJQfYXqaZqofTs+avrlJqc77YB/CAF86FKIYuDpFANYW\n\
             \t up4RDjn3cRBY6"
        );
        let names = vec!["Reply-To"; 20].join(":");
        let folded = fold(&[tag("v", "1"), tag("h", &names), tag("b", "x")]);
        assert_eq!(
            folded.replace("\r\n", "\n"),
            "v=1;\n\th=Reply-To:Reply-To:Reply-To:Reply-To:Reply-To:Reply-To:Reply-To:\n\
             \t Reply-To:Reply-To:Reply-To:Reply-To:Reply-To:Reply-To:Reply-To:\n\
             \t Reply-To:Reply-To:Reply-To:Reply-To:Reply-To:Reply-To;\n\tb=x"
        );
    }
}
