//! Carries a TLS connection's text to the mailbox worker and back; TLS state cannot move.

use std::time::Duration;

use daemon::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};

/// Octets in flight in one direction.
const CHUNK: usize = 16 * 1024;
/// How long the worker may take to answer a client that sends no more.
const LAST_ANSWER: Duration = Duration::from_secs(60);

/// Until one side ends, and what it said last has arrived.
///
/// Nothing is kept beyond one chunk per direction: who does not read holds the other side up, and
/// the mailbox worker's own time limit ends it.
pub(crate) async fn relay(client: Stream, worker: Stream) {
    let (client_in, client_out) = split(client);
    let (worker_in, worker_out) = split(worker);
    let mut inwards = std::pin::pin!(copy(client_in, worker_out));
    let mut outwards = std::pin::pin!(copy(worker_in, client_out));
    tokio::select! {
        () = &mut outwards => {}
        () = &mut inwards => {
            // A client that has said all may still be waiting for the answer.
            let _ = tokio::time::timeout(LAST_ANSWER, outwards).await;
        }
    }
}

async fn copy(mut from: ReadHalf<Stream>, mut to: WriteHalf<Stream>) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match from.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(count) => chunk.get(..count).unwrap_or_default(),
        };
        if to.write_all(read).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
