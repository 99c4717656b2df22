//! Buffered, bounded line I/O over any connection, with STARTTLS.
//!
//! Every call that waits has the same time limit and can be dropped and called again without
//! losing a byte. Nothing here grows without bound: a line is cut at the caller's limit, and what is
//! read ahead is at most one chunk more than what the caller left in the buffer.

use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::stream::{Connection, Io, Peer, Stream};
use crate::tls::{Facts, Tls, client};

/// Bytes asked for at once.
const CHUNK: usize = 16 * 1024;
/// What a caller may leave unread before `fill` refuses to read more.
const FULLEST: usize = 1024 * 1024;
/// A line is skipped up to here; then its sender is not speaking the protocol.
const LONGEST_SKIP: usize = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Nothing came, or nothing could be sent, for as long as the limit allows.
    #[error("timeout")]
    Timeout,
    /// The peer has gone where more was expected.
    #[error("lost connection")]
    Closed,
    #[error("too much data without an end of line")]
    Endless,
    #[error("TLS handshake failed: {0}")]
    Handshake(io::Error),
    #[error(transparent)]
    Io(io::Error),
}

/// A line without its ending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub bytes: Bytes,
    pub end: LineEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    CrLf,
    /// A bare line feed.
    Lf,
    /// Longer than the limit: `bytes` is its beginning, the rest has been skipped.
    TooLong,
}

/// What the peer had sent before it could know that TLS was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipelined {
    Nothing,
    /// So many bytes, which have been thrown away.
    Discarded(usize),
}

#[derive(Debug)]
pub struct Wire {
    /// `None` only after a failed handshake.
    stream: Option<Stream>,
    input: BytesMut,
    output: BytesMut,
    limit: Duration,
    peer: Option<Peer>,
    local: Option<SocketAddr>,
    tls: Option<Facts>,
    /// The beginning of a line that is being skipped, and how much of it has gone by.
    skipping: Option<(Bytes, usize)>,
    /// How far `input` has been searched for a line feed.
    searched: usize,
}

impl Wire {
    /// Five minutes of silence end a connection, until [`Self::set_timeout`] says otherwise.
    pub fn new(stream: Stream) -> Self {
        Self {
            peer: stream.peer(),
            local: stream.local(),
            stream: Some(stream),
            input: BytesMut::new(),
            output: BytesMut::new(),
            limit: Duration::from_secs(300),
            tls: None,
            skipping: None,
            searched: 0,
        }
    }

    /// For tests: over a `tokio::io::duplex` or anything else that reads and writes.
    pub fn from_io(io: impl Io + 'static) -> Self {
        Self::new(Stream::Other(Box::new(io)))
    }

    /// A connection of which somebody has read already: `input` comes first.
    #[must_use]
    pub fn with_input(mut self, input: &[u8]) -> Self {
        self.input.extend_from_slice(input);
        self
    }

    pub fn set_timeout(&mut self, limit: Duration) {
        self.limit = limit;
    }

    pub fn peer(&self) -> Option<Peer> {
        self.peer
    }

    pub fn local(&self) -> Option<SocketAddr> {
        self.local
    }

    /// What was negotiated; `None` without TLS.
    pub fn tls(&self) -> Option<&Facts> {
        self.tls.as_ref()
    }

    /// One line; `None` at the end of the connection (an unfinished line is nothing).
    ///
    /// `limit` counts the line without its ending; nothing beyond it is kept.
    ///
    /// # Errors
    ///
    /// [`WireError::Timeout`], [`WireError::Endless`] and what the socket says.
    pub async fn line(&mut self, limit: usize) -> Result<Option<Line>, WireError> {
        loop {
            if let Some(line) = self.buffered_line(limit)? {
                return Ok(Some(line));
            }
            if self.fill().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// A line that has arrived already: pipelining, without waiting.
    ///
    /// # Errors
    ///
    /// [`WireError::Endless`].
    pub fn buffered_line(&mut self, limit: usize) -> Result<Option<Line>, WireError> {
        let unsearched = self.input.get(self.searched..).unwrap_or_default();
        let found = unsearched.iter().position(|&byte| byte == b'\n');
        if let Some((beginning, skipped)) = self.skipping.take() {
            self.searched = 0;
            return match found {
                Some(at) => {
                    self.input.advance(at + 1);
                    Ok(Some(Line { bytes: beginning, end: LineEnd::TooLong }))
                }
                None if skipped > LONGEST_SKIP => Err(WireError::Endless),
                None => {
                    self.skipping = Some((beginning, skipped + self.input.len()));
                    self.input.clear();
                    Ok(None)
                }
            };
        }
        let Some(at) = found.map(|at| at + self.searched) else {
            self.searched = self.input.len();
            if self.input.len() > limit.saturating_add(1) {
                // Not one line within the limit any more, even if this byte is its CR.
                let beginning = self.input.split_to(limit).freeze();
                self.skipping = Some((beginning, self.input.len()));
                self.input.clear();
                self.searched = 0;
            }
            return Ok(None);
        };
        self.searched = 0;
        let mut bytes = self.input.split_to(at + 1).freeze();
        let end = if bytes.ends_with(b"\r\n") { LineEnd::CrLf } else { LineEnd::Lf };
        bytes.truncate(if end == LineEnd::CrLf { at - 1 } else { at });
        if bytes.len() > limit {
            bytes.truncate(limit);
            return Ok(Some(Line { bytes, end: LineEnd::TooLong }));
        }
        Ok(Some(Line { bytes, end }))
    }

    /// What has been read and not consumed.
    pub fn buffer(&self) -> &[u8] {
        &self.input
    }

    /// Takes up to `count` bytes out of the buffer.
    pub fn take(&mut self, count: usize) -> Bytes {
        self.searched = 0;
        self.input.split_to(count.min(self.input.len())).freeze()
    }

    /// Drops up to `count` bytes of the buffer.
    pub fn consume(&mut self, count: usize) {
        self.searched = 0;
        self.input.advance(count.min(self.input.len()));
    }

    /// Reads once, and returns how many bytes that gave; 0 is the end of the connection. Sends
    /// first what was queued, so a peer never waits for a reply that waits for it.
    ///
    /// # Errors
    ///
    /// [`WireError::Timeout`], [`WireError::Endless`] if the caller lets the buffer grow beyond a
    /// megabyte, and what the socket says. A reset connection is an end.
    pub async fn fill(&mut self) -> Result<usize, WireError> {
        self.flush().await?;
        if self.input.len() >= FULLEST {
            return Err(WireError::Endless);
        }
        self.input.reserve(CHUNK);
        let stream = self.stream.as_mut().ok_or(WireError::Closed)?;
        match timeout(self.limit, stream.read_buf(&mut self.input)).await {
            Err(_) => Err(WireError::Timeout),
            Ok(Ok(count)) => Ok(count),
            Ok(Err(error)) if is_end(&error) => Ok(0),
            Ok(Err(error)) => Err(WireError::Io(error)),
        }
    }

    /// Reads what has arrived already and waits for nothing more, not for the tick of a timer either; 0 is nothing, or
    /// the end. Sends first what was queued.
    ///
    /// # Errors
    ///
    /// As [`Self::fill`].
    pub async fn fill_arrived(&mut self) -> Result<usize, WireError> {
        self.flush().await?;
        if self.input.len() >= FULLEST {
            return Err(WireError::Endless);
        }
        self.input.reserve(CHUNK);
        let stream = self.stream.as_mut().ok_or(WireError::Closed)?;
        // What the kernel has, the reactor may not have heard of. It turns at a yield, unless another thread has it; when a
        // timer goes off, it has turned whoever had it.
        for look in 0..3 {
            match (look, stream.has_arrived()) {
                (0, false) => {}
                (_, false) => break,
                (2, true) => tokio::time::sleep(Duration::from_millis(1)).await,
                (_, true) => tokio::task::yield_now().await,
            }
            let mut reading = pin!(stream.read_buf(&mut self.input));
            match poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await {
                Poll::Pending => {}
                Poll::Ready(Ok(count)) => return Ok(count),
                Poll::Ready(Err(error)) if is_end(&error) => break,
                Poll::Ready(Err(error)) => return Err(WireError::Io(error)),
            }
        }
        Ok(0)
    }

    /// Adds to the reply that the next [`Self::flush`] (or [`Self::fill`]) sends in one write.
    pub fn queue(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// How much is queued; who composes long answers flushes in between.
    pub fn queued(&self) -> usize {
        self.output.len()
    }

    /// # Errors
    ///
    /// [`WireError::Timeout`] when the peer stops reading, and what the socket says.
    pub async fn flush(&mut self) -> Result<(), WireError> {
        if self.output.is_empty() {
            return Ok(());
        }
        let stream = self.stream.as_mut().ok_or(WireError::Closed)?;
        while !self.output.is_empty() {
            match timeout(self.limit, stream.write_buf(&mut self.output)).await {
                Err(_) => return Err(WireError::Timeout),
                Ok(Ok(0)) => return Err(WireError::Closed),
                Ok(Ok(_)) => {}
                Ok(Err(error)) if is_end(&error) => return Err(WireError::Closed),
                Ok(Err(error)) => return Err(WireError::Io(error)),
            }
        }
        match timeout(self.limit, stream.flush()).await {
            Err(_) => Err(WireError::Timeout),
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if is_end(&error) => Err(WireError::Closed),
            Ok(Err(error)) => Err(WireError::Io(error)),
        }
    }

    /// Queues and flushes.
    ///
    /// # Errors
    ///
    /// As [`Self::flush`].
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.queue(bytes);
        self.flush().await
    }

    /// Becomes TLS, as the server: after STARTTLS's positive reply, or at once for wrapped TLS.
    /// What is queued is sent first. What the peer sent before is never taken for what it says
    /// inside TLS: it is thrown away and reported.
    ///
    /// # Errors
    ///
    /// [`WireError::Handshake`] or [`WireError::Timeout`]; the connection is then unusable.
    pub async fn start_tls(&mut self, tls: &Tls) -> Result<Pipelined, WireError> {
        self.flush().await?;
        let pipelined = self.forget_input();
        let stream = self.stream.take().ok_or(WireError::Closed)?;
        let accepted = timeout(self.limit, tls.accept(stream)).await;
        let (stream, facts) =
            accepted.map_err(|_| WireError::Timeout)?.map_err(WireError::Handshake)?;
        self.stream = Some(stream);
        self.tls = Some(facts);
        Ok(pipelined)
    }

    /// Becomes TLS, as the client: after the server's positive reply to STARTTLS, or at once for wrapped TLS. What the
    /// server sent before is thrown away and reported, as in [`Self::start_tls`].
    ///
    /// # Errors
    ///
    /// [`WireError::Handshake`] or [`WireError::Timeout`]; the connection is then unusable.
    pub async fn start_tls_client(
        &mut self,
        wish: &client::Wish,
    ) -> Result<(Pipelined, client::Shown), WireError> {
        self.flush().await?;
        let pipelined = self.forget_input();
        let peer = self.peer.and_then(|peer| peer.address()).map(|peer| peer.ip());
        let address = peer.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into());
        let stream = self.stream.take().ok_or(WireError::Closed)?;
        let connected = timeout(self.limit, client::connect(stream, wish, address)).await;
        let (stream, facts, shown) =
            connected.map_err(|_| WireError::Timeout)?.map_err(WireError::Handshake)?;
        self.stream = Some(stream);
        self.tls = Some(facts);
        Ok((pipelined, shown))
    }

    /// Drops what was read ahead.
    fn forget_input(&mut self) -> Pipelined {
        let pipelined = match self.input.len() + usize::from(self.skipping.is_some()) {
            0 => Pipelined::Nothing,
            count => Pipelined::Discarded(count),
        };
        self.input.clear();
        self.skipping = None;
        self.searched = 0;
        pipelined
    }

    /// Drops what was queued and not sent.
    pub fn forget_output(&mut self) {
        self.output.clear();
    }

    /// Says goodbye in TLS and TCP, without waiting long for a peer that does not listen.
    pub async fn close(mut self) {
        if self.flush().await.is_ok()
            && let Some(stream) = self.stream.as_mut()
        {
            let _ = timeout(Duration::from_secs(5).min(self.limit), stream.shutdown()).await;
        }
    }

    /// The bare stream and what has been read ahead, to relay it or to hand it over. Flush first.
    ///
    /// # Errors
    ///
    /// [`WireError::Closed`] after a failed handshake.
    pub fn into_parts(self) -> Result<(Stream, Bytes), WireError> {
        Ok((self.stream.ok_or(WireError::Closed)?, self.input.freeze()))
    }
}

impl From<Connection> for Wire {
    fn from(connection: Connection) -> Self {
        let mut wire = Self::new(connection.stream);
        wire.peer = Some(connection.peer);
        wire
    }
}

/// A peer that vanishes is an end like any other; TLS without close_notify too.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
    };
    matches!(
        error.kind(),
        ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof | NotConnected
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(chunks: &[&[u8]], limit: usize) -> Vec<(String, LineEnd)> {
        let (here, mut there) = tokio::io::duplex(CHUNK);
        let chunks: Vec<Vec<u8>> = chunks.iter().map(|chunk| chunk.to_vec()).collect();
        let sender = tokio::spawn(async move {
            for chunk in chunks {
                there.write_all(&chunk).await.unwrap();
            }
        });
        let mut wire = Wire::from_io(here);
        let mut got = Vec::new();
        while let Some(line) = wire.line(limit).await.unwrap() {
            got.push((String::from_utf8_lossy(&line.bytes).into_owned(), line.end));
        }
        sender.await.unwrap();
        got
    }

    #[tokio::test]
    async fn lines_tell_how_they_ended() {
        use LineEnd::{CrLf, Lf, TooLong};
        let sent: [&[u8]; 2] =
            [b"EHLO a\r\nNOOP\n12345678\r\n123456789\r\n", b"x\ry\r\nend\r\nrest"];
        let expected = [
            ("EHLO a", CrLf),
            ("NOOP", Lf),
            ("12345678", CrLf),
            ("12345678", TooLong),
            ("x\ry", CrLf),
            ("end", CrLf),
        ];
        let expected: Vec<_> =
            expected.iter().map(|(text, end)| ((*text).to_owned(), *end)).collect();
        assert_eq!(lines(&sent, 8).await, expected);
        let whole = sent.concat();
        let single: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(lines(&single, 8).await, expected);
    }

    #[tokio::test]
    async fn an_endless_line_is_skipped_without_being_kept() {
        let long = vec![b'a'; 3_000_000];
        let got = lines(&[&long, b"\r\nNOOP\r\n"], 512).await;
        assert_eq!(got.len(), 2);
        assert_eq!((got[0].0.len(), got[0].1), (512, LineEnd::TooLong));
        assert_eq!(got[1].0, "NOOP");
    }

    #[tokio::test]
    async fn what_has_arrived_is_read_without_waiting() {
        use std::io::Write as _;
        let (mut peer, here) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut wire = Wire::new(Stream::from_descriptor(here.into()).unwrap());
        for _ in 0..3 {
            assert_eq!(wire.fill_arrived().await.unwrap(), 0);
        }
        peer.write_all(b"NOOP\r\n").unwrap(); // the other end has it when this returns
        assert_eq!(wire.fill_arrived().await.unwrap(), 6);
        assert_eq!(wire.fill_arrived().await.unwrap(), 0);
        assert_eq!(wire.buffer(), b"NOOP\r\n");
    }

    #[tokio::test]
    async fn silence_and_a_peer_that_does_not_read_end_in_a_timeout() {
        let (here, _there) = tokio::io::duplex(4);
        let mut wire = Wire::from_io(here);
        wire.set_timeout(Duration::from_millis(5));
        assert!(matches!(wire.line(100).await, Err(WireError::Timeout)));
        assert!(matches!(wire.send(b"more than four").await, Err(WireError::Timeout)));
    }

    #[tokio::test]
    async fn a_caller_that_never_consumes_is_stopped() {
        let mut wire = Wire::from_io(tokio::io::join(tokio::io::repeat(b'a'), tokio::io::sink()));
        loop {
            match wire.fill().await {
                Ok(_) => assert!(wire.buffer().len() <= FULLEST + CHUNK * 2),
                Err(error) => {
                    assert!(matches!(error, WireError::Endless));
                    break;
                }
            }
        }
    }
}
