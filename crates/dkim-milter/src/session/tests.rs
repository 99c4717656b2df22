//! Every option, tried: what the filter answers and logs with it and without it.

use bytes::Bytes;
use config::files::Memory;
use config::opendkim::Config;
use config::{Files, Problems};
use crypto::PrivateKey;
use dns::Failure;
use dns::testing::Zone;
use sender_authentication::Field;
use sender_authentication::dkim::canonical::Canonicalization;
use sender_authentication::dkim::sign::{self, Choice, Request};
use sender_authentication::dkim::{Algorithm, canonical};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::keys::KeyFiles;
use crate::settings::Resolver;

const KEY: &[u8] = include_bytes!("../../../crypto/tests/data/rsa-2048.pem");
const SMALL_KEY: &[u8] = include_bytes!("../../../crypto/tests/data/rsa-1024.pem");
const NOW: u64 = 1_700_000_000;

const MESSAGE: &str = "Received: from a by b\r\nFrom: Alice <alice@example.com>\r\nTo: bob@example.org\r\n\
    Subject: hi\r\nDate: Fri, 1 Jan 2027 00:00:00 +0000\r\nX-Kind: a\r\n\r\nHi  there\r\n";

struct KeysInMemory(BTreeMap<String, Vec<u8>>);

impl KeyFiles for KeysInMemory {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.0.get(path).cloned().ok_or_else(|| "No such file or directory".to_owned())
    }

    fn version(&self) -> u64 {
        0
    }
}

fn files(conf: &str) -> Memory {
    Memory::with([
        ("/o", conf),
        (
            "/keytable",
            "k1 example.com:sel1:/key\nk2 %:sel2:/keys/%.private\nk3 other.example:sel3:/key\nnone example.com:s:/none\nbad example.com:s\n",
        ),
        (
            "/signing",
            "alice@example.com k1\nexample.com k3:@sub.other.example\n.example.org k1\n*@example.net k1\n",
        ),
        (
            "/resigning",
            "*@example.com k1\nalice@* k2:%\n*@broken.example zz\n*@missing.example none\n*@corrupt.example bad\n",
        ),
    ])
}

fn public(key: &[u8]) -> String {
    let key = PrivateKey::parse(key).unwrap();
    format!("v=DKIM1; p={}", crypto::pem::encode(&key.rsa_public().unwrap().to_der()))
}

/// One message through one conversation.
struct Try<'a> {
    conf: &'a str,
    message: String,
    host: &'a str,
    address: &'a str,
    macros: &'a [(&'a str, &'a str)],
    offer: Negotiation,
}

impl<'a> Try<'a> {
    fn new(conf: &'a str, message: impl Into<String>) -> Self {
        Self {
            conf,
            message: message.into(),
            host: "localhost",
            address: "127.0.0.1",
            macros: &[("j", "mx.example.net"), ("i", "QID")],
            offer: Negotiation::offer(6).unwrap(),
        }
    }

    fn stranger(mut self) -> Self {
        (self.host, self.address) = ("mail.other.example", "192.0.2.1");
        self
    }

    fn filter(&self) -> Filter<Zone> {
        let conf = format!("Syslog yes\nSocket inet:1@127.0.0.1\n{}\n", self.conf);
        let files = files(&conf);
        let mut problems = Problems::default();
        let config = Config::read(&files, Path::new("/o"), &mut problems);
        let resolver = Resolver { servers: Vec::new(), timeout: Duration::ZERO, attempts: 1 };
        let settings =
            crate::plan::settings(&files as &dyn Files, &config, resolver, &mut problems);
        assert!(!problems.has_errors(), "{problems}");
        let keys = BTreeMap::from([
            ("/key".to_owned(), KEY.to_vec()),
            ("/keys/example.com.private".to_owned(), KEY.to_vec()),
            ("/small".to_owned(), SMALL_KEY.to_vec()),
        ]);
        let zone = Zone::new()
            .with_txt("sel1._domainkey.example.com", &public(KEY))
            .with_txt("small._domainkey.example.com", &public(SMALL_KEY))
            .with_txt("ty._domainkey.example.com", &format!("{}; t=y", public(KEY)))
            .with_txt("rev._domainkey.example.com", "p=")
            .fail("sf._domainkey.example.com", Failure::ServFail(String::new()));
        Filter {
            settings,
            keys: KeyStore::new(Box::new(KeysInMemory(keys))),
            resolver: zone,
            clock: Box::new(UNIX_EPOCH + Duration::from_secs(NOW)),
        }
    }

    /// Answers and log lines, one a line.
    fn run(self) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.converse())
    }

    async fn converse(self) -> String {
        let mut session = Session::new(Arc::new(self.filter()));
        let mut shown = String::new();
        let pairs = |list: &[(&str, &str)]| {
            list.iter()
                .map(|(n, v)| (Bytes::from((*n).to_owned()), Bytes::from((*v).to_owned())))
                .collect()
        };
        let (header, body) = self.message.split_once("\r\n\r\n").unwrap();
        let mut events = vec![
            Event::Negotiate(self.offer.clone()),
            Event::Macros { code: b'C', values: pairs(self.macros) },
            Event::Connect {
                host: self.host.to_owned().into(),
                family: Family::Inet { port: 1, address: self.address.to_owned().into() },
            },
            Event::Mail { address: "<alice@example.com>".into(), parameters: vec![] },
            Event::Rcpt { address: "<Bob@example.org>".into(), parameters: vec![] },
        ];
        for field in Field::all(format!("{header}\r\n").as_bytes()) {
            let value = String::from_utf8_lossy(field.value()).replace("\r\n", "\n");
            let name = Bytes::copy_from_slice(field.name());
            events.push(Event::Header { name, value: value.into() });
        }
        events.push(Event::Eoh);
        if !body.is_empty() {
            events.push(Event::Body(body.to_owned().into()));
        }
        events.push(Event::Eom(Bytes::new()));
        for event in events {
            let is_offer = matches!(event, Event::Negotiate(_));
            let out = session.event(event).await.unwrap().unwrap();
            for (level, line) in out.lines {
                shown.push_str(&format!("{level:?} {line}\n"));
            }
            for reply in &out.replies {
                match reply {
                    Reply::Continue | Reply::Skip => {}
                    Reply::Negotiate(answer) => shown.push_str(&format!(
                        "agreed {:#x} {:#x}\n",
                        answer.actions.0, answer.steps.0
                    )),
                    Reply::InsertHeader { index, name, value } => shown.push_str(&format!(
                        "insert {index} {}:{}\n",
                        String::from_utf8_lossy(name),
                        String::from_utf8_lossy(value)
                    )),
                    Reply::ChangeHeader { index, name, value } => shown.push_str(&format!(
                        "change {index} {}:{}\n",
                        String::from_utf8_lossy(name),
                        String::from_utf8_lossy(value)
                    )),
                    Reply::ReplyCode(text) => {
                        shown.push_str(&format!("{}\n", String::from_utf8_lossy(text)))
                    }
                    Reply::Quarantine { reason } => {
                        shown.push_str(&format!("quarantine {}\n", String::from_utf8_lossy(reason)))
                    }
                    other => shown.push_str(&format!("{other:?}\n")),
                }
            }
            let over = |reply: &Reply| {
                matches!(
                    reply,
                    Reply::Accept
                        | Reply::Reject
                        | Reply::Tempfail
                        | Reply::Discard
                        | Reply::ReplyCode(_)
                )
            };
            if !is_offer && out.replies.iter().any(over) {
                break;
            }
        }
        shown
    }
}

fn run(conf: &str, message: &str) -> String {
    Try::new(conf, message).run()
}

/// [`MESSAGE`] with a signature under this selector.
fn signed(selector: &str, key: &[u8], change: impl FnOnce(&mut Request)) -> String {
    let mut request = Request {
        domain: "example.com".into(),
        selector: selector.into(),
        algorithm: Algorithm::RsaSha256,
        header: Canonicalization::Relaxed,
        body: Canonicalization::Simple,
        time: NOW,
        valid_for: None,
        identity: None,
        reports: false,
        length: None,
        copies: false,
        choice: Choice::default(),
    };
    change(&mut request);
    let (header, body) = MESSAGE.split_once("\r\n\r\n").unwrap();
    let fields = Field::all(format!("{header}\r\n").as_bytes());
    let mut hash = canonical::BodyHash::new(request.body, crypto::Hash::Sha256, None);
    hash.update(body.as_bytes());
    let key = PrivateKey::parse(key).unwrap();
    let signature = sign::sign(&request, &fields, &hash.finish().0, &key).unwrap();
    format!("DKIM-Signature: {signature}\r\n{MESSAGE}")
}

/// The transcript of mail that is neither signed nor verified.
const NOTHING: &str = "agreed 0x111 0x100702\nAccept\n";

const SINGLE: &str = "Domain example.com\nSelector sel1\nKeyFile /key\n";

/// With the line the transcript has the first text; without it, the second one instead (empty: only not the first).
fn check(base: &str, line: &str, message: &str, with: &str, without: &str) {
    let plain = Try::new(base, message).run();
    let changed = Try::new(&format!("{base}{line}\n"), message).run();
    assert!(changed.contains(with), "{line}: {with}\n{changed}");
    assert!(!plain.contains(with) && plain.contains(without), "without {line}: {without}\n{plain}");
}

#[test]
#[allow(clippy::too_many_lines)] // one line an option
fn options_of_signing() {
    let m = MESSAGE;
    check(SINGLE, "Canonicalization relaxed/relaxed", m, "c=relaxed/relaxed;", "c=simple/simple;");
    check(SINGLE, "Canonicalization relaxed", m, "c=relaxed/simple;", "");
    check(SINGLE, "SignHeaders From,X-Kind", m, "h=From:X-Kind;", "h=From:To:Subject:Date;");
    check(SINGLE, "SignHeaders *,+x-kind,-date", m, "h=From:To:Subject:X-Kind;", "");
    check(SINGLE, "OmitHeaders Subject", m, "h=From:To:Date;", "");
    check(SINGLE, "OversignHeaders From,Cc", m, "h=From:To:Subject:Date:From:Cc;", "");
    check(SINGLE, "SignatureTTL 60", m, "x=1700000060;", "t=1700000000;");
    check(SINGLE, "Diagnostics yes", m, "z=From:=20Alice=20<alice@example.com>|To:", "");
    check(SINGLE, "RequestReports yes", m, " r=y;", "");
    check(SINGLE, "MaximumSignedBytes 4", m, " l=4;", "");
    check(SINGLE, "BodyLengthDB bob@example.org", m, " l=11;", "");
    check(
        SINGLE,
        "DontSignMailTo bob@example.org",
        m,
        "Info QID: skipping signing of mail to 'bob@example.org'",
        "insert",
    );
    let two = format!("DKIM-Signature: old\r\nDKIM-Signature: older\r\n{m}");
    check(
        SINGLE,
        "RemoveOldSignatures yes",
        &two,
        "change 0 DKIM-Signature:\nchange 0 DKIM-Signature:\ninsert 0 DKIM-Signature",
        "",
    );
    check(SINGLE, "Domain example.org", m, NOTHING, "d=example.com"); // the last line counts
    check(SINGLE, "Selector other", m, "s=other;", "s=sel1;");
    check(
        SINGLE,
        "KeyFile /none",
        m,
        "Error QID: can't load key from /none: No such file or directory\nTempfail",
        "insert",
    );
    check(
        "Domain *\nSelector s\nKeyFile /key\n",
        "Domain nobody.example",
        m,
        NOTHING,
        "d=example.com",
    );
    let sub = m.replace("alice@example.com", "alice@a.b.example.com");
    check(
        SINGLE,
        "SubDomains yes",
        &sub,
        "d=example.com; s=sel1;\n\tt=1700000000; i=@example.com;",
        "",
    );
    let sender =
        format!("Sender: robot@example.com\r\n{}", m.replace("alice@example.com", "x@y.example"));
    check(SINGLE, "SenderHeaders Sender,From", &sender, "d=example.com", "");
    check(
        SINGLE,
        "InternalHosts 10.0.0.0/8",
        m,
        "external host localhost attempted to send as example.com",
        "insert",
    );
    check(
        &format!("{SINGLE}InternalHosts 10.0.0.0/8\n"),
        "ExternalIgnoreList localhost",
        m,
        NOTHING,
        "external host localhost attempted",
    );
    for (line, macros, signs) in [
        ("MTA ORIGINATING", &[("{daemon_name}", "ORIGINATING")][..], true),
        ("MTA ORIGINATING", &[("{daemon_name}", "mx")], false),
        ("MacroList daemon_name=A|B", &[("{daemon_name}", "B")], true),
        ("MacroList daemon_name=A|B", &[("{daemon_name}", "C")], false),
        ("MacroList auth_author", &[("auth_author", "x")], true),
        ("", &[("{auth_type}", "PLAIN")], true),
        ("", &[("{auth_type}", "")], false),
    ] {
        let conf = format!("{SINGLE}InternalHosts 192.0.2.7\n{line}\n");
        let shown = Try { macros, ..Try::new(&conf, m) }.stranger().run();
        assert_eq!(shown.contains("insert 0 DKIM-Signature"), signs, "{line} {macros:?}\n{shown}");
    }
    assert!(
        run(&format!("{SINGLE}SignatureAlgorithm ed25519-sha256\n"), m).contains("a=rsa-sha256")
    );
}

#[test]
fn tables_choose_the_keys() {
    let exact = "KeyTable file:/keytable\nSigningTable file:/signing\n";
    let patterns = "KeyTable /keytable\nSigningTable refile:/resigning\n";
    let both = format!("{patterns}MultipleSignatures yes\n");
    let from = |address: &str| MESSAGE.replace("alice@example.com", address);
    for (conf, address, has, has_not) in [
        (exact, "Alice@Example.com", "d=example.com; s=sel1;", "sel3"),
        (
            exact,
            "carol@example.com",
            "d=other.example; s=sel3;\n\tt=1700000000; i=@sub.other.example;",
            "sel1",
        ),
        (exact, "a@b.example.org", "d=example.com; s=sel1;", "Error"),
        (exact, "a@example.net", "dkim", "insert"),
        (patterns, "alice@example.com", "s=sel1;", "sel2"),
        (patterns, "bob@elsewhere.example", "", "insert"),
        (
            patterns,
            "a@broken.example",
            "Error QID: signing table references unknown key 'zz'\nTempfail",
            "insert",
        ),
        (
            patterns,
            "a@missing.example",
            "Error can't load key from /none: No such file or directory\nError QID: error loading key 'none'\nTempfail",
            "insert",
        ),
        (
            patterns,
            "a@corrupt.example",
            "Error KeyTable entry for 'bad' corrupt\nError QID: error loading key 'bad'\nTempfail",
            "insert",
        ),
        (&both, "alice@example.com", "d=example.com; s=sel2;", "Error"),
        (&both, "alice@example.com", "d=example.com; s=sel1;", "i="),
    ] {
        let shown = run(conf, &from(address));
        assert!(shown.contains(has) || has == "dkim", "{address}: {shown}");
        assert!(!shown.contains(has_not), "{address}: {shown}");
    }
    let strangers = Try::new(exact, MESSAGE).stranger().run();
    assert!(!strangers.contains("insert") && !strangers.contains("attempted"), "{strangers}");
}

#[test]
#[allow(clippy::too_many_lines)] // one line an option
fn options_of_verification() {
    let good = signed("sel1", KEY, |_| {});
    let bad = good.replace("Hi  there", "Ho there");
    let missing = signed("nx", KEY, |_| {});
    let failing = signed("sf", KEY, |_| {});
    let small = signed("small", SMALL_KEY, |_| {});
    let b = |message: &str| message.split("b=").last().unwrap()[..8].to_owned();
    let results = format!(
        "insert 0 Authentication-Results: mx.example.net;\n\tdkim=pass (2048-bit key; unprotected) header.d=example.com \
         header.i=@example.com header.a=rsa-sha256 header.s=sel1 header.b={};\n\tdkim-atps=neutral\nAccept\n",
        b(&good)
    );
    assert_eq!(run("", &good), format!("agreed 0x111 0x100702\n{results}"));
    assert_eq!(run("", MESSAGE), "agreed 0x111 0x100702\nAccept\n");
    check(
        "",
        "AlwaysAddARHeader yes",
        MESSAGE,
        "insert 0 Authentication-Results: mx.example.net; dkim=none; dkim-atps=neutral\n",
        "",
    );
    check(
        "",
        "AuthservID here.example",
        &good,
        "Authentication-Results: here.example;",
        "Authentication-Results: mx.example.net;",
    );
    check("", "AuthservIDWithJobID yes", &good, "Authentication-Results: mx.example.net/QID;", "");
    check("", "NoHeaderB yes", &good, "header.s=sel1;\n\tdkim-atps", "header.b=");
    check(
        "",
        "LogResults yes",
        &good,
        &format!(
            "Info QID: signature={} domain=example.com selector=sel1 result=\"no signature error\"",
            b(&good)
        ),
        "",
    );
    for (line, message, answer) in [
        ("On-BadSignature reject", &bad, "550 5.7.0 bad DKIM signature data\n"),
        ("On-BadSignature tempfail", &bad, "451 4.7.0 bad DKIM signature data\n"),
        ("On-BadSignature discard", &bad, "Discard\n"),
        ("On-BadSignature quarantine", &bad, "quarantine bad DKIM signature data\nAccept\n"),
        ("On-Default r", &bad, "550 5.7.0 bad DKIM signature data\n"),
        ("On-KeyNotFound reject", &missing, "550 5.7.0 DKIM key retrieval failed\n"),
        ("On-DNSError tempfail", &failing, "451 4.7.5 DKIM key retrieval failed\n"),
        ("On-NoSignature tempfail", &MESSAGE.to_owned(), "451 4.7.0 no DKIM signature data\n"),
        ("On-BadSignature reject", &signed("rev", KEY, |_| {}), "Reject\n"),
    ] {
        check("", line, message, answer, "Accept\n");
    }
    let testing = signed("ty", KEY, |_| {}).replace("Hi  there", "Ho there");
    assert!(run("On-BadSignature reject\n", &testing).ends_with("Accept\n"));
    assert!(run("", &missing).contains("Error QID: key retrieval failed (s=nx, d=example.com): 'nx._domainkey.example.com' record not found\n"));
    assert!(run("", &failing).contains("dkim=temperror"));
    let late = signed("sel1", KEY, |request| request.time = NOW + 400);
    check("", "ClockDrift 500", &late, "dkim=pass", "dkim=permerror");
    check(
        "",
        "MinimumKeyBits 2048",
        &small,
        "dkim=policy reason=\"signing key too small\" (1024-bit key; unprotected)",
        "dkim=pass",
    );
    check(
        "",
        "MustBeSigned X-Kind",
        &good,
        "dkim=policy reason=\"unprotected header field\"",
        "dkim=pass",
    );
    let three = format!(
        "{}{}",
        "DKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=s; h=from; bh=AA==; b=AA==\r\n"
            .repeat(3),
        good
    );
    check(
        "",
        "MaximumSignaturesToVerify 4",
        &three,
        "dkim=pass",
        "Info QID: ignoring 1 signature\n",
    );
    assert!(run("", &three).contains(
        "Info QID: message has signatures from a.example, a.example, a.example, example.com\n"
    ));
    let forged = format!(
        "Authentication-Results: mx.example.net; dkim=pass\r\nAuthentication-Results: MX.example.net/X; spf=pass; dkim=fail\r\n\
         Authentication-Results: mx.example.net; spf=pass\r\nAuthentication-Results: other.example; dkim=pass\r\n{MESSAGE}"
    );
    let removed = "change 2 Authentication-Results:\nchange 1 Authentication-Results:\nAccept";
    assert!(run("", &forged).contains(removed));
    check("KeepAuthResults yes\n", "KeepAuthResults no", &forged, removed, "Accept");
    check(
        "",
        "RemoveARAll yes",
        &forged,
        "change 3 Authentication-Results:\nchange 2 ",
        "change 2 ",
    );
    check(
        "",
        "RemoveARFrom other.example",
        &forged,
        "change 4 Authentication-Results:\nAccept",
        "change 2 ",
    );
}

#[test]
fn options_of_both() {
    let good = signed("sel1", KEY, |_| {});
    check(SINGLE, "Mode v", MESSAGE, "agreed 0x111 0x100702\nAccept\n", "insert 0 DKIM-Signature");
    check(
        "",
        "Mode s",
        &good,
        "agreed 0x111 0x100702\nAccept\n",
        "insert 0 Authentication-Results",
    );
    check(SINGLE, "PeerList 127.0.0.1", MESSAGE, "agreed 0x111 0x100702\nAccept\n", "insert");
    check(
        SINGLE,
        "ExemptDomains example.com",
        MESSAGE,
        "agreed 0x111 0x100702\nAccept\n",
        "insert",
    );
    check(
        SINGLE,
        "MaximumHeaders 50",
        MESSAGE,
        "Notice too much header data\nTempfail\n",
        "insert",
    );
    check(
        &format!("{SINGLE}MaximumHeaders 50\n"),
        "On-Security reject",
        MESSAGE,
        "Reject\n",
        "Tempfail\n",
    );
    check(
        SINGLE,
        "SoftwareHeader yes",
        MESSAGE,
        "insert 0 DKIM-Filter: OpenDKIM Filter v2.11.0 mx.example.net QID\nAccept\n",
        "",
    );
    check(
        SINGLE,
        "SyslogSuccess yes",
        MESSAGE,
        "Info QID: DKIM-Signature field added (s=sel1, d=example.com)\n",
        "",
    );
    check("", "SyslogSuccess yes", &good, "Info QID: DKIM verification successful\n", "");
    let anonymous = MESSAGE.replace("From:", "X-From:");
    assert!(run("", &anonymous).contains(
        "Info QID: can't determine message sender; accepting\n\
         insert 0 Authentication-Results: mx.example.net; dkim=permerror (bad message/signature format)\nAccept\n"
    ));
    check("", "IgnoreMalformedMail yes", &anonymous, "accepting\nAccept\n", "insert");
    let headless = MESSAGE.replace("<alice@example.com>", "");
    assert!(run("", &headless).contains("Info QID: can't parse From: header value ' Alice '\n"));
    let why = Try::new("LogWhy yes\nDomain other.example\nMTA m\nMacroList x=y\n", MESSAGE)
        .stranger()
        .run();
    for line in [
        "QID: no MTA name match (host=mx.example.net, MTA=?)",
        "QID: no macros match",
        "QID: mail.other.example [192.0.2.1] not internal",
        "QID: not authenticated",
        "QID: no signing domain match for 'example.com'",
        "QID: no signing subdomain match for 'example.com'",
    ] {
        assert!(why.contains(&format!("Info {line}\n")), "{line}: {why}");
    }
    assert!(Try::new("Syslog yes\n", MESSAGE).filter().settings.log.syslog);
    assert!(!Try::new("Syslog no\n", MESSAGE).filter().settings.log.syslog);
}

/// An old server takes the space away and puts it back; one that cannot skip is answered in full.
#[test]
fn an_old_server_is_served() {
    let version2 = Negotiation::offer(2).unwrap();
    let shown = Try { offer: version2, ..Try::new(SINGLE, MESSAGE) }.run();
    assert!(
        shown.starts_with("agreed 0x111 0x2\n") && shown.contains("insert 0 DKIM-Signature:v=1;"),
        "{shown}"
    );
}

#[test]
fn a_peer_that_is_no_mail_server_is_not_served() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let negotiate = || Event::Negotiate(Negotiation::offer(6).unwrap());
    let harmless = Negotiation { actions: Actions(0), ..Negotiation::offer(6).unwrap() };
    let huge = vec![(Bytes::from_static(b"i"), Bytes::from(vec![b'x'; 100_000]))];
    for (events, why) in [
        (vec![Event::Eoh], "an event before the negotiation"),
        (vec![negotiate(), negotiate()], "a second negotiation"),
        (vec![Event::Negotiate(harmless)], "a server that lets nobody change the header"),
        (
            vec![Event::Negotiate(Negotiation { version: 1, ..Negotiation::default() })],
            "a protocol version before 2",
        ),
        (vec![negotiate(), Event::Macros { code: b'L', values: huge }], "too many macros"),
    ] {
        let mut session = Session::new(Arc::new(Try::new("", MESSAGE).filter()));
        let last = events.len() - 1;
        for (index, event) in events.into_iter().enumerate() {
            let result = runtime.block_on(session.event(event)).map(|_| ());
            assert_eq!(result, if index == last { Err(Violation(why)) } else { Ok(()) });
        }
    }
    // events in no order at all are answered, and mean nothing
    let mut session = Session::new(Arc::new(Try::new(SINGLE, MESSAGE).filter()));
    for event in [
        negotiate(),
        Event::Eom(Bytes::new()),
        Event::Body("x".into()),
        Event::Eoh,
        Event::Eoh,
        Event::Abort,
        Event::Abort,
        Event::QuitNewConnection,
        Event::Eom(Bytes::new()),
    ] {
        assert!(runtime.block_on(session.event(event)).unwrap().is_some());
    }
    assert!(runtime.block_on(session.event(Event::Quit)).unwrap().is_none());
}
