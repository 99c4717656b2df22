//! What the server tells the filter.

use bytes::Bytes;

use super::fields::{Fields, put};
use super::{BadMessage, Frame, Negotiation, Stage, frame};

/// One message of the server. Addresses are in angle brackets as SMTP has them, where they came over SMTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Negotiate(Negotiation),
    /// Macros for the event with this code, which follows if it is not suppressed. Never answered.
    Macros {
        code: u8,
        values: Vec<(Bytes, Bytes)>,
    },
    Connect {
        host: Bytes,
        family: Family,
    },
    Helo(Bytes),
    Mail {
        address: Bytes,
        parameters: Vec<Bytes>,
    },
    Rcpt {
        address: Bytes,
        parameters: Vec<Bytes>,
    },
    Data,
    /// A command that the server does not know.
    Unknown(Bytes),
    /// One field, its lines divided by LF.
    Header {
        name: Bytes,
        value: Bytes,
    },
    Eoh,
    Body(Bytes),
    /// The end, with a last piece of body that is mostly empty. Always answered.
    Eom(Bytes),
    /// The message is over; never answered.
    Abort,
    /// The connection is over; never answered.
    Quit,
    /// The client is over, another follows; never answered.
    QuitNewConnection,
}

/// Where the client connects from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Family {
    Unknown,
    Inet { port: u16, address: Bytes },
    Inet6 { port: u16, address: Bytes },
    Unix { port: u16, path: Bytes },
}

impl Event {
    /// # Errors
    ///
    /// [`BadMessage`] if it is none of the server's messages.
    pub fn decode(frame: Frame) -> Result<Self, BadMessage> {
        let code = frame.code;
        let mut fields = Fields::of(frame);
        match code {
            b'O' => Negotiation::read(fields).map(Self::Negotiate),
            b'D' => macros(fields),
            b'C' => {
                let host = fields.text()?;
                let family = Family::read(&mut fields, code)?;
                fields.end(Self::Connect { host, family })
            }
            b'H' => fields.text().and_then(|name| fields.end(Self::Helo(name))),
            b'M' => {
                let address = fields.text()?;
                Ok(Self::Mail { address, parameters: fields.texts()? })
            }
            b'R' => {
                let address = fields.text()?;
                Ok(Self::Rcpt { address, parameters: fields.texts()? })
            }
            b'T' => fields.end(Self::Data),
            b'U' => fields.text().and_then(|command| fields.end(Self::Unknown(command))),
            b'L' => {
                let (name, value) = (fields.text()?, fields.text()?);
                fields.end(Self::Header { name, value })
            }
            b'N' => fields.end(Self::Eoh),
            b'B' => Ok(Self::Body(fields.rest())),
            b'E' => Ok(Self::Eom(fields.rest())),
            b'A' => fields.end(Self::Abort),
            b'Q' => fields.end(Self::Quit),
            b'K' => fields.end(Self::QuitNewConnection),
            code => Err(BadMessage::Code(code)),
        }
    }

    /// Appends the frame.
    pub fn encode(&self, to: &mut Vec<u8>) {
        frame::write(to, self.code(), |to| match self {
            Self::Negotiate(negotiation) => negotiation.write(to),
            Self::Macros { code, values } => {
                to.push(*code);
                for (name, value) in values {
                    put(to, name);
                    put(to, value);
                }
            }
            Self::Connect { host, family } => {
                put(to, host);
                family.write(to);
            }
            Self::Helo(text) | Self::Unknown(text) => put(to, text),
            Self::Mail { address, parameters } | Self::Rcpt { address, parameters } => {
                put(to, address);
                parameters.iter().for_each(|parameter| put(to, parameter));
            }
            Self::Header { name, value } => {
                put(to, name);
                put(to, value);
            }
            Self::Body(bytes) | Self::Eom(bytes) => to.extend_from_slice(bytes),
            Self::Data | Self::Eoh | Self::Abort | Self::Quit | Self::QuitNewConnection => {}
        });
    }

    /// The code of its frame.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Negotiate(_) => b'O',
            Self::Macros { .. } => b'D',
            Self::Abort => b'A',
            Self::Quit => b'Q',
            Self::QuitNewConnection => b'K',
            Self::Connect { .. } => Stage::Connect.code(),
            Self::Helo(_) => Stage::Helo.code(),
            Self::Mail { .. } => Stage::Mail.code(),
            Self::Rcpt { .. } => Stage::Rcpt.code(),
            Self::Data => Stage::Data.code(),
            Self::Unknown(_) => Stage::Unknown.code(),
            Self::Header { .. } => Stage::Header.code(),
            Self::Eoh => Stage::Eoh.code(),
            Self::Body(_) => Stage::Body.code(),
            Self::Eom(_) => Stage::Eom.code(),
        }
    }

    /// Its stage, which negotiation, macros, abort and quit have not.
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        Stage::of(self.code())
    }
}

fn macros(mut fields: Fields) -> Result<Event, BadMessage> {
    let code = fields.octet()?;
    let list = fields.texts()?;
    let (pairs, odd) = list.as_chunks::<2>();
    if !odd.is_empty() {
        return Err(BadMessage::Short(b'D'));
    }
    let values = pairs.iter().map(|[name, value]| (name.clone(), value.clone())).collect();
    Ok(Event::Macros { code, values })
}

impl Family {
    fn read(fields: &mut Fields, code: u8) -> Result<Self, BadMessage> {
        match fields.octet()? {
            b'U' => Ok(Self::Unknown),
            b'4' => Ok(Self::Inet { port: fields.short()?, address: fields.text()? }),
            b'6' => Ok(Self::Inet6 { port: fields.short()?, address: fields.text()? }),
            b'L' => Ok(Self::Unix { port: fields.short()?, path: fields.text()? }),
            _ => Err(BadMessage::Code(code)),
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        let (letter, port, address) = match self {
            Self::Unknown => return to.push(b'U'),
            Self::Inet { port, address } => (b'4', port, address),
            Self::Inet6 { port, address } => (b'6', port, address),
            Self::Unix { port, path } => (b'L', port, path),
        };
        to.push(letter);
        to.extend_from_slice(&port.to_be_bytes());
        put(to, address);
    }
}
