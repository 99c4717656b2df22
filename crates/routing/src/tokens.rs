//! An address as a list of RFC 822 tokens, which is what rewriting works on.
//!
//! Two texts stand for one address: the *external* form has quotes where RFC 5322 wants them
//! (`"a b"@example.com`), the *internal* form has none (`a b@example.com`).

/// One lexical piece of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    Atom(String),
    Quoted(String),
    /// `[192.0.2.1]`, without the brackets.
    Literal(String),
    Comment(String),
    /// `@`, `.`, `%`, `!`, `:` and the other characters that separate.
    Sign(char),
}

impl Token {
    pub fn is(&self, sign: char) -> bool {
        *self == Self::Sign(sign)
    }

    fn is_word(&self) -> bool {
        matches!(self, Self::Atom(_) | Self::Quoted(_) | Self::Comment(_))
    }
}

const SIGNS: &str = "|%!\"(),.:;<>@[]";

/// Takes `text` apart. White space outside of quotes is dropped. Never fails: what is unterminated
/// ends with the text.
pub fn scan(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&c) = chars.peek() {
        if c.is_ascii_whitespace() {
            chars.next();
            continue;
        }
        match c {
            '(' => tokens.push(Token::Comment(comment(&mut chars))),
            '[' => tokens.push(Token::Literal(enclosed(&mut chars, ']'))),
            '"' => tokens.push(Token::Quoted(enclosed(&mut chars, '"'))),
            c if SIGNS.contains(c) => {
                chars.next();
                tokens.push(Token::Sign(c));
            }
            _ => tokens.push(atom(&mut chars)),
        }
    }
    tokens
}

/// [`scan`], where nothing at all is the empty quoted local part `""`.
pub fn scan_address(text: &str) -> Vec<Token> {
    let tokens = scan(text);
    if tokens.is_empty() { vec![Token::Quoted(String::new())] } else { tokens }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn enclosed(chars: &mut Chars<'_>, end: char) -> String {
    let mut text = String::new();
    chars.next();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.extend(chars.next()),
            c if c == end => break,
            '\t' | '\r' | '\n' => text.push(' '),
            c => text.push(c),
        }
    }
    text
}

/// A comment with its parentheses, which may nest.
fn comment(chars: &mut Chars<'_>) -> String {
    let mut text = String::new();
    let mut depth = 0_usize;
    while let Some(c) = chars.next() {
        text.push(c);
        match c {
            '\\' => text.extend(chars.next()),
            '(' => depth += 1,
            ')' => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            _ => {}
        }
    }
    text
}

fn atom(chars: &mut Chars<'_>) -> Token {
    let mut text = String::new();
    let mut quote = false;
    while let Some(&c) = chars.peek() {
        if c == '\\' {
            chars.next();
            let Some(escaped) = chars.next() else { break };
            quote |= escaped.is_ascii_whitespace() || SIGNS.contains(escaped);
            text.push(escaped);
            continue;
        }
        if c.is_ascii_whitespace() || SIGNS.contains(c) {
            break;
        }
        quote |= c.is_ascii_control();
        text.push(c);
        chars.next();
    }
    if quote { Token::Quoted(text) } else { Token::Atom(text) }
}

/// The internal form. [`mail_types::quote_822`] makes the external form of it.
pub fn internal(tokens: &[Token]) -> String {
    let mut text = String::new();
    for (at, token) in tokens.iter().enumerate() {
        if at > 0 && token.is_word() && tokens.get(at - 1).is_some_and(Token::is_word) {
            text.push(' ');
        }
        match token {
            Token::Atom(word) | Token::Comment(word) | Token::Quoted(word) => text.push_str(word),
            Token::Literal(inside) => {
                text.push('[');
                text.push_str(inside);
                text.push(']');
            }
            Token::Sign(',') => text.push_str(", "),
            Token::Sign(sign) => text.push(*sign),
        }
    }
    text
}

/// Where a sign first stands, or last.
pub fn first(tokens: &[Token], sign: char) -> Option<usize> {
    tokens.iter().position(|token| token.is(sign))
}

pub fn last(tokens: &[Token], sign: char) -> Option<usize> {
    tokens.iter().rposition(|token| token.is(sign))
}

/// The addresses of a list such as a table's answer, in external form: `a@b, "c d"@e, Name <f@g>`.
pub fn addresses(list: &str) -> Vec<Vec<Token>> {
    let mut found = Vec::new();
    let tokens = scan(list);
    for item in tokens.split(|token| token.is(',')) {
        let item: Vec<Token> =
            item.iter().filter(|token| !matches!(token, Token::Comment(_))).cloned().collect();
        match (first(&item, '<'), last(&item, '>')) {
            (Some(open), Some(close)) if open < close => {
                found.push(item.get(open + 1..close).unwrap_or_default().to_vec());
            }
            _ if item.is_empty() => {}
            _ => found.extend(words(&item)),
        }
    }
    found
}

/// Words without a comma between them are separate addresses: `a@b c@d`.
fn words(item: &[Token]) -> Vec<Vec<Token>> {
    let mut found: Vec<Vec<Token>> = Vec::new();
    for (at, token) in item.iter().enumerate() {
        let joins = at > 0 && !(token.is_word() && item.get(at - 1).is_some_and(ends_address));
        match found.last_mut() {
            Some(last) if joins => last.push(token.clone()),
            _ => found.push(vec![token.clone()]),
        }
    }
    found
}

fn ends_address(token: &Token) -> bool {
    token.is_word() || matches!(token, Token::Literal(_))
}

#[cfg(test)]
mod tests {
    use super::{addresses, internal, scan};

    #[test]
    fn the_internal_form_comes_from_the_tokens() {
        for (text, inside) in [
            ("user@example.com", "user@example.com"),
            ("\"a b\"@[192.0.2.1]", "a b@[192.0.2.1]"),
            (r#""q\"x"@y"#, "q\"x@y"),
            (r"a\@b@c", "a@b@c"),
            ("@a,@b:c@d", "@a, @b:c@d"),
            ("\"open", "open"),
            ("a (c) b", "a (c) b"),
        ] {
            assert_eq!(internal(&scan(text)), inside);
        }
    }

    #[test]
    fn a_list_holds_addresses_with_and_without_commas() {
        let list = "a@b.c, \"x, y\"@z, Some One <u@v>, (note) p q@r";
        let found: Vec<_> = addresses(list).iter().map(|tokens| internal(tokens)).collect();
        assert_eq!(found, ["a@b.c", "x, y@z", "u@v", "p", "q@r"]);
    }
}
