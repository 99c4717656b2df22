//! A mailbox on a full disk: nothing that was there is lost, nothing half-written stays.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::{Scratch, skip};
use mail_types::{Flag, Uid};
use mailstore::{Access, Attributes, How, Location, Options, Store, StoreError};

/// A small file system; it goes with the value.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Self {
        let options = ["-t", "tmpfs", "-o", "size=128k,mode=0777", "tmpfs"];
        assert!(Command::new("mount").args(options).arg(at).status().unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn deliver(store: &Store, text: &str) -> Result<Option<Uid>, StoreError> {
    let mut incoming = store.begin("INBOX")?;
    incoming.write(text.as_bytes())?;
    store.deliver("INBOX", incoming.finish()?, &Attributes::default())
}

#[test]
fn nothing_is_lost_and_nothing_half_written_stays() {
    if !skip::can_run(true, &["mount"]) {
        return;
    }
    let scratch = Scratch::new();
    let disk = Small::mount(&scratch.directory("disk"));
    let options = Options { lock_timeout: Duration::from_secs(1), ..Options::default() };
    let store = Store::new(Location::maildir(disk.0.join("Maildir")), options);
    for number in 0..5 {
        deliver(&store, &format!("Subject: {number}\n\nbody\n")).unwrap();
    }
    let mut inbox = store.open("INBOX", Access::Select).unwrap();
    let filler = disk.0.join("filler");
    let _ = std::fs::write(&filler, vec![b'x'; 256 * 1024]);
    // Pages are handed out whole: fill the last ones with single octets.
    for number in 0.. {
        if std::fs::write(disk.0.join(format!("filler{number}")), "x").is_err() {
            break;
        }
    }
    let refused = deliver(&store, &"x".repeat(64 * 1024)).unwrap_err();
    assert!(refused.is_full(), "{refused}");
    assert_eq!(std::fs::read_dir(disk.0.join("Maildir/tmp")).unwrap().count(), 0);
    // What is there can be seen by a session that was open and by a new one.
    inbox.refresh().unwrap();
    assert_eq!(inbox.messages().len(), 5);
    assert_eq!(store.open("INBOX", Access::Select).unwrap().messages().len(), 5);
    // Room again: everything goes on, with the UIDs that were.
    for entry in std::fs::read_dir(&disk.0).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("filler") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let uid = deliver(&store, "Subject: after\n\nbody\n").unwrap().unwrap();
    assert!(uid.get() >= 6, "{uid}");
    inbox.refresh().unwrap();
    inbox.store_flags(&[uid], How::Add, Flag::Seen.into(), &[]).unwrap();
    let uids: Vec<u32> = inbox.messages().iter().map(|message| message.uid.get()).collect();
    assert_eq!(uids[..5], [1, 2, 3, 4, 5]);
    assert_eq!(uids.len(), 6);
}
