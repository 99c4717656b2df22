//! MAIL and RCPT with their parameters (RFC 1870, 3461, 4954, 6152, 6531).

use super::address::extract;
use super::command::{Dialect, Mistake};
use super::token::Token;
use super::xtext::{utf8_xtext_decode, xtext_decode};
use mail_types::{Body, Notify, Ret};

/// `MAIL FROM:<reverse-path> parameters`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// The reverse-path in internal form; empty for the null reverse-path.
    pub address: String,
    /// As the client wrote it.
    pub argument: String,
    /// Octets on the wire, as announced (RFC 1870).
    pub size: Option<u64>,
    pub body: Option<Body>,
    pub smtputf8: bool,
    /// `AUTH=`, still xtext; `None` for `AUTH=<>` too (RFC 4954 section 5).
    pub auth: Option<String>,
    pub ret: Option<Ret>,
    /// `ENVID=`, decoded.
    pub envelope_id: Option<String>,
}

/// `RCPT TO:<forward-path> parameters`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// The forward-path in internal form; never empty.
    pub address: String,
    /// As the client wrote it.
    pub argument: String,
    pub notify: Notify,
    pub original: Option<OriginalRecipient>,
}

/// `ORCPT=type;address`, the address decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalRecipient {
    pub kind: String,
    pub address: String,
}

impl Mail {
    pub(super) fn parse(words: &[Token], dialect: Dialect) -> Result<Self, Mistake> {
        let [_, from, argument, parameters @ ..] = words else {
            return Err(Mistake::MailSyntax);
        };
        if !from.text.eq_ignore_ascii_case("from:") {
            return Err(Mistake::MailSyntax);
        }
        let address = address(argument, dialect).map_err(|_| Mistake::Sender(shown(argument)))?;
        let mut mail = Self { address, argument: argument.text.clone(), ..Self::default() };
        for parameter in parameters {
            let (name, value) = split(&parameter.text);
            match (name.as_str(), value) {
                ("BODY", Some(body)) if body.eq_ignore_ascii_case("8BITMIME") => {
                    mail.body = Some(Body::EightBitMime);
                }
                ("BODY", Some(body)) if body.eq_ignore_ascii_case("7BIT") => {
                    mail.body = Some(Body::SevenBit);
                }
                ("SIZE", Some(size)) => mail.size = Some(octets(size)?),
                ("SMTPUTF8", None) if dialect.smtputf8 => mail.smtputf8 = true,
                ("AUTH", Some(identity)) => {
                    if mail.auth.is_some() {
                        return Err(Mistake::RepeatedAuth);
                    }
                    if identity != "<>" {
                        mail.auth = Some(identity.to_owned());
                    }
                }
                ("RET" | "ENVID", Some(_)) if !dialect.dsn => return Err(Mistake::DsnDisabled),
                ("RET", Some(ret)) => mail.ret = Some(ret_once(ret, mail.ret)?),
                ("ENVID", Some(id)) => {
                    let decoded = xtext_decode(id)
                        .filter(|id| id.bytes().all(|c| (b' '..=b'~').contains(&c)))
                        .filter(|_| mail.envelope_id.is_none());
                    mail.envelope_id = Some(decoded.ok_or(Mistake::EnvelopeId)?);
                }
                _ => return Err(Mistake::Unsupported(parameter.text.clone())),
            }
        }
        Ok(mail)
    }
}

fn ret_once(text: &str, earlier: Option<Ret>) -> Result<Ret, Mistake> {
    Ret::parse(text).filter(|_| earlier.is_none()).ok_or(Mistake::Ret)
}

impl Recipient {
    pub(super) fn parse(words: &[Token], dialect: Dialect) -> Result<Self, Mistake> {
        let [_, to, argument, parameters @ ..] = words else {
            return Err(Mistake::RcptSyntax);
        };
        if !to.text.eq_ignore_ascii_case("to:") {
            return Err(Mistake::RcptSyntax);
        }
        let address = address(argument, dialect)
            .ok()
            .filter(|address| !address.is_empty())
            .ok_or_else(|| Mistake::Recipient(shown(argument)))?;
        let mut recipient = Self { address, argument: argument.text.clone(), ..Self::default() };
        for parameter in parameters {
            let (name, value) = split(&parameter.text);
            match (name.as_str(), value) {
                ("NOTIFY" | "ORCPT", Some(_)) if !dialect.dsn => return Err(Mistake::DsnDisabled),
                ("NOTIFY", Some(words)) => {
                    let notify = Notify::parse(words).filter(|_| recipient.notify.is_none());
                    recipient.notify = notify.ok_or_else(|| Mistake::Notify(words.to_owned()))?;
                }
                ("ORCPT", Some(original)) => {
                    let original =
                        OriginalRecipient::parse(original).filter(|_| recipient.original.is_none());
                    recipient.original = Some(original.ok_or(Mistake::OriginalRecipient)?);
                }
                _ => return Err(Mistake::Unsupported(parameter.text.clone())),
            }
        }
        Ok(recipient)
    }

    /// What a notification names as the original recipient: `ORCPT`, or the address as it was given.
    #[must_use]
    pub fn original_or_argument(&self) -> OriginalRecipient {
        self.original.clone().unwrap_or_else(|| OriginalRecipient {
            kind: "rfc822".to_owned(),
            address: self
                .argument
                .strip_prefix('<')
                .and_then(|text| text.strip_suffix('>'))
                .unwrap_or(&self.argument)
                .to_owned(),
        })
    }
}

impl OriginalRecipient {
    fn parse(text: &str) -> Option<Self> {
        let (kind, coded) = text.split_once(';')?;
        if kind.is_empty() {
            return None;
        }
        let decode =
            if kind.eq_ignore_ascii_case("utf-8") { utf8_xtext_decode } else { xtext_decode };
        Some(Self { kind: kind.to_owned(), address: decode(coded)? })
    }
}

pub(super) fn address(argument: &Token, dialect: Dialect) -> Result<String, ()> {
    if argument.broken {
        return Err(());
    }
    extract(&argument.text, dialect.strict).map_err(|_| ())
}

/// What a log line shows of an argument that is no address.
fn shown(argument: &Token) -> String {
    if argument.broken { String::new() } else { argument.text.clone() }
}

fn split(parameter: &str) -> (String, Option<&str>) {
    match parameter.split_once('=') {
        Some((name, value)) => (name.to_ascii_uppercase(), Some(value)),
        None => (parameter.to_ascii_uppercase(), None),
    }
}

/// Digits only; a number beyond what a file can hold is told apart from a bad one.
pub(super) fn octets(text: &str) -> Result<u64, Mistake> {
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_digit()) {
        return Err(Mistake::SizeSyntax);
    }
    match text.parse::<i64>() {
        Ok(size) => Ok(size.unsigned_abs()),
        Err(_) => Err(Mistake::SizeOverflow),
    }
}
