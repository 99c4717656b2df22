//! The client of cleanup (`public/cleanup`): how a message gets into the queue.
//!
//! cleanup makes the queue file when the connection is accepted and says its name; then records are streamed to
//! it, and it answers once. A [`Submission`] that is dropped takes its queue file with it.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use daemon::Stream;
use mail_types::QueueId;
use protocol::postfix::cleanup::{CleanupFlags, Greeting, Outcome};
use protocol::postfix::record::{self, RecordType};
use protocol::postfix::{AttrError, AttrList, AttrReader, milter, read_status};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::milter::Chain;

/// Records are kept back up to here, so that a message costs few writes.
const BATCH: usize = 16 * 1024;

/// cleanup could not be talked to. The message is not queued.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    #[error("connect to {path}: {source}")]
    Connect { path: String, source: io::Error },
    #[error("cleanup: {0}")]
    Io(#[from] io::Error),
    #[error("cleanup does not answer")]
    Timeout,
    #[error("cleanup closed the connection")]
    Closed,
    #[error("cleanup: {0}")]
    Protocol(#[from] AttrError),
    #[error("cannot send milters to service cleanup: status {0}")]
    Milters(i32),
}

/// A message on its way into the queue.
#[derive(Debug)]
pub struct Submission {
    stream: UnixStream,
    input: BytesMut,
    output: Vec<u8>,
    queue_id: QueueId,
    limit: Duration,
}

impl Submission {
    /// Connects, takes the queue id and says what is wanted. `limit` is `ipc_timeout`: how long each step of
    /// cleanup may take.
    ///
    /// # Errors
    ///
    /// [`CleanupError`]; the client may try again later.
    pub async fn open(
        path: &Path,
        flags: CleanupFlags,
        limit: Duration,
    ) -> Result<Self, CleanupError> {
        let connected = timeout(limit, UnixStream::connect(path)).await;
        let stream = connected
            .map_err(|_| CleanupError::Timeout)?
            .map_err(|source| CleanupError::Connect { path: path.display().to_string(), source })?;
        let mut input = BytesMut::new();
        let mut submission = {
            let mut stream = stream;
            let list = read_list(&mut stream, &mut input, limit).await?;
            let queue_id = Greeting::decode(&list)?.queue_id;
            Self { stream, input, output: Vec::with_capacity(BATCH), queue_id, limit }
        };
        submission.output.extend_from_slice(&flags.encode());
        Ok(submission)
    }

    #[must_use]
    pub fn queue_id(&self) -> &QueueId {
        &self.queue_id
    }

    /// Adds a record.
    ///
    /// # Errors
    ///
    /// [`CleanupError`] when a full batch cannot be sent.
    pub async fn record(&mut self, kind: RecordType, data: &[u8]) -> Result<(), CleanupError> {
        record::write(&mut self.output, kind, data);
        if self.output.len() >= BATCH { self.flush().await } else { Ok(()) }
    }

    /// Adds an attribute record, `name=value`.
    ///
    /// # Errors
    ///
    /// As [`Self::record`].
    pub async fn attribute(
        &mut self,
        name: &str,
        value: impl AsRef<[u8]>,
    ) -> Result<(), CleanupError> {
        record::write_attribute(&mut self.output, name, value);
        if self.output.len() >= BATCH { self.flush().await } else { Ok(()) }
    }

    /// Sends what is kept back, so that cleanup works while the client goes on.
    ///
    /// # Errors
    ///
    /// [`CleanupError`].
    pub async fn flush(&mut self) -> Result<(), CleanupError> {
        if self.output.is_empty() {
            return Ok(());
        }
        let written = timeout(self.limit, self.stream.write_all(&self.output)).await;
        written.map_err(|_| CleanupError::Timeout)??;
        self.output.clear();
        Ok(())
    }

    /// Says that smtpd has milters of its own, before anything else of the envelope: cleanup then asks none of its
    /// own, whether or not some are handed over.
    ///
    /// # Errors
    ///
    /// As [`Self::record`].
    pub async fn announce_milters(&mut self) -> Result<(), CleanupError> {
        self.record(RecordType::MILTER_COUNT, b"0").await
    }

    /// Hands the filters that want to see the content to cleanup, right before the content. They stay ours for
    /// what comes after this message.
    ///
    /// # Errors
    ///
    /// [`CleanupError`]: the message cannot be queued.
    pub async fn hand_over(&mut self, chain: &mut Chain) -> Result<(), CleanupError> {
        let (common, filters) = chain.hand_over().await;
        self.record(RecordType::MILTER_COUNT, filters.len().to_string().as_bytes()).await?;
        if filters.is_empty() {
            return Ok(());
        }
        self.output.extend_from_slice(&common.encode());
        for (milter, stream) in filters {
            self.output.extend_from_slice(&milter.encode());
            self.flush().await?;
            self.acknowledged().await?;
            self.send_socket(stream).await?;
            self.acknowledged().await?;
        }
        match read_status(&read_list(&mut self.stream, &mut self.input, self.limit).await?)? {
            0 => Ok(()),
            status => Err(CleanupError::Milters(status)),
        }
    }

    async fn acknowledged(&mut self) -> Result<(), CleanupError> {
        let list = read_list(&mut self.stream, &mut self.input, self.limit).await?;
        Ok(milter::read_acknowledgement(&list)?)
    }

    /// The socket travels beside one octet.
    async fn send_socket(&mut self, socket: &Stream) -> Result<(), CleanupError> {
        let descriptor = match socket {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
            _ => return Err(io::Error::from(io::ErrorKind::InvalidInput).into()),
        };
        let stream = &self.stream;
        let send = stream.async_io(Interest::WRITABLE, || {
            daemon::descriptors::send(stream, &[0], &[descriptor])
        });
        timeout(self.limit, send).await.map_err(|_| CleanupError::Timeout)??;
        Ok(())
    }

    /// Ends the records and waits for the answer: status 0 says that the message is on disk.
    ///
    /// # Errors
    ///
    /// [`CleanupError`]: whether the message is queued is then not known, so the client must not be told that it
    /// is.
    pub async fn finish(mut self) -> Result<Outcome, CleanupError> {
        record::write(&mut self.output, RecordType::END, b"");
        if let Err(error) = self.flush().await {
            // cleanup may have said why before it stopped reading.
            return match read_list(&mut self.stream, &mut self.input, self.limit).await {
                Ok(list) => Ok(Outcome::decode(&list)?),
                Err(_) => Err(error),
            };
        }
        let list = read_list(&mut self.stream, &mut self.input, self.limit).await?;
        Ok(Outcome::decode(&list)?)
    }
}

pub(crate) async fn read_list(
    stream: &mut UnixStream,
    input: &mut BytesMut,
    limit: Duration,
) -> Result<AttrList, CleanupError> {
    let mut reader = AttrReader::default();
    loop {
        if let Some(list) = reader.read(input)? {
            return Ok(list);
        }
        let read = timeout(limit, stream.read_buf(input)).await;
        if read.map_err(|_| CleanupError::Timeout)?? == 0 {
            return Err(CleanupError::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    async fn serve(listener: UnixListener, answer: &'static [u8]) -> Vec<u8> {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"protocol\0cleanup_protocol\0queue_id\0ABC123\0\0").await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"E\0") {
            if stream.read_buf(&mut received).await.unwrap() == 0 {
                return received;
            }
        }
        stream.write_all(answer).await.unwrap();
        received
    }

    #[tokio::test]
    async fn records_go_in_order_and_the_answer_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cleanup");
        let server = tokio::spawn(serve(
            UnixListener::bind(&path).unwrap(),
            b"status\x008\0reason\x005.7.1 no\0\0",
        ));
        let limit = Duration::from_secs(5);
        let mut submission = Submission::open(&path, CleanupFlags::SMTPD, limit).await.unwrap();
        assert_eq!(submission.queue_id().as_str(), "ABC123");
        submission.record(RecordType::SENDER, b"a@b").await.unwrap();
        submission.attribute("encoding", "8bit").await.unwrap();
        let outcome = submission.finish().await.unwrap();
        assert_eq!((outcome.status.0, outcome.reason.as_str()), (8, "5.7.1 no"));
        assert_eq!(server.await.unwrap(), b"flags\x00178\0\0S\x03a@bA\x0dencoding=8bitE\0");
    }

    #[tokio::test]
    async fn no_answer_is_no_success() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cleanup");
        let server = tokio::spawn(serve(UnixListener::bind(&path).unwrap(), b""));
        let limit = Duration::from_secs(5);
        let submission = Submission::open(&path, CleanupFlags::SMTPD, limit).await.unwrap();
        assert!(matches!(submission.finish().await, Err(CleanupError::Closed)));
        server.await.unwrap();
        let nowhere = directory.path().join("none");
        let gone = Submission::open(&nowhere, CleanupFlags::SMTPD, limit);
        assert!(matches!(gone.await, Err(CleanupError::Connect { .. })));
    }
}
