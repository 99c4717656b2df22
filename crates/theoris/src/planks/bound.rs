//! Which file a Unix socket was bound to: what its path says, as long as nobody has put another one there.

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};

/// `SOCK_DIAG_BY_FAMILY` of sock_diag(7); `NLM_F_REQUEST` of netlink(7).
const BY_FAMILY: u16 = 20;
const REQUEST: u16 = 1;
const AF_UNIX: u8 = 1;
/// `UDIAG_SHOW_VFS`, and the attribute that answers it.
const SHOW_VFS: u32 = 2;
const VFS: u16 = 1;
const HEADER: usize = 16;
const MESSAGE: usize = 16;

/// The number of the file to which the socket with this number was bound; nothing for one without, or where the kernel
/// does not tell.
pub fn file(socket: u64) -> Option<u64> {
    let socket = u32::try_from(socket).ok()?;
    let kernel = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )
    .ok()?;
    rustix::net::send(&kernel, &question(socket), SendFlags::empty()).ok()?;
    let mut answer = [0; 1024];
    let (length, _) = rustix::net::recv(&kernel, &mut answer, RecvFlags::empty()).ok()?;
    attribute(answer.get(..length)?, socket).map(u64::from)
}

fn question(socket: u32) -> Vec<u8> {
    let mut asked = vec![AF_UNIX, 0, 0, 0];
    // Every state; this socket, whenever it was made.
    for word in [u32::MAX, socket, SHOW_VFS, u32::MAX, u32::MAX] {
        asked.extend(word.to_ne_bytes());
    }
    let length = u32::try_from(HEADER + asked.len()).unwrap_or(u32::MAX);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]); // sequence, port
    message.extend(asked);
    message
}

fn attribute(answer: &[u8], socket: u32) -> Option<u32> {
    let half = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    if half(4)? != BY_FAMILY || word(HEADER + 4)? != socket {
        return None;
    }
    let mut at = HEADER + MESSAGE;
    loop {
        let (length, kind) = (usize::from(half(at)?), half(at + 2)?);
        if kind == VFS {
            return word(at + 4);
        }
        at += length.max(4).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_file_is_that_of_the_socket_and_not_of_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let number = |path: &std::path::Path| std::fs::metadata(path).unwrap().ino();
        let socket_number = |socket: &UnixListener| {
            number(format!("/proc/self/fd/{}", socket.as_raw_fd()).as_ref())
        };
        let path = directory.path().join("socket");
        let first = UnixListener::bind(&path).unwrap();
        let kept = directory.path().join("kept");
        std::fs::rename(&path, &kept).unwrap();
        let second = UnixListener::bind(&path).unwrap();
        assert_eq!(file(socket_number(&first)), Some(number(&kept)));
        assert_eq!(file(socket_number(&second)), Some(number(&path)));
        assert_eq!(file(u64::from(u32::MAX)), None);
        let (unbound, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let unbound = number(format!("/proc/self/fd/{}", unbound.as_raw_fd()).as_ref());
        assert_eq!(file(unbound), None);
    }

    #[test]
    fn an_answer_that_is_cut_or_lies_is_none() {
        let whole = question(7);
        assert!((0..whole.len()).all(|end| attribute(&whole[..end], 7).is_none()));
        let mut lies = vec![0; 64];
        lies[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        lies[HEADER + 4..HEADER + 8].copy_from_slice(&7_u32.to_ne_bytes());
        assert_eq!(attribute(&lies, 7), None);
    }
}
