//! Cleanup's own errands to the bounce and trace services.

use std::sync::Arc;
use std::time::Duration;

use protocol::postfix::bounce::{BounceRequest, CLEAN, Notice};
use protocol::postfix::cleanup::{CleanupFlags, CleanupStatus, Outcome};
use protocol::postfix::{Dsn, Recipient, protocols, read_greeting, read_status};
use queue::NewFile;

use super::Service;
use super::message::Message;
use crate::ipc::{IpcError, Peer};

/// How long the bounce service may take.
const PATIENCE: Duration = Duration::from_secs(100);

/// A message cannot be queued. pickup cannot tell anybody, so it asks us to bounce it
/// (`CleanupFlags::BOUNCE`): the sender gets a notice and pickup hears that all is well.
pub(super) async fn instead(
    service: &Arc<Service>,
    mut file: NewFile,
    mut message: Message,
    outcome: Outcome,
) -> Outcome {
    let cannot = [
        CleanupStatus::DEFER,
        CleanupStatus::PROXY,
        CleanupStatus::BAD,
        CleanupStatus::RCPT,
        CleanupStatus::WRITE,
    ];
    let can = !cannot.iter().any(|&status| outcome.status.contains(status));
    let Some(fault) = outcome.status.fault().filter(|_| can) else { return outcome };
    if !message.flags.contains(CleanupFlags::BOUNCE) {
        return outcome;
    }
    // The notice returns what there is of the message.
    let bytes = message.take_output();
    if file.append(&bytes).is_err() {
        return Outcome { status: CleanupStatus::WRITE, reason: String::new() };
    }
    match tell(service, &message, fault.dsn, fault.text, &outcome.reason).await {
        Ok(()) => Outcome::default(),
        Err(error) => {
            message.warn(&format!("bounce message: {error}"));
            outcome
        }
    }
}

async fn tell(
    service: &Service,
    message: &Message,
    status: &str,
    text: &str,
    reason: &str,
) -> Result<(), IpcError> {
    let (status, reason) = match mail_types::EnhancedStatus::prefix_of(reason) {
        Some((own, rest)) => (own.to_string(), rest),
        None if reason.is_empty() => (status.to_owned(), text),
        None => (status.to_owned(), reason),
    };
    let dsn = Dsn::local(&status, "failed", reason);
    for recipient in &message.envelope.written {
        let (queue_id, recipient) = (message.id.clone(), recipient.clone());
        let request = BounceRequest::Append { flags: CLEAN, queue_id, recipient, dsn: dsn.clone() };
        ask(service, "private/bounce", &request).await?;
    }
    let envelope = &message.envelope;
    let notice = Notice {
        flags: CLEAN,
        queue_name: "incoming".to_owned(),
        queue_id: message.id.clone(),
        encoding: envelope.encoding.clone(),
        sendopts: 0,
        sender: envelope.sender.clone().unwrap_or_default(),
        envelope_id: envelope.envelope_id.clone(),
        ret: envelope.ret,
    };
    ask(service, "private/bounce", &BounceRequest::Flush(notice)).await
}

/// Notes for the sender who asked for it that an alias was expanded.
pub(super) async fn trace(message: &Message, recipient: &Recipient, dsn: Dsn) -> bool {
    let (queue_id, recipient) = (message.id.clone(), recipient.clone());
    let request = BounceRequest::Append { flags: 0, queue_id, recipient, dsn };
    match ask(&message.service, "private/trace", &request).await {
        Ok(()) => true,
        Err(error) => {
            message.warn(&format!("trace service: {error}"));
            false
        }
    }
}

async fn ask(service: &Service, socket: &str, request: &BounceRequest) -> Result<(), IpcError> {
    let dialect = service.shared.dialect();
    let mut peer = Peer::connect(&service.shared.socket(socket), PATIENCE).await?;
    if dialect.server_names_protocol() {
        read_greeting(&peer.list().await?, protocols::BOUNCE)?;
    }
    peer.send(&request.encode(dialect)).await?;
    match read_status(&peer.list().await?)? {
        0 => Ok(()),
        other => Err(IpcError::Io(std::io::Error::other(format!("{socket} answers {other}")))),
    }
}
