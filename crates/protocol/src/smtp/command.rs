//! Commands of a client (RFC 5321 section 4.1), and what can be wrong with one.
//!
//! A [`Request`] keeps its verb beside the result of parsing its arguments, since a server looks at the order of
//! commands first: `RCPT` without `MAIL` is 503 even when its argument is nonsense.

use super::parameters::{Mail, Recipient, address, octets};
use super::reply::Reply;
use super::token::{Token, tokens};

/// Which commands and parameters exist here.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// LHLO instead of HELO and EHLO (RFC 2033).
    pub lmtp: bool,
    /// `strict_rfc821_envelopes`.
    pub strict: bool,
    pub smtputf8: bool,
    pub dsn: bool,
}

impl Dialect {
    pub const SMTP: Self = Self { lmtp: false, strict: false, smtputf8: true, dsn: true };
    pub const LMTP: Self = Self { lmtp: true, strict: false, smtputf8: true, dsn: true };
}

/// The first word, in the order in which Postfix counts them in its `disconnect` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    Helo,
    Ehlo,
    Lhlo,
    XClient,
    XForward,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Vrfy,
    Etrn,
    Quit,
    Unknown,
}

impl Verb {
    const NAMES: [(&'static str, Self); 16] = [
        ("HELO", Self::Helo),
        ("EHLO", Self::Ehlo),
        ("LHLO", Self::Lhlo),
        ("XCLIENT", Self::XClient),
        ("XFORWARD", Self::XForward),
        ("STARTTLS", Self::StartTls),
        ("AUTH", Self::Auth),
        ("MAIL", Self::Mail),
        ("RCPT", Self::Rcpt),
        ("DATA", Self::Data),
        ("BDAT", Self::Bdat),
        ("RSET", Self::Rset),
        ("NOOP", Self::Noop),
        ("VRFY", Self::Vrfy),
        ("ETRN", Self::Etrn),
        ("QUIT", Self::Quit),
    ];

    fn parse(word: &str, lmtp: bool) -> Self {
        let known = Self::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word));
        match known.map(|&(_, verb)| verb) {
            Some(Self::Helo | Self::Ehlo | Self::Etrn | Self::XClient | Self::XForward) if lmtp => {
                Self::Unknown
            }
            Some(Self::Lhlo) if !lmtp => Self::Unknown,
            Some(verb) => verb,
            None => Self::Unknown,
        }
    }

    /// As it stands in log lines: `RCPT`, and `UNKNOWN`.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|&&(_, verb)| verb == self).map_or("UNKNOWN", |&(name, _)| name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Helo(String),
    Ehlo(String),
    Lhlo(String),
    Mail(Mail),
    Rcpt(Recipient),
    Data,
    Bdat { size: u64, last: bool },
    Rset,
    Noop,
    Vrfy { address: String, argument: String, smtputf8: bool },
    Etrn(String),
    StartTls,
    Auth { mechanism: String, initial: Option<String> },
    XClient(Vec<(String, String)>),
    XForward(Vec<(String, String)>),
    Quit,
}

/// One command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub verb: Verb,
    /// The first word as the client wrote it.
    pub word: String,
    pub command: Result<Command, Mistake>,
}

impl Request {
    /// Parses a line without its line ending. `None`: there is no word on it.
    #[must_use]
    pub fn parse(line: &str, dialect: Dialect) -> Option<Self> {
        let words = tokens(line);
        let word = words.first()?.text.clone();
        let verb = Verb::parse(&word, dialect.lmtp);
        Some(Self { verb, word, command: Command::parse(verb, &words, dialect) })
    }
}

impl Command {
    fn parse(verb: Verb, words: &[Token], dialect: Dialect) -> Result<Self, Mistake> {
        let arguments = words.get(1..).unwrap_or_default();
        match verb {
            Verb::Helo => joined(arguments).map(Self::Helo).ok_or(Mistake::HeloSyntax),
            Verb::Ehlo => joined(arguments).map(Self::Ehlo).ok_or(Mistake::EhloSyntax),
            Verb::Lhlo => joined(arguments).map(Self::Lhlo).ok_or(Mistake::LhloSyntax),
            Verb::Mail => Mail::parse(words, dialect).map(Self::Mail),
            Verb::Rcpt => Recipient::parse(words, dialect).map(Self::Rcpt),
            Verb::Data => alone(arguments, Self::Data, Mistake::DataSyntax),
            Verb::Rset => alone(arguments, Self::Rset, Mistake::RsetSyntax),
            Verb::StartTls => alone(arguments, Self::StartTls, Mistake::StartTlsSyntax),
            Verb::Noop => Ok(Self::Noop),
            Verb::Quit => Ok(Self::Quit),
            Verb::Bdat => bdat(arguments),
            Verb::Vrfy => vrfy(arguments, dialect),
            Verb::Etrn => match arguments {
                [domain] => {
                    let name = domain.text.strip_prefix(['@', '#']).unwrap_or(&domain.text);
                    Ok(Self::Etrn(name.to_owned()))
                }
                _ => Err(Mistake::EtrnSyntax),
            },
            Verb::Auth => match arguments {
                [mechanism] => Ok(Self::Auth { mechanism: mechanism.text.clone(), initial: None }),
                [mechanism, initial] => Ok(Self::Auth {
                    mechanism: mechanism.text.clone(),
                    initial: Some(initial.text.clone()),
                }),
                _ => Err(Mistake::AuthSyntax),
            },
            Verb::XClient => attributes(verb, arguments).map(Self::XClient),
            Verb::XForward => attributes(verb, arguments).map(Self::XForward),
            Verb::Unknown => Err(Mistake::Unknown),
        }
    }
}

fn joined(words: &[Token]) -> Option<String> {
    let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn alone(arguments: &[Token], command: Command, mistake: Mistake) -> Result<Command, Mistake> {
    if arguments.is_empty() { Ok(command) } else { Err(mistake) }
}

fn bdat(arguments: &[Token]) -> Result<Command, Mistake> {
    let (size, last) = match arguments {
        [size] => (size, false),
        [size, last] if last.text.eq_ignore_ascii_case("LAST") => (size, true),
        _ => return Err(Mistake::BdatSyntax),
    };
    let size = octets(&size.text).map_err(|_| Mistake::BdatSyntax)?;
    Ok(Command::Bdat { size, last })
}

fn vrfy(arguments: &[Token], dialect: Dialect) -> Result<Command, Mistake> {
    let (words, smtputf8) = match arguments {
        [words @ .., last] if dialect.smtputf8 && last.text.eq_ignore_ascii_case("SMTPUTF8") => {
            (words, true)
        }
        _ => (arguments, false),
    };
    let argument = joined(words).ok_or(Mistake::VrfySyntax { smtputf8: dialect.smtputf8 })?;
    let broken = words.len() == 1 && words.iter().any(|word| word.broken);
    let token = Token { text: argument.clone(), broken };
    let address = address(&token, Dialect { strict: false, ..dialect })
        .ok()
        .filter(|address| !address.is_empty())
        .ok_or_else(|| Mistake::Recipient(argument.clone()))?;
    Ok(Command::Vrfy { address, argument, smtputf8 })
}

/// `NAME=value` pairs, values decoded from xtext where they are xtext.
fn attributes(verb: Verb, arguments: &[Token]) -> Result<Vec<(String, String)>, Mistake> {
    if arguments.is_empty() {
        return Err(Mistake::AttributesMissing(verb));
    }
    let mut pairs = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let (name, value) = argument
            .text
            .split_once('=')
            .filter(|(_, value)| !value.is_empty())
            .ok_or(Mistake::AttributeSyntax)?;
        if value.len() > 255 {
            return Err(Mistake::AttributeTooLong);
        }
        let value = super::xtext_decode(value).unwrap_or_else(|| value.to_owned());
        pairs.push((name.to_ascii_uppercase(), value.replace(|c: char| c.is_ascii_control(), "?")));
    }
    Ok(pairs)
}

/// What is wrong with a command line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Reply::from(self.clone()))]
pub enum Mistake {
    Unknown,
    HeloSyntax,
    EhloSyntax,
    LhloSyntax,
    MailSyntax,
    /// No usable address; holds what stood in its place, nothing if a quote or bracket was not closed.
    Sender(String),
    RcptSyntax,
    Recipient(String),
    DataSyntax,
    BdatSyntax,
    RsetSyntax,
    StartTlsSyntax,
    EtrnSyntax,
    AuthSyntax,
    VrfySyntax {
        smtputf8: bool,
    },
    AttributesMissing(Verb),
    AttributeSyntax,
    AttributeTooLong,
    SizeSyntax,
    SizeOverflow,
    RepeatedAuth,
    DsnDisabled,
    Ret,
    EnvelopeId,
    /// Holds the value.
    Notify(String),
    OriginalRecipient,
    Unsupported(String),
}

impl From<Mistake> for Reply {
    fn from(mistake: Mistake) -> Self {
        let (code, text) = match mistake {
            Mistake::Unknown => (500, "5.5.2 Error: command not recognized"),
            Mistake::HeloSyntax => (501, "Syntax: HELO hostname"),
            Mistake::EhloSyntax => (501, "Syntax: EHLO hostname"),
            Mistake::LhloSyntax => (501, "Syntax: LHLO hostname"),
            Mistake::MailSyntax => (501, "5.5.4 Syntax: MAIL FROM:<address>"),
            Mistake::Sender(_) => (501, "5.1.7 Bad sender address syntax"),
            Mistake::RcptSyntax => (501, "5.5.4 Syntax: RCPT TO:<address>"),
            Mistake::Recipient(_) => (501, "5.1.3 Bad recipient address syntax"),
            Mistake::DataSyntax => (501, "5.5.4 Syntax: DATA"),
            Mistake::BdatSyntax => (521, "5.5.4 Syntax: BDAT count [LAST]"),
            Mistake::RsetSyntax => (501, "5.5.4 Syntax: RSET"),
            Mistake::StartTlsSyntax => (501, "5.5.4 Syntax: STARTTLS"),
            Mistake::EtrnSyntax => (500, "Syntax: ETRN domain"),
            Mistake::AuthSyntax => (501, "5.5.4 Syntax: AUTH mechanism"),
            Mistake::VrfySyntax { smtputf8: true } => {
                (501, "5.5.4 Syntax: VRFY address [SMTPUTF8]")
            }
            Mistake::VrfySyntax { smtputf8: false } => (501, "5.5.4 Syntax: VRFY address"),
            Mistake::AttributesMissing(verb) => {
                return Self::new(501, format!("5.5.4 Syntax: {} attribute=value...", verb.name()));
            }
            Mistake::AttributeSyntax => (501, "5.5.4 Error: attribute=value expected"),
            Mistake::AttributeTooLong => (501, "5.5.4 Error: attribute value too long"),
            Mistake::SizeSyntax => (501, "5.5.4 Bad message size syntax"),
            Mistake::SizeOverflow => (552, "5.3.4 Message size exceeds file system imposed limit"),
            Mistake::RepeatedAuth => (503, "5.5.4 Error: multiple AUTH= options"),
            Mistake::DsnDisabled => (501, "5.7.1 DSN support is disabled"),
            Mistake::Ret => (501, "5.5.4 Bad RET parameter syntax"),
            Mistake::EnvelopeId => (501, "5.5.4 Bad ENVID parameter syntax"),
            Mistake::Notify(_) => (501, "5.5.4 Error: Bad NOTIFY parameter syntax"),
            Mistake::OriginalRecipient => (501, "5.5.4 Error: Bad ORCPT parameter syntax"),
            Mistake::Unsupported(parameter) => {
                return Self::new(555, format!("5.5.4 Unsupported option: {parameter}"));
            }
        };
        Self::new(code, text)
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
