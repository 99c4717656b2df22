//! The messages of RFC 8463 and our own worked examples, byte for byte.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use crypto::PrivateKey;
use dns::testing::Zone;
use sender_authentication::Field;
use sender_authentication::dkim::Algorithm;
use sender_authentication::dkim::canonical::{BodyHash, Canonicalization};
use sender_authentication::dkim::sign::{self, Choice, Request};
use sender_authentication::dkim::signature::Times;
use sender_authentication::dkim::verify::{Outcome, Policy, Verdict, Verifier};

/// RFC 8463 appendix A.3.
const RFC8463: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>

Hi.

We lost the game.  Are you hungry yet?

Joe.
";

const TEST_KEY: &str = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB";
const W1_KEY: &str = "p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDi0RYqa2EP1xlxAD+pw/5NNWHwSRAOaz7J67SwyEPM3R69t/6JWufSiZ+fHWlR6LfKva4+F5xz5NeYpj1Jad/j6tnVyMVnT+rRxWFws3bVTPBzQ13rgIytgkA3GrT1WvOPaOxm/ECrk7SbVItqZemUuh3Niji8aLR8hy5eLl0aIwIDAQAB";
const BRISBANE_KEY: &str = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const SEED: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";

/// The worked example: double spaces, a tab, trailing blanks, two subjects.
const HEADER: &str = "Received: from a.example by b.example; Fri, 1 Jan 2027 00:00:00 +0000\r\nFrom: Alice  <alice@example.com>\r\n\
To: Bob\r\n\t<bob@example.org>\r\nSUBJECT:  two  words \t\r\nSubject: second one\r\nDate: Fri, 1 Jan 2027 00:00:00 +0000\r\n";
const BODY: &[u8] = b" C \r\nD \t E\r\n\r\n\r\n";
const ED25519: &str = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com; q=dns/txt;\r\n s=brisbane; t=1700000000; h=from : to : subject : subject : subject :\r\n date : from; bh=unak6JHq0wL+Q1HP7dW1tjBx9FLA6DffoZ0qrLwbbpo=;\r\n b=vWYMC1NeZcvcHGGPoGbwuAe0pvrb6G13o4H9GobUJrV1NDIuLVbM4uflcxN+awWdJ5LLI\r\n JRqgp3B02/E8RDJCg==\r\n";
const RSA: &str = "DKIM-Signature: v=1; a=rsa-sha256; c=simple/simple; d=example.com;\r\n i=@example.com; q=dns/txt; s=w1; t=1700000000; h=from : to : subject :\r\n date : from; bh=NOeivbQlDH9TmNKJUw7D53wZfsk8YMZ/hTuVVwTgi8s=;\r\n b=na3GtfbNLZ5B5eOd8V4OndXtbiyXhy7OqVC52kNZzhIGk9sAAVhAPrIlQ7OuzmjVEtBbJ\r\n ydYxqQfo3tvgoqQ6wHIbLWavbfJdY4dBuKoHhTEWQZ264r2Hwu2F1Aysw3U551QcU3GBTIA\r\n eAJSQZ39LARxzQCXptVdY7Ep2wJUwY0=\r\n";

const TIMES: Times = Times { now: 1_700_000_000, drift: 300 };

fn zone() -> Zone {
    Zone::new()
        .with_txt("test._domainkey.football.example.com", TEST_KEY)
        .with_txt("brisbane._domainkey.football.example.com", BRISBANE_KEY)
        .with_txt("w1._domainkey.example.com", W1_KEY)
}

fn verify(zone: &Zone, header: &str, body: &[u8]) -> Vec<Outcome> {
    verify_under(Policy::default(), zone, header, body)
}

fn verify_under(policy: Policy, zone: &Zone, header: &str, body: &[u8]) -> Vec<Outcome> {
    let mut verifier = Verifier::new(Field::all(header.as_bytes()), policy, TIMES);
    body.chunks(7).for_each(|piece| verifier.body(piece));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            tokio::time::timeout(Duration::from_secs(5), verifier.finish(zone)).await
        })
        .unwrap()
}

fn words(outcomes: &[Outcome]) -> Vec<(&'static str, &'static str)> {
    outcomes
        .iter()
        .map(|one| (one.verdict.word(), one.fault.map_or("", |fault| fault.text())))
        .collect()
}

#[test]
fn both_signatures_of_rfc_8463_are_good() {
    let message = RFC8463.replace('\n', "\r\n");
    let (header, body) = message.split_once("\r\n\r\n").unwrap();
    let outcomes = verify(&zone(), &format!("{header}\r\n"), body.as_bytes());
    assert_eq!(words(&outcomes), [("pass", ""), ("pass", "")]);
    assert_eq!((outcomes[0].key_bits, outcomes[1].key_bits), (0, 1024));
    assert_eq!(outcomes[1].text, "F45dVWDf");
}

#[test]
fn the_worked_examples_are_good_and_every_change_is_seen() {
    let header = format!("{RSA}{ED25519}{HEADER}");
    assert_eq!(words(&verify(&zone(), &header, BODY)), [("pass", ""); 2]);
    let bad = ("fail", "signature verification failed");
    for (from, to, rsa, ed25519) in [
        ("Alice  <", "Alice <", bad, ("pass", "")),
        ("second one", "second  one", bad, ("pass", "")),
        ("second one", "second two", bad, bad),
        ("To: Bob", "to: Bob", bad, ("pass", "")),
        ("two  words", "other words", ("pass", ""), bad),
        ("Date: Fri", "From: mallory@example.net\r\nDate: Fri", bad, bad),
        ("t=1700000000;", "t=1700000001;", bad, bad),
    ] {
        let changed = header.replace(from, to);
        assert_eq!(words(&verify(&zone(), &changed, BODY)), [rsa, ed25519], "{from} -> {to}");
    }
    assert_eq!(words(&verify(&zone(), &header, b" C\r\nD E\r\n")), [bad, ("pass", "")]);
    assert_eq!(words(&verify(&zone(), &header, b" C\r\nD F\r\n")), [bad, bad]);
}

/// Each change of the good signature or of its key, and what is said of it.
#[test]
fn invalid_signatures_are_refused_with_their_reason() {
    let good = format!("{RSA}{HEADER}");
    for (from, to, word, reason) in [
        ("v=1;", "v=2;", "permerror", "unsupported signature version"),
        ("v=1; ", "", "permerror", "signature syntax error"),
        ("s=w1; ", "", "permerror", "signature syntax error"),
        ("t=1700000000;", "t=-1;", "permerror", "signature syntax error"),
        ("d=example.com;", "d=example.com; d=example.com;", "permerror", "signature syntax error"),
        ("d=example.com;", "d=;", "permerror", "domain tag empty"),
        ("s=w1;", "s=;", "permerror", "selector tag empty"),
        ("a=rsa-sha256;", "a=rsa-md5;", "permerror", "signature algorithm invalid"),
        ("c=simple/simple;", "c=foo/simple;", "permerror", "invalid header canonicalization"),
        ("c=simple/simple;", "c=simple/foo;", "permerror", "invalid body canonicalization"),
        (
            "from : to : subject :\r\n date : from;",
            "sender;",
            "permerror",
            "header list missing required entries",
        ),
        ("date : from;", "date : from; l=x;", "permerror", "body length value invalid"),
        ("date : from;", "date : from; l=9999;", "fail", "length tag value exceeds body size"),
        ("q=dns/txt;", "q=http;", "permerror", "query method invalid"),
        ("q=dns/txt;", "q=dns/x;", "permerror", "query option invalid"),
        ("bh=NOeivbQlDH9TmNKJUw7D53wZfsk8YMZ/hTuVVwTgi8s=;", "", "permerror", "body hash missing"),
        (
            "bh=NOeivbQlDH9TmNKJUw7D53wZfsk8YMZ/hTuVVwTgi8s=;",
            "bh=;",
            "permerror",
            "body hash empty",
        ),
        ("i=@example.com;", "i=@notexample.com;", "permerror", "invalid domain coverage"),
        ("i=@example.com;", "i=@example.net;", "permerror", "invalid domain coverage"),
        ("i=@example.com;", "i=example.com;", "permerror", "invalid domain coverage"),
        ("t=1700000000;", "t=1700009999;", "permerror", "signature timestamp in the future"),
        ("t=1700000000;", "t=1700000000; x=1699999000;", "permerror", "signature expired"),
        (
            "t=1700000000;",
            "t=1700000000; x=1700000000;",
            "permerror",
            "signature timestamp order error",
        ),
        ("a=rsa-sha256;", "a=ed25519-sha256;", "permerror", "unable to apply public key"),
        ("s=w1;", "s=w..1;", "fail", "key not found in DNS"),
        ("s=w1;", "s=none;", "fail", "key not found in DNS"),
        ("b=na3G", "b=na*G", "permerror", "signature data corrupt"),
        ("b=na3G", "b=nb3G", "fail", "signature verification failed"),
    ] {
        let changed = good.replacen(from, to, 1);
        assert_ne!(changed, good, "{from}");
        assert_eq!(words(&verify(&zone(), &changed, BODY)), [(word, reason)], "{from} -> {to}");
    }
}

#[test]
fn keys_that_must_not_be_used_are_refused_with_their_reason() {
    let header = format!("{RSA}{HEADER}");
    let subdomain = header.replace("i=@example.com", "i=@sub.example.com");
    for (record, word, reason) in [
        (format!("v=DKIM1; {W1_KEY}"), "pass", ""),
        (format!("v=DKIM1; h=sha1:SHA256; s=email; t=y:s; {W1_KEY}"), "pass", ""),
        (format!("v=DKIM2; {W1_KEY}"), "fail", "unknown key version"),
        (format!("{W1_KEY}; v=DKIM1"), "fail", "unknown key version"),
        (format!("h=sha1; {W1_KEY}"), "fail", "signature-key hash mismatch"),
        (format!("h=md5; {W1_KEY}"), "fail", "unknown key hash"),
        (format!("s=other; {W1_KEY}"), "fail", "not an e-mail key"),
        (format!("k=dsa; {W1_KEY}"), "fail", "unknown key type"),
        ("v=DKIM1; p=".to_owned(), "fail", "key revoked"),
        ("v=DKIM1; p=***".to_owned(), "permerror", "unable to apply public key"),
        ("v=DKIM1".to_owned(), "temperror", "key DNS reply corrupt"),
        (format!("{W1_KEY}; {W1_KEY}"), "temperror", "key DNS reply corrupt"),
        ("p=Zm9v".to_owned(), "permerror", "unable to apply public key"),
        (TEST_KEY.to_owned(), "fail", "signature verification failed"),
        (
            "p=MHwwDQYJKoZIhvcNAQEBBQADawAwaAJhAMsDFDkQ6gEqEcIJK3Vu3FLnVjYcVmcKm0nSdDu0NvrQzQYMa5wJmyTvQv8tGVzqBQIDAQAB".to_owned(),
            "permerror",
            "unable to apply public key",
        ),
    ] {
        let zone = Zone::new().with_txt("w1._domainkey.example.com", &record);
        assert_eq!(words(&verify(&zone, &header, BODY)), [(word, reason)], "{record}");
    }
    let zone = Zone::new()
        .with_txt("w1._domainkey.example.com", W1_KEY)
        .with_txt("w1._domainkey.example.com", TEST_KEY);
    assert_eq!(words(&verify(&zone, &header, BODY)), [("temperror", "multiple keys found")]);
    let zone = Zone::new().fail("w1._domainkey.example.com", dns::Failure::TimedOut);
    assert_eq!(words(&verify(&zone, &header, BODY)), [("temperror", "key DNS query failed")]);
    // the signature does not fit its own changed i=, so only the order of the checks can be seen here
    let zone = Zone::new().with_txt("w1._domainkey.example.com", &format!("t=s; {W1_KEY}"));
    assert_eq!(
        words(&verify(&zone, &subdomain, BODY)),
        [("fail", "signature verification failed")]
    );
}

/// RFC 8301, RFC 6376 sections 3.6.1 and 6.1.2: what a correct signature does not make up for.
#[test]
fn good_arithmetic_is_not_enough() {
    let key = PrivateKey::parse(include_bytes!("../../crypto/tests/data/rsa-1024.pem")).unwrap();
    let public = crypto::pem::encode(&key.rsa_public().unwrap().to_der());
    let request =
        Request { identity: Some("@sub.example.com".into()), ..request(Algorithm::RsaSha256) };
    let header = signed(&request, &key).1;
    let judge = |record: &str, policy: Policy| {
        let zone = Zone::new().with_txt("brisbane._domainkey.example.com", record);
        words(&verify_under(policy, &zone, &header, BODY))[0]
    };
    assert_eq!(judge(&format!("p={public}"), Policy::default()), ("pass", ""));
    assert_eq!(
        judge(&format!("t=s; p={public}"), Policy::default()),
        ("fail", "unauthorized subdomain")
    );
    let strict = Policy { least_key_bits: 2048, ..Policy::default() };
    assert_eq!(judge(&format!("p={public}"), strict), ("policy", "signing key too small"));
    let covering = Policy { must_be_signed: vec!["received".into()], ..Policy::default() };
    assert_eq!(judge(&format!("p={public}"), covering), ("policy", "unprotected header field"));
}

#[test]
fn a_flood_of_signatures_is_not_judged() {
    let header = format!("{}{HEADER}", RSA.repeat(300));
    let zone = zone();
    let outcomes = verify(&zone, &header, BODY);
    assert_eq!(outcomes.iter().filter(|one| one.verdict == Verdict::Pass).count(), 3);
    assert!(outcomes.len() <= 50 && zone.asked().len() == 1);
}

fn request(algorithm: Algorithm) -> Request {
    Request {
        domain: "example.com".into(),
        selector: "brisbane".into(),
        algorithm,
        header: Canonicalization::Relaxed,
        body: Canonicalization::Relaxed,
        time: 1_700_000_000,
        valid_for: None,
        identity: None,
        reports: false,
        length: None,
        copies: false,
        choice: Choice { oversigned: vec!["From".into()], ..Choice::default() },
    }
}

/// The signature, and the header with it in front.
fn signed(request: &Request, key: &PrivateKey) -> (String, String) {
    let mut hash = BodyHash::new(request.body, crypto::Hash::Sha256, None);
    hash.update(BODY);
    let fields = Field::all(HEADER.as_bytes());
    let signature = sign::sign(request, &fields, &hash.finish().0, key).unwrap();
    let header = format!("DKIM-Signature: {signature}\r\n{HEADER}");
    (signature, header)
}

#[test]
fn what_is_signed_verifies_in_every_canonicalization() {
    use Canonicalization::{Relaxed, Simple};
    let rsa = PrivateKey::parse(include_bytes!("../../crypto/tests/data/rsa-2048.pem")).unwrap();
    let seed = crypto::pem::decode(SEED.as_bytes()).unwrap();
    let ed25519 = PrivateKey::from_ed25519_seed(&seed).unwrap();
    let public = crypto::pem::encode(&rsa.rsa_public().unwrap().to_der());
    for (key, algorithm, record) in [
        (&rsa, Algorithm::RsaSha256, format!("p={public}")),
        (&ed25519, Algorithm::Ed25519Sha256, BRISBANE_KEY.to_owned()),
    ] {
        let zone = Zone::new().with_txt("brisbane._domainkey.example.com", &record);
        for (header, body) in
            [(Simple, Simple), (Simple, Relaxed), (Relaxed, Simple), (Relaxed, Relaxed)]
        {
            let request = Request {
                header,
                body,
                copies: true,
                reports: true,
                valid_for: Some(3600),
                identity: Some("@example.com".into()),
                ..request(algorithm)
            };
            let (signature, signed) = signed(&request, key);
            assert_eq!(words(&verify(&zone, &signed, BODY)), [("pass", "")], "{signed}");
            assert!(signature.contains("h=From:To:SUBJECT:Subject:Date:From;"), "{signature}");
            assert!(signature.lines().all(|line| line.len() <= 75), "{signature}");
        }
    }
}
