//! Debian's Postfix and our smtpd beside each other: the same settings on other ports, the same cleanup and queue.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::certificates::Authority;
use harness::dovecot::Dovecot;
use harness::postfix::Postfix;
use harness::{Daemon, Log, Scratch, dns, ports};

use super::case::{Case, Step};
use super::policy_server::PolicyServer;
use super::transcript::{Transcript, is_queue_id, normal, queue_file};

/// What all cases have in common: mail stays in the queue, and nobody sleeps.
const MAIN: &str = "\
local_recipient_maps = inline:{alice=x, bob=x, postmaster=x}
virtual_mailbox_domains = virtual.example
virtual_mailbox_maps = inline:{info@virtual.example=x}
virtual_alias_domains = alias.example
virtual_alias_maps = inline:{known@alias.example=alice@example.com}
relay_domains = relay.example
relay_recipient_maps = inline:{known@relay.example=x}
recipient_delimiter = +
defer_transports = smtp, local, virtual, relay, lmtp, discard
smtpd_error_sleep_time = 0
smtpd_client_connection_count_limit = 0
";

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Logins fail at once, so that a test does not wait for Dovecot's patience with guessers.
const DOVECOT: &str = "\
auth_failure_delay = 0
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%u /dovecot/users.%s
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
";

/// For cases that ask the DNS: an error transport for probes, and names of clients.
const DNS: &str = "\
smtpd_peername_lookup = yes
transport_maps = inline:{{bounce.test = error:5.1.1 nobody here}}
smtp_tls_security_level =
";

pub struct Peers {
    _dovecot: Option<Dovecot>,
    _dns: Option<dns::Server>,
    policy: PolicyServer,
    scratch: Scratch,
    postfix: Postfix,
    ours: Daemon,
    ports: Vec<(u16, u16)>,
}

impl Peers {
    /// `zone`: what the DNS says; else nobody is asked.
    pub fn start(cases: &[Case], zone: Option<&str>) -> Self {
        let scratch = Scratch::new();
        let extra =
            DOVECOT.replace("/dovecot/", &format!("{}/", scratch.join("dovecot").display()));
        let mut dovecot = Dovecot::lay(&scratch, &[("bob", "secret")], &extra);
        let odd = scratch.write("dovecot/users.odd", "carol:{PLAIN}secret::::::\n");
        std::fs::set_permissions(odd, std::fs::Permissions::from_mode(0o644)).unwrap();
        let authority = Authority::new(&scratch.directory("ca"));
        let identity = authority.issue("mail", &["mail.example.com"]);
        authority.issue("ec", &["ec.example.com"]);
        let chain = authority.issue("chain", &["chain.example.com"]);
        let [key, certificates] =
            [&chain.key, &chain.chain].map(|path| std::fs::read_to_string(path).unwrap());
        scratch.write("ca/chain/both.pem", key + &certificates);
        let main = format!(
            "{MAIN}smtpd_sasl_type = dovecot\nsmtpd_sasl_path = {}\nsmtpd_tls_cert_file = {}\n\
             smtpd_tls_key_file = {}\n",
            dovecot.socket("auth-client").display(),
            identity.chain.display(),
            identity.key.display()
        );
        let main = if zone.is_some() { main + DNS } else { main };
        let mut postfix = Postfix::lay(&scratch, &main);
        let dns = zone.map(dns::Server::start);
        let mut resolver = String::from("resolver.servers=[\"127.0.0.1:1\"]");
        if let Some(dns) = &dns {
            let address = dns.address();
            let resolv_conf =
                format!("nameserver {}\noptions timeout:1 attempts:1\n", address.ip());
            postfix.sees(&resolv_conf, &std::fs::read_to_string("/etc/hosts").unwrap());
            resolver = format!("resolver.servers=[\"{address}\"]");
        }
        if zone.is_some() {
            postfix
                .add_services("dnsblog unix - - n - 0 dnsblog\ntlsproxy unix - - n - 0 tlsproxy\n");
            postfix.add_services("verify2 unix - - n - 1 verify\n  -o address_verify_map=\n");
        }
        scratch.write("reply", "bl.test hidden.test\n");
        let policy = PolicyServer::start();
        let logins = |case: &Case| {
            case.settings
                .iter()
                .any(|(name, value)| name == "smtpd_sasl_auth_enable" && value == "yes")
        };
        let dovecot = cases.iter().any(logins).then(|| {
            dovecot.start();
            dovecot
        });
        let mut ports = Vec::new();
        let mut master = String::new();
        for (number, case) in cases.iter().enumerate() {
            let pair = (ports::free(), ports::free());
            postfix.add_services(&service(&scratch, pair.0, number, case, policy.port));
            master.push_str(&service(&scratch, pair.1, number, case, policy.port));
            ports.push(pair);
        }
        let main = std::fs::read_to_string(postfix.config().join("main.cf")).unwrap();
        scratch.write("ours/main.cf", main);
        scratch.write("ours/master.cf", master);
        postfix.start();
        let config = scratch.join("ours");
        let ours = Daemon::start(
            "smtpd",
            &scratch.join("run"),
            &["-c", config.to_str().unwrap(), "--set", &resolver],
        );
        Self { _dovecot: dovecot, _dns: dns, policy, scratch, postfix, ours, ports }
    }

    /// Lines of both logs about a case, as they were written: Postfix's and ours.
    pub fn logs(&self, number: usize, case: &Case) -> [Vec<String>; 2] {
        let (theirs, ours) = self.ports[number];
        [(theirs, &self.postfix.log), (ours, &self.ours.log)]
            .map(|(port, log)| self.play(case, port, log, number).expect(&case.name).raw)
    }

    /// How the two differ in a case, if they do.
    pub fn compare(&self, number: usize, case: &Case) -> Option<String> {
        let (theirs, ours) = self.ports[number];
        let result = self
            .play(case, theirs, &self.postfix.log, number)
            .map_err(|error| format!("Postfix: {error}"))
            .and_then(|theirs| {
                let ours = self
                    .play(case, ours, &self.ours.log, number)
                    .map_err(|error| format!("ours: {error}"))?;
                difference(case, &theirs, &ours)
            });
        result.err().map(|error| format!("case {}\n{error}", case.name))
    }

    /// `@NAME@` in a case is the path of a file of the private authority.
    fn placed(&self, text: &str) -> String {
        placed(&self.scratch, text)
    }

    fn play(&self, case: &Case, port: u16, log: &Log, number: usize) -> Result<Transcript, String> {
        let ident = format!("postfix/case{number}/{}", if case.screened { "" } else { "smtpd[" });
        let ended = |count: usize| {
            log.wait_until(&format!("the end of case {}", case.name), |lines| {
                let end = |line: &&harness::log::Line| {
                    line.text.contains(&ident)
                        && (line.text.contains(": disconnect from")
                            || line.text.contains(": DISCONNECT "))
                };
                (lines.iter().filter(end).count() >= count).then_some(())
            });
        };
        let connect = || match &case.tls {
            None => Client::plain(case.from, port, PATIENCE),
            Some(words) => Client::tls(port, &self.placed(words)),
        };
        let Conversation { replies, ids, connections } = converse(case, connect, ended)?;
        let mut transcript = Transcript { replies, ..Transcript::default() };
        ended(connections);
        for line in log.lines() {
            if let Some((_, text)) = line.text.split_once(&ident) {
                if text.starts_with("dnsblog[") || text.contains(" full cleanup: ") {
                    continue; // Postfix's dnsblog has another name; we keep no database
                }
                let program = if case.screened { "" } else { "smtpd[" };
                transcript.raw.push(format!("{program}{text}"));
                let text = text.split_once("]: ").map_or(text, |(_, text)| text);
                transcript.log.push(normal(text));
            }
        }
        if connections > 1 {
            transcript.log.sort();
        }
        transcript.policy = self.policy.take();
        for id in ids.into_iter().take(case.queued) {
            let text = self.postfix.command(&["postcat", "-q", &id]);
            transcript.queued.push(queue_file(&text));
        }
        Ok(transcript)
    }
}

/// What was said, and how often.
pub struct Conversation {
    replies: Vec<String>,
    /// Queue ids at the end of replies.
    ids: Vec<String>,
    connections: usize,
}

/// Whether a server that answers anything but what a case wants would be found out by its replies alone.
pub fn is_content_with(case: &Case, port: u16) -> bool {
    converse(case, || Client::plain(None, port, Duration::from_millis(300)), |_| {}).is_ok()
}

/// Plays the client's part of a case. `ended` waits until so many connections have ended in the log.
fn converse(
    case: &Case,
    connect: impl Fn() -> Result<Client, String>,
    ended: impl Fn(usize),
) -> Result<Conversation, String> {
    let mut client = connect()?;
    let (mut connections, mut kept) = (1, Vec::new());
    let (mut replies, mut ids) = (Vec::new(), Vec::new());
    for step in &case.steps {
        match step {
            Step::Send(bytes) => client.send(bytes),
            Step::Again => {
                drop(client);
                ended(connections);
                (client, connections) = (connect()?, connections + 1);
            }
            Step::Beside => {
                kept.push(client);
                (client, connections) = (connect()?, connections + 1);
            }
            Step::Expect(wanted) => {
                let reply = reply(&mut client.input)?;
                if !reply.starts_with(wanted) {
                    return Err(format!("wanted {wanted:?}, got {reply:?}"));
                }
                let id = reply.rsplit(' ').next().filter(|word| is_queue_id(word));
                ids.extend(id.map(str::to_owned));
                replies.push(normal(&reply));
            }
        }
    }
    if ids.len() != case.queued + case.gone {
        return Err(format!("wanted {} queued, got {}", case.queued, ids.len()));
    }
    Ok(Conversation { replies, ids, connections })
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.ours.stop();
        self.postfix.stop();
        let _ = &self.scratch;
    }
}

/// From `from`, or from wherever.
fn connect(from: Option<std::net::IpAddr>, port: u16) -> std::io::Result<TcpStream> {
    let to = ([127, 0, 0, 1], port).into();
    let Some(from) = from else { return TcpStream::connect(to) };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(to).await?.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    })
}

/// A client in the clear or over TLS. It ends when it is dropped.
struct Client {
    input: BufReader<Box<dyn Read>>,
    output: Box<dyn Write>,
    end: Box<dyn FnMut()>,
}

impl Client {
    fn plain(
        from: Option<std::net::IpAddr>,
        port: u16,
        patience: Duration,
    ) -> Result<Self, String> {
        let stream = self::connect(from, port).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(patience)).unwrap();
        let input: Box<dyn Read> = Box::new(stream.try_clone().unwrap());
        let end = stream.try_clone().unwrap();
        let end = Box::new(move || drop(end.shutdown(Shutdown::Both)));
        Ok(Self { input: BufReader::new(input), output: Box::new(stream), end })
    }

    /// Debian's openssl, which begins with STARTTLS unless `words` say otherwise, and ends by itself in time.
    fn tls(port: u16, words: &str) -> Result<Self, String> {
        let mut command = Command::new("timeout");
        command.args(["5", "openssl", "s_client", "-quiet"]);
        if !words.starts_with("wrapped") {
            command.args(["-starttls", "smtp"]);
        }
        command
            .arg("-connect")
            .arg(format!("127.0.0.1:{port}"))
            .args(words.trim_start_matches("wrapped").split_whitespace());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| format!("openssl: {error}"))?;
        let input: Box<dyn Read> = Box::new(child.stdout.take().unwrap());
        let output: Box<dyn Write> = Box::new(child.stdin.take().unwrap());
        let end = Box::new(move || {
            let _ = child.kill();
            let _ = child.wait();
        });
        Ok(Self { input: BufReader::new(input), output, end })
    }

    fn send(&mut self, bytes: &[u8]) {
        let _ = self.output.write_all(bytes).and_then(|()| self.output.flush());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        (self.end)();
    }
}

/// `@NAME@` of a case as the path of a file.
fn placed(scratch: &Scratch, text: &str) -> String {
    let mut text = text.to_owned();
    for (name, path) in [
        ("@ca@", "ca/ca.pem"),
        ("@reply@", "reply"),
        ("@chain.pem@", "ca/chain/both.pem"),
        ("@ec-cert.pem@", "ca/ec/fullchain.pem"),
        ("@ec-key.pem@", "ca/ec/privkey.pem"),
    ] {
        text = text.replace(name, &scratch.join(path).display().to_string());
    }
    text
}

fn service(scratch: &Scratch, port: u16, number: usize, case: &Case, policy: u16) -> String {
    let mut options = format!("  -o syslog_name=postfix/case{number}\n");
    for (name, value) in &case.settings {
        let value = placed(scratch, value).replace("@POLICY@", &policy.to_string());
        options.push_str(&format!("  -o {{ {name} = {value} }}\n"));
    }
    if !case.screened {
        return format!("127.0.0.1:{port} inet n - n - - smtpd\n{options}");
    }
    let kept = |(name, _): &(String, String)| name == "postscreen_cache_map";
    let cache = if case.settings.iter().any(kept) {
        String::new()
    } else {
        let path = scratch.join(format!("data/screen{number}-{port}"));
        format!("  -o postscreen_cache_map=btree:{}\n", path.display())
    };
    format!(
        "pass{port} pass - - n - - smtpd\n{options}\
         127.0.0.1:{port} inet n - n - 1 postscreen\n{options}{cache}  -o smtpd_service_name=pass{port}\n"
    )
}

/// A whole reply, lines joined by ` | `; `EOF` when the server has closed.
fn reply(input: &mut impl BufRead) -> Result<String, String> {
    let mut lines: Vec<String> = Vec::new();
    loop {
        let mut line = String::new();
        match input.read_line(&mut line) {
            Ok(0) => return Ok("EOF".to_owned()),
            Ok(_) if !line.ends_with("\r\n") => return Err(format!("line without CRLF: {line:?}")),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return Ok("EOF".to_owned());
            }
            Err(error) => return Err(format!("no reply: {error}; so far {lines:?}")),
        }
        let more = line.as_bytes().get(3) == Some(&b'-');
        lines.push(line.trim_end().to_owned());
        if !more {
            return Ok(lines.join(" | "));
        }
    }
}

fn difference(case: &Case, theirs: &Transcript, ours: &Transcript) -> Result<(), String> {
    let compare = |what: &str, theirs: &[String], ours: &[String]| {
        if theirs == ours {
            return Ok(());
        }
        let shown =
            |lines: &[String]| lines.iter().map(|line| format!("    {line}\n")).collect::<String>();
        Err(format!("  {what} of Postfix:\n{}  {what} of ours:\n{}", shown(theirs), shown(ours)))
    };
    compare("replies", &theirs.replies, &ours.replies)?;
    if !case.any_log {
        compare("log", &theirs.log, &ours.log)?;
    }
    compare("policy requests", &theirs.policy, &ours.policy)?;
    compare("queue file", &theirs.queued, &ours.queued)
}
