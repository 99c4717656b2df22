//! HELO, MAIL, RCPT, VRFY and ETRN: the part that asks the world.

use std::time::SystemTime;

use neighbours::cleanup::{CleanupError, Submission};
use protocol::postfix::cleanup::CleanupFlags;
use protocol::postfix::flush::FlushStatus;
use protocol::postfix::rewrite::flags;
use protocol::smtp::{Mail, Recipient, Reply};

use super::{Conversation, End, Incoming, Question};
use crate::anvil::Event;
use crate::flush;
use crate::policy::{Verdict, World};
use crate::submit;
use crate::text::printable;

impl Conversation {
    /// What a verdict other than "pass" comes to.
    async fn refused(&mut self, verdict: Verdict) -> Result<bool, End> {
        match verdict {
            Verdict::Pass => Ok(false),
            Verdict::HangUp => Err(End::Closed),
            Verdict::Refuse(reply) => {
                self.reply(reply).await?;
                Ok(true)
            }
        }
    }

    pub(super) async fn check_helo(&mut self, name: &str, esmtp: bool) -> Result<bool, End> {
        if !self.service().policy.delay_reject {
            let verdict = self.check_as_helo(name).await;
            if verdict != Verdict::Pass {
                return self.refused(verdict).await;
            }
        }
        let refusal = self.tell_helo(name).await;
        if let Some(reply) = refusal.as_ref().filter(|reply| reply.code() == 421) {
            self.reply(reply.clone()).await?;
            return Ok(true);
        }
        self.forget_helo();
        self.turn_page().await;
        self.reset();
        let mut reply = self.session.greeted(name, esmtp);
        if esmtp && refusal.is_some_and(|refusal| refusal.code() >= 500) {
            reply = self.session.greeted_in_vain();
        }
        let lines = self.session.take_log();
        self.log_all(lines);
        self.reply(reply).await?;
        Ok(false)
    }

    async fn check_as_helo(&mut self, name: &str) -> Verdict {
        let earlier = self.session.helo.replace(name.to_owned());
        let verdict = self.check(Question::Helo).await;
        self.session.helo = earlier;
        verdict
    }

    pub(super) async fn check_sender(&mut self, mail: Mail) -> Result<bool, End> {
        let limit = self.service().rates.message_rate;
        if let Some(rate) = self.too_many(Event::Message, limit) {
            let address = self.session.client.address_text();
            self.say(450, format!("4.7.1 Error: too much mail from {address}")).await?;
            self.log(&format!(
                "warning: Message delivery request rate limit exceeded: {rate} from {} for service {}",
                self.client(),
                self.service().name
            ));
            return Ok(true);
        }
        if !self.is_address(&mail.address, "", mail.smtputf8).await {
            self.illegal("MAIL", &mail.argument);
            self.say(501, "5.1.7 Bad sender address syntax").await?;
            return Ok(true);
        }
        // Nothing is in progress yet, but log lines and restrictions see this sender.
        self.session.begin(mail.clone(), false);
        let outcome = self.sender_outcome(&mail).await;
        match outcome {
            Ok(local) => {
                let reply = self.session.begin(mail, local);
                let arrival = now();
                let instance = instance(arrival, self.transactions);
                self.transactions = self.transactions.wrapping_add(1);
                self.incoming =
                    Incoming { first_line: true, arrival, instance, ..Incoming::default() };
                if !self.service().queue.delay_open && self.open_queue().await.is_err() {
                    return self.no_cleanup().await;
                }
                self.reply(reply).await?;
                Ok(false)
            }
            Err(Refusal::KeepSize(reply)) => {
                let size = mail.size;
                self.reset();
                self.session.keep_announced_size(size);
                self.reply(reply).await?;
                Ok(true)
            }
            Err(Refusal::Verdict(verdict)) => {
                self.reset();
                self.refused(verdict).await
            }
        }
    }

    async fn sender_outcome(&mut self, mail: &Mail) -> Result<bool, Refusal> {
        let limit = self.service().queue.size_limit;
        if limit > 0 && mail.size.unwrap_or(0) > limit {
            let text = "552 5.3.4 Message size exceeds fixed limit";
            return Err(Refusal::KeepSize(self.rejected(text)));
        }
        if !self.service().policy.delay_reject {
            let verdict = self.check(Question::Sender).await;
            if verdict != Verdict::Pass {
                return Err(Refusal::Verdict(verdict));
            }
        }
        let mut transcript = std::mem::take(&mut self.transcript);
        let local = self.check_over(&mut transcript).is_local_rewrite().await;
        self.after_check(transcript);
        let local = local.map_err(|reply| Refusal::Verdict(Verdict::Refuse(reply)))?;
        if let Some(reply) = self.session.needs_smtputf8(&mail.address, mail.smtputf8) {
            return Err(Refusal::Verdict(Verdict::Refuse(reply)));
        }
        if let Some(reply) = self.tell_mail().await {
            return Err(Refusal::Verdict(Verdict::Refuse(reply)));
        }
        match free_space(&self.service().queue) {
            Some(free) => {
                let reply = self.rejected("452 4.3.1 Insufficient system storage");
                self.log(&format!(
                    "warning: not enough free space in mail queue: {free} bytes < 1.5*message size limit"
                ));
                Err(Refusal::Verdict(Verdict::Refuse(reply)))
            }
            None => Ok(local),
        }
    }

    /// A rejection that no restriction made, with its line in the log.
    fn rejected(&mut self, text: &str) -> Reply {
        self.log(&self.subject().line("reject", text));
        let reply = Reply::from_rejection(text)
            .unwrap_or_else(|| Reply::new(450, "4.7.1 Service unavailable"));
        self.note_class(&reply);
        reply
    }

    fn illegal(&self, verb: &str, argument: &str) {
        self.log(&format!(
            "warning: Illegal address syntax from {} in {verb} command: {}",
            self.client(),
            printable(argument, '?')
        ));
    }

    /// Can the address mean anything? A service that cannot be asked does not make it wrong.
    async fn is_address(&self, address: &str, sender: &str, smtputf8: bool) -> bool {
        if address.is_empty() {
            return true;
        }
        let Ok(resolution) = self.world.resolve(sender, address).await else { return true };
        let domain = resolution.recipient.rsplit_once('@').map_or("", |(_, domain)| domain);
        resolution.flags & flags::ERROR == 0 && (smtputf8 || domain.is_ascii())
    }

    pub(super) async fn check_recipient(&mut self, recipient: Recipient) -> Result<bool, End> {
        if let Some(refused) = self.too_many_recipients().await? {
            return Ok(refused);
        }
        let (sender, smtputf8) = self.session.transaction().map_or_else(
            || (String::new(), false),
            |transaction| (transaction.mail.address.clone(), transaction.mail.smtputf8),
        );
        if !self.is_address(&recipient.address, &sender, smtputf8).await {
            self.illegal("RCPT", &recipient.argument);
            self.say(501, "5.1.3 Bad recipient address syntax").await?;
            return Ok(true);
        }
        let verdict =
            self.check(Question::Recipient { address: &recipient.address, smtputf8 }).await;
        if let Verdict::Refuse(reply) = &verdict {
            self.tell_rcpt(&recipient.address, Some(reply)).await;
        }
        if verdict != Verdict::Pass {
            return self.refused(verdict).await;
        }
        if let Some(reply) = self.tell_rcpt(&recipient.address, None).await {
            self.reply(reply).await?;
            return Ok(true);
        }
        if self.incoming.submission.is_none() && self.open_queue().await.is_err() {
            return self.no_cleanup().await;
        }
        if let Some(submission) = &mut self.incoming.submission
            && let Err(error) = submit::recipient(submission, &recipient).await
        {
            self.log(&format!("warning: {error}"));
            return self.no_cleanup().await;
        }
        let reply = self.session.add_recipient(&recipient.address);
        self.reply(reply).await?;
        Ok(false)
    }

    async fn too_many_recipients(&mut self) -> Result<Option<bool>, End> {
        let limit = self.service().rates.recipient_rate;
        let Some(rate) = self.too_many(Event::Recipient, limit) else { return Ok(None) };
        self.log(&format!(
            "warning: Recipient address rate limit exceeded: {rate} from {} for service {}",
            self.client(),
            self.service().name
        ));
        let address = self.session.client.address_text();
        self.say(450, format!("4.7.1 Error: too many recipients from {address}")).await?;
        Ok(Some(true))
    }

    /// Connects to cleanup and sends the envelope so far; logs the message's queue id.
    async fn open_queue(&mut self) -> Result<(), CleanupError> {
        let queue = self.service().queue.clone();
        let smtputf8 = self.session.transaction().is_some_and(|one| one.mail.smtputf8);
        let mut flags = submit::flags(&queue, smtputf8);
        if self.milters.is_some() {
            flags = flags.with(CleanupFlags::MILTER);
        }
        let announce = self.milters.is_some() && !self.transcript.wishes.discard;
        let opened = async {
            let mut submission = Submission::open(&queue.cleanup, flags, queue.ipc_timeout).await?;
            if announce {
                submission.announce_milters().await?;
            }
            submit::envelope(&mut submission, &self.session, self.incoming.arrival).await?;
            Ok(submission)
        };
        let submission: Submission = match opened.await {
            Ok(submission) => submission,
            Err(error) => {
                self.log(&format!("warning: {error}"));
                return Err(error);
            }
        };
        let mut line = format!("{}: client={}", submission.queue_id(), self.client());
        if let Some(login) = &self.session.login {
            let (method, user) = (&login.method, &login.user);
            line.push_str(&format!(", sasl_method={method}, sasl_username={user}"));
        }
        let sender = self.session.transaction().and_then(|one| one.mail.auth.as_deref());
        if let Some(sender) = sender {
            line.push_str(&format!(", sasl_sender={}", printable(sender, '?')));
        }
        let forwarded = &self.session.forwarded;
        if let Some(ident) = &forwarded.ident {
            line.push_str(&format!(", orig_queue_id={ident}"));
        }
        if let Some(client) = &forwarded.client {
            let shown = client.name_and_address(self.session.client.log_port);
            line.push_str(&format!(", orig_client={shown}"));
        }
        self.log(&line);
        self.incoming.submission = Some(submission);
        Ok(())
    }

    /// cleanup cannot be reached: the client must come again.
    pub(super) async fn no_cleanup(&mut self) -> Result<bool, End> {
        let text = "451 4.3.0 Error: queue file write error";
        self.log(&self.subject().line("reject", text));
        self.incoming.submission = None;
        self.say(451, "4.3.0 Error: queue file write error").await?;
        self.reset();
        Ok(true)
    }

    pub(super) async fn check_vrfy(
        &mut self,
        address: &str,
        argument: &str,
        smtputf8: bool,
    ) -> Result<bool, End> {
        if let Some(refused) = self.too_many_recipients().await? {
            return Ok(refused);
        }
        if !self.is_address(address, "", smtputf8).await {
            self.illegal("VRFY", argument);
            self.say(501, "5.1.3 Bad recipient address syntax").await?;
            return Ok(true);
        }
        let verdict = self.check(Question::Recipient { address, smtputf8 }).await;
        if verdict != Verdict::Pass {
            return self.refused(verdict).await;
        }
        self.say(252, format!("2.0.0 {argument}")).await?;
        Ok(false)
    }

    pub(super) async fn check_etrn(&mut self, domain: &str) -> Result<bool, End> {
        let verdict = self.check(Question::Etrn(domain)).await;
        if verdict != Verdict::Pass {
            return self.refused(verdict).await;
        }
        let queue = self.service().queue.clone();
        let client = self.client();
        match flush::send_site(&queue, domain).await {
            Ok(FlushStatus::Ok) => {
                self.say(250, "Queuing started").await?;
                return Ok(false);
            }
            Ok(FlushStatus::Denied) => {
                self.log(&format!("warning: reject: ETRN {domain}... from {client}"));
                self.say(459, format!("<{domain}>: service unavailable")).await?;
            }
            Ok(FlushStatus::Bad) => {
                self.log(&format!("warning: bad ETRN {domain}... from {client}"));
                self.say(458, "Unable to queue messages").await?;
            }
            Ok(FlushStatus::Failed) | Err(_) => {
                self.log("warning: unable to talk to fast flush service");
                self.say(458, "Unable to queue messages").await?;
            }
        }
        Ok(true)
    }
}

/// Why a sender is not accepted.
enum Refusal {
    /// The announced size stays for the next MAIL.
    KeepSize(Reply),
    Verdict(Verdict),
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// A name for a transaction that no other has: process, time and count.
fn instance(arrival: std::time::Duration, count: u32) -> String {
    let (pid, seconds, micros) = (std::process::id(), arrival.as_secs(), arrival.subsec_micros());
    format!("{pid:x}.{seconds:x}.{micros:x}.{count:x}")
}

/// The free octets of the queue's file system, when they are too few.
fn free_space(queue: &crate::settings::Queue) -> Option<u64> {
    let space = rustix::fs::statvfs(&queue.directory).ok()?;
    let block = space.f_frsize.max(1);
    let free = space.f_bavail;
    let blocks = |octets: u64| octets / block;
    let short = blocks(queue.min_free) >= free || blocks(queue.size_limit) >= free * 2 / 3;
    short.then_some(free.saturating_mul(block))
}
