//! One Maildir, Dovecot and our mailstore: what either does the other finds, and UIDs stay.

use std::path::PathBuf;
use std::time::Duration;

use harness::client::Client;
use harness::dovecot::{Dovecot, VMAIL};
use harness::{Scratch, skip};
use mail_types::{Flag, Flags, Uid};
use mailstore::{Access, Attributes, How, Location, Mailbox, Options, Store};

const USER: &str = "alice@example.org";

struct Shared {
    dovecot: Dovecot,
    store: Store,
    /// The last to go.
    _scratch: Scratch,
}

impl Shared {
    fn new() -> Option<Self> {
        if !skip::can_run(true, &["dovecot"]) {
            return None;
        }
        let scratch = Scratch::new();
        let mut dovecot = Dovecot::lay(&scratch, &[(USER, "a")], "");
        dovecot.start();
        let options = Options { lock_timeout: Duration::from_secs(20), ..Options::default() };
        let store = Store::new(Location::maildir(dovecot.maildir(USER)), options);
        let shared = Self { dovecot, store, _scratch: scratch };
        shared.dovecot.doveadm(&["mailbox", "status", "-u", USER, "messages", "INBOX"]);
        Some(shared)
    }

    /// What root has made belongs to the user, as it would with the daemons' own workers.
    fn own(&self) {
        let home = self.dovecot.maildir(USER).parent().unwrap().to_owned();
        let owner = format!("{VMAIL}:{VMAIL}");
        // Files come and go meanwhile; what matters is that the rest is changed.
        let _ = std::process::Command::new("chown").args(["-fR", &owner]).arg(home).status();
    }

    fn deliver(&self, subject: &str) -> Option<Uid> {
        let mut incoming = self.store.begin("INBOX").unwrap();
        incoming.write(format!("Subject: {subject}\r\n\r\nbody\r\n").as_bytes()).unwrap();
        let written = incoming.finish().unwrap();
        let uid = self.store.deliver("INBOX", written, &Attributes::default()).unwrap();
        self.own();
        uid
    }

    fn inbox(&self) -> Mailbox {
        let inbox = self.store.open("INBOX", Access::Select).unwrap();
        self.own();
        inbox
    }

    /// UID, flags and subject, as Dovecot has them.
    fn theirs(&self) -> Vec<(u32, String, String)> {
        let fields = "uid flags hdr.subject";
        let text = self
            .dovecot
            .doveadm(&["-f", "tab", "fetch", "-u", USER, fields, "mailbox", "INBOX", "all"]);
        text.lines()
            .skip(1)
            .map(|line| {
                let mut fields = line.split('\t').map(str::to_owned);
                let mut next = || fields.next().unwrap();
                (next().parse().unwrap(), next().replace("\\Recent", "").trim().to_owned(), next())
            })
            .collect()
    }

    fn maildir(&self) -> PathBuf {
        self.dovecot.maildir(USER)
    }

    fn imap(&self) -> Client {
        let mut imap = Client::tcp(self.dovecot.imap);
        imap.line();
        imap.imap("a", &format!("LOGIN {USER} a"));
        imap.imap("b", "SELECT INBOX");
        imap
    }
}

fn uid(value: u32) -> Uid {
    Uid::new(value).unwrap()
}

/// UID and flags, as we have them.
fn ours(mailbox: &Mailbox) -> Vec<(u32, String)> {
    let shown = |message: &mailstore::Message| {
        let flags = message.flags.iter().map(|flag| flag.name().to_owned());
        let words: Vec<String> = flags.chain(mailbox.keyword_names(message)).collect();
        (message.uid.get(), words.join(" "))
    };
    mailbox.messages().iter().map(shown).collect()
}

/// A change within the same tick of the clock as Dovecot's last look at a directory is one that Dovecot finds a second later.
#[track_caller]
fn same(shared: &Shared, mailbox: &mut Mailbox) {
    mailbox.refresh().unwrap();
    shared.own();
    let ours = ours(mailbox);
    let theirs = harness::log::settled(|| {
        let theirs: Vec<(u32, String)> =
            shared.theirs().into_iter().map(|(uid, flags, _)| (uid, flags)).collect();
        (theirs == ours, theirs)
    });
    assert_eq!(ours, theirs);
}

#[test]
fn each_finds_what_the_other_did() {
    let Some(shared) = Shared::new() else { return };
    let mut imap = shared.imap();
    for number in 1..=3 {
        assert_eq!(shared.deliver(&format!("ours {number}")), Some(uid(number)));
    }
    imap.send("c APPEND INBOX (\\Flagged theirs) {20+}\r\nSubject: theirs\r\n\r\nx");
    while !imap.line().starts_with("c OK") {}
    let mut inbox = shared.inbox();
    same(&shared, &mut inbox);
    assert_eq!(inbox.messages().len(), 4);
    // Flags and keywords, both ways, with letters that both have to give.
    inbox
        .store_flags(&[uid(1), uid(4)], How::Add, Flag::Seen.into(), &["ours".to_owned()])
        .unwrap();
    shared.own();
    imap.imap("d", "STORE 2 +FLAGS (\\Answered theirs other)");
    same(&shared, &mut inbox);
    // Expunge, both ways.
    inbox.store_flags(&[uid(2)], How::Add, Flag::Deleted.into(), &[]).unwrap();
    assert_eq!(inbox.expunge_deleted(None).unwrap(), [uid(2)]);
    shared.own();
    let mut told = Vec::new();
    harness::log::eventually("Dovecot to tell of an expunge", || {
        told.extend(imap.imap("e", "NOOP"));
        told.iter().any(|line| line.ends_with(" EXPUNGE")).then_some(())
    });
    assert!(told.iter().any(|line| line == "* 2 EXPUNGE"), "{told:?}");
    imap.imap("f", "UID STORE 3 +FLAGS \\Deleted");
    imap.imap("g", "EXPUNGE");
    assert_eq!(inbox.refresh().unwrap().expunged, [uid(3)]);
    same(&shared, &mut inbox);
    assert_eq!(shared.deliver("after"), Some(uid(5)));
    same(&shared, &mut inbox);
    let log = shared.dovecot.log.text();
    assert!(!log.contains("Error") && !log.contains("Warning: Maildir"), "{log}");
}

#[test]
fn folders_subscriptions_and_copies_are_shared() {
    let Some(shared) = Shared::new() else { return };
    let mut imap = shared.imap();
    shared.deliver("one");
    let store = &shared.store;
    store.create("Ours").unwrap();
    store.set_subscribed("Ours", true).unwrap();
    shared.own();
    imap.imap("c", "CREATE Theirs.Sub");
    imap.imap("d", "SUBSCRIBE Theirs.Sub");
    imap.imap("e", "CREATE &ZeVnLIqe-");
    assert_eq!(store.subscriptions().unwrap(), ["Ours", "Theirs.Sub"]);
    let mut names: Vec<String> =
        store.list().unwrap().into_iter().map(|folder| folder.name).collect();
    names.sort();
    assert_eq!(names, ["&ZeVnLIqe-", "INBOX", "Ours", "Theirs", "Theirs.Sub"]);
    let mut inbox = shared.inbox();
    inbox.store_flags(&[uid(1)], How::Add, Flags::NONE, &["word".to_owned()]).unwrap();
    let mut target = store.open("Theirs.Sub", Access::Select).unwrap();
    inbox.copy(&[uid(1)], &mut target).unwrap();
    inbox.copy(&[uid(1)], &mut target).unwrap();
    shared.own();
    let fetched = shared.dovecot.doveadm(&[
        "-f",
        "tab",
        "fetch",
        "-u",
        USER,
        "uid flags guid",
        "mailbox",
        "Theirs.Sub",
        "all",
    ]);
    let lines: Vec<&str> = fetched.lines().skip(1).collect();
    assert_eq!(lines.len(), 2, "{fetched}");
    assert!(lines.iter().all(|line| line.contains("word")), "{fetched}");
    let guid = |line: &str| line.rsplit_once('\t').unwrap().1.to_owned();
    assert_eq!(guid(lines[0]), guid(lines[1]), "{fetched}");
    // UIDVALIDITY is the same for both, and never comes again.
    let status = |name: &str| {
        let text = shared.dovecot.doveadm(&[
            "-f",
            "tab",
            "mailbox",
            "status",
            "-u",
            USER,
            "uidvalidity",
            name,
        ]);
        text.lines().nth(1).unwrap().split('\t').nth(1).unwrap().parse::<u32>().unwrap()
    };
    let before = store.status("Ours").unwrap().uid_validity.get();
    assert_eq!(status("Ours"), before);
    imap.imap("f", "DELETE Ours");
    store.create("Ours").unwrap();
    shared.own();
    let after = store.status("Ours").unwrap().uid_validity.get();
    assert!(after > before && status("Ours") == after);
    imap.imap("g", "RENAME Theirs.Sub Moved");
    assert_eq!(store.status("Moved").unwrap().messages, 2);
}

/// A file name has letters for 26 keywords. Dovecot keeps more in its index alone, where we see none and take none away.
#[test]
fn keywords_beyond_the_letters_stay_with_dovecot() {
    let Some(shared) = Shared::new() else { return };
    shared.deliver("one");
    let mut imap = shared.imap();
    let words: Vec<String> = (0..30).map(|number| format!("w{number}")).collect();
    imap.imap("c", &format!("STORE 1 +FLAGS ({})", words.join(" ")));
    let mut inbox = shared.inbox();
    assert_eq!(inbox.keyword_names(&inbox.messages()[0]), words[..26]);
    inbox.store_flags(&[uid(1)], How::Add, Flag::Seen.into(), &[]).unwrap();
    inbox.store_flags(&[uid(1)], How::Remove, Flags::NONE, &["w3".to_owned()]).unwrap();
    let refused = inbox.store_flags(&[uid(1)], How::Add, Flags::NONE, &["w28".to_owned()]);
    assert!(matches!(refused, Err(mailstore::StoreError::TooManyKeywords)), "{refused:?}");
    shared.own();
    let mut wanted = words;
    wanted.retain(|word| word != "w3");
    let wanted = format!("\\Seen {}", wanted.join(" "));
    harness::log::eventually("Dovecot to see both changes", || {
        shared.theirs()[0].1.split_whitespace().eq(wanted.split_whitespace()).then_some(())
    });
}

#[test]
fn both_at_once_lose_nothing_and_agree() {
    let Some(shared) = Shared::new() else { return };
    let root = shared.maildir();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Dovecot delivers and stores flags ...
        let theirs = scope.spawn(|| {
            for number in 0..30 {
                let mut lmtp = Client::unix(&shared.dovecot.lmtp);
                lmtp.line();
                lmtp.expect("LHLO c", "250");
                lmtp.expect("MAIL FROM:<>", "250");
                lmtp.expect(&format!("RCPT TO:<{USER}>"), "250");
                lmtp.expect("DATA", "354");
                lmtp.expect(&format!("Subject: theirs {number}\r\n\r\nx\r\n."), "250");
            }
        });
        let flags = scope.spawn(|| {
            let mut imap = shared.imap();
            for round in 0..15 {
                imap.imap(&format!("x{round}"), "STORE 1:* +FLAGS (\\Seen)");
                imap.imap(&format!("y{round}"), "STORE 1:* -FLAGS (\\Seen)");
            }
        });
        // ... while we do the same, in two sessions.
        let ours = scope.spawn(|| {
            for number in 0..30 {
                let mut incoming = shared.store.begin("INBOX").unwrap();
                incoming.write(format!("Subject: ours {number}\r\n\r\nx\r\n").as_bytes()).unwrap();
                let written = incoming.finish().unwrap();
                shared.store.deliver("INBOX", written, &Attributes::default()).unwrap();
                shared.own();
            }
        });
        let session = scope.spawn(|| {
            let mut inbox = shared.store.open("INBOX", Access::Select).unwrap();
            let mut seen: std::collections::HashMap<u32, Vec<u8>> =
                std::collections::HashMap::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let changes = inbox.refresh().unwrap();
                shared.own();
                assert!(changes.expunged.is_empty() && !changes.uid_validity, "{changes:?}");
                for message in inbox.messages() {
                    let base = message.base_name().to_vec();
                    let known = seen.entry(message.uid.get()).or_insert_with(|| base.clone());
                    assert_eq!(*known, base, "UID {} changed its message", message.uid);
                }
                let all: Vec<Uid> = inbox.messages().iter().map(|message| message.uid).collect();
                inbox.store_flags(&all, How::Add, Flag::Flagged.into(), &[]).unwrap();
                shared.own();
            }
        });
        for task in [theirs, flags, ours] {
            task.join().unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        session.join().unwrap();
    });
    let mut inbox = shared.inbox();
    same(&shared, &mut inbox);
    assert_eq!(inbox.messages().len(), 60);
    let mut subjects: Vec<String> =
        shared.theirs().into_iter().map(|(_, _, subject)| subject).collect();
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), 60);
    // Dovecot's session ends in its own time.
    harness::log::eventually("the last lock to go", || {
        (!root.join("dovecot-uidlist.lock").exists()).then_some(())
    });
    let log = shared.dovecot.log.text();
    assert!(!log.contains("Broken file") && !log.contains("Duplicate file"), "{log}");
}
