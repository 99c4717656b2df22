//! One maildrop file to cleanup: only what a local user may say goes through.

use std::os::unix::fs::MetadataExt as _;

use mail_types::QueueId;
use protocol::postfix::cleanup::{CleanupFlags, Greeting, Outcome};
use protocol::postfix::record::{RecordType, write};
use queue::{Located, Lock, Queue, QueueFile, ReadError, Records};

use super::Pickup;
use crate::ipc::{IpcError, Peer};

/// Attributes that a submission may bring along.
const ATTRIBUTES: &[&str] = &[
    "encoding",
    "envelope_id",
    "notify_flags",
    "ret_flags",
    "dsn_orig_rcpt",
    "rewrite_context",
    "trace_flags",
];

/// Processed octets that are sent together.
const SEND_AT: usize = 32 * 1024;

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    #[error("{0}")]
    Damaged(String),
    /// cleanup says no for now; the file stays for another time.
    #[error("{0}")]
    Refused(String),
    #[error("the file has gone")]
    Gone,
    #[error(transparent)]
    Cleanup(#[from] IpcError),
}

impl From<ReadError> for CopyError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damage(damage) => Self::Damaged(damage.to_string()),
            ReadError::Io(_) => Self::Gone,
        }
    }
}

struct Copy<'p> {
    pickup: &'p Pickup,
    peer: Peer<tokio::net::UnixStream>,
    output: Vec<u8>,
    sender: Option<String>,
    time: bool,
    /// `postsuper -r` put it back: what it knows of its client and its login is our own word, not a user's.
    requeued: bool,
}

/// Hands the message over and waits until it is on disk.
pub(super) async fn copy(pickup: &Pickup, id: &QueueId) -> Result<(), CopyError> {
    let file = QueueFile::open(&pickup.queue, Queue::Maildrop, id, Lock::None)
        .map_err(|_| CopyError::Gone)?;
    let metadata = file.file().metadata().map_err(|_| CopyError::Gone)?;
    // The whole file is proved before cleanup hears of it: a damaged one must not half arrive.
    prove(&mut file.records().map_err(|_| CopyError::Gone)?)?;
    let mut records = file.records().map_err(|_| CopyError::Gone)?;
    let mut peer = Peer::connect(&pickup.cleanup, pickup.settings.ipc_timeout).await?;
    let greeting = Greeting::decode(&peer.list().await?).map_err(IpcError::from)?;
    let new_id = greeting.queue_id;
    peer.send(&CleanupFlags(pickup.settings.flags).encode()).await?;
    let uid = metadata.uid();
    let requeued = uid == rustix::process::getuid().as_raw() && metadata.mode() & 0o004 == 0;
    let mut copy = Copy { pickup, peer, output: Vec::new(), sender: None, time: false, requeued };
    copy.envelope(&mut records, metadata.mtime()).await?;
    let sender = copy.sender.clone().unwrap_or_default();
    let from = if sender.is_empty() { String::new() } else { mail_types::quote_822(&sender) };
    let origin = if requeued { format!(" orig_id={id}") } else { String::new() };
    tracing::info!(target: "mail", ident = pickup.ident, queue_id = %new_id,
        "{new_id}: uid={uid} from=<{from}>{origin}");
    copy.content(&mut records, &new_id, uid, metadata.mtime()).await?;
    copy.extracted(&mut records).await?;
    let outcome = copy.end().await?;
    match outcome.status.fault() {
        None => Ok(()),
        Some(fault) => {
            let reason = if outcome.reason.is_empty() { fault.text } else { &outcome.reason };
            Err(CopyError::Refused(format!("{new_id}: cleanup says: {reason}")))
        }
    }
}

/// Reads to the end record, through all segments in their order.
fn prove<S: queue::ReadAt>(records: &mut Records<S>) -> Result<(), CopyError> {
    let mut segment = 0;
    let (mut sender, mut any) = (false, false);
    while let Some(located) = records.read()? {
        let kind = located.kind();
        let allowed: &[u8] = match segment {
            0 => b"MCTcFILSDRO/WVA>K",
            1 => b"XLN",
            _ => b"EDRO/PreAFIL>K",
        };
        if !allowed.contains(&kind.0) {
            return Err(CopyError::Damaged(format!("unexpected record type {kind:?}")));
        }
        sender |= segment == 0 && kind == RecordType::SENDER;
        any = true;
        match (segment, kind) {
            (0, RecordType::MESSAGE) if !sender => {
                return Err(CopyError::Damaged("no envelope sender".to_owned()));
            }
            (0, RecordType::MESSAGE) | (1, RecordType::EXTRACTED) => segment += 1,
            (2, RecordType::END) => return Ok(()),
            _ => {}
        }
    }
    let why = if any { "unexpected end of file" } else { "empty file" };
    Err(CopyError::Damaged(why.to_owned()))
}

impl Copy<'_> {
    async fn envelope<S: queue::ReadAt>(
        &mut self,
        records: &mut Records<S>,
        mtime: i64,
    ) -> Result<(), CopyError> {
        while let Some(located) = records.read()? {
            match located.kind() {
                RecordType::MESSAGE => return Ok(()),
                RecordType::TIME => {
                    self.time = true;
                    self.pass(&located);
                }
                RecordType::SENDER if self.sender.is_none() => {
                    if !self.time {
                        write(&mut self.output, RecordType::TIME, mtime.to_string().as_bytes());
                    }
                    self.sender = Some(located.text());
                    self.pass(&located);
                }
                // Of a message that postsuper put back: it is made anew.
                RecordType::SIZE
                | RecordType::CREATE_TIME
                | RecordType::FILTER
                | RecordType::REDIRECT
                | RecordType::WARN_TIME
                | RecordType::ORIGINAL_RECIPIENT
                | RecordType::INSPECTOR
                | RecordType::KILLED => {}
                RecordType::ATTRIBUTE => self.attribute(&located),
                _ => self.pass(&located),
            }
            self.send_some().await?;
        }
        Ok(())
    }

    async fn content<S: queue::ReadAt>(
        &mut self,
        records: &mut Records<S>,
        id: &QueueId,
        uid: u32,
        mtime: i64,
    ) -> Result<(), CopyError> {
        let settings = &self.pickup.settings;
        write(&mut self.output, RecordType::MESSAGE, b"");
        let by = format!(
            "Received: by {} ({}, from userid {uid})",
            settings.myhostname, settings.mail_name
        );
        write(&mut self.output, RecordType::LINE, by.as_bytes());
        let date = message::date::format_with_zone(mtime);
        write(&mut self.output, RecordType::LINE, format!("\tid {id}; {date}").as_bytes());
        let mut first = true;
        while let Some(located) = records.read()? {
            if located.kind() == RecordType::EXTRACTED {
                break;
            }
            // White space in front would continue our own field.
            if std::mem::take(&mut first)
                && located.record.data.first().is_some_and(u8::is_ascii_whitespace)
            {
                write(&mut self.output, RecordType::LINE, b"");
            }
            self.pass(&located);
            self.send_some().await?;
        }
        write(&mut self.output, RecordType::EXTRACTED, b"");
        Ok(())
    }

    async fn extracted<S: queue::ReadAt>(
        &mut self,
        records: &mut Records<S>,
    ) -> Result<(), CopyError> {
        while let Some(located) = records.read()? {
            match located.kind() {
                RecordType::END => break,
                RecordType::ATTRIBUTE => self.attribute(&located),
                RecordType::RECIPIENT => self.pass(&located),
                _ => {}
            }
            self.send_some().await?;
        }
        write(&mut self.output, RecordType::END, b"");
        Ok(())
    }

    fn pass(&mut self, located: &Located) {
        write(&mut self.output, located.kind(), &located.record.data);
    }

    fn attribute(&mut self, located: &Located) {
        let text = located.text();
        let passes = |name| name != "create_time" && (self.requeued || ATTRIBUTES.contains(&name));
        if text.split_once('=').is_some_and(|(name, _)| passes(name)) {
            self.pass(located);
        }
    }

    async fn send_some(&mut self) -> Result<(), IpcError> {
        if self.output.len() >= SEND_AT {
            let output = std::mem::take(&mut self.output);
            self.peer.send(&output).await?;
        }
        Ok(())
    }

    async fn end(mut self) -> Result<Outcome, IpcError> {
        self.peer.send(&self.output).await?;
        Ok(Outcome::decode(&self.peer.list().await?)?)
    }
}
