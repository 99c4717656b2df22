//! `$name`, `${name?yes:no}` and `${{a} == {b} ? {yes} : {no}}` in values.

use std::cmp::Ordering;

use crate::text::Sourced;

/// Postfix's own limit of macro nesting.
const DEEPEST: usize = 100;
/// A value that grows beyond this is refused: `a = $b$b`, `b = $c$c`, … doubles with each line.
const LARGEST: usize = 1 << 20;
const MOST_STEPS: usize = 20_000;

/// Where names get their values.
pub trait Names {
    /// The raw value of a name, `None` when nothing defines it.
    fn raw(&self, name: &str) -> Option<Sourced>;
}

/// Why a value cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpandError {
    #[error("\"${{\" or \"$(\" without its end in \"{0}\"")]
    Unterminated(String),
    #[error("\"$\" without a name in \"{0}\"")]
    NoName(String),
    #[error("a name cannot hold {0:?} in \"${{{1}}}\"")]
    BadName(char, String),
    #[error("unexpected text \"{0}\" in \"${{{1}}}\"")]
    Unexpected(String, String),
    #[error("\"{0}\" is no comparison: == != < <= > >=")]
    BadOperator(String),
    #[error("\"{0}\" is no compatibility level")]
    BadLevel(String),
    #[error("the value refers to itself or nests more than {DEEPEST} deep")]
    TooDeep,
    #[error("the value grows beyond {} KiB", LARGEST >> 10)]
    TooLarge,
}

impl ExpandError {
    /// What to write instead.
    pub fn instead(&self) -> &'static str {
        match self {
            Self::Unterminated(_) => "close it with } or )",
            Self::NoName(_) => "write $name, or $$ for a dollar sign",
            Self::BadName(..) | Self::Unexpected(..) => {
                "write ${name}, ${name?{yes}:{no}} or ${{left} == {right} ? {yes} : {no}}"
            }
            Self::BadOperator(_) => "write one of == != < <= > >=",
            Self::BadLevel(_) => "write a level such as 3.6",
            Self::TooDeep => "break the circle of names",
            Self::TooLarge => "put long lists into a table",
        }
    }
}

/// Expands every macro of `raw`, recursively.
///
/// # Errors
///
/// [`ExpandError`]; the value must then not be used.
pub fn expand(raw: &Sourced, names: &dyn Names) -> Result<Sourced, ExpandError> {
    let mut expansion = Expansion { names, result: Sourced::default(), depth: 0, steps: 0 };
    expansion.text(raw)?;
    Ok(expansion.result)
}

/// The names that a value refers to directly, whichever branch would be taken.
pub fn references(raw: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = raw;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let inner = rest.trim_start_matches(['{', '(']).trim_start();
        let name: String = inner.chars().take_while(|&c| is_name(c)).collect();
        if !name.is_empty() {
            found.push(name);
        }
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

struct Expansion<'n> {
    names: &'n dyn Names,
    result: Sourced,
    depth: usize,
    steps: usize,
}

impl Expansion<'_> {
    fn text(&mut self, raw: &Sourced) -> Result<(), ExpandError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(ExpandError::TooDeep);
        }
        let text = raw.as_str();
        let mut at = 0;
        while let Some(dollar) = text[at..].find('$').map(|found| at + found) {
            self.literal(raw, at..dollar)?;
            let rest = &text[dollar + 1..];
            if rest.starts_with('$') {
                self.literal(raw, dollar..dollar + 1)?;
                at = dollar + 2;
                continue;
            }
            let (inner, after) = macro_body(text, dollar + 1)?;
            if inner.is_empty() {
                return Err(ExpandError::NoName(short(text)));
            }
            let mut body = Sourced::default();
            body.push_part(raw, inner);
            self.expression(&body)?;
            at = after;
        }
        self.literal(raw, at..text.len())?;
        self.depth -= 1;
        Ok(())
    }

    fn literal(&mut self, raw: &Sourced, range: std::ops::Range<usize>) -> Result<(), ExpandError> {
        self.steps += 1;
        if self.result.len() + range.len() > LARGEST || self.steps > MOST_STEPS {
            return Err(ExpandError::TooLarge);
        }
        self.result.push_part(raw, range);
        Ok(())
    }

    /// What stands between the braces: `name`, `name?…`, `name:…`, or a comparison.
    fn expression(&mut self, body: &Sourced) -> Result<(), ExpandError> {
        let text = body.as_str();
        let (value, mut rest) = if text.trim_ascii_start().starts_with('{') {
            let (holds, rest) = self.comparison(body)?;
            (Some(Sourced::built_in(if holds { "bool_true" } else { "" })), rest)
        } else {
            let start = text.len() - text.trim_ascii_start().len();
            let end = text[start..].find(['?', ':']).map_or(text.len(), |found| start + found);
            let name = text[start..end].trim_ascii_end();
            if let Some(bad) = name.chars().find(|&c| !is_name(c)) {
                return Err(ExpandError::BadName(bad, short(text)));
            }
            (self.names.raw(name), end)
        };
        let Some(operator) = text[rest..].chars().next() else {
            // A plain `$name`; an unknown one is empty.
            return value.map_or(Ok(()), |value| self.text(&value));
        };
        if operator != '?' && operator != ':' {
            return Err(ExpandError::Unexpected(short(&text[rest..]), short(text)));
        }
        let given = value.is_some_and(|value| !value.is_empty());
        rest += 1;
        if operator == '?' {
            let (yes, after) = operand(text, rest)?;
            if given {
                self.part(body, yes)?;
            }
            match text[after..].chars().next() {
                None => return Ok(()),
                Some(':') => rest = after + 1,
                Some(_) => return Err(ExpandError::Unexpected(short(&text[after..]), short(text))),
            }
        }
        let (no, after) = operand(text, rest)?;
        if after < text.len() {
            return Err(ExpandError::Unexpected(short(&text[after..]), short(text)));
        }
        if given { Ok(()) } else { self.part(body, no) }
    }

    fn part(&mut self, body: &Sourced, range: std::ops::Range<usize>) -> Result<(), ExpandError> {
        let mut part = Sourced::default();
        part.push_part(body, range);
        self.text(&part)
    }

    /// `{left} OPERATOR {right}`; gives the offset after it too.
    fn comparison(&mut self, body: &Sourced) -> Result<(bool, usize), ExpandError> {
        let text = body.as_str();
        let (left, at) = braced(text, 0)?;
        let symbols = text[at..].len() - text[at..].trim_start_matches(['<', '>', '=', '!']).len();
        let operator = &text[at..at + symbols];
        let suffix: String =
            text[at + symbols..].chars().take_while(char::is_ascii_alphanumeric).collect();
        let (right, after) = braced(text, at + symbols + suffix.len())?;
        let (left, right) = (self.aside(body, left)?, self.aside(body, right)?);
        let order = match suffix.as_str() {
            "" => compare(&left, &right),
            "level" => level(&left)?.cmp(&level(&right)?),
            _ => return Err(ExpandError::BadOperator(format!("{operator}{suffix}"))),
        };
        let holds = match operator {
            "==" => order.is_eq(),
            "!=" => order.is_ne(),
            "<" => order.is_lt(),
            "<=" => order.is_le(),
            ">" => order.is_gt(),
            ">=" => order.is_ge(),
            other => return Err(ExpandError::BadOperator(other.into())),
        };
        Ok((holds, after))
    }

    /// Expands a part on its own, within the same limits.
    fn aside(
        &mut self,
        body: &Sourced,
        range: std::ops::Range<usize>,
    ) -> Result<String, ExpandError> {
        let outer = std::mem::take(&mut self.result);
        let expanded = self.part(body, range);
        let inner = std::mem::replace(&mut self.result, outer);
        expanded.map(|()| inner.as_str().to_owned())
    }
}

/// The range of a macro's inside, and the offset after it; `start` is just after the `$`.
fn macro_body(text: &str, start: usize) -> Result<(std::ops::Range<usize>, usize), ExpandError> {
    let rest = &text[start..];
    let (open, close) = match rest.chars().next() {
        Some('{') => ('{', '}'),
        Some('(') => ('(', ')'),
        _ => {
            let length = rest.len() - rest.trim_start_matches(is_name).len();
            return Ok((start..start + length, start + length));
        }
    };
    let inner = start + 1;
    let end = closing(&text[inner..], open, close)
        .ok_or_else(|| ExpandError::Unterminated(short(text)))?;
    Ok((inner..inner + end, inner + end + 1))
}

/// The offset of the `close` that ends what an `open` before `text` began.
fn closing(text: &str, open: char, close: char) -> Option<usize> {
    let mut level = 1;
    for (offset, c) in text.char_indices() {
        if c == open {
            level += 1;
        } else if c == close {
            level -= 1;
            if level == 0 {
                return Some(offset);
            }
        }
    }
    None
}

/// What follows `?` or `:`: `{text}`, or everything to the end.
fn operand(text: &str, at: usize) -> Result<(std::ops::Range<usize>, usize), ExpandError> {
    if text[at..].trim_ascii_start().starts_with('{') {
        braced(text, at)
    } else {
        Ok((at..text.len(), text.len()))
    }
}

/// `{payload}` with blanks around it; gives the payload and the offset after the blanks.
fn braced(text: &str, at: usize) -> Result<(std::ops::Range<usize>, usize), ExpandError> {
    let start = text.len() - text[at..].trim_ascii_start().len();
    if !text[start..].starts_with('{') {
        return Err(ExpandError::Unexpected(short(&text[start..]), short(text)));
    }
    let inner = start + 1;
    let length =
        closing(&text[inner..], '{', '}').ok_or_else(|| ExpandError::Unterminated(short(text)))?;
    let after = text.len() - text[inner + length + 1..].trim_ascii_start().len();
    let payload = &text[inner..inner + length];
    let blanks = payload.len() - payload.trim_ascii_start().len();
    let payload_start = inner + blanks;
    Ok((payload_start..payload_start + payload.trim_ascii().len(), after))
}

/// Numbers by value when both sides are numbers, else bytes.
fn compare(left: &str, right: &str) -> Ordering {
    let number = |text: &str| {
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten()
    };
    match (number(left), number(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => left.cmp(right),
    }
}

/// `3.6` or `2` as a compatibility level that can be compared.
fn level(text: &str) -> Result<[u32; 3], ExpandError> {
    let bad = || ExpandError::BadLevel(short(text));
    let mut numbers = [0; 3];
    for (index, part) in text.trim_ascii().split('.').enumerate() {
        let slot = numbers.get_mut(index).ok_or_else(bad)?;
        *slot = part.parse().map_err(|_| bad())?;
    }
    Ok(numbers)
}

fn short(text: &str) -> String {
    super::main_cf::shortened(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Map(BTreeMap<&'static str, &'static str>);

    impl Names for Map {
        fn raw(&self, name: &str) -> Option<Sourced> {
            self.0.get(name).map(|value| Sourced::built_in(*value))
        }
    }

    fn expanded(text: &str) -> String {
        let names = Map(BTreeMap::from([
            ("a", "1"),
            ("b", "$a$a"),
            ("empty", ""),
            ("foo", "x y"),
            ("level", "3.6"),
            ("loop1", "$loop2"),
            ("loop2", "$loop1"),
        ]));
        expand(&Sourced::built_in(text), &names)
            .map_or_else(|error| format!("! {error}"), |text| text.as_str().to_owned())
    }

    #[test]
    fn macros_expand_as_postfix_does() {
        for (text, result) in [
            ("plain", "plain"),
            ("$a ${a} $(a) $b", "1 1 1 11"),
            ("$$a", "$a"),
            ("$unknown.", "."),
            ("${foo?yes}${empty?no}", "yes"),
            ("${foo:no}${empty:none}${unknown:none}", "nonenone"),
            ("${foo?{a b}:{c d}} ${empty?{a b}:{c d}}", "a b c d"),
            ("${ foo ? {x} : {y} }", "x"),
            ("${{3.7} == {3.7} ? {eq} : {ne}}", "eq"),
            ("${{10} > {9} ? {number} : {text}}", "number"),
            ("${{10x} > {9} ? {number} : {text}}", "text"),
            ("${{$level} <level {3.10} ? {old} : {new}}", "old"),
            ("${{$level} >=level {3.6} ? {yes} : {no}}", "yes"),
            ("${{a} != {b}?{$foo}}", "x y"),
            ("${stress?2}${stress:6}s", "6s"),
        ] {
            assert_eq!(expanded(text), result, "{text}");
        }
    }

    #[test]
    fn bad_macros_are_told() {
        let all: Vec<String> = [
            "${a",
            "$",
            "$ x",
            "${a b}",
            "${{a} ~ {b}?x}",
            "${a?{x}y}",
            "$loop1",
            "${{x} <level {1}?y}",
            "${}",
            "${{a}",
            "$(a",
        ]
        .iter()
        .map(|text| format!("{text}  ->  {}", expanded(text)))
        .collect();
        insta::assert_snapshot!(all.join("\n"), @r#"
        ${a  ->  ! "${" or "$(" without its end in "${a"
        $  ->  ! "$" without a name in "$"
        $ x  ->  ! "$" without a name in "$ x"
        ${a b}  ->  ! a name cannot hold ' ' in "${a b}"
        ${{a} ~ {b}?x}  ->  ! unexpected text "~ {b}?x" in "${{a} ~ {b}?x}"
        ${a?{x}y}  ->  ! unexpected text "y" in "${a?{x}y}"
        $loop1  ->  ! the value refers to itself or nests more than 100 deep
        ${{x} <level {1}?y}  ->  ! "x" is no compatibility level
        ${}  ->  ! "$" without a name in "${}"
        ${{a}  ->  ! "${" or "$(" without its end in "${{a}"
        $(a  ->  ! "${" or "$(" without its end in "$(a"
        "#);
    }

    #[test]
    fn names_referred_to_are_found_in_every_branch() {
        assert_eq!(references("$a ${b?{$c}:{${d}}} $$e $(f)"), ["a", "b", "c", "d", "f"]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_ends(text in "[${}()?:=<a-c ]{0,60}") {
            let _ = expanded(&text);
        }
    }
}
