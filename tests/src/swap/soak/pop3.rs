//! A POP3 client that takes its own mail away, now at Dovecot and now at ours.

use std::time::SystemTime;

use harness::client::Client;

use super::World;
use super::content::{Dice, assert_is, id_in};
use super::model::{Change, DELETED, Key, SEEN, Taken};
use super::servers::{Side, USER};

pub struct Collector<'world> {
    world: &'world World,
    number: usize,
    dice: Dice,
}

/// A maildrop: number and message.
type Listed = Vec<(usize, Key)>;

impl<'world> Collector<'world> {
    pub fn new(world: &'world World, number: usize, dice: Dice) -> Self {
        Self { world, number, dice }
    }

    pub fn collect(&mut self, logins: usize) {
        for _ in 0..logins {
            let side = self.dice.pick(&Side::BOTH).unwrap();
            self.session(side);
        }
    }

    fn session(&mut self, side: Side) {
        let seen = Change { side, began: SystemTime::now(), on: true, words: SEEN };
        let (mut client, listed) = open(self.world, side);
        let read = self.dice.some(&listed, 3);
        for &(number, key) in &read {
            let Some(text) = lines(&mut client, &format!("RETR {number}")) else { continue };
            let id = id_in(&text).unwrap_or_default().to_owned();
            self.world.model().saw(key, &id);
            self.world.model().storing(key, SEEN, true);
            assert_is(&text, &id);
        }
        let mut own = listed;
        own.retain(|(_, key)| self.world.model().owns(*key, self.number));
        let taken = self.dice.some(&own, 4);
        for &(number, _) in &taken {
            answer(&mut client, &format!("DELE {number}"));
        }
        if self.dice.one_in(4) {
            return client.go(); // without a QUIT nothing is taken away, but what was read may become `\Seen`
        }
        taken.iter().for_each(|(_, key)| self.world.model().storing(*key, DELETED, true));
        let quit = Taken { by: "QUIT", side, began: SystemTime::now() };
        let said = answer(&mut client, "QUIT");
        assert!(said.starts_with("+OK"), "{side:?}: {said}\n{}", client.transcript);
        let mut model = self.world.model();
        for (_, key) in &read {
            model.stored(*key, SEEN, true);
            model.note(*key, seen.clone());
        }
        taken.iter().for_each(|(_, key)| model.gone(*key, quit));
        taken.iter().for_each(|_| model.count("taken by POP3"));
    }
}

/// Logs in, and lists the maildrop.
pub fn open(world: &World, side: Side) -> (Client, Listed) {
    let mut client = world.servers.pop3(side);
    for command in [format!("USER {USER}"), "PASS secret".to_owned()] {
        let said = answer(&mut client, &command);
        assert!(said.starts_with("+OK"), "{side:?}: {said}\n{}", client.transcript);
    }
    let uidls = lines(&mut client, "UIDL").unwrap();
    let inbox = world.model().folders["INBOX"];
    let listed = uidls.lines().map(|line| {
        let (number, uidl) = line.split_once(' ').unwrap();
        let (uid, validity) = uidl.split_at(8);
        let number_of = |text| u32::from_str_radix(text, 16).unwrap();
        assert_eq!(number_of(validity), inbox, "{side:?}: {line}");
        (number.parse().unwrap(), (inbox, number_of(uid)))
    });
    let listed = listed.collect();
    world.model().count("POP3 logins");
    (client, listed)
}

fn answer(client: &mut Client, command: &str) -> String {
    client.send(command);
    client.line()
}

/// The lines of an answer that has several; nothing when the message has been taken away by somebody else.
fn lines(client: &mut Client, command: &str) -> Option<String> {
    let said = answer(client, command);
    if said.starts_with("-ERR") && said.contains("expunged") {
        return None;
    }
    assert!(said.starts_with("+OK"), "{command}:\n{}", client.transcript);
    let mut text = String::new();
    loop {
        let line = client.line();
        if line == "." {
            return Some(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
        text.push_str("\r\n");
    }
}
