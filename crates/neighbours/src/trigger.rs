//! Waking another service: a few bytes and no answer.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// As Postfix's `trigger_timeout`.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends a trigger such as [`protocol::postfix::trigger::WAKEUP`].
///
/// # Errors
///
/// As connect(2) and write(2). The peer then finds its work at its next own scan.
pub async fn wake(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let sent = timeout(LIMIT, async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(bytes).await?;
        stream.shutdown().await
    });
    sent.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
