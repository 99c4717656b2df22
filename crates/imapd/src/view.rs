//! The selected mailbox as the client knows it: which sequence number is which UID.
//!
//! What others do to the mailbox changes the store's picture at any time, but a client's numbers
//! change only when it is told (RFC 3501 section 7.4.1, section 5.2).

use std::collections::BTreeSet;
use std::fmt::Write;

use mail_types::Uid;
use mailstore::{Changes, Mailbox, Message, StoreError};
use protocol::imap::{SequenceSet, write};

/// A selected mailbox.
#[derive(Debug)]
pub struct View {
    pub mailbox: Mailbox,
    pub read_only: bool,
    /// Ascending; the place is the sequence number less one.
    uids: Vec<Uid>,
    recent: usize,
    keywords: Vec<String>,
    /// Messages whose flags the client does not know yet.
    flags: Vec<Uid>,
    /// Messages that this session has saved here itself, so that nobody saw them before.
    own: BTreeSet<Uid>,
}

/// What may be told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// Not while a client's sequence numbers are in use: FETCH, STORE, SEARCH.
    pub expunges: bool,
    /// `delay-newmail` keeps new mail for NOOP and CHECK.
    pub new_mail: bool,
}

impl News {
    pub const ALL: Self = Self { expunges: true, new_mail: true };
}

/// Most keywords that anyone is told of.
const MOST_KEYWORDS: usize = 1000;

impl View {
    #[must_use]
    pub fn new(mailbox: Mailbox, read_only: bool) -> Self {
        let uids = mailbox.messages().iter().map(|message| message.uid).collect();
        let (keywords, flags, own) = (Vec::new(), Vec::new(), BTreeSet::new());
        let mut view = Self { mailbox, read_only, uids, recent: 0, keywords, flags, own };
        view.recent = view.count_recent();
        view.keywords = view.known_keywords();
        view
    }

    fn known_keywords(&self) -> Vec<String> {
        self.mailbox.keywords().take(MOST_KEYWORDS).map(str::to_owned).collect()
    }

    fn count_recent(&self) -> usize {
        self.mailbox.messages().iter().filter(|message| self.is_recent(message)).count()
    }

    #[must_use]
    pub fn exists(&self) -> usize {
        self.uids.len()
    }

    #[must_use]
    pub fn recent(&self) -> usize {
        self.recent
    }

    #[must_use]
    pub fn number_of(&self, uid: Uid) -> Option<u32> {
        let index = self.uids.binary_search(&uid).ok()?;
        u32::try_from(index + 1).ok()
    }

    /// Number and UID of every message that a set of numbers or UIDs names.
    ///
    /// `None` when a number is beyond the mailbox.
    #[must_use]
    pub fn select(&self, set: &SequenceSet, by_uid: bool) -> Option<Vec<(u32, Uid)>> {
        let count = u32::try_from(self.uids.len()).unwrap_or(u32::MAX);
        let numbered =
            |index: usize, uid: &Uid| (u32::try_from(index + 1).unwrap_or(u32::MAX), *uid);
        let mut found = Vec::new();
        if by_uid {
            let last = self.uids.last().map_or(0, |uid| uid.get());
            for (first, last) in set.resolve(last) {
                let start = self.uids.partition_point(|uid| uid.get() < first);
                let end = self.uids.partition_point(|uid| uid.get() <= last);
                let uids = self.uids.get(start..end).unwrap_or_default();
                found.extend(uids.iter().enumerate().map(|(at, uid)| numbered(start + at, uid)));
            }
            return Some(found);
        }
        if set.largest_number() > count || (count == 0 && set.names_last()) {
            return None;
        }
        for (first, last) in set.resolve(count) {
            let start = usize::try_from(first).ok()?.checked_sub(1)?;
            let end = usize::try_from(last).ok()?;
            let uids = self.uids.get(start..end)?;
            found.extend(uids.iter().enumerate().map(|(at, uid)| numbered(start + at, uid)));
        }
        Some(found)
    }

    /// Every message, with its number.
    pub fn all(&self) -> impl Iterator<Item = (u32, Uid)> {
        (1..).zip(self.uids.iter().copied())
    }

    /// The flags of a message in IMAP's form.
    pub fn write_flags(&self, out: &mut Vec<u8>, message: &Message) {
        let keywords = self.mailbox.keyword_names(message);
        write::flags(
            out,
            message.flags,
            self.is_recent(message),
            keywords.iter().map(String::as_str),
        );
    }

    /// This session is the first to see the message.
    #[must_use]
    pub fn is_recent(&self, message: &Message) -> bool {
        message.recent || self.own.contains(&message.uid)
    }

    /// Whether this is the mailbox `other`, opened a second time.
    #[must_use]
    pub fn is_same(&self, other: &Mailbox) -> bool {
        self.mailbox.name() == other.name()
            && self.mailbox.store().location() == other.store().location()
    }

    /// This session has saved these messages here.
    pub fn saved(&mut self, uids: &[Uid]) {
        if !self.read_only {
            self.own.extend(uids);
        }
    }

    /// Messages whose flags the client is told with the next news.
    pub fn flags_changed(&mut self, uids: impl IntoIterator<Item = Uid>) {
        self.flags.extend(uids);
    }

    /// The client has just been told of this message's flags.
    pub fn flags_told(&mut self, uid: Uid) {
        self.flags.retain(|&other| other != uid);
    }

    /// Looks at the disk and writes down what the client may know now.
    ///
    /// # Errors
    ///
    /// What keeps us from looking; the client learns what is known.
    pub fn news(&mut self, out: &mut Vec<u8>, news: News) -> Result<bool, StoreError> {
        let Changes { flags, uid_validity, .. } = self.mailbox.refresh()?;
        self.flags.extend(flags);
        self.tell(out, news);
        Ok(uid_validity)
    }

    /// Writes down what is known already.
    pub fn tell(&mut self, out: &mut Vec<u8>, news: News) {
        self.tell_keywords(out);
        if news.expunges {
            self.tell_expunges(out);
        }
        self.tell_flags(out);
        if news.new_mail {
            self.tell_new(out);
        }
    }

    /// `* FLAGS` and PERMANENTFLAGS, if there are keywords that the client has not seen.
    pub fn tell_keywords(&mut self, out: &mut Vec<u8>) {
        let keywords = self.known_keywords();
        if keywords != self.keywords {
            self.keywords = keywords;
            self.write_flag_lists(out);
        }
    }

    /// The flags that there are, and those that can be set for good.
    pub fn write_flag_lists(&self, out: &mut Vec<u8>) {
        let mut all = String::from("\\Answered \\Flagged \\Deleted \\Seen \\Draft");
        for keyword in &self.keywords {
            all.push(' ');
            all.push_str(keyword);
        }
        let mut text = format!("* FLAGS ({all})\r\n");
        // Writing to a String cannot fail.
        let _ = if self.read_only {
            write!(text, "* OK [PERMANENTFLAGS ()] Read-only mailbox.\r\n")
        } else {
            write!(text, "* OK [PERMANENTFLAGS ({all} \\*)] Flags permitted.\r\n")
        };
        out.extend_from_slice(text.as_bytes());
    }

    fn tell_expunges(&mut self, out: &mut Vec<u8>) {
        let mut gone = Vec::new();
        let mut left = self.mailbox.messages().iter().map(|message| message.uid).peekable();
        for (number, &uid) in (1_u32..).zip(&self.uids) {
            while left.next_if(|&other| other < uid).is_some() {}
            if left.next_if_eq(&uid).is_none() {
                gone.push((number, uid));
            }
        }
        // From the end, so that each number is what the client has at that moment.
        for (number, _) in gone.iter().rev() {
            out.extend_from_slice(format!("* {number} EXPUNGE\r\n").as_bytes());
        }
        if !gone.is_empty() {
            self.uids.retain(|uid| gone.binary_search_by_key(uid, |&(_, gone)| gone).is_err());
        }
    }

    fn tell_flags(&mut self, out: &mut Vec<u8>) {
        let mut changed = std::mem::take(&mut self.flags);
        changed.sort_unstable();
        changed.dedup();
        for uid in changed {
            let (Some(number), Some(message)) = (self.number_of(uid), self.mailbox.message(uid))
            else {
                continue;
            };
            out.extend_from_slice(format!("* {number} FETCH (FLAGS ").as_bytes());
            self.write_flags(out, message);
            out.extend_from_slice(b")\r\n");
        }
    }

    fn tell_new(&mut self, out: &mut Vec<u8>) {
        let last = self.uids.last().copied();
        let messages = self.mailbox.messages();
        let start =
            messages.partition_point(|message| last.is_some_and(|last| message.uid <= last));
        let new = messages.get(start..).unwrap_or_default();
        if !new.is_empty() {
            self.uids.extend(new.iter().map(|message| message.uid));
            out.extend_from_slice(format!("* {} EXISTS\r\n", self.uids.len()).as_bytes());
        }
        let recent = self.count_recent();
        if recent != self.recent || !new_is_empty(start, messages) {
            self.recent = recent;
            out.extend_from_slice(format!("* {recent} RECENT\r\n").as_bytes());
        }
    }
}

fn new_is_empty(start: usize, messages: &[Message]) -> bool {
    start >= messages.len()
}

#[cfg(test)]
mod tests {
    use mailstore::{Access, Attributes, Location, Options, Store};
    use protocol::imap::Cursor;

    use super::*;

    fn deliver(store: &Store, text: &str) {
        let mut incoming = store.begin("INBOX").unwrap();
        incoming.write(text.as_bytes()).unwrap();
        let mut target = store.open("INBOX", Access::Peek).unwrap();
        target.save(vec![(incoming.finish().unwrap(), Attributes::default())]).unwrap();
    }

    fn news(view: &mut View, news: News) -> String {
        let mut out = Vec::new();
        view.news(&mut out, news).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_change_only_when_told() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(Location::maildir(home.path()), Options::default());
        for text in ["Subject: 1\n\na\n", "Subject: 2\n\nb\n", "Subject: 3\n\nc\n"] {
            deliver(&store, text);
        }
        let mut view = View::new(store.open("INBOX", Access::Select).unwrap(), false);
        assert_eq!((view.exists(), view.recent()), (3, 3));
        let mut other = store.open("INBOX", Access::Peek).unwrap();
        let uid = |number| Uid::new(number).unwrap();
        other.remove(&[uid(1), uid(2)]).unwrap();
        deliver(&store, "Subject: 4\n\nd\n");
        let quiet = News { expunges: false, new_mail: true };
        assert_eq!(news(&mut view, quiet), "* 4 EXISTS\r\n* 2 RECENT\r\n");
        assert_eq!(view.number_of(uid(4)), Some(4));
        assert_eq!(news(&mut view, News::ALL), "* 2 EXPUNGE\r\n* 1 EXPUNGE\r\n");
        let set = SequenceSet::parse(&mut Cursor::new(b"1:*")).unwrap();
        assert_eq!(view.select(&set, false), Some(vec![(1, uid(3)), (2, uid(4))]));
        let set = SequenceSet::parse(&mut Cursor::new(b"3")).unwrap();
        assert_eq!(view.select(&set, false), None);
        assert_eq!(view.select(&set, true), Some(vec![(1, uid(3))]));
    }
}
