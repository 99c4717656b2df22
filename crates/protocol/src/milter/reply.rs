//! What the filter answers.

use bytes::Bytes;

use super::fields::{Fields, put};
use super::{BadMessage, Frame, Negotiation, frame};

/// One message of the filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Negotiate(Negotiation),
    Continue,
    Accept,
    Reject,
    Tempfail,
    Discard,
    /// An SMTP reply, `550 5.7.1 text`, where `%%` is one `%`; several lines have CRLF between them.
    /// [`reply_code`] writes it.
    ReplyCode(Bytes),
    /// No more events of this kind for this message.
    Skip,
    /// Still at work: the server starts its timer anew.
    Progress,
    /// The server shall say 421 and close.
    Shutdown,
    ConnFail,
    // The rest are edits and come before the answer to the end of the message.
    AddHeader {
        name: Bytes,
        value: Bytes,
    },
    /// Before the field at this place, counted from 0 over all fields with the server's own Received.
    InsertHeader {
        index: u32,
        name: Bytes,
        value: Bytes,
    },
    /// The field with this name and number, from 1; an empty value deletes it.
    ChangeHeader {
        index: u32,
        name: Bytes,
        value: Bytes,
    },
    ReplaceBody(Bytes),
    AddRcpt {
        address: Bytes,
    },
    AddRcptWithParameters {
        address: Bytes,
        parameters: Bytes,
    },
    DelRcpt {
        address: Bytes,
    },
    ChangeFrom {
        address: Bytes,
        parameters: Bytes,
    },
    Quarantine {
        reason: Bytes,
    },
}

impl Reply {
    /// # Errors
    ///
    /// [`BadMessage`] if it is none of the filter's messages.
    pub fn decode(frame: Frame) -> Result<Self, BadMessage> {
        let code = frame.code;
        let mut fields = Fields::of(frame);
        let plain = match code {
            b'c' => Self::Continue,
            b'a' => Self::Accept,
            b'r' => Self::Reject,
            b't' => Self::Tempfail,
            b'd' => Self::Discard,
            b's' => Self::Skip,
            b'p' => Self::Progress,
            b'4' => Self::Shutdown,
            b'f' => Self::ConnFail,
            b'O' => return Negotiation::read(fields).map(Self::Negotiate),
            b'y' => return Ok(Self::ReplyCode(up_to_nul(fields.rest()))),
            b'b' => return Ok(Self::ReplaceBody(fields.rest())),
            b'h' => Self::AddHeader { name: fields.text()?, value: fields.text()? },
            b'i' | b'm' => {
                let (index, name, value) = (fields.long()?, fields.text()?, fields.text()?);
                match code {
                    b'i' => Self::InsertHeader { index, name, value },
                    _ => Self::ChangeHeader { index, name, value },
                }
            }
            b'+' => Self::AddRcpt { address: fields.text()? },
            b'-' => Self::DelRcpt { address: fields.text()? },
            b'2' | b'e' => {
                let address = fields.text()?;
                let none = fields.is_empty();
                let parameters = if none { Bytes::new() } else { fields.text()? };
                match code {
                    b'2' => Self::AddRcptWithParameters { address, parameters },
                    _ => Self::ChangeFrom { address, parameters },
                }
            }
            b'q' => return Ok(Self::Quarantine { reason: up_to_nul(fields.rest()) }),
            code => return Err(BadMessage::Code(code)),
        };
        fields.end(plain)
    }

    /// Appends the frame.
    pub fn encode(&self, to: &mut Vec<u8>) {
        frame::write(to, self.code(), |to| match self {
            Self::Negotiate(negotiation) => negotiation.write(to),
            Self::ReplyCode(text) | Self::Quarantine { reason: text } => put(to, text),
            Self::AddHeader { name, value } => {
                put(to, name);
                put(to, value);
            }
            Self::InsertHeader { index, name, value }
            | Self::ChangeHeader { index, name, value } => {
                to.extend_from_slice(&index.to_be_bytes());
                put(to, name);
                put(to, value);
            }
            Self::ReplaceBody(bytes) => to.extend_from_slice(bytes),
            Self::AddRcpt { address } | Self::DelRcpt { address } => put(to, address),
            Self::AddRcptWithParameters { address, parameters }
            | Self::ChangeFrom { address, parameters } => {
                put(to, address);
                if !parameters.is_empty() {
                    put(to, parameters);
                }
            }
            Self::Continue
            | Self::Accept
            | Self::Reject
            | Self::Tempfail
            | Self::Discard
            | Self::Skip
            | Self::Progress
            | Self::Shutdown
            | Self::ConnFail => {}
        });
    }

    /// The code of its frame.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self {
            Self::Negotiate(_) => b'O',
            Self::Continue => b'c',
            Self::Accept => b'a',
            Self::Reject => b'r',
            Self::Tempfail => b't',
            Self::Discard => b'd',
            Self::ReplyCode(_) => b'y',
            Self::Skip => b's',
            Self::Progress => b'p',
            Self::Shutdown => b'4',
            Self::ConnFail => b'f',
            Self::AddHeader { .. } => b'h',
            Self::InsertHeader { .. } => b'i',
            Self::ChangeHeader { .. } => b'm',
            Self::ReplaceBody(_) => b'b',
            Self::AddRcpt { .. } => b'+',
            Self::AddRcptWithParameters { .. } => b'2',
            Self::DelRcpt { .. } => b'-',
            Self::ChangeFrom { .. } => b'e',
            Self::Quarantine { .. } => b'q',
        }
    }

    /// libmilter's name, as it stands in warnings.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Negotiate(_) => "SMFIC_OPTNEG",
            Self::Continue => "SMFIR_CONTINUE",
            Self::Accept => "SMFIR_ACCEPT",
            Self::Reject => "SMFIR_REJECT",
            Self::Tempfail => "SMFIR_TEMPFAIL",
            Self::Discard => "SMFIR_DISCARD",
            Self::ReplyCode(_) => "SMFIR_REPLYCODE",
            Self::Skip => "SMFIR_SKIP",
            Self::Progress => "SMFIR_PROGRESS",
            Self::Shutdown => "SMFIR_SHUTDOWN",
            Self::ConnFail => "SMFIR_CONN_FAIL",
            Self::AddHeader { .. } => "SMFIR_ADDHEADER",
            Self::InsertHeader { .. } => "SMFIR_INSHEADER",
            Self::ChangeHeader { .. } => "SMFIR_CHGHEADER",
            Self::ReplaceBody(_) => "SMFIR_REPLBODY",
            Self::AddRcpt { .. } => "SMFIR_ADDRCPT",
            Self::AddRcptWithParameters { .. } => "SMFIR_ADDRCPT_PAR",
            Self::DelRcpt { .. } => "SMFIR_DELRCPT",
            Self::ChangeFrom { .. } => "SMFIR_CHGFROM",
            Self::Quarantine { .. } => "SMFIR_QUARANTINE",
        }
    }
}

/// Text whose end Postfix does not insist on.
fn up_to_nul(mut text: Bytes) -> Bytes {
    let end = text.iter().position(|&octet| octet == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}

/// A [`Reply::ReplyCode`] with this code, enhanced code and text; `%` is doubled, and the text's lines become lines
/// of the reply. The code must be 4xx or 5xx and the enhanced code (`5.7.1`, or empty) of the same class.
#[must_use]
pub fn reply_code(code: u16, enhanced: &str, text: &str) -> Reply {
    let mut lines = text.lines().peekable();
    let mut reply = String::new();
    loop {
        let line = lines.next().unwrap_or_default().replace('%', "%%");
        let more = lines.peek().is_some();
        reply.push_str(&code.to_string());
        reply.push(if more { '-' } else { ' ' });
        if !enhanced.is_empty() {
            reply.push_str(enhanced);
            reply.push(' ');
        }
        reply.push_str(&line);
        if !more {
            return Reply::ReplyCode(reply.into());
        }
        reply.push_str("\r\n");
    }
}
