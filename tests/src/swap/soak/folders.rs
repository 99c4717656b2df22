//! What a worker does to mailboxes: its own come and go, those of all are looked at.

use super::imap::Session;
use super::worker::{SHARED, Worker};

/// What Dovecot may say to a CREATE of what nobody else creates, while other processes of it list mailboxes; the mailbox
/// has been made. Seen with Dovecot alone: with `THEORIS_SOAK_ALONE` under the seeds 3, 31 and 33, and once in 400 with
/// three others at LIST.
const OVERTAKEN: &str = "NO [ALREADYEXISTS] Mailbox already exists";

/// The UIDVALIDITY that STATUS tells.
pub fn validity(session: &mut Session<'_>, name: &str) -> u32 {
    let answer = session.must(&format!("STATUS {name} (UIDVALIDITY)"));
    let told = answer.lines.iter().find_map(|line| line.split_once("(UIDVALIDITY "));
    told.and_then(|(_, rest)| rest.trim_end_matches(')').parse().ok()).unwrap()
}

impl Worker<'_> {
    /// Names that a mailbox of this worker may have. Others neither select them nor write into them.
    fn names(&self) -> Vec<String> {
        let own = |below: &str| format!("W{}{below}", self.number);
        ["", ".a", ".b", ".a.deep"].map(own).into()
    }

    pub fn change_folders(&mut self) {
        let name = self.dice.pick(&self.names()).unwrap();
        let exists = self.world.model().folders.contains_key(&name);
        match self.dice.below(6) {
            0 => self.subscribe(&name, exists),
            1 | 2 if exists => self.rename(&name),
            3 if exists => self.delete_mailbox(&name),
            _ if !exists => self.create(&name),
            _ => {
                let there = self.session.select("SELECT", &name);
                self.session.demand(there, &name);
            }
        }
    }

    fn create(&mut self, name: &str) {
        let answer = self.session.ask(&format!("CREATE {name}"));
        let raced = self.world.servers.is_dovecot(self.session.side)
            && answer.status.starts_with(OVERTAKEN);
        self.session.demand(answer.is_ok() || raced, &format!("CREATE {name}"));
        if raced {
            self.world.model().count(OVERTAKEN);
        }
        // It is there, and new, in either case.
        let validity = validity(&mut self.session, name);
        let mut model = self.world.model();
        assert!(model.is_new(validity), "UIDVALIDITY {validity} comes again for {name}");
        model.folders.insert(name.to_owned(), validity);
        model.count("mailboxes created");
    }

    /// Nobody else has it open; neither has this session.
    fn step_aside(&mut self) {
        let there = self.session.select("SELECT", SHARED[0]);
        self.session.demand(there, SHARED[0]);
    }

    fn delete_mailbox(&mut self, name: &str) {
        self.step_aside();
        self.session.must(&format!("DELETE {name}"));
        let mut model = self.world.model();
        if let Some(validity) = model.folders.remove(name) {
            model.folder_deleted(validity);
        }
        model.count("deleted");
    }

    fn rename(&mut self, from: &str) {
        let to = self.dice.pick(&self.names()).unwrap();
        let below = format!("{from}.");
        let moves: Vec<(String, String)> = {
            let model = self.world.model();
            let names = model.folders.keys();
            let moved = names.filter(|name| *name == from || name.starts_with(&below));
            let moved: Vec<(String, String)> =
                moved.map(|name| (name.clone(), format!("{to}{}", &name[from.len()..]))).collect();
            if moved.iter().any(|(_, to)| model.folders.contains_key(to)) {
                return;
            }
            moved
        };
        if to.starts_with(&below) || from.starts_with(&format!("{to}.")) {
            return;
        }
        self.step_aside();
        self.session.must(&format!("RENAME {from} {to}"));
        let mut model = self.world.model();
        for (from, to) in moves {
            if let Some(validity) = model.folders.remove(&from) {
                model.folders.insert(to, validity);
            }
        }
        model.count("renamed");
    }

    fn subscribe(&mut self, name: &str, exists: bool) {
        if exists && self.dice.one_in(2) {
            self.session.must(&format!("SUBSCRIBE {name}"));
            self.world.model().subscribed.insert(name.to_owned());
        } else {
            self.session.must(&format!("UNSUBSCRIBE {name}"));
            self.world.model().subscribed.remove(name);
        }
    }

    /// Questions that change nothing; mailboxes of others may come and go meanwhile.
    pub fn look_around(&mut self) {
        match self.dice.below(4) {
            0 => {
                let names = self.session.list("LIST");
                let there = SHARED.iter().all(|name| names.contains(*name));
                self.session.demand(there, "a mailbox is not listed");
            }
            1 => drop(self.session.list("LSUB")),
            2 => drop(self.session.must("GETQUOTAROOT INBOX")),
            _ => {
                let name = self.dice.pick(&SHARED).unwrap();
                let known = self.world.model().folders[name];
                let told = validity(&mut self.session, name);
                self.session.demand(known == told, "UIDVALIDITY has changed");
            }
        }
    }
}
