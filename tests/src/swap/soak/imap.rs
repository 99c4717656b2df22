//! An IMAP session that checks what it is told: numbers and UIDs, and that an id stays with its UID.

use std::collections::BTreeSet;

use harness::client::Client;

use super::World;
use super::content::id_in;
use super::model::{Key, words_in};
use super::servers::{Side, USER};

pub struct Session<'world> {
    world: &'world World,
    pub side: Side,
    client: Client,
    tag: usize,
    pub selected: Option<Selected>,
}

/// The selected mailbox as this client knows it.
pub struct Selected {
    pub name: String,
    pub validity: u32,
    /// By sequence number; unknown until fetched.
    uids: Vec<Option<u32>>,
}

impl Selected {
    /// The messages that this client knows.
    pub fn keys(&self) -> Vec<Key> {
        self.uids.iter().flatten().map(|&uid| (self.validity, uid)).collect()
    }

    pub fn is_known(&self) -> bool {
        self.uids.iter().all(Option::is_some)
    }
}

/// What came for one command.
#[derive(Default)]
pub struct Answer {
    /// The tagged response without its tag.
    pub status: String,
    pub lines: Vec<String>,
    pub fetched: Vec<Fetched>,
}

impl Answer {
    pub fn is_ok(&self) -> bool {
        self.status.starts_with("OK")
    }

    /// Where messages went, by the COPYUID of this answer.
    pub fn copies(&self) -> Vec<(u32, Key)> {
        let codes = self.lines.iter().chain([&self.status]);
        let Some(code) = codes.filter_map(|line| code(line, "COPYUID ")).next() else {
            return Vec::new();
        };
        let mut fields = code.split(' ');
        let mut next = || fields.next().unwrap();
        let validity: u32 = next().parse().unwrap();
        let (from, to) = (uids(next()), uids(next()));
        assert_eq!(from.len(), to.len(), "{code}");
        from.into_iter().zip(to.into_iter().map(|uid| (validity, uid))).collect()
    }
}

/// The rest of a response code such as `[COPYUID …]`.
pub fn code<'line>(line: &'line str, name: &str) -> Option<&'line str> {
    let (_, rest) = line.split_once(&format!("[{name}"))?;
    rest.split(']').next()
}

/// `3:5,9` as single UIDs, in the order in which they stand.
fn uids(set: &str) -> Vec<u32> {
    let ranges = set.split(',').map(|range| range.split_once(':').unwrap_or((range, range)));
    ranges.flat_map(|(first, last)| first.parse().unwrap()..=last.parse::<u32>().unwrap()).collect()
}

/// A FETCH response.
#[derive(Debug)]
pub struct Fetched {
    pub uid: Option<u32>,
    pub words: Option<u32>,
    /// All its literals.
    pub text: String,
}

impl<'world> Session<'world> {
    pub fn open(world: &'world World, side: Side) -> Self {
        let mut session =
            Self { world, side, client: world.servers.imap(side), tag: 0, selected: None };
        session.must(&format!("LOGIN {USER} secret"));
        world.model().count("logins");
        session
    }

    pub fn close(mut self) {
        self.selected = None;
        self.must("LOGOUT");
    }

    /// Sends a command and reads its answer; what is new in the selected mailbox is looked at as well.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> Answer {
        let answer = self.dialogue(command);
        self.learn();
        answer
    }

    /// As [`Session::ask`]; the answer has to be OK.
    #[track_caller]
    pub fn must(&mut self, command: &str) -> Answer {
        let answer = self.ask(command);
        self.demand(answer.is_ok(), command);
        answer
    }

    #[track_caller]
    pub fn demand(&self, right: bool, what: &str) {
        assert!(right, "{:?}: {what}:\n{}", self.side, self.client.transcript);
    }

    fn dialogue(&mut self, command: &str) -> Answer {
        self.forget_old_lines();
        self.tag += 1;
        let tag = format!("t{} ", self.tag);
        self.client.send(&format!("{tag}{command}"));
        // Numbers may not change under a command that uses them.
        let by_number = ["FETCH", "STORE", "SEARCH"].iter().any(|name| command.starts_with(name));
        let mut answer = Answer::default();
        loop {
            let line = self.client.next_line();
            self.demand(line.is_some(), "the connection has ended");
            let line = line.unwrap_or_default();
            if let Some(status) = line.strip_prefix(&tag) {
                answer.status = status.to_owned();
                return answer;
            }
            self.demand(
                !(by_number && line.ends_with(" EXPUNGE")),
                "EXPUNGE within a command by number",
            );
            self.untagged(line, &mut answer);
        }
    }

    /// The end of what was said is enough to show.
    fn forget_old_lines(&mut self) {
        let transcript = &mut self.client.transcript;
        if transcript.len() > 200_000
            && let Some(at) =
                transcript.as_bytes()[180_000..].iter().position(|&byte| byte == b'\n')
        {
            *transcript = transcript.split_off(180_000 + at);
        }
    }

    fn untagged(&mut self, line: String, answer: &mut Answer) {
        self.demand(line.starts_with("* ") && !line.starts_with("* BYE Int"), "no answer");
        let mut fields = line[2..].splitn(3, ' ');
        let number = fields.next().and_then(|field| field.parse::<usize>().ok());
        let (Some(number), Some(what)) = (number, fields.next()) else {
            answer.lines.push(line);
            return;
        };
        match what {
            "FETCH" => {
                let fetched = self.fetched(&line);
                self.number_is(number, fetched.uid);
                answer.fetched.push(fetched);
            }
            "EXISTS" => {
                let known = self.selected.as_mut().map(|selected| &mut selected.uids);
                let known = known.map_or(0, |uids| {
                    let before = uids.len();
                    uids.resize(number.max(before), None);
                    before
                });
                self.demand(number >= known, "EXISTS with less than there were");
            }
            "EXPUNGE" => {
                let uids = self.selected.as_mut().map(|selected| &mut selected.uids);
                let right = uids.is_some_and(|uids| {
                    let right = (1..=uids.len()).contains(&number);
                    right.then(|| uids.remove(number - 1));
                    right
                });
                self.demand(right, "EXPUNGE of what is not there");
            }
            _ => answer.lines.push(line),
        }
    }

    /// Reads the literals of a FETCH response and what lies between them.
    fn fetched(&mut self, line: &str) -> Fetched {
        let (mut line, mut outside, mut text) = (line.to_owned(), String::new(), String::new());
        while let Some(size) = literal(&line) {
            outside.push_str(&line);
            text.push_str(&String::from_utf8_lossy(&self.client.bytes(size)));
            line = self.client.line();
        }
        outside.push_str(&line);
        let after = |name: &str, end: &str| {
            let (_, rest) = outside.split_once(name)?;
            rest.split_once(end).map(|(value, _)| value.to_owned())
        };
        let uid = outside.split_once("UID ").map(|(_, rest)| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap()
        });
        let words = after("FLAGS (", ")").map(|names| {
            let words = words_in(&names);
            self.demand(words.is_some(), &format!("nobody has stored one of {names}"));
            words.unwrap_or_default()
        });
        Fetched { uid, words, text }
    }

    /// A number stays with its UID until an EXPUNGE, and UIDs ascend.
    fn number_is(&mut self, number: usize, uid: Option<u32>) {
        let uids = self.selected.as_mut().map(|selected| &mut selected.uids);
        let right = uids.is_some_and(|uids| {
            let Some(slot) = number.checked_sub(1).filter(|&slot| slot < uids.len()) else {
                return false;
            };
            let Some(uid) = uid else { return true };
            let before = uids[..slot].iter().flatten().last().is_none_or(|&before| before < uid);
            let after = uids[slot + 1..].iter().flatten().next().is_none_or(|&after| uid < after);
            uids[slot].replace(uid).is_none_or(|known| known == uid) && before && after
        });
        self.demand(right, "a number that is not this message's");
    }

    /// Asks for the messages that are not known yet.
    fn learn(&mut self) {
        for _ in 0..3 {
            let Some(selected) = &self.selected else { return };
            let Some(first) = selected.uids.iter().position(Option::is_none) else { return };
            let (first, validity) = (first + 1, selected.validity);
            let answer = self.dialogue(&format!(
                "FETCH {first}:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (X-SOAK)])"
            ));
            self.demand(answer.is_ok(), "new messages");
            for fetched in answer.fetched {
                // One that is gone has no text any more.
                if let (Some(uid), Some(id)) = (fetched.uid, id_in(&fetched.text)) {
                    self.world.model().saw((validity, uid), id);
                }
            }
        }
    }

    /// SELECT or EXAMINE; `false` where there is no such mailbox.
    #[track_caller]
    pub fn select(&mut self, command: &str, name: &str) -> bool {
        self.selected = Some(Selected { name: name.to_owned(), validity: 0, uids: Vec::new() });
        let answer = self.dialogue(&format!("{command} {name}"));
        if !answer.is_ok() {
            self.selected = None;
            return false;
        }
        let validity = answer.lines.iter().find_map(|line| code(line, "UIDVALIDITY "));
        let validity = validity.and_then(|text| text.parse().ok()).unwrap_or_default();
        if let Some(selected) = &mut self.selected {
            selected.validity = validity;
        }
        self.learn();
        let known = self.world.model().folders.get(name).copied();
        self.demand(known.is_none_or(|known| known == validity), "UIDVALIDITY has changed");
        true
    }

    /// CLOSE or UNSELECT.
    #[track_caller]
    pub fn leave(&mut self, command: &str) {
        self.selected = None;
        self.must(command);
    }

    /// Saves a message; its UID.
    #[track_caller]
    pub fn append(&mut self, name: &str, words: &str, text: &str) -> Key {
        let length = text.len();
        let answer = self.must(&format!("APPEND {name} ({words}) {{{length}+}}\r\n{text}"));
        let uid = code(&answer.status, "APPENDUID ").and_then(|code| code.split_once(' '));
        self.demand(uid.is_some(), "APPENDUID");
        let (validity, uid) = uid.unwrap();
        (validity.parse().unwrap(), uid.parse().unwrap())
    }

    /// The names that LIST or LSUB gives, without those that only have children.
    #[track_caller]
    pub fn list(&mut self, command: &str) -> BTreeSet<String> {
        let answer = self.must(&format!("{command} \"\" *"));
        let start = format!("* {command} (");
        let listed = answer.lines.iter().filter_map(|line| line.strip_prefix(&start));
        let real = listed.filter(|rest| !rest.to_lowercase().contains("\\noselect"));
        real.filter_map(|rest| Some(rest.rsplit_once(' ')?.1.to_owned())).collect()
    }

    /// Idles until something is told, or only for a moment once `ended` says so.
    pub fn idle(&mut self, ended: impl Fn() -> bool) {
        self.forget_old_lines();
        self.client.send("idle IDLE");
        let mut answer = Answer::default();
        let mut told = false;
        loop {
            let line = self.client.line();
            match line.as_str() {
                "+ idling" if ended() => break,
                "+ idling" => {}
                "* OK Still here" => continue,
                _ => {
                    self.untagged(line, &mut answer);
                    told = true;
                }
            }
            if told {
                break;
            }
        }
        self.client.send("DONE");
        loop {
            let line = self.client.line();
            if line.starts_with("idle OK ") {
                break;
            }
            if line != "+ idling" {
                self.untagged(line, &mut answer);
            }
        }
        self.learn();
    }
}

/// The size of a literal that a line announces at its end.
fn literal(line: &str) -> Option<usize> {
    let inner = line.strip_suffix('}')?;
    inner.get(inner.rfind('{')? + 1..)?.parse().ok()
}
