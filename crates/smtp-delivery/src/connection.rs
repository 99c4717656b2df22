//! One connection: lines out, replies in, with a time limit for each, and the sessions of [`crate::session`] driven over it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::Wire;
use daemon::tls::client::{Problem, Shown, Wish};
use daemon::wire::{LineEnd, Pipelined, WireError};
use neighbours::postmaster::{Class, History};
use protocol::smtp::{ReceivedReply, ReplyReader, printable};
use routing::{Key, Maps};
use tables::Set;

use crate::policy::{Destination, Level};
use crate::session::{Features, Server};

/// Postfix's `line_length_limit`: longer reply lines are cut.
const LONGEST_LINE: usize = 2048;
/// A whole reply may take so many times the limit for one read; then the server plays with us.
const PATIENCE: u32 = 4;
/// What stands for "no limit".
const FOREVER: Duration = Duration::from_secs(24 * 3600);

/// Why the conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The server has gone, or speaks no SMTP.
    Lost,
    TimedOut,
    /// On our side: a table or a queue file.
    Local,
}

impl From<WireError> for Broken {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Timeout => Self::TimedOut,
            _ => Self::Lost,
        }
    }
}

/// An open connection and everything known of it.
pub struct Connection {
    pub server: Server,
    wire: Wire,
    pub features: Features,
    /// Lines for the log that no message owns.
    pub notes: Vec<String>,
    /// What was said, and what was wrong with it.
    pub history: History,
    /// What the server showed, once there is TLS.
    pub shown: Option<Shown>,
    /// The certificate is what the policy wants.
    pub matched: bool,
    /// The level under which it was opened.
    pub level: Level,
    pub authenticated: bool,
    /// A match proves less: the way to the host was not validated.
    pub half: bool,
    /// Among the best of its domain.
    pub best: bool,
    /// Messages it has served before this one.
    pub used: i32,
    /// Until when it may be kept for others; nothing: not at all.
    pub keep_until: Option<Instant>,
    /// The server is no good: not to be kept, and its destination waits.
    pub throttled: bool,
    /// Not one more byte: the other side may be anywhere.
    pub forbidden: bool,
    broken: bool,
    filter: Option<ReplyFilter>,
}

/// `smtp_reply_filter`: other words for what a server says.
#[derive(Clone)]
pub struct ReplyFilter {
    pub tables: Arc<Set>,
    pub maps: Maps,
}

impl Connection {
    pub fn new(wire: Wire, server: Server) -> Self {
        Self {
            server,
            wire,
            features: Features::default(),
            notes: Vec::new(),
            history: History::default(),
            shown: None,
            matched: false,
            level: Level::None,
            authenticated: false,
            half: false,
            best: false,
            used: 0,
            keep_until: None,
            throttled: false,
            forbidden: false,
            broken: false,
            filter: None,
        }
    }

    #[must_use]
    pub fn filtered(mut self, filter: Option<ReplyFilter>) -> Self {
        self.filter = filter;
        self
    }

    /// The server has broken the protocol: the postmaster may want to know, and no other message comes this way.
    pub fn out_of_protocol(&mut self) {
        self.history.wrong.add(Class::Protocol);
        self.keep_until = None;
    }

    /// Good for another message.
    pub fn is_kept(&self) -> bool {
        self.keep_until.is_some() && !self.forbidden && !self.throttled && !self.broken
    }

    /// Something may still be said.
    pub fn is_usable(&self) -> bool {
        !self.forbidden && !self.broken
    }

    pub fn queued(&self) -> usize {
        self.wire.queued()
    }

    /// Queues a line; it goes out with the next read.
    pub fn say(&mut self, line: &str) {
        self.history.said(line);
        self.send_line(line);
    }

    /// Queues a line that nobody else shall read; `shown` stands for it.
    pub fn say_secret(&mut self, line: &str, shown: &str) {
        self.history.said(shown);
        self.send_line(line);
    }

    fn send_line(&mut self, line: &str) {
        self.wire.queue(line.as_bytes());
        self.wire.queue(b"\r\n");
    }

    fn limit(&mut self, limit: Duration) -> Duration {
        let limit = if limit.is_zero() { FOREVER } else { limit };
        self.wire.set_timeout(limit);
        limit
    }

    /// Sends what is queued and reads one reply.
    pub async fn reply(&mut self, limit: Duration) -> Result<ReceivedReply, Broken> {
        let limit = self.limit(limit);
        let read = tokio::time::timeout(limit.saturating_mul(PATIENCE), self.read()).await;
        let read = read.unwrap_or(Err(Broken::TimedOut));
        self.broken |= read.as_ref().is_err_and(|broken| *broken != Broken::Local);
        read
    }

    async fn read(&mut self) -> Result<ReceivedReply, Broken> {
        let mut reader = ReplyReader::default();
        let mut kept = 0;
        loop {
            let line = self.wire.line(LONGEST_LINE).await?.ok_or(Broken::Lost)?;
            if line.end == LineEnd::TooLong {
                let start: String = String::from_utf8_lossy(&line.bytes).chars().take(30).collect();
                let server = self.server.full();
                self.notes.push(format!(
                    "warning: {server}: response longer than {LONGEST_LINE}: {start}..."
                ));
            }
            let keeps = kept < LONGEST_LINE;
            kept += line.bytes.len() + 1;
            if keeps {
                self.history.heard(&printable(&line.bytes));
            }
            let replaced = self.replaced(&line.bytes).await?;
            if let Some(new) = replaced.as_ref().filter(|_| keeps) {
                self.history.noted("Replaced-by: ");
                self.history.noted(&format!("     {new}"));
            }
            match reader.line(replaced.as_deref().map_or(&*line.bytes, str::as_bytes)) {
                Ok(Some(reply)) => {
                    if reply.garbage > 0 {
                        self.out_of_protocol();
                        if self.features.pipelining {
                            let (server, text) = (self.server.full(), reply.one_line());
                            let text: String = text.chars().take(100).collect();
                            self.notes
                                .push(format!("warning: non-ESMTP response from {server}: {text}"));
                        }
                    }
                    return Ok(reply);
                }
                Ok(None) => {}
                Err(error) => {
                    self.notes.push(format!("warning: {}: {error}", self.server.full()));
                    return Err(Broken::Lost);
                }
            }
        }
    }

    async fn replaced(&mut self, line: &[u8]) -> Result<Option<String>, Broken> {
        let Some(filter) = &self.filter else { return Ok(None) };
        let line = printable(line);
        match filter.maps.find(&filter.tables, &line, Key::Whole).await {
            Ok(Some(new)) => {
                let server = self.server.full();
                self.notes
                    .push(format!("{server}: replacing server reply \"{line}\" with \"{new}\""));
                Ok(Some(new))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                self.notes.push(format!("warning: {error}"));
                Err(Broken::Local)
            }
        }
    }

    /// Sends a piece of the content.
    pub async fn content(&mut self, octets: &[u8], limit: Duration) -> Result<(), Broken> {
        self.limit(limit);
        let sent = self.wire.send(octets).await.map_err(Broken::from);
        if sent.is_err() {
            self.wire.forget_output();
        }
        sent
    }

    /// Sends what is queued, without waiting for an answer.
    pub async fn flush(&mut self, limit: Duration) {
        self.limit(limit);
        let _ = self.wire.flush().await;
    }

    /// Shakes hands. Afterwards `shown` tells what the certificate is worth; `matched` is for the caller to set.
    pub async fn start_tls(
        &mut self,
        wish: &Wish,
        destination: &Destination,
        limit: Duration,
    ) -> Result<(), Broken> {
        self.limit(limit);
        match self.wire.start_tls_client(wish).await {
            Ok((pipelined, shown)) => {
                if let Pipelined::Discarded(count) = pipelined {
                    let server = self.server.full();
                    self.notes.push(format!(
                        "warning: {server}: {count} bytes in front of the TLS handshake discarded"
                    ));
                }
                self.level = destination.level;
                self.half = destination.half;
                self.note_tls(destination, &shown);
                self.shown = Some(shown);
                Ok(())
            }
            Err(error) => {
                let server = self.server.full();
                let why = match &error {
                    WireError::Timeout => "Connection timed out".to_owned(),
                    other => other.to_string(),
                };
                self.notes.push(format!("SSL_connect error to {server}: {why}"));
                self.broken = true;
                self.forbidden = true;
                Err(error.into())
            }
        }
    }

    fn note_tls(&mut self, destination: &Destination, shown: &Shown) {
        let server = self.server.full();
        if destination.level > Level::DaneOnly && !shown.trusted {
            match &shown.problem {
                Some(Problem::Chain(why)) => {
                    self.notes.push(format!("certificate verification failed for {server}: {why}"))
                }
                Some(Problem::Server(why)) => self
                    .notes
                    .push(format!("server certificate verification failed for {server}: {why}")),
                None => {}
            }
        }
    }

    /// The line that `smtp_tls_loglevel = 1` asks for.
    pub fn tls_summary(&self) -> Option<String> {
        let (shown, facts) = (self.shown.as_ref()?, self.wire.tls()?);
        let worth = match () {
            () if shown.certificate.is_empty() => "Anonymous",
            () if self.matched && self.half => "Trusted",
            () if self.matched => "Verified",
            // Where the certificate must be right, a wrong name is as bad as an unknown authority.
            () if shown.trusted && !self.level.must_match() => "Trusted",
            () => "Untrusted",
        };
        let mut line = format!(
            "{worth} TLS connection established to {}: {} with cipher {} ({bits}/{bits} bits)",
            self.server.full(),
            facts.version,
            facts.cipher,
            bits = facts.bits
        );
        if facts.version == "TLSv1.3"
            && let Some(group) = &facts.key_exchange
        {
            let group = match group.strip_prefix("P-") {
                Some(_) => format!("ECDHE ({group})"),
                None => group.clone(),
            };
            line.push_str(&format!(" key-exchange {group}"));
            if let Some(signature) = &shown.signature {
                line.push_str(&format!(" server-signature {signature}"));
            }
        }
        Some(line)
    }

    pub async fn close(self) {
        self.wire.close().await;
    }
}
