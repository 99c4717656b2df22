//! What a worker does to messages.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use super::content::{assert_is, text};
use super::losses::{Loss, Lost};
use super::model::{Change, DELETED, Key, SEEN, Taken, names};
use super::worker::Worker;

/// How long a change by one server may take to be seen through the other: both look a second time at a directory
/// that has changed within the last second.
const SIGHT: Duration = Duration::from_secs(10);

fn set(keys: &[Key]) -> String {
    keys.iter().map(|key| key.1.to_string()).collect::<Vec<_>>().join(",")
}

impl Worker<'_> {
    fn own_words(&mut self, most: usize) -> u32 {
        self.dice.some(&self.words, most).into_iter().fold(0, |words, word| words | word)
    }

    fn owned(&self) -> Vec<Key> {
        let keys = self.keys();
        let model = self.world.model();
        keys.into_iter().filter(|key| model.owns(*key, self.number)).collect()
    }

    /// Stores words, on all of `keys`.
    fn set_words(&mut self, keys: &[Key], words: u32, on: bool) {
        keys.iter().for_each(|key| self.world.model().storing(*key, words, on));
        let sign = if on { '+' } else { '-' };
        let silent = if self.dice.one_in(2) { ".SILENT" } else { "" };
        let command = format!("UID STORE {} {sign}FLAGS{silent} ({})", set(keys), names(words));
        let change = Change { side: self.session.side, began: SystemTime::now(), on, words };
        self.session.must(&command);
        for key in keys {
            self.world.model().stored(*key, words, on);
            self.world.model().note(*key, change.clone());
        }
    }

    pub fn store(&mut self) {
        let (keys, words) = (self.keys(), self.own_words(3));
        let (keys, on) = (self.dice.some(&keys, 6), !self.dice.one_in(3));
        if !keys.is_empty() {
            self.set_words(&keys, words, on);
        }
    }

    pub fn append(&mut self) {
        let (name, id) = (self.dice.pick(&self.mailboxes()).unwrap(), self.world.model().new_id());
        let words = if self.dice.one_in(2) { self.own_words(3) } else { 0 };
        let key = self.session.append(&name, &names(words), &text(&id));
        self.world.model().saved(key, &id, self.number, words);
    }

    pub fn copy(&mut self) {
        let keys = self.dice.some(&self.keys(), 4);
        if keys.is_empty() {
            return;
        }
        // A copy in its own mailbox that meets an expunge has been seen to bring the message back, with Dovecot at both.
        let here = &self.session.selected.as_ref().unwrap().name;
        let elsewhere = self.world.servers.is_dovecot(self.session.side);
        let names: Vec<String> =
            self.mailboxes().into_iter().filter(|name| !elsewhere || name != here).collect();
        let name = self.dice.pick(&names).unwrap();
        let answer = self.session.ask(&format!("UID COPY {} {name}", set(&keys)));
        let right = answer.is_ok() || answer.status.starts_with("NO [EXPUNGEISSUED]");
        self.session.demand(right, &answer.status);
        for (uid, to) in answer.copies() {
            self.world.model().copied((keys[0].0, uid), to, self.number);
        }
    }

    pub fn r#move(&mut self) {
        let keys = self.dice.some(&self.owned(), 3);
        let here = self.session.selected.as_ref().map(|selected| selected.name.clone());
        let names: Vec<String> =
            self.mailboxes().into_iter().filter(|name| Some(name) != here.as_ref()).collect();
        if keys.is_empty() {
            return;
        }
        let name = self.dice.pick(&names).unwrap();
        let taken = Taken { by: "MOVE", side: self.session.side, began: SystemTime::now() };
        let answer = self.session.ask(&format!("UID MOVE {} {name}", set(&keys)));
        let right = answer.is_ok() || answer.status.starts_with("NO [EXPUNGEISSUED]");
        self.session.demand(right, &answer.status);
        for (uid, to) in answer.copies() {
            let from = (keys[0].0, uid);
            let mut model = self.world.model();
            model.copied(from, to, self.number);
            model.gone(from, taken);
        }
    }

    pub fn delete(&mut self) {
        let keys = self.dice.some(&self.owned(), 4);
        if keys.is_empty() {
            return;
        }
        self.set_words(&keys, DELETED, true);
        if !self.dice.one_in(3) {
            let taken = Taken { by: "EXPUNGE", side: self.session.side, began: SystemTime::now() };
            self.session.must(&format!("UID EXPUNGE {}", set(&keys)));
            keys.iter().for_each(|key| self.world.model().gone(*key, taken));
        }
    }

    /// Takes the mark away again. Somebody may have expunged the message meanwhile.
    pub fn undelete(&mut self) {
        let mut keys = self.owned();
        keys.retain(|key| self.world.model().known(*key, DELETED) == Some(DELETED));
        if !keys.is_empty() {
            self.set_words(&keys, DELETED, false);
        }
    }

    /// Takes away whatever anybody has marked.
    pub fn expunge(&mut self) {
        if self.dice.one_in(2) {
            self.session.must("EXPUNGE");
            return;
        }
        let name = self.session.selected.as_ref().unwrap().name.clone();
        self.session.leave("CLOSE");
        let there = self.session.select("SELECT", &name);
        self.session.demand(there, &name);
    }

    pub fn read(&mut self) {
        let keys = self.dice.some(&self.keys(), 3);
        if keys.is_empty() {
            return;
        }
        let peek = if self.dice.one_in(3) { "" } else { ".PEEK" };
        if peek.is_empty() {
            keys.iter().for_each(|key| self.world.model().storing(*key, SEEN, true));
        }
        let side = self.session.side;
        let change = Change { side, began: SystemTime::now(), on: true, words: SEEN };
        let answer = self.session.ask(&format!("UID FETCH {} (UID BODY{peek}[])", set(&keys)));
        let right = answer.is_ok() || answer.status.starts_with("NO [EXPUNGEISSUED]");
        self.session.demand(right, &answer.status);
        for fetched in answer.fetched.iter().filter(|fetched| !fetched.text.is_empty()) {
            let Some(key) = fetched.uid.map(|uid| (keys[0].0, uid)) else { continue };
            let id = self.world.model().id(key).unwrap().to_owned();
            assert_is(&fetched.text, &id);
            if peek.is_empty() {
                self.world.model().stored(key, SEEN, true);
                self.world.model().note(key, change.clone());
            }
        }
    }

    /// Everything that this session has stored is there, whichever server stored it.
    pub fn verify(&mut self) {
        let mask = self.words.iter().fold(0, |mask, word| mask | word);
        let validity = self.session.selected.as_ref().unwrap().validity;
        self.soon("words that were stored", |worker| {
            worker.session.must("NOOP");
            let answer = worker.session.must("UID FETCH 1:* (FLAGS)");
            let model = worker.world.model();
            let wrong = answer.fetched.iter().filter_map(|fetched| {
                let key = (validity, fetched.uid?);
                let (known, words) = (model.known(key, mask)?, fetched.words? & mask);
                let told = format!("{key:?} has {}, should have {}", names(words), names(known));
                (known != words).then_some(Loss { key, what: Lost::Words(known ^ words), told })
            });
            wrong.collect()
        });
    }

    /// SEARCH finds what has the word, and nothing else of what is known.
    pub fn search(&mut self) {
        let word = self.dice.pick(&self.words).unwrap();
        let name = names(word);
        let key = match name.strip_prefix('\\') {
            Some(flag) => flag.to_uppercase(),
            None => format!("KEYWORD {name}"),
        };
        self.soon(&name, |worker| {
            worker.session.must("NOOP");
            let answer = worker.session.must(&format!("UID SEARCH {key}"));
            let lines = answer.lines.iter().filter_map(|line| line.strip_prefix("* SEARCH"));
            let found: BTreeSet<u32> =
                lines.flat_map(str::split_whitespace).map(|uid| uid.parse().unwrap()).collect();
            let keys = worker.keys();
            let model = worker.world.model();
            let wrong = keys.iter().filter(|key| {
                let known = model.known(**key, word);
                known.is_some_and(|known| (known != 0) != found.contains(&key.1))
            });
            let what = Lost::Words(word);
            let lost = |key: &Key| Loss { key: *key, what, told: format!("{key:?}") };
            wrong.map(lost).collect()
        });
    }

    /// Looks again until nothing is wrong, for a while.
    fn soon(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Vec<Loss>) {
        let end = Instant::now() + SIGHT;
        loop {
            let wrong = look(self);
            if wrong.is_empty() {
                return;
            }
            if Instant::now() >= end {
                let wrong = self.world.charge(wrong);
                self.session.demand(wrong.is_empty(), &format!("{what}: {wrong:#?}"));
                return;
            }
            std::thread::yield_now();
        }
    }
}
