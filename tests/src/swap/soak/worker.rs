//! An IMAP session that does something at random, step by step, now at Dovecot and now at ours.

use super::World;
use super::content::Dice;
use super::imap::Session;
use super::model::{Key, words_of};
use super::servers::Side;

pub struct Worker<'world> {
    pub world: &'world World,
    pub number: usize,
    pub dice: Dice,
    /// What only this session stores.
    pub words: Vec<u32>,
    pub session: Session<'world>,
}

/// Mailboxes of all, which stay.
pub const SHARED: [&str; 3] = ["INBOX", "Shared", "Shared.Deep"];

impl<'world> Worker<'world> {
    pub fn new(world: &'world World, number: usize, dice: Dice) -> Self {
        let side = Side::BOTH[number % 2];
        let mut session = Session::open(world, side);
        assert!(session.select("SELECT", SHARED[number % SHARED.len()]));
        Self { world, number, dice, words: words_of(number), session }
    }

    pub fn work(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
    }

    fn step(&mut self) {
        // Mailboxes neither run empty nor grow for ever.
        let crowded = self.keys().len() > 50;
        match self.dice.below(100) {
            0..25 => self.store(),
            25..37 if !crowded => self.append(),
            25..37 => self.delete(),
            37..48 if !crowded => self.copy(),
            37..48 => self.delete(),
            48..53 => self.r#move(),
            53..59 => self.delete(),
            59..61 => self.undelete(),
            61..64 => self.expunge(),
            64..71 => self.read(),
            71..76 => self.verify(),
            76..79 => self.search(),
            79..82 => drop(self.session.must("NOOP")),
            82..88 => self.change_mailbox(),
            88..91 => self.reconnect(),
            91..98 => self.change_folders(),
            _ => self.look_around(),
        }
        self.world.model().count("steps");
    }

    /// The messages of the selected mailbox that this session knows.
    pub fn keys(&self) -> Vec<Key> {
        let keys =
            self.session.selected.as_ref().map(|selected| selected.keys()).unwrap_or_default();
        let model = self.world.model();
        keys.into_iter().filter(|key| model.id(*key).is_some()).collect()
    }

    /// The mailboxes that this session may use.
    pub fn mailboxes(&self) -> Vec<String> {
        let own = format!("W{}", self.number);
        let model = self.world.model();
        let names = model.folders.keys();
        names
            .filter(|name| SHARED.contains(&name.as_str()) || name.starts_with(&own))
            .cloned()
            .collect()
    }

    fn change_mailbox(&mut self) {
        let name = self.dice.pick(&self.mailboxes()).unwrap();
        if self.session.selected.is_some() && self.dice.one_in(4) {
            self.session.leave("UNSELECT");
        }
        let there = self.session.select("SELECT", &name);
        self.session.demand(there, &name);
    }

    fn reconnect(&mut self) {
        let side = *self.dice.pick(&Side::BOTH).as_ref().unwrap();
        let old = std::mem::replace(&mut self.session, Session::open(self.world, side));
        if self.dice.one_in(2) {
            old.close();
        }
        self.change_mailbox();
    }
}
