//! Texts with %variables, as the settings of the auth service hold them: `%Ln`, `%{domain}`, `/etc/%d/passwd`.

use serde::{Deserialize, Serialize};

/// A text whose variables are known to exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Variable { name: String, modifiers: Vec<Modifier>, cut: Option<Cut> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Modifier {
    Lower,
    Upper,
    Reverse,
    Trim,
    Hex,
    Md5,
    Escape,
}

/// `offset.width`: which characters of the value are taken. A negative offset counts from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    offset: i32,
    width: usize,
}

/// The variables that the auth service has, by their long names.
const NAMES: &[&str] = &[
    "user",
    "username",
    "domain",
    "service",
    "lip",
    "rip",
    "pid",
    "password",
    "mech",
    "secured",
    "lport",
    "rport",
    "cert",
    "home",
    "session",
    "login_user",
    "login_username",
    "login_domain",
    "master_user",
    "orig_user",
    "orig_username",
    "orig_domain",
    "auth_user",
    "auth_username",
    "auth_domain",
    "local_name",
    "real_rip",
    "real_lip",
    "real_rport",
    "real_lport",
    "domain_first",
    "domain_last",
    "client_id",
];

fn long_name(letter: char) -> Option<&'static str> {
    Some(match letter {
        'u' => "user",
        'n' => "username",
        'd' => "domain",
        's' => "service",
        'l' => "lip",
        'r' => "rip",
        'p' => "pid",
        'w' => "password",
        'm' => "mech",
        'c' => "secured",
        'a' => "lport",
        'b' => "rport",
        'k' => "cert",
        'h' => "home",
        _ => return None,
    })
}

impl Template {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// The variable or modifier that the auth service does not know.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            literal.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            let (piece, after) = variable(rest)?;
            pieces.push(piece);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the text is the same for everybody.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.pieces.iter().any(|piece| matches!(piece, Piece::Variable { .. }))
    }

    /// The text with the value of each variable; `value` gives "" for what is not known.
    pub fn expand(&self, value: impl Fn(&str) -> String) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Variable { name, modifiers, cut } => {
                    let full = modifiers.iter().fold(value(name), |text, one| one.apply(&text));
                    match cut {
                        Some(cut) => out.push_str(&cut.apply(&full)),
                        None => out.push_str(&full),
                    }
                }
            }
        }
        out
    }
}

impl TryFrom<String> for Template {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}

/// What follows a `%`: `[-][offset.][0][width]MODIFIERS letter` or `…{name}`.
fn variable(text: &str) -> Result<(Piece, &str), String> {
    let numbers = text.len()
        - text.trim_start_matches(|c: char| c.is_ascii_digit() || ".-".contains(c)).len();
    let (numbers, mut rest) = text.split_at(numbers);
    let cut = cut(numbers)?;
    let mut modifiers = Vec::new();
    while let Some(letter) = rest.chars().next() {
        let modifier = match letter {
            'L' => Modifier::Lower,
            'U' => Modifier::Upper,
            'R' => Modifier::Reverse,
            'T' => Modifier::Trim,
            'X' => Modifier::Hex,
            'M' => Modifier::Md5,
            'E' => Modifier::Escape,
            'H' | 'N' | 'D' => return Err(format!("the modifier %{letter} is not supported")),
            _ => break,
        };
        modifiers.push(modifier);
        rest = &rest[1..];
    }
    let (name, rest) = if let Some(inner) = rest.strip_prefix('{') {
        let (name, after) = inner.split_once('}').ok_or("a variable lacks its `}`")?;
        let name = match name.chars().next() {
            Some(letter) if name.len() == 1 => long_name(letter).unwrap_or(name),
            _ => name,
        };
        (name, after)
    } else {
        let letter = rest.chars().next().ok_or("the text ends with a `%`")?;
        let name = long_name(letter).ok_or_else(|| format!("unknown variable %{letter}"))?;
        (name, &rest[letter.len_utf8()..])
    };
    if !NAMES.contains(&name) {
        return Err(format!("unknown variable %{{{name}}}"));
    }
    Ok((Piece::Variable { name: name.to_owned(), modifiers, cut }, rest))
}

fn cut(numbers: &str) -> Result<Option<Cut>, String> {
    if numbers.is_empty() {
        return Ok(None);
    }
    let (offset, width) = numbers.split_once('.').unwrap_or(("0", numbers));
    match (offset.parse(), width.parse()) {
        (Ok(offset), Ok(width)) => Ok(Some(Cut { offset, width })),
        _ => Err(format!("`{numbers}` is not an offset and a width")),
    }
}

impl Modifier {
    fn apply(self, text: &str) -> String {
        match self {
            Self::Lower => text.to_ascii_lowercase(),
            Self::Upper => text.to_ascii_uppercase(),
            Self::Reverse => text.chars().rev().collect(),
            Self::Trim => text.trim().to_owned(),
            Self::Hex => text.parse().map_or_else(|_| text.to_owned(), |n: u64| format!("{n:x}")),
            Self::Md5 => crate::scheme::hex(&crypto::md5(text.as_bytes())),
            Self::Escape => text.replace('\\', "\\\\").replace('"', "\\\"").replace('\'', "\\'"),
        }
    }
}

impl Cut {
    fn apply(self, text: &str) -> String {
        let length = text.chars().count();
        let offset = match usize::try_from(self.offset) {
            Ok(offset) => offset,
            Err(_) => length.saturating_sub(self.offset.unsigned_abs() as usize),
        };
        let width = if self.width == 0 { length } else { self.width };
        text.chars().skip(offset).take(width).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_modifiers() {
        let value = |name: &str| match name {
            "user" => "Info@Dokujo.com".to_owned(),
            "username" => "Info".to_owned(),
            "domain" => "Dokujo.com".to_owned(),
            _ => String::new(),
        };
        for (text, expanded) in [
            ("%Lu", "info@dokujo.com"),
            ("%Ln", "info"),
            ("%n", "Info"),
            ("%{username}", "Info"),
            ("%L{user}", "info@dokujo.com"),
            ("/var/vmail/%d/%n", "/var/vmail/Dokujo.com/Info"),
            ("%1Ln/%1.1n", "i/n"),
            ("%-2.2n", "fo"),
            ("%Un 100%% %r", "INFO 100% "),
            ("%Rn", "ofnI"),
        ] {
            assert_eq!(Template::parse(text).unwrap().expand(value), expanded, "{text}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for (text, problem) in [
            ("%q", "unknown variable %q"),
            ("%{nonsense}", "unknown variable %{nonsense}"),
            ("x%", "the text ends with a `%`"),
            ("%{user", "a variable lacks its `}`"),
            ("%Hu", "the modifier %H is not supported"),
        ] {
            assert_eq!(Template::parse(text).unwrap_err(), problem);
        }
    }
}
