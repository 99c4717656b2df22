//! One logged-in client: its selected mailbox, its commands one after the other.

use std::time::Instant;

use daemon::{Wire, Worker};
use login::arrival::Passenger;
use login::stopping;
use mailstore::StoreError;
use protocol::imap::{Command, Event, Line as CommandLine, Mistake, capability};

use crate::commands;
use crate::namespace::Namespaces;
use crate::reply::{self, Reply};
use crate::settings::Settings;
use crate::view::{News, View};
use crate::wire::{End, Line};

/// More commands than this that cannot be read end the session.
const MOST_MISTAKES: u32 = 20;

/// A session and all that it knows.
pub struct Session {
    pub line: Line,
    pub settings: Settings,
    pub user: Passenger,
    pub namespaces: Namespaces,
    pub selected: Option<View>,
    pub counts: Counts,
    /// Something that the current command cannot tell, and after which there is no next one.
    pub doomed: Option<End>,
    worker: Option<Worker>,
    mistakes: u32,
    last: Option<(String, Instant)>,
}

/// What the line at the end tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub deleted: u64,
    pub expunged: u64,
    pub trashed: u64,
    pub header_count: u64,
    pub header_bytes: u64,
    pub body_count: u64,
    pub body_bytes: u64,
}

impl Session {
    /// `worker` tells when to stop; a test has none.
    #[must_use]
    pub fn new(
        wire: Wire,
        settings: Settings,
        user: Passenger,
        namespaces: Namespaces,
        worker: Option<Worker>,
    ) -> Self {
        let line = Line::new(wire, settings.line_limit, settings.inactivity, settings.stall);
        Self {
            line,
            settings,
            user,
            namespaces,
            selected: None,
            counts: Counts::default(),
            doomed: None,
            worker,
            mistakes: 0,
            last: None,
        }
    }

    /// The worker, to learn when to stop.
    #[must_use]
    pub fn worker(&self) -> Option<Worker> {
        self.worker.clone()
    }

    /// The capabilities of this session, without the word CAPABILITY.
    #[must_use]
    pub fn capabilities(&self) -> String {
        let special_use = self.namespaces.has_special_use();
        let quota = self.settings.quota_commands && self.settings.quota.is_some();
        capability::after_login(special_use, quota, &self.settings.capability)
    }

    /// Serves the client to the end, and logs it.
    pub async fn run(mut self, greeting: &[u8]) {
        self.line.put(greeting);
        let end = loop {
            if let Err(end) = self.step().await {
                break end;
            }
            if let Some(end) = self.doomed.take() {
                break end;
            }
        };
        let goodbye = end.goodbye();
        self.log_end(&end);
        self.selected = None;
        self.line.close(goodbye).await;
    }

    /// One command.
    async fn step(&mut self) -> Result<(), End> {
        let worker = self.worker.clone();
        let event = tokio::select! {
            event = self.line.event() => event?,
            () = stopping(worker.as_ref()) => return Err(End::Stopping),
        };
        let started = Instant::now();
        match event {
            Event::Command(text) => self.command(&text, started).await,
            Event::Message { command, size, waits } => {
                commands::append::append(self, &command, size, waits, started).await
            }
            Event::TooLong { start } => {
                let split = CommandLine::split(&start);
                let mistake = match split {
                    Ok(line) => {
                        line.mistake(protocol::imap::Syntax::new("IMAP command line too large"))
                    }
                    Err(mistake) => mistake,
                };
                self.mistake(&mistake, started)
            }
            Event::More | Event::Continue | Event::LiteralTooLarge => Ok(()),
        }
    }

    async fn command(&mut self, text: &[u8], started: Instant) -> Result<(), End> {
        let line = match CommandLine::split(text) {
            Ok(line) => line,
            Err(mistake) => return self.mistake(&mistake, started),
        };
        if line.name.needs_mailbox() && self.selected.is_none() && !lacks_arguments(&line) {
            self.answer(line.tag, &Reply::no_mailbox_selected(), started);
            return Ok(());
        }
        let command = match line.command() {
            Ok(command) => command,
            Err(mistake) => {
                // Dovecot closes the mailbox before it looks at what is to be opened instead.
                let opens = matches!(line.name.as_str(), "SELECT" | "EXAMINE");
                if opens && mistake.problem == protocol::imap::Syntax::INVALID.0 {
                    commands::select::close_selected(self);
                }
                return self.mistake(&mistake, started);
            }
        };
        self.mistakes = 0;
        let tag = line.tag;
        let title = line.name.title();
        let reply = self.run_command(tag, &title, command).await?;
        self.answer(tag, &reply, started);
        self.last = Some((line.name.as_str().to_owned(), Instant::now()));
        if reply == Reply::ok("Logout completed") { Err(End::LoggedOut) } else { Ok(()) }
    }

    async fn run_command(
        &mut self,
        tag: &str,
        title: &str,
        command: Command,
    ) -> Result<Reply, End> {
        use commands::{copy, expunge, fetch, folders, idle, list, quota, search, select, store};
        let completed = || Reply::completed(title);
        Ok(match command {
            Command::Capability => {
                let list = self.capabilities();
                self.line.line(&format!("* CAPABILITY {list}"));
                completed()
            }
            Command::Noop | Command::Check => {
                self.news(News::ALL);
                completed()
            }
            Command::Logout => {
                self.line.line("* BYE Logging out");
                Reply::ok("Logout completed")
            }
            Command::Id(fields) => select::id(self, &fields),
            // There is nothing yet that a client could enable.
            Command::Enable(_) => Reply::ok("Enabled"),
            Command::StartTls | Command::Authenticate { .. } | Command::Login { .. } => Reply::Bad(
                format!("Error in IMAP command {}: Unknown command", title.to_uppercase()),
            ),
            Command::Select { mailbox, .. } => select::select(self, &mailbox, false),
            Command::Examine { mailbox, .. } => select::select(self, &mailbox, true),
            Command::Close => select::close(self),
            Command::Unselect => {
                self.selected = None;
                completed()
            }
            Command::Create { mailbox, .. } => folders::create(self, &mailbox),
            Command::Delete(mailbox) => folders::delete(self, &mailbox),
            Command::Rename { from, to } => folders::rename(self, &from, &to),
            Command::Subscribe(mailbox) => folders::subscribe(self, &mailbox, true),
            Command::Unsubscribe(mailbox) => folders::subscribe(self, &mailbox, false),
            Command::List(request) => list::list(self, &request).await?,
            Command::Lsub(request) => list::lsub(self, &request).await?,
            Command::Status { mailbox, items } => folders::status(self, &mailbox, &items),
            Command::Namespace => list::namespace(self),
            Command::GetQuota(root) => quota::get_quota(self, &root),
            Command::GetQuotaRoot(mailbox) => quota::get_quota_root(self, &mailbox),
            Command::SetQuota => quota::set_quota(self),
            Command::Idle => idle::idle(self).await?,
            Command::Expunge => expunge::expunge(self, None, title),
            Command::UidExpunge(set) => expunge::expunge(self, Some(&set), title),
            Command::Search { uid, search } => search::search(self, tag, uid, &search).await?,
            Command::Fetch { uid, set, items } => fetch::fetch(self, uid, &set, &items).await?,
            Command::Store { uid, set, store } => store::store(self, uid, &set, &store).await?,
            Command::Copy { uid, set, mailbox } => copy::copy(self, uid, &set, &mailbox),
            Command::Move { uid, set, mailbox } => copy::r#move(self, uid, &set, &mailbox),
        })
    }

    /// Tells the client what has happened in the selected mailbox.
    pub fn news(&mut self, news: News) {
        let Some(view) = &mut self.selected else { return };
        let mut out = Vec::new();
        match view.news(&mut out, news) {
            Ok(false) => {}
            Ok(true) => {
                // Its UIDs mean something else now: the client has to begin anew.
                out.extend_from_slice(b"* OK [CLOSED] UIDVALIDITY changed, mailbox closed.\r\n");
                self.selected = None;
            }
            Err(StoreError::NoMailbox(_)) => self.doomed = Some(End::MailboxDeleted),
            Err(error) => {
                let _ = self.refused(&error);
            }
        }
        self.line.put(&out);
    }

    /// The answer to a failure in the store, which is logged where an operator has to act.
    pub fn refused(&self, error: &StoreError) -> Reply {
        reply::refusal(error, |text| {
            tracing::error!(target: "mail", ident = "dovecot", "{}Error: {text}", self.prefix());
        })
    }

    fn answer(&mut self, tag: &str, reply: &Reply, started: Instant) {
        let text = reply.line(tag, started.elapsed());
        self.line.put(text.as_bytes());
    }

    /// Answers, from a command that reads more than its line.
    pub fn finish(&mut self, tag: &str, name: &str, reply: &Reply, started: Instant) {
        self.answer(tag, reply, started);
        self.last = Some((name.to_owned(), Instant::now()));
    }

    pub fn mistake(&mut self, mistake: &Mistake, started: Instant) -> Result<(), End> {
        self.mistakes += 1;
        if self.mistakes >= MOST_MISTAKES {
            return Err(End::TooManyMistakes);
        }
        let seconds = started.elapsed().as_secs_f64().max(0.001);
        self.line.line(&format!("{} ({seconds:.3} + 0.000 secs).", mistake.answer()));
        Ok(())
    }

    /// `mail_log_prefix`
    #[must_use]
    pub fn prefix(&self) -> String {
        let user = login::log::printable(&self.user.user);
        let pid = std::process::id().to_string();
        let prefix = self.settings.log_prefix.replace("%{session}", &self.user.facts.session);
        prefix.replace("%{pid}", &pid).replace("%s", "imap").replace("%u", &user)
    }

    fn log_end(&self, end: &End) {
        let reason = match (&self.last, end) {
            (None, End::Closed) => "Connection closed (No commands sent)".to_owned(),
            (Some((name, at)), End::Closed) => {
                let ago = at.elapsed().as_secs_f64();
                format!("Connection closed ({name} finished {ago:.3} secs ago)")
            }
            _ => end.reason(),
        };
        let counts = self.counts;
        let mut text = self.settings.logout_format.clone();
        for (name, value) in [
            ("%{input}", self.line.received),
            ("%{output}", self.line.sent),
            ("%{deleted}", counts.deleted),
            ("%{expunged}", counts.expunged),
            ("%{trashed}", counts.trashed),
            ("%{fetch_hdr_count}", counts.header_count),
            ("%{fetch_hdr_bytes}", counts.header_bytes),
            ("%{fetch_body_count}", counts.body_count),
            ("%{fetch_body_bytes}", counts.body_bytes),
            ("%i", self.line.received),
            ("%o", self.line.sent),
        ] {
            text = text.replace(name, &value.to_string());
        }
        tracing::info!(
            target: "mail",
            ident = "dovecot",
            session = %self.user.facts.session,
            user = %login::log::printable(&self.user.user),
            "{}Disconnected: {reason} {text}",
            self.prefix()
        );
    }
}

/// Commands that Dovecot looks at before it asks for a mailbox.
fn lacks_arguments(line: &CommandLine<'_>) -> bool {
    let early = ["COPY", "MOVE", "UID COPY", "UID MOVE", "UID EXPUNGE", "UID CHECK", "UID CLOSE"];
    let mistake = line.command().err();
    early.contains(&line.name.as_str())
        && mistake.is_some_and(|mistake| {
            matches!(&*mistake.problem, "Missing arguments" | "Unknown command")
        })
}
