//! The SMTP conversation with one client, without its socket (RFC 5321 section 4.1).
//!
//! Command lines go in, [`Action`]s come out. What needs the world (restrictions, the queue, TLS, the auth
//! server) is an action; `connection` carries it out and tells the session how it went. Log lines that belong
//! to the conversation itself are collected in [`Session::take_log`].

use protocol::smtp::{Command, Dialect, Mail, Mistake, Recipient, Reply, Request, Verb};
use serde::{Deserialize, Serialize};

use crate::client::{Client, Forwarded, Login};
use crate::keywords::Discarded;
use crate::text::{neutral, printable};

/// What main.cf says of the dialogue, the same for every client of a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dialogue {
    /// `myhostname`.
    pub host: String,
    pub helo_required: bool,
    /// Check HELO restrictions at RCPT, not at HELO.
    pub delay_reject: bool,
    pub disable_vrfy: bool,
    pub strict_envelopes: bool,
    pub smtputf8: bool,
    pub strict_smtputf8: bool,
    pub broken_sasl_clients: bool,
    /// `message_size_limit`, 0 for none.
    pub size_limit: u64,
    /// `smtpd_recipient_limit`, and how many more are answered 452 before it counts as an error.
    pub recipient_limit: usize,
    pub recipient_overshoot: usize,
}

/// What this client is offered.
#[derive(Clone, Debug, Default)]
pub struct Offers {
    /// STARTTLS can be used.
    pub starttls: bool,
    /// TLS must be used before anything else.
    pub tls_required: bool,
    pub xclient: bool,
    pub xforward: bool,
    /// The SASL mechanisms, when AUTH can be used.
    pub auth: Option<Vec<String>>,
    /// AUTH can be used but is not announced (`smtpd_sasl_exceptions_networks`).
    pub auth_hidden: bool,
    pub discarded: Discarded,
}

/// A reply, and whether the command counts as an error of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub reply: Reply,
    pub failed: bool,
}

impl Answer {
    /// The command could not be read.
    #[must_use]
    pub fn is_syntax(&self) -> bool {
        self.reply.text().first().is_some_and(|text| text.starts_with("5.5.4"))
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { failed: !reply.is_positive(), reply }
    }
}

/// What `connection` does before it reads on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Answer(Answer),
    /// Run the HELO restrictions and tell the filters, then [`Session::greeted`].
    CheckHelo {
        name: String,
        esmtp: bool,
    },
    /// Rate, size, syntax, restrictions and queue space, then [`Session::begin`].
    CheckSender(Mail),
    /// Rate, syntax and restrictions, then the queue, then [`Session::add_recipient`].
    CheckRecipient(Recipient),
    CheckVrfy {
        address: String,
        argument: String,
        smtputf8: bool,
    },
    CheckEtrn(String),
    /// DATA: run its restrictions, answer 354, receive and queue.
    ReceiveContent,
    /// BDAT: so many octets follow.
    ReceiveChunk {
        size: u64,
        last: bool,
        first: bool,
    },
    /// So many octets follow that nobody wants; then this answer.
    SkipChunk {
        size: u64,
        last: bool,
        answer: Answer,
    },
    StartTls,
    Authenticate {
        mechanism: String,
        initial: Option<String>,
    },
    XClient(Vec<(String, String)>),
    /// Answer, then close.
    Close(Answer),
}

impl Action {
    /// An answer that says yes.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        matches!(self, Self::Answer(answer) if answer.reply.is_positive())
    }
}

/// SMTP, or ESMTP since EHLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    Smtp,
    Esmtp,
}

impl Protocol {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Smtp => "SMTP",
            Self::Esmtp => "ESMTP",
        }
    }
}

/// A mail transaction, from MAIL on.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub mail: Mail,
    /// Addresses without domain are completed as our own.
    pub local_rewrite: bool,
    pub recipients: usize,
    /// The first accepted recipient, in internal form.
    pub first_recipient: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Chunks {
    #[default]
    None,
    Receiving,
    /// A chunk failed: the rest of the message is skipped, up to LAST or RSET.
    Failed,
}

#[derive(Debug)]
pub struct Session {
    pub client: Client,
    pub forwarded: Forwarded,
    pub offers: Offers,
    pub protocol: Protocol,
    pub helo: Option<String>,
    pub login: Option<Login>,
    pub tls: bool,
    /// Filters want to hear of HELO before it is answered.
    pub has_milters: bool,
    dialogue: Dialogue,
    transaction: Option<Transaction>,
    chunks: Chunks,
    /// SIZE of the last MAIL. As in Postfix it outlives a MAIL that failed, up to the next reset.
    announced_size: u64,
    overshoot: usize,
    log: Vec<String>,
}

fn answer(code: u16, text: impl Into<String>) -> Action {
    Action::Answer(Reply::new(code, text).into())
}

impl Session {
    #[must_use]
    pub fn new(client: Client, dialogue: Dialogue, offers: Offers) -> Self {
        Self {
            client,
            forwarded: Forwarded::default(),
            offers,
            protocol: Protocol::Smtp,
            helo: None,
            login: None,
            tls: false,
            has_milters: false,
            dialogue,
            transaction: None,
            chunks: Chunks::None,
            announced_size: 0,
            overshoot: 0,
            log: Vec::new(),
        }
    }

    #[must_use]
    pub fn dialect(&self) -> Dialect {
        Dialect {
            lmtp: false,
            strict: self.dialogue.strict_envelopes,
            smtputf8: self.dialogue.smtputf8 && !self.offers.discarded.has("SMTPUTF8"),
            dsn: !self.offers.discarded.has("DSN"),
        }
    }

    #[must_use]
    pub fn transaction(&self) -> Option<&Transaction> {
        self.transaction.as_ref()
    }

    /// Lines for the log since the last call.
    pub fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// Takes a command that [`Request::parse`] has read. Unknown commands are answered like any mistake.
    pub fn request(&mut self, request: Request) -> Action {
        if let Some(refusal) = self.out_of_order(request.verb) {
            return refusal;
        }
        match request.command {
            Ok(command) => self.command(command),
            Err(mistake) => self.mistake(request.verb, mistake),
        }
    }

    /// Commands that cannot come now, whatever their arguments are.
    fn out_of_order(&self, verb: Verb) -> Option<Action> {
        let text = match verb {
            Verb::Mail | Verb::Auth if self.dialogue.helo_required && self.helo.is_none() => {
                "5.5.1 Error: send HELO/EHLO first"
            }
            Verb::Etrn if self.dialogue.helo_required && self.helo.is_none() => {
                "Error: send HELO/EHLO first"
            }
            Verb::Mail if self.transaction.is_some() => "5.5.1 Error: nested MAIL command",
            Verb::Mail if self.chunks != Chunks::None => "5.5.1 Error: MAIL after BDAT",
            Verb::Rcpt if self.transaction.is_none() => "5.5.1 Error: need MAIL command",
            Verb::Rcpt if self.chunks != Chunks::None => "5.5.1 Error: RCPT after BDAT",
            Verb::Data if self.chunks != Chunks::None => "5.5.1 Error: DATA after BDAT",
            Verb::Data if self.recipients() == 0 => {
                return Some(match self.transaction {
                    None => answer(503, "5.5.1 Error: need RCPT command"),
                    Some(_) => answer(554, "5.5.1 Error: no valid recipients"),
                });
            }
            Verb::Auth if self.offers.auth.is_none() || self.offers.discarded.has("AUTH") => {
                "5.5.1 Error: authentication not enabled"
            }
            Verb::Auth | Verb::XClient | Verb::XForward if self.transaction.is_some() => {
                "5.5.1 Error: MAIL transaction in progress"
            }
            Verb::Etrn if self.transaction.is_some() => "Error: MAIL transaction in progress",
            Verb::Auth if self.login.is_some() => "5.5.1 Error: already authenticated",
            Verb::Vrfy if self.dialogue.disable_vrfy => {
                return Some(answer(502, "5.5.1 VRFY command is disabled"));
            }
            Verb::Bdat if self.offers.discarded.has("CHUNKING") => {
                let reply = Reply::new(521, "5.5.1 Error: command not implemented");
                return Some(Action::Close(reply.into()));
            }
            _ => return None,
        };
        Some(answer(503, text))
    }

    fn mistake(&mut self, verb: Verb, mistake: Mistake) -> Action {
        if let Mistake::Sender(argument) | Mistake::Recipient(argument) = &mistake
            && !argument.is_empty()
        {
            self.log.push(format!(
                "warning: Illegal address syntax from {} in {} command: {}",
                self.client.name_and_address(),
                verb.name(),
                printable(argument, '?')
            ));
        }
        if let Mistake::Notify(value) = &mistake {
            let known = ["NEVER", "SUCCESS", "FAILURE", "DELAY", ""];
            let strange = value
                .split(',')
                .find(|word| !known.iter().any(|known| known.eq_ignore_ascii_case(word)));
            self.log.extend(strange.map(|word| {
                format!(
                    "warning: unknown DSN NOTIFY command value \"{}\" in \"{}\"",
                    printable(word, '?'),
                    printable(value, '?')
                )
            }));
        }
        let forbidden = match verb {
            Verb::XClient => !self.offers.xclient,
            Verb::XForward => !self.offers.xforward,
            _ => false,
        };
        if forbidden && !matches!(mistake, Mistake::AttributesMissing(_)) {
            return answer(550, "5.7.0 Error: insufficient authorization");
        }
        let reply = Reply::from(mistake);
        if reply.code() == 521 { Action::Close(reply.into()) } else { Action::Answer(reply.into()) }
    }

    fn command(&mut self, command: Command) -> Action {
        match command {
            Command::Helo(name) => self.helo(name, false),
            Command::Ehlo(name) => self.helo(name, true),
            Command::Mail(mail) => {
                if let Some(size) = mail.size {
                    self.announced_size = size;
                }
                Action::CheckSender(Mail { size: Some(self.announced_size), ..mail })
            }
            Command::Rcpt(recipient) => self.recipient(recipient),
            Command::Data => Action::ReceiveContent,
            Command::Bdat { size, last } => self.chunk(size, last),
            Command::Rset => {
                self.reset();
                answer(250, "2.0.0 Ok")
            }
            Command::Noop => answer(250, "2.0.0 Ok"),
            Command::Vrfy { address, argument, smtputf8 } => {
                if !smtputf8 && self.dialogue.strict_smtputf8 && !address.is_ascii() {
                    return answer(553, "5.6.7 Must declare SMTPUTF8 to send unicode address");
                }
                Action::CheckVrfy { address, argument, smtputf8 }
            }
            Command::Etrn(domain) => {
                if protocol::smtp::is_host_name(&domain)
                    || protocol::smtp::is_mail_host_literal(&domain)
                {
                    Action::CheckEtrn(domain)
                } else {
                    answer(501, "Error: invalid parameter syntax")
                }
            }
            Command::StartTls => self.start_tls(),
            Command::Auth { mechanism, initial } => Action::Authenticate { mechanism, initial },
            Command::XClient(attributes) if self.offers.xclient => Action::XClient(attributes),
            Command::XForward(attributes) if self.offers.xforward => {
                Action::Answer(crate::forward::xforward(&mut self.forwarded, &attributes).into())
            }
            Command::XClient(_) | Command::XForward(_) => {
                answer(550, "5.7.0 Error: insufficient authorization")
            }
            Command::Quit => Action::Close(Reply::new(221, "2.0.0 Bye").into()),
            Command::Lhlo(_) => Action::Answer(Reply::from(Mistake::Unknown).into()),
        }
    }

    fn helo(&mut self, name: String, esmtp: bool) -> Action {
        if self.dialogue.delay_reject && !self.has_milters {
            return Action::Answer(self.greeted(&name, esmtp).into());
        }
        Action::CheckHelo { name, esmtp }
    }

    /// HELO or EHLO is accepted: everything before it is forgotten.
    pub fn greeted(&mut self, name: &str, esmtp: bool) -> Reply {
        self.reset();
        self.helo = Some(neutral(name));
        if !esmtp {
            return Reply::new(250, self.dialogue.host.clone());
        }
        self.protocol = Protocol::Esmtp;
        self.log.extend(self.offers.discarded.to_log());
        Reply::lines(250, self.keywords())
    }

    /// The answer to EHLO for a client whose mail will be refused: nothing is offered.
    #[must_use]
    pub fn greeted_in_vain(&self) -> Reply {
        let mut lines = vec![self.dialogue.host.clone()];
        if !self.offers.discarded.has("ENHANCEDSTATUSCODES") {
            lines.push("ENHANCEDSTATUSCODES".into());
        }
        Reply::lines(250, lines)
    }

    fn keywords(&self) -> Vec<String> {
        let offers = &self.offers;
        let mut lines = vec![self.dialogue.host.clone()];
        let mut add = |keyword: &str, line: String| {
            if !offers.discarded.has(keyword) {
                lines.push(line);
            }
        };
        let size = match self.dialogue.size_limit {
            0 => "SIZE".to_owned(),
            limit => format!("SIZE {limit}"),
        };
        add("PIPELINING", "PIPELINING".into());
        add("SIZE", size);
        if !self.dialogue.disable_vrfy {
            add("VRFY", "VRFY".into());
        }
        add("ETRN", "ETRN".into());
        if offers.starttls && !self.tls {
            add("STARTTLS", "STARTTLS".into());
        }
        if let Some(mechanisms) = offers.auth.as_ref().filter(|_| !offers.auth_hidden) {
            let mechanisms = mechanisms.join(" ");
            add("AUTH", format!("AUTH {mechanisms}"));
            if self.dialogue.broken_sasl_clients {
                add("AUTH", format!("AUTH={mechanisms}"));
            }
        }
        if offers.xclient {
            let attributes = "NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT";
            add("XCLIENT", format!("XCLIENT {attributes}"));
        }
        if offers.xforward {
            add("XFORWARD", "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT".into());
        }
        for keyword in ["ENHANCEDSTATUSCODES", "8BITMIME", "DSN"] {
            add(keyword, keyword.into());
        }
        if self.dialogue.smtputf8 {
            add("SMTPUTF8", "SMTPUTF8".into());
        }
        add("CHUNKING", "CHUNKING".into());
        lines
    }

    /// Non-ASCII addresses need SMTPUTF8, if the administrator is strict about it.
    #[must_use]
    pub fn needs_smtputf8(&self, address: &str, declared: bool) -> Option<Reply> {
        (self.dialogue.strict_smtputf8 && !declared && !address.is_ascii())
            .then(|| Reply::new(553, "5.6.7 Must declare SMTPUTF8 to send unicode address"))
    }

    /// The sender is accepted.
    pub fn begin(&mut self, mail: Mail, local_rewrite: bool) -> Reply {
        self.transaction =
            Some(Transaction { mail, local_rewrite, recipients: 0, first_recipient: None });
        Reply::new(250, "2.1.0 Ok")
    }

    fn recipient(&mut self, recipient: Recipient) -> Action {
        let limit = self.dialogue.recipient_limit;
        if limit > 0 && self.recipients() >= limit {
            self.overshoot += 1;
            let failed = self.overshoot > self.dialogue.recipient_overshoot;
            let reply = Reply::new(452, "4.5.3 Error: too many recipients");
            return Action::Answer(Answer { reply, failed });
        }
        let declared = self.transaction.as_ref().is_some_and(|t| t.mail.smtputf8);
        match self.needs_smtputf8(&recipient.address, declared) {
            Some(reply) => Action::Answer(reply.into()),
            None => Action::CheckRecipient(recipient),
        }
    }

    /// The recipient is accepted and on its way into the queue.
    pub fn add_recipient(&mut self, address: &str) -> Reply {
        if let Some(transaction) = &mut self.transaction {
            transaction.recipients += 1;
            transaction.first_recipient.get_or_insert_with(|| address.to_owned());
        }
        Reply::new(250, "2.1.5 Ok")
    }

    fn chunk(&mut self, size: u64, last: bool) -> Action {
        let skip = |code, text: String| {
            let answer = Reply::new(code, text).into();
            Action::SkipChunk { size, last, answer }
        };
        if size == 0 && !last {
            return skip(551, "5.7.1 Null BDAT request".into());
        }
        match self.chunks {
            Chunks::Failed => {
                skip(551, format!("5.0.0 Discarded {size} bytes after earlier error"))
            }
            Chunks::Receiving => Action::ReceiveChunk { size, last, first: false },
            Chunks::None if self.recipients() > 0 => {
                Action::ReceiveChunk { size, last, first: true }
            }
            Chunks::None if self.transaction.is_none() => {
                skip(503, "5.5.1 Error: need RCPT command".into())
            }
            Chunks::None => skip(554, "5.5.1 Error: no valid recipients".into()),
        }
    }

    /// The first chunk has passed the restrictions.
    pub fn chunks_begun(&mut self) {
        self.chunks = Chunks::Receiving;
    }

    /// A chunk was not taken: the message is lost, and its other chunks are skipped.
    pub fn chunk_failed(&mut self, last: bool) {
        if last {
            self.reset();
        } else {
            self.chunks = Chunks::Failed;
        }
    }

    /// The message was lost in the middle of its chunks.
    pub fn chunks_lost(&mut self) {
        self.reset();
        self.chunks = Chunks::Failed;
    }

    fn start_tls(&self) -> Action {
        if self.tls {
            return answer(554, "5.5.1 Error: TLS already active");
        }
        if !self.offers.starttls || self.offers.discarded.has("STARTTLS") {
            return answer(502, "5.5.1 Error: command not implemented");
        }
        Action::StartTls
    }

    /// TLS is on: nothing said before it counts (RFC 3207 section 4.2).
    pub fn tls_started(&mut self) {
        self.reset();
        self.helo = None;
        self.login = None;
        self.tls = true;
    }

    /// Back to the state after HELO.
    pub fn reset(&mut self) {
        self.transaction = None;
        self.chunks = Chunks::None;
        self.announced_size = 0;
        self.overshoot = 0;
        self.forwarded = Forwarded::default();
    }

    /// A MAIL failed whose SIZE stays.
    pub fn keep_announced_size(&mut self, size: Option<u64>) {
        self.announced_size = size.unwrap_or(0);
    }

    #[must_use]
    pub fn recipients(&self) -> usize {
        self.transaction.as_ref().map_or(0, |transaction| transaction.recipients)
    }

    /// XCLIENT has changed who the client is; the greeting follows.
    pub fn became(&mut self, client: Client, helo: Option<String>, protocol: Protocol) {
        self.reset();
        self.client = client;
        self.helo = helo;
        self.protocol = protocol;
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
