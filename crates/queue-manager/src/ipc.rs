//! Conversations with Postfix's programs and ours over their sockets, on both sides.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use protocol::postfix::record::{BadRecord, Record};
use protocol::postfix::{AttrError, AttrList, AttrReader};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Why a conversation cannot go on. A peer that closed is [`IpcError::Closed`].
#[derive(Debug, thiserror::Error)]
pub enum IpcError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("no answer within {} seconds", .0.as_secs())]
    Timeout(Duration),
    #[error(transparent)]
    Attributes(#[from] AttrError),
    #[error(transparent)]
    Record(#[from] BadRecord),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One end of a conversation.
pub struct Peer<S> {
    stream: S,
    buffer: BytesMut,
    lists: AttrReader,
    patience: Duration,
}

impl Peer<UnixStream> {
    /// # Errors
    ///
    /// As connect(2).
    pub async fn connect(path: &Path, patience: Duration) -> Result<Self, IpcError> {
        let connect = timeout(patience, UnixStream::connect(path));
        let stream = connect.await.map_err(|_| IpcError::Timeout(patience))??;
        Ok(Self::new(stream, patience))
    }
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Peer<S> {
    pub fn new(stream: S, patience: Duration) -> Self {
        Self { stream, buffer: BytesMut::new(), lists: AttrReader::default(), patience }
    }

    /// # Errors
    ///
    /// As write(2), and [`IpcError::Timeout`] if the peer does not read.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), IpcError> {
        let patience = self.patience;
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(patience, write).await.map_err(|_| IpcError::Timeout(patience))??;
        Ok(())
    }

    /// The next attribute list.
    ///
    /// # Errors
    ///
    /// [`IpcError`].
    pub async fn list(&mut self) -> Result<AttrList, IpcError> {
        loop {
            if let Some(list) = self.lists.read(&mut self.buffer)? {
                return Ok(list);
            }
            self.fill().await?;
        }
    }

    /// The next record.
    ///
    /// # Errors
    ///
    /// [`IpcError`].
    pub async fn record(&mut self, longest: usize) -> Result<Record, IpcError> {
        loop {
            if let Some(record) = Record::take(&mut self.buffer, longest)? {
                return Ok(record);
            }
            self.fill().await?;
        }
    }

    /// A record that has arrived already, without waiting.
    ///
    /// # Errors
    ///
    /// [`BadRecord`].
    pub fn buffered_record(&mut self, longest: usize) -> Result<Option<Record>, BadRecord> {
        Record::take(&mut self.buffer, longest)
    }

    /// Reads once.
    ///
    /// # Errors
    ///
    /// [`IpcError::Closed`] at the end of the stream.
    pub async fn fill(&mut self) -> Result<(), IpcError> {
        self.buffer.reserve(16 * 1024);
        let read = timeout(self.patience, self.stream.read_buf(&mut self.buffer));
        match read.await.map_err(|_| IpcError::Timeout(self.patience))?? {
            0 => Err(IpcError::Closed),
            _ => Ok(()),
        }
    }

    /// What has arrived and was not taken.
    pub const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Waits until the peer closes, as Postfix does after its last words.
    pub async fn wait_for_end(&mut self) {
        while self.fill().await.is_ok() {
            self.buffer.clear();
        }
    }
}

impl Peer<daemon::Stream> {
    /// A socket that the peer passes beside one octet. Nothing may have arrived in front of it.
    ///
    /// # Errors
    ///
    /// [`IpcError`]; also if there is no socket, or something else with it.
    pub async fn socket(&mut self) -> Result<daemon::Stream, IpcError> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "a socket was expected");
        let daemon::Stream::Unix(stream) = &self.stream else { return Err(bad().into()) };
        if !self.buffer.is_empty() {
            return Err(bad().into());
        }
        let receive = stream.async_io(Interest::READABLE, || daemon::descriptors::receive(stream));
        let received = timeout(self.patience, receive);
        let mut received = received.await.map_err(|_| IpcError::Timeout(self.patience))??;
        match (received.bytes.len(), received.descriptors.len()) {
            (0, _) => Err(IpcError::Closed),
            (1, 1) => {
                let descriptor = received.descriptors.pop().ok_or_else(bad)?;
                Ok(daemon::Stream::from_descriptor(descriptor)?)
            }
            _ => Err(bad().into()),
        }
    }
}

/// Wakes another service: bytes and no answer. A service that is not there will see the work at
/// its next scan.
pub async fn trigger(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let send = async {
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(bytes).await?;
        stream.shutdown().await
    };
    timeout(Duration::from_secs(10), send)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lists_and_records_share_a_stream() {
        let (near, far) = tokio::io::duplex(16);
        let patience = Duration::from_secs(5);
        let mut near = Peer::new(near, patience);
        let sending = tokio::spawn(async move {
            let mut far = Peer::new(far, patience);
            far.send(b"flags\x00178\0\0M\x00N\x05hello").await.unwrap();
        });
        assert_eq!(near.list().await.unwrap().fields().int("flags"), Ok(178));
        assert_eq!(near.record(100).await.unwrap().data.len(), 0);
        assert_eq!(&near.record(100).await.unwrap().data[..], b"hello");
        assert!(matches!(near.record(100).await, Err(IpcError::Closed)));
        sending.await.unwrap();
    }
}
