//! The bounce, defer and trace services: what became of recipients, and when to tell the sender.

use mail_types::QueueId;

use super::attr::{AttrError, AttrList, AttrWriter, Fields, excerpt};
use super::{Dialect, Dsn, Recipient};

/// Delete the log if the request fails.
pub const CLEAN: u32 = 1;
/// After the notice is posted, mark every recipient of the log done in the queue file.
pub const DELETE_RECIPIENTS: u32 = 2;

/// One request; a connection carries one. The answer is [`super::status_reply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BounceRequest {
    /// Add a recipient to the log of the message.
    Append { flags: u32, queue_id: QueueId, recipient: Recipient, dsn: Dsn },
    /// Return the message with what the log says; the log goes away.
    Flush(Notice),
    /// Tell the sender that mail is delayed; the log stays.
    Warn(Notice),
    /// As flush, one notice for each recipient, with these VERP delimiters.
    Verp(Notice, String),
    /// Return the message for one recipient, without a log.
    One { notice: Notice, recipient: Recipient, dsn: Dsn },
    /// Tell the sender of successes.
    Trace(Notice),
}

/// Which message a notice is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub flags: u32,
    pub queue_name: String,
    pub queue_id: QueueId,
    pub encoding: String,
    pub sendopts: u32,
    pub sender: String,
    pub envelope_id: String,
    pub ret: u32,
}

impl BounceRequest {
    #[must_use]
    pub fn encode(&self, dialect: Dialect) -> Vec<u8> {
        let mut list = AttrWriter::new();
        list.uint("nrequest", self.number());
        match self {
            Self::Append { flags, queue_id, recipient, dsn } => {
                list.uint("flags", *flags);
                list.text("queue_id", queue_id.as_str());
                recipient.write(&mut list);
                dsn.write(&mut list);
            }
            Self::Flush(notice) | Self::Warn(notice) | Self::Trace(notice) => {
                notice.write(&mut list, dialect);
            }
            Self::Verp(notice, delimiters) => {
                notice.write(&mut list, dialect);
                list.text("verp_delimiters", delimiters);
            }
            Self::One { notice, recipient, dsn } => {
                notice.write(&mut list, dialect);
                recipient.write(&mut list);
                dsn.write(&mut list);
            }
        }
        list.end()
    }

    /// # Errors
    ///
    /// [`AttrError`] if it is no request of this dialect.
    pub fn decode(list: &AttrList, dialect: Dialect) -> Result<Self, AttrError> {
        let mut fields = list.fields();
        let number = fields.uint("nrequest")?;
        let request = match number {
            0 => Self::Append {
                flags: fields.uint("flags")?,
                queue_id: queue_id(&mut fields)?,
                recipient: Recipient::read(&mut fields)?,
                dsn: Dsn::read(&mut fields)?,
            },
            1 => Self::Flush(Notice::read(&mut fields, dialect)?),
            2 => Self::Warn(Notice::read(&mut fields, dialect)?),
            3 => Self::Verp(Notice::read(&mut fields, dialect)?, fields.string("verp_delimiters")?),
            4 => Self::One {
                notice: Notice::read(&mut fields, dialect)?,
                recipient: Recipient::read(&mut fields)?,
                dsn: Dsn::read(&mut fields)?,
            },
            5 => Self::Trace(Notice::read(&mut fields, dialect)?),
            _ => return Err(AttrError::Value { name: "nrequest", value: number.to_string() }),
        };
        fields.finish()?;
        Ok(request)
    }

    const fn number(&self) -> u32 {
        match self {
            Self::Append { .. } => 0,
            Self::Flush(_) => 1,
            Self::Warn(_) => 2,
            Self::Verp(..) => 3,
            Self::One { .. } => 4,
            Self::Trace(_) => 5,
        }
    }
}

fn queue_id(fields: &mut Fields<'_>) -> Result<QueueId, AttrError> {
    let id = fields.text("queue_id")?;
    QueueId::parse(id).map_err(|_| AttrError::Value { name: "queue_id", value: excerpt(id) })
}

impl Notice {
    fn write(&self, list: &mut AttrWriter, dialect: Dialect) {
        list.uint("flags", self.flags);
        list.text("queue_name", &self.queue_name);
        list.text("queue_id", self.queue_id.as_str());
        list.text("encoding", &self.encoding);
        list.uint(dialect.sendopts(), self.sendopts);
        list.text("sender", &self.sender);
        list.text("envelope_id", &self.envelope_id);
        list.uint("ret_flags", self.ret);
    }

    fn read(fields: &mut Fields<'_>, dialect: Dialect) -> Result<Self, AttrError> {
        Ok(Self {
            flags: fields.uint("flags")?,
            queue_name: fields.string("queue_name")?,
            queue_id: queue_id(fields)?,
            encoding: fields.string("encoding")?,
            sendopts: fields.uint(dialect.sendopts())?,
            sender: fields.string("sender")?,
            envelope_id: fields.string("envelope_id")?,
            ret: fields.uint("ret_flags")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPEND: &str = "nrequest|0|flags|0|queue_id|640A99A4A51|original_recipient|tmp@sink.test|\
        recipient|tmp@sink.test|offset|761|dsn_orig_rcpt|rfc822;tmp@sink.test|notify_flags|0|\
        status|4.2.0|diag_type|smtp|diag_text|450 4.2.0 try again later|mta_type|dns|\
        mta_mname|127.0.0.1|action|delayed|reason|host 127.0.0.1[127.0.0.1] said: 450||";
    const FLUSH: &str = "nrequest|1|flags|0|queue_name|active|queue_id|E7C8A9A4497|encoding||\
        smtputf8|0|sender|pfxbob@mail.example.test|envelope_id|abc+|ret_flags|2||";

    #[test]
    fn captured_requests_are_read_and_printed_back() {
        for captured in [APPEND, FLUSH] {
            let bytes = captured.replace('|', "\0").into_bytes();
            let list = AttrList::parse(&bytes).unwrap();
            let request = BounceRequest::decode(&list, Dialect::V3_6).unwrap();
            assert_eq!(request.encode(Dialect::V3_6), bytes);
            let newer = AttrList::parse(&request.encode(Dialect::V3_10)).unwrap();
            assert_eq!(BounceRequest::decode(&newer, Dialect::V3_10), Ok(request));
        }
    }

    #[test]
    fn every_kind_survives_the_wire() {
        let notice = Notice {
            flags: DELETE_RECIPIENTS,
            queue_name: "active".into(),
            queue_id: QueueId::parse("ABC").unwrap(),
            encoding: "8bit".into(),
            sendopts: 1,
            sender: String::new(),
            envelope_id: String::new(),
            ret: 1,
        };
        let (recipient, dsn) = (Recipient::default(), Dsn::local("5.1.1", "failed", "unknown"));
        for request in [
            BounceRequest::Warn(notice.clone()),
            BounceRequest::Trace(notice.clone()),
            BounceRequest::Verp(notice.clone(), "+=".into()),
            BounceRequest::One { notice, recipient, dsn },
        ] {
            let list = AttrList::parse(&request.encode(Dialect::V3_6)).unwrap();
            assert_eq!(BounceRequest::decode(&list, Dialect::V3_6), Ok(request));
        }
        let list = AttrList::parse(b"nrequest\x009\0\0").unwrap();
        assert!(BounceRequest::decode(&list, Dialect::V3_6).is_err());
    }
}
