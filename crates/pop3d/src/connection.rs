//! Drives a session: reads commands, streams messages, logs the end as Dovecot does.

use crate::maildrop::Maildrop;
use crate::session::{Answer, Session};
use crate::settings::Settings;
use daemon::{LineEnd, Wire, WireError, Worker};
use login::arrival::Passenger;
use login::stopping;
use mail_types::Uid;
use mailstore::{DotLock, StoreError};
use protocol::pop3::{Stuffer, Workarounds};
use std::io::Read;
use std::pin::pin;
use std::time::{Duration, Instant};

/// Octets of a command line.
const LONGEST_COMMAND: usize = 4096;
/// Octets of a message that are prepared at once.
const PIECE: usize = 32 * 1024;
/// Octets of the line that ends a message.
const DOT: u64 = 3;
/// How often the session's lock is touched while the client is silent or does not read.
const TOUCH: Duration = Duration::from_secs(60);

/// How a session ends.
enum End {
    LoggedOut,
    Closed,
    Inactive(Duration),
    Stopping,
    /// For the log; the client has been told.
    Other(String),
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Timeout => Self::Other("Client has not read server output".to_owned()),
            _ => Self::Closed,
        }
    }
}

struct Connection {
    wire: Wire,
    session: Session,
    settings: Settings,
    worker: Option<Worker>,
    lock: Option<DotLock>,
    sent: u64,
    received: u64,
}

/// Serves a client that has logged in.
pub async fn serve(wire: Wire, settings: Settings, user: &Passenger, worker: Option<Worker>) {
    let prefix = prefix(&settings, user);
    let mut wire = wire;
    wire.set_timeout(settings.inactivity);
    let mut maildrop = match Maildrop::open(&settings, user) {
        Ok(maildrop) => maildrop,
        Err(error) => {
            tracing::error!(target: "mail", ident = "dovecot", "{prefix}Error: {error}");
            wire.queue(b"-ERR [SYS/TEMP] Internal error occurred. Refer to server log for more information.\r\n");
            wire.close().await;
            return;
        }
    };
    let lock = if settings.lock_session { maildrop.lock_session().map(Some) } else { Ok(None) };
    let session = Session::new(maildrop, &settings);
    let (lock, refused) = match lock {
        Ok(lock) => (lock, None),
        Err(error) => (None, Some(error)),
    };
    let mut connection = Connection { wire, session, settings, worker, lock, sent: 0, received: 0 };
    let end = match refused {
        Some(StoreError::Locked) => {
            connection.say("-ERR [IN-USE] Mailbox is locked by another POP3 session.\r\n");
            End::Other("Couldn't lock POP3 session".to_owned())
        }
        Some(error) => {
            tracing::error!(target: "mail", ident = "dovecot", "{prefix}Error: {error}");
            connection.say("-ERR [SYS/TEMP] Internal error occurred. Refer to server log for more information.\r\n");
            End::Other("Couldn't lock POP3 session".to_owned())
        }
        None => {
            connection.say("+OK Logged in.\r\n");
            connection.converse().await
        }
    };
    connection.finish(end, &prefix).await;
}

impl Connection {
    fn say(&mut self, text: &str) {
        self.sent += text.len() as u64;
        self.wire.queue(text.as_bytes());
    }

    async fn converse(&mut self) -> End {
        loop {
            match self.step().await {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
    }

    async fn step(&mut self) -> Result<(), End> {
        let line = self.line().await?;
        let answer = match self.session.command(&line) {
            Ok(answer) => answer,
            Err(error) => return Err(self.failed(&error)),
        };
        match answer {
            Answer::Say(text) => self.say(&text),
            Answer::Leave(text) => {
                self.say(&text);
                return Err(End::Other("Too many bad commands.".to_owned()));
            }
            Answer::Message { line, uid, lines } => self.message(&line, uid, lines).await?,
            Answer::Quit => {
                return match self.session.commit() {
                    Ok(text) => {
                        self.say(text);
                        Err(End::LoggedOut)
                    }
                    Err(error) => {
                        let _ = self.failed(&error);
                        Err(End::Other("Storage error during logout.".to_owned()))
                    }
                };
            }
        }
        if self.wire.queued() > PIECE {
            self.flush().await?;
        }
        Ok(())
    }

    /// Sends what is queued. However slowly the client reads, the session's lock stays fresh.
    async fn flush(&mut self) -> Result<(), WireError> {
        self.keep_lock();
        let mut flushed = pin!(self.wire.flush());
        loop {
            tokio::select! {
                flushed = &mut flushed => return flushed,
                () = tokio::time::sleep(TOUCH) => self.lock.iter_mut().for_each(DotLock::keep),
            }
        }
    }

    fn keep_lock(&mut self) {
        self.lock.iter_mut().for_each(DotLock::keep);
    }

    /// The next command; the answers to those before go out first.
    async fn line(&mut self) -> Result<Vec<u8>, End> {
        let line = match self.wire.buffered_line(LONGEST_COMMAND)? {
            Some(line) => line,
            None => {
                self.flush().await?;
                self.wait().await?
            }
        };
        self.received += line.bytes.len() as u64 + 2;
        if line.end == LineEnd::TooLong {
            self.say("-ERR Input line too long.\r\n");
            return Err(End::Other("Input line too long".to_owned()));
        }
        self.keep_lock();
        Ok(line.bytes.to_vec())
    }

    async fn wait(&mut self) -> Result<daemon::Line, End> {
        let since = Instant::now();
        let inactivity = self.settings.inactivity;
        loop {
            let left = inactivity.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Err(End::Inactive(inactivity));
            }
            let worker = self.worker.clone();
            tokio::select! {
                line = self.wire.line(LONGEST_COMMAND) => return match line {
                    Ok(Some(line)) => Ok(line),
                    Ok(None) => Err(End::Closed),
                    Err(WireError::Timeout) => Err(End::Inactive(inactivity)),
                    Err(error) => Err(error.into()),
                },
                () = tokio::time::sleep(left.min(TOUCH)) => self.keep_lock(),
                () = stopping(worker.as_ref()) => return Err(End::Stopping),
            }
        }
    }

    async fn message(&mut self, line: &str, uid: Uid, lines: Option<u64>) -> Result<(), End> {
        let mut file = match self.session.maildrop().open_message(uid) {
            Ok(file) => file,
            Err(StoreError::Expunged(_)) => {
                self.say("-ERR Message is expunged.\r\n");
                return Ok(());
            }
            Err(error) => return Err(self.failed(&error)),
        };
        self.say(line);
        let workarounds = Workarounds {
            no_nuls: self.settings.no_nuls,
            end_of_headers: self.settings.end_of_headers,
        };
        let mut stuffer = Stuffer::new(lines, workarounds);
        let mut piece = vec![0; PIECE];
        let mut out = Vec::with_capacity(PIECE + PIECE / 8);
        let mut octets = line.len() as u64;
        while !stuffer.is_done() {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => {
                    stuffer.push(piece.get(..count).unwrap_or_default(), &mut out);
                    octets += out.len() as u64;
                    self.wire.queue(&out);
                    out.clear();
                    self.flush().await?;
                }
                Err(error) => {
                    // half a message must not look whole: no final dot
                    tracing::error!(target: "mail", ident = "dovecot", "pop3: Error: read({uid:?}) failed: {error}");
                    return Err(End::Other("Disconnected: Internal error".to_owned()));
                }
            }
        }
        stuffer.finish(&mut out);
        octets += out.len() as u64;
        self.wire.queue(&out);
        self.sent += octets - line.len() as u64;
        self.session.sent(lines.is_some(), octets.saturating_sub(DOT));
        Ok(())
    }

    /// A storage failure: logged in full, told in general.
    fn failed(&mut self, error: &StoreError) -> End {
        tracing::error!(target: "mail", ident = "dovecot", "pop3: Error: {error}");
        let code = if error.is_full() { "SYS/PERM" } else { "SYS/TEMP" };
        self.say(&format!(
            "-ERR [{code}] Internal error occurred. Refer to server log for more information.\r\n"
        ));
        End::Other("Internal error".to_owned())
    }

    async fn finish(mut self, end: End, prefix: &str) {
        let reason = match end {
            End::LoggedOut => "Logged out".to_owned(),
            End::Closed => "Connection closed".to_owned(),
            End::Other(reason) => reason,
            End::Inactive(limit) => {
                self.say("-ERR Disconnected for inactivity.\r\n");
                format!("Inactivity - no input for {} secs", limit.as_secs())
            }
            End::Stopping => {
                self.say("-ERR [SYS/TEMP] Server shutting down.\r\n");
                "Server shutting down.".to_owned()
            }
        };
        if reason != "Logged out"
            && let Err(error) = self.session.keep_seen()
        {
            tracing::error!(target: "mail", ident = "dovecot", "{prefix}Error: {error}");
        }
        self.log(&reason, prefix);
        drop(self.lock.take());
        self.wire.close().await;
    }

    fn log(&self, reason: &str, prefix: &str) {
        let counts = self.session.counts();
        let mut text = self.settings.logout_format.clone();
        for (names, value) in [
            (["%{input}", "%i"], self.received),
            (["%{output}", "%o"], self.sent),
            (["%{top_count}", "%t"], counts.top),
            (["%{top_bytes}", "%p"], counts.top_bytes),
            (["%{retr_count}", "%r"], counts.retrieved),
            (["%{retr_bytes}", "%b"], counts.retrieved_bytes),
            (["%{deleted_count}", "%d"], counts.deleted),
            (["%{message_count}", "%m"], counts.messages),
            (["%{message_bytes}", "%s"], counts.size),
        ] {
            for name in names {
                text = text.replace(name, &value.to_string());
            }
        }
        tracing::info!(target: "mail", ident = "dovecot", "{prefix}Disconnected: {reason} {text}");
    }
}

/// `mail_log_prefix`
fn prefix(settings: &Settings, user: &Passenger) -> String {
    let name = login::log::printable(&user.user);
    let pid = std::process::id().to_string();
    let prefix = settings.log_prefix.replace("%{session}", &user.facts.session);
    prefix.replace("%{pid}", &pid).replace("%s", "pop3").replace("%u", &name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::UNIX_EPOCH;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// A lock that nobody touches is taken over after two minutes, though its owner still sends.
    #[tokio::test]
    async fn a_long_answer_keeps_the_session_lock() {
        let home = tempfile::tempdir().unwrap();
        for directory in ["cur", "new", "tmp"] {
            std::fs::create_dir_all(home.path().join("Maildir").join(directory)).unwrap();
        }
        let mail = "Subject: long\n\n".to_owned() + &"line\n".repeat(100_000);
        std::fs::write(home.path().join("Maildir/new/1.M1P1.host"), mail).unwrap();
        let address = "127.0.0.1:9".parse().unwrap();
        let user = Passenger {
            user: "taro".into(),
            home: home.path().display().to_string(),
            fields: Vec::new(),
            facts: login::facts::Facts::new(address, address, &[]),
        };
        let location = "maildir:~/Maildir".into();
        let settings = Settings { location, lock_session: true, ..Settings::default() };
        let (here, mut client) = duplex(1024);
        let served =
            tokio::spawn(async move { serve(Wire::from_io(here), settings, &user, None).await });
        client.write_all(b"RETR 1\r\n").await.unwrap();
        let mut heard = vec![0; 100];
        client.read_exact(&mut heard).await.unwrap();
        assert!(heard.starts_with(b"+OK Logged in.\r\n+OK "));
        let lock = home.path().join("Maildir/dovecot-pop3-session.lock");
        File::options().write(true).open(&lock).unwrap().set_modified(UNIX_EPOCH).unwrap();
        // It is touched every ten seconds at most.
        tokio::time::sleep(Duration::from_millis(10_100)).await;
        client.read_exact(&mut vec![0; 3 * PIECE]).await.unwrap();
        assert_ne!(lock.metadata().unwrap().modified().unwrap(), UNIX_EPOCH);
        drop(client);
        served.await.unwrap();
    }
}
