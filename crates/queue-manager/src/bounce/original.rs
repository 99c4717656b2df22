//! The message that a notice is about, as it lies in the queue.

use std::fs::File;
use std::io;
use std::sync::Arc;

use mail_types::{QueueId, quote_822};
use protocol::postfix::record::RecordType;
use queue::{Content, LineEnd, Lock, Queue, QueueDirectory, QueueFile, ReadAt, ReadError};

/// Octets that are read at a time.
const BATCH: usize = 64 * 1024;
/// A header longer than this has no Message-ID for us.
const MOST_HEADER: usize = 256 * 1024;

/// What is known of it. A message that is gone or damaged leaves gaps: a notice with gaps is better
/// than none.
#[derive(Debug, Default)]
pub struct Original {
    /// In the form of header fields; the address of the mail system for the null sender, nothing if
    /// it could not be read.
    pub sender: String,
    pub arrival: i64,
    pub size: i64,
    pub message_id: MessageId,
    /// Holds the lock that keeps the queue manager away.
    file: Option<Arc<QueueFile>>,
    offset: u64,
}

/// How the message names itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MessageId {
    #[default]
    None,
    Malformed,
    Id(String),
}

/// Records of the content, ready to be passed on.
pub type Pieces = Vec<(RecordType, bytes::Bytes)>;

impl Original {
    /// # Errors
    ///
    /// As open(2), but for a file that is not there; `WouldBlock` if the queue manager works on it.
    pub fn open(
        directory: &QueueDirectory,
        queue: &str,
        id: &QueueId,
        myhostname: &str,
    ) -> io::Result<Self> {
        let Some(queue) = Queue::named(queue) else { return Ok(Self::default()) };
        let file = match QueueFile::open(directory, queue, id, Lock::Shared) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            file => file?,
        };
        let mut original = Self::default();
        // Whatever is damaged: the rest is told.
        let _ = original.read(&file, myhostname);
        original.file = Some(Arc::new(file));
        Ok(original)
    }

    fn read(&mut self, file: &QueueFile, myhostname: &str) -> Result<(), ReadError> {
        let mut reader = file.envelope()?;
        let read = reader.next_recipient();
        let envelope = reader.into_envelope();
        self.arrival = envelope.arrival.unwrap_or_default().seconds.max(0);
        if let Some(sender) = &envelope.sender {
            self.sender = match sender.as_str() {
                "" => format!("MAILER-DAEMON@{myhostname}"),
                sender => quote_822(&printable(sender)),
            };
        }
        let size = envelope.size.unwrap_or_default();
        self.size = size.content_length.max(0);
        self.offset = u64::try_from(size.data_offset).unwrap_or(0);
        read?;
        self.message_id = message_id(&mut file.content(self.offset)?)?;
        Ok(())
    }

    /// Whether there is any content to return.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.file.is_some() && self.offset > 0
    }

    /// Starts to read the content.
    ///
    /// # Errors
    ///
    /// As dup(2).
    pub fn content(&self, headers_only: bool) -> io::Result<Returned> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let content = Content::at(file.file().try_clone()?, self.offset)?;
        Ok(Returned { content: Some(content), headers_only, within_line: false })
    }
}

/// The content on its way back.
#[derive(Debug)]
pub struct Returned {
    content: Option<Content<File>>,
    headers_only: bool,
    within_line: bool,
}

impl Returned {
    /// The next batch; an empty one is the end. Damage is an end, too.
    #[must_use]
    pub fn batch(&mut self) -> Pieces {
        let (mut pieces, mut octets) = (Pieces::new(), 0);
        while octets < BATCH
            && let Some(content) = &mut self.content
        {
            let Ok(Some((piece, end))) = content.next_piece() else {
                self.content = None;
                break;
            };
            if self.headers_only && !self.within_line && !is_header(&piece) {
                self.content = None;
                break;
            }
            self.within_line = end == LineEnd::Continued;
            octets += piece.len() + 2;
            let kind = match end {
                LineEnd::Newline => RecordType::LINE,
                LineEnd::Continued => RecordType::CONTINUED,
            };
            pieces.push((kind, piece));
        }
        pieces
    }
}

/// `Name:` or a continuation.
fn is_header(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t')) || field(line).is_some()
}

/// Name and value of a header line. Blanks may stand before the colon (RFC 5322 section 4.5).
fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|&octet| octet == b':')?;
    let (name, value) = line.split_at(colon);
    let name = name.trim_ascii_end();
    let plain = |octet: &u8| octet.is_ascii_graphic();
    (!name.is_empty() && name.iter().all(plain)).then(|| (name, &value[1..]))
}

/// The first Message-ID field.
fn message_id<S: ReadAt>(content: &mut Content<S>) -> Result<MessageId, ReadError> {
    let (mut line, mut found, mut octets) = (Vec::new(), None::<Vec<u8>>, 0);
    while octets <= MOST_HEADER && content.next_line(&mut line, MOST_HEADER)? {
        octets += line.len();
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        match (&mut found, folded, field(&line)) {
            (Some(value), true, _) => value.extend_from_slice(&line),
            (Some(_), false, _) | (None, false, None) => break,
            (None, false, Some((name, value))) if name.eq_ignore_ascii_case(b"message-id") => {
                found = Some(value.to_vec());
            }
            _ => {}
        }
        line.clear();
    }
    let Some(value) = found else { return Ok(MessageId::None) };
    let value = String::from_utf8(value.trim_ascii().to_vec()).unwrap_or_default();
    let well_formed = value.starts_with('<')
        && value.ends_with('>')
        && value.chars().all(|c| !c.is_control() && c != ' ');
    Ok(if well_formed { MessageId::Id(value) } else { MessageId::Malformed })
}

/// What could begin a new line becomes `?`.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::postfix::record::write;

    fn id_in(text: &str) -> MessageId {
        let mut records = Vec::new();
        text.lines().for_each(|line| write(&mut records, RecordType::LINE, line.as_bytes()));
        write(&mut records, RecordType::EXTRACTED, b"");
        message_id(&mut Content::at(records.as_slice(), 0).unwrap()).unwrap()
    }

    #[test]
    fn a_message_is_named_by_its_first_id() {
        for (text, id) in [
            ("Subject: x\nMessage-ID: <a@b>  \nMessage-ID: <c@d>\n\nbody", Some("<a@b>")),
            ("MESSAGE-id :\n\t<folded@x>\nX: y", Some("<folded@x>")),
            ("Message-ID: not one", None),
        ] {
            let wanted = id.map_or(MessageId::Malformed, |id| MessageId::Id(id.into()));
            assert_eq!(id_in(text), wanted, "{text}");
        }
        assert_eq!(id_in("Subject: x\n\nMessage-ID: <body@x>"), MessageId::None);
        assert_eq!(id_in(""), MessageId::None);
    }
}
