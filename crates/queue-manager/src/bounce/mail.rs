//! Posting mail of our own through the cleanup service.

use std::path::Path;
use std::time::Duration;

use mail_types::{QueueId, Timestamp};
use neighbours::attributes::{AttrIoError, AttrStream};
use protocol::postfix::cleanup::{CleanupFlags, Greeting, Outcome};
use protocol::postfix::record::{RecordType, write, write_attribute, write_line};

/// Lines are split into records of this length, as Postfix does.
const LONGEST_RECORD: usize = 2048;

/// Why mail of our own was not queued.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    #[error(transparent)]
    Io(#[from] AttrIoError),
    #[error("cleanup status {0} {1}")]
    Refused(u32, String),
}

/// One message to one recipient; `lines` makes its content when its queue id is known. It is on disk
/// when this returns.
///
/// # Errors
///
/// [`PostError`]: nothing was queued.
pub async fn post(
    cleanup: &Path,
    limit: Duration,
    flags: CleanupFlags,
    (sender, recipient): (&str, &str),
    now: Timestamp,
    lines: impl FnOnce(&QueueId) -> Vec<Vec<u8>>,
) -> Result<QueueId, PostError> {
    let mut peer = AttrStream::connect(cleanup, limit).await?;
    let greeting = Greeting::decode(&peer.list().await?).map_err(AttrIoError::from)?;
    let mut out = flags.encode();
    let time = format!("{} {}", now.seconds, now.micros);
    write(&mut out, RecordType::TIME, time.as_bytes());
    write_attribute(&mut out, "log_message_origin", "local");
    write_attribute(&mut out, "trace_flags", "0");
    write(&mut out, RecordType::SENDER, sender.as_bytes());
    write(&mut out, RecordType::RECIPIENT, recipient.as_bytes());
    write(&mut out, RecordType::MESSAGE, b"");
    for line in lines(&greeting.queue_id) {
        write_line(&mut out, &line, LONGEST_RECORD);
    }
    write(&mut out, RecordType::EXTRACTED, b"");
    write(&mut out, RecordType::END, b"");
    peer.send(&out).await?;
    let outcome = Outcome::decode(&peer.list().await?).map_err(AttrIoError::from)?;
    match outcome.status.is_ok() {
        true => Ok(greeting.queue_id),
        false => Err(PostError::Refused(outcome.status.0, outcome.reason)),
    }
}
