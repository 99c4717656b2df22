//! The cases.
#![allow(clippy::too_many_lines)] // tables

use protocol::milter::{Actions, Reply, Steps};

use super::sites::TLS;
use super::{Act, CONTENT, Case, Fate, case, code, reject};

const CUT: &[&str] = &["220", "250", "250", "250", "250", "354"];

fn header(name: &str, value: &str) -> (bytes::Bytes, bytes::Bytes) {
    (
        bytes::Bytes::copy_from_slice(name.as_bytes()),
        bytes::Bytes::copy_from_slice(value.as_bytes()),
    )
}

fn add(name: &str, value: &str) -> Reply {
    let (name, value) = header(name, value);
    Reply::AddHeader { name, value }
}

fn insert(index: u32, name: &str, value: &str) -> Reply {
    let (name, value) = header(name, value);
    Reply::InsertHeader { index, name, value }
}

fn change(index: u32, name: &str, value: &str) -> Reply {
    let (name, value) = header(name, value);
    Reply::ChangeHeader { index, name, value }
}

fn body(text: &str) -> Reply {
    Reply::ReplaceBody(bytes::Bytes::copy_from_slice(text.as_bytes()))
}

fn rcpt(address: &str) -> Reply {
    Reply::AddRcpt { address: bytes::Bytes::copy_from_slice(address.as_bytes()) }
}

fn rcpt_with(address: &str, parameters: &str) -> Reply {
    let (address, parameters) = header(address, parameters);
    Reply::AddRcptWithParameters { address, parameters }
}

fn delete(address: &str) -> Reply {
    Reply::DelRcpt { address: bytes::Bytes::copy_from_slice(address.as_bytes()) }
}

fn from(address: &str, parameters: &str) -> Reply {
    let (address, parameters) = header(address, parameters);
    Reply::ChangeFrom { address, parameters }
}

fn quarantine() -> Reply {
    Reply::Quarantine { reason: "because".into() }
}

/// Every answer at every stage.
pub fn replies() -> Vec<Case> {
    let mut cases = vec![
        case("nothing said", "one").heard("OCHMRRTLLLLLLLLLLLLLNBEAAQ"),
        case("reject at connect", "one")
            .say('C', reject())
            .replies(&[
                "554 mail.example.com ESMTP not accepting connections",
                "250",
                "550 5.7.1 Command rejected",
            ])
            .fate(Fate::Gone),
        case("tempfail at connect", "one")
            .say('C', Reply::Tempfail)
            .replies(&["220", "250", "451 4.7.1 Service unavailable - try again later"])
            .fate(Fate::Gone),
        case("421 at connect", "one")
            .say('C', code(421, "4.7.0 go away"))
            .replies(&["421 mail.example.com Service unavailable - try again later", "closed"])
            .fate(Fate::Gone),
        case("text at helo", "one")
            .say('H', code(550, "5.7.9 not you"))
            .replies(&["220", "250", "550 5.7.9 not you"])
            .fate(Fate::Gone),
        case("421 at helo", "one")
            .say('H', code(421, "4.7.0 go away"))
            .replies(&["220", "421 4.7.0 go away", "closed"])
            .fate(Fate::Gone),
        case("discard at connect", "one").say('C', Reply::Discard),
        case("discard at helo", "one").say('H', Reply::Discard),
        case("discard at rcpt", "one").say('R', Reply::Discard).replies(CUT).fate(Fate::Gone),
        case("accept at connect", "one").say('C', Reply::Accept).heard("OC"),
        case("accept at mail", "one").say('M', Reply::Accept).heard("OCHMAAQ"),
        case("skip body", "one").say('B', Reply::Skip),
        case("shutdown at mail", "one")
            .say('M', Reply::Shutdown)
            .replies(&["220", "250", "421 4.7.0 Server closing connection", "closed"])
            .fate(Fate::Gone),
        case("quarantine at the end", "one")
            .on('E', [Act::Say(quarantine()), Act::Say(Reply::Accept)])
            .fate(Fate::Held),
        case("malformed reply", "one")
            .say('M', code(550, "4.7.1 x"))
            .replies(&["220", "250", "451 4.3.5 Server configuration problem - try again later"])
            .fate(Fate::Gone),
        case("percent signs", "one")
            .on('M', [Act::Say(Reply::ReplyCode("550 5.7.1 50%% off %x".into()))])
            .replies(&["220", "250", "550 5.7.1 50% off x"])
            .fate(Fate::Gone),
        case("several lines", "one")
            .on('E', [Act::Say(Reply::ReplyCode("550-5.7.1 one\r\n550 5.7.1 two".into()))])
            .fate(Fate::Gone),
        case("unknown command", "one")
            .commands(&["EHLO a", "FOO bar", "RSET", "NOOP", "EHLO b", "VRFY x", "QUIT"])
            .fate(Fate::Gone),
        case("unknown command refused", "one")
            .say('U', code(450, "4.7.1 what"))
            .commands(&["EHLO a", "FOO", "QUIT"])
            .replies(&["220", "250", "450 4.7.1 what"])
            .fate(Fate::Gone),
        case("two messages and a third begun", "one").commands(&[
            "EHLO c.example",
            "FOO",
            "MAIL FROM:<a@example.com>",
            "RCPT TO:<b@sink.test>",
            "RCPT TO:<c@sink.test>",
            "RSET",
            "EHLO again",
            "MAIL FROM:<a@example.com>",
            "RCPT TO:<b@sink.test>",
            "DATA",
            CONTENT,
            "MAIL FROM:<>",
            "RCPT TO:<b@sink.test>",
            "DATA",
            CONTENT,
            "MAIL FROM:<a@example.com>",
            "QUIT",
        ]),
        case("one recipient refused", "one")
            .on('R', [Act::Say(code(550, "5.1.1 no"))])
            .replies(&["220", "250", "250", "550 5.1.1 no"])
            .fate(Fate::Gone),
        case("rejected recipients are shown", "norelay")
            .steps(Steps::REJECTED_RCPT)
            .replies(&["220", "250", "250", "454 4.7.1 <bob@sink.test>: Relay access denied"])
            .say('R', reject())
            .fate(Fate::Gone),
        case("xclient", "xclient")
            .commands(&[
                "EHLO a",
                "XCLIENT NAME=c.example ADDR=10.1.2.3 PORT=4711",
                "EHLO b",
                "MAIL FROM:<a@example.com>",
                "QUIT",
            ])
            .fate(Fate::Gone),
        case("bdat", "one").commands(&[
            "EHLO a",
            "MAIL FROM:<a@example.com>",
            "RCPT TO:<b@sink.test>",
            "BDAT 20 LAST\r\nSubject: a\r\n\r\nbody\r\n",
            "QUIT",
        ]),
    ];
    for (stage, letter) in [
        ("mail", 'M'),
        ("rcpt", 'R'),
        ("data", 'T'),
        ("header", 'L'),
        ("end of header", 'N'),
        ("body", 'B'),
        ("end", 'E'),
    ] {
        let said = [
            ("reject", reject(), "550 5.7.1 Command rejected"),
            ("tempfail", Reply::Tempfail, "451 4.7.1 Service unavailable - try again later"),
            ("text", code(554, "5.7.9 told"), "554 5.7.9 told"),
            ("421", code(421, "4.7.9 told"), "421 4.7.9 told"),
        ];
        for (what, reply, text) in said {
            let before = match letter {
                'M' => 2,
                'R' => 3,
                'T' => 5,
                _ => 6,
            };
            let mut replies = CUT[..before].to_vec();
            replies.push(text);
            cases.push(
                case(format!("{what} at {stage}"), "one")
                    .say(letter, reply)
                    .replies(&replies)
                    .fate(Fate::Gone),
            );
        }
        cases.push(
            case(format!("discard at {stage}"), "one")
                .say(letter, Reply::Discard)
                .replies(CUT)
                .fate(Fate::Gone),
        );
        cases.push(
            case(format!("accept at {stage}"), "one").say(letter, Reply::Accept).replies(CUT),
        );
    }
    cases
}

/// Filters that are not there, do not answer, or answer nonsense.
pub fn failures() -> Vec<Case> {
    let nonsense = |name: &str, bytes: &[u8]| {
        case(name, "quick")
            .on('M', [Act::Raw(bytes.to_vec())])
            .replies(&["220", "250", "451 4.7.1 Service unavailable - try again later"])
            .fate(Fate::Gone)
    };
    vec![
        case("nobody, accept", "accept"),
        case("nobody, reject", "reject")
            .replies(&[
                "554 mail.example.com ESMTP not accepting connections",
                "250",
                "550 5.5.0 Service unavailable",
            ])
            .fate(Fate::Gone),
        case("nobody, tempfail", "tempfail")
            .replies(&["220", "250", "451 4.7.1 Service unavailable - try again later"])
            .fate(Fate::Gone),
        case("nobody, quarantine", "quarantine").fate(Fate::Held),
        case("silent at mail", "quick")
            .on('M', [Act::Hang])
            .replies(&["220", "250", "451 4.7.1 Service unavailable - try again later"])
            .fate(Fate::Gone),
        case("silent at the end", "quick").on('E', [Act::Hang]).fate(Fate::Gone),
        case("silent at mail, accept", "quick-accept").on('M', [Act::Hang]),
        case("silent at the end, accept", "quick-accept").on('E', [Act::Hang]),
        case("dies at rcpt", "one")
            .on('R', [Act::Die])
            .replies(&["220", "250", "250", "451 4.7.1 Service unavailable - try again later"])
            .fate(Fate::Gone),
        case("dies at the end", "one").on('E', [Act::Die]).fate(Fate::Gone),
        case("dies at the end after edits, accept", "quick-accept")
            .on('E', [Act::Say(add("X-Half", "done")), Act::Die]),
        case("dies in the handshake", "one")
            .on('O', [Act::Die])
            .replies(&["220", "250", "451"])
            .fate(Fate::Gone),
        case("a newer version", "one")
            .on('O', [Act::Raw(b"\0\0\0\x0dO\0\0\0\x07\0\0\x01\xff\0\0\0\0".to_vec())])
            .replies(&["220", "250", "451"])
            .fate(Fate::Gone),
        case("unknown actions", "one")
            .on('O', [Act::Raw(b"\0\0\0\x0dO\0\0\0\x06\0\0\x03\xff\0\0\0\0".to_vec())])
            .replies(&["220", "250", "451"])
            .fate(Fate::Gone),
        case("unknown steps", "one")
            .on('O', [Act::Raw(b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\x30\0\0\0".to_vec())]),
        case("no handshake", "one")
            .on('O', [Act::Say(Reply::Continue)])
            .replies(&["220", "250", "451"])
            .fate(Fate::Gone),
        nonsense("an unknown code", b"\0\0\0\x01z"),
        nonsense("no length", b"\0\0\0\0"),
        nonsense("a huge frame", b"\x7f\xff\xff\xffc"),
        nonsense("something behind a reply", b"\0\0\0\x02cx"),
        nonsense("connection failed", b"\0\0\0\x01f"),
        nonsense("http", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        nonsense("an edit too early", b"\0\0\0\x05ha\0b\0"),
        case("progress", "quick").on(
            'E',
            [Act::Say(Reply::Progress), Act::Say(Reply::Progress), Act::Say(Reply::Accept)],
        ),
        case("an empty header name", "one").edits([change(1, "", "x")]).fate(Fate::Gone),
        case("two new bodies", "one")
            .edits([body("one\n"), add("X", "y"), body("two\n")])
            .fate(Fate::Gone),
    ]
}

/// A filter that fails at each stage, whatever the server is to do then.
pub fn stages() -> Vec<Case> {
    let actions = [
        ("accepting", Fate::Queued),
        ("rejecting", Fate::Gone),
        ("one", Fate::Gone),
        ("holding", Fate::Held),
    ];
    let mut cases = Vec::new();
    for letter in "OCHMRTLNBE".chars() {
        for (service, fate) in actions {
            cases.push(
                case(format!("dies at {letter}, {service}"), service)
                    .on(letter, [Act::Die])
                    .fate(fate),
            );
            let unasked: &[u8] = match letter {
                'E' => b"\0\0\0\x01?",
                _ => b"\0\0\0\x0bhX\0value is",
            };
            cases.push(
                case(format!("nonsense at {letter}, {service}"), service)
                    .on(letter, [Act::Raw(unasked.to_vec())])
                    .fate(fate),
            );
            let reply = Act::Say(code(550, "4.7.1 of two classes"));
            cases.push(
                case(format!("a malformed reply at {letter}, {service}"), service)
                    .on(letter, [reply])
                    .fate(fate),
            );
        }
    }
    cases.push(case("silent in the handshake", "quick").on('O', [Act::Hang]).fate(Fate::Gone));
    cases.push(case("silent at the body", "quick").on('B', [Act::Hang]).fate(Fate::Gone));
    cases
}

/// Edits that no message can have, and more of them than any filter has use for.
pub fn impossible() -> Vec<Case> {
    let long = "x".repeat(120_000);
    vec![
        case("beyond the header", "one").edits([
            insert(u32::MAX, "X-I", "1"),
            change(u32::MAX, "X-A", "2"),
            change(u32::MAX, "X-A", ""),
        ]),
        case("a field with an empty line", "one").edits([add("X-E", "a\n\nb")]),
        case("a field with bare returns", "one").edits([add("X-R", "a\rb\r\n c\r")]),
        case("a field longer than header_size_limit", "one").edits([add("X-L", &long)]),
        case("a long folded field", "one")
            .edits([add("X-L", &format!("{0}\n {0}\n {0}", &long[..30_000]))]),
        case("a field that ends in a newline", "one").edits([add("X-N", "a\n")]),
        case("only newlines", "one").edits([insert(1, "X-N", "\n\n"), change(1, "X-A", "\n")]),
        case("recipients that are none", "one").edits([
            rcpt("a b@c d"),
            rcpt("@"),
            rcpt("\"unended@sink.test"),
            rcpt("(only a comment)"),
        ]),
        case("a long recipient", "one").edits([rcpt(&format!("{}@sink.test", "x".repeat(3000)))]),
        case("senders that are none", "one").edits([from("a b@c d", "")]),
        case("parameters that are none", "one").edits([
            rcpt_with("p@sink.test", "NOTIFY=SOMETIMES"),
            rcpt_with("q@sink.test", "ORCPT=x"),
            rcpt_with("r@sink.test", " NOTIFY=NEVER  X"),
            from("<s@example.com>", "RET=SOME"),
            from("<t@example.com>", "ENVID=+ZZ SIZE=1"),
        ]),
        case("a thousand fields", "one")
            .edits((0..1000).map(|number| insert(0, &format!("X-{number}"), "y"))),
        case("one field changed a thousand times", "one")
            .edits((0..1000).map(|number| change(1, "Subject", &"y".repeat(number % 97)))),
        case("a thousand recipients", "one")
            .edits((0..1000).map(|number| rcpt(&format!("r{number}@sink.test")))),
        case("two replies at once", "one")
            .on('M', [Act::Say(Reply::Continue), Act::Say(Reply::Tempfail)]),
        case("patience at every stage", "one").on(
            'L',
            [Act::Say(Reply::Progress), Act::Say(Reply::Progress), Act::Say(Reply::Continue)],
        ),
        case("a verdict before it is asked", "one")
            .on('C', [Act::Say(Reply::Continue), Act::Say(Reply::Reject)])
            .fate(Fate::Gone),
    ]
}

/// Macros at their stages, versions, and what a filter does not want.
pub fn macros() -> Vec<Case> {
    let rspamd = Steps(0xf_f080);
    let mut wants = case("a filter's own macros", "one");
    wants.scripts[0].negotiation.macros = vec![
        (0, "j".into()),
        (1, "{daemon_name}".into()),
        (2, "{mail_host} i".into()),
        (4, "".into()),
        (5, "i j".into()),
        (6, "v i i".into()),
        (9, "x".into()),
    ];
    let mut old = case("an old filter", "one");
    old.scripts[0].negotiation.version = 2;
    let mut fifth = case("a filter of version 5", "one");
    fifth.scripts[0].negotiation.version = 5;
    vec![
        case("every list", "macros").commands(&[
            "EHLO a",
            "FOO",
            "MAIL FROM:<Alice@Example.COM> BODY=8BITMIME",
            "RCPT TO:<bob@Sink.test>",
            "RCPT TO:<\"b c\"@sink.test>",
            "DATA",
            CONTENT,
            "QUIT",
        ]),
        case("the null sender", "macros").commands(&[
            "HELO a",
            "MAIL FROM:<>",
            "RCPT TO:bob@sink.test",
            "DATA",
            CONTENT,
            "QUIT",
        ]),
        wants,
        old,
        fifth,
        case("version 2", "v2").commands(&[
            "EHLO a",
            "FOO",
            "MAIL FROM:<a@example.com>",
            "RCPT TO:<b@sink.test>",
            "DATA",
            CONTENT,
            "QUIT",
        ]),
        case("version 3", "v3").commands(&[
            "EHLO a",
            "FOO",
            "MAIL FROM:<a@example.com>",
            "RCPT TO:<b@sink.test>",
            "DATA",
            CONTENT,
            "QUIT",
        ]),
        case("version 4", "v4"),
        case("over a unix socket", "unix").heard("OCHMRRTLLLLLLLLLLLLLNBEAAQ"),
        case("a socket below the queue directory", "relative"),
        case("no such socket", "absent").fate(Fate::Gone),
        case("no such port", "nameless").fate(Fate::Gone),
        case("tls", "tls").commands(&[
            "EHLO a",
            "STARTTLS",
            TLS,
            "EHLO b",
            "MAIL FROM:<a@example.com>",
            "RCPT TO:<b@sink.test>",
            "DATA",
            CONTENT,
            "QUIT",
        ]),
        case("leading space", "one").steps(Steps::LEADING_SPACE),
        case("no answers", "one").steps(rspamd),
        case("as opendkim", "one").steps(Steps(0x10_0702)),
        case("nothing but the end", "one").steps(Steps(0x37f)).heard("OEAAQ"),
    ]
}

/// Edits, by their rules.
pub fn edits() -> Vec<Case> {
    let spaced = Steps::LEADING_SPACE;
    vec![
        case("inserts", "one").edits([
            insert(0, "X-One", "1"),
            insert(0, "X-Two", "2"),
            insert(1, "X-Three", "3"),
            insert(6, "X-Six", "6"),
            insert(99, "X-Last", "7"),
        ]),
        case("below our own Received", "one").edits([insert(
            1,
            "Authentication-Results",
            "mail.example.com; none",
        )]),
        case("additions", "one").edits([
            add("X-H", ""),
            add("X-H", "2"),
            add("X-Folded", "a\nb\r\n c\n\td"),
            add("S", "s"),
        ]),
        case("changes", "one").edits([
            change(2, "X-A", "two"),
            change(1, "x-A", ""),
            change(0, "Received", "changed"),
            change(5, "X-A", "added"),
            change(9, "X-None", ""),
            change(1, "X-Fold", "no longer"),
        ]),
        case("changes of what is new", "one").edits([
            add("E", "x"),
            change(1, "E", "a much longer value than before"),
            change(1, "E", ""),
            change(1, "Received", ""),
            insert(2, "R", "r"),
            change(1, "R", "rr"),
        ]),
        case("spaces are the filter's", "one").steps(spaced).edits([
            insert(0, "X-I", " one"),
            add("X-A", "none"),
            change(1, "Subject", "\ttab"),
        ]),
        case("a new body", "one").edits([body("first\r\nsec"), body("ond\n\nno end")]),
        case("an empty body", "one").edits([body("")]),
        case("a long body", "one")
            .edits((0..40).map(|number| body(&format!("{number} {}\r\n", "x".repeat(3000))))),
        case("headers, body, headers", "one").edits([
            add("X-Before", "1"),
            body("new\r\n"),
            add("X-After", "2"),
            insert(0, "X-Top", "3"),
        ]),
        case("recipients come and go", "one").edits([
            rcpt("new@sink.test"),
            rcpt("<other@sink.test>"),
            rcpt("new@sink.test"),
            delete("<bob@sink.test>"),
            delete("none@sink.test"),
            delete("many@example.com"),
        ]),
        case("an alias as a new recipient", "one").edits([
            rcpt("many@example.com"),
            delete("new@sink.test"),
            rcpt(""),
        ]),
        case("gone and back", "one").edits([delete("bob@sink.test"), rcpt("bob@sink.test")]),
        case("nobody left", "one").edits([delete("bob@sink.test"), delete("many@example.com")]),
        case("parameters", "one").edits([
            rcpt_with("p@sink.test", "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;q+2Bz@sink.test"),
            rcpt_with("<q@sink.test>", "FOO=1"),
            rcpt_with("r@sink.test", ""),
        ]),
        case("another sender", "one").edits([from("<new@example.com>", "")]),
        case("the null sender", "one").edits([
            from("<>", "RET=HDRS ENVID=abc+2Bd"),
            from("<long-enough-to-need-no-padding@example.com>", "FOO=1"),
            from("c", ""),
        ]),
        case("all at once", "one")
            .edits([
                insert(0, "A", "1"),
                from("<x@example.com>", ""),
                rcpt("y@sink.test"),
                delete("bob@sink.test"),
                change(1, "Subject", "changed"),
                body("b\r\n"),
                quarantine(),
            ])
            .fate(Fate::Held),
        case("edits, then a refusal", "one")
            .on('E', [Act::Say(add("X", "1")), Act::Say(reject())])
            .fate(Fate::Gone),
        {
            let mut unasked =
                case("edits that were not negotiated", "one").edits([add("X-Anyway", "1")]);
            unasked.scripts[0].negotiation.actions = Actions(0);
            unasked
        },
        case("an 8-bit field", "one").edits([add("X-Utf", "gr\u{fc}n")]),
    ]
}

/// Two filters.
pub fn chains() -> Vec<Case> {
    vec![
        case("both listen", "two"),
        case("the second sees the edits of the first", "two")
            .edits([
                insert(0, "X-One", "1"),
                change(1, "Subject", "changed"),
                change(1, "X-A", ""),
                body("new body\r\n"),
                rcpt("x@sink.test"),
            ])
            .second('E', Reply::Continue),
        case("both edit", "two")
            .edits([insert(1, "X-One", "1"), body("one\r\n")])
            .second('E', Reply::Accept),
        case("the first accepts at mail", "two").say('M', Reply::Accept).heard("OCHMAAQ"),
        case("the first accepts at connect", "two").say('C', Reply::Accept).heard("OC"),
        case("the first rejects at the end", "two").say('E', reject()).fate(Fate::Gone),
        case("the first quarantines at the end", "two")
            .on('E', [Act::Say(quarantine()), Act::Say(Reply::Accept)])
            .fate(Fate::Held),
        case("the first discards a recipient", "two").say('R', Reply::Discard).fate(Fate::Gone),
        case("the first dies at the end", "two").on('E', [Act::Die]).fate(Fate::Gone),
        case("the second defers at mail", "two").second('M', Reply::Tempfail).fate(Fate::Gone),
        case("the second rejects at connect", "two").second('C', reject()).fate(Fate::Gone),
        case("the second rejects at the end", "two")
            .edits([add("X", "1")])
            .second('E', reject())
            .fate(Fate::Gone),
    ]
}

/// Which filters a client gets.
pub fn maps() -> Vec<Case> {
    vec![
        case("a map chooses", "maps").heard(""),
        case("a map disables", "disabled").heard(""),
        case("no milters", "off").heard(""),
    ]
}

/// Mail that does not come over SMTP.
pub fn submitted() -> Vec<Case> {
    let plain = |name: &str| case(name, "one");
    vec![
        plain("nothing said").heard("OCHMRTLLLLLLLLLLLLLNBEQ"),
        plain("edits").edits([
            add("X-Added", "1"),
            insert(0, "X-Top", "2"),
            rcpt("x@sink.test"),
            from("<n@example.com>", ""),
            body("new\n"),
        ]),
        plain("held").on('E', [Act::Say(quarantine()), Act::Say(Reply::Accept)]).fate(Fate::Held),
        plain("discarded").say('E', Reply::Discard).fate(Fate::Gone),
    ]
}
