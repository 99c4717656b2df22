//! POSIX regular expressions, extended and basic, written anew for PCRE.
//!
//! The GNU additions that people use (`\<`, `\>`, `\w`, back-references) are kept. One difference
//! stays: POSIX takes the longest of several alternatives, PCRE the first that matches; that changes
//! what `$1` holds, never whether a rule matches.

/// How a pattern is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    pub extended: bool,
    /// `REG_NEWLINE`: `^` and `$` also match at line ends, and `.` and `[^x]` never match a newline.
    pub lines: bool,
}

/// The same expression for PCRE without any option but case folding.
pub fn to_pcre(pattern: &str, dialect: Dialect) -> String {
    let mut writer = Writer { out: String::new(), atom: None, groups: Vec::new(), dialect };
    let chars: Vec<char> = pattern.chars().collect();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        at += writer.step(c, &chars, at);
    }
    writer.out
}

struct Writer {
    out: String,
    /// Where the last atom began, and whether a repetition followed it already.
    atom: Option<(usize, bool)>,
    groups: Vec<usize>,
    dialect: Dialect,
}

impl Writer {
    /// Translates what stands at `at`; returns how many characters that was.
    fn step(&mut self, c: char, chars: &[char], at: usize) -> usize {
        let next = chars.get(at + 1).copied();
        match (c, next) {
            ('[', _) => return self.bracket(chars, at),
            ('\\', Some(escaped)) => {
                if !self.dialect.extended && "(){}|+?".contains(escaped) {
                    return 1 + self.operator(escaped, chars, at + 1);
                }
                self.escape(escaped);
                return 2;
            }
            ('\\', None) => self.literal('\\'),
            ('^', _) => self.anchor(true, at == 0 || self.dialect.extended || self.opens()),
            ('$', _) => {
                let last =
                    next.is_none() || (next == Some('\\') && chars.get(at + 2) == Some(&')'));
                self.anchor(false, self.dialect.extended || last);
            }
            ('.', _) => self.push_atom(if self.dialect.lines { "[^\\n]" } else { "(?s:.)" }),
            ('*', _) => self.repeat("*"),
            ('(' | ')' | '{' | '}' | '|' | '+' | '?', _) if self.dialect.extended => {
                return self.operator(c, chars, at);
            }
            _ => self.literal(c),
        }
        1
    }

    fn opens(&self) -> bool {
        self.out.is_empty() || self.out.ends_with('(') || self.out.ends_with('|')
    }

    fn operator(&mut self, c: char, chars: &[char], at: usize) -> usize {
        match c {
            '(' => {
                self.groups.push(self.out.len());
                self.out.push('(');
                self.atom = None;
            }
            ')' => {
                let start = self.groups.pop();
                self.out.push(')');
                self.atom = start.map(|start| (start, false));
            }
            '|' => {
                self.out.push('|');
                self.atom = None;
            }
            '{' => return self.interval(chars, at),
            '+' => self.repeat("+"),
            '?' => self.repeat("?"),
            _ => self.literal(c),
        }
        1
    }

    /// `{2}`, `{2,}`, `{2,5}`, `{,5}`; any other brace is itself.
    fn interval(&mut self, chars: &[char], at: usize) -> usize {
        let inside: String = chars[at + 1..]
            .iter()
            .take_while(|c| c.is_ascii_digit() || **c == ',')
            .take(16)
            .collect();
        let after = at + 1 + inside.len();
        let closing: &[char] = if self.dialect.extended { &['}'] } else { &['\\', '}'] };
        let closed = chars.get(after..).is_some_and(|rest| rest.starts_with(closing));
        if !closed || inside.is_empty() || inside.matches(',').count() > 1 {
            self.literal('{');
            return 1;
        }
        let bounds = if inside.starts_with(',') { format!("0{inside}") } else { inside };
        self.repeat(&format!("{{{bounds}}}"));
        after + closing.len() - at
    }

    /// A repetition of a repetition is legal in POSIX, and in PCRE means something else.
    fn repeat(&mut self, sign: &str) {
        match self.atom {
            None => self.literal(sign.chars().next().unwrap_or('*')),
            Some((start, repeated)) => {
                if repeated {
                    self.out.insert_str(start, "(?:");
                    self.out.push(')');
                }
                self.out.push_str(sign);
                self.atom = Some((start, true));
            }
        }
    }

    fn anchor(&mut self, start: bool, special: bool) {
        if !special {
            return self.literal(if start { '^' } else { '$' });
        }
        self.out.push_str(match (start, self.dialect.lines) {
            (true, false) => "\\A",
            (true, true) => "(?m:^)",
            (false, false) => "\\z",
            (false, true) => "(?m:$)",
        });
        self.atom = None;
    }

    fn escape(&mut self, c: char) {
        match c {
            '<' => self.push_atom("\\b(?=\\w)"),
            '>' => self.push_atom("\\b(?<=\\w)"),
            '`' => self.push_atom("\\A"),
            '\'' => self.push_atom("\\z"),
            'w' | 'W' | 's' | 'S' | 'b' | 'B' => self.push_atom(&format!("\\{c}")),
            '1'..='9' => self.push_atom(&format!("\\g{{{c}}}")),
            _ => self.literal(c),
        }
    }

    fn literal(&mut self, c: char) {
        if c.is_ascii_punctuation() {
            self.push_atom(&format!("\\{c}"));
        } else {
            self.push_atom(c.encode_utf8(&mut [0; 4]));
        }
    }

    fn push_atom(&mut self, text: &str) {
        self.atom = Some((self.out.len(), false));
        self.out.push_str(text);
    }

    /// A bracket expression: a backslash is itself in POSIX; a `]` in front is a member.
    fn bracket(&mut self, chars: &[char], at: usize) -> usize {
        let mut inside = String::from("[");
        let mut here = at + 1;
        let negated = chars.get(here) == Some(&'^');
        if negated {
            inside.push_str(if self.dialect.lines { "^\\n" } else { "^" });
            here += 1;
        }
        let first = here;
        while let Some(&c) = chars.get(here) {
            match c {
                ']' if here > first => {
                    inside.push(']');
                    self.push_atom(&inside);
                    return here + 1 - at;
                }
                '[' if matches!(chars.get(here + 1), Some(':' | '.' | '=')) => {
                    let kind = chars[here + 1];
                    let end = (here + 2..chars.len())
                        .find(|&i| chars[i] == kind && chars.get(i + 1) == Some(&']'));
                    let Some(end) = end else { break };
                    let name: String = chars[here + 2..end].iter().collect();
                    match kind {
                        ':' => inside.push_str(&format!("[:{name}:]")),
                        _ => name.chars().for_each(|c| push_member(&mut inside, c)),
                    }
                    here = end + 2;
                    continue;
                }
                '-' => inside.push('-'),
                c => push_member(&mut inside, c),
            }
            here += 1;
        }
        self.out.push('['); // unterminated: PCRE reports it
        1
    }
}

fn push_member(inside: &mut String, c: char) {
    if matches!(c, '\\' | '[' | ']' | '^') {
        inside.push('\\');
    }
    inside.push(c);
}

#[cfg(test)]
mod tests {
    use super::{Dialect, to_pcre};

    #[test]
    fn posix_means_the_same_in_pcre() {
        let extended = Dialect { extended: true, lines: false };
        for (posix, pcre) in [
            ("^a.b$", r"\Aa(?s:.)b\z"),
            ("a*?", "(?:a*)?"),
            ("(ab)+{2}", "(?:(ab)+){2}"),
            (r"[]\a]", r"[\]\\a]"),
            ("[[:alpha:]-]{,3}", "[[:alpha:]-]{0,3}"),
            (r"\<x\>", r"\b(?=\w)x\b(?<=\w)"),
            ("a{x", r"a\{x"),
            ("(?a)", r"(\?a)"),
            ("é*", "é*"),
        ] {
            assert_eq!(to_pcre(posix, extended), pcre, "{posix}");
        }
        let basic = Dialect { extended: false, lines: true };
        for (posix, pcre) in
            [(r"a\(b\|c\)\{2\}+(", r"a(b|c){2}\+\("), ("^a^b$c$", r"(?m:^)a\^b\$c(?m:$)")]
        {
            assert_eq!(to_pcre(posix, basic), pcre, "{posix}");
        }
    }
}
