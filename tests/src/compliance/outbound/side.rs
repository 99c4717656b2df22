//! One Postfix with its remote hosts and its DNS, delivering with Postfix's smtp or with ours.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::certificates::{self, Authority, Identity};
use harness::client::Client;
use harness::postfix::Postfix;
use harness::remote::{Remote, Script, Unanswering};
use harness::{Daemon, Log, Scratch, dns, ports};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::case::{Case, Kind, Message};
use super::transcript::{self, Transcript};

#[derive(Clone, Copy, PartialEq)]
pub enum Who {
    Theirs,
    Ours,
}

/// No message takes longer than a few of the time-outs below, even on a busy machine.
const LONGEST: Duration = Duration::from_secs(100);

/// Senders live in bounces.test and get their notices into a Maildir. Nothing is tried twice.
const MAIN: &str = "\
virtual_mailbox_domains = bounces.test
virtual_mailbox_maps = texthash:$config_directory/boxes
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
virtual_minimum_uid = 1
queue_run_delay = 1000s
minimal_backoff_time = 1000s
in_flow_delay = 0
default_process_limit = 200
qmgr_message_recipient_limit = 20000
smtp_connect_timeout = 6s
smtp_helo_timeout = 6s
smtp_mail_timeout = 6s
smtp_rcpt_timeout = 6s
smtp_data_init_timeout = 6s
smtp_data_xfer_timeout = 6s
smtp_data_done_timeout = 6s
smtp_quit_timeout = 6s
smtp_rset_timeout = 6s
smtp_starttls_timeout = 6s
smtp_tls_loglevel = 1
smtp_tls_session_cache_database = btree:$data_directory/smtp_scache
smtp_address_preference = ipv4
relay_domains = texthash:$config_directory/relayed
transport_maps = texthash:$config_directory/transport
notify_classes =
";

pub struct Side {
    who: Who,
    authority: (Authority, Authority),
    addresses: BTreeMap<(String, String), SocketAddr>,
    /// What certificates stand for in cases: `mx.tlsa-key` and the like, by case.
    words: BTreeMap<String, Vec<(String, String)>>,
    remotes: BTreeMap<(String, String), Remote>,
    mute: Vec<Unanswering>,
    /// Ends before the directory does.
    postfix: Postfix,
    ours: Option<Daemon>,
    /// Lines that only mark a point in the logs.
    marks: usize,
    dns: Option<dns::Server>,
    scratch: Scratch,
}

impl Side {
    /// Sends everything that the cases hold and tells, case by case, what became of it.
    pub fn play(who: Who, cases: &[Case]) -> Vec<Transcript> {
        let mut side = Self::lay(who, cases);
        side.start(cases);
        let mut sent: Vec<Vec<String>> = vec![Vec::new(); cases.len()];
        let rounds = cases.iter().map(|case| case.rounds.len()).max().unwrap_or(0);
        for round in 0..rounds {
            for (case, sent) in cases.iter().zip(&mut sent) {
                for message in case.rounds.get(round).into_iter().flatten() {
                    sent.push(side.submit(case, message));
                }
            }
            side.wait_for_rest();
        }
        cases.iter().zip(&sent).map(|(case, sent)| side.account(case, sent)).collect()
    }

    fn lay(who: Who, cases: &[Case]) -> Self {
        let scratch = Scratch::new();
        let authority = (
            Authority::new(&scratch.directory("ca")),
            Authority::named(&scratch.directory("unknown-ca"), "Somebody"),
        );
        let relayhost = "relayhost = [relay.default.test]\n";
        let boxes = scratch.directory("boxes");
        fs::set_permissions(&boxes, fs::Permissions::from_mode(0o1777)).unwrap();
        let main = format!("{MAIN}{relayhost}virtual_mailbox_base = {}\n", boxes.display());
        let postfix = Postfix::lay(&scratch, &main);
        let mut side = Self {
            who,
            authority,
            addresses: BTreeMap::new(),
            words: BTreeMap::new(),
            remotes: BTreeMap::new(),
            mute: Vec::new(),
            postfix,
            ours: None,
            marks: 0,
            dns: None,
            scratch,
        };
        for case in cases {
            side.start_hosts(case);
        }
        side
    }

    fn start_hosts(&mut self, case: &Case) {
        let directory = self.scratch.directory(&case.label);
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        for (name, server) in &case.servers {
            let key = (case.label.clone(), name.clone());
            let of = |name: &String| self.addresses[&(case.label.clone(), name.clone())].port();
            let address = match &server.kind {
                Kind::Six | Kind::SixClosed | Kind::SixUnanswering => free_six(),
                Kind::Port(port) => (ports::address(), *port).into(),
                Kind::PortOf(name) => (ports::address(), of(name)).into(),
                _ => (ports::address(), 25).into(),
            };
            self.addresses.insert(key.clone(), address);
            let mut script = Script::new(&format!("{name}.{}", case.domain()));
            for (stage, action) in &server.rules {
                script = script.on(stage, &self.filled(case, action));
            }
            if let Some(identity) = self.certificate(case, name, &server.certificate) {
                if server.sends_authority {
                    let authority = fs::read_to_string(self.authority.0.ca_file()).unwrap();
                    let own = fs::read_to_string(&identity.chain).unwrap();
                    fs::write(&identity.chain, own + &authority).unwrap();
                }
                let authority = server.asks.then(|| self.authority.0.ca_file());
                script = script.tls_asking(&identity, authority.as_deref());
            }
            if server.wrapped {
                script = script.wrapped();
            }
            match &server.kind {
                Kind::Smtp | Kind::Port(_) | Kind::PortOf(_) | Kind::Six => {
                    self.remotes.insert(key, Remote::start(address, script));
                }
                Kind::Unix => {
                    self.remotes.insert(key, Remote::unix(&directory.join(name), script));
                }
                Kind::Closed | Kind::SixClosed => {}
                Kind::Unanswering | Kind::SixUnanswering => {
                    self.mute.push(Unanswering::start(address));
                }
            }
        }
        for name in &case.clients {
            self.client_certificate(case, name);
        }
        for (name, line) in &case.files {
            let path = directory.join(name);
            let mut text = fs::read_to_string(&path).unwrap_or_default();
            writeln!(text, "{}", self.filled(case, line)).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn certificate(&mut self, case: &Case, name: &str, hosts: &[String]) -> Option<Identity> {
        let known = !hosts.first()?.starts_with('!');
        let hosts: Vec<String> =
            hosts.iter().map(|host| self.filled(case, host.trim_start_matches('!'))).collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let authority = if known { &self.authority.0 } else { &self.authority.1 };
        let identity = authority.issue(&format!("{}-{name}", case.label), &hosts);
        let facts = certificates::facts(&identity.chain);
        let of_authority = certificates::facts(&self.authority.0.ca_file());
        let words = self.words.entry(case.label.clone()).or_default();
        words.push((format!("{{{name}.tlsa-certificate}}"), hex(&crypto::sha256(&facts.whole))));
        words.push((format!("{{{name}.tlsa-key}}"), hex(&crypto::sha256(&facts.public_key))));
        words.push(("{ca.tlsa}".to_owned(), hex(&crypto::sha256(&of_authority.whole))));
        for (part, octets) in [("certificate", &facts.whole), ("public-key", &facts.public_key)] {
            for (digest, value) in [
                ("md5", crypto::md5(octets).to_vec()),
                ("sha1", crypto::sha1(octets).to_vec()),
                ("sha256", crypto::sha256(octets).to_vec()),
                ("sha512", crypto::sha512(octets).to_vec()),
            ] {
                let pairs: Vec<String> = value.iter().map(|octet| format!("{octet:02X}")).collect();
                words.push((format!("{{{name}.{part} {digest}}}"), pairs.join(":")));
            }
        }
        Some(identity)
    }

    /// Only root may read the keys.
    fn client_certificate(&mut self, case: &Case, name: &str) {
        let identity = self.authority.0.issue(&format!("{}-{name}", case.label), &["client.test"]);
        let both = identity.chain.with_file_name("both.pem");
        let text = [&identity.key, &identity.chain].map(|file| fs::read_to_string(file).unwrap());
        fs::write(&both, text.concat()).unwrap();
        fs::set_permissions(&both, fs::Permissions::from_mode(0o600)).unwrap();
        let words = self.words.entry(case.label.clone()).or_default();
        for (part, file) in [("chain", &identity.chain), ("key", &identity.key), ("both", &both)] {
            words.push((format!("{{{name}.{part}}}"), file.display().to_string()));
        }
    }

    fn filled(&self, case: &Case, text: &str) -> String {
        let mut text = text
            .replace("{d}", &case.domain())
            .replace("{c}", &case.label)
            .replace("{dir}", &self.scratch.join(&case.label).display().to_string())
            .replace("{ca}", &self.authority.0.ca_file().display().to_string());
        for ((label, name), address) in &self.addresses {
            if *label == case.label {
                text = text.replace(&format!("{{{name}}}"), &address.ip().to_string());
                text = text.replace(&format!("{{{name}.port}}"), &address.port().to_string());
            }
        }
        for (word, value) in self.words.get(&case.label).into_iter().flatten() {
            text = text.replace(word, value);
        }
        text
    }

    fn start(&mut self, cases: &[Case]) {
        let (mut zone, mut transports, mut services) =
            (String::from(". NS ns.test\n. AUTHENTIC\n"), String::new(), String::new());
        let (mut boxes, mut relayed) = (String::new(), String::new());
        for case in cases {
            for record in &case.zone {
                writeln!(zone, "{}", self.filled(case, record)).unwrap();
            }
            let via = case.via.as_deref().unwrap_or_default();
            match via {
                "default" => {}
                "relay" => {
                    writeln!(transports, "{} relay:", case.domain()).unwrap();
                    writeln!(relayed, "{} yes", case.domain()).unwrap();
                }
                _ => {
                    let via = self.filled(case, via);
                    writeln!(transports, "{} {}:{via}", case.domain(), case.label).unwrap();
                }
            }
            writeln!(boxes, "{0}@bounces.test {0}/", case.label).unwrap();
            services.push_str(&self.service(case));
        }
        self.scratch.write("postfix/boxes", boxes);
        self.scratch.write("postfix/relayed", relayed);
        let server = dns::Server::start(&zone);
        self.scratch.write("postfix/transport", transports);
        self.postfix.add_services(&services);
        let resolver =
            format!("nameserver {}\noptions timeout:3 attempts:2\n", server.address().ip());
        self.postfix.sees(&resolver, "127.0.0.1 localhost\n");
        if self.who == Who::Ours {
            let mut ours = vec![("smtp", "unix"), ("relay", "unix"), ("lmtp", "unix")];
            ours.extend(cases.iter().map(|case| (case.label.as_str(), "unix")));
            self.postfix.without(&ours);
        }
        self.postfix.start();
        if self.who == Who::Ours {
            let config = self.postfix.config();
            let servers = format!("resolver.servers=[\"{}\"]", server.address());
            let sets = ["--set", &servers, "--set", "resolver.timeout=3"];
            let arguments = [&["-c", config.to_str().unwrap()][..], &sets].concat();
            let run = self.scratch.directory("run");
            let log = Log::default();
            self.ours = Some(Daemon::start_with("smtp-delivery", &run, &arguments, log, |_| {}));
        }
        self.dns = Some(server);
    }

    /// The case's line of master.cf.
    fn service(&self, case: &Case) -> String {
        let command = if case.lmtp { "lmtp" } else { "smtp" };
        let mut line = format!(
            "{} unix - - n - - {command}\n  -o syslog_name=postfix/{}\n",
            case.label, case.label
        );
        for (name, value) in &case.settings {
            writeln!(line, "  -o {{ {name} = {} }}", self.filled(case, value)).unwrap();
        }
        line
    }

    /// Gives the queue id.
    fn submit(&self, case: &Case, message: &Message) -> String {
        let mut client = Client::tcp(self.postfix.port);
        client.reply();
        client.expect("EHLO client.test", "250");
        let from = message.from.clone().unwrap_or_else(|| format!("<{}@bounces.test>", case.label));
        client.expect(&format!("MAIL FROM:{}", self.filled(case, &from)), "250");
        for recipient in &message.recipients {
            let quoted = recipient.rfind('"').unwrap_or(0);
            let end = recipient[quoted..].find(' ').map_or(recipient.len(), |at| quoted + at);
            let (address, parameters) = recipient.split_at(end);
            let parameters = parameters.trim_start();
            let domain = case.domain();
            let address = match address.contains('@') {
                true => self.filled(case, address),
                false => format!("{address}@{domain}"),
            };
            let line = format!("RCPT TO:<{address}> {}", self.filled(case, parameters));
            client.expect(line.trim_end(), "250");
        }
        client.expect("DATA", "354");
        let mut content = b"Subject: test\r\n".to_vec();
        let lines = message.header.iter().map(String::as_str).chain([""]);
        for line in lines.chain(message.body.iter().map(String::as_str)) {
            let dot: &[u8] = if line.starts_with('.') { b"." } else { b"" };
            content.extend(dot);
            content.extend(octets(&self.filled(case, line)));
            content.extend(b"\r\n");
        }
        client.raw(&content);
        let reply = client.ask(".");
        client.send("QUIT");
        let id = reply.strip_prefix("250 2.0.0 Ok: queued as ");
        id.unwrap_or_else(|| panic!("case {}: {reply}", case.name)).to_owned()
    }

    /// Until nothing is on its way, neither mail nor notices, and all that was logged of it has been read.
    fn wait_for_rest(&mut self) {
        let queue = self.postfix.queue();
        let places = ["maildrop", "incoming", "active"].map(|name| queue.join(name));
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        for place in &places {
            inotify::add_watch(&watch, place, WatchFlags::DELETE | WatchFlags::MOVED_FROM).unwrap();
        }
        let waiting = || {
            let mut changes = [PollFd::new(&watch, PollFlags::IN)];
            poll(&mut changes, Some(&rustix::event::Timespec::default())).unwrap() > 0
        };
        let end = Instant::now() + LONGEST;
        // A message that leaves one place while another is looked at may have put its notice where nobody looks again.
        while places.iter().any(|place| !is_empty(place)) || waiting() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let what = fs::read_dir(queue.join("active")).unwrap().flatten();
                let ids: Vec<String> =
                    what.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
                let ours = self.ours.as_ref().map(|ours| ours.log.text()).unwrap_or_default();
                panic!("still active: {ids:?}\n{}\n{ours}", self.postfix.log.text());
            }
            let mut changes = [PollFd::new(&watch, PollFlags::IN)];
            poll(&mut changes, Some(&left.try_into().unwrap())).unwrap();
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(&watch, &mut buffer);
            while events.next().is_ok() {}
        }
        self.wait_for_logs();
    }

    /// Logs a line of our own behind all others, and waits for it.
    fn wait_for_logs(&mut self) {
        self.marks += 1;
        let mark = format!("mark-{}", self.marks);
        self.postfix.command(&["postlog", "-t", "mark", &mark]);
        self.postfix.log.wait_for(&mark);
        let Some(ours) = &self.ours else { return };
        let socket = self.postfix.queue().join("private/smtp");
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.write_all(b"nonsense\0nonsense\0\0").unwrap();
        let count = self.marks;
        ours.log.wait_until("the complaint about nonsense", |lines| {
            let complaints = lines.iter().filter(|line| line.text.contains("delivery request: "));
            (complaints.count() >= count).then_some(())
        });
    }

    fn account(&self, case: &Case, sent: &[String]) -> Transcript {
        let mut account = Transcript::default();
        for id in sent {
            let hashed = |queue: &str| self.postfix.queue().join(queue).join(&id[..1]).join(id);
            let held = hashed("deferred").exists();
            account.queues.push(if held { "deferred" } else { "gone" }.to_owned());
            if let Ok(text) = fs::read_to_string(hashed("defer")) {
                account.deferred.extend(transcript::defer_log(&self.quiet(case, &text)));
            }
        }
        account.log = self.log_of(case, sent);
        for name in case.servers.keys() {
            let Some(remote) = self.remotes.get(&(case.label.clone(), name.clone())) else {
                continue;
            };
            let told = transcript::told(&remote.whole_conversations());
            let told = told.iter().map(|line| self.quiet(case, line)).collect();
            account.told.push((name.clone(), told));
        }
        let mut notices = Vec::new();
        for path in files(&self.scratch.join("boxes").join(&case.label).join("new")) {
            let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
            notices.push(transcript::notice(&self.quiet(case, &text)));
        }
        notices.sort();
        account.notices = notices.concat();
        account
    }

    /// The lines of the case's service, and those of the ordinary services that name its messages or its domain.
    fn log_of(&self, case: &Case, sent: &[String]) -> Vec<String> {
        let log = match &self.ours {
            Some(ours) => &ours.log,
            None => &self.postfix.log,
        };
        let ident = format!("postfix/{}/", case.label);
        let mut found = Vec::new();
        for line in log.lines() {
            let Some(at) = line.text.find("postfix/") else { continue };
            let (name, text) = line.text[at..].split_once("]: ").unwrap_or(("", &line.text));
            let plain = ["postfix/smtp[", "postfix/relay/smtp[", "postfix/lmtp["]
                .iter()
                .any(|ident| name.starts_with(ident));
            let about = |id: &String| text.starts_with(&format!("{id}: "));
            let concerns = sent.iter().any(about) || text.contains(&case.domain());
            if name.starts_with(&ident) || plain && concerns {
                found.push(transcript::log_line(&self.quiet(case, text)));
            }
        }
        // One recipient before the other, whoever was served first.
        let mut recipients: Vec<String> = Vec::new();
        found.retain(|line| {
            let is_outcome = line.contains(": to=<");
            if is_outcome {
                recipients.push(line.clone());
            }
            !is_outcome
        });
        recipients.sort();
        found.extend(recipients);
        found
    }

    /// Addresses and directories by their names.
    fn quiet(&self, case: &Case, text: &str) -> String {
        let mut text = text.replace(&self.scratch.path().display().to_string(), "{}");
        for ((label, name), address) in &self.addresses {
            if *label == case.label {
                if address.is_ipv6() {
                    text = text.replace(&format!("]:{}", address.port()), "]:{six}");
                } else {
                    text = text.replace(&address.ip().to_string(), &format!("{{{name}}}"));
                }
            }
        }
        text
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Some(ours) = &mut self.ours {
            ours.stop();
        }
        self.postfix.stop();
    }
}

/// ::1 has many ports and no neighbours.
fn free_six() -> SocketAddr {
    (IpAddr::from(Ipv6Addr::LOCALHOST), ports::free()).into()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn is_empty(directory: &Path) -> bool {
    files(directory).is_empty()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}

/// With `\xNN`.
fn octets(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(&part.as_bytes()[2..]);
    }
    bytes
}
