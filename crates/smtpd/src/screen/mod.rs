//! postscreen's place: what a client goes through before it may talk to the SMTP server, in the same process.
//!
//! [`progress`] knows the tests, [`dialogue`] the dialogue that leads nowhere; here are the socket, the clock and the log.

mod cache;
mod dialogue;
mod dnsbl;
mod progress;
pub mod settings;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use config::postfix::Pattern;
use daemon::{LineEnd, Wire, WireError};
use dns::Resolver;
use routing::{Key, TableName, Tables};

use crate::connection::log;
use crate::text::{cut, escaped, is_header_line};
use cache::Cache;
use dialogue::{Answer, Dialogue};
use dnsbl::Asking;
use progress::{NEW, Progress, Test};
use settings::{Access, Reaction, ScreenSettings};

/// One screened listener.
pub(crate) struct Screen<R> {
    settings: Arc<ScreenSettings>,
    tables: Arc<tables::Set>,
    dns: Arc<R>,
    cache: Option<Cache>,
    clients: Mutex<Clients>,
}

/// Who is being screened now.
#[derive(Default)]
struct Clients {
    screened: usize,
    stressed: bool,
    known: HashMap<IpAddr, Known>,
}

/// What the sessions of one client share.
#[derive(Default)]
struct Known {
    sessions: usize,
    expiry: progress::Expiry,
    blessed: bool,
}

/// A session that is counted until it is dropped.
pub(crate) struct Counted<R> {
    screen: Arc<Screen<R>>,
    client: IpAddr,
    /// Sessions of this client, and of all clients, with this one.
    sessions: usize,
    screened: usize,
    expiry: progress::Expiry,
}

impl<R> Drop for Counted<R> {
    fn drop(&mut self) {
        let screen = &self.screen;
        let mut clients = screen.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.screened = clients.screened.saturating_sub(1);
        let low = screen.settings.queue_limit * 7 / 10;
        if clients.stressed && clients.screened <= low {
            clients.stressed = false;
            let count = clients.screened;
            log(&screen.settings.ident, &format!("leaving STRESS mode with {count} connections"));
        }
        if let Some(known) = clients.known.get_mut(&self.client) {
            known.sessions -= 1;
            if known.sessions == 0 {
                clients.known.remove(&self.client);
            }
        }
    }
}

/// One client on its way.
struct Session<'a, R> {
    screen: &'a Screen<R>,
    wire: &'a mut Wire,
    client: IpAddr,
    /// `[address]:port`
    shown: String,
    progress: Progress,
    counted: &'a Counted<R>,
}

/// How a session ends.
enum End {
    /// On to the SMTP server.
    Forward,
    /// With these words.
    Say(String),
    /// The client has gone, in these tests, which began then.
    HangUp(&'static str, Instant),
}

const BEFORE: &str = "tests before SMTP handshake";
const AFTER: &str = "tests after SMTP handshake";

impl<R: Resolver> Screen<R> {
    pub(crate) fn new(settings: ScreenSettings, tables: Arc<tables::Set>, dns: Arc<R>) -> Self {
        let cache = settings.cache.as_deref().map(Cache::open);
        Self { settings: Arc::new(settings), tables, dns, cache, clients: Mutex::default() }
    }

    /// May this client talk to the SMTP server? If not, it has been told.
    pub(crate) async fn admits(
        counted: &Counted<R>,
        wire: &mut Wire,
        client: SocketAddr,
        local: Option<SocketAddr>,
    ) -> bool {
        let (screen, address) = (&*counted.screen, counted.client);
        let shown = format!("[{address}]:{}", client.port());
        let to = local.map_or_else(
            || "[unknown]:unknown".to_owned(),
            |local| format!("[{}]:{}", local.ip().to_canonical(), local.port()),
        );
        log(&screen.settings.ident, &format!("CONNECT from {shown} to {to}"));
        let progress = Progress::default();
        let mut session = Session { screen, wire, client: address, shown, progress, counted };
        let end = match session.run(local.map(|local| local.ip().to_canonical())).await {
            Ok(end) => end,
            Err(_) => End::HangUp(AFTER, Instant::now()),
        };
        session.conclude(end).await
    }

    /// Writes the cache, at the end of the worker.
    pub(crate) async fn close(&self) {
        self.save(true).await;
    }

    async fn save(&self, now: bool) {
        let Some(cache) = &self.cache else { return };
        if let Err(error) = cache.save(now, self.oldest()).await {
            log(&self.settings.ident, &format!("warning: cache of passed clients: {error}"));
        }
    }

    fn oldest(&self) -> u64 {
        seconds().saturating_sub(self.settings.retention.as_secs())
    }

    /// Counts a client, at its acceptance: so the one that is too many is the last.
    pub(crate) fn count(self: &Arc<Self>, client: SocketAddr) -> Counted<R> {
        let client = client.ip().to_canonical();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.screened += 1;
        let high = self.settings.queue_limit * 9 / 10;
        if !clients.stressed && high > 0 && clients.screened >= high {
            clients.stressed = true;
            let count = clients.screened;
            log(&self.settings.ident, &format!("entering STRESS mode with {count} connections"));
        }
        let known = clients.known.entry(client).or_default();
        known.sessions += 1;
        let (sessions, expiry) = (known.sessions, known.expiry);
        let screened = clients.screened;
        Counted { screen: Arc::clone(self), client, sessions, screened, expiry }
    }

    fn is_stressed(&self) -> bool {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).stressed
    }

    /// `postscreen_access_list`; a table that fails says nothing.
    async fn access(&self, client: IpAddr) -> Option<bool> {
        let key = client.to_string();
        for step in &self.settings.access {
            match step {
                Access::Permit => return Some(true),
                Access::Reject => return Some(false),
                Access::Dunno => return None,
                Access::PermitMynetworks => {
                    let held = self.settings.networks.holds(&*self.tables, "unknown", Some(client));
                    match held.await {
                        Ok(true) => return Some(true),
                        Ok(false) => {}
                        Err(error) => self.warn(&error.to_string()),
                    }
                }
                Access::Table(table) => {
                    match self
                        .tables
                        .lookup(table, &key, Key::Whole)
                        .await
                        .map(|found| found.map(|value| value.trim().to_ascii_lowercase()))
                    {
                        Ok(Some(value)) => match value.as_str() {
                            "permit" => return Some(true),
                            "reject" => return Some(false),
                            "dunno" => return None,
                            "permit_mynetworks" => {}
                            other => self.warn(&format!(
                                "unknown command in postscreen access list: {other}"
                            )),
                        },
                        Ok(None) => {}
                        Err(error) => self.warn(&error.to_string()),
                    }
                }
            }
        }
        None
    }

    fn warn(&self, text: &str) {
        log(&self.settings.ident, &format!("warning: {text}"));
    }
}

impl<R: Resolver> Session<'_, R> {
    fn log(&self, line: &str) {
        log(&self.screen.settings.ident, line);
    }

    async fn run(&mut self, local: Option<IpAddr>) -> Result<End, WireError> {
        let settings = Arc::clone(&self.screen.settings);
        if settings.client_limit > 0 && self.counted.sessions > settings.client_limit {
            self.log(&format!(
                "NOQUEUE: reject: CONNECT from {}: too many connections",
                self.shown
            ));
            self.progress.kept_out = true;
            return Ok(End::Say("421 4.7.0 Error: too many connections".to_owned()));
        }
        let denied = match self.screen.access(self.client).await {
            Some(true) => {
                let word = if settings.respectful { "ALLOW" } else { "WHITE" };
                self.log(&format!("{word}LISTED {}", self.shown));
                return Ok(End::Forward);
            }
            Some(false) => {
                let word = if settings.respectful { "DENY" } else { "BLACK" };
                self.log(&format!("{word}LISTED {}", self.shown));
                if settings.deny == Reaction::Drop {
                    self.progress.kept_out = true;
                    return Ok(End::Say("521 5.3.2 Service currently unavailable".to_owned()));
                }
                settings.deny == Reaction::Enforce
            }
            None => false,
        };
        if self.begin(denied) {
            return Ok(End::Forward);
        }
        let veto = match local {
            Some(local) => {
                let list = &settings.allow_interfaces;
                !list.holds(&*self.screen.tables, "unknown", Some(local)).await.unwrap_or(false)
            }
            None => false,
        };
        if veto {
            self.progress.bar();
            let word = if settings.respectful { "ALLOW" } else { "WHITE" };
            self.log(&format!("{word}LIST VETO {}", self.shown));
        }
        let stressed = self.screen.is_stressed();
        if settings.queue_limit > 0 && self.counted.screened >= settings.queue_limit {
            self.log(&format!("reject: connect from {}: all screening ports busy", self.shown));
            self.progress.kept_out = true;
            return Ok(End::Say("421 4.3.2 All screening ports are busy".to_owned()));
        }
        if self.progress.has_early()
            && let Some(end) = self.early(&settings, stressed).await?
        {
            return Ok(end);
        }
        if self.progress.needs_dialogue() {
            return self.converse(&settings, stressed).await;
        }
        Ok(End::Forward)
    }

    /// What is to be done. A client that has passed everything goes on at once.
    fn begin(&mut self, denied: bool) -> bool {
        let settings = &self.screen.settings;
        let now = seconds();
        let cached = self.screen.cache.as_ref().filter(|_| !denied && self.counted.sessions == 1);
        let cached = cached.and_then(|cache| cache.get(self.client));
        self.progress = match cached {
            Some(expiry) => Progress::begin(settings, expiry, now),
            None if self.counted.sessions > 1 => {
                Progress::begin(settings, self.counted.expiry, now)
            }
            None => Progress::begin(settings, [NEW; 5], NEW + 1),
        };
        if denied {
            self.progress.deny(settings.deny, "550 5.3.2 Service currently unavailable");
        }
        self.remember();
        if cached.is_some() && self.progress.is_clear() {
            self.log(&format!("PASS OLD {}", self.shown));
            return true;
        }
        false
    }

    /// Other sessions of this client see what this one knows.
    fn remember(&self) {
        let mut clients = self.screen.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = clients.known.get_mut(&self.client) {
            known.expiry = self.progress.expiry;
        }
    }

    /// The greeting that waits, and the DNS lists beside it.
    async fn early(
        &mut self,
        settings: &Arc<ScreenSettings>,
        stressed: bool,
    ) -> Result<Option<End>, WireError> {
        let begun = Instant::now();
        let gone = || Ok(Some(End::HangUp(BEFORE, begun)));
        if self.progress.is_todo(Test::Greet) {
            self.wire.queue(format!("220-{}\r\n", settings.greet_banner).as_bytes());
            if self.wire.flush().await.is_err() {
                return gone();
            }
        }
        let wait = if stressed { settings.greet_wait_stressed } else { settings.greet_wait };
        let mut asking = self
            .progress
            .is_todo(Test::Dnsbl)
            .then(|| Asking::begin(settings, &self.screen.dns, self.client));
        let (mut listening, mut pending) = (self.progress.is_todo(Test::Greet), asking.is_some());
        let deadline = tokio::time::sleep(wait);
        tokio::pin!(deadline);
        while listening || pending {
            tokio::select! {
                () = &mut deadline => break,
                read = self.wire.fill(), if listening => {
                    listening = false;
                    if !matches!(read, Ok(count) if count > 0) {
                        return gone();
                    }
                    if self.spoke_too_early(settings, begun) {
                        return Ok(Some(End::Say("521 5.5.1 Protocol error".to_owned())));
                    }
                }
                () = finished(&mut asking), if pending => {
                    pending = false;
                    if let Some(asking) = &asking && self.good_score(settings, asking) {
                        listening = false;
                    }
                }
            }
        }
        let now = seconds();
        if self.progress.is_todo(Test::Greet)
            && !self.progress.failed(Test::Greet)
            && !self.progress.is_passed(Test::Greet)
            && self.wire.buffer().is_empty()
        {
            self.progress.passed(Test::Greet, now + settings.greet.ttl.as_secs());
        }
        Ok(asking.and_then(|asking| self.judge(settings, &asking, now)))
    }

    /// `PREGREET`; whether that is the end.
    fn spoke_too_early(&mut self, settings: &ScreenSettings, begun: Instant) -> bool {
        let said = self.wire.buffer();
        let (count, shown) = (said.len(), escaped(said));
        let after = elapsed(begun);
        let shown = cut(&shown, 100);
        self.log(&format!("PREGREET {count} after {after} from {}: {shown}", self.shown));
        let reaction = settings.greet.reaction;
        self.progress.failed_early(Test::Greet, reaction, "550 5.5.1 Protocol error");
        reaction == Reaction::Drop
    }

    /// A score at or below the allow threshold passes the other tests as well.
    fn good_score(&mut self, settings: &ScreenSettings, asking: &Asking) -> bool {
        let (dnsbl, score) = (&settings.dnsbl, asking.score());
        let good = !self.progress.has_failed()
            && dnsbl.allow_threshold < 0
            && score.total < dnsbl.threshold
            && score.total <= dnsbl.allow_threshold;
        if good {
            let ttl = score.ttl(dnsbl.min_ttl, dnsbl.max_ttl);
            self.progress.pass_all_but_dnsbl(seconds() + ttl.as_secs());
        }
        good
    }

    fn judge(&mut self, settings: &ScreenSettings, asking: &Asking, now: u64) -> Option<End> {
        self.good_score(settings, asking);
        let (dnsbl, score) = (&settings.dnsbl, asking.score());
        if score.total < dnsbl.threshold {
            let ttl = score.ttl(dnsbl.min_ttl, dnsbl.max_ttl);
            self.progress.passed(Test::Dnsbl, now + ttl.as_secs());
            return None;
        }
        self.log(&format!("DNSBL rank {} for {}", score.total, self.shown));
        let (client, list) = (self.client, score.name.unwrap_or_default());
        let words = |code| {
            format!("{code} 5.7.1 Service unavailable; client [{client}] blocked using {list}")
        };
        self.progress.failed_early(Test::Dnsbl, dnsbl.reaction, &words(550));
        (dnsbl.reaction == Reaction::Drop).then(|| End::Say(words(521)))
    }

    /// The dialogue that leads nowhere.
    async fn converse(
        &mut self,
        settings: &ScreenSettings,
        stressed: bool,
    ) -> Result<End, WireError> {
        let begun = Instant::now();
        let gone = || Ok(End::HangUp(AFTER, begun));
        self.progress.begin_deep();
        self.progress.kept_out = true;
        if !self.progress.failed(Test::Greet) {
            self.wire.queue(format!("220 {}\r\n", settings.banner).as_bytes());
        }
        let limit = if stressed { settings.command_time_stressed } else { settings.command_time };
        self.wire.set_timeout(limit);
        let shown = self.shown.clone();
        let mut dialogue = Dialogue::new(settings, &shown, &mut self.progress);
        loop {
            if self.wire.flush().await.is_err() {
                return gone();
            }
            let line = match tokio::time::timeout(limit, self.wire.line(settings.line)).await {
                Ok(Ok(Some(line))) => line,
                Err(_) | Ok(Err(WireError::Timeout)) => {
                    let place = dialogue.place;
                    log(&settings.ident, &format!("COMMAND TIME LIMIT from {shown} after {place}"));
                    let host = &settings.host;
                    return Ok(End::Say(format!("421 4.4.2 {host} Error: timeout exceeded")));
                }
                Ok(Ok(None) | Err(_)) => return gone(),
            };
            if line.end == LineEnd::TooLong {
                let place = dialogue.place;
                log(&settings.ident, &format!("COMMAND LENGTH LIMIT from {shown} after {place}"));
                return Ok(End::Say(dialogue.unavailable()));
            }
            let text = String::from_utf8_lossy(&line.bytes);
            let (word, _) = dialogue::split(&text);
            let forbidden = is_header_line(word)
                || std::str::from_utf8(&line.bytes).is_err()
                || is_forbidden(settings, &self.screen.tables, word).await;
            let bare = line.end == LineEnd::Lf;
            let answer = dialogue.command(&text, bare, self.wire.buffer(), forbidden, seconds());
            dialogue.log.drain(..).for_each(|line| log(&settings.ident, &line));
            match answer {
                Answer::Reply(reply) => self.wire.queue(format!("{reply}\r\n").as_bytes()),
                Answer::Last(reply) => return Ok(End::Say(reply)),
            }
        }
    }

    /// Says and keeps what has come out; whether the client goes on.
    async fn conclude(self, end: End) -> bool {
        if let End::HangUp(tests, begun) = &end {
            let after = elapsed(*begun);
            self.log(&format!("HANGUP after {after} from {} in {tests}", self.shown));
        }
        self.remember();
        if self.progress.is_blessed() {
            let old = {
                let clients = &self.screen.clients;
                let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
                let known = clients.known.entry(self.client).or_default();
                !self.progress.new || std::mem::replace(&mut known.blessed, true)
            };
            self.log(&format!("PASS {} {}", if old { "OLD" } else { "NEW" }, self.shown));
        }
        if let (Some(cache), Some(expiry)) =
            (&self.screen.cache, self.progress.to_keep(&self.screen.settings))
        {
            cache.put(self.client, expiry, self.screen.oldest());
            self.screen.save(false).await;
        }
        match end {
            End::Forward => return true,
            End::Say(reply) => {
                self.wire.queue(format!("{reply}\r\n").as_bytes());
                let _ = tokio::time::timeout(Duration::from_secs(5), self.wire.flush()).await;
            }
            End::HangUp(..) => {}
        }
        self.log(&format!("DISCONNECT {}", self.shown));
        false
    }
}

async fn finished(asking: &mut Option<Asking>) {
    if let Some(asking) = asking {
        asking.finished().await;
    }
}

/// A word of `postscreen_forbidden_commands`; a table that fails says nothing.
async fn is_forbidden(settings: &ScreenSettings, tables: &tables::Set, word: &str) -> bool {
    for item in &settings.forbidden_commands {
        let hit = match &item.pattern {
            Pattern::Text(text) => text.eq_ignore_ascii_case(word),
            Pattern::Table(table) => {
                let table = TableName::new(table.to_string());
                tables.lookup(&table, word, Key::Whole).await.is_ok_and(|found| found.is_some())
            }
            Pattern::Network(_) | Pattern::File(_) => false,
        };
        if hit {
            return !item.negated;
        }
    }
    false
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Two significant digits, at most two decimals.
fn elapsed(begun: Instant) -> String {
    let time = begun.elapsed().as_secs_f64();
    let text = if time < 10.0 {
        format!("{time:.*}", if time < 1.0 { 2 } else { 1 })
    } else {
        format!("{time:.0}")
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}
