//! Listening sockets of an original handed to our daemon: it asks for them on a socket in the run directory when it
//! starts, as it would find those that a service manager kept for it. An original that can take one gets it the same way:
//! `theoris with-socket` is started in its stead, asks, and becomes the original.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::command::Command;

/// No daemon has more listeners; the kernel passes 253 at once.
const MOST: usize = 64;

/// Sockets that wait to be asked for. Dropping it ends the offer.
#[derive(Debug)]
pub struct Offer {
    path: PathBuf,
    listener: OwnedFd,
    sockets: Vec<OwnedFd>,
}

impl Offer {
    /// Offers them at `path`, to root alone.
    ///
    /// # Errors
    ///
    /// If the path cannot be bound.
    pub fn new(path: &Path, sockets: Vec<OwnedFd>) -> io::Result<Self> {
        if sockets.len() > MOST {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many sockets"));
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let _ = fs::remove_file(path);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::bind(&listener, &SocketAddrUnix::new(path)?)?;
        let offer = Self { path: path.to_owned(), listener, sockets };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        rustix::net::listen(&offer.listener, 4)?;
        Ok(offer)
    }

    /// Gives them to whoever asks while `work` is done, and to nobody afterwards.
    pub fn during<T>(self, work: impl FnOnce() -> T) -> T {
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let giving = scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    self.give(Duration::from_millis(20));
                }
            });
            let result = work();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            let _ = giving.join();
            result
        })
    }

    fn give(&self, patience: Duration) {
        let mut wanted = [PollFd::new(&self.listener, PollFlags::IN)];
        let limit = Timespec::try_from(patience).ok();
        if !matches!(poll(&mut wanted, limit.as_ref()), Ok(1..)) {
            return;
        }
        let Ok(asker) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC) else {
            return;
        };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sockets: Vec<_> = self.sockets.iter().map(|socket| socket.as_fd()).collect();
        if control.push(SendAncillaryMessage::ScmRights(&sockets)) {
            let text = [IoSlice::new(b"sockets")];
            // Who does not take them binds its own, which fails while the original has the port.
            let _ = rustix::net::sendmsg(&asker, &text, &mut control, SendFlags::NOSIGNAL);
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// `with-socket OFFER PROGRAM ARGUMENTS…`: takes the listening socket that waits there and becomes the program, which is
/// told of it by `-p fd:N`, libmilter's words for it.
pub const WITH_SOCKET: Command = Command {
    name: "with-socket",
    usage: "OFFER PROGRAM [ARGUMENTS]",
    about: "starts a filter with a listening socket of ours; theoris release uses it",
    run: with_socket,
};

fn with_socket(words: &[String]) -> Result<u8, String> {
    let [offer, program, arguments @ ..] = words else { return Err("which program?".into()) };
    let socket = taken(Path::new(offer)).map_err(|error| format!("{offer}: {error}"))?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty())
        .map_err(|error| error.to_string())?;
    let mut command = std::process::Command::new(program);
    command.args(arguments).arg("-p").arg(format!("fd:{}", socket.as_raw_fd()));
    Err(format!("{program}: {}", command.exec()))
}

/// The one socket that is offered.
fn taken(offer: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(offer)?)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 16];
    let mut text = [IoSliceMut::new(&mut text)];
    rustix::net::recvmsg(&socket, &mut text, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let sockets = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    sockets.flatten().next().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
