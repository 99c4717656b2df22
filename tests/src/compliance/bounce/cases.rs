//! The requests, each with the message and the log that it is about.

use protocol::postfix::bounce::{BounceRequest, CLEAN, DELETE_RECIPIENTS, Notice};
use protocol::postfix::{Dsn, Recipient};

use super::rig::Message;

/// Which request a case ends with.
#[derive(Clone, Debug)]
pub enum Ask {
    Flush,
    Warn,
    Trace,
    Verp(&'static str),
    One,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub service: &'static str,
    pub message: Option<Message>,
    pub reports: Vec<(Recipient, Dsn)>,
    pub ask: Ask,
    pub notice: Notice,
}

const NEVER: u32 = 1;
const SUCCESS: u32 = 2;
const FAILURE: u32 = 4;
const DELAY: u32 = 8;

fn lines(text: &str) -> Vec<(char, Vec<u8>)> {
    text.lines().map(|line| ('N', line.as_bytes().to_vec())).collect()
}

fn plain() -> Message {
    Message {
        sender: "bob@src.example",
        recipients: &["bad@sink.test", "worse@sink.test"],
        content: lines(
            "Received: from c.test (localhost [127.0.0.1])\n\tby mail.example.com (Postfix) with ESMTP id X\n\
             Message-ID:   <one@src.example>\nSubject: hi\nX-Empty:\n\nfirst line\n\nlast line",
        ),
    }
}

fn rejected() -> (Recipient, Dsn) {
    let recipient = Recipient {
        address: "bad@sink.test".into(),
        original: "bad@sink.test".into(),
        dsn_original: "rfc822;bad@sink.test".into(),
        ..Recipient::default()
    };
    let dsn = Dsn {
        status: "5.1.1".into(),
        diag_type: "smtp".into(),
        diag_text: "550 5.1.1 <bad@sink.test> no such user here".into(),
        mta_type: "dns".into(),
        mta_name: "127.0.0.1".into(),
        action: "failed".into(),
        reason: "host 127.0.0.1[127.0.0.1] said: 550 5.1.1 <bad@sink.test> no such user here (in reply to \
                 RCPT TO command)"
            .into(),
    };
    (recipient, dsn)
}

fn local(address: &str, status: &str, action: &str, reason: &str) -> (Recipient, Dsn) {
    let recipient =
        Recipient { address: address.into(), original: address.into(), ..Recipient::default() };
    (recipient, Dsn::local(status, action, reason))
}

fn wanting(notify: u32, (mut recipient, dsn): (Recipient, Dsn)) -> (Recipient, Dsn) {
    recipient.notify = notify;
    (recipient, dsn)
}

fn aliased(original: &str, (mut recipient, dsn): (Recipient, Dsn)) -> (Recipient, Dsn) {
    recipient.original = original.into();
    (recipient, dsn)
}

fn failure(name: &'static str) -> Case {
    Case {
        name,
        service: "bounce",
        message: Some(plain()),
        reports: vec![rejected()],
        ask: Ask::Flush,
        notice: Notice {
            flags: 0,
            queue_name: "active".into(),
            queue_id: mail_types::QueueId::parse("0").unwrap(), // set when the case is run
            encoding: String::new(),
            sendopts: 0,
            sender: "bob@src.example".into(),
            envelope_id: String::new(),
            ret: 0,
        },
    }
}

fn with(mut case: Case, change: impl FnOnce(&mut Case)) -> Case {
    change(&mut case);
    case
}

fn delay(name: &'static str) -> Case {
    let report =
        local("slow@sink.test", "4.4.1", "delayed", "connect to sink.test: Connection refused");
    with(failure(name), |case| {
        case.service = "defer";
        case.ask = Ask::Warn;
        case.reports = vec![report];
    })
}

fn success(name: &'static str) -> Case {
    let reason = "delivery via sink.test[192.0.2.1]:25: 250 2.0.0 Ok: queued as 12345";
    let report = wanting(SUCCESS, local("good@sink.test", "2.0.0", "relayed", reason));
    with(failure(name), |case| {
        case.service = "trace";
        case.ask = Ask::Trace;
        case.reports = vec![report];
    })
}

/// With the request flag of `sendmail -bv`.
fn verify(name: &'static str) -> Case {
    let good = local("good@sink.test", "2.0.0", "deliverable", "delivers to mailbox");
    let bad = local("bad@sink.test", "5.1.1", "undeliverable", "unknown user: \"bad\"");
    with(success(name), |case| {
        case.notice.flags = 512;
        case.reports = vec![good, bad];
    })
}

/// Cases for every configuration.
pub fn common() -> Vec<Case> {
    vec![
        failure("failure"),
        delay("delay"),
        success("success"),
        verify("verify"),
        with(failure("a bounce bounces"), |case| {
            case.notice.sender.clear();
            case.message.as_mut().unwrap().sender = "";
        }),
        with(delay("a bounce is delayed"), |case| {
            case.notice.sender.clear();
            case.message.as_mut().unwrap().sender = "";
        }),
        with(success("a bounce arrived"), |case| {
            case.notice.sender.clear();
            case.message.as_mut().unwrap().sender = "";
        }),
        with(failure("a double bounce bounces"), |case| {
            case.notice.sender = "Double-Bounce@mail.example.com".into();
        }),
        with(delay("a double bounce is delayed"), |case| {
            case.notice.sender = "double-bounce@mail.example.com".into();
        }),
        with(success("a double bounce arrived"), |case| {
            case.notice.sender = "double-bounce@mail.example.com".into();
        }),
        with(failure("one"), |case| case.ask = Ask::One),
        with(failure("one bounce bounces"), |case| {
            case.ask = Ask::One;
            case.notice.sender.clear();
        }),
        with(failure("one double bounce bounces"), |case| {
            case.ask = Ask::One;
            case.notice.sender = "double-bounce@mail.example.com".into();
        }),
        with(failure("VERP"), |case| {
            case.ask = Ask::Verp("+=");
            case.reports = vec![rejected(), aliased("list", rejected())];
        }),
        with(failure("headers only"), |case| case.notice.ret = 2),
        with(failure("8bit"), |case| case.notice.encoding = "8bit".into()),
        with(failure("7bit"), |case| case.notice.encoding = "7bit".into()),
        with(failure("UTF-8"), |case| {
            case.notice.sendopts = 1;
            case.notice.sender = "j\u{f6}rg@src.example".into();
            // Postfix puts a backslash before each octet of an 8-bit sender (docs/differences.md).
            case.reports = vec![
                local("b\u{e4}d@sink.test", "5.1.1", "failed", "unknown user: \"b\u{e4}d\""),
                local("ascii@sink.test", "5.1.1", "failed", "unknown user"),
                aliased("\u{e4}lias", local("to@sink.test", "5.1.1", "failed", "no")),
            ];
        }),
        with(failure("large"), |case| {
            let body = "one more line of text that is somewhat long\n".repeat(2000);
            let body = lines(&format!("Subject: large\n\n{body}"));
            case.message.as_mut().unwrap().content = body;
        }),
    ]
}

/// Cases about the message, its log and the request, for one configuration.
pub fn special() -> Vec<Case> {
    let mut cases = about_wishes();
    cases.extend(about_recipients());
    cases.extend(about_logs());
    cases.extend(about_messages());
    cases
}

/// Who asked to be told.
fn about_wishes() -> Vec<Case> {
    vec![
        with(failure("who wants to know"), |case| {
            case.reports = [0, NEVER, SUCCESS, FAILURE, DELAY, FAILURE | DELAY]
                .iter()
                .map(|&notify| {
                    wanting(notify, local(&format!("n{notify}@x"), "5.0.0", "failed", "no"))
                })
                .collect();
        }),
        with(delay("who wants to know of a delay"), |case| {
            case.reports = [0, NEVER, SUCCESS, FAILURE, DELAY, FAILURE | DELAY]
                .iter()
                .map(|&notify| {
                    wanting(notify, local(&format!("n{notify}@x"), "4.0.0", "delayed", "no"))
                })
                .collect();
        }),
        with(failure("nobody wants to know"), |case| {
            case.reports = vec![wanting(NEVER, rejected())]
        }),
        with(delay("nobody wants to know of a delay"), |case| {
            case.reports = vec![wanting(FAILURE, rejected())];
        }),
        with(success("nobody wants to know of a success"), |case| {
            case.reports = vec![wanting(FAILURE, rejected())];
        }),
        with(failure("VERP for those who want to know"), |case| {
            case.ask = Ask::Verp("-=");
            case.reports = vec![wanting(NEVER, rejected()), wanting(FAILURE, rejected())];
        }),
        with(failure("VERP for a bounce"), |case| {
            case.ask = Ask::Verp("+=");
            case.notice.sender.clear();
        }),
        with(failure("one who does not want to know"), |case| {
            case.ask = Ask::One;
            case.reports = vec![wanting(NEVER, rejected())];
        }),
    ]
}

fn about_recipients() -> Vec<Case> {
    let long = "a reason that does not fit into one line, ".repeat(5)
        + "and_a_word_that_is_longer_than_a_whole_line_of_the_notice_may_ever_become_or_so_it_seems x";
    vec![
        with(failure("long reasons"), |case| {
            let (recipient, mut dsn) = rejected();
            dsn.diag_text = format!("550 {long}");
            dsn.reason = format!("host said: {long}");
            dsn.mta_name = format!("{}.example", "long.".repeat(20));
            case.reports = vec![(recipient, dsn), local("x@y", "5.0.0", "failed", &long)];
        }),
        with(failure("aliases and strange addresses"), |case| {
            case.reports = vec![
                aliased("Bad@Sink.test", rejected()),
                aliased("old@example.com", rejected()),
                aliased("an alias", local("a b@sink.test", "5.1.1", "failed", "no")),
                local("", "5.1.1", "failed", "no one"),
                local("x", "5.1.1", "failed", "unqualified"),
                local("\"@\"@x", "5.1.1", "failed", "odd"),
            ];
        }),
        with(failure("control characters"), |case| {
            let (recipient, mut dsn) = rejected();
            dsn.reason = "tab\there, bell\u{7}, \u{e9}\u{fc}".into();
            case.reports = vec![(recipient, dsn)];
        }),
        with(failure("half a diagnosis"), |case| {
            let (recipient, mut dsn) = rejected();
            dsn.diag_text.clear();
            dsn.mta_type.clear();
            case.reports = vec![(recipient, dsn)];
        }),
        with(failure("an action of its own"), |case| {
            let (recipient, mut dsn) = rejected();
            dsn.action = "delayed".into();
            dsn.status = "4.4.1".into();
            case.reports = vec![(recipient, dsn)];
        }),
    ]
}

fn about_logs() -> Vec<Case> {
    vec![
        with(delay("expired"), |case| {
            case.ask = Ask::Flush;
            case.notice.flags = DELETE_RECIPIENTS;
            case.reports = vec![rejected(), local("worse@sink.test", "4.4.1", "delayed", "away")];
        }),
        with(failure("no log"), |case| case.reports.clear()),
        with(delay("no log of delays"), |case| case.reports.clear()),
        with(success("no log of successes"), |case| case.reports.clear()),
        with(failure("no log and clean"), |case| {
            case.reports.clear();
            case.notice.flags = CLEAN;
        }),
        with(success("recorded"), |case| case.notice.flags = 1024),
        with(success("expanded and delivered"), |case| {
            case.reports = vec![
                wanting(SUCCESS, local("list@x", "2.0.0", "expanded", "alias expanded")),
                wanting(SUCCESS, local("user@x", "2.0.0", "delivered", "delivered to maildir")),
            ];
        }),
        with(failure("one on the wrong service"), |case| {
            case.ask = Ask::One;
            case.service = "defer";
        }),
    ]
}

fn about_messages() -> Vec<Case> {
    vec![
        with(failure("no message"), |case| case.message = None),
        with(delay("no message that is delayed"), |case| case.message = None),
        with(failure("envelope id"), |case| case.notice.envelope_id = "abc+xyz".into()),
        with(failure("full on request"), |case| case.notice.ret = 1),
        with(delay("full of a delay on request"), |case| case.notice.ret = 1),
        with(success("full of a success on request"), |case| case.notice.ret = 1),
        with(failure("unknown encoding"), |case| case.notice.encoding = "9bit".into()),
        with(failure("UTF-8 headers"), |case| {
            case.notice.sendopts = 1;
            case.notice.ret = 2;
        }),
        with(failure("detected UTF-8"), |case| {
            case.notice.sendopts = 2;
            case.message.as_mut().unwrap().content = lines("Subject: \u{e9}t\u{e9}\n\nbody");
        }),
        with(delay("UTF-8 delay"), |case| case.notice.sendopts = 1),
        with(failure("8-bit content"), |case| {
            let mut content = lines("Subject: \u{e9}t\u{e9}\n\nbody \u{e9}");
            content.push(('N', b"latin \xe9 and NUL \x00 and \x1b".to_vec()));
            case.message.as_mut().unwrap().content = content;
        }),
        with(failure("long lines"), |case| {
            let mut content = lines("Subject: x");
            content.push(('L', vec![b'X'; 2048]));
            content.push(('N', b": end of a long header".to_vec()));
            content.extend(lines("\nbody"));
            content.push(('L', vec![b'y'; 2048]));
            content.push(('L', vec![b'z'; 2048]));
            content.push(('N', b"end".to_vec()));
            case.message.as_mut().unwrap().content = content;
        }),
        with(failure("headers until something else"), |case| {
            case.notice.ret = 2;
            let text = "X-One: 1\n\tfolded\nFrom alice Sat Nov 21\nX-Two: 2\nSpace before : 3\nno header\nX-Not: 3\n\nbody";
            case.message.as_mut().unwrap().content = lines(text);
        }),
        with(failure("nothing but headers"), |case| {
            case.message.as_mut().unwrap().content = lines("X-One: 1");
        }),
        with(failure("an empty message"), |case| {
            case.message.as_mut().unwrap().content.clear();
        }),
        with(failure("no message id"), |case| {
            case.message.as_mut().unwrap().content = lines("Subject: x\n\nMessage-ID: <body@x>");
        }),
        with(failure("a bad message id"), |case| {
            case.message.as_mut().unwrap().content = lines("Message-ID: not an id at all\n\nbody");
        }),
        with(failure("another sender in the queue file"), |case| {
            case.message.as_mut().unwrap().sender = "a b@src.example";
            case.notice.sender = "c d@src.example".into();
        }),
    ]
}

impl Case {
    /// The last request.
    pub fn request(&self, notice: Notice) -> BounceRequest {
        let report = || self.reports.first().cloned().unwrap_or_default();
        match self.ask {
            Ask::Flush => BounceRequest::Flush(notice),
            Ask::Warn => BounceRequest::Warn(notice),
            Ask::Trace => BounceRequest::Trace(notice),
            Ask::Verp(delimiters) => BounceRequest::Verp(notice, delimiters.into()),
            Ask::One => {
                let (recipient, dsn) = report();
                BounceRequest::One { notice, recipient, dsn }
            }
        }
    }
}
