//! A look at the header of `dovecot.index`: a lower bound for what a lost UID list must respect.
//!
//! Dovecot's index files are never written by us and never needed; UIDs live in the UID list.

use std::path::Path;

use mail_types::UidValidity;

use crate::control_files::open_regular;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub uid_validity: UidValidity,
    pub next_uid: u32,
}

/// UIDVALIDITY and next UID as the index of this mailbox has them, if it is a version 7 index.
pub(crate) fn hint(directory: &Path) -> Option<Hint> {
    use std::io::Read;
    let mut header = [0; 32];
    open_regular(&directory.join("dovecot.index")).ok()?.read_exact(&mut header).ok()?;
    if header[0] != 7 {
        return None;
    }
    let number = |at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    Some(Hint { uid_validity: UidValidity::new(number(24))?, next_uid: number(28) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_where_it_is_sane() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(hint(root.path()), None);
        let mut index = vec![0; 120];
        index[0] = 7;
        index[24..32].copy_from_slice(&[0x76, 0x0a, 0x02, 0x6b, 9, 0, 0, 0]);
        std::fs::write(root.path().join("dovecot.index"), &index).unwrap();
        let found = hint(root.path()).unwrap();
        assert_eq!((found.uid_validity.get(), found.next_uid), (1_795_295_862, 9));
        std::fs::write(root.path().join("dovecot.index"), b"\x07\x03").unwrap();
        assert_eq!(hint(root.path()), None);
    }
}
