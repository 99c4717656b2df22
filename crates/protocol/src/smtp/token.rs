//! A command line cut into words the way Postfix cuts it.
//!
//! White space separates, but not inside `<...>` or `"..."`; `FROM:` and `TO:` end a word even without a blank
//! behind them, so `MAIL FROM:<a@b>` and `MAIL FROM: <a@b>` are the same three words.

/// One word. `broken` when a quote or bracket was opened and never closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub broken: bool,
}

/// Cuts a line, without its line ending, into words.
#[must_use]
pub fn tokens(line: &str) -> Vec<Token> {
    let mut rest = line.chars();
    let mut words = Vec::new();
    while let Some(word) = next(&mut rest) {
        words.push(word);
    }
    words
}

fn next(rest: &mut std::str::Chars<'_>) -> Option<Token> {
    let mut word = Token { text: String::new(), broken: false };
    while let Some(c) = rest.next() {
        match c {
            _ if is_space(c) => {
                if !word.text.is_empty() {
                    break;
                }
            }
            '<' => quoted(rest, &mut word, '<', '>'),
            '"' => quoted(rest, &mut word, '"', '"'),
            ':' => {
                word.text.push(':');
                if word.text.eq_ignore_ascii_case("to:") || word.text.eq_ignore_ascii_case("from:")
                {
                    break;
                }
            }
            '\\' => {
                word.text.push('\\');
                match rest.next() {
                    Some(escaped) => word.text.push(escaped),
                    None => break,
                }
            }
            _ => word.text.push(c),
        }
    }
    (!word.text.is_empty()).then_some(word)
}

/// Copies up to the closing character; quotes nest inside brackets, brackets inside brackets.
fn quoted(rest: &mut std::str::Chars<'_>, word: &mut Token, open: char, close: char) {
    let mut wanted = vec![close];
    word.text.push(open);
    while let Some(c) = rest.next() {
        word.text.push(c);
        let innermost = wanted.last().copied().unwrap_or(close);
        match c {
            '\\' => match rest.next() {
                Some(escaped) => word.text.push(escaped),
                None => break,
            },
            _ if c == innermost => {
                wanted.pop();
                if wanted.is_empty() {
                    return;
                }
            }
            '"' => wanted.push('"'),
            '<' if innermost == '>' => wanted.push('>'),
            _ => {}
        }
    }
    word.broken = true;
}

pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        tokens(line)
            .into_iter()
            .map(|word| if word.broken { format!("{} (broken)", word.text) } else { word.text })
            .collect()
    }

    #[test]
    fn words_are_cut_as_postfix_cuts_them() {
        for (line, expected) in [
            ("MAIL FROM:<a@b.c> SIZE=10", &["MAIL", "FROM:", "<a@b.c>", "SIZE=10"][..]),
            ("mail from:a@b.c", &["mail", "from:", "a@b.c"]),
            ("MAIL FROM: <a@b.c>", &["MAIL", "FROM:", "<a@b.c>"]),
            ("RCPT TO:<\"a b\"@c.d>", &["RCPT", "TO:", "<\"a b\"@c.d>"]),
            ("RCPT TO:<\"a>b\"@c.d> X", &["RCPT", "TO:", "<\"a>b\"@c.d>", "X"]),
            ("RCPT TO:<a@b", &["RCPT", "TO:", "<a@b (broken)"]),
            ("RCPT TO:<<a@b>>", &["RCPT", "TO:", "<<a@b>>"]),
            ("RCPT TO:\"x y\"@b.c", &["RCPT", "TO:", "\"x y\"@b.c"]),
            ("NOOP a:b", &["NOOP", "a:b"]),
            ("  QUIT\t", &["QUIT"]),
            ("", &[]),
            (" \t ", &[]),
            ("a\\ b c", &["a\\ b", "c"]),
        ] {
            assert_eq!(words(line), expected, "{line:?}");
        }
    }
}
