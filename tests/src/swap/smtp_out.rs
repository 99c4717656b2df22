//! The plank smtp-out: every message is delivered once, by whoever has the socket.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use harness::log::eventually;
use harness::postfix::Postfix;
use harness::remote::{Remote, Script};
use harness::{Scratch, dns, ports, skip};

use super::lines::{Allowed, When};
use super::rig::{Host, Traffic, message_id};

/// Postfix sends to two hosts, by its transports smtp, relay and one of the administrator's.
pub struct Out {
    pub host: Host,
    hosts: Vec<Remote>,
    /// `slow.test`
    pub slow: Slow,
    _names: dns::Server,
}

/// A host that answers the content of a message when it is told to.
pub struct Slow {
    listener: TcpListener,
    received: Arc<Mutex<Vec<String>>>,
}

/// A client of it that waits for its answer.
pub struct HeldClient(BufReader<TcpStream>);

impl Slow {
    fn start(address: std::net::Ipv4Addr) -> Self {
        Self { listener: TcpListener::bind((address, 25)).unwrap(), received: Arc::default() }
    }

    /// The next client, up to the end of its first message.
    pub fn accept(&self) -> HeldClient {
        let mut client = HeldClient(BufReader::new(self.listener.accept().unwrap().0));
        let id = client.message().expect("a message");
        self.received.lock().unwrap().push(id);
        client
    }

    /// From now on each client is answered at once.
    pub fn serve(&self) {
        let (listener, received) = (self.listener.try_clone().unwrap(), self.received.clone());
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let mut client = HeldClient(BufReader::new(stream));
                if let Some(id) = client.message() {
                    received.lock().unwrap().push(id);
                    client.answer();
                }
            }
        });
    }

    /// The Message-IDs that it was given.
    pub fn received(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }
}

impl HeldClient {
    fn say(&mut self, line: &str) {
        let _ = self.0.get_mut().write_all(format!("{line}\r\n").as_bytes());
    }

    /// Speaks until the content has come; its Message-ID.
    fn message(&mut self) -> Option<String> {
        self.say("220 mx.slow.test ESMTP");
        let (mut content, mut in_content) = (String::new(), false);
        loop {
            let mut line = String::new();
            if !matches!(self.0.read_line(&mut line), Ok(1..)) {
                return None;
            }
            match line.trim_end() {
                "." if in_content => return Some(message_id(&content)),
                text if in_content => content.push_str(&format!("{text}\n")),
                "DATA" => {
                    in_content = true;
                    self.say("354 go on");
                }
                _ => self.say("250 Ok"),
            }
        }
    }

    /// Takes the message, and sees the client off.
    pub fn answer(mut self) {
        self.say("250 2.0.0 Ok");
        let mut line = String::new();
        let _ = self.0.read_line(&mut line);
        self.say("221 Bye");
    }
}

/// What Postfix's own processes say of one another when master reloads: clients warn at once of every error but a broken pipe
/// and a missing name, and ask again. Without us, 941 reloads under every kind of mail brought some of these lines, and no
/// other ones but those of the clock. (`malformed request` came once in a swap; a client that connects and goes brings it.)
pub const AT_A_RELOAD: &[Allowed] = &[
    Allowed {
        line: "postfix/*: warning: problem talking to service *: Connection reset by peer",
        when: When::InASwap(PROCESSES),
        why: "a server of the old configuration has ended with a question unread, and is asked again",
    },
    Allowed {
        line: "postfix/*: warning: problem talking to service *: Success",
        when: When::InASwap(PROCESSES),
        why: "it has ended without an answer",
    },
    Allowed {
        line: "postfix/*: warning: problem talking to service *: Broken pipe",
        when: When::InASwap(PROCESSES),
        why: "it had ended before the question",
    },
    Allowed {
        line: "postfix/*: warning: dict_proxy_*: service *: Connection reset by peer",
        when: When::InASwap(PROCESSES),
        why: "so has proxymap",
    },
    Allowed {
        line: "postfix/*: warning: dict_proxy_*: service *: Success",
        when: When::InASwap(PROCESSES),
        why: "so has proxymap",
    },
    Allowed {
        line: "postfix/*: warning: dict_proxy_*: service *: Broken pipe",
        when: When::InASwap(PROCESSES),
        why: "so has proxymap",
    },
    Allowed {
        line: "postfix/*: warning: open active *: No such file or directory",
        when: When::InASwap(1),
        why: "the old queue manager and the new one have asked for one delivery; the first is done",
    },
    Allowed {
        line: "postfix/bounce: warning: malformed request",
        when: When::InASwap(PROCESSES),
        why: "the old queue manager has connected to it for a notice and ended before it was greeted; the new one asks",
    },
    Allowed {
        line: "postfix/master: warning: master_wakeup_timer_event: service qmgr(public/qmgr): Resource temporarily unavailable",
        when: When::InASwap(1),
        why: "the queue manager has been woken by many and not answered yet",
    },
    Allowed {
        line: "postfix/postsuper: warning: bogus file name: incoming/*",
        when: When::InASwap(PROCESSES),
        why: "`postfix reload` runs postsuper, which meets a message that has no id yet",
    },
];

/// Processes of Postfix that ask trivial-rewrite: smtpd, cleanup, the queue manager and agents. Each asks anew once.
const PROCESSES: usize = 20;

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
        let address = ports::address();
        zone.push_str(&format!("slow.test MX 10 mx.slow.test\nmx.slow.test A {address}\n"));
        let slow = Slow::start(address);
        let names = dns::Server::start(&zone);
        let mut postfix = Postfix::lay(
            &scratch,
            "in_flow_delay = 0\nrelay_domains = two.test\ntransport_maps = inline:{three.test=slow:}\n\
             minimal_backoff_time = 1s\nmaximal_backoff_time = 2s\nqueue_run_delay = 1s\n",
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
        Self { host, hosts, slow, _names: names }
    }

    pub fn traffic(&self) -> Traffic {
        self.traffic_to(3, RECIPIENTS)
    }

    pub fn traffic_to(&self, senders: usize, recipients: &[&str]) -> Traffic {
        Traffic::start(self.host.postfix().port, senders, recipients)
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

    /// Every one of them arrived, and once.
    #[track_caller]
    pub fn all_once(&self, sent: &[String]) {
        self.all_arrived(sent, 1);
    }

    /// Somebody else has reloaded Postfix under mail, or a run of ours was killed: Postfix's new queue manager asks again
    /// for what the old one had asked for and no agent had begun.
    #[track_caller]
    pub fn all_once_or_twice(&self, sent: &[String]) {
        self.all_arrived(sent, 2);
    }

    #[track_caller]
    fn all_arrived(&self, sent: &[String], copies: usize) {
        self.host.queue_empties();
        let received = self.received();
        let fits = |id: &&String| received.get(*id).is_some_and(|count| *count <= copies);
        let wrong: Vec<_> = sent.iter().filter(|id| !fits(id)).collect();
        let log = self.host.postfix().log.text();
        assert!(wrong.is_empty(), "not at all, or too often: {wrong:?}\n{log}");
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
