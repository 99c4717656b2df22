//! The delivery request (`private/<transport>`): the queue manager asks an agent to deliver.
//!
//! The agent greets, gets one [`DeliveryRequest`] and answers with one [`DeliveryReply`].

use bytes::BytesMut;
use mail_types::QueueId;

use super::attr::{AttrError, AttrList, AttrReader, AttrWriter, Fields, excerpt};
use super::{Dialect, Dsn, MsgStats, Recipient, protocols};

/// Most recipients of one request; Postfix's own limits are a few thousand at most.
const MOST_RECIPIENTS: u32 = 20_000;

/// Bits of `flags`.
pub mod flags {
    /// Mark recipients that are done.
    pub const SUCCESS: u32 = 1;
    pub const BOUNCE: u32 = 2;
    /// A probe: report to the verify service, deliver nothing.
    pub const MTA_VERIFY: u32 = 256;
    /// `sendmail -bv`: report to the trace service, deliver nothing.
    pub const USER_VERIFY: u32 = 512;
    /// `sendmail -v`: deliver, and report to the trace service.
    pub const RECORD: u32 = 1024;
    pub const CONN_LOAD: u32 = 2048;
    pub const CONN_STORE: u32 = 4096;
    pub const DELAY_SENT: u32 = 8192;
    pub const NORMAL: u32 = SUCCESS | BOUNCE;
    /// The bits that travel on to bounce, defer and trace.
    pub const TRACE_MASK: u32 = MTA_VERIFY | USER_VERIFY | RECORD;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRequest {
    pub flags: u32,
    /// `active`.
    pub queue_name: String,
    pub queue_id: QueueId,
    /// Where the content begins in the queue file.
    pub data_offset: i64,
    /// As logged and as told in `SIZE=`.
    pub size: i64,
    pub nexthop: String,
    /// `7bit`, `8bit` or empty.
    pub encoding: String,
    /// SMTPUTF8 flags; since 3.10 also others.
    pub sendopts: u32,
    /// Internal form, empty for the null sender.
    pub sender: String,
    pub envelope_id: String,
    /// 0, 1 full, 2 headers.
    pub ret: u32,
    pub stats: MsgStats,
    pub client: ClientFacts,
    pub recipients: Vec<Recipient>,
}

/// Where the message came from, for the log, XFORWARD and policies of agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFacts {
    pub name: String,
    pub address: String,
    pub port: String,
    pub protocol: String,
    pub helo: String,
    pub sasl_method: String,
    pub sasl_username: String,
    pub sasl_sender: String,
    /// The queue id under which the message first came in.
    pub log_ident: String,
    /// `local` or `remote`.
    pub rewrite_context: String,
}

impl DeliveryRequest {
    #[must_use]
    pub fn encode(&self, dialect: Dialect) -> Vec<u8> {
        let mut list = AttrWriter::new();
        list.uint("flags", self.flags);
        list.text("queue_name", &self.queue_name);
        list.text("queue_id", self.queue_id.as_str());
        list.long("offset", self.data_offset);
        list.long("size", self.size);
        list.text("nexthop", &self.nexthop);
        list.text("encoding", &self.encoding);
        list.uint(dialect.sendopts(), self.sendopts);
        list.text("sender", &self.sender);
        list.text("envelope_id", &self.envelope_id);
        list.uint("ret_flags", self.ret);
        self.stats.write(&mut list);
        self.client.write(&mut list);
        list.long("recipient_count", i64::try_from(self.recipients.len()).unwrap_or(0));
        for recipient in &self.recipients {
            list.next_list();
            recipient.write(&mut list);
        }
        list.end()
    }
}

impl ClientFacts {
    fn write(&self, list: &mut AttrWriter) {
        list.text("log_client_name", &self.name);
        list.text("log_client_address", &self.address);
        list.text("log_client_port", &self.port);
        list.text("log_protocol_name", &self.protocol);
        list.text("log_helo_name", &self.helo);
        list.text("sasl_method", &self.sasl_method);
        list.text("sasl_username", &self.sasl_username);
        list.text("sasl_sender", &self.sasl_sender);
        list.text("log_ident", &self.log_ident);
        list.text("rewrite_context", &self.rewrite_context);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, AttrError> {
        Ok(Self {
            name: fields.string("log_client_name")?,
            address: fields.string("log_client_address")?,
            port: fields.string("log_client_port")?,
            protocol: fields.string("log_protocol_name")?,
            helo: fields.string("log_helo_name")?,
            sasl_method: fields.string("sasl_method")?,
            sasl_username: fields.string("sasl_username")?,
            sasl_sender: fields.string("sasl_sender")?,
            log_ident: fields.string("log_ident")?,
            rewrite_context: fields.string("rewrite_context")?,
        })
    }
}

/// The agent's reading side: feed it what arrives.
#[derive(Debug)]
pub struct RequestReader {
    dialect: Dialect,
    lists: AttrReader,
    /// The request so far and how many recipients are still to come.
    begun: Option<(DeliveryRequest, u32)>,
}

impl RequestReader {
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, lists: AttrReader::default(), begun: None }
    }

    /// Takes what has arrived off `buffer`; a request once it is complete.
    ///
    /// # Errors
    ///
    /// [`AttrError`] if it is not a delivery request of this dialect.
    pub fn read(&mut self, buffer: &mut BytesMut) -> Result<Option<DeliveryRequest>, AttrError> {
        loop {
            if let Some((request, _)) = self.begun.take_if(|(_, missing)| *missing == 0) {
                return Ok(Some(request));
            }
            let Some(list) = self.lists.read(buffer)? else { return Ok(None) };
            match &mut self.begun {
                None => self.begun = Some(head(&list, self.dialect)?),
                Some((request, missing)) => {
                    let mut fields = list.fields();
                    request.recipients.push(Recipient::read(&mut fields)?);
                    fields.finish()?;
                    *missing -= 1;
                }
            }
        }
    }

    /// Nothing of a request has come: the queue manager may close now, it changed its mind.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.begun.is_none() && self.lists.is_empty()
    }
}

fn head(list: &AttrList, dialect: Dialect) -> Result<(DeliveryRequest, u32), AttrError> {
    let mut fields = list.fields();
    let flags = fields.uint("flags")?;
    let queue_name = fields.string("queue_name")?;
    let id = fields.text("queue_id")?;
    let bad = |_| AttrError::Value { name: "queue_id", value: excerpt(id) };
    let request = DeliveryRequest {
        flags,
        queue_name,
        queue_id: QueueId::parse(id).map_err(bad)?,
        data_offset: fields.long("offset")?,
        size: fields.long("size")?,
        nexthop: fields.string("nexthop")?,
        encoding: fields.string("encoding")?,
        sendopts: fields.uint(dialect.sendopts())?,
        sender: fields.string("sender")?,
        envelope_id: fields.string("envelope_id")?,
        ret: fields.uint("ret_flags")?,
        stats: MsgStats::read(&mut fields)?,
        client: ClientFacts::read(&mut fields)?,
        recipients: Vec::new(),
    };
    let count = fields.uint("recipient_count")?;
    if count > MOST_RECIPIENTS {
        return Err(AttrError::Value { name: "recipient_count", value: count.to_string() });
    }
    fields.finish()?;
    Ok((request, count))
}

/// The agent's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryReply {
    /// Not empty: the *destination* is bad, and its other mail should wait too.
    pub destination: Dsn,
    /// Whether any recipient must be tried again.
    pub status: Remaining,
}

/// What is left to do of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Remaining {
    #[default]
    Nothing,
    /// At least one recipient was deferred.
    Something,
}

impl DeliveryReply {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut list = AttrWriter::new();
        self.destination.write(&mut list);
        list.int("status", if self.status == Remaining::Nothing { 0 } else { -1 });
        list.end()
    }

    /// # Errors
    ///
    /// [`AttrError`] if the list is another one.
    pub fn decode(list: &AttrList) -> Result<Self, AttrError> {
        let mut fields = list.fields();
        let destination = Dsn::read(&mut fields)?;
        let status = match fields.int("status")? {
            0 => Remaining::Nothing,
            _ => Remaining::Something,
        };
        fields.finish()?;
        Ok(Self { destination, status })
    }
}

/// The agent's first words.
#[must_use]
pub fn agent_greeting(dialect: Dialect) -> Vec<u8> {
    if dialect.server_names_protocol() {
        super::greeting(dialect, protocols::DELIVERY_REQUEST)
    } else {
        super::status_reply(0)
    }
}

/// Takes the greeting of an agent of any version.
///
/// # Errors
///
/// [`AttrError`] if it is none.
pub fn read_agent_greeting(list: &AttrList) -> Result<(), AttrError> {
    match list.fields().peek() {
        Some("status") => match super::read_status(list)? {
            0 => Ok(()),
            other => Err(AttrError::Value { name: "status", value: other.to_string() }),
        },
        _ => super::read_greeting(list, protocols::DELIVERY_REQUEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_types::Timestamp;

    const CAPTURED: &str = "flags|3|queue_name|active|queue_id|640A99A4A51|offset|778|size|3387|\
        nexthop|[127.0.0.1]:10026|encoding||smtputf8|0|sender|alice@example.test|\
        envelope_id|QQ314159|ret_flags|2|time|/QYCawAAAAB8egUAAAAAAP0GAmsAAAAA8gMHAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==|\
        log_client_name|localhost|log_client_address|127.0.0.1|log_client_port|54694|\
        log_protocol_name|ESMTP|log_helo_name|client.test|sasl_method||sasl_username||\
        sasl_sender||log_ident|640A99A4A51|rewrite_context|local|recipient_count|2||\
        original_recipient|good@sink.test|recipient|good@sink.test|offset|694|\
        dsn_orig_rcpt|rfc822;good@sink.test|notify_flags|6||\
        original_recipient|tmp@sink.test|recipient|tmp@sink.test|offset|761|\
        dsn_orig_rcpt|rfc822;tmp@sink.test|notify_flags|0||";

    fn read(bytes: &[u8], dialect: Dialect) -> Result<Option<DeliveryRequest>, AttrError> {
        RequestReader::new(dialect).read(&mut BytesMut::from(bytes))
    }

    #[test]
    fn the_captured_request_is_read_and_printed_back() {
        let captured = CAPTURED.replace('|', "\0");
        let request = read(captured.as_bytes(), Dialect::V3_6).unwrap().unwrap();
        assert_eq!(request.recipients[1].offset, 761);
        assert_eq!(request.stats.active_arrival, Timestamp::new(1_795_294_973, 459_762));
        assert_eq!(request.encode(Dialect::V3_6), captured.as_bytes());
        let newer = request.encode(Dialect::V3_10);
        assert_eq!(read(&newer, Dialect::V3_10), Ok(Some(request)));
        assert_eq!(
            read(&newer, Dialect::V3_6).unwrap_err().to_string(),
            "unexpected attribute sendopts (expecting: smtputf8)"
        );
    }

    #[test]
    fn a_request_may_come_byte_by_byte_or_be_cut_anywhere() {
        let captured = CAPTURED.replace('|', "\0");
        let whole = read(captured.as_bytes(), Dialect::V3_6).unwrap();
        let (mut reader, mut buffer) = (RequestReader::new(Dialect::V3_6), BytesMut::new());
        assert!(reader.is_idle());
        for (index, byte) in captured.bytes().enumerate() {
            buffer.extend_from_slice(&[byte]);
            let read = reader.read(&mut buffer).unwrap();
            if index + 1 == captured.len() {
                assert_eq!(read, whole);
            } else {
                assert_eq!(read, None, "after {index} octets");
            }
        }
    }

    #[test]
    fn replies_speak_of_the_destination_and_of_the_rest() {
        let deferred = DeliveryReply { status: Remaining::Something, ..DeliveryReply::default() };
        assert_eq!(
            deferred.encode(),
            b"status\0\0diag_type\0\0diag_text\0\0mta_type\0\0mta_mname\0\0action\0\0reason\0\0status\x004294967295\0\0"
        );
        let list = AttrList::parse(&deferred.encode()).unwrap();
        assert_eq!(DeliveryReply::decode(&list), Ok(deferred));
        for dialect in [Dialect::V3_5, Dialect::V3_6] {
            let list = AttrList::parse(&agent_greeting(dialect)).unwrap();
            assert_eq!(read_agent_greeting(&list), Ok(()));
        }
    }
}
