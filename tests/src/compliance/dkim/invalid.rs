//! Signatures that must not pass, and what both filters say of each.

use harness::Scratch;
use harness::dns::Server;

use super::can_run;
use super::rig::{Dkimpy, Filter, KEY, SMALL, TINY, Whose, record, zone_line};

const MESSAGE: &[u8] = b"Received: from a by b\r\nFrom: Alice  <alice@example.com>\r\nTo: Bob\r\n\t<bob@example.org>\r\nSubject: hi  there\r\nDate: Fri, 1 Jan 2027 00:00:00 +0000\r\n\r\nHi  there\r\n\r\n";

/// Ours differs on purpose (docs/differences.md): the beginning of what we say instead.
const DIFFERENT: &[(&str, &str)] = &[
    ("SERVFAIL", "dkim=temperror header.d=example.com"),
    ("no v=", "dkim=permerror"),
    ("d= twice", "dkim=permerror"),
    ("b= empty", "dkim=permerror header.d=example.com"),
    ("b= not base64", "dkim=permerror header.d=example.com"),
    ("rsa-sha1", "dkim=policy reason=\"signature algorithm too weak\""),
];

fn zone() -> String {
    let (key, small, tiny) = (record(KEY), record(SMALL), tiny());
    [
        ("sel1", format!("v=DKIM1; k=rsa; {key}")),
        ("hash", format!("v=DKIM1; h=sha1; {key}")),
        ("other", format!("v=DKIM1; s=other; {key}")),
        ("exact", format!("v=DKIM1; t=s; {key}")),
        ("revoked", "v=DKIM1; p=".to_owned()),
        ("version", format!("v=DKIM2; {key}")),
        ("kind", format!("k=dsa; {key}")),
        ("corrupt", "v=DKIM1; p=***".to_owned()),
        ("two", format!("v=DKIM1; {key}")),
        ("two", format!("v=DKIM1; {small}")),
        ("small", small.clone()),
        ("wrong", small),
        ("tiny", format!("p={tiny}")),
    ]
    .iter()
    .map(|(selector, text)| zone_line(selector, text))
    .chain(["fails._domainkey.example.com SERVFAIL\n".to_owned()])
    .collect()
}

/// OpenSSL's, since our own code makes nothing of such a key.
fn tiny() -> String {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut openssl = Command::new("openssl")
        .args(["rsa", "-pubout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(TINY.as_bytes()).unwrap();
    let output = openssl.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.starts_with('-')).collect()
}

/// The cases, each with its message.
fn cases(dkimpy: &mut Dkimpy) -> Vec<(&'static str, Vec<u8>)> {
    let mut sign = |selector: &str, key: &str, more: &str| {
        dkimpy.signed(MESSAGE, "relaxed/simple", selector, key, more)
    };
    let good = String::from_utf8(sign("sel1", KEY, "")).unwrap();
    let mut cases = vec![
        ("no such key", sign("none", KEY, "")),
        ("SERVFAIL", sign("fails", KEY, "")),
        ("two keys", sign("two", KEY, "")),
        ("corrupt key", sign("corrupt", KEY, "")),
        ("key version", sign("version", KEY, "")),
        ("key type", sign("kind", KEY, "")),
        ("key for other services", sign("other", KEY, "")),
        ("key for another hash", sign("hash", KEY, "")),
        ("revoked key", sign("revoked", KEY, "")),
        ("another key", sign("wrong", KEY, "")),
        ("768 bits", sign("tiny", TINY, "")),
        ("subdomain", sign("exact", KEY, ",\"identity\":\"@sub.example.com\"")),
        ("rsa-sha1", sign("sel1", KEY, ",\"algorithm\":\"rsa-sha1\"")),
    ];
    let time = good.split("t=").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
    let time: u64 = time.parse().unwrap();
    let stamp = format!("t={time};");
    let hash = good.split(" bh=").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
    let b = good.split(" b=").nth(1).and_then(|rest| rest.split("\r\nReceived").next()).unwrap();
    let order = format!("t={}; x={};", time + 100, time + 50);
    for (name, from, to) in [
        ("body", "Hi  there", "Ho  there"),
        ("header", "hi  there", "hi  where"),
        ("a From more", "To: Bob", "From: mallory@example.net\r\nTo: Bob"),
        ("version 2", "v=1;", "v=2;"),
        ("no v=", "v=1; ", ""),
        ("header canonicalization", "c=relaxed", "c=foo"),
        ("body canonicalization", "/simple;", "/foo;"),
        ("algorithm", "a=rsa-sha256", "a=rsa-md5"),
        ("l= too large", "q=dns/txt;", "q=dns/txt; l=99999;"),
        ("l= no number", "q=dns/txt;", "q=dns/txt; l=x;"),
        ("query method", "q=dns/txt", "q=http"),
        ("from the future", stamp.as_str(), "t=2900000000;"),
        ("expired", stamp.as_str(), "t=1000000000; x=1000000001;"),
        ("x= before t=", stamp.as_str(), order.as_str()),
        ("i= elsewhere", "i=@example.com", "i=@example.net"),
        ("i= with another ending", "i=@example.com", "i=@notexample.com"),
        ("d= twice", "d=example.com;", "d=example.com; d=example.com;"),
        ("no bh=", &format!(" bh={hash};"), ""),
        ("bh= empty", hash, ""),
        ("b= empty", b, ""),
        ("b= not base64", " b=", " b=*"),
        ("From not signed", "h=from", "h=x-from"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{name}");
        cases.push((name, changed.into_bytes()));
    }
    cases
}

#[test]
fn bad_signatures_get_opendkims_verdicts() {
    if !can_run() {
        return;
    }
    let scratch = Scratch::new();
    let names = Server::start(&zone());
    let conf = "Mode v\n";
    let ours = Filter::start(Whose::Ours, &scratch, "ours", &names, conf);
    let theirs = Filter::start(Whose::Theirs, &scratch, "theirs", &names, conf);
    let mut dkimpy = Dkimpy::start();
    let good = dkimpy.signed(MESSAGE, "relaxed/simple", "sel1", KEY, "");
    assert!(ours.verdict(&good).starts_with("dkim=pass (2048-bit key; unprotected)"));
    let small = dkimpy.signed(MESSAGE, "relaxed/simple", "small", SMALL, "");
    assert!(ours.verdict(&small).starts_with("dkim=pass (1024-bit key; unprotected)"));
    let mut wrong = Vec::new();
    for (name, message) in cases(&mut dkimpy) {
        let (our, their) = (ours.verdict(&message), theirs.verdict(&message));
        let fine = match DIFFERENT.iter().find(|(case, _)| *case == name) {
            Some((_, beginning)) => our.starts_with(beginning) && our != their,
            None => our == their && !our.starts_with("dkim=pass"),
        };
        if !fine {
            wrong.push(format!("{name}: {our}\ninstead of {their}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
