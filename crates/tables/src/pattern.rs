//! `regexp:` and `pcre:` tables: the first rule whose pattern matches (regexp_table(5), pcre_table(5)).

use std::borrow::Cow;

use pcre2::bytes::{CaptureLocations, Regex, RegexBuilder};

use crate::posix::{Dialect, to_pcre};
use crate::source::{Line, Note};

/// PCRE gives up on a subject after this many steps: a bad pattern costs milliseconds, not minutes.
const MATCH_LIMIT: u32 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    Regexp,
    Pcre,
}

#[derive(Debug)]
pub struct Patterns(Vec<Rule>);

#[derive(Debug)]
enum Rule {
    /// All tests hold: answer. (The old form `/yes/!/no/` has two.)
    Answer {
        tests: Vec<Test>,
        answer: Vec<Piece>,
    },
    If {
        test: Test,
        end: usize,
    },
}

#[derive(Debug)]
struct Test {
    expression: Regex,
    wanted: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Group(usize),
}

impl Patterns {
    pub fn parse(flavour: Flavour, lines: Vec<Line>, notes: &mut Vec<Note>) -> Self {
        let mut rules: Vec<Rule> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        for Line { number, text } in lines {
            let text = text.trim();
            match crate::cidr::keyword(text) {
                ("if", pattern) => match pattern_at(flavour, pattern) {
                    Ok((test, rest)) => {
                        if !rest.trim().is_empty() {
                            let what =
                                format!("ignoring extra text after IF statement: \"{rest}\"");
                            notes.push(Note::remark(number, what));
                        }
                        open.push(rules.len());
                        rules.push(Rule::If { test, end: usize::MAX });
                    }
                    Err(why) => notes.push(Note::skipped(number, why)),
                },
                ("endif", _) => match open.pop() {
                    Some(start) => close(&mut rules, start),
                    None => notes.push(Note::skipped(number, "ignoring ENDIF without matching IF")),
                },
                _ => match rule(flavour, text, number, notes) {
                    Ok(rule) => rules.push(rule),
                    Err(why) => notes.push(Note::skipped(number, why)),
                },
            }
        }
        for start in open {
            notes.push(Note::skipped(0, "IF has no matching ENDIF"));
            close(&mut rules, start);
        }
        Self(rules)
    }

    /// The answer for `subject`, with its `$1` filled in. `Err` is PCRE's refusal to go on.
    pub fn find(&self, subject: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let mut at = 0;
        while let Some(rule) = self.0.get(at) {
            at += 1;
            match rule {
                Rule::If { test, end } => {
                    if !test.holds(subject)? {
                        at = *end;
                    }
                }
                Rule::Answer { tests, answer } => {
                    if let Some(groups) = all_hold(tests, subject)? {
                        return Ok(Some(fill(answer, subject, groups.as_ref())));
                    }
                }
            }
        }
        Ok(None)
    }
}

fn close(rules: &mut [Rule], start: usize) {
    let after = rules.len();
    if let Some(Rule::If { end, .. }) = rules.get_mut(start) {
        *end = after;
    }
}

impl Test {
    fn holds(&self, subject: &[u8]) -> Result<bool, String> {
        Ok(self.expression.is_match(subject).map_err(|e| e.to_string())? == self.wanted)
    }
}

/// The groups of the first test when all tests hold.
fn all_hold(tests: &[Test], subject: &[u8]) -> Result<Option<Option<CaptureLocations>>, String> {
    let mut groups = None;
    for (index, test) in tests.iter().enumerate() {
        if index == 0 && test.wanted {
            let mut locations = test.expression.capture_locations();
            let found = test
                .expression
                .captures_read(&mut locations, subject)
                .map_err(|e| e.to_string())?;
            if found.is_none() {
                return Ok(None);
            }
            groups = Some(locations);
        } else if !test.holds(subject)? {
            return Ok(None);
        }
    }
    Ok(Some(groups))
}

fn fill(answer: &[Piece], subject: &[u8], groups: Option<&CaptureLocations>) -> Vec<u8> {
    let mut text = Vec::new();
    for piece in answer {
        match piece {
            Piece::Text(literal) => text.extend_from_slice(literal.as_bytes()),
            Piece::Group(number) => {
                let range = groups.and_then(|groups| groups.get(*number));
                text.extend_from_slice(range.and_then(|(a, b)| subject.get(a..b)).unwrap_or(b""));
            }
        }
    }
    text
}

fn rule(flavour: Flavour, text: &str, line: usize, notes: &mut Vec<Note>) -> Result<Rule, String> {
    let first = text.chars().find(|&c| c != '!' && !c.is_ascii_whitespace());
    if first.is_none_or(|c| c.is_alphanumeric()) {
        return Err("ignoring unrecognized request".to_owned());
    }
    let (test, mut rest) = pattern_at(flavour, text)?;
    let mut tests = vec![test];
    if flavour == Flavour::Regexp && rest.starts_with('!') {
        let (second, after) = pattern_at(flavour, rest)?;
        tests.push(second);
        rest = after;
    }
    let rest = rest.trim();
    if rest.is_empty() {
        notes.push(Note::remark(line, "no replacement text: using empty string"));
    }
    let groups = tests.first().map_or(0, |test| test.expression.captures_len().saturating_sub(1));
    let substitutable = tests.first().is_some_and(|test| test.wanted);
    Ok(Rule::Answer { tests, answer: template(rest, groups, substitutable)? })
}

/// Reads `[!]/pattern/flags`; returns what follows it.
fn pattern_at(flavour: Flavour, text: &str) -> Result<(Test, &str), String> {
    let mut text = text.trim_start();
    let mut wanted = true;
    while let Some(rest) = text.strip_prefix('!') {
        wanted = !wanted;
        text = rest.trim_start();
    }
    let mut chars = text.char_indices();
    let Some((_, delimiter)) = chars.next() else {
        return Err("no regular expression: skipping this rule".to_owned());
    };
    let mut end = None;
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == delimiter {
            end = Some(at);
            break;
        }
    }
    let Some(end) = end else {
        return Err(format!("no closing regexp delimiter \"{delimiter}\": skipping this rule"));
    };
    let pattern = &text[delimiter.len_utf8()..end];
    let after = &text[end + delimiter.len_utf8()..];
    let stop = after.find(|c: char| c.is_ascii_whitespace() || c == '!').unwrap_or(after.len());
    let expression = compile(flavour, &undelimited(pattern, delimiter), &after[..stop])?;
    Ok((Test { expression, wanted }, &after[stop..]))
}

/// `\/` inside of `/…/` is a plain `/`, unless the delimiter means something itself.
fn undelimited(pattern: &str, delimiter: char) -> Cow<'_, str> {
    if "!\"#%&',-/:;<=>@_`~".contains(delimiter) && pattern.contains(delimiter) {
        Cow::Owned(pattern.replace(&format!("\\{delimiter}"), &delimiter.to_string()))
    } else {
        Cow::Borrowed(pattern)
    }
}

fn compile(flavour: Flavour, pattern: &str, flags: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new();
    let mut caseless = true;
    let limit = format!("(*LIMIT_MATCH={MATCH_LIMIT})");
    let unknown = |c: char| format!("unknown regexp option \"{c}\": skipping this rule");
    let text = match flavour {
        Flavour::Regexp => {
            let mut dialect = Dialect { extended: true, lines: false };
            for flag in flags.chars() {
                match flag {
                    'i' => caseless = !caseless,
                    'x' => dialect.extended = !dialect.extended,
                    'm' => dialect.lines = !dialect.lines,
                    other => return Err(unknown(other)),
                }
            }
            format!("{limit}{}", to_pcre(pattern, dialect))
        }
        Flavour::Pcre => {
            let (mut lines, mut dot_all, mut extended) = (false, true, false);
            let (mut anchored, mut lazy) = (false, false);
            for flag in flags.chars() {
                match flag {
                    'i' => caseless = !caseless,
                    'm' => lines = !lines,
                    's' => dot_all = !dot_all,
                    'x' => extended = !extended,
                    'A' => anchored = !anchored,
                    'U' => lazy = !lazy,
                    'X' => {} // PCRE2 is always this strict
                    'E' => return Err("regexp option \"E\" is not supported: write \\z instead of $: skipping this rule".to_owned()),
                    other => return Err(unknown(other)),
                }
            }
            builder.multi_line(lines).dotall(dot_all).extended(extended);
            let start = if anchored { "\\A(?:" } else { "" };
            let end = if anchored { "\n)" } else { "" };
            let end = if anchored && !extended { ")" } else { end };
            format!("{limit}{}{start}{pattern}{end}", if lazy { "(?U)" } else { "" })
        }
    };
    builder.caseless(caseless);
    builder.build(&text).map_err(|error| {
        let at = error.offset().map_or(0, |offset| offset.saturating_sub(limit.len()));
        let why = error.to_string();
        let why = why.rsplit_once(": ").map_or(why.as_str(), |(_, why)| why);
        format!("error in regex at offset {at}: {why}")
    })
}

/// Splits an answer at its `$1`, `${1}`, `$(1)`; `$$` is a dollar sign.
fn template(text: &str, groups: usize, substitutable: bool) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(next) = after.strip_prefix('$') {
            literal.push('$');
            rest = next;
            continue;
        }
        let (name, next) = group_name(after);
        let number: usize = name
            .parse()
            .map_err(|_| format!("non-numeric replacement index \"{name}\": skipping this rule"))?;
        if !substitutable {
            return Err(
                "$number found in negative match replacement text: skipping this rule".into()
            );
        }
        if number == 0 || number > groups {
            return Err(format!("out of range replacement index \"{number}\": skipping this rule"));
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Group(number));
        rest = next;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(pieces)
}

fn group_name(after: &str) -> (&str, &str) {
    for (open, close) in [('{', '}'), ('(', ')')] {
        if let Some((name, rest)) = after.strip_prefix(open).and_then(|t| t.split_once(close)) {
            return (name, rest);
        }
    }
    let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
    after.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::{Flavour, Patterns};
    use crate::source::lines;

    const TEXT: &str = r"/^Foo(.*)$/ got $1 ${1}x $(1)y $$
/^Bar/i case
!/@/ neg
if /^if/
/x/ inx
endif
/nores/
/a(b/ broken
/c(d)/ $2
/[/]x/ sl
/w\// esc
abc wrong
/^q/ $x end$
/tail/x t
";

    /// Values of `postmap -q KEY pcre:FILE` and `regexp:FILE` (Postfix 3.7.11).
    #[test]
    fn the_first_rule_that_matches_answers_in_both_flavours() {
        for flavour in [Flavour::Pcre, Flavour::Regexp] {
            let mut notes = Vec::new();
            let lines = lines(TEXT.as_bytes(), &mut notes);
            let table = Patterns::parse(flavour, lines, &mut notes);
            for (key, answer) in [
                ("foobar", Some("got bar barx bary $")),
                ("Bar1", Some("case")),
                ("bar1@x", None),
                ("plain", Some("neg")),
                ("ifx@", Some("inx")),
                ("nores@", Some("")),
                ("cd@", None),
                ("w/@", Some("esc")),
                ("q@", None),
                ("tail@", Some("t")),
            ] {
                let found = table.find(key.as_bytes()).unwrap();
                assert_eq!(found.as_deref(), answer.map(str::as_bytes), "{flavour:?} {key}");
            }
            let skipped: Vec<_> = notes.iter().filter(|n| n.skipped).map(|n| n.line).collect();
            assert_eq!(skipped, [8, 9, 10, 12, 13], "{flavour:?} {notes:?}");
        }
    }

    #[test]
    fn a_pattern_that_explodes_is_an_error_not_a_hang() {
        let mut notes = Vec::new();
        let lines = lines(b"/^(a+)+$/ x", &mut notes);
        let table = Patterns::parse(Flavour::Pcre, lines, &mut notes);
        let subject = [&[b'a'; 64][..], b"!"].concat();
        assert!(table.find(&subject).is_err());
    }
}
