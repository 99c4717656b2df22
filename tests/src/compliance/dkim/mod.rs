//! The same messages through OpenDKIM and through our filter: signed and verified, each by each, and by dkimpy.

mod invalid;
pub(crate) mod rig;

use harness::dns::Server;
use harness::{Scratch, skip};
use rig::{Dkimpy, ED25519, Filter, KEY, Whose, record, zone_line};

pub const CANONICALIZATIONS: &[&str] =
    &["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"];

const SIGNING: &str = "\
Mode sv
Domain example.com
Selector sel1
KeyFile DIR/key
OversignHeaders From
";

/// Whether the programs of the suite are here.
pub fn can_run() -> bool {
    skip::can_run(true, &["opendkim", "python3"])
        && (std::path::Path::new("/usr/lib/python3/dist-packages/dkim").exists() || {
            skip::skip("needs the package python3-dkim");
            false
        })
}

/// Messages that mail servers let through and that canonicalizations trip over.
pub fn messages() -> Vec<Vec<u8>> {
    let header = "From: Alice <alice@example.com>\r\nTo: bob@example.org\r\nSubject: hi\r\nDate: Fri, 1 Jan 2027 00:00:00 +0000\r\n";
    let mut list: Vec<Vec<u8>> = Vec::new();
    let bodies: &[&[u8]] = &[
        b"",
        b"\r\n",
        b"\r\n\r\n\r\n",
        b"one line\r\n",
        b"one line\r\n\r\n\r\n",
        b" leading and trailing \t \r\n",
        b"  two  spaces\tand\t\ttabs  \r\n",
        b" \r\n\t\r\n \t \r\n",
        b"text\r\n \r\n\t\r\n",
        b"\r\n\r\ntext after empty lines\r\n",
        b".\r\n..\r\n.dots\r\n",
        b"8-bit: \xe4\xf6\xfc \xff\xfe\r\n",
        b"From the start of a line\r\n>From\r\n",
        b"--b\r\nContent-Type: text/plain\r\n\r\npart\r\n--b--\r\n",
        b"a; b=c; d: e\r\n",
    ];
    list.extend(bodies.iter().map(|body| [header.as_bytes(), b"\r\n", body].concat()));
    let long = "x".repeat(20_000);
    let spaces = " ".repeat(5_000);
    let large = "sixty-four kilobytes and more, cut where no line ends\r\n".repeat(2_000);
    for body in [format!("{long}\r\n"), format!("a{spaces}b\r\n"), large] {
        list.push(format!("{header}\r\n{body}").into_bytes());
    }
    for fields in [
        "From:alice@example.com\r\nSubject:no space\r\n",
        "From:  alice@example.com  \r\nSubject:  two spaces \t\r\n",
        "From:\talice@example.com\r\nSubject:\ttab\r\n",
        "From: Alice\r\n <alice@example.com>\r\nSubject:\r\n folded at once\r\n",
        "From: Alice\r\n\t<alice@example.com>\r\nSubject: folded\r\n  twice\r\n\tand again\r\n",
        "FROM: alice@example.com\r\nsubject: CASE\r\nTO: bob@example.org\r\n",
        "From: alice@example.com\r\nSubject:\r\nTo: bob@example.org\r\n",
        "From: alice@example.com\r\nSubject: one\r\nSubject: two\r\nSubject: three\r\n",
        "From: alice@example.com\r\nSubject: \u{e4} 8-bit\r\n",
        "From: =?utf-8?q?=C3=84?= <alice@example.com>\r\nSubject: =?utf-8?b?w6Q=?=\r\n",
        "From: \"Doe; Alice = x\" <alice@example.com>\r\nSubject: b=abc; bh=def\r\n",
        "From: alice@example.com (comment (nested) <x@y>)\r\nSubject: c\r\n",
        "Received: from a\r\nFrom: alice@example.com\r\nReceived: from b\r\nTo: bob@example.org\r\nX-Unknown: x\r\n",
        "From: alice@example.com\r\nResent-From: alice@example.com\r\nResent-To: c@d.example\r\nResent-Date: now\r\n",
        "From: alice@example.com\r\nList-Id: <a.b>\r\nList-Unsubscribe: <mailto:x@y>\r\nReply-To: a@b\r\nCc: c@d\r\nIn-Reply-To: <1@x>\r\nReferences: <1@x>\r\n <2@x>\r\n",
        "From: alice@example.com, carol@example.org\r\nSubject: two authors\r\n",
    ] {
        let octets: Vec<u8> = fields.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        list.push([&octets[..], b"\r\nbody\r\n"].concat());
    }
    let many = "To: someone.with.a.long.name@subdomain.example.org,\r\n ".to_owned()
        + &"another.one@example.org,\r\n ".repeat(60)
        + "last@example.org\r\n";
    list.push(format!("{many}{header}\r\nlong field\r\n").into_bytes());
    list
}

/// The same message, asking for a canonicalization as OpenDKIM lets it.
fn asking(c: &str, message: &[u8]) -> Vec<u8> {
    [format!("X-Canonicalization:{c}\r\n").as_bytes(), message].concat()
}

#[test]
fn both_sign_alike_and_everybody_verifies_it() {
    if !can_run() {
        return;
    }
    let scratch = Scratch::new();
    let public = record(KEY);
    let names = Server::start(&zone_line("sel1", &public));
    let ours = Filter::start(Whose::Ours, &scratch, "ours", &names, SIGNING);
    let theirs = Filter::start(Whose::Theirs, &scratch, "theirs", &names, SIGNING);
    let mut dkimpy = Dkimpy::start();
    let mut wrong = Vec::new();
    for (number, message) in messages().iter().enumerate() {
        for c in CANONICALIZATIONS {
            let message = asking(c, message);
            let (our, their) =
                (ours.filter("127.0.0.1", &message), theirs.filter("127.0.0.1", &message));
            if our.settled() != their.settled() {
                wrong.push(format!(
                    "{number} {c}: {:?}\ninstead of {:?}",
                    our.settled(),
                    their.settled()
                ));
                continue;
            }
            let (our, their) = (ours.signed(&message), theirs.signed(&message));
            let pythons = dkimpy.signed(&message, c, "sel1", KEY, "");
            let pass =
                |filter: &Filter, message: &[u8]| filter.verdict(message).starts_with("dkim=pass");
            let seen = [
                pass(&ours, &our),
                pass(&ours, &their),
                pass(&ours, &pythons),
                // what a program says of its own signature is the most that it can say of ours
                pass(&theirs, &our) == pass(&theirs, &their),
                dkimpy.is_good(&our, "sel1", &public) == dkimpy.is_good(&pythons, "sel1", &public),
            ];
            if seen != [true; 5] {
                wrong.push(format!("{number} {c}: {seen:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_ed25519_signature_of_ours_is_good_for_everybody() {
    if !can_run() {
        return;
    }
    let scratch = Scratch::new();
    let public = record(ED25519);
    let names = Server::start(&zone_line("sel1", &format!("v=DKIM1; {public}")));
    let signing = SIGNING.replace("DIR/key", "DIR/ed25519");
    let ours = Filter::start(Whose::Ours, &scratch, "ours", &names, &signing);
    let theirs = Filter::start(Whose::Theirs, &scratch, "theirs", &names, "Mode v\n");
    let mut dkimpy = Dkimpy::start();
    for message in messages().iter().take(16) {
        for c in CANONICALIZATIONS {
            let signed = ours.signed(&asking(c, message));
            for filter in [&ours, &theirs] {
                let verdict = filter.verdict(&signed);
                assert!(verdict.starts_with("dkim=pass header.d=example.com"), "{c}: {verdict}");
            }
            assert!(dkimpy.is_good(&signed, "sel1", &public), "{c}");
        }
    }
}
