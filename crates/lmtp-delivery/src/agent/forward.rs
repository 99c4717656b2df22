//! Putting a message back into the queue for other addresses, through the cleanup service.

use std::time::{Duration, SystemTime};

use mail_types::{QueueId, Timestamp, quote_822};
use neighbours::attributes::{AttrIoError, AttrStream};
use protocol::postfix::cleanup::{CleanupFlags, Greeting, Outcome};
use protocol::postfix::record::{RecordType, write, write_attribute};
use protocol::postfix::{MsgStats, Recipient};
use queue::{Content, LineEnd};

use crate::agent::Service;
use crate::agent::job::Job;

const PATIENCE: Duration = Duration::from_secs(3600);
/// Records are sent in pieces of about this size.
const PIECE: usize = 64 * 1024;

/// A message to be sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    pub sender: String,
    pub recipients: Vec<Recipient>,
}

/// Why the message is still where it was.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error(transparent)]
    Connection(#[from] AttrIoError),
    #[error("cleanup: {0}")]
    Refused(String),
    #[error("read queue file: {0}")]
    Read(#[from] queue::ReadError),
    #[error("read queue file: {0}")]
    Open(#[from] std::io::Error),
}

impl Service {
    /// Queues the message for `forward`'s recipients. It is on disk when this returns.
    pub(super) async fn forward(
        &self,
        job: &Job,
        delivered_to: &str,
        forward: &Forward,
    ) -> Result<QueueId, ForwardError> {
        let path = self.settings.queue.root.join("public").join(&self.settings.cleanup);
        let mut stream = AttrStream::connect(&path, PATIENCE).await?;
        let greeting = Greeting::decode(&stream.list().await?).map_err(AttrIoError::from)?;
        let mut out = CleanupFlags::INTERNAL.encode();
        envelope(&mut out, job, forward);
        self.header(&mut out, &greeting.queue_id, delivered_to);
        let mut content = Content::at(job.readable(), job.data_offset())?;
        while let Some((piece, end)) = content.next_piece()? {
            let kind = match end {
                LineEnd::Newline => RecordType::LINE,
                LineEnd::Continued => RecordType::CONTINUED,
            };
            write(&mut out, kind, &piece);
            if out.len() >= PIECE {
                stream.send(&out).await?;
                out.clear();
            }
        }
        write(&mut out, RecordType::EXTRACTED, b"");
        write(&mut out, RecordType::END, b"");
        stream.send(&out).await?;
        let outcome = Outcome::decode(&stream.list().await?).map_err(AttrIoError::from)?;
        if outcome.status.is_ok() {
            return Ok(greeting.queue_id);
        }
        let text = outcome.status.fault().map_or("", |fault| fault.text).to_owned();
        let text = if outcome.reason.is_empty() { text } else { outcome.reason };
        Err(ForwardError::Refused(text))
    }

    /// The header lines of the hop that we are.
    fn header(&self, out: &mut Vec<u8>, queue_id: &QueueId, delivered_to: &str) {
        let date = message::date::format(Timestamp::from(SystemTime::now()).seconds);
        for line in [
            format!("Received: by {} ({})", self.settings.myhostname, self.settings.mail_name),
            format!("\tid {queue_id}; {date}"),
            format!("Delivered-To: {}", quote_822(delivered_to)),
        ] {
            write(out, RecordType::LINE, line.as_bytes());
        }
    }
}

fn envelope(out: &mut Vec<u8>, job: &Job, forward: &Forward) {
    let request = &job.request;
    let MsgStats { incoming_arrival: at, .. } = request.stats;
    write(out, RecordType::TIME, format!("{} {}", at.seconds, at.micros).as_bytes());
    let client = &request.client;
    for (name, value) in [
        ("log_ident", &client.log_ident),
        ("rewrite_context", &client.rewrite_context),
        ("log_client_name", &client.name),
        ("log_client_address", &client.address),
        ("log_client_port", &client.port),
        ("log_helo_name", &client.helo),
        ("log_protocol_name", &client.protocol),
        ("sasl_method", &client.sasl_method),
        ("sasl_username", &client.sasl_username),
        ("sasl_sender", &client.sasl_sender),
        ("envelope_id", &request.envelope_id),
    ] {
        if !value.is_empty() {
            write_attribute(out, name, value);
        }
    }
    if request.ret != 0 {
        write_attribute(out, "ret_flags", request.ret.to_string());
    }
    write(out, RecordType::SENDER, forward.sender.as_bytes());
    for recipient in &forward.recipients {
        if recipient.notify != 0 {
            write_attribute(out, "notify_flags", recipient.notify.to_string());
        }
        if !recipient.dsn_original.is_empty() {
            write_attribute(out, "dsn_orig_rcpt", &recipient.dsn_original);
        }
        if !recipient.original.is_empty() {
            write(out, RecordType::ORIGINAL_RECIPIENT, recipient.original.as_bytes());
        }
        write(out, RecordType::RECIPIENT, recipient.address.as_bytes());
    }
    write(out, RecordType::MESSAGE, b"");
}
