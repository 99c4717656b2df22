//! Putting a message back into the queue for other addresses, through the cleanup service.

use std::time::{Duration, SystemTime};

use mail_types::{QueueId, Timestamp, quote_822};
use neighbours::cleanup::{CleanupError, Submission};
use protocol::postfix::cleanup::CleanupFlags;
use protocol::postfix::record::RecordType;
use protocol::postfix::{MsgStats, Recipient};
use queue::{Content, LineEnd};

use crate::agent::Service;
use crate::agent::job::Job;

const PATIENCE: Duration = Duration::from_secs(3600);

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
    Connection(#[from] CleanupError),
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
        let mut mail = Submission::open(&path, CleanupFlags::INTERNAL, PATIENCE).await?;
        envelope(&mut mail, job, forward).await?;
        let queue_id = mail.queue_id().clone();
        for line in self.header(&queue_id, delivered_to) {
            mail.record(RecordType::LINE, line.as_bytes()).await?;
        }
        let mut content = Content::at(job.readable(), job.data_offset())?;
        while let Some((piece, end)) = content.next_piece()? {
            let kind = match end {
                LineEnd::Newline => RecordType::LINE,
                LineEnd::Continued => RecordType::CONTINUED,
            };
            mail.record(kind, &piece).await?;
        }
        mail.record(RecordType::EXTRACTED, b"").await?;
        let outcome = mail.finish().await?;
        if outcome.status.is_ok() {
            return Ok(queue_id);
        }
        let text = outcome.status.fault().map_or("", |fault| fault.text).to_owned();
        let text = if outcome.reason.is_empty() { text } else { outcome.reason };
        Err(ForwardError::Refused(text))
    }

    /// The header lines of the hop that we are.
    fn header(&self, queue_id: &QueueId, delivered_to: &str) -> [String; 3] {
        let date = message::date::format(Timestamp::from(SystemTime::now()).seconds);
        [
            format!("Received: by {} ({})", self.settings.myhostname, self.settings.mail_name),
            format!("\tid {queue_id}; {date}"),
            format!("Delivered-To: {}", quote_822(delivered_to)),
        ]
    }
}

async fn envelope(mail: &mut Submission, job: &Job, forward: &Forward) -> Result<(), CleanupError> {
    let request = &job.request;
    let MsgStats { incoming_arrival: at, .. } = request.stats;
    let time = format!("{} {}", at.seconds, at.micros);
    mail.record(RecordType::TIME, time.as_bytes()).await?;
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
            mail.attribute(name, value).await?;
        }
    }
    if request.ret != 0 {
        mail.attribute("ret_flags", request.ret.to_string()).await?;
    }
    mail.record(RecordType::SENDER, forward.sender.as_bytes()).await?;
    for recipient in &forward.recipients {
        if recipient.notify != 0 {
            mail.attribute("notify_flags", recipient.notify.to_string()).await?;
        }
        if !recipient.dsn_original.is_empty() {
            mail.attribute("dsn_orig_rcpt", &recipient.dsn_original).await?;
        }
        if !recipient.original.is_empty() {
            mail.record(RecordType::ORIGINAL_RECIPIENT, recipient.original.as_bytes()).await?;
        }
        mail.record(RecordType::RECIPIENT, recipient.address.as_bytes()).await?;
    }
    mail.record(RecordType::MESSAGE, b"").await
}
