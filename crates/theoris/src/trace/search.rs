//! Which lines belong to a message: they name its queue id, its Message-ID, or another queue id that comes of it.

use std::collections::BTreeSet;

use super::line::{Line, is_queue_id};

/// More messages than this are not followed: an address may have thousands.
pub const MOST_MESSAGES: usize = 50;
/// More lines are not kept.
pub const MOST_LINES: usize = 5000;

/// What is looked for, growing as lines tell more.
#[derive(Clone, Debug, Default)]
pub struct Search {
    ids: BTreeSet<String>,
    message_ids: BTreeSet<String>,
    /// The address that was asked for, in lower case.
    address: Option<String>,
    /// Messages of the address, in the order in which they were met.
    met: Vec<String>,
    /// Messages that were left aside because there are too many.
    pub left_out: usize,
    grown: bool,
}

impl Search {
    /// A queue id, a Message-ID with or without `<>`, or an address.
    pub fn new(wanted: &str) -> Result<Self, String> {
        let mut search = Self::default();
        let bare = wanted.trim().trim_start_matches('<').trim_end_matches('>');
        if is_queue_id(bare) {
            search.ids.insert(bare.to_owned());
        } else if bare.contains('@') {
            search.message_ids.insert(bare.to_owned());
            if !wanted.trim().starts_with('<') {
                search.address = Some(bare.to_ascii_lowercase());
            }
        } else {
            return Err(format!("{wanted} is no queue id, Message-ID or address"));
        }
        Ok(search)
    }

    /// The queue ids that have been found.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.ids.iter().map(String::as_str)
    }

    /// Whether something new has been learned since this was asked last: then the log has to be read again.
    pub fn has_grown(&mut self) -> bool {
        // The newest messages of an address; those before are left out.
        let too_many = self.met.len().saturating_sub(MOST_MESSAGES);
        if too_many > 0 {
            for id in self.met.drain(..too_many) {
                self.ids.remove(&id);
            }
            self.left_out += too_many;
            // What they were called leads back to them.
            self.message_ids.clear();
        }
        if self.address.is_some() && !self.met.is_empty() {
            self.address = None;
        }
        std::mem::take(&mut self.grown)
    }

    /// Whether the line is about what is looked for. Learns from it.
    pub fn takes(&mut self, line: &Line) -> bool {
        let id = line.queue_id();
        let known = id.is_some_and(|id| self.ids.contains(id));
        let of_address =
            !known && self.address.as_ref().is_some_and(|address| names(&line.text, address));
        let message_id = message_id(&line.text);
        let of_message = message_id.is_some_and(|found| self.message_ids.contains(found));
        if !known && !of_address && !of_message {
            return false;
        }
        if let Some(id) = id
            && !known
        {
            self.learn_id(id, of_address);
        }
        if let Some(message_id) = message_id.filter(|_| id.is_some())
            && self.message_ids.len() < 4 * MOST_MESSAGES
            && self.message_ids.insert(message_id.to_owned())
        {
            self.grown = true;
        }
        if let Some(next) = next_id(&line.text) {
            self.learn_id(next, false);
        }
        true
    }

    fn learn_id(&mut self, id: &str, of_address: bool) {
        // Of an address the newest are kept at the end, so that far more may be met than will be shown.
        let most = if of_address { 100_000 } else { 4 * MOST_MESSAGES };
        if self.ids.contains(id) || self.ids.len() >= most {
            return;
        }
        self.ids.insert(id.to_owned());
        if of_address {
            self.met.push(id.to_owned());
        }
        self.grown = true;
    }
}

/// `message-id=<…>` of cleanup, `msgid=<…>` or `msgid=…` of Dovecot.
fn message_id(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("message-id=").or_else(|| text.split_once("msgid="))?;
    let rest = rest.trim_start_matches('<');
    let end = rest.find(['>', ',', ' ', ':']).unwrap_or(rest.len());
    Some(&rest[..end]).filter(|found| !found.is_empty())
}

/// Whether an address stands in one of the fields of a line.
fn names(text: &str, address: &str) -> bool {
    ["from=<", "to=<"].iter().any(|field| {
        text.split(field).skip(1).any(|rest| {
            rest.split_once('>').is_some_and(|(found, _)| found.eq_ignore_ascii_case(address))
        })
    })
}

/// The queue id that a message has from here on, or that of a notice about it.
fn next_id(text: &str) -> Option<&str> {
    let rest = ["queued as ", " notification: ", "forwarded as "]
        .iter()
        .find_map(|before| Some(text.split_once(before)?.1))?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    Some(&rest[..end]).filter(|id| is_queue_id(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { at: 0, host: "h".into(), source: "s".into(), text: text.into() }
    }

    /// A bounce: the message, its notice, and what Dovecot says of the notice.
    const LOG: [&str; 8] = [
        "AAAAAA1: client=x[192.0.2.1]",
        "AAAAAA1: message-id=<one@a>",
        "BBBBBB2: client=y[192.0.2.2]",
        "AAAAAA1: to=<none@b>, relay=none, status=bounced (x)",
        "CCCCCC3: message-id=<two@a>",
        "AAAAAA1: sender non-delivery notification: CCCCCC3",
        "lmtp(jo)<7><s>: msgid=<two@a>: saved mail to INBOX",
        "BBBBBB2: removed",
    ];

    fn found(wanted: &str) -> Vec<usize> {
        let mut search = Search::new(wanted).unwrap();
        loop {
            let taken = (0..LOG.len()).filter(|&index| search.takes(&line(LOG[index]))).collect();
            if !search.has_grown() {
                return taken;
            }
        }
    }

    #[test]
    fn a_message_is_followed_into_its_notice() {
        for wanted in ["AAAAAA1", "<one@a>", "one@a", "NONE@b"] {
            assert_eq!(found(wanted), [0, 1, 3, 4, 5, 6], "{wanted}");
        }
        assert_eq!(found("two@a"), [4, 6]);
        assert_eq!(found("BBBBBB2"), [2, 7]);
        assert!(Search::new("nonsense").is_err());
    }

    #[test]
    fn of_an_address_with_many_messages_the_newest_are_kept() {
        let mut search = Search::new("a@b").unwrap();
        for number in 0..MOST_MESSAGES + 5 {
            search.takes(&line(&format!("{:07X}: to=<a@b>, status=sent", 0xA00_0000 + number)));
        }
        assert!(search.has_grown() && search.left_out == 5);
        assert_eq!(search.ids().count(), MOST_MESSAGES);
        assert!(
            !search.takes(&line("A000000: removed")) && search.takes(&line("A000036: removed"))
        );
    }
}
