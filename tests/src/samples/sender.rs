//! `etc/sender`: a host that sends slowly and signed, for whoever has logged in, and takes little from strangers.

use std::net::Ipv4Addr;
use std::time::Duration;

use harness::client::Client;
use harness::dns::Server;
use harness::log::eventually;
use harness::ports;
use harness::remote::{Remote, Script};

use super::{HOST, Rig, Whose, can_run, send};
use crate::compliance::dkim::rig::Dkimpy;

const USER: &str = "shop@example.com";

/// The host, a receiver of its mail, and the names of both; clients are strangers to it.
struct Scene {
    rig: Rig,
    receiver: Remote,
    /// A client that a DNS list names.
    listed: Ipv4Addr,
    _names: Server,
}

impl Scene {
    fn start(whose: Whose) -> Self {
        let [stranger, listed, other] = [(); 3].map(|()| ports::address());
        let receiver = Remote::start((other, 25).into(), Script::new("mx.example.org"));
        let zone = format!(
            "example.com MX 10 {HOST}\n{HOST} A 127.0.0.1\nexample.org MX 10 mx.example.org\nmx.example.org A {other}\n"
        );
        let [a, b, c, d] = listed.octets();
        let list = format!("{d}.{c}.{b}.{a}.zen.spamhaus.org");
        let list = format!("{list} A 127.0.0.4\n{list} TXT \"spam\"\n");
        let names = Server::start(&format!("{zone}{list}"));
        let mut rig = Rig::start("sender", whose, Some(&names), |_| {});
        rig.source = stranger;
        Self { rig, receiver, listed, _names: names }
    }
}

fn play(whose: Whose) {
    if !can_run() || !harness::skip::can_run(true, &["python3"]) {
        return;
    }
    let mut scene = Scene::start(whose);
    strangers_are_looked_at(&scene);
    what_leaves_is_signed_and_slow(&scene);
    programs_send_thirty_a_minute(&scene);
    nothing_leaves_while_the_filter_is_away(&mut scene);
    clients_connect_only_so_often(&scene);
}

fn strangers_are_looked_at(scene: &Scene) {
    let mut smtp = scene.rig.connect("smtp");
    smtp.reply();
    smtp.expect("MAIL FROM:<a@example.org>", "503 5.5.1");
    let mut refused = |helo: &str, from: &str, to: &str, reply: &str| {
        smtp.expect(helo, "250");
        smtp.expect(&format!("MAIL FROM:<{from}>"), "250");
        let said = smtp.ask(&format!("RCPT TO:<{to}>"));
        assert!(said.starts_with(reply), "{}", smtp.transcript);
        smtp.expect("RSET", "250");
    };
    let (helo, from, to) = ("EHLO mx.example.org", "a@example.org", "abuse@example.com");
    refused(helo, from, "a@example.org", "554 5.7.1 <a@example.org>: Relay access denied");
    refused(
        "EHLO -x-.example.org",
        from,
        to,
        "501 5.5.2 <-x-.example.org>: Helo command rejected: ",
    );
    refused("EHLO mx", from, to, "504 5.5.2 <mx>: Helo command rejected: ");
    refused(helo, "a@mx", to, "504 5.5.2 <a@mx>: Sender address rejected: ");
    refused(helo, "a@no.example", to, "450 4.1.8 <a@no.example>: Sender address rejected: ");
    refused(helo, from, "nobody-of-this-name@example.com", "550 5.1.1 ");
    refused(helo, from, to, "250 2.1.5");
    let mut smtp = Client::from(scene.listed, scene.rig.site.port("smtp"));
    smtp.reply();
    smtp.expect(helo, "250");
    smtp.expect(&format!("MAIL FROM:<{from}>"), "250");
    let said = smtp.ask(&format!("RCPT TO:<{to}>"));
    let listed =
        format!("554 5.7.1 Service unavailable; Client host [{}] blocked using", scene.listed);
    assert_eq!(said, format!("{listed} zen.spamhaus.org; spam"));
}

fn what_leaves_is_signed_and_slow(scene: &Scene) {
    let mut client = scene.rig.logged_in(USER);
    assert!(client.transcript.contains("250-AUTH=PLAIN LOGIN\n"), "{}", client.transcript);
    let begun = std::time::SystemTime::now();
    for number in 1..=3 {
        send(&mut client, USER, "friend@example.org", &format!("newsletter {number}"));
    }
    let all = eventually("three messages at the receiver", || {
        let talked = scene.receiver.conversations();
        let contents: Vec<String> = talked.into_iter().flat_map(|one| one.contents).collect();
        (contents.len() == 3).then_some(contents)
    });
    let [key] = scene.rig.site.dkim.as_slice() else { panic!("one key") };
    let mut dkimpy = Dkimpy::start();
    for content in &all {
        let content = content.replace("\\t", "\t");
        for tag in ["d=example.com;", "s=default;"] {
            assert!(content.contains(tag), "{content}");
        }
        assert!(!content.contains("X-Mailer"), "{content}");
        let message = content.replace('\n', "\r\n");
        assert!(dkimpy.is_good(message.as_bytes(), "default", &key.record), "{content}");
    }
    let last = scene.rig.site.log.wait_until("three deliveries", |lines| {
        let mut sent =
            lines.iter().filter(|line| line.text.contains("to=<friend@example.org>, relay="));
        sent.nth(2).map(|line| line.at)
    });
    // A second between two of them. Postfix counts whole seconds, so that the first may be short; a log is read late on a
    // busy machine, so that single gaps tell nothing.
    let took = last.duration_since(begun).unwrap_or_default();
    assert!(took > Duration::from_millis(900), "three messages left within {took:?}");
}

fn programs_send_thirty_a_minute(scene: &Scene) {
    let mut client = scene.rig.logged_in(USER);
    let mut accepted = 3; // those of before
    let said = loop {
        let said = client.ask(&format!("MAIL FROM:<{USER}>"));
        if !said.starts_with("250") || accepted == 40 {
            break said;
        }
        accepted += 1;
        client.expect("RSET", "250");
    };
    let too_much = format!("450 4.7.1 Error: too much mail from {}", scene.rig.source);
    assert_eq!((accepted, said), (30, too_much));
    scene.rig.site.log.wait_for("Message delivery request rate limit exceeded: 31 from ");
}

fn nothing_leaves_while_the_filter_is_away(scene: &mut Scene) {
    for (name, daemon) in &mut scene.rig.ours {
        if *name == "dkim-milter" {
            daemon.stop();
        }
    }
    if let Some(originals) = &mut scene.rig.theirs {
        originals.stop_filter();
    }
    let mut smtp = scene.rig.connect("smtp");
    smtp.reply();
    smtp.expect("EHLO mx.example.org", "250");
    smtp.expect("MAIL FROM:<a@example.org>", "451 4.7.1 Service unavailable - try again later");
}

fn clients_connect_only_so_often(scene: &Scene) {
    let site = &scene.rig.site;
    let busy = format!("421 4.7.0 {HOST} Error: too many connections from {}", scene.rig.source);
    let ended = || {
        let lines = site.log.lines();
        lines.iter().filter(|line| line.text.contains("disconnect from ")).count()
    };
    let connected = || {
        let lines = site.log.lines();
        lines.iter().filter(|line| line.text.contains(": connect from ")).count()
    };
    // Ten at a time on port 25, thirty a minute, of which three are over.
    let mut open: Vec<_> = (0..10).map(|_| scene.rig.connect("smtp")).collect();
    for client in &mut open {
        assert!(client.reply().starts_with("220 "));
    }
    assert_eq!(scene.rig.connect("smtp").reply(), busy);
    site.log.wait_for("Connection concurrency limit exceeded: 11 from ");
    drop(open);
    let all_ended =
        || eventually("the end of every session", || (ended() == connected()).then_some(()));
    all_ended();
    let mut connections = 14;
    // One after the other: ten of them at a time would be too many, too.
    while scene.rig.connect("smtp").reply() != busy {
        connections += 1;
        assert!(connections < 60, "no limit");
        all_ended();
    }
    site.log.wait_for("Connection rate limit exceeded: 31 from ");
    // Ten a minute on port 587, of which two are over.
    for _ in 0..8 {
        let mut client = scene.rig.connect("submission");
        assert!(client.reply().starts_with("220 "), "{}", client.transcript);
    }
    assert_eq!(scene.rig.connect("submission").reply(), busy);
    site.log.wait_for("Connection rate limit exceeded: 11 from ");
}

#[test]
fn mail_leaves_slowly_and_signed_and_strangers_are_refused() {
    play(Whose::Ours);
}

#[test]
fn mail_leaves_slowly_and_signed_and_strangers_are_refused_with_the_originals() {
    play(Whose::Theirs);
}
