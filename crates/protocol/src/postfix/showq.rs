//! The showq service (`public/showq`): what lies in the queue.
//!
//! The server streams one list for each message and ends with an empty list. A message of very
//! many recipients is one long list, so the client reads attribute by attribute.

use bytes::BytesMut;

use super::attr::{AttrError, AttrWriter, Token, excerpt, take_token};
use super::{Dialect, protocols};

/// A message as the service tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueEntry {
    pub queue_name: String,
    pub queue_id: String,
    /// Arrival, seconds since 1970.
    pub time: i64,
    pub size: i64,
    pub forced_expire: bool,
    /// `MAILER-DAEMON` for the null sender.
    pub sender: String,
    pub recipients: Vec<QueueRecipient>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueRecipient {
    /// Told since 3.11.
    pub original: String,
    pub address: String,
    /// Told since 3.11: which log the reason stands in.
    pub log_class: String,
    /// Why it is still here; empty if nothing is known.
    pub reason: String,
}

impl QueueEntry {
    #[must_use]
    pub fn encode(&self, dialect: Dialect) -> Vec<u8> {
        let mut list = AttrWriter::new();
        list.text("queue_name", &self.queue_name);
        list.text("queue_id", &self.queue_id);
        list.long("time", self.time);
        list.long("size", self.size);
        if dialect.showq_tells_forced_expire() {
            list.uint("forced_expire", u32::from(self.forced_expire));
        }
        list.text("sender", &self.sender);
        for recipient in &self.recipients {
            if dialect.showq_tells_original_recipient() {
                list.text("original_recipient", &recipient.original);
                list.text("recipient", &recipient.address);
                list.text("log_class", &recipient.log_class);
            } else {
                list.text("recipient", &recipient.address);
            }
            list.text("reason", &recipient.reason);
        }
        list.end()
    }
}

/// The end of the queue.
#[must_use]
pub fn end_of_queue() -> Vec<u8> {
    vec![0]
}

/// The client's side. Takes every version's answer.
#[derive(Debug, Default)]
pub struct ShowqReader {
    state: State,
    entry: QueueEntry,
    /// A message has begun.
    begun: bool,
    octets: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    First,
    Greeting,
    Entries,
    Finished,
}

/// What [`ShowqReader::read`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Entry(QueueEntry),
    /// More bytes are needed.
    NeedMore,
    /// The whole queue has been told.
    End,
}

/// A message with its recipients and reasons may take this much.
const LARGEST_ENTRY: usize = 256 << 20;

impl ShowqReader {
    /// # Errors
    ///
    /// [`AttrError`] if it is no answer of showq.
    pub fn read(&mut self, buffer: &mut BytesMut) -> Result<Answer, AttrError> {
        if self.state == State::Finished {
            return Ok(Answer::End);
        }
        while let Some(token) = take_token(buffer)? {
            match token {
                Token::End if self.state == State::Greeting => self.state = State::Entries,
                Token::End if self.begun => {
                    (self.begun, self.octets) = (false, 0);
                    return Ok(Answer::Entry(std::mem::take(&mut self.entry)));
                }
                Token::End => {
                    self.state = State::Finished;
                    return Ok(Answer::End);
                }
                Token::Attribute(name, value) => self.attribute(&name, value)?,
            }
        }
        Ok(Answer::NeedMore)
    }

    fn attribute(&mut self, name: &str, value: String) -> Result<(), AttrError> {
        if self.state == State::First {
            self.state = if name == "protocol" { State::Greeting } else { State::Entries };
            if name == "protocol" && value != protocols::SHOWQ {
                return Err(AttrError::Value { name: "protocol", value: excerpt(&value) });
            }
        }
        if self.state == State::Greeting {
            return Ok(());
        }
        self.begun = true;
        self.octets += name.len() + value.len();
        if self.octets > LARGEST_ENTRY {
            return Err(AttrError::TooLong);
        }
        let entry = &mut self.entry;
        match (name, entry.recipients.last_mut()) {
            ("queue_name", None) => entry.queue_name = value,
            ("queue_id", None) => entry.queue_id = value,
            ("time", None) => entry.time = number("time", &value)?,
            ("size", None) => entry.size = number("size", &value)?,
            ("forced_expire", None) => entry.forced_expire = value != "0",
            ("sender", None) => entry.sender = value,
            ("original_recipient", _) => {
                entry.recipients.push(QueueRecipient { original: value, ..Default::default() });
            }
            ("recipient", Some(last)) if last.address.is_empty() && !last.original.is_empty() => {
                last.address = value;
            }
            ("recipient", _) => {
                entry.recipients.push(QueueRecipient { address: value, ..Default::default() });
            }
            ("log_class", Some(last)) => last.log_class = value,
            ("reason", Some(last)) => last.reason = value,
            _ => {
                return Err(AttrError::Unexpected {
                    found: excerpt(name),
                    expected: "a queue listing",
                });
            }
        }
        Ok(())
    }
}

fn number(name: &'static str, value: &str) -> Result<i64, AttrError> {
    value.parse().map_err(|_| AttrError::Value { name, value: excerpt(value) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> QueueEntry {
        QueueEntry {
            queue_name: "deferred".into(),
            queue_id: "640A99A4A51".into(),
            time: 1_795_294_973,
            size: 3387,
            forced_expire: false,
            sender: "alice@example.test".into(),
            recipients: vec![
                QueueRecipient {
                    address: "tmp@sink.test".into(),
                    reason: "host said: 450".into(),
                    ..QueueRecipient::default()
                },
                QueueRecipient { address: "b@c".into(), ..QueueRecipient::default() },
            ],
        }
    }

    #[test]
    fn the_listing_is_the_captured_one() {
        let bytes = entry().encode(Dialect::V3_6);
        let expected = "queue_name|deferred|queue_id|640A99A4A51|time|1795294973|size|3387|\
            forced_expire|0|sender|alice@example.test|recipient|tmp@sink.test|\
            reason|host said: 450|recipient|b@c|reason|||";
        assert_eq!(String::from_utf8(bytes).unwrap(), expected.replace('|', "\0"));
    }

    #[test]
    fn every_version_is_read_byte_by_byte() {
        for dialect in [Dialect::V3_4, Dialect::V3_5, Dialect::V3_6, Dialect::V3_11] {
            let mut told = entry();
            if dialect >= Dialect::V3_11 {
                told.recipients[0].original = "list@here".into();
                told.recipients[1].original = "b@c".into();
                told.recipients[0].log_class = "defer".into();
            }
            let mut bytes = super::super::greeting(dialect, protocols::SHOWQ);
            bytes.extend(told.encode(dialect));
            bytes.extend(told.encode(dialect));
            bytes.extend(end_of_queue());
            let (mut reader, mut buffer, mut read) =
                (ShowqReader::default(), BytesMut::new(), vec![]);
            for byte in bytes {
                buffer.extend_from_slice(&[byte]);
                match reader.read(&mut buffer).unwrap() {
                    Answer::Entry(entry) => read.push(entry),
                    Answer::NeedMore | Answer::End => {}
                }
            }
            assert_eq!(read, vec![told.clone(), told], "{dialect:?}");
            assert_eq!(reader.read(&mut buffer), Ok(Answer::End));
        }
    }

    #[test]
    fn an_empty_queue_is_an_empty_list() {
        let mut buffer =
            BytesMut::from(&super::super::greeting(Dialect::V3_6, protocols::SHOWQ)[..]);
        buffer.extend_from_slice(&end_of_queue());
        assert_eq!(ShowqReader::default().read(&mut buffer), Ok(Answer::End));
    }
}
