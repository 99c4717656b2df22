//! Drives one conversation: reads lines, lets the session decide, carries out what it asks for, and writes the
//! log. Only here and below are sockets, clocks and log lines.

mod commands;
mod content;
mod greeting;
mod history;
mod login;
mod milters;
mod reply;
mod secure;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::{LineEnd, Wire, WireError};
use neighbours::cleanup::Submission;
use neighbours::milter::Chain;
use neighbours::postmaster::{Class, History};
use protocol::smtp::{Chunk, Request, Verb};

use crate::anvil::Counted;
use crate::client::Client;
use crate::policy::{Stage, Subject, Transcript, Verdict, stage::Check};
use crate::server::Context;
use crate::session::{Action, Answer, Session};
use crate::settings::{Limits, Service};
use crate::text::{cut, escaped, printable};
use crate::world::Asked;

/// Why a conversation ended; the words are those of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// QUIT, or we closed it and have said why.
    Closed,
    Timeout,
    Lost,
    TooManyErrors,
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Timeout => Self::Timeout,
            _ => Self::Lost,
        }
    }
}

/// What the restrictions are asked.
#[derive(Clone, Copy, Debug)]
enum Question<'a> {
    Client,
    Helo,
    Sender,
    Recipient { address: &'a str, smtputf8: bool },
    Data,
    EndOfData,
    Etrn(&'a str),
}

/// Go on, or stop.
type Step = Result<(), End>;

/// What the last recognised command was, for the line about a conversation that broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Connect,
    Command(Verb),
    Data,
    Bdat,
    EndOfMessage,
}

/// Octets and errors of the message that is being received.
#[derive(Debug, Default)]
struct Incoming {
    submission: Option<Submission>,
    /// Octets so far, with two for each line end.
    size: u64,
    fault: Option<content::Fault>,
    chunk: Option<Chunk>,
    /// Nothing of the content has gone to cleanup yet.
    first_line: bool,
    arrival: Duration,
    /// Names the transaction to policy servers.
    instance: String,
}

pub(crate) struct Conversation {
    context: Arc<Context>,
    wire: Wire,
    session: Session,
    world: Asked,
    transcript: Transcript,
    history: History,
    incoming: Incoming,
    counted: Option<Counted>,
    commands: BTreeMap<Verb, (u32, u32)>,
    place: Where,
    errors: u32,
    junk: u32,
    /// The client sent commands where it had to wait; said once.
    pipelined: bool,
    /// Bare line feeds are to be refused (`smtpd_forbid_bare_newline = reject`).
    refuses_bare_lf: bool,
    /// The client is refused, but must be heard up to its QUIT (RFC 5321 section 3.1).
    denied: bool,
    stressed: bool,
    since_write: Instant,
    /// Transactions so far.
    transactions: u32,
    /// Filters of this client.
    milters: Option<Chain>,
    /// They have heard of a transaction.
    needs_abort: bool,
    /// The words of this MAIL or RCPT, as filters see them.
    milter_words: Vec<String>,
    /// The recipient that they are asked about, and our own refusal of it.
    current_recipient: Option<String>,
    milter_refusal: Option<String>,
}

/// Serves one client from its connection to its end.
pub(crate) async fn serve(context: Arc<Context>, wire: Wire, client: Client, stressed: bool) {
    let ident = context.service.ident.clone();
    let name = client.name_and_address();
    log(&ident, &format!("connect from {name}"));
    let session = Session::new(client, context.service.dialogue.clone(), Default::default());
    let world = Asked::new(context.shared.clone());
    let mut conversation = Conversation {
        world,
        context,
        wire,
        session,
        transcript: Transcript::default(),
        history: History::default(),
        incoming: Incoming::default(),
        counted: None,
        commands: BTreeMap::new(),
        place: Where::Connect,
        errors: 0,
        junk: 0,
        pipelined: false,
        refuses_bare_lf: false,
        denied: false,
        stressed,
        since_write: Instant::now(),
        transactions: 0,
        milters: None,
        needs_abort: false,
        milter_words: Vec::new(),
        current_recipient: None,
        milter_refusal: None,
    };
    let limits = conversation.limits();
    conversation.wire.set_timeout(limits.timeout);
    let end = match conversation.run().await {
        Err(end) => end,
        Ok(()) => End::Closed,
    };
    conversation.finish(end).await;
}

/// One line of the log, under the service's own name.
pub(crate) fn log(ident: &str, line: &str) {
    if line.starts_with("warning: ") || line.starts_with("fatal: ") {
        tracing::warn!(target: "mail", ident, "{line}");
    } else {
        tracing::info!(target: "mail", ident, "{line}");
    }
}

impl Conversation {
    fn service(&self) -> &Service {
        &self.context.service
    }

    fn limits(&self) -> Limits {
        let service = &self.context.service;
        if self.stressed { service.stressed.clone() } else { service.limits.clone() }
    }

    fn log(&self, line: &str) {
        log(&self.service().ident, line);
    }

    fn log_all(&self, lines: impl IntoIterator<Item = String>) {
        lines.into_iter().for_each(|line| self.log(&line));
    }

    fn client(&self) -> String {
        self.session.client.name_and_address()
    }

    fn host(&self) -> &str {
        &self.service().dialogue.host
    }

    fn queue_id(&self) -> &str {
        self.incoming.submission.as_ref().map_or("NOQUEUE", |one| one.queue_id().as_str())
    }

    async fn run(&mut self) -> Step {
        if self.service().tls.wrapper {
            self.wrapped_tls().await?;
        }
        self.choose_milters().await;
        self.greet(true).await?;
        loop {
            let limits = self.limits();
            if self.errors >= limits.hard_errors {
                let text = format!("4.7.0 {} Error: too many errors", self.host());
                let _ = self.say(421, text).await;
                return Err(End::TooManyErrors);
            }
            if self.context.finishing.is_finishing() && self.session.transaction().is_none() {
                let text = format!("4.3.2 {} Service is shutting down", self.host());
                self.say(421, text).await?;
                return Err(End::Closed);
            }
            let Some(line) = self.command_line(&limits).await? else { continue };
            self.one(&line).await?;
        }
    }

    /// The next command line as text; `None` when it was answered already.
    async fn command_line(&mut self, limits: &Limits) -> Result<Option<String>, End> {
        let line = tokio::select! {
            biased;
            line = self.wire.line(limits.line.saturating_sub(1)) => line?,
            () = self.context.finishing.wait(), if self.session.transaction().is_none() => {
                return Ok(None);
            }
        };
        let line = line.ok_or(End::Lost)?;
        self.keep_heard(&line.bytes);
        if line.end == LineEnd::TooLong {
            let start = printable(&String::from_utf8_lossy(&line.bytes), '?');
            self.log(&format!(
                "warning: {}: request longer than {}: {}...",
                self.client(),
                limits.line,
                cut(&start, 30)
            ));
        }
        if line.end == LineEnd::Lf && self.refuses_bare_lf {
            let line = self.subject().line("reject", "bare <LF> received");
            self.log(&line);
            let code = self.service().bare_newline.code;
            let text = format!("5.5.2 {} Error: bare <LF> received", self.host());
            self.say(code, text).await?;
            return Err(End::Closed);
        }
        let mut bytes = &line.bytes[..];
        while let [rest @ .., b'\r'] = bytes {
            bytes = rest;
        }
        let Ok(text) = std::str::from_utf8(bytes) else {
            self.say(500, "5.5.2 Error: bad UTF-8 syntax").await?;
            self.errors += 1;
            return Ok(None);
        };
        if text.contains('\0') {
            self.say(500, "5.5.2 Error: bad syntax").await?;
            self.errors += 1;
            return Ok(None);
        }
        Ok(Some(text.to_owned()))
    }

    /// One command from its line to its answer.
    async fn one(&mut self, line: &str) -> Step {
        let limits = self.limits();
        let Some(request) = Request::parse(line, self.session.dialect()) else {
            self.say(500, "5.5.2 Error: bad syntax").await?;
            self.errors += 1;
            return Ok(());
        };
        let is_noop = |word: &String| word.eq_ignore_ascii_case(&request.word);
        if self.service().noop_commands.iter().any(is_noop) {
            self.say(250, "2.0.0 Ok").await?;
            self.count_junk(&limits);
            return Ok(());
        }
        let verb = request.verb;
        self.commands.entry(verb).or_default().1 += 1;
        if verb == Verb::Unknown {
            self.place = Where::Command(verb);
            if self.is_forbidden(&request.word).await {
                let shown = escaped(line.as_bytes());
                let shown = cut(&shown, 100);
                self.log(&format!("warning: non-SMTP command from {}: {shown}", self.client()));
                self.say(221, "2.7.0 Error: I can break rules, too. Goodbye.").await?;
                return Err(End::Closed);
            }
        }
        if self.denied && verb != Verb::Quit {
            let text = format!("5.7.0 Error: access denied for {}", self.client());
            self.say(503, text).await?;
            self.errors += 1;
            return Ok(());
        }
        if verb == Verb::Unknown
            && let Some(reply) = self.tell_unknown(&request.word).await
        {
            self.history.wrong.add(Class::Protocol);
            self.reply(reply).await?;
            self.errors += 1;
            return Ok(());
        }
        if self.session.offers.tls_required && !self.session.tls && needs_tls(verb) {
            self.say(530, "5.7.0 Must issue a STARTTLS command first").await?;
            self.errors += 1;
            return Ok(());
        }
        if verb != Verb::Unknown {
            self.place = Where::Command(verb);
            let last_in_group =
                matches!(verb, Verb::Helo | Verb::Ehlo | Verb::Data | Verb::Noop | Verb::Vrfy);
            let pipelining = self.session.protocol == crate::session::Protocol::Esmtp;
            if !pipelining || last_in_group {
                self.look_for_pipelining(verb.name()).await?;
            }
        }
        self.keep_words(verb, line);
        let action = self.session.request(request);
        if verb == Verb::Rset && action.is_positive() {
            self.reset();
        }
        if begins_anew(verb) && action.is_positive() {
            self.turn_page().await;
        }
        self.log_bad_chunk(&action, line);
        let lines = self.session.take_log();
        self.log_all(lines);
        let failed = self.carry_out(action).await?;
        let counter = self.commands.entry(verb).or_default();
        if failed {
            self.errors += 1;
        } else if verb != Verb::XClient {
            counter.0 += 1; // Postfix does not count an XCLIENT that worked
        }
        if is_junk(verb) {
            self.count_junk(&limits);
        }
        Ok(())
    }

    /// BDAT that leads nowhere is told in the log, with the message that it would have belonged to.
    fn log_bad_chunk(&self, action: &Action, line: &str) {
        let (id, client) = (self.queue_id(), self.client());
        match action {
            Action::Close(answer) if answer.reply.code() == 521 && answer.is_syntax() => {
                let shown = printable(line, '?');
                let shown = cut(&shown, 100);
                self.log(&format!(
                    "warning: {id}: malformed BDAT command syntax from {client}: {shown}"
                ));
            }
            Action::SkipChunk { size: 0, last: false, .. } => {
                self.log(&format!("warning: {id}: null BDAT request from {client}"));
            }
            _ => {}
        }
    }

    async fn carry_out(&mut self, action: Action) -> Result<bool, End> {
        let asks = !matches!(action, Action::Answer(_) | Action::Close(_));
        if asks && self.is_at_their_mercy() && self.standing_refusal().await? {
            return Ok(true);
        }
        match action {
            Action::Answer(answer) => self.answer(answer).await,
            Action::Close(answer) => {
                let ok = !answer.failed;
                self.answer(answer).await?;
                if ok {
                    self.commands.entry(Verb::Quit).or_default().0 += 1;
                }
                Err(End::Closed)
            }
            Action::CheckHelo { name, esmtp } => self.check_helo(&name, esmtp).await,
            Action::CheckSender(mail) => self.check_sender(mail).await,
            Action::CheckRecipient(recipient) => self.check_recipient(recipient).await,
            Action::CheckVrfy { address, argument, smtputf8 } => {
                self.check_vrfy(&address, &argument, smtputf8).await
            }
            Action::CheckEtrn(domain) => self.check_etrn(&domain).await,
            Action::ReceiveContent => self.receive_data().await,
            Action::ReceiveChunk { size, last, first } => {
                self.receive_chunk(size, last, first).await
            }
            Action::SkipChunk { size, last, answer } => self.skip_chunk(size, last, answer).await,
            Action::StartTls => self.start_tls().await,
            Action::Authenticate { mechanism, initial } => {
                self.authenticate(&mechanism, initial.as_deref()).await
            }
            Action::XClient(attributes) => self.xclient(&attributes).await,
        }
    }

    fn count_junk(&mut self, limits: &Limits) {
        if self.junk > limits.junk_commands {
            self.errors += 1;
        }
        self.junk = self.junk.saturating_add(1);
    }

    fn subject(&self) -> Subject<'_> {
        let subject = subject(&self.session, &self.incoming, self.place, self.pipelined);
        let facts = self.wire.tls();
        Subject {
            stress: self.stressed,
            encryption: facts.map(|facts| (facts.version, facts.cipher.as_str(), facts.bits)),
            ..subject
        }
    }

    /// Runs the restrictions of a stage, writes what they say into the log, and gives their verdict.
    async fn check(&mut self, question: Question<'_>) -> Verdict {
        let mut transcript = std::mem::take(&mut self.transcript);
        let verdict = {
            let mut check = self.check_over(&mut transcript);
            match question {
                Question::Client => check.client().await,
                Question::Helo => check.helo().await,
                Question::Sender => check.sender().await,
                Question::Recipient { address, smtputf8 } => {
                    check.subject.recipient = Some(address);
                    check.subject.smtputf8 = smtputf8;
                    check.recipient().await
                }
                Question::Data => check.data().await,
                Question::EndOfData => check.end_of_data().await,
                Question::Etrn(domain) => {
                    check.subject.etrn = Some(domain);
                    check.etrn().await
                }
            }
        };
        self.after_check(transcript);
        verdict
    }

    fn check_over<'a>(&'a self, transcript: &'a mut Transcript) -> Check<'a, Asked> {
        Check {
            world: &self.world,
            settings: &self.context.service.policy,
            subject: self.subject(),
            transcript,
        }
    }

    fn after_check(&mut self, mut transcript: Transcript) {
        let lines = std::mem::take(&mut transcript.log);
        self.history.wrong = self.history.wrong.or(std::mem::take(&mut transcript.wrong));
        self.transcript = transcript;
        self.log_all(lines);
    }

    /// Forgets the transaction: what cleanup has of it goes with the connection to it.
    fn reset(&mut self) {
        self.session.reset();
        self.incoming = Incoming::default();
        self.transcript.end_transaction();
        self.end_milter_transaction();
    }

    async fn finish(mut self, end: End) {
        if end == End::Timeout {
            let text = format!("4.4.2 {} Error: timeout exceeded", self.host());
            let _ = self.say(421, text).await;
        }
        let reason = match end {
            End::Closed => None,
            End::Timeout => Some("timeout"),
            End::Lost => Some("lost connection"),
            End::TooManyErrors => Some("too many errors"),
        };
        if let Some(reason) = reason {
            let received = self.incoming.size + self.wire.buffer().len() as u64;
            let client = self.client();
            let line = match self.place {
                Where::EndOfMessage if end == End::Lost => None,
                Where::Connect => Some(format!("{reason} after CONNECT from {client}")),
                Where::Data => {
                    Some(format!("{reason} after DATA ({received} bytes) from {client}"))
                }
                Where::Bdat => {
                    Some(format!("{reason} after BDAT ({received} bytes) from {client}"))
                }
                Where::EndOfMessage => Some(format!("{reason} after END-OF-MESSAGE from {client}")),
                Where::Command(verb) => {
                    Some(format!("{reason} after {} from {client}", verb.name()))
                }
            };
            line.iter().for_each(|line| self.log(line));
        }
        self.tell_postmaster(reason).await;
        self.log(&format!("disconnect from {}{}", self.client(), self.statistics()));
        self.incoming = Incoming::default();
        self.quit_milters().await;
        self.wire.close().await;
    }

    /// ` ehlo=1 mail=1/2 … commands=3/4`
    fn statistics(&self) -> String {
        let mut text = String::new();
        let (mut all_ok, mut all) = (0, 0);
        for (verb, &(ok, total)) in &self.commands {
            text.push_str(&format!(" {}={ok}", verb.name().to_ascii_lowercase()));
            if ok != total {
                text.push_str(&format!("/{total}"));
            }
            all_ok += ok;
            all += total;
        }
        text.push_str(&format!(" commands={all_ok}"));
        if all_ok != all || all == 0 {
            text.push_str(&format!("/{all}"));
        }
        text
    }
}

fn subject<'a>(
    session: &'a Session,
    incoming: &'a Incoming,
    place: Where,
    pipelined: bool,
) -> Subject<'a> {
    let transaction = session.transaction();
    Subject {
        client: &session.client,
        helo: session.helo.as_deref(),
        protocol: session.protocol.name(),
        sender: transaction.map(|transaction| transaction.mail.address.as_str()),
        recipient: transaction.and_then(|transaction| transaction.first_recipient.as_deref()),
        etrn: None,
        login: session.login.as_ref(),
        sasl_active: session.offers.auth.is_some(),
        tls: session.tls,
        smtputf8: transaction.is_some_and(|transaction| transaction.mail.smtputf8),
        pipelined,
        recipients: session.recipients(),
        stage: match place {
            Where::Connect => Stage::Connect,
            Where::Command(verb) => Stage::Command(verb.name()),
            Where::Data => Stage::Command("DATA content"),
            Where::Bdat => Stage::Command("BDAT content"),
            Where::EndOfMessage => Stage::EndOfMessage,
        },
        size: match incoming.size {
            0 => transaction.and_then(|transaction| transaction.mail.size).unwrap_or_default(),
            size => size,
        },
        instance: &incoming.instance,
        sasl_sender: transaction.and_then(|transaction| transaction.mail.auth.as_deref()),
        stress: false,
        encryption: None,
        queue_id: incoming.submission.as_ref().map(|one| one.queue_id().as_str()),
    }
}

/// Commands that mean nothing before TLS where TLS is required.
fn needs_tls(verb: Verb) -> bool {
    !matches!(
        verb,
        Verb::Helo
            | Verb::Ehlo
            | Verb::XClient
            | Verb::StartTls
            | Verb::Noop
            | Verb::Quit
            | Verb::Unknown
    )
}

/// Commands after which nothing of what was said before matters.
fn begins_anew(verb: Verb) -> bool {
    matches!(verb, Verb::Helo | Verb::Ehlo | Verb::Rset)
}

/// Commands that a client can repeat without getting anywhere.
fn is_junk(verb: Verb) -> bool {
    matches!(verb, Verb::Helo | Verb::Ehlo | Verb::Rset | Verb::Noop | Verb::Vrfy | Verb::Etrn)
}

/// Whether an answer counts as an error of the client.
fn failed(answer: &Answer) -> bool {
    answer.failed
}
