//! The rewrite service: every question to Postfix's trivial-rewrite and to ours, on the same main.cf.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use harness::daemon::Daemon;
use harness::log::eventually;
use harness::postfix::Postfix;
use harness::{Scratch, skip};

const MAIN: &str = "\
append_dot_mydomain = yes
recipient_delimiter = +
virtual_alias_domains = va.test
virtual_mailbox_domains = vm.test, inline:{vt.test=x}
relay_domains = relay.test
relayhost = [hub.example.test]:587
transport_maps = inline:{{t.test = tt:[th]}, {.sub.test = st:}, {u@vm.test = :[uh]}, {err.test = error:no mail here}, \
 {err2.test = error}, {dis.test = discard:}, {plain.test = pt}, {noop.test = :}}, regexp:{{/^re\\..*@/ re:}}
sender_dependent_default_transport_maps = inline:{{a@s.test = special:}, {b@s.test = DUNNO}, {<> = null:}}
sender_dependent_relayhost_maps = inline:{{@s.test = [sr]}, {c@s.test = DUNNO}}
relocated_maps = inline:{{gone@example.com = there@else.test}}
remote_header_rewrite_domain = invalid.test
address_verify_relayhost =
";

const REWRITES: &[&str] = &[
    "user",
    "user@host",
    "user@host.dom.",
    "user@host..",
    "host!user",
    "a.b!c!user",
    "user%dom.x",
    "a%b%c.x",
    "@a.x,@b.x:user@c.x",
    "\"a b\"",
    "user@[192.0.2.1]",
    "\"\"",
    "@",
    "user@",
    "a b@c.d",
    "a\\ b@c",
    "<u@v>",
    "(c) u@v",
    "u (c)@v",
    "x@y@z",
    "a:b@c.d",
    "\u{fc}@x.y",
    "a..b@c.d",
    ".a@c.d",
    "a b",
    "a,b@c.d",
    "|x@y.z",
    "/f@y.z",
    "user@.",
    "user@a..b",
    "@:x",
    "@a:x",
    "\"x\\\"y\"@z.w",
];

const RESOLVES: &[(&str, &str)] = &[
    ("", "alice"),
    ("", "a@localhost"),
    ("", "a@[127.0.0.1]"),
    ("", ""),
    ("", "x@va.test"),
    ("", "x@vm.test"),
    ("", "x@vt.test"),
    ("", "u+e@vm.test"),
    ("", "x@a.relay.test"),
    ("", "x@y.test."),
    ("a@s.test", "x@y.test"),
    ("b@s.test", "x@y.test"),
    ("c@s.test", "x@y.test"),
    ("d@q.test", "x@y.test"),
    ("", "x@t.test"),
    ("", "x@a.sub.test"),
    ("", "x@sub.test"),
    ("", "x@err.test"),
    ("", "x@err2.test"),
    ("", "x@dis.test"),
    ("", "x@plain.test"),
    ("", "x@noop.test"),
    ("", "re.x@y.test"),
    ("", "x%y.test@localhost"),
    ("", "y.test!x@localhost"),
    ("", "gone@localhost"),
    ("", "gone"),
    ("", "gone+x@example.com"),
    ("", "a%b@y.test"),
    ("", "a!b@y.test"),
    ("", "a@b@y.test"),
    ("", "a@b..c"),
    ("", "a@-b.c"),
    ("", "a@[999.1.1.1]"),
    ("", "a@1.2.3.4"),
    ("", "a@b c.d"),
    ("", "\"a b\"@localhost"),
    ("", "a b@localhost"),
    ("", "a@b@localhost"),
    ("", "a@"),
    ("", "@localhost"),
    ("", "a@[IPv6:::1]"),
    ("", "a@123"),
    ("", "a@b_c.d"),
    ("", "a b@y.test"),
    ("", "\"a@b.c\"@localhost"),
    ("", "a%b.c"),
    ("", "(x)a@y.test"),
    ("", "a@localhost@localhost"),
    ("", "a@x@"),
    ("", "a@@x"),
    ("", "a@example.com."),
    ("", "a@\u{fc}.test"),
    ("", "a@y.test.."),
    ("", "ali;ce"),
    ("", "a,b@y.test"),
    ("", "<a@y.test>"),
    ("", "a:b@y.test"),
    ("", "a\\b@y.test"),
    ("", "a\"b@y.test"),
    ("", "a(b@y.test"),
    ("", "a[b@y.test"),
    ("", "."),
    ("", "a@."),
    ("", "a@127.0.0.1"),
    ("", "A@LOCALHOST"),
    ("", "A@Y.TEST"),
];

#[test]
fn addresses_are_rewritten_and_resolved_alike() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut postfix = Postfix::lay(&scratch, MAIN);
    let socket = postfix.queue().join("private/rewrite");
    postfix.start();
    let theirs = answers(&socket);
    postfix.stop();
    postfix.without(&[("rewrite", "unix")]);
    let config = postfix.config();
    let arguments = ["-c", config.to_str().unwrap()];
    let _ours = Daemon::start("queue-manager", &scratch.directory("run"), &arguments);
    let ours = answers(&socket);
    let different: Vec<String> = ours
        .iter()
        .zip(&theirs)
        .filter(|(ours, theirs)| ours != theirs)
        .map(|(ours, theirs)| format!("{ours:?}\n  Postfix: {theirs:?}"))
        .collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert_eq!(ours.len(), theirs.len());
}

/// One answer for each question, behind the question itself.
fn answers(socket: &Path) -> Vec<(String, Vec<String>)> {
    let mut stream = eventually("the rewrite service", || UnixStream::connect(socket).ok());
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(list(&mut stream), ["protocol", "trivial_rewrite_protocol"]);
    let mut found = Vec::new();
    for rule in ["local", "remote"] {
        for address in REWRITES {
            let request = [("request", "rewrite"), ("rule", rule), ("address", address)];
            found.push((format!("{rule} {address}"), ask(&mut stream, &request)));
        }
    }
    for kind in ["resolve", "verify"] {
        for (sender, address) in RESOLVES {
            let request = [("request", kind), ("sender", sender), ("address", address)];
            found.push((format!("{kind} {sender} {address}"), ask(&mut stream, &request)));
        }
    }
    found
}

fn ask(stream: &mut UnixStream, request: &[(&str, &str)]) -> Vec<String> {
    let mut bytes: Vec<u8> = Vec::new();
    for (name, value) in request {
        bytes.extend(format!("{name}\0{value}\0").as_bytes());
    }
    bytes.push(0);
    stream.write_all(&bytes).unwrap();
    list(stream)
}

fn list(stream: &mut UnixStream) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), Vec::new());
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte).unwrap();
        match byte[0] {
            0 if word.is_empty() && words.len() % 2 == 0 => return words,
            0 => words.push(String::from_utf8(std::mem::take(&mut word)).unwrap()),
            other => word.push(other),
        }
    }
}
