//! Walking through a queue.

use std::fs::{self, ReadDir};
use std::io;
use std::path::PathBuf;

use mail_types::QueueId;

use crate::directory::{Queue, QueueDirectory};

/// The ids in one queue, in no order. Names that are no ids and files in a wrong place are not
/// shown, as no daemon would find them.
#[derive(Debug)]
pub struct Scan {
    open: Vec<ReadDir>,
    queue: &'static str,
    directory: QueueDirectory,
}

impl QueueDirectory {
    /// # Errors
    ///
    /// The queue's directory cannot be read.
    pub fn scan(&self, queue: Queue) -> io::Result<Scan> {
        self.scan_in(queue.name())
    }

    /// Scans a queue or a log directory.
    ///
    /// # Errors
    ///
    /// As [`QueueDirectory::scan`].
    pub fn scan_in(&self, directory: &'static str) -> io::Result<Scan> {
        let open = vec![fs::read_dir(self.root.join(directory))?];
        Ok(Scan { open, queue: directory, directory: self.clone() })
    }
}

impl Scan {
    fn descend(&mut self, path: PathBuf) {
        if let Ok(below) = fs::read_dir(path) {
            self.open.push(below);
        }
    }
}

impl Iterator for Scan {
    type Item = QueueId;

    fn next(&mut self) -> Option<QueueId> {
        let depth = self.directory.depth_of(self.queue);
        loop {
            let level = self.open.len();
            let Some(entry) = self.open.last_mut()?.next() else {
                self.open.pop();
                continue;
            };
            let Ok(entry) = entry else { continue };
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if level <= depth {
                if name.len() == 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    self.descend(entry.path());
                }
                continue;
            }
            let Ok(id) = QueueId::parse(name) else { continue };
            if self.directory.path_in(self.queue, &id) == entry.path() {
                return Some(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hashed_queue_is_walked_through() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["deferred/6", "deferred/7", "incoming"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for file in [
            "deferred/6/640A99A4A51",
            "deferred/7/740A99A4A51",
            "deferred/7/640A99A4A52",
            "deferred/640A99A4A53",
            "incoming/AAAAA1",
            "incoming/1234.5678",
        ] {
            fs::write(root.path().join(file), b"").unwrap();
        }
        let queue = QueueDirectory::new(root.path());
        let mut ids: Vec<String> = queue.scan(Queue::Deferred).unwrap().map(String::from).collect();
        ids.sort();
        assert_eq!(ids, ["640A99A4A51", "740A99A4A51"]);
        let ids: Vec<String> = queue.scan(Queue::Incoming).unwrap().map(String::from).collect();
        assert_eq!(ids, ["AAAAA1"]);
        assert!(queue.scan(Queue::Hold).is_err());
    }
}
