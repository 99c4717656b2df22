//! Transcripts of sessions that went wrong, for the postmaster (`notify_classes`), as Postfix's smtpd(8) and smtp(8) write
//! them.
//!
//! A session keeps a [`History`] of what was said and of what was wrong with it; at its end [`Postmaster::tell`] posts it
//! through the cleanup service, if anybody wants to know.

use std::path::PathBuf;
use std::time::Duration;

use config::Problems;
use config::postfix::{self, View};
use mail_types::{Clock as _, QueueId, SystemClock};
use message::wrap::wrapped;
use protocol::postfix::cleanup::CleanupFlags;
use protocol::postfix::record::RecordType;
use serde::{Deserialize, Serialize};

use crate::cleanup::{CleanupError, Submission};

/// Columns of a transcript, and how far the rest of a long line is indented.
const WIDTH: usize = 78;
const INDENT: usize = 4;
/// What is said beyond this is not kept.
const LONGEST_HISTORY: usize = 256 * 1024;
/// A session does not wait longer for its notice, whatever `ipc_timeout` is.
const PATIENCE: Duration = Duration::from_secs(60);

/// What can be wrong with a session, in the words of `notify_classes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Bounce,
    Data,
    Policy,
    Protocol,
    Resource,
    Software,
}

impl Class {
    const ALL: [Self; 6] =
        [Self::Bounce, Self::Data, Self::Policy, Self::Protocol, Self::Resource, Self::Software];

    const fn name(self) -> &'static str {
        match self {
            Self::Bounce => "bounce",
            Self::Data => "data",
            Self::Policy => "policy",
            Self::Protocol => "protocol",
            Self::Resource => "resource",
            Self::Software => "software",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Some of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes(u8);

impl Classes {
    pub fn add(&mut self, class: Class) {
        self.0 |= class.bit();
    }

    #[must_use]
    pub const fn has(self, class: Class) -> bool {
        self.0 & class.bit() != 0
    }

    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What was said in a session so far, and what was wrong with it.
#[derive(Debug, Default)]
pub struct History {
    lines: Vec<String>,
    octets: usize,
    pub wrong: Classes,
}

impl History {
    /// The other side has said this.
    pub fn heard(&mut self, text: &str) {
        self.keep("In:  ", text);
    }

    /// We have said this.
    pub fn said(&mut self, text: &str) {
        self.keep("Out: ", text);
    }

    /// A line that belongs to the one before.
    pub fn noted(&mut self, text: &str) {
        self.keep("", text);
    }

    fn keep(&mut self, direction: &str, text: &str) {
        let line =
            if self.octets < LONGEST_HISTORY { format!("{direction}{text}") } else { return };
        self.octets += line.len();
        self.lines.push(line);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// What a notice says around its transcript.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Behind `mail_name`.
    pub subject: String,
    /// A line of its own before the transcript.
    pub opening: Option<String>,
    /// Why the session was cut short: a line of its own after it, and then an empty one even for none.
    pub aborted: Option<Option<&'static str>>,
    /// Unknown recipients are for `bounce_notice_recipient`.
    pub tells_bounces: bool,
}

/// Why a notice was not sent. Nobody waits for it: the log shall say so.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    #[error(transparent)]
    Cleanup(#[from] CleanupError),
    #[error("cleanup status {0} {1}")]
    Refused(u32, String),
}

/// Who wants to hear of what, and how it is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Postmaster {
    pub classes: Classes,
    error_recipient: String,
    bounce_recipient: String,
    double_bounce_sender: String,
    myhostname: String,
    mail_name: String,
    /// `header_from_format = obsolete`
    old_style: bool,
    /// Notices go through header and body checks and milters too.
    filtered: bool,
    cleanup: PathBuf,
    timeout: Duration,
}

impl Postmaster {
    /// `bounces`: the reader tells of unknown recipients, too.
    #[must_use]
    pub fn read(view: &View<'_>, bounces: bool, problems: &mut Problems) -> Self {
        let mut classes = Classes::default();
        for word in view.get(postfix::NOTIFY_CLASSES, problems) {
            let is = |name: &str| word.as_str().eq_ignore_ascii_case(name);
            match Class::ALL.into_iter().find(|class| is(class.name())) {
                Some(class) => classes.add(class),
                None if is("2bounce") || is("delay") => {}
                None => {
                    let what = format!("notify_classes: there is no class \"{}\"", word.as_str());
                    problems.error(view.place(postfix::NOTIFY_CLASSES), what).instead(
                        "write classes of bounce, 2bounce, data, delay, policy, protocol, resource, software",
                    );
                }
            }
        }
        let error_recipient = view.get(postfix::ERROR_NOTICE_RECIPIENT, problems);
        let filtered = view.get(postfix::INTERNAL_MAIL_FILTER_CLASSES, problems);
        let queue = PathBuf::from(view.get(postfix::QUEUE_DIRECTORY, problems));
        Self {
            classes,
            bounce_recipient: match bounces {
                true => view.get(postfix::BOUNCE_NOTICE_RECIPIENT, problems),
                false => error_recipient.clone(),
            },
            error_recipient,
            double_bounce_sender: view.get(postfix::DOUBLE_BOUNCE_SENDER, problems),
            myhostname: view.get(postfix::MYHOSTNAME, problems),
            mail_name: view.get(postfix::MAIL_NAME, problems),
            old_style: view.get(postfix::HEADER_FROM_FORMAT, problems) == "obsolete",
            filtered: filtered.split([' ', '\t', ',', '\n']).any(|word| word == "notify"),
            cleanup: queue.join("public").join(view.get(postfix::CLEANUP_SERVICE_NAME, problems)),
            timeout: view.get(postfix::IPC_TIMEOUT, problems).min(PATIENCE),
        }
    }

    /// Whether anybody wants to hear of this.
    #[must_use]
    pub fn wants(&self, history: &History) -> bool {
        !history.is_empty() && !history.wrong.and(self.classes).is_empty()
    }

    /// The sender of notices, whose failures nobody hears of.
    #[must_use]
    pub fn double_bounce(&self) -> String {
        format!("{}@{}", self.double_bounce_sender, self.myhostname)
    }

    /// Posts a notice. It is on disk when this gives its queue id.
    ///
    /// # Errors
    ///
    /// [`TellError`]: it was not queued.
    pub async fn tell(&self, history: &History, about: &About) -> Result<QueueId, TellError> {
        let bounces = about.tells_bounces && history.wrong.has(Class::Bounce);
        let recipient = if bounces { &self.bounce_recipient } else { &self.error_recipient };
        let mut flags = CleanupFlags::INTERNAL;
        if self.filtered {
            flags = flags.with(CleanupFlags::FILTER).with(CleanupFlags::MILTER);
        }
        let now = SystemClock.timestamp();
        let mut mail = Submission::open(&self.cleanup, flags, self.timeout).await?;
        let id = mail.queue_id().clone();
        let time = format!("{} {}", now.seconds, now.micros);
        mail.record(RecordType::TIME, time.as_bytes()).await?;
        mail.attribute("log_message_origin", "local").await?;
        mail.attribute("trace_flags", "0").await?;
        mail.record(RecordType::SENDER, self.double_bounce().as_bytes()).await?;
        mail.record(RecordType::RECIPIENT, recipient.as_bytes()).await?;
        mail.record(RecordType::MESSAGE, b"").await?;
        for line in self.lines(&id, now.seconds, history, about) {
            mail.record(RecordType::LINE, line.as_bytes()).await?;
        }
        mail.record(RecordType::EXTRACTED, b"").await?;
        let outcome = mail.finish().await?;
        match outcome.status.is_ok() {
            true => Ok(id),
            false => Err(TellError::Refused(outcome.status.0, outcome.reason)),
        }
    }

    fn lines(&self, id: &QueueId, seconds: i64, history: &History, about: &About) -> Vec<String> {
        let date = message::date::format_with_zone(seconds);
        let (host, daemon) = (&self.myhostname, format!("MAILER-DAEMON@{}", self.myhostname));
        let mut lines = vec![
            format!("Received: by {host} ({})", self.mail_name),
            format!("\tid {id}; {date}"),
            format!("Date: {date}"),
        ];
        lines.extend(match self.old_style {
            true => [
                format!("From: {daemon} (Mail Delivery System)"),
                format!("To: {} (Postmaster)", self.error_recipient),
            ],
            false => [
                format!("From: Mail Delivery System <{daemon}>"),
                format!("To: Postmaster <{}>", self.error_recipient),
            ],
        });
        lines.push(format!("Subject: {} {}", self.mail_name, about.subject));
        lines.push(String::new());
        if let Some(opening) = &about.opening {
            lines.extend([opening.clone(), String::new()]);
        }
        lines.extend(["Transcript of session follows.".to_owned(), String::new()]);
        for line in &history.lines {
            // Whatever strangers said begins no header and ends no message.
            lines.extend(wrapped(line, WIDTH, INDENT).into_iter().map(|line| format!(" {line}")));
        }
        lines.push(String::new());
        if let Some(reason) = about.aborted {
            lines.extend(reason.map(|reason| format!("Session aborted, reason: {reason}")));
            lines.push(String::new());
        }
        lines.push("For other details, see the local mail logfile".to_owned());
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn postmaster() -> Postmaster {
        Postmaster {
            classes: Classes::default(),
            error_recipient: "errors".into(),
            bounce_recipient: "bounces".into(),
            double_bounce_sender: "double-bounce".into(),
            myhostname: "mail.example.com".into(),
            mail_name: "Postfix".into(),
            old_style: false,
            filtered: false,
            cleanup: PathBuf::new(),
            timeout: PATIENCE,
        }
    }

    #[test]
    fn only_what_somebody_wants_to_hear_is_told() {
        let (mut postmaster, mut history) = (postmaster(), History::default());
        history.wrong.add(Class::Policy);
        postmaster.classes.add(Class::Policy);
        assert!(!postmaster.wants(&history), "nothing was said");
        history.heard("MAIL");
        assert!(postmaster.wants(&history));
        postmaster.classes = Classes::default();
        postmaster.classes.add(Class::Protocol);
        assert!(!postmaster.wants(&history));
    }

    #[test]
    fn what_strangers_said_stays_behind_a_blank() {
        let mut history = History::default();
        history.heard("Subject: x");
        history.said(&format!("500 {}", "word ".repeat(20)));
        let id: QueueId = "ABCDEF".parse().unwrap();
        let about = About { aborted: Some(Some("timeout")), ..About::default() };
        let lines = postmaster().lines(&id, 0, &history, &about);
        assert_eq!(lines[9], " In:  Subject: x");
        assert!(lines[10].starts_with(" Out: 500 word") && lines[10].len() <= WIDTH + 1);
        assert!(lines[11].starts_with("     word"), "{lines:#?}");
        assert!(lines.contains(&"Session aborted, reason: timeout".to_owned()));
    }

    #[test]
    fn a_flood_is_not_kept() {
        let mut history = History::default();
        (0..100_000).for_each(|_| history.heard("NOOP and so on"));
        assert!(history.octets < LONGEST_HISTORY + 100);
    }
}
