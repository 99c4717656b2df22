//! A session's connection: commands in, answers out, both counted and bounded.

use std::time::Duration;

use daemon::{Wire, WireError};
use protocol::imap::{Event, Framer, Limits};

/// What is composed before it is sent; a client that does not read holds up more.
const FULL: usize = 64 * 1024;

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    LoggedOut,
    Closed,
    Inactive,
    /// The client does not read.
    Stalled,
    LiteralTooLarge,
    TooManyMistakes,
    /// The worker has to finish.
    Stopping,
    /// Another process has deleted the selected mailbox.
    MailboxDeleted,
    /// A message could not be read to its end after its size had been announced.
    Broken(String),
}

impl End {
    /// What the log says of it.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::LoggedOut => "Logged out".to_owned(),
            Self::Closed => "Connection closed".to_owned(),
            Self::Inactive => "Inactivity - no input for 1800 secs".to_owned(),
            Self::Stalled => "Disconnected for inactivity in reading our output".to_owned(),
            Self::LiteralTooLarge => "Literal size too large".to_owned(),
            Self::TooManyMistakes => "Too many invalid IMAP commands.".to_owned(),
            Self::Stopping => "Server shutting down.".to_owned(),
            Self::MailboxDeleted => "Selected mailbox was deleted, have to disconnect.".to_owned(),
            Self::Broken(cause) => cause.clone(),
        }
    }

    /// What the client is told, when it still can be.
    #[must_use]
    pub fn goodbye(&self) -> Option<&'static str> {
        match self {
            Self::LoggedOut | Self::Closed | Self::Stalled | Self::Broken(_) => None,
            Self::Inactive => Some("* BYE Disconnected for inactivity.\r\n"),
            Self::LiteralTooLarge => Some("* BYE Literal size too large\r\n"),
            Self::TooManyMistakes => Some("* BYE Too many invalid IMAP commands.\r\n"),
            Self::MailboxDeleted => {
                Some("* BYE Selected mailbox was deleted, have to disconnect.\r\n")
            }
            Self::Stopping => Some("* BYE Server shutting down.\r\n"),
        }
    }
}

/// Both directions of one session.
pub struct Line {
    wire: Wire,
    framer: Framer,
    inactivity: Duration,
    stall: Duration,
    pub received: u64,
    pub sent: u64,
}

impl Line {
    #[must_use]
    pub fn new(wire: Wire, command_limit: usize, inactivity: Duration, stall: Duration) -> Self {
        let framer = Framer::new(Limits { command: command_limit, messages: true });
        Self { wire, framer, inactivity, stall, received: 0, sent: 0 }
    }

    /// The next event other than [`Event::More`] and [`Event::Continue`], which it answers.
    ///
    /// # Errors
    ///
    /// Why nothing more comes.
    pub async fn event(&mut self) -> Result<Event, End> {
        loop {
            let (taken, event) = self.framer.take(self.wire.buffer());
            self.wire.consume(taken);
            self.received += taken as u64;
            match event {
                Event::More => self.fill().await?,
                Event::Continue => {
                    self.put(b"+ OK\r\n");
                    self.flush().await?;
                }
                Event::LiteralTooLarge => return Err(End::LiteralTooLarge),
                event => return Ok(event),
            }
        }
    }

    /// A line that has come already, or `None`; for IDLE, which waits for other things too.
    #[must_use]
    pub fn event_at_hand(&mut self) -> Option<Event> {
        let (taken, event) = self.framer.take(self.wire.buffer());
        self.wire.consume(taken);
        self.received += taken as u64;
        (event != Event::More).then_some(event)
    }

    /// Waits for octets, after everything composed has been sent. Can be dropped and called again.
    ///
    /// # Errors
    ///
    /// Why nothing comes.
    pub async fn fill(&mut self) -> Result<(), End> {
        self.flush().await?;
        self.wire.set_timeout(self.inactivity);
        match self.wire.fill().await {
            Ok(0) => Err(End::Closed),
            Ok(_) => Ok(()),
            Err(WireError::Timeout) => Err(End::Inactive),
            Err(_) => Err(End::Closed),
        }
    }

    /// As [`Self::fill`], without a limit: for IDLE, whose client may be silent for long. Everything
    /// composed must have been sent.
    ///
    /// # Errors
    ///
    /// Why nothing comes.
    pub async fn fill_patiently(&mut self) -> Result<(), End> {
        self.wire.set_timeout(Duration::from_secs(24 * 3600));
        match self.wire.fill().await {
            Ok(0) => Err(End::Closed),
            Ok(_) => Ok(()),
            Err(WireError::Timeout) => Err(End::Inactive),
            Err(_) => Err(End::Closed),
        }
    }

    /// Up to `most` octets of a message that comes in.
    ///
    /// # Errors
    ///
    /// Why nothing more comes.
    pub async fn content(&mut self, most: u64) -> Result<Vec<u8>, End> {
        if self.wire.buffer().is_empty() {
            self.fill().await?;
        }
        let count = usize::try_from(most).unwrap_or(usize::MAX).min(self.wire.buffer().len());
        self.received += count as u64;
        Ok(self.wire.take(count).to_vec())
    }

    /// Adds to what will be sent.
    pub fn put(&mut self, bytes: &[u8]) {
        self.sent += bytes.len() as u64;
        self.wire.queue(bytes);
    }

    /// One line, with its end.
    pub fn line(&mut self, text: &str) {
        self.put(text.as_bytes());
        self.put(b"\r\n");
    }

    /// Sends if so much has been composed that it should not grow further.
    ///
    /// # Errors
    ///
    /// [`End::Stalled`], [`End::Closed`].
    pub async fn relieve(&mut self) -> Result<(), End> {
        if self.wire.queued() >= FULL { self.flush().await } else { Ok(()) }
    }

    /// # Errors
    ///
    /// [`End::Stalled`], [`End::Closed`].
    pub async fn flush(&mut self) -> Result<(), End> {
        self.wire.set_timeout(self.stall);
        self.wire.flush().await.map_err(|error| match error {
            WireError::Timeout => End::Stalled,
            _ => End::Closed,
        })
    }

    /// Sends the last words and closes.
    pub async fn close(mut self, last: Option<&'static str>) {
        if let Some(text) = last {
            self.wire.queue(text.as_bytes());
        }
        self.wire.set_timeout(Duration::from_secs(5));
        self.wire.close().await;
    }
}
