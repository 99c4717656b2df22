//! Debian's Postfix and our smtpd beside each other: the same settings on other ports, the same cleanup and queue.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use harness::certificates::Authority;
use harness::dovecot::Dovecot;
use harness::log::settled;
use harness::postfix::Postfix;
use harness::{Daemon, Log, Scratch, dns, ports};

use super::case::Case;
use super::client::{Client, Conversation, converse};
use super::policy_server::PolicyServer;
use super::transcript::{Transcript, normal, queue_file};

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
            // It answers everything; how soon is a matter of the machine.
            let resolv_conf =
                format!("nameserver {}\noptions timeout:10 attempts:1\n", address.ip());
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
        let before = self.postfix.log.lines().len();
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
            transcript.queued.push(self.queue_file(&id));
        }
        if let Some(count) = case.told {
            transcript.notices = self.notices(count, before);
        }
        transcript.lacks(case).map_or(Ok(transcript), Err)
    }
}

impl Peers {
    /// What else came into the queue since the log had `before` lines: messages of no client.
    fn notices(&self, count: usize, before: usize) -> Vec<String> {
        let ours = self.ours.log.lines();
        let ids = self.postfix.log.wait_until("notices to the postmaster", |lines| {
            let new = lines.iter().skip(before).filter_map(|line| {
                let (_, text) = line.text.split_once("/cleanup[")?.1.split_once("]: ")?;
                text.split_once(": message-id=").map(|(id, _)| id.to_owned())
            });
            let ids: Vec<String> = new.collect();
            let is_of_client = |id: &String| {
                let client = format!("]: {id}: client=");
                lines.iter().chain(&ours).any(|line| line.text.contains(&client))
            };
            let ids: Vec<String> = ids.into_iter().filter(|id| !is_of_client(id)).collect();
            (ids.len() >= count).then_some(ids)
        });
        ids.iter().map(|id| self.queue_file(id)).collect()
    }

    fn queue_file(&self, id: &str) -> String {
        // Between two directories it is in neither.
        let text = settled(|| {
            let text = self.postfix.command(&["postcat", "-q", id]);
            (!text.is_empty(), text)
        });
        queue_file(&text)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.ours.stop();
        self.postfix.stop();
        let _ = &self.scratch;
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
    compare("notices", &theirs.notices, &ours.notices)?;
    compare("policy requests", &theirs.policy, &ours.policy)?;
    compare("queue file", &theirs.queued, &ours.queued)
}
