//! `%u`, `%Ln`, `%{user}`, `%{if;%d;ne;;…}`: Dovecot 2.3's %-variables.

/// What one variable stands for. Either name may be absent.
#[derive(Clone, Copy, Debug)]
pub struct Variable<'v> {
    pub letter: Option<char>,
    pub name: &'v str,
    pub value: &'v str,
}

impl<'v> Variable<'v> {
    pub const fn new(letter: char, name: &'v str, value: &'v str) -> Self {
        Self { letter: Some(letter), name, value }
    }

    /// One that has only a long name.
    pub const fn long(name: &'v str, value: &'v str) -> Self {
        Self { letter: None, name, value }
    }
}

/// Why a text cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    #[error("unknown variable %{0}")]
    Unknown(String),
    #[error("%{{{0} has no }}")]
    Unterminated(String),
    #[error("the modifier {0} of a %-variable is not supported")]
    Modifier(char),
    #[error("%{{if}} with the operator \"{0}\" is not supported")]
    Operator(String),
    #[error("%{{if}} needs five parts: %{{if;left;operator;right;then;else}}")]
    Incomplete,
    #[error("%-variables nest too deep or expand to more than {LARGEST} bytes")]
    TooLarge,
}

const DEEPEST: usize = 8;
const LARGEST: usize = 64 << 10;

/// `%u`, `%n` and `%d` of a user name, and their long names, for [`expand`].
pub fn of_user(user: &str) -> [Variable<'_>; 3] {
    let (name, domain) = user.rsplit_once('@').unwrap_or((user, ""));
    [
        Variable::new('u', "user", user),
        Variable::new('n', "username", name),
        Variable::new('d', "domain", domain),
    ]
}

/// Expands every %-variable; `%%` is a percent sign.
///
/// # Errors
///
/// [`VariableError`]
pub fn expand(text: &str, variables: &[Variable<'_>]) -> Result<String, VariableError> {
    expand_at(text, variables, 0)
}

fn expand_at(
    text: &str,
    variables: &[Variable<'_>],
    depth: usize,
) -> Result<String, VariableError> {
    if depth > DEEPEST {
        return Err(VariableError::TooLarge);
    }
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            result.push('%');
            rest = after;
            continue;
        }
        let (format, after) = Format::parse(rest)?;
        rest = after;
        let Some(letter) = rest.chars().next() else {
            // A lone % at the end stays.
            result.push('%');
            break;
        };
        let value = if letter == '{' {
            let end = closing(&rest[1..])
                .ok_or_else(|| VariableError::Unterminated(rest[1..].to_owned()))?;
            let inner = &rest[1..=end];
            rest = &rest[end + 2..];
            long(inner, variables, depth)?
        } else {
            rest = &rest[letter.len_utf8()..];
            let known = variables.iter().find(|known| known.letter == Some(letter));
            known.ok_or_else(|| VariableError::Unknown(letter.to_string()))?.value.to_owned()
        };
        result.push_str(&format.apply(value)?);
        if result.len() > LARGEST {
            return Err(VariableError::TooLarge);
        }
    }
    result.push_str(rest);
    Ok(result)
}

fn closing(text: &str) -> Option<usize> {
    let mut level = 0usize;
    for (offset, c) in text.char_indices() {
        match c {
            '{' => level += 1,
            '}' if level == 0 => return Some(offset),
            '}' => level -= 1,
            _ => {}
        }
    }
    None
}

fn long(inner: &str, variables: &[Variable<'_>], depth: usize) -> Result<String, VariableError> {
    if let Some(parts) = inner.strip_prefix("if;") {
        return condition(parts, variables, depth);
    }
    let known = variables.iter().find(|known| known.name == inner);
    known
        .map(|known| known.value.to_owned())
        .ok_or_else(|| VariableError::Unknown(format!("{{{inner}}}")))
}

fn condition(
    parts: &str,
    variables: &[Variable<'_>],
    depth: usize,
) -> Result<String, VariableError> {
    let parts = fields(parts);
    let [left, operator, right, then, otherwise] = parts.as_slice() else {
        return Err(VariableError::Incomplete);
    };
    let (left, right) =
        (expand_at(left, variables, depth + 1)?, expand_at(right, variables, depth + 1)?);
    let number = |text: &str| text.trim().parse::<i64>().unwrap_or(0);
    let numbers = number(&left).cmp(&number(&right));
    let texts = left.cmp(&right);
    let holds = match operator.as_str() {
        "==" => numbers.is_eq(),
        "!=" => numbers.is_ne(),
        "<" => numbers.is_lt(),
        "<=" => numbers.is_le(),
        ">" => numbers.is_gt(),
        ">=" => numbers.is_ge(),
        "eq" => texts.is_eq(),
        "ne" => texts.is_ne(),
        "lt" => texts.is_lt(),
        "le" => texts.is_le(),
        "gt" => texts.is_gt(),
        "ge" => texts.is_ge(),
        other => return Err(VariableError::Operator(other.to_owned())),
    };
    expand_at(if holds { then } else { otherwise }, variables, depth + 1)
}

/// Splits at `;` outside `{ }`; `\` keeps the next character from dividing.
fn fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut level = 0usize;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ';' if level == 0 => {
                fields.push(String::new());
                continue;
            }
            '\\' => {
                if let (Some(last), Some(next)) = (fields.last_mut(), chars.next()) {
                    last.push(next);
                }
                continue;
            }
            '{' => level += 1,
            '}' => level = level.saturating_sub(1),
            _ => {}
        }
        if let Some(last) = fields.last_mut() {
            last.push(c);
        }
    }
    fields
}

/// What stands between `%` and the variable: `-2.3`, `08`, `L`, `U`, …
#[derive(Debug, Default)]
struct Format {
    offset: isize,
    width: isize,
    zero: bool,
    modifiers: String,
}

impl Format {
    fn parse(text: &str) -> Result<(Self, &str), VariableError> {
        let mut format = Self::default();
        let (first, mut rest) = number(text);
        if let Some(after) = rest.strip_prefix('.') {
            let (second, end) = number(after);
            format.offset = first.map_or(0, |(value, _)| value);
            (format.width, format.zero) = second.unwrap_or_default();
            rest = end;
        } else {
            (format.width, format.zero) = first.unwrap_or_default();
        }
        while let Some(modifier) = rest.chars().next().filter(|c| c.is_ascii_uppercase()) {
            match modifier {
                'L' | 'U' | 'E' | 'X' | 'R' | 'H' | 'T' => format.modifiers.push(modifier),
                other => return Err(VariableError::Modifier(other)),
            }
            rest = &rest[1..];
        }
        Ok((format, rest))
    }

    fn apply(&self, mut value: String) -> Result<String, VariableError> {
        for modifier in self.modifiers.chars() {
            value = match modifier {
                'L' => value.to_lowercase(),
                'U' => value.to_uppercase(),
                'E' => value.replace('\\', "\\\\").replace('"', "\\\"").replace('\'', "\\'"),
                'X' => value
                    .parse::<u64>()
                    .map_or_else(|_| "0".to_owned(), |number| format!("{number:x}")),
                'R' => value.chars().rev().collect(),
                'H' => return Ok(self.hash(&value)),
                'T' => value.trim().to_owned(),
                other => return Err(VariableError::Modifier(other)),
            };
        }
        Ok(self.cut(value))
    }

    /// Dovecot's string hash, `%2.256Hu`: modulo the width, in hexadecimal, at least as wide as the offset says.
    fn hash(&self, value: &str) -> String {
        let mut hash: u32 = 0;
        for byte in value.bytes() {
            hash = (hash << 4).wrapping_add(u32::from(byte));
            let high = hash & 0xf000_0000;
            if high != 0 {
                hash ^= high >> 24;
                hash ^= high;
            }
        }
        let modulo = u32::try_from(self.width).unwrap_or(0);
        let hash = if modulo == 0 { hash } else { hash % modulo };
        let width = usize::try_from(self.offset).unwrap_or(0);
        format!("{hash:0width$x}")
    }

    /// Offset and width; a negative one counts from the end, a leading zero fills up.
    fn cut(&self, value: String) -> String {
        let chars: Vec<char> = value.chars().collect();
        let length = chars.len();
        let start = match usize::try_from(self.offset) {
            Ok(offset) => offset.min(length),
            Err(_) => length.saturating_sub(self.offset.unsigned_abs()),
        };
        let rest = &chars[start..];
        if self.width == 0 {
            return rest.iter().collect();
        }
        let width = self.width.unsigned_abs();
        let kept = match self.width > 0 {
            true => &rest[..width.min(rest.len())],
            false => &rest[..rest.len().saturating_sub(width)],
        };
        let kept: String = kept.iter().collect();
        if self.zero && self.width > 0 { format!("{kept:0>width$}") } else { kept }
    }
}

/// A number with its sign and whether it begins with a zero, and the text after it.
fn number(text: &str) -> (Option<(isize, bool)>, &str) {
    let digits_at = usize::from(text.starts_with('-'));
    let rest = text[digits_at..].trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &text[digits_at..text.len() - rest.len()];
    match digits.parse::<isize>() {
        Ok(value) if value <= 1000 => {
            (Some((if digits_at == 1 { -value } else { value }, digits.starts_with('0'))), rest)
        }
        _ => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_expand_as_dovecots() {
        let mut variables = of_user("Info@Example.com").to_vec();
        variables.push(Variable::new('s', "service", "imap"));
        variables.push(Variable::long("hostname", "mail.example.com"));
        variables.push(Variable::new('v', "uidvalidity", "1700000000"));
        for (text, result) in [
            ("%u %n %d %s", "Info@Example.com Info Example.com imap"),
            ("%Ln %Un %L{user} %LRn", "info INFO info@example.com ofni"),
            ("100%% %{hostname}", "100% mail.example.com"),
            ("/var/mail/%1n/%1.1Ln/%n", "/var/mail/I/n/Info"),
            ("%-2n|%2.2n|%-2.1n", "In|fo|f"),
            ("%08Xv", "6553f100"),
            ("%010s", "000000imap"),
            ("postmaster@%{if;%d;ne;;%d;%{hostname}}", "postmaster@Example.com"),
            ("%{if;1;>;2;a;b}", "b"),
            ("end %", "end %"),
        ] {
            assert_eq!(expand(text, &variables).as_deref(), Ok(result), "{text}");
        }
    }

    #[test]
    fn unknown_and_broken_variables_are_told() {
        for (text, error) in [
            ("%q", "unknown variable %q"),
            ("%{foo}", "unknown variable %{foo}"),
            ("%{user", "%{user has no }"),
            ("%Mu", "the modifier M of a %-variable is not supported"),
            ("%{if;a}", "%{if} needs five parts: %{if;left;operator;right;then;else}"),
            ("%{if;a;~;b;c;d}", "%{if} with the operator \"~\" is not supported"),
        ] {
            assert_eq!(
                expand(text, &of_user("a@b")).map_err(|error| error.to_string()),
                Err(error.to_owned())
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_ends(text in "[%{};LURXHTun0-9.\\-]{0,60}") {
            let _ = expand(&text, &of_user("a@b"));
        }
    }
}
