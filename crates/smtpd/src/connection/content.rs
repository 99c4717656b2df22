//! Content: from the wire to cleanup, and what the client hears at its end.

use neighbours::cleanup::CleanupError;
use neighbours::postmaster::{Class, Classes};
use protocol::postfix::cleanup::{CleanupStatus, Outcome};
use protocol::postfix::record::RecordType;
use protocol::smtp::{Chunk, Content, Ending, Event, Reply};

use super::{Conversation, End, Question, Where};
use crate::policy::Verdict;
use crate::received;
use crate::session::Answer;
use crate::submit;

/// Why the message that is being received will not be queued. Its rest is read and thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TooBig,
    BareLf,
    /// cleanup does not take it.
    Write,
}

/// Octets are skipped in pieces of this.
const PIECE: u64 = 64 * 1024;

impl Conversation {
    pub(super) async fn receive_data(&mut self) -> Result<bool, End> {
        if let Some(failed) = self.may_begin().await? {
            return Ok(failed);
        }
        self.say(354, "End data with <CR><LF>.<CR><LF>").await?;
        self.place = Where::Data;
        let mut content = Content::new(self.limits().line);
        loop {
            if self.wire.buffer().is_empty() && self.wire.fill().await? == 0 {
                return Err(End::Lost);
            }
            let (used, ended) = self.take_lines(&mut Source::Data(&mut content)).await;
            self.wire.consume(used);
            if ended {
                break;
            }
        }
        self.place = Where::EndOfMessage;
        self.end_message(false).await
    }

    /// The restrictions on DATA, and the beginning of the content.
    async fn may_begin(&mut self) -> Result<Option<bool>, End> {
        let verdict = self.check(Question::Data).await;
        match verdict {
            Verdict::Pass => {}
            Verdict::HangUp => return Err(End::Closed),
            Verdict::Refuse(reply) => {
                self.reply(reply).await?;
                return Ok(Some(true));
            }
        }
        if let Some(reply) = self.tell_data().await {
            self.reply(reply).await?;
            return Ok(Some(true));
        }
        self.begin_content().await;
        Ok(None)
    }

    async fn begin_content(&mut self) {
        self.hand_over_milters().await;
        let service = &self.context.service;
        let (wishes, arrival) = (&self.transcript.wishes, self.incoming.arrival);
        let Some(submission) = &mut self.incoming.submission else { return };
        let seconds = i64::try_from(arrival.as_secs()).unwrap_or_default();
        let id = submission.queue_id().to_string();
        let host = &service.dialogue.host;
        let lines =
            received::lines(&self.session, &service.received, host, self.wire.tls(), &id, seconds);
        if let Err(error) = submit::begin_content(submission, wishes, &lines).await {
            self.broken(&error);
        }
    }

    pub(super) fn broken(&mut self, error: &CleanupError) {
        if self.incoming.fault.is_none() {
            self.log(&format!("warning: {}: {error}", self.queue_id()));
            self.incoming.fault = Some(Fault::Write);
        }
    }

    /// Takes all lines that the buffer holds. How much was used, and whether the content has ended.
    async fn take_lines(&mut self, source: &mut Source<'_>) -> (usize, bool) {
        let mut used = 0;
        loop {
            let input = self.wire.buffer().get(used..).unwrap_or_default();
            let (taken, event) = source.next(input);
            used += taken;
            match event {
                Event::NeedMore => return (used, false),
                Event::End => return (used, true),
                Event::Line(line, ending) => {
                    let kept = keep_line(
                        &mut self.incoming,
                        &self.context.service,
                        self.refuses_bare_lf,
                        line,
                        ending,
                    )
                    .await;
                    match kept {
                        Ok(None) => {}
                        Ok(Some(warning)) => self.log(&warning),
                        Err(error) => self.broken(&error),
                    }
                }
            }
        }
    }

    pub(super) async fn receive_chunk(
        &mut self,
        size: u64,
        last: bool,
        first: bool,
    ) -> Result<bool, End> {
        if first {
            let verdict = self.check(Question::Data).await;
            match verdict {
                Verdict::Pass => {}
                Verdict::HangUp => return Err(End::Closed),
                Verdict::Refuse(reply) => return self.skip_chunk(size, last, reply.into()).await,
            }
            if let Some(reply) = self.tell_data().await {
                return self.skip_chunk(size, last, reply.into()).await;
            }
        }
        let limit = self.service().queue.size_limit;
        if limit > 0 && self.incoming.size.saturating_add(size) > limit {
            self.log(&format!(
                "warning: {}: BDAT request from {} exceeds message size limit",
                self.queue_id(),
                self.client()
            ));
            let reply = Reply::new(552, "5.3.4 Chunk exceeds message size limit");
            return self.skip_chunk(size, last, reply.into()).await;
        }
        if first {
            self.begin_content().await;
            self.session.chunks_begun();
        }
        self.place = Where::Bdat;
        let line = self.limits().line;
        let mut chunk = self.incoming.chunk.take().unwrap_or_else(|| Chunk::new(line));
        chunk.begin(size, last);
        loop {
            let (used, ended) = self.take_lines(&mut Source::Chunk(&mut chunk)).await;
            self.wire.consume(used);
            if ended {
                break;
            }
            if self.wire.buffer().is_empty() && self.wire.fill().await? == 0 {
                return Err(End::Lost);
            }
        }
        self.incoming.chunk = Some(chunk);
        if last {
            self.place = Where::EndOfMessage;
            return self.end_message(true).await;
        }
        if self.incoming.fault.is_some() {
            let failed = self.end_message(true).await?;
            self.session.chunks_lost();
            return Ok(failed);
        }
        self.say(250, format!("2.0.0 Ok: {size} bytes")).await?;
        Ok(false)
    }

    pub(super) async fn skip_chunk(
        &mut self,
        size: u64,
        last: bool,
        answer: Answer,
    ) -> Result<bool, End> {
        let mut left = size;
        while left > 0 {
            if self.wire.buffer().is_empty() && self.wire.fill().await? == 0 {
                return Err(End::Lost);
            }
            let most = usize::try_from(left.min(PIECE)).unwrap_or(usize::MAX);
            let count = most.min(self.wire.buffer().len());
            self.wire.consume(count);
            left -= count as u64;
        }
        self.note_class(&answer.reply);
        self.reply(answer.reply).await?;
        if last {
            self.reset();
        } else {
            self.session.chunk_failed(false);
        }
        Ok(true)
    }

    /// All content is here: the last restrictions, then cleanup, and only its word makes a 250.
    async fn end_message(&mut self, chunked: bool) -> Result<bool, End> {
        if self.incoming.fault.is_none() {
            let verdict = self.check(Question::EndOfData).await;
            match verdict {
                Verdict::Pass => {}
                Verdict::HangUp => return Err(End::Closed),
                Verdict::Refuse(reply) => {
                    self.reset();
                    self.reply(reply).await?;
                    return Ok(true);
                }
            }
        }
        let id = self.queue_id().to_owned();
        let size = self.incoming.size;
        let reply = match self.queue().await {
            None => {
                self.history.wrong = Classes::default();
                self.errors = 0;
                self.junk = 0;
                let octets = if chunked { format!("{size} bytes ") } else { String::new() };
                Reply::new(250, format!("2.0.0 Ok: {octets}queued as {id}"))
            }
            Some((reply, class)) => {
                self.history.wrong.add(class);
                reply
            }
        };
        let failed = !reply.is_positive();
        self.reset();
        self.reply(reply).await?;
        self.turn_page().await;
        Ok(failed)
    }

    /// Commits the message. `None`: it is on disk.
    async fn queue(&mut self) -> Option<(Reply, Class)> {
        let write_error =
            || (Reply::new(451, "4.3.0 Error: queue file write error"), Class::Resource);
        match self.incoming.fault {
            None => {}
            Some(Fault::BareLf) => {
                let line = self.subject().line("reject", "bare <LF> received");
                self.log(&line);
                let text = format!("5.5.2 {} Error: bare <LF> received", self.host());
                let reply = Reply::new(self.service().bare_newline.code, text);
                return Some((reply, Class::Protocol));
            }
            Some(Fault::TooBig) => {
                let reply = Reply::new(552, "5.3.4 Error: message file too big");
                return Some((reply, Class::Bounce));
            }
            Some(Fault::Write) => {
                return Some(self.word_of_cleanup().await.unwrap_or_else(write_error));
            }
        }
        let Some(mut submission) = self.incoming.submission.take() else {
            return Some(write_error());
        };
        let ended = submit::end_content(&mut submission, &self.transcript.wishes).await;
        let finished = match ended {
            Ok(()) => submission.finish().await,
            Err(error) => Err(error),
        };
        match finished {
            Ok(outcome) => refusal(&outcome),
            Err(error) => {
                self.log(&format!("warning: {error}"));
                Some(write_error())
            }
        }
    }

    /// cleanup stopped reading; it may have said why.
    async fn word_of_cleanup(&mut self) -> Option<(Reply, Class)> {
        let outcome = self.incoming.submission.take()?.finish().await.ok()?;
        refusal(&outcome)
    }
}

/// What cuts bytes into lines.
enum Source<'a> {
    Data(&'a mut Content),
    Chunk(&'a mut Chunk),
}

impl Source<'_> {
    fn next(&mut self, input: &[u8]) -> (usize, Event<'_>) {
        match self {
            Self::Data(content) => content.next(input),
            Self::Chunk(chunk) => chunk.next(input),
        }
    }
}

/// One line of content as records. A message beyond the limit is remembered as such, with a warning to log.
async fn keep_line(
    incoming: &mut super::Incoming,
    service: &crate::settings::Service,
    refuses_bare_lf: bool,
    line: &[u8],
    ending: Ending,
) -> Result<Option<String>, CleanupError> {
    if ending == Ending::BareLf && refuses_bare_lf {
        incoming.fault = Some(Fault::BareLf);
    }
    if incoming.fault.is_some() {
        return Ok(None);
    }
    let Some(submission) = &mut incoming.submission else { return Ok(None) };
    let length = line.len() as u64 + 2;
    let limit = service.queue.size_limit;
    if limit > 0 && limit.saturating_sub(incoming.size) < length {
        incoming.fault = Some(Fault::TooBig);
        let id = submission.queue_id();
        return Ok(Some(format!("warning: {id}: queue file size limit exceeded")));
    }
    incoming.size += length;
    let kind = if ending == Ending::Continued { RecordType::CONTINUED } else { RecordType::LINE };
    if incoming.first_line {
        if is_from_line(line) {
            let mut header = b"X-Mailbox-Line: ".to_vec();
            header.extend_from_slice(line);
            submission.record(kind, &header).await?;
            return Ok(None);
        }
        incoming.first_line = false;
        if line.first().is_some_and(|&c| c == b' ' || c == b'\t') {
            // Or it would continue our own Received header.
            submission.record(RecordType::LINE, b"").await?;
        }
    }
    submission.record(kind, line).await?;
    Ok(None)
}

/// `From `, quoted or not: the first line of an mbox message that somebody sends as it is.
fn is_from_line(line: &[u8]) -> bool {
    let quotes = line.iter().take_while(|&&c| c == b'>').count();
    line.get(quotes..).is_some_and(|rest| rest.starts_with(b"From "))
}

/// How cleanup's faults are told, in smtpd's order of importance, and what they mean.
fn refusal(outcome: &Outcome) -> Option<(Reply, Class)> {
    let status = outcome.status;
    if status.is_ok() {
        return None;
    }
    if let Some(reply) = Reply::from_rejection(&outcome.reason) {
        return Some((reply, Class::Policy));
    }
    let order = [
        (CleanupStatus::DEFER, Class::Policy),
        (CleanupStatus::BAD, Class::Software),
        (CleanupStatus::SIZE, Class::Bounce),
        (CleanupStatus::HOPS, Class::Bounce),
        (CleanupStatus::CONT, Class::Policy),
        (CleanupStatus::WRITE, Class::Resource),
        (CleanupStatus::NOPERM, Class::Software),
        (CleanupStatus::RCPT, Class::Software),
    ];
    let (worst, class) = order
        .into_iter()
        .find(|(fault, _)| status.contains(*fault))
        .unwrap_or((CleanupStatus::BAD, Class::Software));
    let fault = worst.fault()?;
    let told = worst == CleanupStatus::DEFER || worst == CleanupStatus::CONT;
    let reply = if worst == CleanupStatus::BAD {
        Reply::new(451, format!("4.3.0 Error: internal error {}", status.0))
    } else if told && !outcome.reason.is_empty() {
        Reply::new(fault.code, outcome.reason.clone())
    } else {
        Reply::new(fault.code, format!("{} Error: {}", fault.dsn, fault.text))
    };
    Some((reply, class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_cleanup_has_a_reply() {
        for (status, reason, reply) in [
            (0, "", None),
            (4 | 2, "", Some("552 5.3.4 Error: message file too big")),
            (8, "5.7.1 no such subject", Some("550 5.7.1 no such subject")),
            (8, "", Some("550 5.7.1 Error: message content rejected")),
            (8, "450 4.2.0 later", Some("450 4.2.0 later")),
            (16, "", Some("554 5.4.0 Error: too many hops")),
            (2, "", Some("451 4.3.0 Error: queue file write error")),
            (1, "", Some("451 4.3.0 Error: internal error 1")),
            (256, "", Some("451 4.7.1 Error: service unavailable")),
            (1 << 20, "", Some("451 4.3.0 Error: internal error 1048576")),
        ] {
            let outcome = Outcome { status: CleanupStatus(status), reason: reason.into() };
            let told = refusal(&outcome).map(|(told, _)| told.to_string());
            assert_eq!(told.as_deref(), reply);
        }
        assert!(is_from_line(b">From me") && !is_from_line(b"From: me"));
    }
}
