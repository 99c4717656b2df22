//! Passing descriptors between processes, without `unsafe`: SOCK_SEQPACKET pairs whose datagrams
//! carry bytes and descriptors, and sealed memory for what is too large for a datagram.
//!
//! Everything received is bounded and owned at once, so a peer that sends too much, or descriptors
//! that nobody asked for, gets them closed.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// Descriptors in one datagram; the kernel's own limit is 253.
pub const MOST_DESCRIPTORS: usize = 64;
/// Bytes in one datagram.
pub const LONGEST_DATAGRAM: usize = 96 * 1024;

/// A received datagram. No bytes and no descriptors is the end of the connection.
#[derive(Debug, Default)]
pub struct Datagram {
    pub bytes: Vec<u8>,
    pub descriptors: Vec<OwnedFd>,
}

/// A connected pair of SOCK_SEQPACKET sockets, non-blocking and not inherited by programs.
///
/// # Errors
///
/// If the system has no descriptors left.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends one datagram with its descriptors, or fails with `WouldBlock`.
///
/// # Errors
///
/// If it does not fit, or the peer has gone.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if bytes.is_empty() || bytes.len() > LONGEST_DATAGRAM || descriptors.len() > MOST_DESCRIPTORS {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "does not fit into a datagram"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one datagram, or fails with `WouldBlock`. One that was cut is an error, and what came
/// with it is closed.
///
/// # Errors
///
/// If the connection is broken or the datagram does not fit.
pub fn receive(socket: impl AsFd) -> io::Result<Datagram> {
    let mut bytes = vec![0; LONGEST_DATAGRAM];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let got = rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "datagram too large"));
    }
    bytes.truncate(got.bytes);
    bytes.shrink_to_fit();
    Ok(Datagram { bytes, descriptors })
}

/// Waits until a datagram can be received; for the time before there is a runtime.
///
/// # Errors
///
/// As [`receive`].
pub fn receive_blocking(socket: impl AsFd) -> io::Result<Datagram> {
    loop {
        match receive(&socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut ready = [rustix::event::PollFd::new(&socket, rustix::event::PollFlags::IN)];
                match rustix::event::poll(&mut ready, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            other => return other,
        }
    }
}

/// Waits so long at most until a datagram can be received.
///
/// # Errors
///
/// `TimedOut`, or the system's.
pub(crate) fn wait(socket: impl AsFd, patience: std::time::Duration) -> io::Result<()> {
    let mut ready = [rustix::event::PollFd::new(&socket, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec::try_from(patience).ok();
    match rustix::event::poll(&mut ready, patience.as_ref())? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

/// One end of a [`pair`] inside a runtime. (tokio's type for datagrams, because it has none for
/// SOCK_SEQPACKET; it only waits until the socket is ready.)
#[derive(Debug)]
pub struct Channel(UnixDatagram);

impl Channel {
    /// # Errors
    ///
    /// If the runtime cannot watch the descriptor.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(UnixDatagram::from_std(socket.into())?))
    }

    /// # Errors
    ///
    /// As [`send`], without `WouldBlock`.
    pub async fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.async_io(Interest::WRITABLE, || send(&self.0, bytes, descriptors)).await
    }

    /// As [`Self::send`], for descriptors that are given away.
    ///
    /// # Errors
    ///
    /// As [`send`], without `WouldBlock`.
    pub async fn give(&self, bytes: &[u8], descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let interest = Interest::WRITABLE;
        self.0
            .async_io(interest, || {
                let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
                send(&self.0, bytes, &borrowed)
            })
            .await
    }

    /// `None` at the end of the connection.
    ///
    /// # Errors
    ///
    /// As [`receive`], without `WouldBlock`.
    pub async fn receive(&self) -> io::Result<Option<Datagram>> {
        let datagram = self.0.async_io(Interest::READABLE, || receive(&self.0)).await;
        match datagram {
            Ok(datagram) if datagram.bytes.is_empty() => Ok(None),
            Ok(datagram) => Ok(Some(datagram)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Puts bytes into sealed memory that can be passed as a descriptor.
///
/// # Errors
///
/// If there is no memory.
pub fn memory(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = std::fs::File::from(rustix::fs::memfd_create(name, flags)?);
    file.write_all_at(bytes, 0)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// Reads memory that another process passed; never more than `limit`, never waiting.
///
/// # Errors
///
/// If it is no memory or file, or is larger.
pub fn read_memory(memory: OwnedFd, limit: usize) -> io::Result<Vec<u8>> {
    let file = std::fs::File::from(memory);
    let facts = file.metadata()?;
    let size = usize::try_from(facts.len()).unwrap_or(usize::MAX);
    if !facts.is_file() || size > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no memory of a fitting size"));
    }
    let mut bytes = vec![0; size];
    let mut read = 0;
    while read < size {
        match file.read_at(bytes.get_mut(read..).unwrap_or_default(), read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn bytes_and_descriptors_arrive_together() {
        let (here, there) = pair().unwrap();
        let (mut pipe, end) = std::io::pipe().unwrap();
        send(&here, b"take this", &[end.as_fd()]).unwrap();
        drop(end);
        let got = receive(&there).unwrap();
        assert_eq!(got.bytes, b"take this");
        let mut end = std::fs::File::from(got.descriptors.into_iter().next().unwrap());
        end.write_all(b"x").unwrap();
        drop(end);
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        assert_eq!(receive(&there).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(here);
        assert!(receive(&there).unwrap().bytes.is_empty());
    }

    #[test]
    fn what_is_too_large_is_refused_on_both_sides() {
        let (here, there) = pair().unwrap();
        assert!(send(&here, &vec![0; LONGEST_DATAGRAM + 1], &[]).is_err());
        let large = vec![0; LONGEST_DATAGRAM + 1];
        rustix::net::send(&here, &large, SendFlags::NOSIGNAL).unwrap();
        assert_eq!(receive(&there).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn memory_is_read_back_and_a_pipe_is_not_memory() {
        let sealed = memory("test", b"settings").unwrap();
        assert_eq!(read_memory(sealed.try_clone().unwrap(), 8).unwrap(), b"settings");
        assert!(read_memory(sealed, 7).is_err());
        let (pipe, _end) = std::io::pipe().unwrap();
        assert!(read_memory(pipe.into(), 100).is_err());
    }
}
