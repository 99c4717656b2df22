//! Mailboxes as a session and other processes see them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mail_types::{Flag, Flags, Uid};

use crate::{Access, Attributes, How, Location, Mailbox, Options, Store, StoreError};

struct Home {
    directory: tempfile::TempDir,
    store: Store,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let location = Location::maildir(directory.path().join("Maildir"));
        let options = Options { lock_timeout: Duration::from_millis(20), ..Options::default() };
        Self { store: Store::new(location, options), directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("Maildir")
    }

    fn deliver(&self, text: &str) -> Option<Uid> {
        deliver(&self.store, "INBOX", text)
    }

    fn inbox(&self) -> Mailbox {
        self.store.open("INBOX", Access::Select).unwrap()
    }

    fn uidlist(&self) -> String {
        fs::read_to_string(self.root().join("dovecot-uidlist")).unwrap()
    }
}

fn deliver(store: &Store, name: &str, text: &str) -> Option<Uid> {
    let mut incoming = store.begin(name).unwrap();
    incoming.write(text.as_bytes()).unwrap();
    store.deliver(name, incoming.finish().unwrap(), &Attributes::default()).unwrap()
}

fn uid(value: u32) -> Uid {
    Uid::new(value).unwrap()
}

fn uids(mailbox: &Mailbox) -> Vec<u32> {
    mailbox.messages().iter().map(|message| message.uid.get()).collect()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn deliveries_get_uids_and_selecting_moves_them() {
    let home = Home::new();
    assert_eq!(home.deliver("Subject: a\r\n\r\none\r\n"), Some(uid(1)));
    assert_eq!(home.deliver("Subject: b\n\ntwo\n"), Some(uid(2)));
    let peek = home.store.open("INBOX", Access::Peek).unwrap();
    assert_eq!(names(&home.root().join("new")).len(), 2);
    assert_eq!((uids(&peek), peek.messages()[0].recent), (vec![1, 2], true));
    let mut inbox = home.inbox();
    assert!(names(&home.root().join("new")).is_empty());
    assert!(names(&home.root().join("cur"))[0].ends_with(",S=16,W=19:2,"));
    assert_eq!(inbox.wire_size(uid(1)).unwrap(), 19);
    assert_eq!(inbox.next_uid(), 3);
    assert!(!home.inbox().messages()[0].recent);
    assert!(names(&home.root().join("tmp")).is_empty());
    assert!(!home.root().join("dovecot-uidlist.lock").exists());
}

#[test]
fn two_sessions_see_each_other() {
    let home = Home::new();
    home.deliver("a\n");
    home.deliver("b\n");
    let (mut one, mut two) = (home.inbox(), home.inbox());
    let keywords = ["work".to_owned()];
    let changed = one.store_flags(&[uid(1)], How::Add, Flag::Seen.into(), &keywords).unwrap();
    assert_eq!(changed, [uid(1)]);
    assert!(one.refresh().unwrap().is_empty());
    let changes = two.refresh().unwrap();
    assert!(changes.flags.contains(&uid(1)));
    let message = two.message(uid(1)).unwrap();
    assert_eq!(two.keyword_names(message), ["work"]);
    assert!(message.flags.has(Flag::Seen));
    two.store_flags(&[uid(2)], How::Replace, Flag::Deleted.into(), &[]).unwrap();
    assert_eq!(one.expunge_deleted(None).unwrap(), [uid(2)]);
    assert_eq!(two.refresh().unwrap().expunged, [uid(2)]);
    home.deliver("c\n");
    assert_eq!(two.refresh().unwrap().new, [uid(3)]);
    assert_eq!(uids(&one), [1]);
    one.refresh().unwrap();
    assert_eq!(uids(&one), [1, 3]);
}

#[test]
fn a_damaged_list_is_mended_without_changing_known_uids() {
    for damage in ["half", "garbage", "gone", "duplicate", "empty"] {
        let home = Home::new();
        for text in ["a\n", "b\n", "c\n"] {
            home.deliver(text);
        }
        let mut inbox = home.inbox();
        let validity = inbox.uid_validity();
        let path = home.root().join("dovecot-uidlist");
        let text = home.uidlist();
        match damage {
            "half" => fs::write(&path, &text[..text.len() - 20]).unwrap(),
            "garbage" => fs::write(&path, text.replace("\n2 :", "\n\u{1}x :")).unwrap(),
            "duplicate" => fs::write(&path, text.replace("\n3 :", "\n2 :")).unwrap(),
            "empty" => fs::write(&path, "").unwrap(),
            _ => fs::remove_file(&path).unwrap(),
        }
        let changes = inbox.refresh().unwrap();
        assert_eq!(changes, crate::Changes::default(), "{damage}");
        assert_eq!((uids(&inbox), inbox.uid_validity()), (vec![1, 2, 3], validity), "{damage}");
        assert_eq!(uids(&home.inbox()), [1, 2, 3], "{damage}");
        assert_eq!(home.deliver("d\n"), Some(uid(4)), "{damage}");
        assert!(home.uidlist().starts_with(&format!("3 V{validity} N")));
    }
}

#[test]
fn without_memory_a_damaged_line_costs_one_uid() {
    let home = Home::new();
    for text in ["a\n", "b\n", "c\n"] {
        home.deliver(text);
    }
    let text = home.uidlist();
    fs::write(home.root().join("dovecot-uidlist"), text.replace("\n2 :", "\n2 ")).unwrap();
    assert_eq!(uids(&home.inbox()), [1, 3, 4]);
    // Half a line, without any session that knows better.
    let text = home.uidlist();
    fs::write(home.root().join("dovecot-uidlist"), &text[..text.len() - 20]).unwrap();
    assert_eq!(uids(&home.inbox()), [1, 3, 4]);
}

#[test]
fn copies_are_links_with_their_flags() {
    let home = Home::new();
    home.store.create("Work").unwrap();
    home.deliver("a\n");
    home.deliver("b\n");
    let mut inbox = home.inbox();
    inbox.store_flags(&[uid(1)], How::Add, Flag::Flagged.into(), &["x".to_owned()]).unwrap();
    let mut work = home.store.open("Work", Access::Select).unwrap();
    work.store_flags(&[], How::Add, Flags::NONE, &["other".to_owned()]).unwrap();
    // One is gone: none is copied (RFC 3501 section 6.4.7).
    let refused = inbox.copy(&[uid(1), uid(9)], &mut work);
    assert!(matches!(refused, Err(StoreError::Expunged(gone)) if gone == uid(9)));
    assert_eq!(names(&home.root().join(".Work/cur")), [""; 0]);
    let mut work = home.store.open("Work", Access::Select).unwrap();
    let pairs = inbox.copy(&[uid(1), uid(2)], &mut work).unwrap();
    assert_eq!(pairs, [(uid(1), uid(1)), (uid(2), uid(2))]);
    work.refresh().unwrap();
    assert_eq!(work.keyword_names(&work.messages()[0]), ["x"]);
    assert_eq!(work.messages()[0].base_name(), inbox.messages()[0].base_name());
    // A second time, the name is taken: a name of its own, and the GUID stays.
    let pairs = inbox.r#move(&[uid(1)], &mut work).unwrap();
    assert_eq!(pairs, [(uid(1), uid(3))]);
    work.refresh().unwrap();
    let (first, third) = (&work.messages()[0], &work.messages()[2]);
    assert_ne!(first.base_name(), third.base_name());
    assert_eq!(work.message_guid(first), work.message_guid(third));
    assert_eq!(uids(&inbox), [2]);
    // Back into the mailbox that it was removed from: a new message.
    assert_eq!(work.copy(&[uid(1)], &mut inbox).unwrap(), [(uid(1), uid(3))]);
    inbox.refresh().unwrap();
    assert_eq!(uids(&inbox), [2, 3]);
    assert_eq!(uids(&home.inbox()), [2, 3]);
    // And within one mailbox.
    let mut again = home.inbox();
    assert_eq!(inbox.copy(&[uid(2)], &mut again).unwrap(), [(uid(2), uid(4))]);
}

/// Dovecot gives a letter its name after it has renamed files, and holds the lock meanwhile.
#[test]
fn a_letter_without_a_name_waits_for_the_lock() {
    let home = Home::new();
    home.deliver("a\n");
    let mut inbox = home.inbox();
    let lock = inbox.lock().unwrap();
    let path = inbox.path(&inbox.messages()[0]);
    let mut name = path.clone().into_os_string();
    name.push("f");
    fs::rename(&path, name).unwrap();
    inbox.open_message(uid(1)).unwrap();
    assert_eq!(inbox.keyword_names(&inbox.messages()[0]), [""; 0]);
    fs::write(home.root().join("dovecot-keywords"), "5 work\n").unwrap();
    drop(lock);
    assert_eq!(inbox.refresh().unwrap().flags, [uid(1)]);
    assert_eq!(inbox.keyword_names(&inbox.messages()[0]), ["work"]);
}

#[test]
fn a_file_that_comes_back_is_a_new_message() {
    let home = Home::new();
    home.deliver("a\n");
    let mut inbox = home.inbox();
    let name = names(&home.root().join("cur")).remove(0);
    let (cur, away) = (home.root().join("cur").join(&name), home.root().join("away"));
    fs::rename(&cur, &away).unwrap();
    assert_eq!(inbox.refresh().unwrap().expunged, [uid(1)]);
    fs::rename(&away, &cur).unwrap();
    assert_eq!(inbox.refresh().unwrap().new, [uid(2)]);
    assert_eq!(uids(&home.inbox()), [2]);
}

/// Another server renames a file for its flags while a session that holds no lock reads the directory.
#[test]
fn what_was_missed_without_the_lock_keeps_its_uid() {
    let home = Home::new();
    home.deliver("a\n");
    let mut inbox = home.inbox();
    let name = names(&home.root().join("cur")).remove(0);
    let (cur, away) = (home.root().join("cur").join(&name), home.root().join("away"));
    fs::rename(&cur, &away).unwrap();
    let changes_still = std::time::SystemTime::now() + Duration::from_secs(3600);
    fs::File::open(home.root().join("cur")).unwrap().set_modified(changes_still).unwrap();
    assert!(matches!(inbox.open_message(uid(1)), Err(StoreError::Expunged(_))));
    fs::rename(&away, &cur).unwrap();
    assert!(inbox.refresh().unwrap().is_empty());
    assert_eq!(uids(&inbox), [1]);
    inbox.open_message(uid(1)).unwrap();
    fs::remove_file(&cur).unwrap();
    assert_eq!(inbox.refresh().unwrap().expunged, [uid(1)]);
}

/// A phone has flagged it since this session has looked.
#[test]
fn what_others_have_stored_goes_with_a_copy_and_a_move() {
    let home = Home::new();
    home.store.create("Job").unwrap();
    home.deliver("a\n");
    home.deliver("b\n");
    let mut inbox = home.inbox();
    inbox.store_flags(&[uid(1), uid(2)], How::Add, Flag::Seen.into(), &[]).unwrap();
    let words = ["x".to_owned()];
    let mut phone = home.inbox();
    phone.store_flags(&[uid(1), uid(2)], How::Add, Flag::Flagged.into(), &words).unwrap();
    phone.store_flags(&[uid(1), uid(2)], How::Remove, Flag::Seen.into(), &[]).unwrap();
    let mut job = home.store.open("Job", Access::Select).unwrap();
    inbox.copy(&[uid(1)], &mut job).unwrap();
    inbox.r#move(&[uid(2)], &mut job).unwrap();
    let job = home.store.open("Job", Access::Select).unwrap();
    for message in job.messages() {
        assert_eq!(message.flags, Flag::Flagged.into());
        assert_eq!(job.keyword_names(message), words);
    }
    assert_eq!((uids(&job).len(), uids(&inbox)), (2, vec![1]));
}

/// The UIDs that this session knows are those of other messages now.
#[test]
fn nothing_is_changed_in_a_mailbox_that_was_made_anew() {
    let home = Home::new();
    home.store.create("Job").unwrap();
    deliver(&home.store, "Job", "old\n");
    let mut job = home.store.open("Job", Access::Select).unwrap();
    home.store.delete("Job").unwrap();
    home.store.create("Job").unwrap();
    deliver(&home.store, "Job", "new\n");
    let mut anew = home.store.open("Job", Access::Select).unwrap();
    assert_ne!(anew.uid_validity(), job.uid_validity());
    anew.store_flags(&[uid(1)], How::Add, Flag::Deleted.into(), &[]).unwrap();
    let mut inbox = home.inbox();
    let refused = [
        job.store_flags(&[uid(1)], How::Add, Flag::Flagged.into(), &[]).map(drop),
        job.expunge_deleted(None).map(drop),
        job.remove(&[uid(1)]).map(drop),
        job.copy(&[uid(1)], &mut inbox).map(drop),
        job.r#move(&[uid(1)], &mut inbox).map(drop),
        job.open_message(uid(1)).map(drop),
    ];
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
    assert_eq!(names(&home.root().join(".Job/cur")).len(), 1);
    assert!(job.refresh().unwrap().uid_validity);
    anew.refresh().unwrap();
    assert_eq!(anew.messages()[0].flags, Flag::Deleted.into());
}

/// Who is told NO, or has to send it again, must not find it there twice.
#[test]
fn what_cannot_be_saved_leaves_nothing() {
    let home = Home::new();
    home.deliver("a\n");
    let list = home.uidlist();
    let end = list.replace(" N1 ", " N4294967295 ");
    assert_ne!(end, list);
    fs::write(home.root().join("dovecot-uidlist"), end).unwrap();
    let mut inbox = home.inbox();
    let mut incoming = inbox.begin().unwrap();
    incoming.write(b"b\n").unwrap();
    let saved = inbox.save(vec![(incoming.finish().unwrap(), Attributes::default())]);
    assert!(matches!(saved, Err(StoreError::NoUidsLeft)), "{saved:?}");
    assert_eq!(names(&home.root().join("new")), [""; 0]);
}

/// Dovecot warns of a name that comes again while the list still has its old line.
#[test]
fn what_is_moved_back_gets_a_new_name() {
    let home = Home::new();
    for text in ["a\n", "b\n", "c\n", "d\n"] {
        home.deliver(text);
    }
    home.store.create("Job").unwrap();
    let (mut inbox, mut job) = (home.inbox(), home.store.open("Job", Access::Select).unwrap());
    let before = inbox.messages()[1].base_name().to_vec();
    assert_eq!(inbox.r#move(&[uid(2)], &mut job).unwrap(), [(uid(2), uid(1))]);
    job.refresh().unwrap();
    assert_eq!(job.messages()[0].base_name(), before);
    assert_eq!(job.r#move(&[uid(1)], &mut inbox).unwrap(), [(uid(1), uid(5))]);
    inbox.refresh().unwrap();
    let back = &inbox.messages()[3];
    assert_ne!(back.base_name(), before);
    assert_eq!(inbox.message_guid(back), before);
    assert_eq!(home.uidlist().matches(std::str::from_utf8(&before).unwrap()).count(), 2);
}

#[test]
fn while_locked_known_mail_is_shown_and_new_mail_waits() {
    let home = Home::new();
    home.deliver("a\n");
    let mut inbox = home.inbox();
    let lock = inbox.lock().unwrap();
    assert_eq!(home.deliver("b\n"), None);
    // However long ago it came: no later change tells of it.
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    for name in ["new", "cur"] {
        fs::File::open(home.root().join(name)).unwrap().set_modified(long_ago).unwrap();
    }
    assert!(inbox.refresh().unwrap().is_empty());
    assert!(matches!(
        inbox.store_flags(&[uid(1)], How::Add, Flag::Seen.into(), &[]),
        Err(StoreError::Locked)
    ));
    drop(lock);
    assert_eq!(inbox.refresh().unwrap().new, [uid(2)]);
}

#[test]
fn append_keeps_flags_and_date() {
    let home = Home::new();
    let mut inbox = home.inbox();
    let date = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let mut saved = Vec::new();
    for flags in [Flags::from(Flag::Seen), Flags::NONE] {
        let mut incoming = inbox.begin().unwrap();
        incoming.write(b"Subject: x\r").unwrap();
        incoming.write(b"\n\r\n").unwrap();
        let attributes = Attributes { flags, date: Some(date), ..Attributes::default() };
        saved.push((incoming.finish().unwrap(), attributes));
    }
    assert_eq!(inbox.save(saved).unwrap(), [uid(1), uid(2)]);
    assert_eq!(inbox.refresh().unwrap().new, [uid(1), uid(2)]);
    assert_eq!(inbox.internal_date(uid(1)).unwrap(), date);
    assert!(inbox.message(uid(1)).unwrap().flags.has(Flag::Seen));
    assert!(inbox.message(uid(2)).unwrap().recent);
    drop(inbox.begin().unwrap());
    assert!(names(&home.root().join("tmp")).is_empty());
}

#[test]
fn hostile_files_harm_only_themselves() {
    let home = Home::new();
    home.deliver("good\n");
    let new = home.root().join("new");
    fs::write(new.join("a\nb"), "x").unwrap();
    fs::create_dir(new.join("directory")).unwrap();
    std::os::unix::fs::symlink("/nonexistent", new.join("1.dangling")).unwrap();
    std::os::unix::fs::symlink("loop", new.join("2.loop")).unwrap();
    nix::unistd::mkfifo(&new.join("3.fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut inbox = home.inbox();
    assert_eq!(uids(&inbox), [1, 2, 3, 4]);
    assert!(inbox.open_message(uid(1)).is_ok());
    for broken in [2, 3, 4] {
        assert!(inbox.open_message(uid(broken)).is_err(), "{broken}");
    }
    assert_eq!(names(&new), ["a\nb", "directory"]);
}

#[test]
fn one_name_twice_becomes_two_messages() {
    let home = Home::new();
    home.deliver("one\n");
    home.inbox();
    let name = names(&home.root().join("cur")).remove(0);
    let base = name.trim_end_matches(":2,");
    fs::write(home.root().join("new").join(base), "another\n").unwrap();
    let inbox = home.inbox();
    assert_eq!(uids(&inbox), [1, 2]);
}

#[test]
fn folders_live_and_die() {
    let home = Home::new();
    let store = &home.store;
    for name in ["Work", "Work.Sub", "Other.Deep"] {
        store.create(name).unwrap();
    }
    assert!(matches!(store.create("Work"), Err(StoreError::Exists)));
    let listed: Vec<_> = store
        .list()
        .unwrap()
        .into_iter()
        .map(|folder| (folder.name, folder.selectable, folder.has_children))
        .collect();
    let expected = [
        ("INBOX", true, false),
        ("Other", false, true),
        ("Other.Deep", true, false),
        ("Work", true, true),
        ("Work.Sub", true, false),
    ];
    let listed: Vec<_> = listed.iter().map(|(n, s, c)| (n.as_str(), *s, *c)).collect();
    assert_eq!(listed, expected);
    assert!(home.root().join(".Work/maildirfolder").exists());
    let before = store.status("Work.Sub").unwrap();
    store.rename("Work", "Job").unwrap();
    assert_eq!(store.status("Job.Sub").unwrap(), before);
    assert!(matches!(store.status("Work"), Err(StoreError::NoMailbox(_))));
    assert!(matches!(store.rename("INBOX", "x"), Err(StoreError::RenameInbox)));
    assert!(matches!(store.delete("inbox"), Err(StoreError::DeleteInbox)));
    store.delete("Job").unwrap();
    assert!(store.exists("Job.Sub").unwrap() && !store.exists("Job").unwrap());
    store.create("Job").unwrap();
    assert!(store.status("Job").unwrap().uid_validity > before.uid_validity);
    store.set_subscribed("Job.Sub", true).unwrap();
    store.set_subscribed("Gone", true).unwrap();
    store.set_subscribed("Gone", false).unwrap();
    assert_eq!(store.subscriptions().unwrap(), ["Job.Sub"]);
}

#[test]
fn a_watch_tells_of_new_mail() {
    let home = Home::new();
    let mut watch = crate::Watch::new(&home.inbox()).unwrap();
    assert!(!watch.drain().unwrap());
    home.deliver("a\n");
    assert!(watch.drain().unwrap());
}

#[test]
fn quota_is_kept_in_maildirsize() {
    let mut home = Home::new();
    let quota = crate::quota::Quota {
        backend: crate::quota::Backend::Maildir,
        name: "User quota".into(),
        storage: Some(100),
        messages: None,
        grace_percent: 0,
        grace_octets: 0,
    };
    let options = Options { quota: Some(quota), ..home.store.options().clone() };
    home.store = Store::new(home.store.location().clone(), options);
    home.deliver(&"x".repeat(60));
    let mut incoming = home.store.begin("INBOX").unwrap();
    incoming.write(&[b'x'; 60]).unwrap();
    let refused = home.store.deliver("INBOX", incoming.finish().unwrap(), &Attributes::default());
    assert!(matches!(refused, Err(StoreError::OverQuota)));
    // A copy is too much, a move is not.
    home.store.create("Trash").unwrap();
    let mut inbox = home.inbox();
    let mut trash = home.store.open("Trash", Access::Select).unwrap();
    assert!(matches!(inbox.copy(&[uid(1)], &mut trash), Err(StoreError::OverQuota)));
    assert_eq!(inbox.r#move(&[uid(1)], &mut trash).unwrap(), [(uid(1), uid(1))]);
    trash.remove(&[uid(1)]).unwrap();
    let text = fs::read_to_string(home.root().join("maildirsize")).unwrap();
    assert_eq!(text, "100S\n0 0\n60 1\n60 1\n-60 -1\n-60 -1\n");
    assert_eq!(home.store.quota_usage().unwrap().unwrap().octets, 0);
    // A file that cannot be told of a change is made anew: the mail itself has come already.
    let file = home.root().join("maildirsize");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/dev/null", &file).unwrap();
    home.store.quota_changed(1, 1);
    assert!(fs::symlink_metadata(&file).is_err());
}

#[test]
fn a_delivery_into_a_large_mailbox_reads_only_the_end_of_its_list() {
    let home = Home::new();
    home.deliver("a\n");
    let mut text = home.uidlist();
    for number in 2..3000 {
        text.push_str(&format!("{number} :1700000000.M{number}P1.host,S=100,W=110\n"));
    }
    let path = home.root().join("dovecot-uidlist");
    fs::write(&path, &text).unwrap();
    assert_eq!(home.deliver("b\n"), Some(uid(3000)));
    assert!(home.uidlist().starts_with(&text));
    assert_eq!(home.uidlist().lines().count(), text.lines().count() + 1);
    // Half a line at its end: the whole list is read and mended, and nothing known is lost.
    fs::write(&path, format!("{text}3000 :17")).unwrap();
    assert!(home.deliver("c\n").unwrap() > uid(3000));
    assert_eq!(uids(&home.inbox())[0], 1);
    assert_eq!(home.inbox().messages().len(), 3);
}
