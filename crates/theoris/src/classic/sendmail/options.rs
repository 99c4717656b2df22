//! sendmail's command line, with all that other mail systems' callers write.

use mail_types::{Notify, Ret, unquote_822};

use super::super::options::{Word, parse};
use super::super::{Fatal, code};

/// What the run is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Submit,
    /// `-bp`
    List,
    /// `-q`
    Flush,
    /// `-qIid`
    FlushFile(String),
    /// `-qRsite`
    FlushSite(String),
    /// Said with these words.
    Unsupported(&'static str),
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    pub mode: Mode,
    pub config: Option<String>,
    /// `-f`, in internal form; empty for the null sender.
    pub sender: Option<String>,
    pub full_name: Option<String>,
    /// `-t`
    pub from_header: bool,
    /// A line of one dot does not end the message.
    pub ignore_dots: bool,
    pub notify: Notify,
    pub ret: Option<Ret>,
    pub envelope_id: Option<String>,
    /// `7bit` or `8bit`.
    pub encoding: Option<&'static str>,
    /// `-G`: mail from elsewhere, whose header is not completed.
    pub gateway: bool,
    pub verp: Option<String>,
    /// `-bv`: find out where it would go.
    pub verify: bool,
    /// `-v`: report the delivery.
    pub verbose: bool,
    pub recipients: Vec<String>,
}

const LETTERS: &str = "A:B:C:F:GIL:N:O:R:UV:X:b:cef:h:imno:p:r:q:tvx";

/// What getopt cannot say: `-q` may stand alone, and `-V` before a word of two characters is what
/// `-XV` has been since Postfix 2.3.
fn modernised(words: &[String]) -> Vec<String> {
    let mut result = Vec::with_capacity(words.len());
    for (at, word) in words.iter().enumerate() {
        let two = words.get(at + 1).is_some_and(|next| next.len() == 2);
        result.push(match word.as_str() {
            "-q" => "-q ".to_owned(),
            "-V" if two => {
                eprintln!("sendmail: warning: option -V is deprecated with Postfix 2.3; specify -XV instead");
                "-XV".to_owned()
            }
            _ => word.clone(),
        });
    }
    result
}

/// A value that the original does not take either, and goes on without.
fn ignored(option: &str) {
    eprintln!("sendmail: warning: bad {option} option value -- ignored");
}

fn usage(text: impl std::fmt::Display) -> Fatal {
    Fatal::new(code::TEMPORARY, text)
}

impl Options {
    /// # Errors
    ///
    /// [`Fatal`] with 75, as for everything that sendmail itself refuses.
    pub fn read(words: &[String]) -> Result<Self, Fatal> {
        let mut options = Self::default();
        let words = modernised(words);
        let (found, operands) = parse(&words, LETTERS);
        for word in found {
            options.apply(word)?;
        }
        let submits = options.mode == Mode::Submit;
        if !submits {
            return Ok(options);
        }
        if !options.from_header && operands.is_empty() {
            return Err(usage(
                "Recipient addresses must be specified on the command line or via the -t option",
            ));
        }
        options.recipients = operands;
        Ok(options)
    }

    fn apply(&mut self, word: Word) -> Result<(), Fatal> {
        match word {
            Word::Flag('t') => self.from_header = true,
            Word::Flag('i') => self.ignore_dots = true,
            Word::Flag('G') => self.gateway = true,
            Word::Flag('v') => self.verbose = true,
            Word::Flag('I') => self.mode = Mode::Unsupported("-I (newaliases)"),
            Word::Flag('U' | 'c' | 'e' | 'm' | 'n' | 'x') => {}
            Word::Value('C', value) => self.config = Some(value),
            Word::Value('F', value) => self.full_name = Some(value),
            Word::Value('f' | 'r', value) => self.sender = Some(sender(&value)),
            Word::Value('b', value) => self.mode_letter(&value)?,
            Word::Value('B', value) => {
                self.encoding = Some(match value.to_ascii_uppercase().as_str() {
                    "8BITMIME" => "8bit",
                    "7BIT" => "7bit",
                    _ => return Err(usage("-B option needs 8BITMIME or 7BIT")),
                });
            }
            Word::Value('N', value) => match Notify::parse(&value) {
                Some(notify) => self.notify = notify,
                None => ignored("-N"),
            },
            Word::Value('R', value) => match Ret::parse(&value) {
                Some(ret) => self.ret = Some(ret),
                None => ignored("-R"),
            },
            Word::Value('V', value) => self.envelope_id = Some(value),
            Word::Value('X', value) => self.verp(&value)?,
            Word::Value('q', value) => self.queue_run(value.trim_end()),
            Word::Value('o', value) => self.old_option(&value),
            Word::Value('A' | 'L' | 'O' | 'h' | 'p', _) => {}
            Word::Bad(letter) => {
                return Err(usage(format!("usage: sendmail [options]: -{letter}")));
            }
            Word::Flag(_) | Word::Value(..) => {}
        }
        Ok(())
    }

    fn mode_letter(&mut self, value: &str) -> Result<(), Fatal> {
        self.mode = match value.chars().next() {
            Some('m') => Mode::Submit,
            Some('p') => Mode::List,
            Some('v') => {
                self.verify = true;
                Mode::Submit
            }
            Some('s') => Mode::Unsupported("-bs (SMTP on standard input)"),
            Some('i' | 'I') => Mode::Unsupported("-bi (newaliases)"),
            Some('d' | 'l') => Mode::Unsupported("-bd (use the service manager)"),
            Some('h' | 'H') => return Ok(()),
            _ => return Err(usage(format!("unsupported: -b{value}"))),
        };
        Ok(())
    }

    fn queue_run(&mut self, value: &str) {
        self.mode = match value.chars().next() {
            None => Mode::Flush,
            Some('I') => Mode::FlushFile(value.chars().skip(1).collect()),
            Some('R') => Mode::FlushSite(value.chars().skip(1).collect()),
            Some(_) => return, // an interval, for a daemon that we are not
        };
    }

    /// `-oX`: what old callers write; `-oi` matters, and the letters that are options of their own.
    fn old_option(&mut self, value: &str) {
        match value.chars().next() {
            Some('i') => self.ignore_dots = true,
            Some('v') => self.verbose = true,
            _ => {}
        }
    }

    fn verp(&mut self, value: &str) -> Result<(), Fatal> {
        let Some(delimiters) = value.strip_prefix('V') else { return Ok(()) }; // -X file: a log
        let delimiters = if delimiters.is_empty() { "+=" } else { delimiters };
        if delimiters.len() != 2 || !delimiters.chars().all(|c| "-=+".contains(c)) {
            return Err(usage("-V requires two characters from -=+"));
        }
        self.verp = Some(delimiters.to_owned());
        Ok(())
    }
}

/// `-f ''` and `-f '<>'` are the null sender.
fn sender(value: &str) -> String {
    let address = value.trim().strip_prefix('<').and_then(|inner| inner.strip_suffix('>'));
    unquote_822(address.unwrap_or(value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, Fatal> {
        Options::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn real_callers_are_understood() {
        let php = read("-t -i -f www@example.com").unwrap();
        assert!(php.from_header && php.ignore_dots);
        assert_eq!(php.sender.as_deref(), Some("www@example.com"));
        let cron = read("-i -FCronDaemon -B8BITMIME -oem root").unwrap();
        assert_eq!((cron.full_name.as_deref(), cron.encoding), (Some("CronDaemon"), Some("8bit")));
        assert_eq!(cron.recipients, ["root"]);
        let mutt = read("-oem -oi -- a@b c@d").unwrap();
        assert!(mutt.ignore_dots);
        assert_eq!(mutt.recipients, ["a@b", "c@d"]);
        let dsn = read("-N success,delay -R hdrs -V E1234 -f <> bob").unwrap();
        assert_eq!((dsn.notify.bits(), dsn.ret), (10, Some(Ret::Headers)));
        assert_eq!(dsn.sender.as_deref(), Some(""));
    }

    #[test]
    fn modes_and_mistakes() {
        assert_eq!(read("-bp").unwrap().mode, Mode::List);
        assert_eq!(read("-q").unwrap().mode, Mode::Flush);
        assert_eq!(read("-qIABC").unwrap().mode, Mode::FlushFile("ABC".into()));
        assert_eq!(read("-qRx.org").unwrap().mode, Mode::FlushSite("x.org".into()));
        assert!(matches!(read("-bs").unwrap().mode, Mode::Unsupported(_)));
        for bad in ["", "-Z x", "-bz x", "-XV++- x"] {
            assert_eq!(read(bad).unwrap_err().code, code::TEMPORARY, "{bad}");
        }
    }
}
