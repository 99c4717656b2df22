//! Links between workers: any free process of the answering role takes a request, and answers on
//! the stream that came with it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Blocking;
use std::sync::Arc;

use tokio::net::UnixStream;

use crate::descriptors::Channel;

/// Bytes in one request.
pub const LONGEST_REQUEST: usize = crate::handover::LONGEST_PAYLOAD;

/// The asking end.
#[derive(Clone, Debug)]
pub struct LinkClient(Arc<Channel>);

/// The answering end.
#[derive(Clone, Debug)]
pub struct LinkServer(Arc<Channel>);

/// What a server took.
#[derive(Debug)]
pub struct Request {
    pub payload: Vec<u8>,
    /// The way back; the asker sees its end when it is dropped.
    pub answer: UnixStream,
    /// Descriptors that the asker passed.
    pub descriptors: Vec<OwnedFd>,
}

impl LinkClient {
    pub(crate) fn new(end: OwnedFd) -> io::Result<Self> {
        Ok(Self(Arc::new(Channel::new(end)?)))
    }

    /// Sends a request and returns the stream on which the answer comes. Waits while the queue is
    /// full; who wants a time limit puts one around it. An end of file means that the server died.
    ///
    /// # Errors
    ///
    /// If the request is too large or the system has no descriptors left.
    pub async fn ask(&self, request: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<UnixStream> {
        if request.is_empty() || request.len() > LONGEST_REQUEST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "request of an unfit size"));
        }
        let (here, there) = Blocking::pair()?;
        here.set_nonblocking(true)?;
        let mut passed = vec![OwnedFd::from(there)];
        passed.extend(descriptors);
        self.0.give(request, passed).await?;
        UnixStream::from_std(here)
    }
}

impl LinkServer {
    pub(crate) fn new(end: OwnedFd) -> io::Result<Self> {
        Ok(Self(Arc::new(Channel::new(end)?)))
    }

    /// The next request; `None` when nobody can ask any more. One without an answer stream, or
    /// beyond the bounds, is skipped.
    ///
    /// # Errors
    ///
    /// If the socket is broken.
    pub async fn next(&self) -> io::Result<Option<Request>> {
        loop {
            let datagram = match self.0.receive().await {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
                Err(error) => return Err(error),
            };
            let mut descriptors = datagram.descriptors.into_iter();
            let Some(answer) = descriptors.next() else { continue };
            if let Ok(crate::Stream::Unix(answer)) = crate::Stream::from_descriptor(answer) {
                let descriptors = descriptors.collect();
                return Ok(Some(Request { payload: datagram.bytes, answer, descriptors }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_request_is_answered_and_garbage_is_skipped() {
        let (ask, answer) = crate::descriptors::pair().unwrap();
        crate::descriptors::send(&ask, b"no way back", &[]).unwrap();
        let client = LinkClient::new(ask).unwrap();
        let server = LinkServer::new(answer).unwrap();
        let mut reply = client.ask(b"PAM alice", Vec::new()).await.unwrap();
        let mut request = server.next().await.unwrap().unwrap();
        assert_eq!(request.payload, b"PAM alice");
        request.answer.write_all(b"OK").await.unwrap();
        drop(request);
        let mut text = String::new();
        reply.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "OK");
        drop(client);
        assert!(server.next().await.unwrap().is_none());
    }
}
