//! A connection that speaks Postfix's attribute lists, whichever side we are.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use protocol::postfix::{AttrError, AttrList, AttrReader};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Why a conversation ended early.
#[derive(Debug, thiserror::Error)]
pub enum AttrIoError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Protocol(#[from] AttrError),
    #[error("timed out")]
    Timeout,
    #[error("connection closed by peer")]
    Closed,
}

impl AttrIoError {
    /// What a client meets while a server is being replaced. Postfix's own clients try once more before they warn.
    #[must_use]
    pub fn is_of_a_restart(&self) -> bool {
        match self {
            Self::Io(error) => {
                matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::NotFound)
            }
            Self::Closed => true,
            Self::Protocol(_) | Self::Timeout => false,
        }
    }
}

/// Whether the client has gone before it was answered: a queue manager that was replaced, of which Postfix's agents say
/// nothing either.
#[must_use]
pub fn has_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// Attribute lists over a stream, bounded in size and time.
#[derive(Debug)]
pub struct AttrStream<S> {
    stream: S,
    buffer: BytesMut,
    reader: AttrReader,
    limit: Duration,
}

const READ_SIZE: usize = 4096;

impl AttrStream<UnixStream> {
    /// Connects to a service's socket.
    ///
    /// # Errors
    ///
    /// As connect(2), or [`AttrIoError::Timeout`].
    pub async fn connect(path: &Path, limit: Duration) -> Result<Self, AttrIoError> {
        let connected = timeout(limit, UnixStream::connect(path)).await;
        Ok(Self::new(connected.map_err(|_| AttrIoError::Timeout)??, limit))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AttrStream<S> {
    /// `limit` is for each single read or write.
    pub fn new(stream: S, limit: Duration) -> Self {
        Self { stream, buffer: BytesMut::new(), reader: AttrReader::default(), limit }
    }

    pub fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// The next list.
    ///
    /// # Errors
    ///
    /// [`AttrIoError`]; `Closed` when the peer ended instead.
    pub async fn list(&mut self) -> Result<AttrList, AttrIoError> {
        self.list_or_end().await?.ok_or(AttrIoError::Closed)
    }

    /// The next list, or nothing when the peer closed between two.
    ///
    /// # Errors
    ///
    /// [`AttrIoError`]; `Closed` when the peer ended within a list.
    pub async fn list_or_end(&mut self) -> Result<Option<AttrList>, AttrIoError> {
        loop {
            if let Some(list) = self.reader.read(&mut self.buffer)? {
                return Ok(Some(list));
            }
            if self.fill().await? == 0 {
                let clean = self.buffer.is_empty() && self.reader.is_empty();
                return if clean { Ok(None) } else { Err(AttrIoError::Closed) };
            }
        }
    }

    /// Reads more; the bytes are in [`AttrStream::buffer`]. Zero is the end of the stream.
    ///
    /// # Errors
    ///
    /// As read(2), or [`AttrIoError::Timeout`].
    pub async fn fill(&mut self) -> Result<usize, AttrIoError> {
        self.buffer.reserve(READ_SIZE);
        let read = timeout(self.limit, self.stream.read_buf(&mut self.buffer)).await;
        Ok(read.map_err(|_| AttrIoError::Timeout)??)
    }

    /// What has arrived and is not read yet, for protocols that mix lists with records.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// # Errors
    ///
    /// As write(2), or [`AttrIoError::Timeout`].
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), AttrIoError> {
        let written = timeout(self.limit, async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        });
        Ok(written.await.map_err(|_| AttrIoError::Timeout)??)
    }

    pub fn into_inner(self) -> S {
        self.stream
    }
}

#[cfg(test)]
mod tests {
    use super::{AttrIoError, AttrStream};
    use protocol::postfix::status_reply;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn lists_arrive_whole_whatever_the_pieces() {
        let (near, far) = tokio::io::duplex(7);
        let mut near = AttrStream::new(near, Duration::from_secs(1));
        let sender = tokio::spawn(async move {
            let mut far = AttrStream::new(far, Duration::from_secs(1));
            far.send(&[status_reply(0), status_reply(-1)].concat()).await.unwrap();
        });
        for status in [0, -1] {
            let list = near.list().await.unwrap();
            assert_eq!(protocol::postfix::read_status(&list).unwrap(), status);
        }
        sender.await.unwrap();
        assert!(near.list_or_end().await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_given_up() {
        let (near, _far) = tokio::io::duplex(64);
        let mut near = AttrStream::new(near, Duration::from_secs(10));
        assert!(matches!(near.list().await, Err(AttrIoError::Timeout)));
    }

    #[tokio::test]
    async fn half_a_list_is_an_error() {
        let (near, mut far) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut far, b"status\0").await.unwrap();
        drop(far);
        let mut near = AttrStream::new(near, Duration::from_secs(1));
        assert!(matches!(near.list_or_end().await, Err(AttrIoError::Closed)));
    }
}
