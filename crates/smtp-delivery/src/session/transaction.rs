//! One message: MAIL, RCPT, DATA, the end of the content, with as much sent ahead of its replies as the server allows.
//!
//! Sender and receiver have each a stage of their own. Without PIPELINING the receiver catches up before each command;
//! with it, only where the sender must know more: after DATA, and at the end.

use protocol::smtp::ReceivedReply;

use super::{Failure, Server};

/// As much as is written before replies are read, so that neither side waits for the other.
const MOST_AHEAD: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// XFORWARD, in two commands.
    NameAddress,
    ProtocolHelo,
    Mail,
    Rcpt,
    Data,
    /// The end of the content.
    Dot,
    /// RSET after all recipients failed, or after a probe.
    Abort,
    /// RSET to see whether an old connection still lives.
    Reset,
    Quit,
    Last,
}

impl Stage {
    /// For "lost connection with … while …".
    pub fn doing(self) -> &'static str {
        match self {
            Self::NameAddress => "sending XFORWARD name/address",
            Self::ProtocolHelo => "sending XFORWARD protocol/helo_name",
            Self::Mail => "sending MAIL FROM",
            Self::Rcpt => "sending RCPT TO",
            Self::Data => "sending DATA command",
            Self::Dot => "sending end of data -- message may be sent more than once",
            Self::Abort => "sending final RSET",
            Self::Reset => "sending RSET probe",
            Self::Quit | Self::Last => "sending QUIT",
        }
    }

    /// For "(in reply to …)".
    fn request(self) -> &'static str {
        match self {
            Self::NameAddress => "XFORWARD name/address command",
            Self::ProtocolHelo => "XFORWARD helo/protocol command",
            Self::Mail => "MAIL FROM command",
            Self::Rcpt => "RCPT TO command",
            Self::Data => "DATA command",
            Self::Dot => "end of DATA command",
            Self::Abort => "final RSET command",
            Self::Reset => "RSET probe",
            Self::Quit | Self::Last => "QUIT command",
        }
    }

    /// A broken connection here concerns the message.
    pub fn is_mail(self) -> bool {
        self <= Self::Dot
    }
}

/// What is to be said.
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub server: Server,
    /// XFORWARD in two commands.
    pub xforward: [Option<String>; 2],
    pub mail: String,
    pub recipients: Vec<String>,
    pub lmtp: bool,
    pub pipelining: bool,
    /// Deliver nothing, only see whether the server would take it, up to this stage.
    pub probe: Option<Stage>,
    pub skip_quit_response: bool,
}

/// What `connection.rs` does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Queue this line; it goes out when a reply is read.
    Say(String),
    /// Read the reply to what was said at this stage.
    Read(Stage),
    /// Send the content, without the final dot.
    Content,
    Over,
}

/// What a reply means for the recipients, by their index in the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Sent(usize, ReceivedReply),
    Failed(usize, Failure),
    /// Everyone whose fate is still open.
    RestFailed(Failure),
    /// Nobody; it is only worth a line in the log.
    Warning(String),
}

pub struct Transaction {
    script: Script,
    send: Stage,
    receive: Stage,
    sent_recipients: usize,
    answered_recipients: usize,
    /// Recipients that the server has taken, by index.
    taken: Vec<usize>,
    /// LMTP: how many of them have an answer to the content.
    concluded: usize,
    mail_refused: bool,
    data_refused: bool,
    pending: Option<Pending>,
    syncing: bool,
    content_sent: bool,
    lost_in_content: bool,
    /// The connection is to be kept: no QUIT. Only looked at where that decision falls.
    pub keep: bool,
}

struct Pending {
    line: String,
    next: Stage,
    recipients: usize,
}

impl Transaction {
    pub fn new(script: Script, keep: bool) -> Self {
        let first = match &script.xforward {
            [Some(_), _] => Stage::NameAddress,
            [None, Some(_)] => Stage::ProtocolHelo,
            [None, None] => Stage::Mail,
        };
        Self::at(first, script, keep)
    }

    /// A lone RSET.
    pub fn reset() -> Self {
        Self::at(Stage::Reset, Script::default(), true)
    }

    /// A lone QUIT.
    pub fn quit(skip_response: bool) -> Self {
        let mut quit = Self::at(Stage::Quit, Script::default(), false);
        if skip_response {
            quit.receive = Stage::Last;
        }
        quit
    }

    fn at(stage: Stage, script: Script, keep: bool) -> Self {
        Self {
            script,
            send: stage,
            receive: stage,
            sent_recipients: 0,
            answered_recipients: 0,
            taken: Vec::new(),
            concluded: 0,
            mail_refused: false,
            data_refused: false,
            pending: None,
            syncing: false,
            content_sent: false,
            lost_in_content: false,
            keep,
        }
    }

    /// The receiver got as far as it should: nothing is left on the wire.
    pub fn is_complete(&self) -> bool {
        self.receive == Stage::Last
    }

    /// `queued`: how much has been said and not been written yet.
    pub fn next(&mut self, queued: usize) -> Next {
        loop {
            if self.receive == Stage::Last && self.pending.is_none() && self.send == Stage::Last {
                return Next::Over;
            }
            if self.pending.is_none() {
                self.pending = Some(self.build());
            }
            let length = self.pending.as_ref().map_or(0, |pending| pending.line.len() + 2);
            let waits = matches!(self.send, Stage::Dot | Stage::Last);
            let full = !self.is_quit_behind_dot() && length + queued > MOST_AHEAD;
            if self.syncing || waits || (self.is_ahead() && (!self.script.pipelining || full)) {
                if self.is_ahead() {
                    self.syncing = true;
                    return Next::Read(self.receive);
                }
                self.syncing = false;
                self.correct();
            }
            if self.send == Stage::Last {
                return Next::Over;
            }
            if self.send == Stage::Dot && !self.content_sent && !self.taken.is_empty() {
                return Next::Content;
            }
            let Some(pending) = self.pending.take() else { return Next::Over };
            self.send = if self.lost_in_content { Stage::Last } else { pending.next };
            self.sent_recipients = pending.recipients;
            if self.lost_in_content {
                continue;
            }
            return Next::Say(pending.line);
        }
    }

    /// The content has gone out.
    pub fn content_sent(&mut self) {
        self.content_sent = true;
    }

    /// The connection broke while the content was going out; the server may have said why.
    pub fn content_lost(&mut self) {
        self.content_sent = true;
        self.lost_in_content = true;
    }

    /// What the client was doing when the connection broke.
    pub fn doing(&self, stage: Stage) -> &'static str {
        if self.lost_in_content { "sending message body" } else { stage.doing() }
    }

    fn is_ahead(&self) -> bool {
        self.receive < self.send || self.answered_recipients != self.sent_recipients
    }

    fn is_quit_behind_dot(&self) -> bool {
        self.receive == Stage::Dot && self.send == Stage::Quit
    }

    fn build(&self) -> Pending {
        let same = |line: &str, next| Pending {
            line: line.to_owned(),
            next,
            recipients: self.sent_recipients,
        };
        let after_mail = if self.keep { Stage::Last } else { Stage::Quit };
        match self.send {
            Stage::NameAddress => same(self.xforward(0), self.behind_name()),
            Stage::ProtocolHelo => same(self.xforward(1), Stage::Mail),
            Stage::Mail => same(&self.script.mail, Stage::Rcpt),
            Stage::Rcpt => {
                let line = self.script.recipients.get(self.sent_recipients);
                let recipients = self.sent_recipients + 1;
                let last = recipients >= self.script.recipients.len();
                let next = if last { self.after_recipients() } else { Stage::Rcpt };
                Pending { line: line.cloned().unwrap_or_default(), next, recipients }
            }
            Stage::Data => same("DATA", Stage::Dot),
            Stage::Dot => same(".", after_mail),
            Stage::Abort => same("RSET", after_mail),
            Stage::Reset => same("RSET", Stage::Last),
            Stage::Quit => same("QUIT", Stage::Last),
            Stage::Last => same("", Stage::Last),
        }
    }

    fn xforward(&self, part: usize) -> &str {
        self.script.xforward.get(part).and_then(Option::as_deref).unwrap_or_default()
    }

    fn behind_name(&self) -> Stage {
        if self.xforward(1).is_empty() { Stage::Mail } else { Stage::ProtocolHelo }
    }

    fn after_recipients(&self) -> Stage {
        if self.script.probe == Some(Stage::Rcpt) { Stage::Abort } else { Stage::Data }
    }

    /// Everything that was said has its answer: is there still something to deliver?
    fn correct(&mut self) {
        let pointless = (self.send == Stage::Rcpt && self.mail_refused)
            || (self.send == Stage::Data && self.taken.is_empty())
            || (self.send == Stage::Dot && self.data_refused);
        if pointless {
            self.send = Stage::Abort;
            self.receive = Stage::Abort;
            self.sent_recipients = 0;
            self.answered_recipients = 0;
            self.pending = Some(self.build());
            if let Some(pending) = &mut self.pending {
                pending.recipients = 0;
            }
        }
    }

    /// Takes the reply for which [`Next::Read`] asked.
    pub fn reply(&mut self, reply: &ReceivedReply) -> Vec<Verdict> {
        let stage = self.receive;
        let good = reply.class() == 2;
        let said = || Failure::said(&self.script.server, reply, stage.request());
        match stage {
            Stage::NameAddress | Stage::ProtocolHelo => {
                let is_first = stage == Stage::NameAddress;
                self.receive = if is_first { self.behind_name() } else { Stage::Mail };
                let (server, text) = (self.script.server.full(), reply.one_line());
                let request = stage.request();
                let told = format!("warning: host {server} said: {text} (in reply to {request})");
                if good { Vec::new() } else { vec![Verdict::Warning(told)] }
            }
            Stage::Mail => {
                self.receive = Stage::Rcpt;
                if good {
                    return Vec::new();
                }
                let failure = said();
                self.mail_refused = true;
                vec![Verdict::RestFailed(failure)]
            }
            Stage::Rcpt => {
                let verdict = (!good && !self.mail_refused).then(said);
                self.recipient(reply, verdict)
            }
            Stage::Data => {
                self.receive = Stage::Dot;
                let failure = (reply.class() != 3).then(said);
                self.data(reply, failure)
            }
            Stage::Dot => {
                let failure = (!good).then(said);
                self.end_of_content(reply, failure)
            }
            Stage::Abort => {
                self.receive = self.behind_mail();
                Vec::new()
            }
            Stage::Reset => {
                self.receive = Stage::Last;
                self.data_refused = !good;
                Vec::new()
            }
            Stage::Quit | Stage::Last => {
                self.receive = Stage::Last;
                Vec::new()
            }
        }
    }

    /// The lone RSET was refused.
    pub fn reset_refused(&self) -> bool {
        self.data_refused
    }

    fn behind_mail(&self) -> Stage {
        let over = self.script.skip_quit_response || self.keep || self.lost_in_content;
        if over { Stage::Last } else { Stage::Quit }
    }

    fn recipient(&mut self, reply: &ReceivedReply, failure: Option<Failure>) -> Vec<Verdict> {
        let index = self.answered_recipients;
        self.answered_recipients += 1;
        if self.answered_recipients >= self.script.recipients.len() {
            self.receive = self.after_recipients();
        }
        if self.mail_refused {
            return Vec::new();
        }
        if let Some(failure) = failure {
            return vec![Verdict::Failed(index, failure)];
        }
        self.taken.push(index);
        match self.script.probe {
            Some(Stage::Rcpt) => vec![Verdict::Sent(index, reply.clone())],
            _ => Vec::new(),
        }
    }

    fn data(&mut self, reply: &ReceivedReply, failure: Option<Failure>) -> Vec<Verdict> {
        if let Some(failure) = failure {
            self.data_refused = true;
            return match self.taken.is_empty() {
                true => Vec::new(),
                false => vec![Verdict::RestFailed(failure)],
            };
        }
        if self.script.probe != Some(Stage::Data) {
            return Vec::new();
        }
        // The server waits for content that will not come: only going away is left.
        self.keep = false;
        self.send = Stage::Last;
        self.receive = Stage::Last;
        self.syncing = false;
        self.pending = None;
        let reply = ReceivedReply { status: "2.0.0".to_owned(), ..reply.clone() };
        self.taken.iter().map(|&index| Verdict::Sent(index, reply.clone())).collect()
    }

    fn end_of_content(&mut self, reply: &ReceivedReply, failure: Option<Failure>) -> Vec<Verdict> {
        let verdicts = match (self.script.lmtp, failure) {
            // Nothing was sent, so nothing can be taken.
            (_, None) if self.lost_in_content => Vec::new(),
            _ if self.taken.is_empty() => Vec::new(),
            (false, None) => {
                self.taken.iter().map(|&index| Verdict::Sent(index, reply.clone())).collect()
            }
            (false, Some(failure)) => vec![Verdict::RestFailed(failure)],
            (true, failure) => {
                let index = self.taken.get(self.concluded).copied();
                self.concluded += 1;
                let verdict = |index| match failure {
                    None => Verdict::Sent(index, reply.clone()),
                    Some(failure) => Verdict::Failed(index, failure),
                };
                index.map(verdict).into_iter().collect()
            }
        };
        if self.script.lmtp && self.concluded < self.taken.len() {
            return verdicts;
        }
        self.receive = self.behind_mail();
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::smtp::ReplyReader;

    fn script(recipients: &[&str], pipelining: bool) -> Script {
        Script {
            server: Server { host: "mx".into(), address: "192.0.2.1".into(), port: 25 },
            mail: "MAIL FROM:<a@b>".into(),
            recipients: recipients.iter().map(|to| format!("RCPT TO:<{to}>")).collect(),
            pipelining,
            skip_quit_response: true,
            ..Script::default()
        }
    }

    /// What the client writes between reads, and what becomes of whom.
    fn play(mut transaction: Transaction, replies: &[&str]) -> Vec<String> {
        let (mut shown, mut batch, mut queued) = (Vec::new(), Vec::new(), 0);
        let mut replies = replies.iter();
        loop {
            match transaction.next(queued) {
                Next::Say(line) => {
                    queued += line.len() + 2;
                    batch.push(line);
                }
                Next::Content => {
                    batch.push("(content)".into());
                    transaction.content_sent();
                }
                Next::Over => {
                    if !batch.is_empty() {
                        shown.push(batch.join(" | "));
                    }
                    return shown;
                }
                Next::Read(stage) => {
                    if !batch.is_empty() {
                        shown.push(std::mem::take(&mut batch).join(" | "));
                        queued = 0;
                    }
                    let Some(reply) = replies.next() else {
                        shown.push(format!("no reply {}", transaction.doing(stage)));
                        return shown;
                    };
                    let reply = ReplyReader::default().line(reply.as_bytes()).unwrap().unwrap();
                    shown.extend(transaction.reply(&reply).into_iter().map(
                        |verdict| match verdict {
                            Verdict::Sent(index, reply) => format!("{index} sent: {}", reply.text),
                            Verdict::Failed(index, failure) => {
                                format!("{index} failed: {} {}", failure.status, failure.reason)
                            }
                            Verdict::RestFailed(failure) => {
                                format!("rest failed: {} {}", failure.status, failure.reason)
                            }
                            Verdict::Warning(text) => text,
                        },
                    ));
                }
            }
        }
    }

    #[test]
    fn step_by_step_or_all_at_once() {
        let plain = Transaction::new(script(&["c@d", "e@f"], false), false);
        assert_eq!(
            play(plain, &["250 ok", "250 ok", "250 ok", "354 go", "250 2.0.0 queued"]),
            [
                "MAIL FROM:<a@b>",
                "RCPT TO:<c@d>",
                "RCPT TO:<e@f>",
                "DATA",
                "(content) | .",
                "0 sent: 250 2.0.0 queued",
                "1 sent: 250 2.0.0 queued",
                "QUIT",
            ]
        );
        let ahead = Transaction::new(script(&["c@d", "e@f"], true), false);
        assert_eq!(
            play(ahead, &["250 ok", "250 ok", "550 5.1.1 no", "354 go", "250 2.0.0 queued"]),
            [
                "MAIL FROM:<a@b> | RCPT TO:<c@d> | RCPT TO:<e@f> | DATA",
                "1 failed: 5.1.1 host mx[192.0.2.1] said: 550 5.1.1 no (in reply to RCPT TO command)",
                "(content) | . | QUIT",
                "0 sent: 250 2.0.0 queued",
            ]
        );
    }

    #[test]
    fn what_fails_is_given_up_in_order() {
        let kept = Transaction::new(script(&["c@d"], false), true);
        assert_eq!(
            play(kept, &["450 4.7.1 later", "250 ok"]),
            [
                "MAIL FROM:<a@b>",
                "rest failed: 4.7.1 host mx[192.0.2.1] said: 450 4.7.1 later (in reply to MAIL FROM command)",
                "RSET",
            ]
        );
        let ahead = Transaction::new(script(&["c@d"], true), false);
        assert_eq!(
            play(ahead, &["250 ok", "550 no", "503 no recipients", "250 reset"]),
            [
                "MAIL FROM:<a@b> | RCPT TO:<c@d> | DATA",
                "0 failed: 5.0.0 host mx[192.0.2.1] said: 550 no (in reply to RCPT TO command)",
                "RSET | QUIT",
            ]
        );
        let data = Transaction::new(script(&["c@d"], false), false);
        assert_eq!(
            play(data, &["250 ok", "250 ok", "250 not a go-ahead", "250 reset"]),
            [
                "MAIL FROM:<a@b>",
                "RCPT TO:<c@d>",
                "DATA",
                "rest failed: 5.5.0 Protocol error: host mx[192.0.2.1] said: 250 not a go-ahead (in reply to DATA command)",
                "RSET",
                "QUIT",
            ]
        );
        let lost = Transaction::new(script(&["c@d"], true), false);
        assert_eq!(
            play(lost, &["250 ok", "250 ok", "354 go"]),
            [
                "MAIL FROM:<a@b> | RCPT TO:<c@d> | DATA",
                "(content) | . | QUIT",
                "no reply sending end of data -- message may be sent more than once",
            ]
        );
    }

    #[test]
    fn lmtp_answers_for_each_recipient_and_a_refused_content_says_more_than_a_lost_line() {
        let lmtp = Script { lmtp: true, ..script(&["c@d", "e@f", "g@h"], true) };
        let replies =
            ["250 ok", "250 ok", "550 no", "250 ok", "354 go", "250 2.1.5 in", "452 4.2.2 full"];
        assert_eq!(
            play(Transaction::new(lmtp, true), &replies),
            [
                "MAIL FROM:<a@b> | RCPT TO:<c@d> | RCPT TO:<e@f> | RCPT TO:<g@h> | DATA",
                "1 failed: 5.0.0 host mx[192.0.2.1] said: 550 no (in reply to RCPT TO command)",
                "(content) | .",
                "0 sent: 250 2.1.5 in",
                "2 failed: 4.2.2 host mx[192.0.2.1] said: 452 4.2.2 full (in reply to end of DATA command)",
            ]
        );
        let mut lost = Transaction::new(script(&["c@d"], false), false);
        for reply in ["250 ok", "250 ok", "354 go"] {
            while !matches!(lost.next(0), Next::Read(_)) {}
            let reply = ReplyReader::default().line(reply.as_bytes()).unwrap().unwrap();
            lost.reply(&reply);
        }
        assert_eq!(lost.next(0), Next::Content);
        lost.content_lost();
        assert_eq!(lost.next(0), Next::Read(Stage::Dot));
        assert_eq!(lost.doing(Stage::Dot), "sending message body");
        let full = ReplyReader::default().line(b"552 5.3.4 too big").unwrap().unwrap();
        assert!(
            matches!(&lost.reply(&full)[..], [Verdict::RestFailed(failure)] if failure.status == "5.3.4")
        );
        assert_eq!(lost.next(0), Next::Over);
    }

    #[test]
    fn probes_deliver_nothing() {
        let probe = Script { probe: Some(Stage::Rcpt), ..script(&["c@d"], true) };
        assert_eq!(
            play(Transaction::new(probe, false), &["250 ok", "250 2.1.5 ok", "250 reset"]),
            ["MAIL FROM:<a@b> | RCPT TO:<c@d> | RSET | QUIT", "0 sent: 250 2.1.5 ok"]
        );
        let probe = Script { probe: Some(Stage::Data), ..script(&["c@d"], true) };
        assert_eq!(
            play(Transaction::new(probe, false), &["250 ok", "250 ok", "354 go"]),
            ["MAIL FROM:<a@b> | RCPT TO:<c@d> | DATA", "0 sent: 354 go"]
        );
    }

    #[test]
    fn many_recipients_go_out_in_batches() {
        let many: Vec<String> =
            (0..300).map(|n| format!("recipient-number-{n}@example.org")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let mut replies = vec!["250 ok"; 301];
        replies.extend(["354 go", "250 done"]);
        let shown = play(Transaction::new(script(&many, true), false), &replies);
        let batches: Vec<&String> = shown.iter().filter(|line| line.contains('|')).collect();
        assert!(batches.len() > 3 && batches.iter().all(|batch| batch.len() < 5000));
        assert_eq!(shown.iter().filter(|line| line.contains("sent:")).count(), 300);
    }
}
