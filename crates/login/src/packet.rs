//! A head in JSON and octets behind it, in one datagram between workers.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Joins a head and two runs of octets.
pub(crate) fn join<T: Serialize>(head: &T, first: &[u8], second: &[u8]) -> io::Result<Vec<u8>> {
    let head = serde_json::to_vec(head)?;
    let mut packet = Vec::with_capacity(8 + head.len() + first.len() + second.len());
    for part in [&head[..], first] {
        let length = u32::try_from(part.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        packet.extend(length.to_le_bytes());
        packet.extend(part);
    }
    packet.extend(second);
    Ok(packet)
}

/// Takes such a packet apart; `None` for anything that is none.
pub(crate) fn split<T: DeserializeOwned>(packet: &[u8]) -> Option<(T, &[u8], &[u8])> {
    let mut rest = packet;
    let mut part = || {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (part, behind) = behind.split_at_checked(length)?;
        rest = behind;
        Some(part)
    };
    let head = serde_json::from_slice(part()?).ok()?;
    let first = part()?;
    Some((head, first, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_back_and_garbage_does_not() {
        let packet = join(&("x", 7), b"first", b"second").unwrap();
        let (head, first, second) = split::<(String, u32)>(&packet).unwrap();
        assert_eq!((head, first, second), (("x".into(), 7), &b"first"[..], &b"second"[..]));
        for end in 0..packet.len() - 6 {
            assert!(split::<(String, u32)>(&packet[..end]).is_none());
        }
        assert!(split::<(String, u32)>(b"\xff\xff\xff\xff{}").is_none());
    }
}
