//! Our smtp-delivery under Postfix's queue manager: every message arrives once, over connections of its own and over reused ones.

use std::collections::BTreeMap;
use std::path::Path;

use harness::client::Client;
use harness::log::eventually;
use harness::postfix::Postfix;
use harness::remote::{Remote, Script};
use harness::{Daemon, Scratch, dns, ports, skip};

const MESSAGES: usize = 100;
const SENDERS: usize = 5;
const DOMAINS: [&str; 2] = ["one.test", "two.test"];

/// Gives the number of connections that each host saw.
#[track_caller]
fn all_accounted_for(main: &str) -> Vec<usize> {
    let scratch = Scratch::new();
    let mut postfix = Postfix::lay(&scratch, &format!("in_flow_delay = 0\n{main}"));
    let mut zone = String::new();
    let mut hosts = Vec::new();
    for domain in DOMAINS {
        let address = ports::address();
        zone.push_str(&format!("{domain} MX 10 mx.{domain}\nmx.{domain} A {address}\n"));
        hosts.push(Remote::start((address, 25).into(), Script::new(&format!("mx.{domain}"))));
    }
    let server = dns::Server::start(&zone);
    postfix.sees(&format!("nameserver {}\n", server.address().ip()), "127.0.0.1 localhost\n");
    postfix.without(&[("smtp", "unix"), ("relay", "unix"), ("lmtp", "unix")]);
    let config = postfix.config();
    postfix.check();
    let servers = format!("resolver.servers=[\"{}\"]", server.address());
    let daemon = Daemon::start(
        "smtp-delivery",
        &scratch.directory("run"),
        &["-c", config.to_str().unwrap(), "--set", &servers],
    );
    postfix.start();
    let port = postfix.port;
    let senders: Vec<_> =
        (0..SENDERS).map(|sender| std::thread::spawn(move || send(port, sender))).collect();
    for sender in senders {
        sender.join().unwrap();
    }
    let received = || {
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        for host in &hosts {
            for content in host.conversations().iter().flat_map(|said| &said.contents) {
                let id = content.lines().find_map(|line| line.strip_prefix("Message-Id: "));
                *found.entry(id.unwrap().to_owned()).or_default() += 1;
            }
        }
        found
    };
    eventually("an empty queue", || {
        let queues = ["maildrop", "incoming", "active", "deferred", "bounce", "corrupt"];
        let empty = |name: &&str| is_empty(&postfix.queue().join(name));
        (queues.iter().all(empty) && received().len() == MESSAGES).then_some(())
    });
    assert!(received().values().all(|count| *count == 1), "{:?}", received());
    let sent = daemon.log.wait_until("a line for each message", |lines| {
        let sent =
            lines.iter().filter(|line| line.text.contains(", status=sent (250 2.0.0 Ok")).count();
        (sent >= MESSAGES).then_some(sent)
    });
    assert_eq!(sent, MESSAGES);
    hosts.iter().map(|host| host.conversations().len()).collect()
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).into_iter().flatten().flatten().all(|entry| {
        let path = entry.path();
        path.is_dir() && is_empty(&path)
    })
}

fn send(port: u16, sender: usize) {
    let mut smtp = Client::tcp(port);
    assert!(smtp.reply().starts_with("220 "));
    smtp.expect("EHLO client.example", "250");
    for number in 0..MESSAGES / SENDERS {
        smtp.expect("MAIL FROM:<bob@example.com>", "250 2.1.0");
        smtp.expect(&format!("RCPT TO:<anna@{}>", DOMAINS[number % 2]), "250 2.1.5");
        smtp.expect("DATA", "354");
        let text = format!("Message-Id: <{sender}.{number}@test>\r\n\r\n..dot\r\nbody\r\n.");
        smtp.expect(&text, "250 2.0.0 Ok: queued as ");
    }
    smtp.expect("QUIT", "221");
}

#[test]
fn each_of_100_messages_arrives_once_at_one_of_two_hosts() {
    if skip::can_run(true, &["postfix", "unshare"]) {
        let connections = all_accounted_for("smtp_connection_cache_on_demand = no\n");
        assert_eq!(connections, [MESSAGES / 2; 2], "a connection for each message");
    }
}

#[test]
fn each_of_100_messages_arrives_once_over_reused_connections() {
    if skip::can_run(true, &["postfix", "unshare"]) {
        let connections =
            all_accounted_for("smtp_connection_cache_destinations = one.test, two.test\n");
        assert!(connections.iter().all(|count| *count < MESSAGES / 4), "{connections:?}");
    }
}
