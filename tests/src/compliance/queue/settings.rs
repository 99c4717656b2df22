//! Each setting of cleanup has its effect: a message goes through a service of Postfix's and through one of ours with
//! the setting, and through ours without it. The first two do the same, the third does something else.

use std::collections::BTreeSet;

use harness::postfix::Postfix;
use harness::{Daemon, Scratch, proof, skip};

use super::cases::{Message, SMTPD, lines, r, to};
use super::client::{Record, give_to};

/// What all services have in common; a setting that is tried stands in its own service.
const MAIN: &str = "in_flow_delay = 0\n";

/// Some rules that more than one setting needs.
const CANONICAL: &str = "{ canonical_maps = inline:{a@c.test=new@c.test} }";
const BY_SENDER: &str = "{ sender_canonical_maps = inline:{a@c.test=new@c.test} }";
const BY_RECIPIENT: &str = "{ recipient_canonical_maps = inline:{a@c.test=new@c.test} }";
const MASQUERADE: &str = "{ masquerade_domains = c.test }";
const NO_X: &str = "{ header_checks = regexp:{{/^X-Ign/ IGNORE}} }";

/// The setting, what else its service needs, and the message that shows it.
type Try = (&'static str, &'static [&'static str], Make);

type Make = fn() -> Message;

const TRIES: &[Try] = &[
    ("always_add_missing_headers = yes", &[], stranger),
    ("always_bcc = archive@x.test", &[], plain),
    ("body_checks = regexp:{{/^hello/ REPLACE bye}}", &[], plain),
    ("body_checks_size_limit = 3", &["{ body_checks = regexp:{{/^bye/ REJECT no}} }"], two_lines),
    ("canonical_maps = inline:{a@c.test=new@c.test}", &[], everywhere),
    ("canonical_classes = envelope_sender", &[CANONICAL], everywhere),
    ("canonical_classes = header_recipient", &[CANONICAL], everywhere),
    ("cleanup_replace_stray_cr_lf = no", &[], stray),
    ("delay_warning_time = 4h", &[], plain),
    ("detect_8bit_encoding_header = no", &[], announced),
    ("disable_mime_input_processing = yes", &[NO_X], multipart),
    ("duplicate_filter_limit = 1", &[], repeated),
    ("empty_address_recipient = nobody", &[], nameless),
    (
        "enable_original_recipient = no",
        &["{ virtual_alias_maps = inline:{a@c.test=b@c.test} }"],
        aliased,
    ),
    ("header_checks = regexp:{{/^Subject/ REPLACE X: y}}", &[], plain),
    ("header_size_limit = 60", &[], long_field),
    ("hopcount_limit = 2", &[], hops),
    ("line_length_limit = 600", &[], long_line),
    ("masquerade_domains = c.test", &[], on_a_host),
    ("masquerade_classes = envelope_recipient", &[MASQUERADE], on_a_host),
    ("masquerade_exceptions = a", &[MASQUERADE], on_a_host),
    ("message_drop_headers = X-Ign, content-length", &[], stranger),
    ("message_reject_characters = l", &[], plain),
    ("message_size_limit = 900", &[], long_line),
    ("message_strip_characters = \\145\\154", &[], plain),
    ("mime_boundary_length_limit = 1", &[NO_X], multipart),
    ("mime_header_checks = regexp:{{/^X-Ign/ IGNORE}}", &[], multipart),
    // Fields of MIME are a matter of these checks wherever they stand, and of no others.
    ("mime_header_checks = regexp:{{/^[CMS]/ PREPEND X-Seen: yes}}", &[], typed),
    (
        "header_checks = regexp:{{/^[CMS]/ PREPEND X-Seen: yes}}",
        &["{ mime_header_checks = }"],
        typed,
    ),
    ("nested_header_checks = regexp:{{/^[CS]/ IGNORE}}", &[], nested),
    ("mime_nesting_limit = 1", &[NO_X], nested),
    ("nested_header_checks = regexp:{{/^Subject/ IGNORE}}", &[], nested),
    (
        "propagate_unmatched_extensions =",
        &["{ canonical_maps = inline:{a@c.test=new@c.test} }", "{ recipient_delimiter = + }"],
        extended,
    ),
    ("recipient_bcc_maps = inline:{a@c.test=b@x.test}", &[], everywhere),
    ("recipient_canonical_classes = envelope_recipient", &[BY_RECIPIENT], everywhere),
    ("recipient_canonical_classes = header_recipient", &[BY_RECIPIENT], everywhere),
    ("recipient_canonical_maps = inline:{a@c.test=new@c.test}", &[], everywhere),
    ("sender_bcc_maps = inline:{a@c.test=b@x.test}", &[], everywhere),
    ("sender_canonical_classes = envelope_sender", &[BY_SENDER], everywhere),
    ("sender_canonical_classes = header_sender", &[BY_SENDER], everywhere),
    ("sender_canonical_maps = inline:{a@c.test=new@c.test}", &[], everywhere),
    ("strict_7bit_headers = yes", &[], eight_bit_field),
    ("strict_8bitmime = yes", &[], eight_bit_field),
    ("strict_8bitmime = yes", &[], eight_bit_body),
    ("strict_8bitmime_body = yes", &[], eight_bit_body),
    ("strict_mime_encoding_domain = yes", &[], encoded_multipart),
    ("undisclosed_recipients_header = To: nobody:;", &[], plain),
    ("virtual_alias_maps = inline:{a@c.test=b@c.test}", &[], everywhere),
    (
        "virtual_alias_address_length_limit = 12",
        &["{ virtual_alias_maps = inline:{a@c.test=much-longer@c.test} }"],
        everywhere,
    ),
    (
        "virtual_alias_expansion_limit = 1",
        &["{ virtual_alias_maps = inline:{{a@c.test = b@c.test, c@c.test}} }"],
        everywhere,
    ),
    (
        "virtual_alias_recursion_limit = 1",
        &["{ virtual_alias_maps = inline:{a@c.test=b@c.test, b@c.test=c@c.test} }"],
        everywhere,
    ),
];

/// What none of the strict settings minds goes through each of them.
const ALLOWED: &[(&str, Make)] = &[
    ("strict_8bitmime = yes", announced),
    ("strict_8bitmime_body = yes", eight_bit_field),
    ("strict_7bit_headers = yes", eight_bit_body),
    ("strict_mime_encoding_domain = yes", multipart),
    ("strict_mime_encoding_domain = yes", eight_bit_body),
];

fn plain() -> Message {
    Message::default()
}

fn two_lines() -> Message {
    Message { body: lines(&["hello", "bye"]), ..Message::default() }
}

fn head(list: &[&str]) -> Message {
    Message { head: lines(list), ..Message::default() }
}

fn everywhere() -> Message {
    let head = head(&["From: a@c.test", "To: a@c.test", "Subject: x"]);
    Message { sender: "a@c.test", recipients: to(&["a@c.test"]), ..head }
}

fn on_a_host() -> Message {
    let head = head(&["From: a@h.c.test", "To: a@h.c.test"]);
    Message { sender: "a@h.c.test", recipients: to(&["a@h.c.test"]), ..head }
}

fn aliased() -> Message {
    Message { recipients: to(&["a@c.test", "b@c.test"]), ..Message::default() }
}

fn extended() -> Message {
    Message { sender: "a+x@c.test", recipients: to(&["a+y@c.test"]), ..Message::default() }
}

fn stranger() -> Message {
    Message { context: "remote", ..head(&["X-Ign: x"]) }
}

fn stray() -> Message {
    Message { body: vec![r('N', "a\rb")], ..Message::default() }
}

fn announced() -> Message {
    let head = head(&["Content-Transfer-Encoding: 8bit"]);
    Message { body: lines(&["café"]), ..head }
}

fn eight_bit_field() -> Message {
    head(&["Subject: café", "X-More: café"])
}

fn eight_bit_body() -> Message {
    Message { body: lines(&["one", "café", "café"]), ..Message::default() }
}

fn encoded_multipart() -> Message {
    let head =
        head(&["Content-Type: multipart/mixed; boundary=b", "Content-Transfer-Encoding: base64"]);
    Message { body: lines(&["--b", "", "x", "--b--"]), ..head }
}

fn multipart() -> Message {
    let head = head(&["Content-Type: multipart/mixed; boundary=ab"]);
    let body = ["--ab", "X-Ign: a", "", "x", "--ac", "X-Ign: b", "", "y", "--ab--", "X-Ign: c"];
    Message { body: lines(&body), ..head }
}

fn typed() -> Message {
    head(&[
        "Subject: x",
        "MIME-Version: 1.0",
        "content-type: text/plain;",
        "\tcharset=utf-8",
        "Content-Transfer-Encoding: 7bit",
        "Content-ID: <x@y>",
        "Content-Description: x",
        "Content-Disposition: inline",
        "Content-Language: en",
    ])
}

fn nested() -> Message {
    let head = head(&["Content-Type: multipart/mixed; boundary=a"]);
    let body = [
        "--a",
        "Content-Type: multipart/mixed; boundary=b",
        "",
        "--b",
        "Content-Type: message/rfc822",
        "",
        "Subject: inner",
        "Content-Type: multipart/digest; boundary=c",
        "",
        "--c",
        "",
        "Subject: deeper",
        "Content-Type: multipart/mixed; boundary=d",
        "",
        "--d",
        "Subject: deepest",
        "",
        "x",
        "--c--",
        "--a--",
    ];
    Message { body: lines(&body), ..head }
}

fn repeated() -> Message {
    Message {
        recipients: to(&["a@b.test", "b@b.test", "a@b.test", "b@b.test"]),
        ..Message::default()
    }
}

fn nameless() -> Message {
    Message { recipients: to(&["", "a@b.test"]), ..Message::default() }
}

fn long_field() -> Message {
    let more = format!("\t{}", "y".repeat(50));
    head(&["X-Long: a", &more, &more, &more])
}

fn long_line() -> Message {
    Message { body: vec![r('N', "z".repeat(1500))], ..Message::default() }
}

fn hops() -> Message {
    Message { received: 4, ..Message::default() }
}

/// Both have a service of this name for each try, and `bare` with what the setting needs but not the setting.
fn services() -> String {
    let mut text = String::new();
    let mut add = |name: String, options: &[&str]| {
        text.push_str(&format!("{name} unix n - n - 0 cleanup\n"));
        options.iter().for_each(|option| text.push_str(&format!("  -o {option}\n")));
    };
    for (number, (setting, needs, _)) in TRIES.iter().enumerate() {
        let own = format!("{{ {setting} }}");
        add(format!("bare{number}"), needs);
        add(format!("with{number}"), &[needs, &[own.as_str()][..]].concat());
    }
    for (number, (setting, _)) in ALLOWED.iter().enumerate() {
        add(format!("fine{number}"), &[&format!("{{ {setting} }}")]);
    }
    text
}

struct Peers {
    theirs: Postfix,
    ours: Postfix,
    daemon: Daemon,
    _scratch: [Scratch; 2],
}

/// What became of a message, and what was said of it.
#[derive(Debug, PartialEq)]
struct Fate {
    taken: super::client::Taken,
    log: BTreeSet<String>,
}

impl Peers {
    fn start() -> Self {
        let scratch = [Scratch::new(), Scratch::new()];
        let mut theirs = Postfix::lay(&scratch[0], MAIN);
        theirs.without(&[("qmgr", "unix")]);
        theirs.add_services(&services());
        theirs.start();
        let ours = Postfix::lay(&scratch[1], MAIN);
        ours.add_services(&services());
        let text = std::fs::read_to_string(ours.config().join("master.cf")).unwrap();
        let names = text.lines().filter(|line| line.ends_with(" cleanup"));
        let names: Vec<_> = names.filter_map(|line| line.split_whitespace().next()).collect();
        ours.without(&names.iter().map(|name| (*name, "unix")).collect::<Vec<_>>());
        ours.check();
        let config = ours.config();
        let run = scratch[1].directory("run");
        let daemon = Daemon::start("queue-manager", &run, &["-c", config.to_str().unwrap()]);
        Self { theirs, ours, daemon, _scratch: scratch }
    }

    fn theirs(&self, service: &str, records: &[Record]) -> Fate {
        fate(&self.theirs, &self.theirs.log, service, records)
    }

    fn ours(&self, service: &str, records: &[Record]) -> Fate {
        fate(&self.ours, &self.daemon.log, service, records)
    }
}

fn fate(postfix: &Postfix, log: &harness::Log, service: &str, records: &[Record]) -> Fate {
    let taken = give_to(&postfix.queue(), service, SMTPD, records);
    let refused = taken.answer.contains("5.6.0");
    let about = |log: &harness::Log| {
        log.lines()
            .iter()
            .filter_map(|line| line.text.split_once(&format!("{}: reject: mime-error ", taken.id)))
            .map(|(_, text)| text.to_owned())
            .collect::<BTreeSet<String>>()
    };
    if refused {
        log.wait_for(&format!("{}: reject: mime-error ", taken.id));
    }
    Fate { log: about(log), taken }
}

/// Beyond the limit Postfix cuts the field off; ours leaves those addresses as they are.
#[test]
fn addresses_beyond_the_limit_stay_as_they_are() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let scratch = Scratch::new();
    let (postfix, _daemon) = super::ours(&scratch, "header_address_token_limit = 3\n");
    let taken = give_to(&postfix.queue(), "cleanup", SMTPD, &head(&["To: a, b, c, d"]).records());
    let (_, _, records) = taken.file.unwrap();
    assert!(
        records.contains(&"N To: a@example.com, b@example.com, c@example.com, d".to_owned()),
        "{records:?}"
    );
}

#[test]
fn every_setting_of_cleanup_has_its_effect() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let peers = Peers::start();
    let mut wrong = Vec::new();
    let mut tries: Vec<(usize, &Try)> = TRIES.iter().enumerate().collect();
    proof::keep_concerned(&mut tries, |(_, (setting, _, _)), name| {
        setting.split_once(" =").is_some_and(|(known, _)| known == name)
    });
    for (number, (setting, _, message)) in tries {
        let records = message().records();
        let (bare, with) = (format!("bare{number}"), format!("with{number}"));
        let (theirs, ours) = (peers.theirs(&with, &records), peers.ours(&with, &records));
        if theirs != ours {
            wrong.push(format!("{setting}:\n theirs {theirs:#?}\n ours {ours:#?}"));
        } else if ours == peers.ours(&bare, &records) {
            wrong.push(format!("{setting}: no effect on {ours:#?}"));
        }
    }
    for (number, (setting, message)) in ALLOWED.iter().enumerate() {
        let (service, records) = (format!("fine{number}"), message().records());
        let (theirs, ours) = (peers.theirs(&service, &records), peers.ours(&service, &records));
        if theirs != ours || ours.taken.file.is_none() {
            wrong.push(format!("{setting} allows:\n theirs {theirs:#?}\n ours {ours:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), TRIES.len(), wrong.join("\n"));
}
