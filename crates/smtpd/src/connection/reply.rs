//! Answers on their way out, and what a client sends before it gets them.

use std::time::{Duration, Instant};

use protocol::smtp::Reply;

use super::{Conversation, End, Step, failed, history};
use crate::session::Answer;
use crate::text::escaped;

/// Pipelined answers wait at most so long for each other.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

impl Conversation {
    pub(super) async fn say(&mut self, code: u16, text: impl Into<String>) -> Step {
        let reply = Reply::new(code, text);
        self.note_class(&reply);
        self.reply(reply).await
    }

    /// Keeps what our own words say is wrong.
    pub(super) fn note_class(&mut self, reply: &Reply) {
        history::class(reply).into_iter().for_each(|class| self.history.wrong.add(class));
    }

    pub(super) async fn answer(&mut self, answer: Answer) -> Result<bool, End> {
        let failed = failed(&answer);
        self.note_class(&answer.reply);
        self.reply(answer.reply).await?;
        Ok(failed)
    }

    /// Queues a reply; it goes out with the next read, or at once after a tarpit delay. 421 and 521 end the
    /// conversation.
    pub(super) async fn reply(&mut self, reply: Reply) -> Step {
        let limits = self.limits();
        let delayed = self.errors >= limits.soft_errors;
        if delayed {
            tokio::time::sleep(limits.error_sleep).await;
        }
        let reply = if self.service().policy.soft_bounce { reply.softened() } else { reply };
        let bytes = reply.to_bytes();
        self.keep_said(&bytes);
        self.wire.queue(&bytes);
        if delayed || self.since_write.elapsed() > LONGEST_WAIT {
            self.wire.flush().await?;
            self.since_write = Instant::now();
        }
        if matches!(reply.code(), 421 | 521) {
            self.wire.flush().await?;
            return Err(End::Closed);
        }
        Ok(())
    }

    /// Has the client sent more before it could see our answer? Said once in the log, and with
    /// `smtpd_forbid_unauth_pipelining` the end.
    pub(super) async fn look_for_pipelining(&mut self, after: &str) -> Step {
        if self.pipelined {
            return Ok(());
        }
        if self.wire.buffer().is_empty() {
            self.wire.fill_arrived().await?;
        }
        let ahead = self.wire.buffer();
        if ahead.is_empty() {
            return Ok(());
        }
        let shown = escaped(ahead.get(..100).unwrap_or(ahead));
        self.log(&format!(
            "improper command pipelining after {after} from {}: {shown}",
            self.client()
        ));
        self.pipelined = true;
        if self.service().forbid_unauth_pipelining {
            self.say(554, "5.5.0 Error: SMTP protocol synchronization").await?;
            return Err(End::Closed);
        }
        Ok(())
    }
}
