//! Who is told of an event, and how much: the sender, the postmaster, or nobody.

use mail_types::Notify;
use queue::LogEntry;
use serde::{Deserialize, Serialize};

use super::template::Kind;

/// RET=HDRS in a request.
const RET_HEADERS: u32 = 2;

/// Who reads what the sender does not.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Readers {
    /// The sender of mail to the postmaster, whose bounces nobody gets.
    pub double_bounce: String,
    /// `bounce_notice_recipient`, and whether `notify_classes` has `bounce`.
    pub bounces: String,
    pub copy_bounces: bool,
    /// `delay_notice_recipient`, and whether `notify_classes` has `delay`.
    pub delays: String,
    pub copy_delays: bool,
    /// `2bounce_notice_recipient`, and whether `notify_classes` has `2bounce` or `bounce`.
    pub bounced_bounces: String,
    pub keep_bounced_bounces: bool,
    /// Whether it has `2bounce`: then reports on bounces go there, too.
    pub trace_bounces: bool,
}

/// The recipients that an event is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    Recipients(Vec<LogEntry>),
    /// The log is gone. The sender must hear of a failure all the same.
    Lost,
}

/// One notice to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    pub from: String,
    pub to: String,
    /// In the postmaster's words.
    pub postmaster: bool,
    /// With the text that explains what happened.
    pub explained: bool,
    pub report: Report,
    pub headers_only: bool,
    /// The word in the log.
    pub what: &'static str,
    /// If it cannot be queued only the log says so: the one before it counts.
    pub copy: bool,
}

/// What is to be done about an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Send(Vec<Letter>),
    /// It is about mail of our own that nobody shall hear of: a warning for the log.
    Discard(&'static str),
    /// As before, told as an ordinary line.
    Silent {
        line: &'static str,
        forget: bool,
    },
}

const NON_DELIVERY: &str = "postmaster non-delivery notification";
const DISCARDED: &str = "undeliverable postmaster notification discarded";

impl Readers {
    #[must_use]
    pub fn is_double_bounce(&self, sender: &str) -> bool {
        sender.eq_ignore_ascii_case(&self.double_bounce)
    }

    /// Decides about one event. `ret` is what the sender asked to get back.
    #[must_use]
    pub fn answer(&self, kind: Kind, sender: &str, ret: u32, report: &Report) -> Answer {
        let traced = matches!(kind, Kind::Success | Kind::Verify);
        if self.is_double_bounce(sender) {
            return match traced {
                true => Answer::Silent {
                    line: "not sending trace/success notification for double-bounce message",
                    forget: false,
                },
                false => Answer::Discard(DISCARDED),
            };
        }
        let mut letters = Vec::new();
        if sender.is_empty() {
            match kind {
                Kind::Success | Kind::Verify if self.trace_bounces => {
                    let from = self.double_bounce.clone();
                    let letter = self.to_sender(kind, &self.bounced_bounces, ret, report.clone());
                    letters.push(Letter { from, ..letter });
                }
                Kind::Success | Kind::Verify => {
                    return Answer::Silent {
                        line: "not sending trace/success notification for single-bounce message",
                        forget: true,
                    };
                }
                Kind::Delay if self.copy_delays => {
                    letters.push(self.to_postmaster(kind, &self.delays, report));
                }
                Kind::Failure if self.keep_bounced_bounces => {
                    letters.push(self.to_postmaster(kind, &self.bounced_bounces, report));
                }
                Kind::Delay | Kind::Failure => {}
            }
            // For the postmaster these are no copies: it gets all there is.
            for letter in letters.iter_mut().filter(|letter| letter.postmaster) {
                letter.headers_only = false;
            }
        } else {
            letters.push(self.to_sender(kind, sender, ret, wanted(kind, report)));
            let copies = match kind {
                Kind::Failure => self.copy_bounces.then_some(&self.bounces),
                Kind::Delay => self.copy_delays.then_some(&self.delays),
                Kind::Success | Kind::Verify => None,
            };
            if let Some(to) = copies {
                letters.push(Letter { copy: true, ..self.to_postmaster(kind, to, report) });
            }
        }
        letters.retain(|letter| letter.report.says_something(kind));
        Answer::Send(letters)
    }

    fn to_sender(&self, kind: Kind, to: &str, ret: u32, report: Report) -> Letter {
        Letter {
            from: String::new(),
            to: to.to_owned(),
            postmaster: false,
            explained: true,
            report,
            headers_only: kind != Kind::Failure || ret == RET_HEADERS,
            what: match kind {
                Kind::Failure => "sender non-delivery notification",
                Kind::Delay => "sender delay notification",
                Kind::Success | Kind::Verify => "sender delivery status notification",
            },
            copy: false,
        }
    }

    fn to_postmaster(&self, kind: Kind, to: &str, report: &Report) -> Letter {
        Letter {
            from: self.double_bounce.clone(),
            to: to.to_owned(),
            postmaster: true,
            explained: false,
            report: report.clone(),
            headers_only: true,
            what: if kind == Kind::Delay { "postmaster delay notification" } else { NON_DELIVERY },
            copy: false,
        }
    }
}

impl Report {
    fn says_something(&self, kind: Kind) -> bool {
        match self {
            Self::Recipients(entries) => !entries.is_empty(),
            Self::Lost => kind == Kind::Failure,
        }
    }
}

/// The recipients of whom the sender wants to hear (NOTIFY of RFC 3461). A trace log holds only what
/// somebody asked for.
fn wanted(kind: Kind, report: &Report) -> Report {
    let Report::Recipients(entries) = report else { return Report::Lost };
    let wanted = |entry: &&LogEntry| {
        let notify = Notify::from_bits(entry.recipient.notify).unwrap_or_default();
        match kind {
            Kind::Failure => notify.wants_failure(),
            Kind::Delay => notify.wants_delay(),
            Kind::Success | Kind::Verify => true,
        }
    };
    Report::Recipients(entries.iter().filter(wanted).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::postfix::{Dsn, Recipient};

    fn readers() -> Readers {
        Readers {
            double_bounce: "double-bounce@m".into(),
            bounces: "bounces".into(),
            copy_bounces: false,
            delays: "delays".into(),
            copy_delays: false,
            bounced_bounces: "doubles".into(),
            keep_bounced_bounces: false,
            trace_bounces: false,
        }
    }

    fn report(notify: u32) -> Report {
        let recipient = Recipient { notify, ..Recipient::default() };
        Report::Recipients(vec![LogEntry { recipient, dsn: Dsn::default() }])
    }

    #[test]
    fn only_those_who_want_it_are_told() {
        for (kind, notify, told) in [
            (Kind::Failure, 0, true),
            (Kind::Failure, 1, false),
            (Kind::Failure, 2, false),
            (Kind::Failure, 4, true),
            (Kind::Delay, 0, true),
            (Kind::Delay, 4, false),
            (Kind::Success, 0, true),
            (Kind::Verify, 1, true),
        ] {
            let answer = readers().answer(kind, "a@b", 0, &report(notify));
            let Answer::Send(letters) = answer else { panic!("{answer:?}") };
            assert_eq!(!letters.is_empty(), told, "{kind:?} {notify}");
        }
    }

    #[test]
    fn a_bounce_of_a_bounce_goes_to_the_postmaster_or_nowhere() {
        let mut readers = readers();
        assert_eq!(readers.answer(Kind::Failure, "", 0, &report(0)), Answer::Send(Vec::new()));
        readers.keep_bounced_bounces = true;
        let Answer::Send(letters) = readers.answer(Kind::Failure, "", 2, &report(0)) else {
            panic!()
        };
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].from, "double-bounce@m");
        assert!(letters[0].postmaster && !letters[0].headers_only && !letters[0].copy);
        let third = readers.answer(Kind::Failure, "Double-Bounce@M", 0, &report(0));
        assert_eq!(third, Answer::Discard(DISCARDED));
    }

    #[test]
    fn a_lost_log_is_still_a_failure() {
        let told =
            |kind| readers().answer(kind, "a@b", 0, &Report::Lost) != Answer::Send(Vec::new());
        assert!(told(Kind::Failure) && !told(Kind::Delay));
    }
}
