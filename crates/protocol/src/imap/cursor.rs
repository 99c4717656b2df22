//! Reads the words of one command: atoms, strings, literals, numbers, parentheses.
//!
//! As lenient as Dovecot where clients need it: several blanks count as one, blanks at the end
//! count as none.

use std::borrow::Cow;

/// What is wrong with a command's arguments, in the words that the client gets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Syntax(pub Cow<'static, str>);

impl Syntax {
    pub const INVALID: Self = Self(Cow::Borrowed("Invalid arguments"));

    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    #[must_use]
    pub fn about(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

/// A place in a command whose literals still stand in it.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

fn ends_atom(byte: u8) -> bool {
    matches!(byte, b' ' | b'(' | b')' | b'{' | b'"') || byte < 0x20 || byte == 0x7f
}

impl<'a> Cursor<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes `byte` if it is next.
    pub fn eat(&mut self, byte: u8) -> bool {
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    pub fn skip_blanks(&mut self) {
        while self.eat(b' ') {}
    }

    /// At least one blank between two arguments.
    ///
    /// # Errors
    ///
    /// [`Syntax::INVALID`] when there is none, or nothing behind it.
    pub fn blank(&mut self) -> Result<(), Syntax> {
        if !self.eat(b' ') {
            return Err(self.unexpected());
        }
        self.skip_blanks();
        if self.rest.is_empty() { Err(Syntax::INVALID) } else { Ok(()) }
    }

    /// Whether another argument follows; takes the blanks before it.
    pub fn more(&mut self) -> bool {
        let had = self.rest.len();
        self.skip_blanks();
        had > self.rest.len() && !self.rest.is_empty()
    }

    /// # Errors
    ///
    /// A [`Syntax`] when something is left.
    pub fn end(&mut self) -> Result<(), Syntax> {
        self.skip_blanks();
        if self.rest.is_empty() { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> Syntax {
        match self.peek() {
            Some(b')') => Syntax::new("Unexpected ')'"),
            Some(b'(' | b'{') => Syntax::new("Invalid characters in atom"),
            _ => Syntax::INVALID,
        }
    }

    /// # Errors
    ///
    /// A [`Syntax`] when no list begins here.
    pub fn open(&mut self) -> Result<(), Syntax> {
        if self.eat(b'(') { Ok(()) } else { Err(Syntax::INVALID) }
    }

    /// A parenthesised list, each member read by `member`.
    ///
    /// # Errors
    ///
    /// What `member` says, or a missing parenthesis.
    pub fn list<T>(
        &mut self,
        mut member: impl FnMut(&mut Self) -> Result<T, Syntax>,
    ) -> Result<Vec<T>, Syntax> {
        self.open()?;
        let mut members = Vec::new();
        loop {
            self.skip_blanks();
            if self.eat(b')') {
                return Ok(members);
            }
            if self.rest.is_empty() {
                return Err(Syntax::new("Missing ')'"));
            }
            members.push(member(self)?);
        }
    }

    /// The longest run of octets that `belongs` accepts; may be empty.
    pub fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.rest.iter().position(|&byte| !belongs(byte)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at(end);
        self.rest = rest;
        run
    }

    /// An atom, with everything that is not a delimiter, as text.
    ///
    /// # Errors
    ///
    /// A [`Syntax`] when there is none.
    pub fn atom(&mut self) -> Result<&'a str, Syntax> {
        let atom = self.run(|byte| !ends_atom(byte));
        if atom.is_empty() {
            return Err(self.unexpected());
        }
        str::from_utf8(atom).map_err(|_| Syntax::INVALID)
    }

    /// A keyword of the grammar: an atom in upper case.
    ///
    /// # Errors
    ///
    /// A [`Syntax`] when there is none.
    pub fn keyword(&mut self) -> Result<String, Syntax> {
        Ok(self.atom()?.to_ascii_uppercase())
    }

    /// # Errors
    ///
    /// A [`Syntax`] when there is no number or it is too large.
    pub fn number<N: std::str::FromStr>(&mut self) -> Result<N, Syntax> {
        let digits = self.run(|byte| byte.is_ascii_digit());
        str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(Syntax::INVALID)
    }

    /// An atom, a quoted string or a literal.
    ///
    /// # Errors
    ///
    /// A [`Syntax`] when there is none of these.
    pub fn astring(&mut self) -> Result<Cow<'a, [u8]>, Syntax> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            _ => {
                let atom = self.run(|byte| !ends_atom(byte));
                if atom.is_empty() { Err(self.unexpected()) } else { Ok(Cow::Borrowed(atom)) }
            }
        }
    }

    /// An `astring`, or nothing for `NIL`.
    ///
    /// # Errors
    ///
    /// A [`Syntax`] when there is neither.
    pub fn nstring(&mut self) -> Result<Option<Cow<'a, [u8]>>, Syntax> {
        let quoted = matches!(self.peek(), Some(b'"' | b'{'));
        let text = self.astring()?;
        Ok((quoted || !text.eq_ignore_ascii_case(b"NIL")).then_some(text))
    }

    /// A quoted string or a literal.
    ///
    /// # Errors
    ///
    /// A [`Syntax`] when there is neither.
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>, Syntax> {
        if self.eat(b'"') { self.quoted() } else { self.literal() }
    }

    fn quoted(&mut self) -> Result<Cow<'a, [u8]>, Syntax> {
        let plain = self.run(|byte| byte != b'"' && byte != b'\\' && byte != b'\n');
        if self.eat(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = plain.to_vec();
        loop {
            match self.rest.split_first() {
                Some((b'"', rest)) => {
                    self.rest = rest;
                    return Ok(Cow::Owned(text));
                }
                Some((b'\\', rest)) => match rest.split_first() {
                    Some((&escaped, rest)) if escaped != b'\n' => {
                        text.push(escaped);
                        self.rest = rest;
                    }
                    _ => return Err(Syntax::new("Missing '\"'")),
                },
                Some((&byte, rest)) if byte != b'\n' => {
                    text.push(byte);
                    self.rest = rest;
                }
                _ => return Err(Syntax::new("Missing '\"'")),
            }
        }
    }

    fn literal(&mut self) -> Result<Cow<'a, [u8]>, Syntax> {
        if !self.eat(b'{') {
            return Err(self.unexpected());
        }
        let size: usize = self.number().map_err(|_| Syntax::new("Invalid literal size"))?;
        self.eat(b'+');
        let Some(body) = self.rest.strip_prefix(b"}\r\n") else {
            return Err(Syntax::new("Invalid literal size"));
        };
        let (literal, rest) = body.split_at_checked(size).ok_or(Syntax::INVALID)?;
        self.rest = rest;
        Ok(Cow::Borrowed(literal))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::imap::write;

    #[test]
    fn strings_come_in_three_forms() {
        let mut cursor = Cursor::new(b"abc \"d\\\"e\" {3+}\r\nf\ng NIL \"NIL\" x]y");
        for expected in ["abc", "d\"e", "f\ng"] {
            assert_eq!(cursor.astring().unwrap(), expected.as_bytes());
            cursor.blank().unwrap();
        }
        assert_eq!(cursor.nstring().unwrap(), None);
        cursor.blank().unwrap();
        assert_eq!(cursor.nstring().unwrap().as_deref(), Some(&b"NIL"[..]));
        cursor.blank().unwrap();
        assert_eq!(cursor.atom(), Ok("x]y"));
        assert_eq!(cursor.end(), Ok(()));
    }

    #[test]
    fn broken_strings_say_what_is_missing() {
        for (input, text) in [
            ("\"abc", "Missing '\"'"),
            ("\"abc\\", "Missing '\"'"),
            ("{3}\r\nab", "Invalid arguments"),
            ("{3~}\r\nabc", "Invalid literal size"),
            (")", "Unexpected ')'"),
            ("", "Invalid arguments"),
        ] {
            let error = Cursor::new(input.as_bytes()).astring().unwrap_err();
            assert_eq!(error.0, text, "{input:?}");
        }
        let error = Cursor::new(b"(a b").list(|cursor| cursor.keyword()).unwrap_err();
        assert_eq!(error.0, "Missing ')'");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text: Vec<u8>) {
            let mut out = Vec::new();
            write::astring(&mut out, &text);
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.astring().unwrap().into_owned(), text);
            prop_assert!(cursor.end().is_ok());
        }

        #[test]
        fn garbage_is_an_error_and_nothing_worse(text: Vec<u8>) {
            let mut cursor = Cursor::new(&text);
            while cursor.list(|cursor| cursor.nstring().map(drop)).is_ok() {}
        }
    }
}
