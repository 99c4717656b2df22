//! The mode of a queue file is its state.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

/// What the mode says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// Being written (0600), or left over by a crash.
    Incomplete,
    /// Complete and deliverable (07xx).
    Ready {
        /// Asked for by the flush service: forget once that its destination is dead (0040).
        unthrottle: bool,
        /// Asked for by `postsuper -e` (0010).
        force_expire: bool,
    },
    /// A delivery agent found it damaged (0400).
    Damaged,
    /// Not a regular file.
    Foreign,
}

impl FileState {
    /// `metadata` must be of the path itself, without following a symbolic link.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        let kind = metadata.file_type();
        if !kind.is_file() || kind.is_fifo() {
            return Self::Foreign;
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o700 == 0o700 {
            return Self::Ready { unthrottle: mode & 0o040 != 0, force_expire: mode & 0o010 != 0 };
        }
        if mode & 0o700 == 0o400 { Self::Damaged } else { Self::Incomplete }
    }

    #[must_use]
    pub const fn is_ready(self) -> bool {
        matches!(self, Self::Ready { .. })
    }
}
