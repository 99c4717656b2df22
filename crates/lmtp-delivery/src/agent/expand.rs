//! Whom a local recipient stands for: aliases, `:include:` files and `.forward`, one step at a time.
//!
//! The steps are a list of [`Item`]s that grows and shrinks; what is delivered or sent on is done by
//! [`super::local`]. A name is followed once, so that two aliases that name each other end.

use std::collections::HashSet;

use protocol::postfix::Recipient;
use tables::alias::Target;

/// How an item came up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The queue manager named it.
    Request,
    /// A table of this user's; nothing: root's, or no file at all.
    Alias(Option<u32>),
    /// A file of this user's; nothing: root's.
    Include(Option<u32>),
    /// This user's `.forward`.
    Forward(String),
}

impl Origin {
    /// The word of `allow_mail_to_files` and `allow_mail_to_commands`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Request | Self::Alias(_) => "alias",
            Self::Include(_) => "include",
            Self::Forward(_) => "forward",
        }
    }
}

/// One thing still to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub target: Target,
    pub origin: Origin,
    /// The envelope sender: the message's, or the owner of the alias.
    pub sender: String,
    /// The alias has an owner: everything it names is sent on under that name.
    pub owned: bool,
    pub depth: usize,
}

/// Nesting beyond this is a loop (Postfix: 100).
pub const DEEPEST: usize = 100;
/// More targets than this of one recipient are a mistake or an attack.
pub const MOST: usize = 10_000;

/// The work that one recipient of a request has become.
#[derive(Debug)]
pub struct Expansion {
    items: Vec<Item>,
    seen: HashSet<String>,
    taken: usize,
    /// As the queue manager named it.
    pub recipient: Recipient,
}

impl Expansion {
    pub fn new(recipient: &Recipient, sender: &str) -> Self {
        let item = Item {
            target: Target::Address(recipient.address.clone()),
            origin: Origin::Request,
            sender: sender.to_owned(),
            owned: false,
            depth: 0,
        };
        Self { items: vec![item], seen: HashSet::new(), taken: 0, recipient: recipient.clone() }
    }

    /// The next thing to do, in the order in which the files name them.
    pub fn next(&mut self) -> Option<Item> {
        self.items.pop()
    }

    /// Adds what an alias, an include file or a `.forward` names. `false` if it is too much.
    pub fn push(&mut self, targets: Vec<Target>, like: &Item) -> bool {
        self.taken += targets.len();
        if self.taken > MOST || like.depth > DEEPEST {
            return false;
        }
        let items = targets.into_iter().map(|target| Item { target, ..like.clone() });
        // Taken from the end: the first goes in last.
        let items: Vec<Item> = items.collect();
        self.items.extend(items.into_iter().rev());
        true
    }

    /// Notes something; `false` if it has been noted before.
    pub fn first_time(&mut self, what: &str, name: &str) -> bool {
        self.seen.insert(format!("{what} {}", name.to_lowercase()))
    }

    /// Lets something be noted again.
    pub fn forget(&mut self, what: &str, name: &str) {
        self.seen.remove(&format!("{what} {}", name.to_lowercase()));
    }

    /// The recipient that a report is about: `address`, which the request's recipient has become.
    pub fn reported(&self, address: &str) -> Recipient {
        let original = &self.recipient;
        if address == original.address {
            return original.clone();
        }
        let name =
            if original.original.is_empty() { &original.address } else { &original.original };
        Recipient { original: name.clone(), address: address.to_owned(), ..original.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Target {
        Target::Address(text.to_owned())
    }

    #[test]
    fn targets_come_in_order_and_once() {
        let recipient = Recipient { address: "list@x".into(), ..Recipient::default() };
        let mut expansion = Expansion::new(&recipient, "s@y");
        let first = expansion.next().unwrap();
        let like = Item { origin: Origin::Alias(None), depth: 1, ..first };
        assert!(expansion.push(vec![address("a@x"), address("b@x")], &like));
        assert_eq!(expansion.next().unwrap().target, address("a@x"));
        assert!(expansion.push(vec![address("c@x")], &like));
        assert_eq!(expansion.next().unwrap().target, address("c@x"));
        assert_eq!(expansion.next().unwrap().target, address("b@x"));
        assert_eq!(expansion.next(), None);
        assert!(expansion.first_time("alias", "A") && !expansion.first_time("alias", "a"));
        assert_eq!(expansion.reported("a@x").original, "list@x");
    }

    #[test]
    fn loops_and_floods_end() {
        let mut expansion = Expansion::new(&Recipient::default(), "");
        let mut like = expansion.next().unwrap();
        assert!(!expansion.push(vec![address("a"); MOST + 1], &like));
        like.depth = DEEPEST + 1;
        assert!(!expansion.push(vec![address("a")], &like));
    }
}
