//! Talking to a delivery agent: connect, wait for its greeting, hand over one request.

use neighbours::attributes::{AttrIoError, AttrStream};
use protocol::postfix::delivery::{DeliveryReply, DeliveryRequest, flags, read_agent_greeting};
use tokio::net::UnixStream;

use super::context::Context;
use super::jobs::Entry;
use super::message::Facts;
use crate::verp;

/// An agent that has greeted and waits for work.
pub type Agent = AttrStream<UnixStream>;

/// Connects to a transport's agent.
///
/// # Errors
///
/// What is wrong, for the log: the whole transport has to wait.
pub async fn connect(context: &Context, transport: &str) -> Result<Agent, String> {
    let path = context.settings.private.join(transport);
    let failed = |error: &AttrIoError| format!("connect to transport private/{transport}: {error}");
    let mut agent = match AttrStream::connect(&path, context.settings.times.ipc).await {
        Ok(agent) => agent,
        Err(AttrIoError::Io(error)) => {
            let why = match error.kind() {
                std::io::ErrorKind::NotFound => "No such file or directory".to_owned(),
                std::io::ErrorKind::ConnectionRefused => "Connection refused".to_owned(),
                std::io::ErrorKind::PermissionDenied => "Permission denied".to_owned(),
                _ => error.to_string(),
            };
            return Err(format!("connect to transport private/{transport}: {why}"));
        }
        Err(error) => return Err(failed(&error)),
    };
    let greeting = agent.list().await.map_err(|error| failed(&error))?;
    read_agent_greeting(&greeting)
        .map_err(|error| format!("private/{transport} socket: malformed response: {error}"))?;
    Ok(agent)
}

/// Hands a request over and waits for the answer.
///
/// # Errors
///
/// The agent died or spoke nonsense: nobody knows what it did.
pub async fn deliver(
    context: &Context,
    mut agent: Agent,
    request: &DeliveryRequest,
) -> Result<DeliveryReply, AttrIoError> {
    agent.set_limit(context.settings.times.delivery);
    agent.send(&request.encode(context.dialect)).await?;
    Ok(DeliveryReply::decode(&agent.list().await?)?)
}

/// The request for one entry.
#[must_use]
pub fn request(facts: &Facts, entry: &Entry, nexthop: &str, reuse: u32) -> DeliveryRequest {
    let envelope = &facts.envelope;
    let size = envelope.size.unwrap_or_default();
    DeliveryRequest {
        flags: flags::NORMAL | facts.trace_flags() | reuse,
        queue_name: "active".to_owned(),
        queue_id: facts.id.clone(),
        data_offset: size.data_offset,
        size: size.message_size,
        nexthop: nexthop.to_owned(),
        encoding: envelope.encoding.clone(),
        sendopts: u32::try_from(size.smtputf8).unwrap_or(0),
        sender: match (&envelope.verp, entry.recipients.first()) {
            // Each recipient is an entry of its own then.
            (Some(delimiters), Some(recipient)) if !facts.sender().is_empty() => {
                verp::sender(delimiters, facts.sender(), recipient)
            }
            _ => facts.sender().to_owned(),
        },
        envelope_id: envelope.envelope_id.clone(),
        ret: envelope.ret,
        stats: facts.stats(),
        client: envelope.client.clone(),
        recipients: entry.recipients.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::jobs::MessageKey;
    use mail_types::{QueueId, Timestamp};
    use protocol::postfix::Recipient;

    #[test]
    fn the_sender_of_a_list_names_its_recipient() {
        let address = "user@dest.example".to_owned();
        let entry = Entry {
            message: MessageKey(1),
            destination: "dest.example".into(),
            recipients: vec![Recipient { address, ..Recipient::default() }],
        };
        let sender = |sender: &str, verp: Option<&str>| {
            let envelope = queue::Envelope {
                sender: Some(sender.into()),
                verp: verp.map(str::to_owned),
                ..queue::Envelope::default()
            };
            let facts = Facts {
                id: QueueId::parse("ABC").unwrap(),
                envelope,
                active_arrival: Timestamp::default(),
                force_expire: false,
                unthrottle: false,
            };
            request(&facts, &entry, "dest.example", 0).sender
        };
        assert_eq!(sender("list@x", Some("+=")), "list+user=dest.example@x");
        assert_eq!(sender("list@x", None), "list@x");
        assert_eq!(sender("", Some("+=")), "");
    }
}
