//! What a mail reader keeps of a mailbox from one session to the next, and that it stays so.

use std::collections::BTreeMap;

use harness::client::Client;

use super::rig::message_id;

/// How a mail reader reaches its mailbox.
#[derive(Clone, Copy, Debug)]
pub struct Reader {
    pub imap: u16,
    pub pop3: u16,
    pub user: &'static str,
    pub password: &'static str,
}

/// One folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    validity: String,
    /// By UID: its Message-ID, flags and keywords.
    messages: BTreeMap<u32, (String, Vec<String>)>,
}

/// The whole mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    folders: BTreeMap<&'static str, Folder>,
    subscribed: Vec<String>,
    /// UIDL and Message-ID.
    uidls: BTreeMap<String, String>,
}

const FOLDERS: [&str; 2] = ["INBOX", "Archive"];

impl Reader {
    fn log_in(&self) -> Client {
        let mut client = Client::tcp(self.imap);
        assert!(client.line().starts_with("* OK"), "{}", client.transcript);
        done(client.imap("a", &format!("LOGIN {} {}", self.user, self.password)));
        client
    }

    /// A folder, a subscription, flags and keywords, as a reader of some years has them.
    pub fn prepare(&self) {
        let mut client = self.log_in();
        for command in [
            "CREATE Archive",
            "SUBSCRIBE Archive",
            "SELECT INBOX",
            "STORE 2:3 +FLAGS ($Label1 Holiday)",
            "STORE 4 +FLAGS (\\Answered $Forwarded)",
            "COPY 3:6 Archive",
            "LOGOUT",
        ] {
            done(client.imap("b", command));
        }
    }

    /// What it sees now. Each folder is selected, which takes its `\Recent` away for the next one.
    #[track_caller]
    pub fn state(&self) -> State {
        let mut client = self.log_in();
        let folders = FOLDERS.map(|name| (name, folder(&mut client, name)));
        let mut subscribed: Vec<String> = done(client.imap("d", "LSUB \"\" *"))
            .iter()
            .filter(|line| line.starts_with("* LSUB"))
            .filter_map(|line| {
                line.rsplit(' ').next().map(|name| name.trim_matches('"').to_owned())
            })
            .collect();
        subscribed.sort();
        done(client.imap("e", "LOGOUT"));
        State { folders: folders.into(), subscribed, uidls: self.uidls() }
    }

    #[track_caller]
    fn uidls(&self) -> BTreeMap<String, String> {
        let mut client = Client::tcp(self.pop3);
        client.line();
        for line in [format!("USER {}", self.user), format!("PASS {}", self.password)] {
            client.send(&line);
            assert!(client.line().starts_with("+OK"), "{}", client.transcript);
        }
        let lines = |client: &mut Client, command: &str| {
            client.send(command);
            assert!(client.line().starts_with("+OK"), "{}", client.transcript);
            let mut lines = Vec::new();
            loop {
                match client.next_line() {
                    Some(line) if line != "." => lines.push(line),
                    _ => return lines,
                }
            }
        };
        let mut found = BTreeMap::new();
        for line in lines(&mut client, "UIDL") {
            let (number, uidl) = line.split_once(' ').unwrap();
            let header = lines(&mut client, &format!("TOP {number} 0")).join("\n");
            assert!(found.insert(uidl.to_owned(), message_id(&header)).is_none(), "{uidl} twice");
        }
        client.send("QUIT");
        client.line();
        found
    }
}

#[track_caller]
fn done(lines: Vec<String>) -> Vec<String> {
    assert!(
        lines.last().is_some_and(|line| line.get(1..).is_some_and(|rest| rest.starts_with(" OK"))),
        "{lines:#?}"
    );
    lines
}

#[track_caller]
fn folder(client: &mut Client, name: &str) -> Folder {
    let selected = done(client.imap("c", &format!("SELECT {name}")));
    let validity = selected.iter().find_map(|line| line.split_once("[UIDVALIDITY "));
    let validity = validity.unwrap().1.split(']').next().unwrap().to_owned();
    let mut messages = BTreeMap::new();
    let fetched =
        done(client.imap("f", "UID FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])"));
    let mut last = None;
    for line in fetched {
        if let Some((_, items)) =
            line.strip_prefix("* ").and_then(|line| line.split_once(" FETCH "))
        {
            let Some((_, uid)) = items.split_once("UID ") else { continue };
            let uid: u32 = uid.split([' ', ')']).next().unwrap().parse().unwrap();
            let flags = items.split_once("FLAGS (").unwrap().1.split(')').next().unwrap();
            let mut flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
            flags.sort();
            messages.insert(uid, (String::new(), flags));
            last = Some(uid);
        } else if let (Some(uid), id) = (last, message_id(&line))
            && !id.is_empty()
        {
            messages.get_mut(&uid).unwrap().0 = id;
        }
    }
    Folder { validity, messages }
}

/// Everything that was there is there as it was; what is new has a UID of its own above the others. Gives `now`.
///
/// `\Recent` is told once, to the session that sees a message first: what was there before must not have it.
#[track_caller]
pub fn kept(before: &State, now: State) -> State {
    assert_eq!(before.subscribed, now.subscribed);
    for (name, old) in &before.folders {
        let new = &now.folders[name];
        assert_eq!(old.validity, new.validity, "{name}");
        for (uid, (id, flags)) in &old.messages {
            let flags: Vec<String> =
                flags.iter().filter(|flag| *flag != "\\Recent").cloned().collect();
            assert_eq!(new.messages.get(uid), Some(&(id.clone(), flags)), "{name}: UID {uid}");
        }
        let highest = old.messages.keys().next_back();
        let added = new.messages.iter().filter(|(uid, _)| !old.messages.contains_key(uid));
        for (uid, (id, _)) in added {
            assert!(Some(uid) > highest, "{name}: {id} has UID {uid} below {highest:?}");
        }
    }
    for (uidl, id) in &before.uidls {
        assert_eq!(now.uidls.get(uidl), Some(id), "UIDL {uidl}");
    }
    now
}
