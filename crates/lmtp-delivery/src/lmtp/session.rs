//! The LMTP conversation with one client, without its socket (RFC 2033), in Dovecot's words.
//!
//! Command lines go in, [`Action`]s come out. User look-ups, content and deliveries are done by
//! [`super::connection`].

use protocol::smtp::{Command, Dialect, Mistake, Request, Verb};

use crate::lmtp::user::Mailbox;

/// What the connection does before it reads on.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Reply(String),
    /// Look the recipient up, then call [`Session::recipient`].
    LookUp(Address),
    /// Answer 354 and read up to the lone dot.
    Data,
    /// Read a chunk of this many octets.
    Chunk {
        size: u64,
        last: bool,
        /// Its content is thrown away, and this is the answer.
        refused: Option<String>,
    },
    StartTls,
    Close(String),
}

/// A forward-path as the client gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub full: String,
    /// Without its detail.
    pub user: String,
    pub detail: Option<String>,
    /// `ORCPT`; none is announced, so none comes.
    pub original: Option<String>,
}

/// An accepted recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    pub address: Address,
    pub mailbox: Mailbox,
    /// The n-th RCPT command of its transaction.
    pub number: u32,
}

#[derive(Debug, Default)]
pub struct Transaction {
    pub sender: Option<String>,
    pub recipients: Vec<Recipient>,
    commands: u32,
    /// A BDAT chunk has come: only more of them may follow.
    chunked: bool,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    hostname: String,
    delimiter: String,
    tls: Tls,
    pub client: String,
    pub transaction: Transaction,
    /// Counts MAIL commands.
    pub transactions: u32,
    bad_commands: u32,
}

/// STARTTLS is not there, can be asked for, or is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    Absent,
    Offered,
    Active,
}

const DIALECT: Dialect = Dialect { lmtp: true, strict: false, smtputf8: false, dsn: false };
const MOST_BAD_COMMANDS: u32 = 10;
/// Dovecot has no limit of its own; Postfix sends at most 50 at a time.
const MOST_RECIPIENTS: usize = 1000;
const MAIL_FIRST: &str = "503 5.5.0 MAIL needed first";
const NO_RECIPIENTS: &str = "503 5.5.0 No valid recipients";

impl Session {
    pub fn new(hostname: &str, delimiter: &str, tls: Tls) -> Self {
        Self {
            hostname: hostname.to_owned(),
            delimiter: delimiter.to_owned(),
            tls,
            client: String::new(),
            transaction: Transaction::default(),
            transactions: 0,
            bad_commands: 0,
        }
    }

    /// The word that Dovecot's log has for the state.
    pub fn state(&self) -> &'static str {
        match &self.transaction {
            Transaction { sender: None, .. } if self.client.is_empty() => "GREETING",
            Transaction { sender: None, .. } => "READY",
            Transaction { recipients, .. } if recipients.is_empty() => "MAIL FROM",
            _ => "RCPT TO",
        }
    }

    /// Takes one command line, without its CRLF.
    pub fn command(&mut self, line: &str) -> Action {
        let Some(request) = Request::parse(line, DIALECT) else { return self.unknown() };
        if self.transaction.chunked
            && !matches!(request.verb, Verb::Bdat | Verb::Rset | Verb::Quit | Verb::Noop)
        {
            return reply("503 5.5.1 Only BDAT is allowed here");
        }
        match request.command {
            Ok(Command::Lhlo(client)) => self.lhlo(client),
            Ok(Command::Mail(mail)) if mail.size.is_some() || mail.auth.is_some() => {
                reply("555 5.5.4 Unsupported parameters")
            }
            Ok(Command::Mail(mail)) => match path(&mail.argument, "FROM") {
                Ok(_) => self.mail(mail.address),
                Err(refusal) => reply(refusal),
            },
            Ok(Command::Rcpt(recipient)) => match path(&recipient.argument, "TO") {
                Ok(_) => self.rcpt(recipient.address),
                Err(refusal) => reply(refusal),
            },
            Ok(Command::Data) => self.data(),
            Ok(Command::Bdat { size, last }) => self.bdat(size, last),
            Ok(Command::Rset) => {
                self.transaction = Transaction::default();
                reply("250 2.0.0 OK")
            }
            Ok(Command::Noop) => reply("250 2.0.0 OK"),
            Ok(Command::Vrfy { .. }) => reply("252 2.3.3 Try RCPT instead"),
            Ok(Command::StartTls) => match self.tls {
                Tls::Offered => Action::StartTls,
                Tls::Active => reply("443 5.5.1 TLS is already active."),
                Tls::Absent => reply("502 5.5.1 TLS support is not enabled."),
            },
            Ok(Command::Quit) => Action::Close("221 2.0.0 Bye\r\n".to_owned()),
            Ok(_) => self.unknown(),
            Err(mistake) => self.mistake(request.verb, &mistake, line),
        }
    }

    /// TLS is on: what the client said before counts no more.
    pub fn secured(&mut self) {
        self.tls = Tls::Active;
        self.client.clear();
        self.transaction = Transaction::default();
    }

    fn unknown(&mut self) -> Action {
        self.bad_commands += 1;
        if self.bad_commands >= MOST_BAD_COMMANDS {
            return Action::Close(format!(
                "421 4.7.0 {} Too many invalid commands.\r\n",
                self.hostname
            ));
        }
        reply("500 5.5.1 Unknown command")
    }

    fn mistake(&mut self, verb: Verb, mistake: &Mistake, line: &str) -> Action {
        let argument = line.split_once(':').map_or("", |(_, argument)| argument.trim_start());
        match (verb, mistake) {
            (Verb::Unknown, _) => self.unknown(),
            (
                _,
                Mistake::Unsupported(_)
                | Mistake::DsnDisabled
                | Mistake::SizeSyntax
                | Mistake::SizeOverflow,
            ) => reply("555 5.5.4 Unsupported parameters"),
            (Verb::Mail, _) => reply(
                path(argument, "FROM")
                    .err()
                    .unwrap_or("501 5.5.4 Invalid FROM: Invalid path".into()),
            ),
            (Verb::Rcpt, _) => reply(
                path(argument, "TO").err().unwrap_or("501 5.5.4 Invalid TO: Invalid path".into()),
            ),
            _ => reply("501 5.5.4 Invalid parameters"),
        }
    }

    fn lhlo(&mut self, client: String) -> Action {
        self.client = client;
        self.transaction = Transaction::default();
        let mut lines = vec![
            self.hostname.as_str(),
            "8BITMIME",
            "CHUNKING",
            "ENHANCEDSTATUSCODES",
            "PIPELINING",
        ];
        if self.tls == Tls::Offered {
            lines.push("STARTTLS");
        }
        let last = lines.len() - 1;
        let lines = lines
            .iter()
            .enumerate()
            .map(|(index, line)| format!("250{}{line}\r\n", if index == last { ' ' } else { '-' }));
        Action::Reply(lines.collect())
    }

    fn mail(&mut self, sender: String) -> Action {
        if self.transaction.sender.is_some() {
            return reply("503 5.5.0 MAIL already given");
        }
        if self.client.is_empty() {
            return reply("503 5.5.1 LHLO needed first");
        }
        self.transactions += 1;
        self.transaction.sender = Some(sender);
        reply("250 2.1.0 OK")
    }

    fn rcpt(&mut self, full: String) -> Action {
        if self.transaction.sender.is_none() {
            return reply(MAIL_FIRST);
        }
        if self.transaction.recipients.len() >= MOST_RECIPIENTS {
            return reply("452 4.5.3 Too many recipients");
        }
        self.transaction.commands += 1;
        Action::LookUp(Address::parse(full, &self.delimiter))
    }

    /// The outcome of a look-up: the recipient's mailbox, or the reply that refuses it.
    pub fn recipient(&mut self, address: Address, found: Result<Mailbox, String>) -> String {
        match found {
            Ok(mailbox) => {
                let number = self.transaction.commands;
                self.transaction.recipients.push(Recipient { address, mailbox, number });
                "250 2.1.5 OK\r\n".to_owned()
            }
            Err(refusal) => format!("{refusal}\r\n"),
        }
    }

    fn data(&mut self) -> Action {
        match &self.transaction {
            Transaction { sender: None, .. } => reply(MAIL_FIRST),
            Transaction { recipients, .. } if recipients.is_empty() => reply(NO_RECIPIENTS),
            _ => Action::Data,
        }
    }

    fn bdat(&mut self, size: u64, last: bool) -> Action {
        let refused = match &self.transaction {
            Transaction { sender: None, .. } => Some(MAIL_FIRST),
            Transaction { recipients, .. } if recipients.is_empty() => Some(NO_RECIPIENTS),
            _ => None,
        };
        self.transaction.chunked |= refused.is_none();
        Action::Chunk { size, last, refused: refused.map(|text| format!("{text}\r\n")) }
    }

    /// The transaction is over; its parts go to the delivery.
    pub fn take_transaction(&mut self) -> Transaction {
        std::mem::take(&mut self.transaction)
    }
}

fn reply(text: impl Into<String>) -> Action {
    Action::Reply(text.into() + "\r\n")
}

/// Checks `<path>` as strictly as Dovecot.
fn path(argument: &str, name: &str) -> Result<(), String> {
    let first = argument.split(' ').next().unwrap_or_default();
    let fault = if !first.starts_with('<') {
        "Missing '<' at beginning of path"
    } else if !first.ends_with('>') {
        "Missing '>' at end of path"
    } else if first == "<>" && name == "TO" {
        "Null path not allowed"
    } else {
        return Ok(());
    };
    Err(format!("501 5.5.4 Invalid {name}: {fault}"))
}

impl Address {
    fn parse(full: String, delimiter: &str) -> Self {
        let (local, domain) = match full.rsplit_once('@') {
            Some((local, domain)) => (local, Some(domain)),
            None => (full.as_str(), None),
        };
        let cut = local.find(|c| delimiter.contains(c)).filter(|&at| at > 0);
        let (user, detail) = match cut {
            Some(at) => {
                let width = local[at..].chars().next().map_or(1, char::len_utf8);
                (&local[..at], Some(local[at + width..].to_owned()))
            }
            None => (local, None),
        };
        let user = domain.map_or_else(|| user.to_owned(), |domain| format!("{user}@{domain}"));
        Self { user, detail, full, original: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::new("mx1.example.com", "+", Tls::Offered)
    }

    fn said(session: &mut Session, line: &str) -> String {
        match session.command(line) {
            Action::Reply(text) | Action::Close(text) => text,
            Action::LookUp(address) if address.user.starts_with("nosuch") => {
                let refusal = format!("550 5.1.1 <{}> User doesn't exist", address.full);
                session.recipient(address, Err(refusal))
            }
            Action::LookUp(address) => session.recipient(address, Ok(Mailbox::default())),
            other => format!("{other:?}\r\n"),
        }
    }

    #[test]
    fn a_conversation_as_dovecot_has_it() {
        let mut session = session();
        for (line, answer) in [
            ("EHLO x", "500 5.5.1 Unknown command"),
            ("HELP", "500 5.5.1 Unknown command"),
            (
                "LHLO c.example",
                "250-mx1.example.com\r\n250-8BITMIME\r\n250-CHUNKING\r\n250-ENHANCEDSTATUSCODES\r\n250-PIPELINING\r\n250 STARTTLS",
            ),
            ("RCPT TO:<a@b>", "503 5.5.0 MAIL needed first"),
            ("MAIL FROM:<s@example.net> BODY=8BITMIME", "250 2.1.0 OK"),
            ("MAIL FROM:<s@example.net>", "503 5.5.0 MAIL already given"),
            ("DATA", "503 5.5.0 No valid recipients"),
            ("RCPT TO:<a@b", "501 5.5.4 Invalid TO: Missing '>' at end of path"),
            ("RCPT TO:a@b", "501 5.5.4 Invalid TO: Missing '<' at beginning of path"),
            ("RCPT TO:<>", "501 5.5.4 Invalid TO: Null path not allowed"),
            ("RCPT TO:<a@b> NOTIFY=NEVER", "555 5.5.4 Unsupported parameters"),
            ("RCPT TO:<nosuch@b>", "550 5.1.1 <nosuch@b> User doesn't exist"),
            ("RCPT TO:<a+x@b>", "250 2.1.5 OK"),
            ("VRFY a", "252 2.3.3 Try RCPT instead"),
            ("DATA", "Data"),
            ("RSET", "250 2.0.0 OK"),
            ("MAIL FROM:<> SIZE=100", "555 5.5.4 Unsupported parameters"),
            ("MAIL FROM:<>", "250 2.1.0 OK"),
            ("NOOP", "250 2.0.0 OK"),
            ("STARTTLS", "StartTls"),
            ("QUIT", "221 2.0.0 Bye"),
        ] {
            assert_eq!(said(&mut session, line), format!("{answer}\r\n"), "{line}");
        }
    }

    #[test]
    fn ten_bad_commands_are_enough() {
        let mut session = session();
        let answers: Vec<String> = (0..10).map(|_| said(&mut session, "X")).collect();
        assert_eq!(answers[9], "421 4.7.0 mx1.example.com Too many invalid commands.\r\n");
    }

    #[test]
    fn details_are_cut_off() {
        for (full, user, detail) in [
            ("taro+work@b.example", "taro@b.example", Some("work")),
            ("taro@b.example", "taro@b.example", None),
            ("taro+a+b", "taro", Some("a+b")),
            ("+x@b", "+x@b", None),
        ] {
            let address = Address::parse(full.to_owned(), "+");
            assert_eq!((address.user.as_str(), address.detail.as_deref()), (user, detail));
        }
    }
}
