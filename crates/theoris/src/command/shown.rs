//! Text for a terminal: colours where there is one, and nothing from a file or a peer that a terminal would obey.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

/// Prints to standard output. A reader that has gone (`theoris check | head`) is no fault.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Control characters, and those that change the direction of text, as `\xNN` or `\u{NNNN}`.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push(' '),
            c if c.is_ascii_control() => {
                let _ = write!(shown, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() || hides(c) => {
                let _ = write!(shown, "{}", c.escape_unicode());
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Marks of direction, line ends of Unicode and characters without width.
fn hides(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// What a colour stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Warning,
    Bad,
    Heading,
    Quiet,
}

/// Whether colours are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paint(bool);

impl Paint {
    /// No colours.
    pub const PLAIN: Self = Self(false);

    /// Colours if standard output is a terminal that can, and nobody forbids them (no-color.org).
    #[must_use]
    pub fn of_terminal() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        Self(io::stdout().is_terminal() && !dumb && set("NO_COLOR").is_none())
    }

    /// The text in its tone. Width has to be added before: `paint.tone(Tone::Good, &format!("{text:<10}"))`.
    #[must_use]
    pub fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "1;31",
            Tone::Heading => "1",
            Tone::Quiet => "2",
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        assert_eq!(
            escaped("a\x1b]0;x\x07\tb\n\u{202e}c\u{9b}é"),
            "a\\x1b]0;x\\x07 b\\x0a\\u{202e}c\\u{9b}é"
        );
    }

    #[test]
    fn plain_text_has_no_colours() {
        assert_eq!(Paint::PLAIN.tone(Tone::Bad, "x"), "x");
        assert_eq!(Paint(true).tone(Tone::Bad, "x"), "\x1b[1;31mx\x1b[0m");
    }
}
