//! Complete commands: tag, name, arguments (RFC 3501 section 6).

use std::borrow::Cow;

use super::append::Append;
use super::cursor::{Cursor, Syntax};
use super::list::{self, List, StatusItem};
use super::sequence::SequenceSet;
use super::store::Store;
use super::{fetch, search};

/// A command line whose tag and name have been told from its arguments.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    pub tag: &'a str,
    pub name: Name,
    pub arguments: Cursor<'a>,
}

/// The name of a command, upper case; `UID FETCH` is one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub String);

/// Why a command is answered with BAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// `None` when not even the tag could be read.
    pub tag: Option<String>,
    pub name: Option<Name>,
    pub problem: Cow<'static, str>,
}

/// A command and its arguments. APPEND is not here: its message streams, see [`super::append`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Capability,
    Noop,
    Logout,
    Id(Vec<(String, Option<String>)>),
    Enable(Vec<String>),
    StartTls,
    Authenticate {
        mechanism: String,
        initial: Option<String>,
    },
    Login {
        user: Vec<u8>,
        password: Vec<u8>,
    },
    Select {
        mailbox: String,
        parameters: bool,
    },
    Examine {
        mailbox: String,
        parameters: bool,
    },
    /// With the special uses of `USE (...)`.
    Create {
        mailbox: String,
        uses: Vec<String>,
    },
    Delete(String),
    Rename {
        from: String,
        to: String,
    },
    Subscribe(String),
    Unsubscribe(String),
    List(List),
    Lsub(List),
    Status {
        mailbox: String,
        items: Vec<StatusItem>,
    },
    Namespace,
    GetQuota(Vec<u8>),
    GetQuotaRoot(String),
    SetQuota,
    Idle,
    Check,
    Close,
    Unselect,
    Expunge,
    UidExpunge(SequenceSet),
    Search {
        uid: bool,
        search: search::Search,
    },
    Fetch {
        uid: bool,
        set: SequenceSet,
        items: Vec<fetch::Item>,
    },
    Store {
        uid: bool,
        set: SequenceSet,
        store: Store,
    },
    Copy {
        uid: bool,
        set: SequenceSet,
        mailbox: String,
    },
    Move {
        uid: bool,
        set: SequenceSet,
        mailbox: String,
    },
}

const LONGEST_TAG: usize = 100;
const LONGEST_NAME: usize = 40;

impl<'a> Line<'a> {
    /// Tells tag and name from the arguments.
    ///
    /// # Errors
    ///
    /// A [`Mistake`] when there is no tag or no name.
    pub fn split(command: &'a [u8]) -> Result<Self, Mistake> {
        let mut cursor = Cursor::new(command);
        let tag = cursor.run(|byte| {
            byte > 0x20
                && byte < 0x7f
                && !matches!(byte, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b'+')
        });
        let text = str::from_utf8(tag).unwrap_or_default();
        let ends = matches!(cursor.peek(), None | Some(b' '));
        if text.is_empty() || text.len() > LONGEST_TAG || !ends {
            return Err(Mistake { tag: None, name: None, problem: "Invalid tag".into() });
        }
        let name = name(&mut cursor);
        let Some(name) = name else {
            let problem = "Invalid command name".into();
            return Err(Mistake { tag: Some(text.to_owned()), name: None, problem });
        };
        Ok(Self { tag: text, name, arguments: cursor })
    }

    /// The answer to a command whose arguments are wrong.
    #[must_use]
    pub fn mistake(&self, syntax: Syntax) -> Mistake {
        Mistake { tag: Some(self.tag.to_owned()), name: Some(self.name.clone()), problem: syntax.0 }
    }

    /// Reads the arguments.
    ///
    /// # Errors
    ///
    /// A [`Mistake`] for an unknown command and for wrong arguments.
    pub fn command(&self) -> Result<Command, Mistake> {
        Command::parse(&self.name, &mut self.arguments.clone())
            .map_err(|syntax| self.mistake(syntax))
    }
}

/// One blank, then the name; behind `UID` another.
fn name(cursor: &mut Cursor<'_>) -> Option<Name> {
    let word = |cursor: &mut Cursor<'_>| {
        if !cursor.eat(b' ') {
            return None;
        }
        let word = cursor.run(|byte| byte > 0x20 && byte < 0x7f && !b"(){\"".contains(&byte));
        let sound = !word.is_empty() && word.len() <= LONGEST_NAME;
        sound.then(|| String::from_utf8_lossy(word).to_ascii_uppercase())
    };
    let first = word(cursor)?;
    if first != "UID" {
        return Some(Name(first));
    }
    Some(Name(format!("UID {}", word(cursor)?)))
}

impl Name {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the command is about the selected mailbox.
    #[must_use]
    pub fn needs_mailbox(&self) -> bool {
        let plain = self.0.strip_prefix("UID ").unwrap_or(&self.0);
        matches!(
            plain,
            "CHECK"
                | "CLOSE"
                | "UNSELECT"
                | "EXPUNGE"
                | "SEARCH"
                | "FETCH"
                | "STORE"
                | "COPY"
                | "MOVE"
        )
    }

    /// The name as Dovecot writes it in `Select completed`.
    #[must_use]
    pub fn title(&self) -> String {
        let plain = self.0.strip_prefix("UID ").unwrap_or(&self.0);
        match plain {
            "NOOP" | "ID" => plain.to_owned(),
            _ => {
                let mut letters = plain.chars();
                let first = letters.next().map(String::from).unwrap_or_default();
                first + &letters.as_str().to_ascii_lowercase()
            }
        }
    }
}

impl Mistake {
    /// The complete answer, without its line end and timing.
    #[must_use]
    pub fn answer(&self) -> String {
        let tag = self.tag.as_deref().unwrap_or("*");
        let problem = &self.problem;
        match (&self.tag, &self.name) {
            (None, _) => format!("{tag} BAD Error in IMAP tag: {problem}"),
            (_, None) => format!("{tag} BAD Error in IMAP command: {problem}"),
            (_, Some(Name(name))) => format!("{tag} BAD Error in IMAP command {name}: {problem}"),
        }
    }
}

impl Command {
    /// Reads the arguments of the command `name`.
    ///
    /// # Errors
    ///
    /// A [`Syntax`] for the client.
    pub fn parse(name: &Name, cursor: &mut Cursor<'_>) -> Result<Self, Syntax> {
        let (uid, plain) = match name.0.strip_prefix("UID ") {
            Some(plain) => (true, plain),
            None => (false, name.as_str()),
        };
        let unknown = Syntax::new("Unknown command");
        match plain {
            "SEARCH" => {
                if !cursor.more() {
                    return Err(Syntax::new("Missing search parameters"));
                }
                Ok(Self::Search { uid, search: search::parse(cursor)? })
            }
            "FETCH" | "STORE" | "COPY" | "MOVE" => on_messages(uid, plain, cursor),
            "EXPUNGE" if uid => {
                cursor.blank().map_err(|_| Syntax::new("Missing arguments"))?;
                let set = sequence(cursor, uid)?;
                cursor.end()?;
                Ok(Self::UidExpunge(set))
            }
            _ if uid => Err(unknown),
            "CAPABILITY" => Ok(Self::Capability),
            "NOOP" => Ok(Self::Noop),
            "LOGOUT" => Ok(Self::Logout),
            "STARTTLS" => Ok(Self::StartTls),
            "NAMESPACE" => Ok(Self::Namespace),
            "IDLE" => Ok(Self::Idle),
            "CHECK" => Ok(Self::Check),
            "CLOSE" => Ok(Self::Close),
            "UNSELECT" => Ok(Self::Unselect),
            "EXPUNGE" => Ok(Self::Expunge),
            "SETQUOTA" => Ok(Self::SetQuota),
            "ID" => id(cursor),
            "ENABLE" => enable(cursor),
            "AUTHENTICATE" | "LOGIN" => login(plain, cursor),
            // With its message it is an event of its own.
            "APPEND" => Err(append_without_message(cursor)),
            _ => on_mailboxes(plain, cursor).unwrap_or(Err(unknown)),
        }
    }
}

fn append_without_message(cursor: &mut Cursor<'_>) -> Syntax {
    if !cursor.more() {
        return Syntax::new("Missing arguments");
    }
    // What stands in front of a literal's announcement that belongs to no message.
    let bytes = cursor.rest();
    let end = bytes.iter().rposition(|&byte| byte == b'{').unwrap_or(bytes.len());
    let before = bytes.get(..end).unwrap_or_default();
    match Append::parse(&mut Cursor::new(before)) {
        Ok(_) => Syntax::new("Missing message size"),
        Err(syntax) => syntax,
    }
}

fn login(name: &str, cursor: &mut Cursor<'_>) -> Result<Command, Syntax> {
    cursor.blank()?;
    let command = if name == "LOGIN" {
        let user = cursor.astring()?.into_owned();
        cursor.blank()?;
        Command::Login { user, password: cursor.astring()?.into_owned() }
    } else {
        let mechanism = cursor.keyword()?;
        let initial = if cursor.more() { Some(cursor.atom()?.to_owned()) } else { None };
        Command::Authenticate { mechanism, initial }
    };
    cursor.end()?;
    Ok(command)
}

fn on_messages(uid: bool, name: &str, cursor: &mut Cursor<'_>) -> Result<Command, Syntax> {
    if !cursor.more() {
        let copies = matches!(name, "COPY" | "MOVE");
        return Err(if copies { Syntax::new("Missing arguments") } else { Syntax::INVALID });
    }
    let set = sequence(cursor, uid)?;
    if cursor.blank().is_err() {
        let missing = name == "COPY" || name == "MOVE";
        return Err(if missing { Syntax::new("Missing arguments") } else { Syntax::INVALID });
    }
    let command = match name {
        "FETCH" => Command::Fetch { uid, set, items: fetch::parse(cursor)? },
        "STORE" => Command::Store { uid, set, store: Store::parse(cursor)? },
        other => {
            let mailbox = mailbox(cursor)?;
            if other == "COPY" {
                Command::Copy { uid, set, mailbox }
            } else {
                Command::Move { uid, set, mailbox }
            }
        }
    };
    cursor.end()?;
    Ok(command)
}

fn sequence(cursor: &mut Cursor<'_>, uid: bool) -> Result<SequenceSet, Syntax> {
    let problem = if uid { "Invalid uidset" } else { "Invalid messageset" };
    SequenceSet::parse(cursor).map_err(|_| Syntax::new(problem))
}

fn mailbox(cursor: &mut Cursor<'_>) -> Result<String, Syntax> {
    Ok(list::name(&cursor.astring()?))
}

/// `None` for a command that is not about mailboxes either.
fn on_mailboxes(name: &str, cursor: &mut Cursor<'_>) -> Option<Result<Command, Syntax>> {
    let read: fn(&mut Cursor<'_>) -> Result<Command, Syntax> = match name {
        "SELECT" => |cursor| {
            let (mailbox, parameters) = selected(cursor)?;
            Ok(Command::Select { mailbox, parameters })
        },
        "EXAMINE" => |cursor| {
            let (mailbox, parameters) = selected(cursor)?;
            Ok(Command::Examine { mailbox, parameters })
        },
        "CREATE" => create,
        "DELETE" => |cursor| Ok(Command::Delete(mailbox(cursor)?)),
        "RENAME" => |cursor| {
            let from = mailbox(cursor)?;
            cursor.blank().map_err(|_| Syntax::new("Missing arguments"))?;
            Ok(Command::Rename { from, to: mailbox(cursor)? })
        },
        "SUBSCRIBE" => |cursor| Ok(Command::Subscribe(mailbox(cursor)?)),
        "UNSUBSCRIBE" => |cursor| Ok(Command::Unsubscribe(mailbox(cursor)?)),
        "LIST" | "XLIST" => |cursor| Ok(Command::List(List::parse(cursor)?)),
        "LSUB" => |cursor| Ok(Command::Lsub(List::parse_lsub(cursor)?)),
        "STATUS" => |cursor| {
            let mailbox = mailbox(cursor)?;
            cursor.blank().map_err(|_| Syntax::new("Missing arguments"))?;
            if cursor.peek() != Some(b'(') {
                return Err(Syntax::INVALID);
            }
            Ok(Command::Status { mailbox, items: list::status_items(cursor)? })
        },
        "GETQUOTA" => |cursor| Ok(Command::GetQuota(cursor.astring()?.into_owned())),
        "GETQUOTAROOT" => |cursor| Ok(Command::GetQuotaRoot(mailbox(cursor)?)),
        _ => return None,
    };
    let nothing = match name {
        "SELECT" | "EXAMINE" => Syntax::INVALID,
        "LIST" | "XLIST" | "LSUB" => Syntax::new("Invalid reference"),
        _ => Syntax::new("Missing arguments"),
    };
    Some(cursor.blank().map_err(|_| nothing).and_then(|()| {
        let command = read(cursor)?;
        // Like Dovecot, what else follows counts for nothing, as long as it could be read.
        match cursor.end() {
            Err(syntax) if syntax != Syntax::INVALID => Err(syntax),
            _ => Ok(command),
        }
    }))
}

fn selected(cursor: &mut Cursor<'_>) -> Result<(String, bool), Syntax> {
    let mailbox = mailbox(cursor)?;
    let parameters = cursor.more() && cursor.peek() == Some(b'(');
    if parameters {
        return Err(Syntax::new("Unknown SELECT parameter"));
    }
    Ok((mailbox, parameters))
}

fn create(cursor: &mut Cursor<'_>) -> Result<Command, Syntax> {
    let mailbox = mailbox(cursor)?;
    let mut uses = Vec::new();
    if cursor.more() && cursor.eat(b'(') {
        while !cursor.eat(b')') {
            let name = cursor.keyword()?;
            cursor.skip_blanks();
            if cursor.peek() == Some(b'(') {
                let words = cursor.list(|cursor| Ok(cursor.atom()?.to_owned()))?;
                if name == "USE" {
                    uses = words;
                }
                cursor.skip_blanks();
            }
        }
    }
    Ok(Command::Create { mailbox, uses })
}

fn enable(cursor: &mut Cursor<'_>) -> Result<Command, Syntax> {
    let mut words = Vec::new();
    while cursor.more() {
        words.push(cursor.keyword()?);
    }
    cursor.end()?;
    Ok(Command::Enable(words))
}

/// RFC 2971 section 3.3 bounds what a client may tell of itself.
const MOST_ID_FIELDS: usize = 30;

fn id(cursor: &mut Cursor<'_>) -> Result<Command, Syntax> {
    let mut fields = Vec::new();
    // Like Dovecot, anything but a list is taken as NIL.
    if cursor.more() && cursor.peek() == Some(b'(') {
        let words = cursor.list(Cursor::nstring)?;
        let mut words = words.into_iter().map(|word| word.as_deref().map(list::name));
        while let Some(name) = words.next() {
            let value = words.next().flatten();
            if let Some(name) = name
                && fields.len() < MOST_ID_FIELDS
            {
                fields.push((name, value));
            }
        }
    }
    Ok(Command::Id(fields))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Command, String> {
        let line = Line::split(text.as_bytes()).map_err(|mistake| mistake.answer())?;
        line.command().map_err(|mistake| mistake.answer())
    }

    #[test]
    fn commands_are_read() {
        for (text, expected) in [
            ("a noop", Command::Noop),
            ("a NOOP extra", Command::Noop),
            (
                "a LOGIN u \"p w\"",
                Command::Login { user: b"u".to_vec(), password: b"p w".to_vec() },
            ),
            (
                "a AUTHENTICATE plain =",
                Command::Authenticate { mechanism: "PLAIN".into(), initial: Some("=".into()) },
            ),
            ("a RENAME  a  b ", Command::Rename { from: "a".into(), to: "b".into() }),
            (
                "a CREATE x (USE (\\Sent))",
                Command::Create { mailbox: "x".into(), uses: vec!["\\Sent".into()] },
            ),
            ("a ID (\"name\" \"x\" \"y\" NIL)", {
                Command::Id(vec![("name".into(), Some("x".into())), ("y".into(), None)])
            }),
            ("a ENABLE b c", Command::Enable(vec!["B".into(), "C".into()])),
            ("a GETQUOTA \"User quota\"", Command::GetQuota(b"User quota".to_vec())),
        ] {
            assert_eq!(read(text), Ok(expected), "{text}");
        }
        assert!(matches!(read("a UID COPY 1:* x"), Ok(Command::Copy { uid: true, .. })));
        assert!(matches!(read("a status x (messages)"), Ok(Command::Status { .. })));
    }

    /// Captured from Dovecot 2.3.19.
    #[test]
    fn mistakes_are_told_as_dovecot_tells_them() {
        for (text, answer) in [
            ("", "* BAD Error in IMAP tag: Invalid tag"),
            ("n\u{0}17 NOOP", "* BAD Error in IMAP tag: Invalid tag"),
            ("n+ NOOP", "* BAD Error in IMAP tag: Invalid tag"),
            ("x", "x BAD Error in IMAP command: Invalid command name"),
            ("g  NOOP", "g BAD Error in IMAP command: Invalid command name"),
            ("n UID", "n BAD Error in IMAP command: Invalid command name"),
            ("k FOO", "k BAD Error in IMAP command FOO: Unknown command"),
            ("n UID FOO", "n BAD Error in IMAP command UID FOO: Unknown command"),
            ("h FETCH 1", "h BAD Error in IMAP command FETCH: Invalid arguments"),
            ("h FETCH 0 FLAGS", "h BAD Error in IMAP command FETCH: Invalid messageset"),
            ("n UID COPY 1", "n BAD Error in IMAP command UID COPY: Missing arguments"),
            ("i SEARCH", "i BAD Error in IMAP command SEARCH: Missing search parameters"),
            ("l SELECT", "l BAD Error in IMAP command SELECT: Invalid arguments"),
            ("n SELECT \"abc", "n BAD Error in IMAP command SELECT: Missing '\"'"),
            ("n SELECT a(b", "n BAD Error in IMAP command SELECT: Invalid characters in atom"),
            ("n SELECT nosuch)", "n BAD Error in IMAP command SELECT: Unexpected ')'"),
            ("n SELECT {3~}", "n BAD Error in IMAP command SELECT: Invalid literal size"),
            ("r STATUS INBOX x", "r BAD Error in IMAP command STATUS: Invalid arguments"),
            ("r STATUS INBOX ()", "r BAD Error in IMAP command STATUS: Empty status list"),
        ] {
            assert_eq!(read(text), Err(answer.into()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_nothing_worse(bytes: Vec<u8>) {
            if let Ok(line) = Line::split(&bytes) {
                let _ = line.command();
            }
        }

        #[test]
        fn near_commands_neither(
            text in "a (UID )?(FETCH|STORE|SEARCH|LIST|STATUS|ID|CREATE|COPY) ([ ()a-z0-9\"\\[\\]<>.*:,]|BODY|FLAGS|RETURN){0,40}",
        ) {
            if let Ok(line) = Line::split(text.as_bytes()) {
                let _ = line.command();
            }
        }
    }
}
