//! How a connection gets from the login worker to the mailbox worker.

use std::os::fd::OwnedFd;

use daemon::Stream;

/// How the connection gets to the mailbox worker.
pub(crate) enum Passage {
    /// The connection itself went; this copy is only kept until the broker has answered.
    Itself(Stream),
    Relay {
        client: Stream,
        worker: Stream,
    },
}

impl Passage {
    /// The passage, and the descriptor for the mailbox worker. The stream comes back if the system
    /// has no descriptors left.
    pub(crate) fn of(stream: Stream) -> Result<(Self, OwnedFd), Stream> {
        match stream {
            Stream::Tcp(_) | Stream::Unix(_) => {
                let Ok(descriptor) = stream.into_descriptor() else { return Err(broken()) };
                let copy = descriptor.try_clone();
                let stream = Stream::from_descriptor(descriptor).map_err(|_| broken())?;
                match copy {
                    Ok(copy) => Ok((Self::Itself(stream), copy)),
                    Err(_) => Err(stream),
                }
            }
            Stream::Tls(_) | Stream::Other(_) => match tokio::net::UnixStream::pair() {
                Ok((here, there)) => {
                    let worker = Stream::Unix(here);
                    match Stream::Unix(there).into_descriptor() {
                        Ok(there) => Ok((Self::Relay { client: stream, worker }, there)),
                        Err(_) => Err(stream),
                    }
                }
                Err(_) => Err(stream),
            },
        }
    }

    pub(crate) fn into_client(self) -> Stream {
        match self {
            Self::Itself(stream) | Self::Relay { client: stream, .. } => stream,
        }
    }
}

/// A connection that cannot be used any more.
fn broken() -> Stream {
    Stream::Other(Box::new(tokio::io::empty()))
}
