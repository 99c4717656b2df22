//! Real filters behind our smtpd: clamav-milter, rspamd and OpenDKIM in one chain, with our cleanup and Postfix's.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::client::Client;
use harness::dns::Server;
use harness::postfix::Postfix;
use harness::{Daemon, Scratch, log, ports, skip};

use crate::compliance::dkim::rig::{Dkimpy, Filter, Whose, zone_line};

const EICAR: &str = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*";

const GTUBE: &str = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";

/// The signature of the test file, so that no database has to be fetched.
const DATABASE: &str = "Eicar-Test-Signature:0:*:58354f2150254041505b345c505a58353428505e2937434329377d2445494341522d5354414e444152442d414e544956495255532d544553542d46494c452124482b482a\n";

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Not a kill: rspamd ends its own processes.
        let pid = nix::unistd::Pid::from_raw(self.0.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn run(program: &str, arguments: &[&str], log: PathBuf) -> Running {
    let log = std::fs::File::create(log).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    Running(command.spawn().unwrap())
}

fn listens(port: u16) {
    log::eventually("a filter to listen", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop)
    });
}

/// What clamd says to a ping.
fn pong(clamd: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(clamd)?;
    stream.write_all(b"nPING\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map(|_| answer)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The chain: who they are and their ports.
struct Filters {
    _running: Vec<Running>,
    ports: [u16; 3],
    root: PathBuf,
}

impl Filters {
    fn start(scratch: &Scratch) -> Self {
        let root = scratch.directory("filters");
        let shown = root.display();
        let [clamav, rspamd, opendkim] = [(); 3].map(|()| ports::free());
        scratch.write("filters/db/test.ndb", DATABASE);
        // The whole list of public suffixes takes minutes to compile.
        scratch.write("filters/tld", "com\ntest\n");
        let clamd = scratch.write(
            "filters/clamd.conf",
            format!("Foreground yes\nLocalSocket {shown}/clamd.sock\nDatabaseDirectory {shown}/db\nTemporaryDirectory {shown}\n"),
        );
        let milter = scratch.write(
            "filters/clamav-milter.conf",
            format!("Foreground yes\nMilterSocket inet:{clamav}@127.0.0.1\nClamdSocket unix:{shown}/clamd.sock\n\
                OnInfected Reject\nRejectMsg Blocked: virus %v\nAddHeader Add\n"),
        );
        let spam = scratch.write(
            "filters/rspamd.conf",
            format!("options {{ pidfile = \"{shown}/rspamd.pid\"; tempdir = \"{shown}\"; control_socket = \"{shown}/ctl mode=0600\"; filters = \"\"; disable_hyperscan = true; url_tld = \"{shown}/tld\"; hs_cache_dir = \"{shown}\"; }}\n\
                logging {{ type = \"console\"; level = \"error\"; }}\nactions {{ reject = 15; add_header = 6; }}\n\
                group \"test\" {{ symbols = {{ \"DUMMY\" {{ weight = 0.0; }} }} }}\n\
                worker \"rspamd_proxy\" {{ bind_socket = \"127.0.0.1:{rspamd}\"; milter = yes; timeout = 60s; count = 1; \
                upstream \"local\" {{ default = yes; self_scan = yes; }} }}\n"),
        );
        let key = root.join("sel.private");
        let made = Command::new("openssl").args(["genrsa", "-out", text(&key), "2048"]).output();
        assert!(made.unwrap().status.success());
        let made =
            Command::new("openssl").args(["rsa", "-pubout", "-in", text(&key)]).output().unwrap();
        let public = String::from_utf8(made.stdout).unwrap();
        let public: String = public.lines().filter(|line| !line.starts_with('-')).collect();
        scratch.write("filters/sel.public", public);
        let dkim = scratch.write(
            "filters/opendkim.conf",
            format!("Socket inet:{opendkim}@127.0.0.1\nMode s\nDomain example.com\nSelector sel\nKeyFile {}\n\
                Canonicalization relaxed/simple\nRequireSafeKeys no\nPidFile {shown}/opendkim.pid\n", key.display()),
        );
        let mut running = vec![run("clamd", &["-c", text(&clamd)], root.join("clamd.log"))];
        // clamav-milter asks it once at its start, and not again for a minute: a socket in the file system is not enough.
        let clamd = root.join("clamd.sock");
        log::eventually("clamd to answer", || {
            pong(&clamd).ok().filter(|answer| answer == "PONG\n")
        });
        running.push(run("clamav-milter", &["-c", text(&milter)], root.join("clamav.log")));
        running.push(run(
            "rspamd",
            &["-f", "-i", &format!("--var=DBDIR={shown}"), "-c", text(&spam)],
            root.join("rspamd.log"),
        ));
        running.push(run("opendkim", &["-f", "-x", text(&dkim)], root.join("opendkim.log")));
        let ports = [clamav, rspamd, opendkim];
        ports.into_iter().for_each(listens);
        Self { _running: running, ports, root }
    }

    /// What all of them have logged.
    fn said(&self) -> String {
        ["clamd", "clamav", "rspamd", "opendkim"]
            .map(|name| {
                let text = std::fs::read_to_string(self.root.join(name).with_extension("log"));
                format!("{name}: {}", text.unwrap_or_default())
            })
            .join("\n")
    }
}

/// Sends `count` messages, of ten one is spam and one infected; those that were queued, and how many were refused.
fn send(port: u16, count: usize, said: impl Fn() -> String) -> (Vec<String>, usize) {
    let (mut queued, mut refused) = (Vec::new(), 0);
    for batch in 0..count / 10 {
        let mut client = Client::tcp(port);
        client.reply();
        client.expect("EHLO client.example", "250");
        for number in 0..10 {
            client.expect("MAIL FROM:<alice@example.com>", "250");
            client.expect("RCPT TO:<bob@sink.test>", "250");
            client.expect("DATA", "354");
            let (body, refusal) = match number {
                8 => (GTUBE, "554 5.7.1 Gtube pattern"),
                9 => (EICAR, "550 5.7.1 Blocked: virus Eicar-Test-Signature"),
                _ => ("hello\r\n..dot ", ""),
            };
            let message = format!(
                "From: alice@example.com\r\nTo: bob@sink.test\r\nSubject: {batch}.{number}\r\n\
                 Message-ID: <m{batch}.{number}@example.com>\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\n{body}\r\n."
            );
            let reply = client.ask(&message);
            match reply.split_once("queued as ") {
                Some((_, id)) => queued.push(id.trim().to_owned()),
                None => {
                    let meant = !refusal.is_empty() && reply.starts_with(refusal);
                    assert!(meant, "{batch}.{number}: {reply}\n{}", said());
                    refused += 1;
                }
            }
        }
        client.expect("QUIT", "221");
    }
    (queued, refused)
}

/// Who says whether a signature is good: OpenDKIM, our filter, dkimpy.
struct Judges {
    filters: [Filter; 2],
    dkimpy: RefCell<Dkimpy>,
    record: String,
    _names: Server,
}

impl Judges {
    fn start(scratch: &Scratch, record: String) -> Self {
        let names = Server::start(&zone_line("sel", &record));
        let filters = [(Whose::Theirs, "judge-theirs"), (Whose::Ours, "judge-ours")]
            .map(|(whose, name)| Filter::start(whose, scratch, name, &names, "Mode v\n"));
        Self { filters, dkimpy: RefCell::new(Dkimpy::start()), record, _names: names }
    }

    #[track_caller]
    fn find_good(&self, message: &str) {
        for filter in &self.filters {
            let verdict = filter.verdict(message.as_bytes());
            assert!(verdict.starts_with("dkim=pass (2048-bit key"), "{verdict}: {message}");
        }
        let good = self.dkimpy.borrow_mut().is_good(message.as_bytes(), "sel", &self.record);
        assert!(good, "dkimpy: {message}");
    }
}

fn hundred(our_cleanup: bool) {
    if !skip::can_run(true, &["postfix", "opendkim", "rspamd", "clamd", "clamav-milter"]) {
        return;
    }
    let scratch = Scratch::new();
    let filters = Filters::start(&scratch);
    let [clamav, rspamd, opendkim] = filters.ports;
    let main = format!(
        "smtpd_milters = inet:127.0.0.1:{clamav}, inet:127.0.0.1:{rspamd}, inet:127.0.0.1:{opendkim}\n\
         in_flow_delay = 0\nsmtpd_client_connection_count_limit = 0\n"
    );
    let mut postfix = Postfix::lay(&scratch, &main);
    // Nobody empties the queue.
    let master = postfix.config().join("master.cf");
    let lines = std::fs::read_to_string(&master).unwrap();
    let kept: String = lines
        .lines()
        .filter(|line| !line.starts_with("qmgr "))
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(&master, kept).unwrap();
    if our_cleanup {
        postfix.without(&[("cleanup", "unix")]);
    }
    let port = ports::free();
    scratch
        .write("ours/main.cf", std::fs::read_to_string(postfix.config().join("main.cf")).unwrap());
    scratch.write("ours/master.cf", format!("127.0.0.1:{port} inet n - n - - smtpd\n"));
    postfix.start();
    let start = |name: &str, config: PathBuf| {
        Daemon::start(name, &scratch.directory(&format!("run-{name}")), &["-c", text(&config)])
    };
    let cleanup = our_cleanup.then(|| start("queue-manager", postfix.config()));
    let smtpd = start("smtpd", scratch.join("ours"));
    let said = || format!("{}\n{}", smtpd.log.text(), filters.said());
    let (queued, refused) = send(port, 100, said);
    assert_eq!((queued.len(), refused), (80, 20));
    let public = std::fs::read_to_string(scratch.join("filters/sel.public")).unwrap();
    let judges = Judges::start(&scratch, format!("v=DKIM1; k=rsa; p={public}"));
    for id in &queued {
        let file = postfix.queue().join("incoming").join(id);
        let message = postfix.command(&["postcat", "-bh", text(&file)]);
        for field in ["DKIM-Signature:", "X-Virus-Status: Clean"] {
            assert!(message.contains(field), "{field}: {message}");
        }
        judges.find_good(&message.replace('\n', "\r\n"));
    }
    drop((smtpd, cleanup));
    postfix.stop();
}

#[test]
fn hundred_messages_pass_three_filters_and_our_cleanup() {
    hundred(true);
}

#[test]
fn hundred_messages_pass_three_filters_and_postfix_cleanup() {
    hundred(false);
}
