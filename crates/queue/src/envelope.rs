//! The envelope of a queued message, as the queue manager, showq and the bounce service read it.

use mail_types::Timestamp;
use protocol::postfix::delivery::ClientFacts;
use protocol::postfix::{Recipient, record::RecordType};

use crate::records::{Damage, Located, ReadAt, ReadError, Records};
use crate::size::SizeRecord;

/// More named attributes than this are not kept; Postfix stops at 100.
const MOST_ATTRIBUTES: usize = 1_000;

/// A named attribute, and where its record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub name: String,
    pub value: String,
    pub offset: u64,
}

/// Whether a recipient is still to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientState {
    Todo,
    Done,
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedRecipient {
    pub recipient: Recipient,
    pub state: RecipientState,
}

/// Everything but the recipients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Nothing in a maildrop file.
    pub size: Option<SizeRecord>,
    pub arrival: Option<Timestamp>,
    /// Base of lifetime and back-off.
    pub create_time: Option<i64>,
    /// Internal form; empty for the null sender.
    pub sender: Option<String>,
    pub full_name: Option<String>,
    /// `transport:nexthop` of a content filter.
    pub filter: Option<String>,
    /// Replaces all recipients.
    pub redirect: Option<String>,
    pub encoding: String,
    pub envelope_id: String,
    /// 0, 1 full, 2 headers.
    pub ret: u32,
    pub verp: Option<String>,
    /// Time to warn the sender, and where its record stands; -1: told already.
    pub warn: Option<(i64, u64)>,
    /// Trace bits of the delivery request, and where their record stands.
    pub trace_flags: Option<(u32, u64)>,
    pub client: ClientFacts,
    /// All attributes in their order, those above among them.
    pub attributes: Vec<Attribute>,
}

/// Reads envelope and recipients, in as many steps as the caller likes.
#[derive(Debug)]
pub struct EnvelopeReader<S> {
    records: Records<S>,
    envelope: Envelope,
    pending: Pending,
    finished: bool,
}

/// What stands before a recipient and belongs to it alone.
#[derive(Debug, Default)]
struct Pending {
    original: String,
    dsn_original: String,
    notify: u32,
}

impl<S: ReadAt> EnvelopeReader<S> {
    /// # Errors
    ///
    /// The length of the source cannot be learnt.
    pub fn new(source: S) -> Result<Self, ReadError> {
        let records = Records::new(source)?;
        Ok(Self {
            records,
            envelope: Envelope::default(),
            pending: Pending::default(),
            finished: false,
        })
    }

    /// Goes on where an earlier reader stopped, with what that one had learnt.
    #[must_use]
    pub fn resume(mut self, envelope: Envelope, position: u64) -> Self {
        self.records.seek(position);
        Self { envelope, ..self }
    }

    /// Where [`EnvelopeReader::resume`] may go on.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.records.position()
    }

    /// What is known so far; complete only after all recipients have been read.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    #[must_use]
    pub fn into_envelope(self) -> Envelope {
        self.envelope
    }

    /// The next recipient; nothing after the `E` record.
    ///
    /// The content is jumped over; a file whose size record points elsewhere is damaged.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn next_recipient(&mut self) -> Result<Option<QueuedRecipient>, ReadError> {
        while !self.finished {
            let located = self.records.read()?.ok_or(Damage::MissingEnd)?;
            match located.kind() {
                RecordType::RECIPIENT => {
                    return Ok(Some(self.found(&located, RecipientState::Todo)));
                }
                RecordType::DONE => return Ok(Some(self.found(&located, RecipientState::Done))),
                RecordType::CANCELLED => {
                    return Ok(Some(self.found(&located, RecipientState::Cancelled)));
                }
                RecordType::MESSAGE => self.skip_content(&located)?,
                RecordType::END => self.finish()?,
                _ => self.take(&located)?,
            }
        }
        Ok(None)
    }

    /// All recipients up to `most`, and whether there may be more.
    ///
    /// # Errors
    ///
    /// As [`EnvelopeReader::next_recipient`].
    pub fn recipients(&mut self, most: usize) -> Result<(Vec<QueuedRecipient>, bool), ReadError> {
        let mut list = Vec::new();
        while list.len() < most {
            match self.next_recipient()? {
                Some(recipient) => list.push(recipient),
                None => return Ok((list, false)),
            }
        }
        Ok((list, true))
    }

    fn found(&mut self, located: &Located, state: RecipientState) -> QueuedRecipient {
        let pending = std::mem::take(&mut self.pending);
        let recipient = Recipient {
            original: pending.original,
            address: located.text(),
            offset: i64::try_from(located.offset).unwrap_or(-1),
            dsn_original: pending.dsn_original,
            notify: pending.notify,
        };
        QueuedRecipient { recipient, state }
    }

    /// A complete message has a sender and a time; a maildrop file gets its sender later.
    fn finish(&mut self) -> Result<(), Damage> {
        self.finished = true;
        if self.envelope.arrival.is_none() {
            return Err(Damage::Missing("arrival time"));
        }
        if self.envelope.size.is_some() && self.envelope.sender.is_none() {
            return Err(Damage::Missing("sender"));
        }
        Ok(())
    }

    fn skip_content(&mut self, message: &Located) -> Result<(), ReadError> {
        if let Some(size) = self.envelope.size {
            let number = |field: i64| u64::try_from(field).unwrap_or(0);
            if number(size.data_offset) == message.end {
                self.records.seek(message.end.saturating_add(number(size.content_length)));
                let next = self.records.read()?.ok_or(Damage::MissingEnd)?;
                return match next.kind() {
                    RecordType::EXTRACTED => Ok(()),
                    other => Err(Damage::Unexpected(other, next.offset).into()),
                };
            }
        }
        loop {
            let next = self.records.read()?.ok_or(Damage::MissingEnd)?;
            match next.kind() {
                RecordType::LINE | RecordType::CONTINUED => {}
                RecordType::EXTRACTED => return Ok(()),
                other => return Err(Damage::Unexpected(other, next.offset).into()),
            }
        }
    }

    fn take(&mut self, located: &Located) -> Result<(), Damage> {
        let envelope = &mut self.envelope;
        match located.kind() {
            RecordType::SIZE if located.offset == 0 => {
                envelope.size = Some(SizeRecord::parse(&located.record.data)?);
            }
            RecordType::TIME => {
                let time = arrival(&located.text()).ok_or(Damage::Malformed("arrival time"))?;
                envelope.arrival.get_or_insert(time);
            }
            RecordType::CREATE_TIME => {
                let time = located.text().parse().map_err(|_| Damage::Malformed("create time"))?;
                envelope.create_time.get_or_insert(time);
            }
            RecordType::SENDER => {
                envelope.sender.get_or_insert_with(|| located.text());
            }
            RecordType::FULL_NAME => envelope.full_name = Some(located.text()),
            RecordType::FILTER => envelope.filter = Some(located.text()),
            RecordType::REDIRECT => envelope.redirect = Some(located.text()),
            RecordType::VERP => envelope.verp = Some(located.text()),
            RecordType::WARN_TIME => {
                let time = located.text().trim().parse();
                let time = time.map_err(|_| Damage::Malformed("warn time"))?;
                envelope.warn = Some((time, located.offset));
            }
            RecordType::ORIGINAL_RECIPIENT => self.pending.original = located.text(),
            RecordType::ATTRIBUTE => self.attribute(located),
            RecordType::KILLED
            | RecordType::INSPECTOR
            | RecordType::PRIORITY
            | RecordType::RETURN_RECEIPT_TO
            | RecordType::ERRORS_TO => {}
            other => return Err(Damage::Unexpected(other, located.offset)),
        }
        Ok(())
    }

    /// Unknown names are kept and mean nothing; a record without `=` means nothing either.
    fn attribute(&mut self, located: &Located) {
        let text = located.text();
        let Some((name, value)) = text.split_once('=') else { return };
        match name {
            "dsn_orig_rcpt" => return value.clone_into(&mut self.pending.dsn_original),
            "notify_flags" => return self.pending.notify = value.parse().unwrap_or(0),
            _ => {}
        }
        let envelope = &mut self.envelope;
        let client = &mut envelope.client;
        let first = |field: &mut String| {
            if field.is_empty() {
                value.clone_into(field);
            }
        };
        match name {
            "create_time" => {
                envelope.create_time = envelope.create_time.or_else(|| value.parse().ok());
            }
            "encoding" => value.clone_into(&mut envelope.encoding),
            "envelope_id" => value.clone_into(&mut envelope.envelope_id),
            "ret_flags" => envelope.ret = value.parse().unwrap_or(0),
            "trace_flags" => {
                envelope.trace_flags = value.parse().ok().map(|bits| (bits, located.offset));
            }
            "log_client_name" => value.clone_into(&mut client.name),
            "log_client_address" => value.clone_into(&mut client.address),
            "log_client_port" => value.clone_into(&mut client.port),
            "log_protocol_name" => value.clone_into(&mut client.protocol),
            "log_helo_name" => value.clone_into(&mut client.helo),
            "sasl_method" => first(&mut client.sasl_method),
            "sasl_username" => first(&mut client.sasl_username),
            "sasl_sender" => first(&mut client.sasl_sender),
            "log_ident" => first(&mut client.log_ident),
            "rewrite_context" => first(&mut client.rewrite_context),
            _ => {}
        }
        if envelope.attributes.len() < MOST_ATTRIBUTES {
            let (name, value) = (name.to_owned(), value.to_owned());
            envelope.attributes.push(Attribute { name, value, offset: located.offset });
        }
    }
}

/// `SEC USEC`, or `SEC` in old files.
fn arrival(text: &str) -> Option<Timestamp> {
    let mut words = text.split_ascii_whitespace();
    let seconds = words.next()?.parse().ok()?;
    let micros = words.next().map_or(Some(0), |word| word.parse().ok())?;
    Some(Timestamp::new(seconds, micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = include_bytes!("../tests/fixtures/two-recipients-one-done");
    const EDITED: &[u8] = include_bytes!("../tests/fixtures/milter-edited");

    fn read(file: &[u8]) -> Result<(Envelope, Vec<QueuedRecipient>), ReadError> {
        let mut reader = EnvelopeReader::new(file)?;
        let (recipients, more) = reader.recipients(1_000)?;
        assert!(!more);
        Ok((reader.into_envelope(), recipients))
    }

    #[test]
    fn a_captured_envelope_is_understood() {
        let (envelope, recipients) = read(PLAIN).unwrap();
        assert_eq!(envelope.sender.as_deref(), Some("a@b.example"));
        assert_eq!(envelope.arrival, Some(Timestamp::new(1_795_297_019, 608_387)));
        assert_eq!(envelope.create_time, Some(1_795_297_019));
        assert_eq!((envelope.encoding.as_str(), envelope.envelope_id.as_str()), ("8bit", "E1"));
        assert_eq!(envelope.client.helo, "c.example");
        let seen: Vec<_> = recipients
            .iter()
            .map(|r| {
                (r.state, r.recipient.address.as_str(), r.recipient.offset, r.recipient.notify)
            })
            .collect();
        assert_eq!(
            seen,
            [
                (RecipientState::Done, "ok@sink.test", 659, 0),
                (RecipientState::Todo, "tmp@sink.test", 740, 4)
            ]
        );
        assert_eq!(recipients[1].recipient.dsn_original, "rfc822;tmp@sink.test");
    }

    #[test]
    fn recipients_behind_the_end_are_found_and_cancelled_ones_known() {
        let (_, recipients) = read(EDITED).unwrap();
        let seen: Vec<_> = recipients
            .iter()
            .map(|r| (r.state, r.recipient.address.as_str(), r.recipient.offset))
            .collect();
        insta::assert_debug_snapshot!(seen);
    }

    #[test]
    fn reading_may_stop_and_go_on() {
        let mut reader = EnvelopeReader::new(PLAIN).unwrap();
        let (first, more) = reader.recipients(1).unwrap();
        assert!(more && first[0].state == RecipientState::Done);
        let (position, envelope) = (reader.position(), reader.into_envelope());
        let mut reader = EnvelopeReader::new(PLAIN).unwrap().resume(envelope, position);
        let (second, more) = reader.recipients(10).unwrap();
        assert!(!more && second[0].recipient.notify == 4);
    }

    #[test]
    fn a_wrong_size_record_and_every_truncation_are_damage() {
        for length in 0..PLAIN.len() {
            let error = read(&PLAIN[..length]).unwrap_err();
            assert!(matches!(error, ReadError::Damage(_)), "at {length}");
        }
        let mut wrong = PLAIN.to_vec();
        wrong[16] = b'5'; // content length 295
        assert!(matches!(read(&wrong), Err(ReadError::Damage(_))));
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_damage(bytes: Vec<u8>) {
            assert!(read(&bytes).is_err());
        }

        #[test]
        fn a_flipped_octet_is_survived(at in 0..1469_usize, octet: u8) {
            let mut bytes = EDITED.to_vec();
            bytes[at] = octet;
            let _ = read(&bytes);
        }
    }
}
