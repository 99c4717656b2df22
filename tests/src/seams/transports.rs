//! Our queue manager over the transports of real hosts: Postfix's smtp, relay, lmtp and pipe agents and Postfix's
//! bounce service, each as the other end of its own protocol; and over an agent that means harm.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use harness::client::Client;
use harness::daemon::Daemon;
use harness::log::eventually;
use harness::postfix::Postfix;
use harness::remote::{Remote, Script};
use harness::{Scratch, skip};

const MESSAGES: usize = 100;

/// Postfix ends before its directory does.
struct Site {
    postfix: Postfix,
    scratch: Scratch,
}

impl Site {
    /// Postfix with our queue manager in the place of its own, and nothing else of ours.
    fn start(main: &str, services: &str) -> (Self, Daemon) {
        let scratch = Scratch::new();
        let boxes = scratch.path().display().to_string();
        let main = format!(
            "in_flow_delay = 0\nlocal_recipient_maps =\nmail_spool_directory = {boxes}/mail/\n\
             smtpd_reject_unlisted_recipient = no\nrelay_domains = relay.example\n\
             maximal_backoff_time = 10s\nminimal_backoff_time = 10s\n{main}"
        );
        let mut postfix = Postfix::lay(&scratch, &main.replace("{dir}", &boxes));
        for name in ["mail", "piped"] {
            let directory = scratch.directory(name);
            fs::set_permissions(directory, fs::Permissions::from_mode(0o1777)).unwrap();
        }
        postfix.add_services(&services.replace("{dir}", &boxes));
        postfix.without(&[("qmgr", "unix")]);
        postfix.start();
        let config = postfix.config().to_str().unwrap().to_owned();
        let ours = Daemon::start("queue-manager", &scratch.directory("run"), &["-c", &config]);
        (Self { postfix, scratch }, ours)
    }

    fn send(&self, to: &[&str], subject: &str) {
        let mut smtp = Client::tcp(self.postfix.port);
        assert!(smtp.reply().starts_with("220 "));
        smtp.expect("EHLO client.example", "250");
        smtp.expect("MAIL FROM:<games@example.com>", "250");
        for to in to {
            smtp.expect(&format!("RCPT TO:<{to}>"), "250");
        }
        smtp.expect("DATA", "354");
        smtp.expect(&format!("Subject: {subject}\r\n\r\nbody\r\n."), "250");
        smtp.expect("QUIT", "221");
    }

    #[track_caller]
    fn until_the_queue_is_empty(&self) {
        eventually("an empty queue", || {
            // Twice: a message may go from a queue that is not looked at yet to one that was.
            let queues = ["incoming", "active", "deferred", "bounce", "defer"];
            queues
                .iter()
                .chain(&queues)
                .all(|name| files(&self.postfix.queue().join(name)).is_empty())
                .then_some(())
        });
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// How often each subject came.
fn subjects(texts: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for text in texts {
        if let Some(subject) = text.lines().find_map(|line| line.strip_prefix("Subject: ")) {
            *count.entry(subject.trim_end().to_owned()).or_insert(0) += 1;
        }
    }
    count
}

fn received(remote: &Remote) -> BTreeMap<String, usize> {
    let conversations = remote.conversations();
    subjects(conversations.into_iter().flat_map(|conversation| conversation.contents))
}

fn in_files(directory: &Path) -> BTreeMap<String, usize> {
    subjects(files(directory).iter().filter_map(|path| fs::read_to_string(path).ok()))
}

#[track_caller]
fn each_once(found: &BTreeMap<String, usize>, what: &str) {
    let wanted: BTreeMap<String, usize> =
        (0..MESSAGES).map(|n| (format!("message {n}"), 1)).collect();
    assert_eq!(*found, wanted, "{what}");
}

/// The queue manager has said of so many messages that they are done.
#[track_caller]
fn removed(ours: &Daemon, count: usize) {
    ours.log.wait_until(&format!("{count} messages to be removed"), |lines| {
        let removed = lines.iter().filter(|line| line.text.ends_with(": removed")).count();
        assert!(removed <= count, "{removed}");
        (removed == count).then_some(())
    });
}

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], harness::ports::free()))
}

/// Each message goes to a host of the world, to a relay, to an LMTP server and into a program.
#[test]
fn every_transport_gets_every_message_once() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let world = Remote::start(anywhere(), Script::new("world.example"));
    let relay = Remote::start(anywhere(), Script::new("relay.example"));
    let lmtp = Remote::start(anywhere(), Script::new("lmtp.example"));
    let port = |remote: &Remote| remote.address().unwrap().port();
    let main = format!(
        "transport_maps = inline:{{{{world.example = smtp:[127.0.0.1]:{}}}, \
         {{relay.example = relay:[127.0.0.1]:{}}}, {{lmtp.example = lmtp:inet:127.0.0.1:{}}}, \
         {{pipe.example = filed:}}}}\nfiled_destination_recipient_limit = 1\n",
        port(&world),
        port(&relay),
        port(&lmtp)
    );
    let services = "filed unix - n n - - pipe\n  flags=R user=nobody argv=/bin/sh -c \
                    {cat > {dir}/piped/${queue_id}}";
    let (site, ours) = Site::start(&main, services);
    let to = [
        "a@world.example",
        "b@world.example",
        "c@relay.example",
        "d@lmtp.example",
        "e@pipe.example",
    ];
    for n in 0..MESSAGES {
        site.send(&to, &format!("message {n}"));
    }
    site.until_the_queue_is_empty();
    each_once(&received(&world), "smtp: both recipients of a host in one transaction");
    each_once(&received(&relay), "relay");
    each_once(&received(&lmtp), "lmtp");
    each_once(&in_files(&site.scratch.join("piped")), "pipe");
    removed(&ours, MESSAGES);
}

/// Refused mail comes back through Postfix's bounce and cleanup, a notice for each message.
#[test]
fn every_refused_message_comes_back_once() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let script = Script::new("strict.example").on("RCPT", "550 5.1.1 no such user");
    let strict = Remote::start(anywhere(), script);
    let port = strict.address().unwrap().port();
    let main =
        format!("transport_maps = inline:{{{{strict.example = smtp:[127.0.0.1]:{port}}}}}\n");
    let (site, ours) = Site::start(&main, "");
    for n in 0..MESSAGES {
        site.send(&["nobody@strict.example"], &format!("message {n}"));
    }
    removed(&ours, 2 * MESSAGES); // each message, and each notice
    site.until_the_queue_is_empty();
    let notices = files(&site.scratch.join("mail/games/new"));
    let texts: Vec<String> = notices.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for text in &texts {
        assert!(text.contains("\nSubject: Undelivered Mail Returned to Sender\n"), "{text}");
        assert!(text.contains("\nStatus: 5.1.1\n"), "{text}");
    }
    // The subject of the message that came back is the last one of the notice.
    let returned = texts.iter().map(|text| {
        let at = text.rfind("Subject: message").unwrap();
        text[at..].to_owned()
    });
    each_once(&subjects(returned), "notices");
}

/// What an agent may answer: its greeting, and its reply to the request.
const HARMFUL: &[(&str, &[u8], &[u8])] = &[
    ("greets with nonsense", b"hello\0", b""),
    ("greets as something else", b"protocol\0cleanup_protocol\0\0", b""),
    ("ends at once", b"", b""),
    ("ends after the request", b"protocol\0delivery_request_protocol\0\0", b""),
    ("answers nonsense", b"protocol\0delivery_request_protocol\0\0", b"\0\0\0\0\0\0"),
    (
        "answers with an unknown status",
        b"protocol\0delivery_request_protocol\0\0",
        b"status\0\0diag_type\0\0diag_text\0\0mta_type\0\0mta_mname\0\0action\0\0reason\0\0status\0ninety\0\0",
    ),
    (
        "is away, with a line end in its reason, and goes on talking",
        b"protocol\0delivery_request_protocol\0\0",
        b"status\x004.0.0\0diag_type\0\0diag_text\0\0mta_type\0\0mta_mname\0\0action\0delayed\0reason\0x\ny\0status\x001\0\0status\0\0diag_type\0\0",
    ),
];

/// No message is lost or delivered twice by what an agent says, and other transports go on.
#[test]
fn an_agent_that_means_harm_costs_nobody_mail() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let world = Remote::start(anywhere(), Script::new("world.example"));
    let port = world.address().unwrap().port();
    let harmful: String =
        (0..HARMFUL.len()).map(|n| format!("{{harm{n}.example = harm{n}:}}, ")).collect();
    let main = format!(
        "transport_maps = inline:{{{harmful}{{world.example = smtp:[127.0.0.1]:{port}}}}}\n"
    );
    let (site, ours) = Site::start(&main, "");
    for (n, (_, greeting, answer)) in HARMFUL.iter().enumerate() {
        let path = site.postfix.queue().join(format!("private/harm{n}"));
        let listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.write_all(greeting);
                if !answer.is_empty() {
                    let _ = stream.read(&mut [0; 4096]);
                    let _ = stream.write_all(answer);
                }
            }
        });
    }
    for n in 0..HARMFUL.len() {
        site.send(&[&format!("x@harm{n}.example"), "a@world.example"], &format!("message {n}"));
    }
    // The last one says in proper form that it is away, so nobody has to speak for it.
    for (n, (what, ..)) in HARMFUL.iter().enumerate().take(HARMFUL.len() - 1) {
        let line = ours.log.wait_until(what, |lines| {
            let about = format!("to=<x@harm{n}.example>");
            lines.iter().map(|line| &line.text).find(|text| text.contains(&about)).cloned()
        });
        assert!(line.contains("status=deferred ("), "{what}: {line}");
    }
    eventually("the other recipients", || (received(&world).len() == HARMFUL.len()).then_some(()));
    assert!(received(&world).values().all(|&count| count == 1), "{:?}", received(&world));
    let waiting = || files(&site.postfix.queue().join("deferred")).len();
    eventually("all messages to wait", || (waiting() == HARMFUL.len()).then_some(()));
}
