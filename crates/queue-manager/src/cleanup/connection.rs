//! One client of cleanup: greeting, flags, records, outcome.

use std::io;
use std::sync::Arc;

use protocol::postfix::cleanup::{CleanupFlags, CleanupStatus, Greeting, Outcome};
use protocol::postfix::record::RecordType;
use queue::{NewFile, Queue};

use super::Service;
use super::bounce;
use super::message::{Message, Verdict};
use super::milters::{self, Milters};
use crate::ipc::{IpcError, Peer};

/// Longest record that a client may send; Postfix's own send lines of 2048.
const LONGEST_RECORD: usize = 1 << 20;
/// Processed octets that wait for a write.
const WRITE_AT: usize = 64 * 1024;

/// Serves one client to its end. Every way out but a queued message leaves no file behind.
pub async fn serve(stream: daemon::Stream, service: Arc<Service>) {
    let mut peer = Peer::new(stream, service.settings.ipc_timeout);
    match converse(&mut peer, &service).await {
        Ok(()) | Err(IpcError::Closed) => {}
        Err(error) => {
            tracing::warn!(target: "mail", ident = service.ident, "warning: cleanup client: {error}");
        }
    }
}

async fn converse(peer: &mut Peer<daemon::Stream>, service: &Arc<Service>) -> Result<(), IpcError> {
    let mut file = create(service).await?;
    let greeting = Greeting { queue_id: file.id().clone() };
    peer.send(&greeting.encode(service.shared.dialect())).await?;
    let flags = CleanupFlags::decode(&peer.list().await?)?;
    let mut message = Message::new(Arc::clone(service), &file, flags);
    loop {
        let record = peer.record(LONGEST_RECORD).await?;
        if record.kind == RecordType::MILTER_COUNT && message.is_in_envelope() {
            let chain = milters::receive(peer, &record, &service.ident).await?;
            message.milters = Milters::Given(chain);
            continue;
        }
        let end = record.kind == RecordType::END;
        message.take(record).await;
        if end || message.is_over() {
            break;
        }
        if message.output().len() >= WRITE_AT {
            file = write(file, &mut message).await?;
        }
    }
    if message.is_complete() && message.has_milters() {
        file = write(file, &mut message).await?;
        message.inspect(file.handle()?).await;
    }
    let filters = message.release_milters();
    let outcome = finish(service, file, message).await;
    let sent = peer.send(&outcome.encode()).await;
    if let Some(mut own) = filters {
        own.quit().await;
    }
    sent?;
    // A client whose records broke off early may still be sending: let it read the answer.
    peer.wait_for_end().await;
    Ok(())
}

async fn create(service: &Arc<Service>) -> io::Result<NewFile> {
    let on_disk = Arc::clone(service);
    let created = blocking(service, move || {
        let file = NewFile::create(&on_disk.shared.queue, Queue::Incoming, &*on_disk.clock)?;
        file.remove_stale_logs();
        Ok(file)
    });
    created.await.inspect_err(|error| {
        tracing::warn!(target: "mail", ident = service.ident,
            "warning: mail_queue_enter: create file incoming/{}: {error}", std::process::id());
    })
}

/// Writes what has been processed so far. A disk that is full becomes the message's status.
async fn write(mut file: NewFile, message: &mut Message) -> io::Result<NewFile> {
    let bytes = message.take_output();
    let written = tokio::task::spawn_blocking(move || {
        let result = file.append(&bytes);
        (file, result)
    });
    let (file, result) = written.await.map_err(io::Error::other)?;
    if let Err(error) = result {
        message.write_failed(&error);
    }
    Ok(file)
}

/// The end: the file is completed and synced, or goes away.
async fn finish(service: &Arc<Service>, mut file: NewFile, mut message: Message) -> Outcome {
    let verdict = message.finish().await;
    let (size, queue) = match verdict {
        Verdict::Queue { size, queue } => (size, queue),
        Verdict::Discard => return Outcome::default(),
        Verdict::Refuse(outcome) => {
            return bounce::instead(service, file, message, outcome).await;
        }
    };
    let bytes = message.take_output();
    let done = blocking(service, move || {
        file.append(&bytes)?;
        file.overwrite(0, &size)?;
        file.complete(queue, 0)
    });
    match done.await {
        Ok(_) => {
            if queue == Queue::Incoming {
                service.qmgr.wake();
            }
            Outcome::default()
        }
        Err(error) => {
            message.write_failed(&error);
            Outcome { status: CleanupStatus::WRITE, reason: String::new() }
        }
    }
}

/// Runs disk work on the pool of blocking threads, not more than the disk can take at once.
async fn blocking<T: Send + 'static>(
    service: &Service,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let _permit = service.disk.acquire().await.map_err(io::Error::other)?;
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
