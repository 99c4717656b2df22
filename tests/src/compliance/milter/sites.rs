//! Two queues, Postfix's cleanup on one and ours on the other, and both smtpds on each.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use harness::certificates::Authority;
use harness::client::{Client, Trust, trust};
use harness::log::{eventually, settled};
use harness::postfix::Postfix;
use harness::{Daemon, Log, Scratch, ports};

use super::filter::Filter;

/// A command that is not sent: the connection becomes TLS.
pub const TLS: &str = "-- TLS";

/// Who serves: smtpd, then cleanup.
pub const PAIRS: [(&str, usize, bool); 4] = [
    ("Postfix's smtpd and cleanup", 0, false),
    ("our smtpd with Postfix's cleanup", 0, true),
    ("Postfix's smtpd with our cleanup", 1, false),
    ("our smtpd and cleanup", 1, true),
];

/// Less than a filter gets by default: a service that is told to be quick has to be.
const A_SHORT_TIMEOUT: Duration = Duration::from_secs(20);

/// The services of every site: a name and its settings, where `P1` and `P2` are the filters and `DEAD` is nobody.
const SERVICES: &[(&str, &str)] = &[
    ("one", "smtpd_milters=P1"),
    ("two", "smtpd_milters=P1,P2"),
    ("accept", "{ smtpd_milters={ DEAD, default_action=accept }, P2 }"),
    ("reject", "{ smtpd_milters={ DEAD, default_action=reject } }"),
    ("tempfail", "smtpd_milters=DEAD"),
    ("quarantine", "{ smtpd_milters={ DEAD, default_action=quarantine } }"),
    ("quick", "{ smtpd_milters={ P1, command_timeout=1s, content_timeout=1s } }"),
    (
        "quick-accept",
        "{ smtpd_milters=P1 } -o milter_command_timeout=1s -o milter_content_timeout=1s -o milter_connect_timeout=1s -o milter_default_action=accept",
    ),
    ("v2", "{ smtpd_milters={ P1, protocol=2 } }"),
    ("v3", "smtpd_milters=P1 -o milter_protocol=3"),
    ("v4", "smtpd_milters=P1 -o milter_protocol=4"),
    (
        "macros",
        "smtpd_milters=P1 -o milter_macro_daemon_name=ORIGINATING -o milter_macro_v=Version \
         -o { milter_macro_defaults=nothing=1, {x_y}=2 } \
         -o { milter_connect_macros=j i {i} {daemon_name} v _ {client_addr} {client_name} {client_ptr} {client_resolve} {client_connections} {daemon_addr} {if_addr} {nothing} x_y } \
         -o { milter_helo_macros={tls_version} {client_addr} } -o { milter_mail_macros=i v {mail_addr} {mail_host} {rcpt_addr} } \
         -o { milter_rcpt_macros=i {mail_addr} {rcpt_addr} {rcpt_host} {rcpt_mailer} } -o { milter_data_macros=i {mail_addr} {rcpt_addr} } \
         -o { milter_end_of_header_macros=i {daemon_name} {client_name} } -o { milter_end_of_data_macros=i v {nothing} } \
         -o { milter_unknown_command_macros=j {mail_addr} }",
    ),
    ("maps", "smtpd_milters=P1 -o smtpd_milter_maps=inline:{127.0.0.1=P2}"),
    ("disabled", "smtpd_milters=P1 -o smtpd_milter_maps=inline:{127.0.0.1=DISABLE}"),
    ("off", "smtpd_milters=P1 -o receive_override_options=no_milters"),
    ("norelay", "smtpd_milters=P1,P2 -o mynetworks=10.0.0.0/8"),
    ("unix", "smtpd_milters=unix:U1"),
    ("relative", "smtpd_milters=local:a-filter,P2"),
    ("absent", "smtpd_milters=unix:U1.absent"),
    ("nameless", "smtpd_milters=inet:localhost:no-such-service"),
    ("accepting", "{ smtpd_milters={ P1, default_action=accept } }"),
    ("rejecting", "{ smtpd_milters={ P1, default_action=reject } }"),
    ("holding", "{ smtpd_milters={ P1, default_action=quarantine } }"),
    (
        "tls",
        "smtpd_milters=P1 -o smtpd_tls_security_level=may -o smtpd_tls_cert_file=CERT -o smtpd_tls_key_file=KEY",
    ),
    ("xclient", "smtpd_milters=P1 -o smtpd_authorized_xclient_hosts=127.0.0.1"),
];

/// Whether a service sets this setting (and not one whose name only ends like it).
pub fn sets(service: &str, setting: &str) -> bool {
    let settings = SERVICES.iter().find(|(name, _)| *name == service).map_or("", |(_, it)| it);
    settings.split([' ', '{']).any(|word| word.split('=').next() == Some(setting))
}

pub struct Site {
    _scratch: Scratch,
    postfix: Postfix,
    cleanup: Option<Daemon>,
    smtpd: Daemon,
    ports: Vec<(u16, u16)>,
    trust: Arc<Trust>,
}

impl Site {
    pub fn start(our_cleanup: bool, filters: &[Filter; 2]) -> Self {
        let scratch = Scratch::new();
        let [one, two] = filters.each_ref().map(|filter| format!("inet:127.0.0.1:{}", filter.port));
        let dead = format!("inet:127.0.0.1:{}", ports::free());
        let authority = Authority::new(&scratch.directory("ca"));
        let identity = authority.issue("mail", &["mail.example.com"]);
        let [socket, chain, key] =
            [&filters[0].path, &identity.chain, &identity.key].map(|path| path.to_str().unwrap());
        let filled = |text: &str| {
            let text = text.replace("P1", &one).replace("P2", &two).replace("DEAD", &dead);
            text.replace("U1", socket).replace("CERT", chain).replace("KEY", key)
        };
        let main = filled(
            "non_smtpd_milters=P1\nvirtual_alias_maps=inline:{many@example.com=a@sink.test}\n\
             smtpd_error_sleep_time=0\nsmtpd_client_connection_count_limit=0\nin_flow_delay=0\n\
             local_recipient_maps=\n",
        );
        let mut postfix = Postfix::lay(&scratch, &main);
        let (mut ports, mut ours) = (Vec::new(), String::new());
        for (name, settings) in SERVICES {
            let pair = (ports::free(), ports::free());
            let line = |port: u16| {
                let settings = filled(settings);
                format!(
                    "127.0.0.1:{port} inet n - n - - smtpd -o syslog_name=postfix/{name} -o {settings}\n"
                )
            };
            postfix.add_services(&line(pair.0));
            ours.push_str(&line(pair.1));
            ports.push(pair);
        }
        scratch.write(
            "ours/main.cf",
            std::fs::read_to_string(postfix.config().join("main.cf")).unwrap(),
        );
        scratch.write("ours/master.cf", ours);
        // Nobody empties the queue, neither theirs nor ours.
        let master = postfix.config().join("master.cf");
        let text = std::fs::read_to_string(&master).unwrap();
        let kept = text.lines().filter(|line| !line.starts_with("qmgr "));
        std::fs::write(&master, kept.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        if our_cleanup {
            postfix.without(&[("cleanup", "unix"), ("pickup", "unix")]);
        }
        postfix.start();
        symlink(&filters[0].path, postfix.queue().join("a-filter")).unwrap();
        let run = |name: &str, config: PathBuf| {
            Daemon::start(
                name,
                &scratch.directory(&format!("run-{name}")),
                &["-c", config.to_str().unwrap()],
            )
        };
        let cleanup = our_cleanup.then(|| run("queue-manager", postfix.config()));
        let smtpd = run("smtpd", scratch.join("ours"));
        Self {
            _scratch: scratch,
            postfix,
            cleanup,
            smtpd,
            ports,
            trust: trust(&authority.ca_file()),
        }
    }

    fn port(&self, service: &str, ours: bool) -> u16 {
        let index = SERVICES.iter().position(|(name, _)| *name == service).unwrap();
        if ours { self.ports[index].1 } else { self.ports[index].0 }
    }

    fn logs(&self) -> Vec<&Log> {
        let ours = self.cleanup.as_ref().map(|daemon| &daemon.log);
        [&self.postfix.log, &self.smtpd.log].into_iter().chain(ours).collect()
    }

    /// How long the logs are now.
    pub fn mark(&self) -> Vec<usize> {
        self.logs().iter().map(|log| log.lines().len()).collect()
    }

    /// What the logs say of filters since then. A daemon's line may be written after the answer that it belongs to, and each
    /// log is read by itself: as many lines as `wanted` are waited for.
    pub fn told(&self, mark: &[usize], wanted: usize) -> Vec<String> {
        settled(|| {
            let told = self.lines_of_filters(mark);
            (told.len() >= wanted, told)
        })
    }

    fn lines_of_filters(&self, mark: &[usize]) -> Vec<String> {
        let mut told = Vec::new();
        for (log, &from) in self.logs().iter().zip(mark) {
            for line in &log.lines()[from..] {
                if let Some((_, text)) = line.text.split_once("]: ")
                    && text.contains(": milter-")
                {
                    told.push(masked(text));
                }
            }
        }
        told.sort();
        told
    }

    /// A dialogue; the replies of each command and the ids of what was queued.
    pub fn talk(&self, service: &str, ours: bool, commands: &[&str]) -> (Vec<String>, Vec<String>) {
        let mark = self.mark();
        let mut client = Client::tcp(self.port(service, ours)).within(A_SHORT_TIMEOUT);
        let (mut replies, mut ids) = (Vec::new(), Vec::new());
        let mut commands = commands.iter();
        loop {
            let reply = client.reply().replace('\n', " | ");
            if reply.is_empty() {
                replies.push("closed".to_owned());
                break;
            }
            if let Some((_, id)) = reply.split_once("queued as ") {
                ids.push(id.to_owned());
            }
            replies.push(masked(&reply));
            let Some(mut command) = commands.next() else { break };
            if command.ends_with("\r\n.") && !reply.starts_with("354") {
                // The content, but nobody wants it.
                let Some(next) = commands.next() else { break };
                command = next;
            }
            if *command == TLS {
                client = client.start_tls("mail.example.com", &self.trust);
                let Some(next) = commands.next() else { break };
                command = next;
            }
            client.send(command);
        }
        drop(client);
        let (log, from) =
            if ours { (&self.smtpd.log, mark[1]) } else { (&self.postfix.log, mark[0]) };
        log.wait_until("the end of a session", |lines| {
            lines[from..].iter().any(|line| line.text.contains(": disconnect from")).then_some(())
        });
        (replies, ids)
    }

    /// A message from the command line; its queue id.
    pub fn submit(&self, text: &str) -> String {
        let mark = self.mark();
        let mut sendmail = Command::new("/usr/sbin/sendmail")
            .arg("-C")
            .arg(self.postfix.config())
            .args(["-i", "-f", "alice@example.com", "bob@sink.test"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        sendmail.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(sendmail.wait().unwrap().success());
        let (log, from) = match &self.cleanup {
            Some(daemon) => (&daemon.log, mark[2]),
            None => (&self.postfix.log, mark[0]),
        };
        let id = log.wait_until("a submitted message", |lines| {
            lines[from..].iter().find_map(|line| {
                let (id, _) = line.text.split_once("]: ")?.1.split_once(": message-id=")?;
                Some(id.to_owned())
            })
        });
        let verdict = format!("{id}: milter-");
        eventually("cleanup to end", || {
            let complete = self.path(&id).is_some_and(|path| {
                path.metadata().is_ok_and(|about| about.permissions().mode() & 0o100 != 0)
            });
            (complete || log.text().contains(&verdict)).then_some(())
        });
        id
    }

    fn path(&self, id: &str) -> Option<PathBuf> {
        let path = |queue: &str| self.postfix.queue().join(queue).join(id);
        ["incoming", "hold"].map(path).into_iter().find(|path| path.exists())
    }

    /// The queue and the records of a message, if there is one.
    pub fn queued(&self, id: &str) -> Option<(String, String)> {
        let path = self.path(id)?;
        let queue = path.parent()?.file_name()?.to_str()?;
        let text = self.postfix.command(&["postcat", path.to_str()?]);
        let lines = text.lines().filter(|line| {
            let internal = ["pointer_record:", "message_size:", "*** "];
            !internal.iter().any(|word| line.starts_with(word)) && !line.contains("_port=")
        });
        Some((queue.to_owned(), lines.map(|line| masked(line) + "\n").collect()))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.smtpd.stop();
        if let Some(cleanup) = &mut self.cleanup {
            cleanup.stop();
        }
        self.postfix.stop();
    }
}

/// Without what is different each time: queue ids and times.
pub fn masked(text: &str) -> String {
    let mut result = String::new();
    let mut word = String::new();
    let end = |word: &mut String, result: &mut String| {
        let hex = word.chars().all(|c| matches!(c, '0'..='9' | 'A'..='F'));
        let number = word.chars().all(|c| c.is_ascii_digit());
        let id = (9..=13).contains(&word.len()) && hex || number && word.len() > 4;
        result.push_str(if id { "ID" } else { word });
        word.clear();
    };
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            word.push(c);
        } else {
            end(&mut word, &mut result);
            result.push(c);
        }
    }
    end(&mut word, &mut result);
    for day in [
        "Sun, ", "Mon, ", "Tue, ", "Wed, ", "Thu, ", "Fri, ", "Sat, ", "Sun ", "Mon ", "Tue ",
        "Wed ", "Thu ", "Fri ", "Sat ",
    ] {
        if let Some(at) = result.find(day) {
            result.truncate(at);
            result.push_str("DATE");
        }
    }
    result
}
