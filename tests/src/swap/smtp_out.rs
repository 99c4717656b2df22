//! The plank smtp-out: every message is delivered once, by whoever has the socket.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::log::{PATIENCE, eventually};
use harness::postfix::Postfix;
use harness::remote::{Remote, Script};
use harness::{Scratch, dns, ports, skip};

use super::rig::{Host, Traffic, is_empty, message_id};

/// Postfix sends to two hosts, by its transports smtp, relay and one of the administrator's.
pub struct Out {
    pub host: Host,
    hosts: Vec<Remote>,
    _names: dns::Server,
}

/// What Postfix's own processes say of one another when master reloads.
pub const AT_A_RELOAD: &[&str] = &["problem talking to service"];

pub const RECIPIENTS: &[&str] = &["anna@one.test", "anna@two.test", "anna@three.test"];

impl Out {
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let mut zone = String::new();
        let mut hosts = Vec::new();
        for domain in ["one.test", "two.test", "three.test"] {
            let address = ports::address();
            zone.push_str(&format!("{domain} MX 10 mx.{domain}\nmx.{domain} A {address}\n"));
            hosts.push(Remote::start((address, 25).into(), Script::new(&format!("mx.{domain}"))));
        }
        let names = dns::Server::start(&zone);
        let mut postfix = Postfix::lay(
            &scratch,
            "in_flow_delay = 0\nrelay_domains = two.test\ntransport_maps = inline:{three.test=slow:}\n",
        );
        postfix.add_services(
            "slow      unix  -  -  n  -     3  smtp\n  -o syslog_name=postfix/slow\n# between\n\t-o smtp_helo_timeout=100",
        );
        postfix.sees(&format!("nameserver {}\n", names.address().ip()), "127.0.0.1 localhost\n");
        postfix.start();
        let config = postfix.config().display().to_string();
        let mut host = Host::new(scratch, Some(postfix), Some(names.address().to_string()));
        let toml = host.toml();
        host.services.ours("smtp-delivery", &["-c", &config, "--theoris", &toml]);
        Self { host, hosts, _names: names }
    }

    pub fn traffic(&self) -> Traffic {
        Traffic::start(self.host.postfix().port, 3, RECIPIENTS)
    }

    /// How often each message arrived.
    pub fn received(&self) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for host in &self.hosts {
            for content in host.conversations().iter().flat_map(|said| &said.contents) {
                *found.entry(message_id(content)).or_default() += 1;
            }
        }
        found
    }

    /// Every one of them arrived: once, but for those that were under way at a reload, after which Postfix's new queue
    /// manager knows nothing of deliveries that the old one had asked for.
    #[track_caller]
    pub fn all_once(&self, sent: &[String]) {
        let postfix = self.host.postfix();
        let config = postfix.config().display().to_string();
        let end = Instant::now() + PATIENCE;
        while !is_empty(&postfix.queue()) || self.received().len() < sent.len() {
            assert!(Instant::now() < end, "the queue is not empty:\n{}", postfix.log.text());
            // What a new queue manager finds still being delivered it puts off for minutes, but for a flush.
            postfix.command(&["postqueue", "-c", &config, "-f"]);
            std::thread::sleep(Duration::from_millis(500));
        }
        let received = self.received();
        for id in sent {
            assert!(matches!(received.get(id), Some(1..=2)), "{id}: {:?}", received.get(id));
        }
        let twice = received.values().filter(|count| **count > 1).count();
        assert!(twice * 20 <= sent.len().max(200), "{twice} of {} arrived twice", sent.len());
    }

    /// What our daemon has delivered.
    pub fn by_us(&self) -> usize {
        self.host.services.said("theoris-smtp-delivery.service").matches("status=sent").count()
    }
}

pub fn can_run() -> bool {
    skip::can_run(true, &["postfix", "unshare"])
}

#[test]
fn postfix_smtp_is_swapped_under_mail() {
    if !can_run() {
        return;
    }
    let out = Out::new();
    let before = out.host.master_cf();
    let traffic = out.traffic();
    let mut by_us = 0;
    for _ in 0..3 {
        traffic.flows(10);
        out.host.must(&["adopt", "smtp-out"]);
        let marked = String::from_utf8(out.host.master_cf()).unwrap();
        assert!(marked.contains("#theoris: smtp      unix"), "{marked}");
        assert!(marked.contains("#theoris: slow      unix"), "{marked}");
        assert!(
            marked.contains("#theoris:   -o syslog_name=postfix/slow\n# between\n#theoris: \t-o")
        );
        assert!(marked.contains("\nrelay     unix"), "stays live");
        traffic.flows(20);
        eventually("deliveries of ours", || (out.by_us() > by_us).then_some(()));
        out.host.must(&["release", "smtp-out"]);
        by_us = out.by_us();
        assert_eq!(out.host.master_cf(), before, "not a byte differs");
    }
    traffic.flows(10);
    let sent = traffic.end();
    out.all_once(&sent);
    assert_eq!(out.by_us(), by_us, "ours is out");
    out.host.no_complaints(AT_A_RELOAD);
}
