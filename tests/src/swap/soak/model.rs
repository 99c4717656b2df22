//! What the mailboxes have to hold, from what the servers have confirmed.
//!
//! Each word of a message, a flag or a keyword, is stored by one session only, so its value is known as soon as its
//! change is confirmed. What a copy took along depends on the moment: it is one of the values that the word had in this
//! round.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::losses::{Loss, Lost};
use super::servers::Side;

/// What a session was shown of a mailbox: id and words by UID.
pub type Look = BTreeMap<u32, (String, u32)>;

/// Flags and keywords; a set of them is the bits at their places. The keywords are as many as a Maildir has letters for.
pub const WORDS: [&str; 31] = [
    "\\Answered",
    "\\Flagged",
    "\\Draft",
    "\\Deleted",
    "\\Seen",
    "$Forwarded",
    "$Junk",
    "work",
    "k3",
    "k4",
    "k5",
    "k6",
    "k7",
    "k8",
    "k9",
    "k10",
    "k11",
    "k12",
    "k13",
    "k14",
    "k15",
    "k16",
    "k17",
    "k18",
    "k19",
    "k20",
    "k21",
    "k22",
    "k23",
    "k24",
    "k25",
];
/// Stored by the message's owner, who is the only one to take it away.
pub const DELETED: u32 = 1 << 3;
/// Set by whoever reads the message, and never taken back.
pub const SEEN: u32 = 1 << 4;
const ALL: u32 = (1 << WORDS.len()) - 1;

/// UIDVALIDITY and UID.
pub type Key = (u32, u32);

/// The words that only this session stores.
pub fn words_of(worker: usize) -> Vec<u32> {
    let bits = (0..WORDS.len()).map(|place| (place, 1 << place));
    let own = bits
        .filter(|&(place, bit)| bit & (DELETED | SEEN) == 0 && place % super::WORKERS == worker);
    own.map(|(_, bit)| bit).collect()
}

pub fn names(words: u32) -> String {
    let set = WORDS.iter().enumerate().filter(|(place, _)| words & (1 << place) != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}

/// The set of these names; nothing when there is one that nobody has stored.
pub fn words_in(names: &str) -> Option<u32> {
    let mut known = names.split_whitespace().filter(|name| *name != "\\Recent");
    known.try_fold(0, |words, name| {
        let place = WORDS.iter().position(|known| *known == name)?;
        Some(words | 1 << place)
    })
}

#[derive(Clone, Debug)]
struct Message {
    id: String,
    /// Who may take it away; nobody while the command that made it is not answered yet.
    owner: Option<usize>,
    now: u32,
    /// Words whose value only a look can tell.
    open: u32,
    /// Words that may have been set, and that may have been clear, at some time in this round.
    set: u32,
    clear: u32,
    /// Taken away, and who has confirmed it.
    gone: Option<Taken>,
    /// Its last changes.
    history: Vec<Change>,
}

/// Words that were stored, and who confirmed it.
#[derive(Clone)]
pub struct Change {
    pub side: Side,
    pub began: SystemTime,
    pub on: bool,
    pub words: u32,
}

/// By which command a message was taken away, who confirmed it, and when that had begun.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub by: &'static str,
    pub side: Side,
    pub began: SystemTime,
}

impl fmt::Display for Taken {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.began.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        write!(to, "by {} at {since:.3}, as {:?} confirmed", self.by, self.side)
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.began.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let sign = if self.on { '+' } else { '-' };
        write!(to, "{:?} {since:.3} {sign}{}", self.side, names(self.words))
    }
}

impl Message {
    fn new(id: &str, owner: Option<usize>, now: u32) -> Self {
        let (open, set, clear) = match owner {
            Some(_) => (0, now, ALL & !now),
            None => (ALL, 0, 0),
        };
        Self { id: id.to_owned(), owner, now, open, set, clear, gone: None, history: Vec::new() }
    }

    fn begin_round(&mut self) {
        (self.set, self.clear) = (self.now, ALL & !self.now);
    }

    /// The words whose value is not one that they can have.
    fn wrong(&self, seen: u32) -> u32 {
        let known = (seen ^ self.now) & !self.open;
        let possible = (seen & self.set) | (!seen & self.clear);
        known | (self.open & !possible)
    }

    fn may_be_gone(&self) -> bool {
        self.gone.is_some() || self.set & DELETED != 0
    }
}

#[derive(Default)]
pub struct Model {
    /// UIDVALIDITY by name.
    pub folders: BTreeMap<String, u32>,
    pub subscribed: BTreeSet<String>,
    messages: BTreeMap<Key, Message>,
    /// Deliveries that nobody has seen with a UID, and their owners.
    posted: BTreeMap<String, usize>,
    /// The ids of messages that were taken away: no UID comes again.
    past: HashMap<Key, String>,
    /// Of all mailboxes that there were.
    validities: BTreeSet<u32>,
    next: usize,
    counts: BTreeMap<&'static str, usize>,
    /// What Dovecot has lost itself, by the time of the STORE, with the evidence for each message.
    pub losses: BTreeMap<Duration, Vec<String>>,
}

impl Model {
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn counts(&self) -> String {
        let counts = self.counts.iter().map(|(what, count)| format!("{count} {what}"));
        format!("{} messages; {}", self.messages.len(), counts.collect::<Vec<_>>().join(", "))
    }

    pub fn begin_round(&mut self) {
        self.messages.values_mut().for_each(Message::begin_round);
    }

    pub fn new_id(&mut self) -> String {
        self.next += 1;
        format!("m{}", self.next)
    }

    /// A message that is about to be delivered.
    pub fn post(&mut self) -> String {
        let id = self.new_id();
        self.posted.insert(id.clone(), self.next % (super::WORKERS + super::COLLECTORS));
        self.count("deliveries");
        id
    }

    /// Some session was shown this message.
    #[track_caller]
    pub fn saw(&mut self, key: Key, id: &str) {
        assert!(!self.past.contains_key(&key), "{id}, {key:?}, has come back");
        if let Some(known) = self.messages.get(&key) {
            assert_eq!(known.id, id, "{key:?} means another message");
            return;
        }
        let delivered = self.folders.get("INBOX") == Some(&key.0);
        let owner = if delivered { self.posted.remove(id) } else { None };
        self.messages.insert(key, Message::new(id, owner, 0));
    }

    /// An APPEND was confirmed.
    #[track_caller]
    pub fn saved(&mut self, key: Key, id: &str, owner: usize, words: u32) {
        self.claim(key, Message::new(id, Some(owner), words));
    }

    /// A COPY was confirmed.
    #[track_caller]
    pub fn copied(&mut self, from: Key, to: Key, owner: usize) {
        let mut copy = self.messages[&from].clone();
        if copy.owner.is_none() {
            (copy.set, copy.clear) = (ALL, ALL);
        }
        copy.open |= copy.set & copy.clear;
        (copy.owner, copy.gone) = (Some(owner), None);
        self.claim(to, copy);
    }

    /// Others may have seen it and stored their words before its maker was told that it is there.
    fn claim(&mut self, key: Key, mut message: Message) {
        assert!(!self.past.contains_key(&key), "{key:?} was given a second time");
        if let Some(known) = self.messages.get(&key) {
            assert_eq!(known.id, message.id, "{key:?} means another message");
            assert_eq!(known.owner, None, "{key:?} was given to two messages");
            let stored = ALL & !known.open;
            message.now = (message.now & !stored) | (known.now & stored);
            message.open = (message.open & !stored) | (known.set & SEEN & !stored & !message.now);
            message.set |= known.set;
            message.clear |= known.clear;
            message.history.extend(known.history.iter().cloned());
        }
        self.messages.insert(key, message);
    }

    /// Words are about to be stored.
    pub fn storing(&mut self, key: Key, words: u32, on: bool) {
        let Some(message) = self.messages.get_mut(&key) else { return };
        if on {
            message.set |= words
        } else {
            message.clear |= words
        }
        if words == SEEN {
            message.open |= SEEN & !message.now;
        }
    }

    /// They are stored.
    pub fn stored(&mut self, key: Key, words: u32, on: bool) {
        let Some(message) = self.messages.get_mut(&key) else { return };
        message.now = if on { message.now | words } else { message.now & !words };
        message.open &= !words;
    }

    pub fn note(&mut self, key: Key, change: Change) {
        let Some(message) = self.messages.get_mut(&key) else { return };
        if message.history.len() >= 16 {
            message.history.remove(0);
        }
        message.history.push(change);
    }

    /// The last confirmations of a word's present value, the latest first.
    pub fn last_changes(&self, key: Key, word: u32) -> Vec<Change> {
        let history = self.messages.get(&key).map(|message| message.history.as_slice());
        let history = history.unwrap_or_default().iter().rev();
        let mut changes = history.filter(|change| change.words & word != 0).peekable();
        let on = changes.peek().map(|change| change.on);
        changes.take_while(|change| Some(change.on) == on).cloned().collect()
    }

    /// It is not what was confirmed, and that is Dovecot's own doing.
    pub fn concede(&mut self, key: Key, what: Lost, since: Duration, evidence: String) {
        let Some(message) = self.messages.get_mut(&key) else { return };
        if let Lost::Words(words) = what {
            message.now ^= words;
        }
        self.losses.entry(since).or_default().push(evidence);
    }

    /// Dovecot has given a message that was there a new UID.
    pub fn renumbered(&mut self, to: Key, seen: &Look, evidence: String) {
        let (Some((id, _)), Some(now)) = (seen.get(&to.1), self.messages.get(&to)) else { return };
        let mut below = self.messages.range((to.0, 0)..=(to.0, u32::MAX));
        let lost = below.find(|(key, message)| {
            message.id == *id && message.owner.is_some() && !seen.contains_key(&key.1)
        });
        if let (None, Some((&from, message))) = (now.owner, lost) {
            let message = message.clone();
            self.forget(from);
            self.messages.insert(to, message);
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            self.losses.entry(since).or_default().push(evidence);
        }
    }

    /// The mailbox of this UIDVALIDITY.
    pub fn name_of(&self, validity: u32) -> Option<String> {
        let mut folders = self.folders.iter();
        folders.find(|(_, known)| **known == validity).map(|(name, _)| name.clone())
    }

    /// The message's taking away was confirmed.
    pub fn gone(&mut self, key: Key, taken: Taken) {
        if let Some(message) = self.messages.get_mut(&key) {
            message.gone = Some(taken);
        }
    }

    pub fn id(&self, key: Key) -> Option<&str> {
        self.messages.get(&key).map(|message| message.id.as_str())
    }

    pub fn owns(&self, key: Key, owner: usize) -> bool {
        self.messages
            .get(&key)
            .is_some_and(|message| message.owner == Some(owner) && message.gone.is_none())
    }

    /// What `mask` of this message's words has to be, where that is known.
    pub fn known(&self, key: Key, mask: u32) -> Option<u32> {
        let message = self.messages.get(&key).filter(|message| message.gone.is_none())?;
        (message.open & mask == 0).then_some(message.now & mask)
    }

    /// No mailbox has had this UIDVALIDITY.
    pub fn is_new(&mut self, validity: u32) -> bool {
        self.validities.insert(validity)
    }

    /// The messages of a mailbox, ascending by UID.
    pub fn keys_of(&self, name: &str) -> Vec<Key> {
        let validity = self.folders[name];
        self.messages.range((validity, 0)..=(validity, u32::MAX)).map(|(key, _)| *key).collect()
    }

    pub fn folder_deleted(&mut self, validity: u32) {
        let below: Vec<Key> = self
            .messages
            .range((validity, 0)..=(validity, u32::MAX))
            .map(|(key, _)| *key)
            .collect();
        below.into_iter().for_each(|key| self.forget(key));
    }

    fn forget(&mut self, key: Key) {
        if let Some(message) = self.messages.remove(&key) {
            self.past.insert(key, message.id);
        }
    }

    /// What is wrong with this look at a mailbox, while nobody works: id and words by UID. Words that are not what they should
    /// be come apart.
    pub fn wrong(&mut self, validity: u32, seen: &Look) -> (Vec<String>, Vec<Loss>) {
        let (mut wrong, mut losses) = (Vec::new(), Vec::new());
        for (&uid, (id, words)) in seen {
            self.saw((validity, uid), id);
            let message = &self.messages[&(validity, uid)];
            if message.owner.is_none() {
                wrong.push(format!("UID {uid}, {id}: nobody has put it there"));
            } else if let Some(taken) = message.gone {
                let told = format!("UID {uid}, {id}: it was taken away {taken}");
                losses.push(Loss { key: (validity, uid), what: Lost::Removal(taken), told });
            } else if message.wrong(*words) != 0 {
                let (now, open) = (names(message.now), names(message.open));
                let told = format!(
                    "UID {uid}, {id}: has {}, should have {now} (open: {open}; {:?})",
                    names(*words),
                    message.history
                );
                let what = Lost::Words(message.wrong(*words));
                losses.push(Loss { key: (validity, uid), what, told });
            }
        }
        for (&(_, uid), message) in self.messages.range((validity, 0)..=(validity, u32::MAX)) {
            if !seen.contains_key(&uid) && !message.may_be_gone() {
                wrong.push(format!("UID {uid}, {}: it is lost", message.id));
            }
        }
        if self.folders.get("INBOX") == Some(&validity) {
            wrong.extend(self.posted.keys().map(|id| format!("{id}: delivered, and not there")));
        }
        (wrong, losses)
    }

    /// What was open is what this look has shown.
    pub fn settle(&mut self, validity: u32, seen: &Look) {
        let below: Vec<Key> = self
            .messages
            .range((validity, 0)..=(validity, u32::MAX))
            .map(|(key, _)| *key)
            .collect();
        for key in below {
            match (seen.get(&key.1), self.messages.get_mut(&key)) {
                (Some((_, words)), Some(message)) => {
                    (message.now, message.open) = (*words, 0);
                    message.begin_round();
                }
                _ => self.forget(key),
            }
        }
    }
}
