//! `dovecot-uidlist` as a file: read by all, appended and replaced under its lock.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::control_files::{self, Stamp, open_regular, suffixed};
use crate::dotlock::DotLock;
use crate::error::{At, StoreError, present};
use crate::permissions::Inherited;
use crate::uidlist::{Record, UidList};

/// About eight million messages.
const LARGEST: u64 = 1 << 30;
/// How much of the end an append looks at.
const END: u64 = 32 * 1024;

/// The list as it was last read, and which version of the file that was.
#[derive(Debug)]
pub(crate) struct UidListFile {
    path: PathBuf,
    pub list: UidList,
    read: Option<Stamp>,
    /// The file that was read. While it is open, no later one gets its inode number and looks like a longer version of it.
    held: Option<File>,
    /// Records in the file that `list` has dropped or replaced.
    lines: usize,
}

/// What a look at the file found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Same,
    /// Only more lines.
    Grown,
    /// Another file: everything may differ.
    Replaced,
    Missing,
}

impl UidListFile {
    pub(crate) fn new(control: &Path) -> Self {
        let path = control.join("dovecot-uidlist");
        Self { path, list: UidList::default(), read: None, held: None, lines: 0 }
    }

    pub(crate) fn lock(
        &self,
        host: &str,
        inherited: Inherited,
        patience: std::time::Duration,
    ) -> Result<DotLock, StoreError> {
        DotLock::acquire(&self.path, host, inherited, patience)
    }

    /// Whether the file is still the one that was read. Costs one stat.
    pub(crate) fn is_current(&self) -> Result<bool, StoreError> {
        Ok(Stamp::at(&self.path)? == self.read && self.read.is_some())
    }

    /// Reads what is new in the file.
    pub(crate) fn look(&mut self) -> Result<Look, StoreError> {
        let now = Stamp::at(&self.path)?;
        let (Some(now), Some(read)) = (now, self.read) else {
            return if now.is_none() { Ok(self.missing()) } else { self.read_all() };
        };
        if now == read {
            return Ok(Look::Same);
        }
        // A file never shrinks and never changes in place: if it did, it is read anew.
        if now.same_file(&read) && now.size > read.size {
            return self.read_tail(read);
        }
        self.read_all()
    }

    fn missing(&mut self) -> Look {
        (self.read, self.held) = (None, None);
        self.lines = 0;
        Look::Missing
    }

    fn read_all(&mut self) -> Result<Look, StoreError> {
        let Some((text, stamp, file)) = control_files::read_open(&self.path, LARGEST)? else {
            return Ok(self.missing());
        };
        self.list = UidList::parse(&text);
        self.lines = self.list.records().len();
        (self.read, self.held) = (Some(stamp), Some(file));
        Ok(Look::Replaced)
    }

    /// Reads of a long file only what an append needs: the header and the last lines, which name
    /// the highest UID. `false` if they do not tell enough; then a whole look is needed. What has been
    /// read this way may be appended to, never rewritten.
    pub(crate) fn look_at_end(&mut self) -> Result<bool, StoreError> {
        let path = &self.path;
        let Some(mut file) = present(open_regular(path)).at("open", path)? else {
            return Ok(false);
        };
        let stamp = Stamp::of(&file.metadata().at("stat", path)?);
        if stamp.size <= 2 * END {
            return Ok(false);
        }
        let mut header = vec![0; 4096];
        file.read_exact(&mut header).at("read", path)?;
        let Some(header_end) = header.iter().position(|&octet| octet == b'\n') else {
            return Ok(false);
        };
        header.truncate(header_end + 1);
        file.seek(SeekFrom::Start(stamp.size - END)).at("seek", path)?;
        let mut tail = Vec::new();
        (&file).take(END).read_to_end(&mut tail).at("read", path)?;
        let Some(first_line) = tail.iter().position(|&octet| octet == b'\n') else {
            return Ok(false);
        };
        header.extend_from_slice(&tail[first_line + 1..]);
        let list = UidList::parse(&header);
        if list.is_damaged() || list.records().is_empty() || !header.ends_with(b"\n") {
            return Ok(false);
        }
        self.list = list;
        (self.read, self.held) = (Some(stamp), Some(file));
        Ok(true)
    }

    fn read_tail(&mut self, read: Stamp) -> Result<Look, StoreError> {
        let path = &self.path;
        let Some(mut file) = present(open_regular(path)).at("open", path)? else {
            return Ok(self.missing());
        };
        let stamp = Stamp::of(&file.metadata().at("stat", path)?);
        if !stamp.same_file(&read) || stamp.size > LARGEST {
            return self.read_all();
        }
        // The last byte that we know must still end a line, else our reading was half a line.
        file.seek(SeekFrom::Start(read.size.saturating_sub(1))).at("seek", path)?;
        let mut tail = Vec::new();
        file.take(LARGEST).read_to_end(&mut tail).at("read", path)?;
        let Some((b'\n', tail)) = tail.split_first() else { return self.read_all() };
        if !tail.ends_with(b"\n") {
            return self.read_all();
        }
        let before = self.list.records().len();
        self.list.append_lines(tail);
        self.lines += self.list.records().len().saturating_sub(before);
        self.read = Some(Stamp { size: read.size + tail.len() as u64, ..stamp });
        Ok(Look::Grown)
    }

    /// Appends records, durably. Only under the lock, and only after [`Self::look`].
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let path = &self.path;
        let mut file = OpenOptions::new()
            .append(true)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(path)
            .at("open", path)?;
        let lines: Vec<u8> = records.iter().flat_map(Record::line).collect();
        let size = file.metadata().at("stat", path)?.len();
        if let Err(error) = file.write_all(&lines).and_then(|()| file.sync_data()) {
            // Half a line stays out: readers know only whole lines, and nobody else writes now.
            let _ = file.set_len(size);
            self.read = None;
            return Err(error).at("write", path);
        }
        self.lines += records.len();
        self.read = Some(Stamp::of(&file.metadata().at("stat", path)?));
        Ok(())
    }

    /// Writes the list anew. Only under the lock.
    pub(crate) fn rewrite(&mut self, inherited: Inherited) -> Result<(), StoreError> {
        let text = self.list.print();
        let (stamp, file) =
            control_files::replace(&self.path, &suffixed(&self.path, ".tmp"), &text, inherited)?;
        self.list = UidList::parse(&text);
        self.lines = self.list.records().len();
        (self.read, self.held) = (Some(stamp), Some(file));
        Ok(())
    }

    /// Dovecot's measure: more than a quarter of the lines are of messages that are gone.
    pub(crate) fn is_wasteful(&self, living: usize) -> bool {
        self.lines * 3 / 4 > living + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    /// Most file systems give the number of a file that is gone to the next one.
    #[test]
    fn a_later_file_of_the_same_number_is_no_longer_version() {
        let directory = tempfile::tempdir().unwrap();
        let (path, next) =
            (directory.path().join("dovecot-uidlist"), directory.path().join("next"));
        let header = "3 V7 N9 G00000000000000000000000000000001\n";
        fs::write(&path, format!("{header}1 :aaaa\n")).unwrap();
        let mut file = UidListFile::new(directory.path());
        assert_eq!(file.look().unwrap(), Look::Replaced);
        let first = fs::metadata(&path).unwrap().ino();
        for _ in 0..50 {
            fs::write(&next, format!("{header}2 :bbbb\n3 :cccc\n")).unwrap();
            fs::rename(&next, &path).unwrap();
            if fs::metadata(&path).unwrap().ino() == first {
                break;
            }
        }
        assert_eq!(file.look().unwrap(), Look::Replaced);
        let bases = file.list.records().iter().map(|record| &*record.base);
        assert_eq!(bases.collect::<Vec<_>>(), [b"bbbb", b"cccc"]);
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"9 :dddd\n").unwrap();
        assert_eq!(file.look().unwrap(), Look::Grown);
        assert_eq!(file.list.records().len(), 3);
    }
}
