//! Readers of a mailbox for whom everything may break at any moment, and who remember what they were told:
//! a UID and a UIDL mean one message for ever, a flag that was stored stays.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use super::dialogue::Dialogue;
use super::sender::Ledger;

/// What a mailbox has promised over IMAP and over POP3.
#[derive(Default)]
pub struct Memory {
    uid_validity: Mutex<BTreeSet<String>>,
    /// Message-ID by UID.
    uids: Mutex<BTreeMap<u32, String>>,
    /// UIDs whose `\Flagged` was stored with an OK.
    flagged: Mutex<BTreeSet<u32>>,
    /// Message-ID by UIDL.
    uidls: Mutex<BTreeMap<String, String>>,
    /// Sessions that went well to their end, over IMAP and over POP3.
    pub sessions: Mutex<[usize; 2]>,
    /// Answers that no crash excuses.
    pub wrong: Mutex<Vec<String>>,
}

impl Memory {
    /// Reads over IMAP and flags the newest message, again and again.
    pub fn imap_all(&self, port: u16, user: &str, ledger: &Ledger) {
        self.repeat(ledger, 0, || self.imap(port, user, true).map(drop));
    }

    /// Reads over POP3, again and again.
    pub fn pop3_all(&self, port: u16, user: &str, ledger: &Ledger) {
        self.repeat(ledger, 1, || self.pop3(port, user));
    }

    fn repeat(&self, ledger: &Ledger, protocol: usize, session: impl Fn() -> io::Result<()>) {
        while !ledger.stop.load(Ordering::Relaxed) {
            match session() {
                Ok(()) => self.sessions.lock().unwrap()[protocol] += 1,
                Err(error) => {
                    // A daemon that is gone is no proof that a password is wrong.
                    let text = error.to_string();
                    if text.contains("AUTHENTICATIONFAILED") || text.contains("-ERR [AUTH]") {
                        self.wrong.lock().unwrap().push(text);
                    }
                    drop(ledger.down.read());
                }
            }
        }
    }

    /// One IMAP session; returns the UIDs that are flagged.
    fn imap(&self, port: u16, user: &str, flag: bool) -> io::Result<BTreeSet<u32>> {
        let mut client = Dialogue::connect(port)?;
        client.line()?;
        client.imap(&format!("LOGIN {user} secret"))?;
        let selected = client.imap("SELECT INBOX")?;
        let validity = selected.iter().find(|line| line.contains("[UIDVALIDITY "));
        self.uid_validity.lock().unwrap().insert(validity.cloned().unwrap_or_default());
        let lines = client.imap("UID FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")?;
        let (mut uid, mut flagged) = (0, BTreeSet::new());
        for line in &lines {
            if line.contains(" FETCH (") {
                let number = line.split("UID ").nth(1).and_then(|rest| rest.split(' ').next());
                uid = number.and_then(|number| number.parse().ok()).unwrap_or(0);
                if line.contains("\\Flagged") {
                    flagged.insert(uid);
                }
            } else if let Some(id) = line.strip_prefix("Message-ID: ") {
                self.same(&self.uids, uid, id);
            }
        }
        if flag && uid != 0 {
            client.imap(&format!("UID STORE {uid} +FLAGS.SILENT (\\Flagged)"))?;
            self.flagged.lock().unwrap().insert(uid);
        }
        client.imap("LOGOUT")?;
        Ok(flagged)
    }

    /// One POP3 session that deletes nothing.
    fn pop3(&self, port: u16, user: &str) -> io::Result<()> {
        let mut client = Dialogue::connect(port)?;
        client.line()?;
        client.pop3(&format!("USER {user}"))?;
        client.pop3("PASS secret")?;
        let lines = client.pop3_lines("UIDL")?;
        for line in lines.iter().rev().take(3) {
            let Some((number, uidl)) = line.split_once(' ') else { continue };
            let top = client.pop3_lines(&format!("TOP {number} 0"))?;
            if let Some(id) = top.iter().find_map(|line| line.strip_prefix("Message-ID: ")) {
                self.same(&self.uidls, uidl.to_owned(), id);
            }
        }
        client.pop3("QUIT")?;
        Ok(())
    }

    fn same<Key: Ord + std::fmt::Debug + Clone>(
        &self,
        known: &Mutex<BTreeMap<Key, String>>,
        key: Key,
        id: &str,
    ) {
        let before = known.lock().unwrap().insert(key.clone(), id.to_owned());
        if let Some(before) = before.filter(|before| before != id) {
            self.wrong.lock().unwrap().push(format!("{key:?} was {before} and became {id}"));
        }
    }

    /// A last look, when nothing breaks any more.
    pub fn settle(&self, imap: u16, pop3: u16, users: [&str; 2]) {
        let flagged = self.imap(imap, users[0], false).unwrap();
        self.pop3(pop3, users[1]).unwrap();
        let lost: Vec<_> = self.flagged.lock().unwrap().difference(&flagged).copied().collect();
        assert!(lost.is_empty(), "flags were lost: UIDs {lost:?}");
        assert_eq!(self.uid_validity.lock().unwrap().len(), 1, "UIDVALIDITY changed");
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
