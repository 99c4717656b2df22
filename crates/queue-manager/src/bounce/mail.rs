//! Posting a notice through the cleanup service.

use std::path::Path;
use std::time::Duration;

use mail_types::{QueueId, Timestamp};
use neighbours::cleanup::{CleanupError, Submission};
use protocol::postfix::cleanup::CleanupFlags;
use protocol::postfix::record::RecordType;

use super::notice::Text;
use super::original::Returned;

/// Why a notice was not queued.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    #[error(transparent)]
    Cleanup(#[from] CleanupError),
    #[error("cleanup status {0} {1}")]
    Refused(u32, String),
}

/// Posts one notice with the message that it returns. It is on disk when this gives its queue id.
///
/// # Errors
///
/// [`PostError`]: nothing was queued.
pub async fn post(
    cleanup: &Path,
    limit: Duration,
    flags: CleanupFlags,
    now: Timestamp,
    text: &Text<'_>,
    returned: Option<Returned>,
) -> Result<QueueId, PostError> {
    let mut mail = Submission::open(cleanup, flags, limit).await?;
    let id = mail.queue_id().clone();
    let time = format!("{} {}", now.seconds, now.micros);
    mail.record(RecordType::TIME, time.as_bytes()).await?;
    mail.attribute("log_message_origin", "local").await?;
    mail.attribute("trace_flags", "0").await?;
    mail.record(RecordType::SENDER, text.letter.from.as_bytes()).await?;
    mail.record(RecordType::RECIPIENT, text.letter.to.as_bytes()).await?;
    mail.record(RecordType::MESSAGE, b"").await?;
    for line in text.head(&id) {
        mail.record(RecordType::LINE, &line).await?;
    }
    let mut returned = returned;
    while let Some(mut source) = returned.take() {
        let read = tokio::task::spawn_blocking(move || {
            let pieces = source.batch();
            (source, pieces)
        });
        let Ok((source, pieces)) = read.await else { break };
        if !pieces.is_empty() {
            returned = Some(source);
        }
        for (kind, piece) in pieces {
            mail.record(kind, &piece).await?;
        }
    }
    for line in text.tail() {
        mail.record(RecordType::LINE, &line).await?;
    }
    mail.record(RecordType::EXTRACTED, b"").await?;
    let outcome = mail.finish().await?;
    match outcome.status.is_ok() {
        true => Ok(id),
        false => Err(PostError::Refused(outcome.status.0, outcome.reason)),
    }
}
