//! Serves one LMTP client: read, step, act.

use std::sync::Arc;
use std::time::Duration;

use daemon::{Connection, LineEnd, Peer, Tls, Wire, WireError, Worker};
use neighbours::userdb::{Lookup, Userdb};
use protocol::smtp::{Chunk, Content, Ending, Event};

use crate::lmtp::delivery::Delivery;
use crate::lmtp::id;
use crate::lmtp::session::{Action, Session, Tls as Offer};
use crate::lmtp::settings::LmtpSettings;
use crate::lmtp::spool::Spool;
use crate::lmtp::user;

/// The longest command line.
const LINE: usize = 4096;
/// The longest piece of a content line that is looked at together.
const CONTENT_LINE: usize = 64 * 1024;
/// Postfix keeps idle connections for a while; Dovecot gives up after five minutes.
const PATIENCE: Duration = Duration::from_secs(300);

/// What connections share.
#[derive(Clone)]
pub struct Server {
    pub worker: Worker,
    pub settings: Arc<LmtpSettings>,
    pub userdb: Userdb,
    pub tls: Option<Tls>,
}

struct Client {
    server: Server,
    wire: Wire,
    session: Session,
    id: String,
    /// `local`, or the peer's address.
    name: String,
    /// Content of chunks that have come.
    chunks: Option<(Chunk, Spool)>,
}

/// Why a conversation is over, in Dovecot's words.
const LOGGED_OUT: &str = "Logged out";

impl Server {
    pub async fn serve(self, connection: Connection) {
        let mut wire = Wire::from(connection);
        wire.set_timeout(PATIENCE);
        let name = match wire.peer() {
            Some(peer @ Peer::Tcp(_)) => {
                peer.address().map_or_else(String::new, |address| address.ip().to_string())
            }
            _ => "local".to_owned(),
        };
        let settings = Arc::clone(&self.settings);
        let offer = if self.tls.is_some() { Offer::Offered } else { Offer::Absent };
        let session = Session::new(&settings.hostname, &settings.recipient_delimiter, offer);
        let id = id::new(&settings.hostname);
        let mut client = Client { server: self, wire, session, id, name, chunks: None };
        client.log(&format!("Connect from {}", client.name));
        let reason = match client.converse().await {
            Ok(()) => LOGGED_OUT.to_owned(),
            Err(WireError::Timeout) => "Timeout".to_owned(),
            Err(error) => format!("Connection closed: {error}"),
        };
        let (name, state) = (&client.name, client.session.state());
        client.log(&format!("Disconnect from {name}: {reason} (state={state})"));
    }
}

impl Client {
    fn log(&self, text: &str) {
        let (ident, pid) = (&self.server.settings.ident, std::process::id());
        tracing::info!(target: "mail", ident = %ident, "lmtp({pid}): {text}");
    }

    async fn converse(&mut self) -> Result<(), WireError> {
        let settings = Arc::clone(&self.server.settings);
        let banner = format!("220 {} {}\r\n", settings.hostname, settings.greeting);
        self.wire.send(banner.as_bytes()).await?;
        loop {
            // One write for all that was pipelined.
            let line = match self.wire.buffered_line(LINE)? {
                Some(line) => line,
                None => {
                    self.wire.flush().await?;
                    let finishing = self.server.worker.finishing();
                    let line = tokio::select! {
                        line = self.wire.line(LINE) => line?,
                        _ = finishing, if self.session.state() == "READY" => {
                            let bye = format!("421 4.3.2 {} Shutting down\r\n", settings.hostname);
                            return self.wire.send(bye.as_bytes()).await;
                        }
                    };
                    match line {
                        Some(line) => line,
                        None => {
                            return Err(WireError::Io(std::io::ErrorKind::UnexpectedEof.into()));
                        }
                    }
                }
            };
            if line.end == LineEnd::TooLong {
                self.wire.queue(b"500 5.5.2 Line too long\r\n");
                continue;
            }
            let line = String::from_utf8_lossy(&line.bytes).into_owned();
            let action = self.session.command(&line);
            if self.act(action).await? {
                return self.wire.flush().await;
            }
        }
    }

    /// Does what the session asks for; `true` ends the connection.
    async fn act(&mut self, action: Action) -> Result<bool, WireError> {
        match action {
            Action::Reply(text) => self.wire.queue(text.as_bytes()),
            Action::Close(text) => {
                self.wire.queue(text.as_bytes());
                return Ok(true);
            }
            Action::LookUp(address) => {
                let server = &self.server;
                let lookup = Lookup { session: Some(self.id.clone()), ..Lookup::service("lmtp") };
                let (user, full) = (&address.user, &address.full);
                let found = user::find(&server.settings, &server.userdb, &lookup, user, full).await;
                let text = self.session.recipient(address, found);
                self.wire.queue(text.as_bytes());
            }
            Action::Data => self.data().await?,
            Action::Chunk { size, last, refused } => self.chunk(size, last, refused).await?,
            Action::StartTls => self.start_tls().await?,
        }
        Ok(false)
    }

    async fn start_tls(&mut self) -> Result<(), WireError> {
        let Some(tls) = self.server.tls.clone() else { return Ok(()) };
        self.wire.send(b"220 2.0.0 Begin TLS negotiation now.\r\n").await?;
        self.wire.start_tls(&tls).await?;
        self.session.secured();
        Ok(())
    }

    async fn data(&mut self) -> Result<(), WireError> {
        let mut spool = Spool::create(&self.server.settings.temporary);
        self.wire.send(b"354 OK\r\n").await?;
        let mut content = Content::new(CONTENT_LINE);
        loop {
            let (used, event) = content.next(self.wire.buffer());
            let more = matches!(event, Event::NeedMore);
            if let Event::Line(line, ending) = event
                && let Ok(spool) = &mut spool
            {
                push(spool, line, ending);
            }
            let end = matches!(event, Event::End);
            self.wire.consume(used);
            if let Ok(full) = &mut spool
                && full.is_full()
                && let Err(error) = full.flush()
            {
                spool = Err(error);
            }
            if end {
                break;
            }
            if more && self.wire.fill().await? == 0 {
                return Err(WireError::Io(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
        self.deliver(spool).await;
        Ok(())
    }

    async fn chunk(
        &mut self,
        size: u64,
        last: bool,
        refused: Option<String>,
    ) -> Result<(), WireError> {
        let mut fault = None;
        let (mut chunk, mut spool) = match (self.chunks.take(), &refused) {
            (Some((chunk, spool)), _) => (chunk, Some(spool)),
            (None, Some(_)) => (Chunk::new(CONTENT_LINE), None),
            (None, None) => match Spool::create(&self.server.settings.temporary) {
                Ok(spool) => (Chunk::new(CONTENT_LINE), Some(spool)),
                Err(error) => {
                    fault = Some(error);
                    (Chunk::new(CONTENT_LINE), None)
                }
            },
        };
        chunk.begin(size, last);
        loop {
            let (used, event) = chunk.next(self.wire.buffer());
            let (more, end) = (matches!(event, Event::NeedMore), matches!(event, Event::End));
            if let (Event::Line(line, ending), Some(spool)) = (event, &mut spool) {
                push(spool, line, ending);
            }
            self.wire.consume(used);
            if let Some(full) = &mut spool
                && full.is_full()
                && let Err(error) = full.flush()
            {
                fault = Some(error);
                spool = None;
            }
            if end {
                break;
            }
            if more && self.wire.fill().await? == 0 {
                return Err(WireError::Io(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
        match (refused, spool, fault) {
            (Some(reply), ..) => self.wire.queue(reply.as_bytes()),
            (None, Some(spool), _) if !last => {
                self.chunks = Some((chunk, spool));
                self.wire.queue(format!("250 2.0.0 {size} octets received\r\n").as_bytes());
            }
            (None, Some(spool), _) => self.deliver(Ok(spool)).await,
            (None, None, fault) => {
                let fault = fault.unwrap_or_else(|| std::io::ErrorKind::Other.into());
                self.deliver(Err(fault)).await;
            }
        }
        Ok(())
    }

    /// Ends the transaction with one reply for each recipient.
    async fn deliver(&mut self, spool: std::io::Result<Spool>) {
        let transaction = self.session.take_transaction();
        let spool = spool.and_then(|mut spool| spool.finish().map(|()| spool));
        let replies = match spool {
            Ok(spool) => {
                let delivery = Delivery {
                    worker: self.server.worker.clone(),
                    settings: Arc::clone(&self.server.settings),
                    id: self.id.clone(),
                    number: self.session.transactions,
                    client: self.session.client.clone(),
                    secure: self.wire.tls().is_some(),
                };
                delivery.run(transaction, &spool).await
            }
            Err(error) => {
                let (ident, pid) = (&self.server.settings.ident, std::process::id());
                tracing::error!(target: "mail", ident = %ident, "lmtp({pid}): Error: temporary file: {error}");
                let refuse = |recipient: &crate::lmtp::session::Recipient| {
                    format!("452 4.3.1 <{}> Insufficient disk space\r\n", recipient.address.full)
                };
                transaction.recipients.iter().map(refuse).collect()
            }
        };
        self.wire.queue(replies.as_bytes());
    }
}

/// A line with the end that it had; a CR of its own stays where it was.
fn push(spool: &mut Spool, line: &[u8], ending: Ending) {
    spool.push(line);
    match ending {
        Ending::Crlf | Ending::BareLf => spool.push(b"\r\n"),
        Ending::Continued | Ending::Nothing => {}
    }
}
