//! The MIME tree of a message: what IMAP's ENVELOPE, BODYSTRUCTURE and section requests show.
//!
//! Offsets and ranges are octets of the stored message, whatever its line ends; sizes that a client
//! sees count every line end as CRLF. Texts are the header's own bytes, unfolded: nothing is decoded.

use std::ops::Range;

/// One body part: the whole message, a child of a multipart, or an attached message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The header with the empty line that ends it.
    pub header: Range<u64>,
    pub header_size: Size,
    pub body: Range<u64>,
    pub body_size: Size,
    /// `text`, `multipart`, ...; as it is written: compare without case.
    pub media_type: Vec<u8>,
    pub subtype: Vec<u8>,
    /// Values without quotes; the pieces of an RFC 2231 parameter put together.
    pub parameters: Vec<Parameter>,
    pub id: Option<Vec<u8>>,
    pub description: Option<Vec<u8>>,
    /// As it is written; `7bit` when the header is silent.
    pub encoding: Vec<u8>,
    pub md5: Option<Vec<u8>>,
    pub disposition: Option<Disposition>,
    pub languages: Vec<Vec<u8>>,
    pub location: Option<Vec<u8>>,
    pub content: Content,
}

/// What a part holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Content {
    #[default]
    Leaf,
    /// Never empty: a multipart without parts shows one empty `text/plain`, as Dovecot does.
    Multipart(Vec<Part>),
    /// `message/rfc822`: the message inside, its header being the inner one.
    Message(Box<Message>),
}

/// A message as a whole: its envelope and its outermost part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub envelope: Envelope,
    pub part: Part,
}

/// How long something is, as stored and as a client counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub physical: u64,
    /// With every line end counted as CRLF.
    pub wire: u64,
    /// The number of LFs: a last line without one does not count.
    pub lines: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameter {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disposition {
    /// `attachment`, `inline`; as it is written.
    pub kind: Vec<u8>,
    pub parameters: Vec<Parameter>,
}

/// RFC 3501 section 7.4.2, ENVELOPE. `None` and empty lists are shown as NIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    pub date: Option<Vec<u8>>,
    pub subject: Option<Vec<u8>>,
    pub from: Vec<Address>,
    /// As the header says; a reader shows `from` where it is empty.
    pub sender: Vec<Address>,
    /// As the header says; a reader shows `from` where it is empty.
    pub reply_to: Vec<Address>,
    pub to: Vec<Address>,
    pub cc: Vec<Address>,
    pub bcc: Vec<Address>,
    pub in_reply_to: Option<Vec<u8>>,
    pub message_id: Option<Vec<u8>>,
}

impl Envelope {
    /// `Sender`, or `From` where there is none.
    #[must_use]
    pub fn shown_sender(&self) -> &[Address] {
        if self.sender.is_empty() { &self.from } else { &self.sender }
    }

    /// `Reply-To`, or `From` where there is none.
    #[must_use]
    pub fn shown_reply_to(&self) -> &[Address] {
        if self.reply_to.is_empty() { &self.from } else { &self.reply_to }
    }
}

/// One address structure of an envelope: (name adl mailbox host), each as it is shown.
///
/// The start of a group is `mailbox` alone, its end has none of the four.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    pub name: Option<Vec<u8>>,
    /// The source route, `@a,@b`.
    pub route: Option<Vec<u8>>,
    pub mailbox: Option<Vec<u8>>,
    pub host: Option<Vec<u8>>,
}

impl Part {
    /// Whether the media type is `media_type`, in any case.
    #[must_use]
    pub fn is(&self, media_type: &str) -> bool {
        self.media_type.eq_ignore_ascii_case(media_type.as_bytes())
    }

    /// The part at `path` (RFC 3501 section 6.4.5: `[2, 1]` is `BODY[2.1]`).
    ///
    /// `1` of a part that is no multipart is that part itself; a path through a
    /// `message/rfc822` goes into the message inside.
    #[must_use]
    pub fn at(&self, path: &[u32]) -> Option<&Part> {
        let Some((&number, rest)) = path.split_first() else { return Some(self) };
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        let child = match &self.content {
            Content::Multipart(parts) => parts.get(index)?,
            _ if index == 0 => self,
            _ => return None,
        };
        match (&child.content, rest) {
            (_, []) => Some(child),
            (Content::Message(message), _) => message.part.at(rest),
            (Content::Multipart(_), _) => child.at(rest),
            (Content::Leaf, _) => None,
        }
    }

    /// The message inside a `message/rfc822` part.
    #[must_use]
    pub fn message(&self) -> Option<&Message> {
        match &self.content {
            Content::Message(message) => Some(message),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(name: &str) -> Part {
        Part { media_type: name.into(), ..Part::default() }
    }

    #[test]
    fn paths_lead_to_parts() {
        let inner = Part {
            content: Content::Multipart(vec![leaf("inner1"), leaf("inner2")]),
            ..Part::default()
        };
        let attached = Part {
            media_type: b"message".into(),
            content: Content::Message(Box::new(Message { part: inner, ..Message::default() })),
            ..Part::default()
        };
        let root =
            Part { content: Content::Multipart(vec![leaf("first"), attached]), ..Part::default() };
        for (path, found) in [
            (&[1][..], Some("first")),
            (&[2], Some("message")),
            (&[2, 2], Some("inner2")),
            (&[1, 1], None),
            (&[3], None),
            (&[0], None),
        ] {
            let part = root.at(path).map(|part| String::from_utf8_lossy(&part.media_type));
            assert_eq!(part.as_deref(), found, "{path:?}");
        }
        assert_eq!(leaf("single").at(&[1]), Some(&leaf("single")));
    }
}
