//! One message over an open connection, driven.

use std::time::{Duration, SystemTime};

use mail_types::{Timestamp, quote_822};
use protocol::postfix::Recipient;
use queue::ReadError;

use super::{Delivery, Mark};
use crate::checks::Rewriter;
use crate::commands::Writing;
use crate::connection::{Broken, Connection};
use crate::content::{Encoder, Unmade};
use crate::downgrade::Downgrade;
use crate::policy;
use crate::session::Failure;
use crate::session::transaction::{Next, Script, Stage, Transaction, Verdict};

/// Why the content did not go out.
enum Unsent {
    Broken(Broken),
    Queue(ReadError),
}

impl Delivery<'_> {
    /// Sends the message to everyone who is left. Whether it broke under TLS and may be tried without.
    pub(super) async fn transfer(
        &mut self,
        connection: &mut Connection,
        policy: &policy::Destination,
    ) -> bool {
        let limit = connection.features.size_limit;
        if limit > 0 && u64::try_from(self.request.size).unwrap_or(0) > limit {
            let reason = format!(
                "message size {} exceeds size limit {limit} of server {}",
                self.request.size,
                connection.server.short()
            );
            self.fail_rest(Some(connection), Failure::ours("5.3.4", reason), false).await;
            self.complete = true;
            return false;
        }
        let script = match self.script(connection).await {
            Ok(script) => script,
            Err(why) => {
                self.service.reporter.warn(&self.request, &why);
                self.lost(connection, policy, Broken::Local, "sending MAIL FROM").await;
                return false;
            }
        };
        self.stats.reuse_count = connection.used;
        self.stats.conn_setup_done = Timestamp::from(SystemTime::now());
        let keep = connection.is_kept();
        let mut transaction = Transaction::new(script, keep);
        loop {
            match transaction.next(connection.queued()) {
                Next::Say(line) => connection.say(&line),
                Next::Over => break,
                Next::Read(stage) => match connection.reply(self.limit(stage)).await {
                    Ok(reply) => {
                        if stage == Stage::Dot {
                            self.stats.deliver_done = Timestamp::from(SystemTime::now());
                        }
                        for verdict in transaction.reply(&reply) {
                            self.apply(connection, verdict).await;
                        }
                        transaction.keep &= connection.is_kept();
                    }
                    Err(broken) => {
                        connection.keep_until = None;
                        if !stage.is_mail() {
                            return false;
                        }
                        let doing = transaction.doing(stage);
                        return self.lost(connection, policy, broken, doing).await;
                    }
                },
                Next::Content => match self.send_content(connection).await {
                    Ok(()) => transaction.content_sent(),
                    Err(Unsent::Broken(Broken::Lost)) => {
                        connection.keep_until = None;
                        transaction.content_lost();
                    }
                    Err(Unsent::Broken(broken)) => {
                        return self.lost(connection, policy, broken, "sending message body").await;
                    }
                    Err(Unsent::Queue(error)) => {
                        self.unreadable(connection, &error).await;
                        return false;
                    }
                },
            }
        }
        if !transaction.keep {
            connection.keep_until = None;
        }
        connection.flush(self.service.settings.times.quit).await;
        self.complete |= transaction.is_complete();
        // A reply that fits nothing must not leave anyone without a fate.
        if self.left.iter().any(|todo| todo.mark == Mark::Open) {
            return self.lost(connection, policy, Broken::Lost, "sending message body").await;
        }
        false
    }

    fn limit(&self, stage: Stage) -> Duration {
        let times = &self.service.settings.times;
        match stage {
            Stage::NameAddress | Stage::ProtocolHelo => times.xforward,
            Stage::Mail => times.mail,
            Stage::Rcpt => times.rcpt,
            Stage::Data => times.data_init,
            Stage::Dot => times.data_done,
            Stage::Abort | Stage::Reset => times.rset,
            Stage::Quit | Stage::Last => times.quit,
        }
    }

    async fn apply(&mut self, connection: &mut Connection, verdict: Verdict) {
        match verdict {
            Verdict::Sent(at, reply) => self.done(connection, at, &reply).await,
            Verdict::Failed(at, failure) => self.fail_one(connection, at, failure).await,
            Verdict::RestFailed(failure) => {
                self.fail_rest(Some(connection), failure, false).await;
            }
            Verdict::Warning(text) => self.service.reporter.note(&text),
        }
    }

    /// The commands of this message for this server.
    async fn script(&self, connection: &Connection) -> Result<Script, String> {
        let service = self.service;
        let settings = &service.settings;
        let features = &connection.features;
        let writing = Writing { quote: settings.talk.quote_envelope };
        let sender = service.generic(&self.request.sender).await?;
        let dummy = settings.talk.dummy_mail_auth && connection.authenticated;
        let downgrading = self.is_downgrading(connection);
        let mut recipients = Vec::with_capacity(self.left.len());
        for todo in &self.left {
            let address = service.generic(&todo.recipient.address).await?;
            recipients.push(writing.rcpt(&address, &todo.recipient, &self.request, features));
        }
        let probe = match (self.is_probe(), settings.talk.probe_with_data) {
            (false, _) => None,
            (true, true) => Some(Stage::Data),
            (true, false) => Some(Stage::Rcpt),
        };
        Ok(Script {
            server: connection.server.clone(),
            xforward: match settings.talk.xforward {
                true => crate::commands::xforward(&self.request, features),
                false => [None, None],
            },
            mail: writing.mail(&sender, &self.request, features, downgrading, dummy),
            recipients,
            lmtp: settings.lmtp,
            pipelining: features.pipelining,
            probe,
            skip_quit_response: settings.talk.skip_quit_response,
        })
    }

    fn is_downgrading(&self, connection: &Connection) -> bool {
        !self.service.settings.content.no_conversion
            && !connection.features.eight_bit
            && self.request.encoding != "7bit"
    }

    async fn send_content(&mut self, connection: &mut Connection) -> Result<(), Unsent> {
        let settings = &self.service.settings;
        let limit = settings.times.data_xfer;
        let downgrade = self.is_downgrading(connection).then(Downgrade::default);
        let file = self.readable.try_clone().map_err(|error| Unsent::Queue(error.into()))?;
        let added = self.added_headers().await.map_err(|why| {
            self.service.reporter.warn(&self.request, &why);
            Unsent::Broken(Broken::Local)
        })?;
        let length = settings.content.line_length;
        let mut encoder = Encoder::new(file, self.data_offset(), length, downgrade, added)
            .map_err(Unsent::Queue)?;
        let mut rewriter =
            Rewriter::new(self.service, &self.request, self.is_downgrading(connection));
        loop {
            // A local file that was just written: read where we are.
            let chunk = match &mut rewriter {
                None => encoder.chunk().map_err(Unsent::Queue)?,
                Some(rewriter) => match encoder.rewritten(rewriter).await {
                    Ok(chunk) => chunk,
                    Err(Unmade::Queue(error)) => return Err(Unsent::Queue(error)),
                    Err(Unmade::NoAnswer) => return Err(Unsent::Broken(Broken::Local)),
                },
            };
            if chunk.is_empty() {
                break;
            }
            connection.content(&chunk, limit).await.map_err(Unsent::Broken)?;
        }
        if encoder.broke_lines() {
            let text = format!("breaking line > {length} bytes with <CR><LF>SPACE");
            self.service.reporter.info(&self.request, &text);
        }
        Ok(())
    }

    /// What `flags=` puts in front of a final delivery.
    async fn added_headers(&self) -> Result<Vec<Vec<u8>>, String> {
        let headers = self.service.settings.headers;
        let first = self.left.first().map(|todo| &todo.recipient);
        let address = |pick: fn(&Recipient) -> &String| first.map(pick).cloned();
        let mut added = Vec::new();
        for (asked, name, address, brackets) in [
            (headers.return_path, "Return-Path", Some(self.request.sender.clone()), true),
            (headers.original_to, "X-Original-To", address(|to| &to.original), false),
            (headers.delivered_to, "Delivered-To", address(|to| &to.address), false),
        ] {
            let Some(address) = address.filter(|_| asked) else { continue };
            let address = match self.service.generic(&address).await?.as_str() {
                "" => String::new(),
                address => quote_822(address),
            };
            let text = if brackets { format!("<{address}>") } else { address };
            added.push(format!("{name}: {text}").into_bytes());
        }
        Ok(added)
    }

    /// The queue file is damaged: the server must not take half a message for a whole one.
    async fn unreadable(&mut self, connection: &mut Connection, error: &ReadError) {
        self.service.reporter.warn(&self.request, &format!("message content: {error}"));
        connection.forbidden = true;
        connection.keep_until = None;
        let failure = Failure::ours("5.3.0", "unreadable mail queue entry");
        self.fail_rest(Some(connection), failure, false).await;
        if matches!(error, ReadError::Damage(_)) {
            let _ = self.file.mark_damaged();
        }
    }
}
