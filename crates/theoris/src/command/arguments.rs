//! The words behind a subcommand: options with and without values, and operands between them.

/// An option (`-c`, `--json`) and whether a value follows it.
pub type Known = (&'static str, bool);

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    options: Vec<(&'static str, String)>,
    pub operands: Vec<String>,
}

impl Arguments {
    /// Reads `words`. `--name=value` is `--name value`; behind `--` all are operands.
    ///
    /// # Errors
    ///
    /// A sentence that names the wrong word.
    pub fn read(words: &[String], known: &[Known]) -> Result<Self, String> {
        let mut read = Self::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if word == "--" {
                read.operands.extend(rest.cloned());
                break;
            }
            if !word.starts_with('-') || word == "-" {
                read.operands.push(word.clone());
                continue;
            }
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            let Some((name, takes)) = known.iter().find(|(known, _)| *known == name) else {
                return Err(format!("unknown option {word}"));
            };
            let value = match (takes, inline) {
                (false, None) => String::new(),
                (false, Some(_)) => return Err(format!("{name} takes no value")),
                (true, inline) => inline
                    .or_else(|| rest.next().cloned())
                    .filter(|value| !value.is_empty())
                    .ok_or_else(|| format!("{name} needs a value"))?,
            };
            read.options.push((name, value));
        }
        Ok(read)
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(known, _)| *known == name)
    }

    /// The last value of an option.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// All values of an option that may be given several times.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.options
            .iter()
            .filter(move |(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// For a command that has none.
    ///
    /// # Errors
    ///
    /// A sentence that names the first operand.
    pub fn no_operands(&self) -> Result<(), String> {
        match self.operands.first() {
            None => Ok(()),
            Some(word) => Err(format!("{word} is one word too many")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Arguments, String> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        Arguments::read(&words, &[("-c", true), ("--since", true), ("--json", false)])
    }

    #[test]
    fn options_and_operands_may_be_mixed() {
        let read_one = read("dkim -c /a --json imap --since=now -c /b").unwrap();
        assert_eq!(read_one.operands, ["dkim", "imap"]);
        assert_eq!((read_one.value("-c"), read_one.value("--since")), (Some("/b"), Some("now")));
        assert_eq!(read_one.values("-c").collect::<Vec<_>>(), ["/a", "/b"]);
        assert!(read_one.has("--json") && !read_one.has("--since-when"));
        assert_eq!(read("-- -c").unwrap().operands, ["-c"]);
    }

    #[test]
    fn wrong_words_are_named() {
        for (words, said) in [
            ("-x", "unknown option -x"),
            ("-c", "-c needs a value"),
            ("--json=1", "--json takes no value"),
            ("--since=", "--since needs a value"),
        ] {
            assert_eq!(read(words).unwrap_err(), said);
        }
        assert_eq!(read("a").unwrap().no_operands().unwrap_err(), "a is one word too many");
    }
}
