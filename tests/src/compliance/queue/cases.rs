//! Messages as clients of cleanup may send them.

use super::client::Record;

pub struct Case {
    pub name: &'static str,
    pub flags: u32,
    pub records: Vec<Record>,
    /// A check writes a log line about it.
    pub logged: bool,
}

/// The parts of a message that a case may change.
pub struct Message {
    pub context: &'static str,
    pub sender: &'static str,
    pub before: Vec<Record>,
    pub recipients: Vec<Record>,
    pub received: usize,
    pub head: Vec<Record>,
    pub body: Vec<Record>,
    pub extracted: Vec<Record>,
}

pub fn r(kind: char, data: impl AsRef<[u8]>) -> Record {
    (kind, data.as_ref().to_vec())
}

pub fn lines(lines: &[&str]) -> Vec<Record> {
    lines.iter().map(|line| r('N', line)).collect()
}

pub fn to(recipients: &[&str]) -> Vec<Record> {
    recipients.iter().map(|recipient| r('R', recipient)).collect()
}

fn options(records: &[(char, &str)]) -> Vec<Record> {
    records.iter().map(|(kind, data)| r(*kind, data)).collect()
}

impl Default for Message {
    fn default() -> Self {
        Self {
            context: "local",
            sender: "alice@example.test",
            before: Vec::new(),
            recipients: to(&["good@sink.test"]),
            received: 1,
            head: lines(&["Subject: hi"]),
            body: lines(&["hello"]),
            extracted: Vec::new(),
        }
    }
}

impl Message {
    pub fn records(self) -> Vec<Record> {
        let mut list = vec![
            r('T', "1795294973 359036"),
            r('A', "log_ident=ABC"),
            r('A', format!("rewrite_context={}", self.context)),
            r('S', self.sender),
            r('A', "log_client_name=localhost"),
            r('A', "log_message_origin=localhost[127.0.0.1]"),
            r('A', "log_helo_name=c.test"),
            r('A', "log_protocol_name=ESMTP"),
        ];
        list.extend(self.recipients);
        list.extend(self.before);
        list.push(r('M', ""));
        for _ in 0..self.received {
            list.extend(lines(&[
                "Received: from client.test (localhost [127.0.0.1])",
                "\tby mail.example.com (Postfix) with ESMTP id X;",
                "\tSat, 21 Nov 2026 21:00:00 +0000 (UTC)",
            ]));
        }
        list.extend(self.head);
        list.push(r('N', ""));
        list.extend(self.body);
        list.push(r('X', ""));
        list.extend(self.extracted);
        list.push(r('E', ""));
        list
    }
}

pub const SMTPD: u32 = 178;

fn case(name: &'static str, message: Message) -> Case {
    Case { name, flags: SMTPD, records: message.records(), logged: false }
}

pub fn all() -> Vec<Case> {
    let mut cases = envelopes();
    cases.extend(requests());
    cases.extend(headers());
    cases.extend(bodies());
    cases.extend(checks());
    cases
}

fn envelopes() -> Vec<Case> {
    let m = Message::default;
    let mut cases = vec![
        case("plain", m()),
        case("remote", Message { context: "remote", ..m() }),
        case("null sender", Message { sender: "", ..m() }),
        case("unqualified", Message { sender: "alice", recipients: to(&["bob", "root"]), ..m() }),
        case(
            "delivery status options",
            Message {
                recipients: options(&[
                    ('A', "notify_flags=6"),
                    ('A', "dsn_orig_rcpt=rfc822;good@sink.test"),
                    ('R', "good@sink.test"),
                    ('A', "notify_flags=4"),
                    ('R', "x@y.test"),
                ]),
                ..m()
            },
        ),
        case(
            "virtual aliases",
            Message { recipients: to(&["two@example.com", "three@v.test"]), ..m() },
        ),
        case(
            "canonical",
            Message {
                sender: "canon@example.com",
                head: lines(&["From: canon@example.com", "To: good@sink.test"]),
                ..m()
            },
        ),
        case(
            "copies",
            Message {
                sender: "s@example.com",
                recipients: to(&["r@example.com", "q@x.test"]),
                ..m()
            },
        ),
        case(
            "duplicates",
            Message {
                recipients: to(&["a@b.test", "a@b.test", "A@b.test", "bob", "bob@example.com"]),
                ..m()
            },
        ),
        case(
            "quoted",
            Message { sender: "o d d@x.test", recipients: to(&["a b@c.test", ".x@c.test"]), ..m() },
        ),
        case(
            "routed",
            Message { recipients: to(&["@a,@b:joe@c.test", "x%y@example.com", "a!b"]), ..m() },
        ),
    ];
    let mut internal = case("of the bounce service", Message { sender: "", ..m() });
    internal.flags = 32;
    cases.push(internal);
    cases
}

/// Records that ask for something, and some that should not be there.
fn requests() -> Vec<Case> {
    let m = Message::default;
    vec![
        case("empty recipient", Message { recipients: to(&[""]), ..m() }),
        case("no recipient", Message { recipients: vec![], ..m() }),
        case(
            "recipients behind the content",
            Message {
                recipients: vec![],
                extracted: options(&[
                    ('A', "notify_flags=10"),
                    ('R', "hidden@sink.test"),
                    ('R', "bob"),
                ]),
                ..m()
            },
        ),
        case("content filter", Message { before: options(&[('L', "smtp:[127.0.0.1]")]), ..m() }),
        case("verp", Message { before: options(&[('V', "+=")]), ..m() }),
        case("held by smtpd", Message { before: options(&[('f', "4")]), ..m() }),
        case("discarded by smtpd", Message { before: options(&[('f', "8")]), ..m() }),
        case("two senders", Message { before: options(&[('S', "x@y")]), ..m() }),
        case("unknown record", Message { before: options(&[('Q', "x")]), ..m() }),
        case("attribute without value", Message { before: options(&[('A', "novalue=")]), ..m() }),
        case("no attribute", Message { before: options(&[('A', "junk")]), ..m() }),
        case(
            "announced encoding",
            Message { recipients: options(&[('A', "encoding=8bit"), ('R', "a@b.test")]), ..m() },
        ),
    ]
}

fn headers() -> Vec<Case> {
    let m = Message::default;
    let head = |list: &[&str]| Message { head: lines(list), ..Message::default() };
    let long_list: Vec<String> = (0..12).map(|n| format!("user{n}")).collect();
    let long_to = format!("To: {}", long_list.join(", "));
    let mut cases = vec![
        case("nothing but a body", head(&[])),
        case(
            "all fields",
            head(&[
                "From: Joe <joe>, ann@h (x)",
                "To: a, \"Doe, J\" <j>,",
                "\tthird@here.test",
                "Cc: grp: x, y@z.test;",
                "Bcc: hid@x.test",
                "Return-Path: <x@y>",
                "Content-Length: 5",
                "Message-ID: <own@x>",
                "Date: Sat, 21 Nov 2026 21:00:00 +0000",
                "Sender: x",
                "Reply-To: <y>",
            ]),
        ),
        case(
            "a stranger's",
            Message { context: "remote", ..head(&["From: Joe <joe>", "Message-ID: <own@x>"]) },
        ),
        case(
            "sent again",
            head(&["Resent-To: bob", "Message-ID: <own@x>", "From: x@y.test", "Date: d"]),
        ),
        case("many recipients", head(&[&long_to])),
        case(
            "rare fields",
            head(&[
                "Errors-To: joe",
                "Disposition-Notification-To: joe",
                "Mail-Followup-To: joe",
                "Apparently-To: joe",
                "Return-Receipt-To: joe",
                "X-To: joe",
            ]),
        ),
        case("folded", head(&["X-A: a", "  folded", "\tmore", "Message-Id: <a@b>"])),
        case(
            "no empty line",
            Message { body: lines(&["rest"]), ..head(&["Subject: x", "no header here"]) },
        ),
        case("encoded", head(&["Content-Transfer-Encoding: 8bit"])),
        case("binary", head(&["Content-Transfer-Encoding: Binary"])),
        case("quoted-printable", head(&["Content-Transfer-Encoding: quoted-printable"])),
        case("8-bit field", head(&["Subject: café"])),
        case("no Received", Message { received: 0, ..m() }),
        case("too many hops", Message { received: 51, ..m() }),
        case("empty lists", head(&["To: ", "From: <>"])),
    ];
    let mut utf8 = case(
        "SMTPUTF8",
        Message {
            sender: "jörg@x.test",
            recipients: to(&["jörg@x.test"]),
            ..head(&["Subject: café"])
        },
    );
    utf8.flags |= 256;
    cases.push(utf8);
    let mut long = m();
    long.head = vec![r('L', format!("X-Long: {}", "a".repeat(2040))), r('N', "b".repeat(100))];
    cases.push(case("long line", long));
    cases
}

fn bodies() -> Vec<Case> {
    let body = |list: Vec<Record>| Message { body: list, ..Message::default() };
    let parts = |head: &str, list: &[&str]| Message {
        head: lines(&[head]),
        body: lines(list),
        ..Message::default()
    };
    vec![
        case("8-bit body", body(vec![r('N', "café")])),
        case("long body line", body(vec![r('L', "c".repeat(2048)), r('N', "d".repeat(10))])),
        case("stray CR and LF", body(vec![r('N', "a\rb"), r('N', "c\nd")])),
        case("big", body(vec![r('N', "x".repeat(2000)); 5500])),
        case(
            "multipart",
            parts(
                "Content-Type: multipart/mixed; boundary=\"b\"",
                &[
                    "pre",
                    "--b",
                    "X-Ign: gone",
                    "Content-Type: message/rfc822",
                    "",
                    "Subject: pre",
                    "X-Ign: gone2",
                    "",
                    "body",
                    "--b",
                    "",
                    "plain",
                    "--b--",
                    "X-Ign: stays",
                ],
            ),
        ),
        case(
            "attached message",
            parts(
                "Content-Type: message/rfc822",
                &["X-Ign: gone", "Subject: pre", "To: unq", "", "b"],
            ),
        ),
    ]
}

fn checks() -> Vec<Case> {
    let mut cases = Vec::new();
    let subjects = [
        "Subject: rej x",
        "Subject: rep x",
        "Subject: pre x",
        "Subject: hold x",
        "Subject: warn x",
        "Subject: strip x",
        "Subject: redir x",
        "Subject: filt x",
        "Subject: bcc x",
        "Subject: disc x",
    ];
    for subject in subjects {
        let message = Message { head: lines(&[subject, "X-Ign: y"]), ..Message::default() };
        cases.push(Case { logged: true, ..case(subject, message) });
    }
    for line in ["badbody", "repbody", "prebody", "ignbody"] {
        let message = Message { body: lines(&["one", line, "two"]), ..Message::default() };
        cases.push(Case { logged: line != "ignbody", ..case(line, message) });
    }
    let part = Message {
        head: lines(&["Content-Type: multipart/mixed; boundary=b"]),
        body: lines(&["pre", "--b", "X-Part: rej", "", "x", "--b--"]),
        ..Message::default()
    };
    cases.push(Case { logged: true, ..case("a part's header", part) });
    let unchecked = Message { head: lines(&["Subject: rej x"]), ..Message::default() };
    cases.push(Case { flags: 176, ..case("unchecked", unchecked) });
    cases
}
