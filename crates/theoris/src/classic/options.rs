//! Command lines as getopt(3) reads them.

/// One step of reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    Flag(char),
    Value(char, String),
    /// A letter that the program does not have, or one whose value is missing.
    Bad(char),
}

/// Splits words into options and operands. In `takes`, a letter with `:` behind it has a value.
/// Options end at `--` or at the first operand.
#[must_use]
pub fn parse(words: &[String], takes: &str) -> (Vec<Word>, Vec<String>) {
    let mut options = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            break;
        };
        at += 1;
        if letters == "-" {
            break;
        }
        let mut rest = letters.chars();
        while let Some(letter) = rest.next() {
            match value_of(takes, letter) {
                None => options.push(Word::Bad(letter)),
                Some(false) => options.push(Word::Flag(letter)),
                Some(true) => {
                    let attached = rest.as_str();
                    let value = if attached.is_empty() {
                        at += 1;
                        words.get(at - 1).cloned()
                    } else {
                        Some(attached.to_owned())
                    };
                    options
                        .push(value.map_or(Word::Bad(letter), |value| Word::Value(letter, value)));
                    break;
                }
            }
        }
    }
    (options, words.get(at..).unwrap_or_default().to_vec())
}

fn value_of(takes: &str, letter: char) -> Option<bool> {
    let at = takes.find(letter).filter(|_| letter != ':')?;
    Some(takes.get(at + letter.len_utf8()..).is_some_and(|rest| rest.starts_with(':')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_end_at_the_first_operand() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (options, operands) = parse(&words("-it -fa@b -F Joe bob -x"), "itf:F:");
        assert_eq!(
            options,
            [
                Word::Flag('i'),
                Word::Flag('t'),
                Word::Value('f', "a@b".into()),
                Word::Value('F', "Joe".into())
            ]
        );
        assert_eq!(operands, ["bob", "-x"]);
        assert_eq!(parse(&words("-i -- -t"), "it").1, ["-t"]);
        assert_eq!(parse(&words("-z -f"), "f:").0, [Word::Bad('z'), Word::Bad('f')]);
    }
}
