//! A host of originals with every kind of mail, and the proof that a plank's swaps lose, repeat and change nothing.
//!
//! ```text
//! let mix = Mix::new(Milter::Unix); // Postfix, Dovecot and OpenDKIM run, remote hosts wait
//! mix.swapped_three_times(&Expected::default(), |mix, way| match way {
//!     Way::In => …,                               // put the plank in: `mix.host.must(&["adopt", …])`, or by hand
//!     Way::Out => …,
//! });
//! ```
//!
//! That sends 300 messages with Message-IDs of their own in seven parts, one around each swap and one behind the last,
//! and then looks for every accepted one where it belongs. While a swap is under way its part of the mail flows.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::client::Client;
use harness::dovecot::{Dovecot, VMAIL};
use harness::log::eventually;
use harness::postfix::Postfix;
use harness::remote::{Remote, Script};
use harness::{Scratch, dns, ports, skip};

use super::dkim::{UNIT, wait_for_filter};
use super::lines::{Allowed, complaints};
use super::mailbox::{self, Reader};
use super::rig::{Host, in_maildir, message_id};
use crate::compliance::dkim::can_run as dkim_can_run;
use crate::compliance::dkim::rig::{Dkimpy, KEY, record};

/// What goes to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// By lmtp(8) into Dovecot's mailbox.
    In,
    /// To another host.
    Out,
    /// To a user of the system, by local(8).
    Local,
    /// By virtual(8).
    Virtual,
    /// An alias for the user and the virtual mailbox.
    Alias,
    /// Refused by another host: the sender, the user of the system, gets a notice.
    Bounce,
    /// Put off by another host at first.
    Deferred,
}

const KINDS: [Kind; 20] = {
    use Kind::{Alias, Bounce, Deferred, In, Local, Out, Virtual};
    [
        In, Out, Local, Virtual, Alias, Out, Deferred, In, Local, Virtual, Bounce, Out, In, Alias,
        Virtual, Out, In, Deferred, Local, Alias,
    ]
};

/// Messages around each swap, and behind the last one: 300 in all.
const AROUND: usize = 45;
const BEHIND: usize = 30;
/// Sessions at once.
pub const SENDERS: usize = 3;
/// Between two messages of a sender: the part of a swap lasts about as long as the swap.
const PACE: Duration = Duration::from_millis(30);
/// The reader of the mailbox.
pub const READER: &str = "anna@dove.example";
pub const PASSWORD: &str = "secret";
/// A user of every Debian, for local(8).
const USER: &str = "games";

/// Where OpenDKIM listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milter {
    Unix,
    Port,
}

/// Which way a swap goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    In,
    Out,
}

/// What a plank's swaps may do; by default nothing at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Lines in the logs of Postfix and Dovecot.
    pub postfix: &'static [Allowed],
    pub dovecot: &'static [Allowed],
    /// Messages that may come twice because an agent was killed while it delivered them, in each swap.
    pub repeated: usize,
    /// Sessions of SMTP clients that may be cut or put off in each swap.
    pub put_off: usize,
}

struct Sent {
    id: String,
    kind: Kind,
    /// Attempts whose end was cut off behind the content: each may have been accepted.
    uncertain: usize,
}

/// The host with its mail.
pub struct Mix {
    pub dovecot: Dovecot,
    pub host: Host,
    near: Remote,
    hard: Remote,
    late: Remote,
    sent: Mutex<Vec<Sent>>,
    put_off: AtomicUsize,
    _names: dns::Server,
}

/// Whether all originals are here.
pub fn can_run() -> bool {
    dkim_can_run() && skip::can_run(true, &["postfix", "dovecot", "unshare"])
}

impl Mix {
    /// Everything runs when this returns; the mailbox of [`READER`] holds mail with flags, keywords and a folder.
    pub fn new(milter: Milter) -> Self {
        let scratch = Scratch::new();
        let (mut zone, mut hosts) = (String::new(), Vec::new());
        for (domain, rule, answer) in [
            ("near.example", "-", ""),
            ("hard.example", "RCPT TO:", "550 5.1.1 no such user"),
            ("late.example", "first RCPT TO:", "450 4.2.1 come back"),
        ] {
            let address = ports::address();
            zone.push_str(&format!("{domain} MX 10 mx.{domain}\nmx.{domain} A {address}\n"));
            let script = Script::new(&format!("mx.{domain}")).on(rule, answer);
            hosts.push(Remote::start((address, 25).into(), script));
        }
        let names = dns::Server::start(&zone);
        let mut hosts = hosts.into_iter();
        let (near, hard, late) =
            (hosts.next().unwrap(), hosts.next().unwrap(), hosts.next().unwrap());
        let mut dovecot = lay_dovecot(&scratch);
        let (socket, at) = match milter {
            Milter::Unix => super::dkim::on_unix(&scratch),
            Milter::Port => super::dkim::on_port(&scratch),
        };
        let mut postfix = lay_postfix(&scratch, &dovecot, &at);
        postfix.sees(&format!("nameserver {}\n", names.address().ip()), "127.0.0.1 localhost\n");
        let opendkim = super::dkim::lay(&scratch, &socket);
        dovecot.start();
        postfix.start();
        let main = postfix.config().display().to_string();
        let config = dovecot.config().display().to_string();
        let mut host = Host::new(scratch, Some(postfix), Some(names.address().to_string()));
        let toml = host.toml();
        host.services.original(UNIT, &["/usr/sbin/opendkim", "-f", "-x", &opendkim]);
        for (daemon, option, file) in [
            ("dkim-milter", "-x", opendkim.as_str()),
            ("smtp-delivery", "-c", main.as_str()),
            ("pop3d", "-c", config.as_str()),
            ("imapd", "-c", config.as_str()),
        ] {
            host.services.ours(daemon, &[option, file, "--theoris", &toml]);
        }
        host.services.systemctl(&["start", UNIT]);
        host.services.systemctl(&["enable", UNIT]);
        wait_for_filter(&host);
        let put_off = AtomicUsize::new(0);
        let mix = Self {
            host,
            dovecot,
            near,
            hard,
            late,
            sent: Mutex::default(),
            put_off,
            _names: names,
        };
        mix.reader().prepare();
        mix
    }

    /// The mailbox of [`READER`] by IMAP and POP3, whoever serves them.
    pub fn reader(&self) -> Reader {
        Reader {
            imap: self.dovecot.imap,
            pop3: self.dovecot.pop3,
            user: READER,
            password: PASSWORD,
        }
    }

    /// The whole proof; see the top of this file.
    #[track_caller]
    pub fn swapped_three_times(&self, expected: &Expected, mut swap: impl FnMut(&Self, Way)) {
        let mut seen = self.reader().state();
        for _ in 0..3 {
            for way in [Way::In, Way::Out] {
                self.mail_flows(AROUND, || self.host.swapping(|| swap(self, way)));
                seen = mailbox::kept(&seen, self.reader().state());
            }
        }
        self.mail_flows(BEHIND, || {});
        self.host.queue_empties();
        self.everything_arrived(expected);
        mailbox::kept(&seen, self.reader().state());
        let put_off = self.put_off.load(Ordering::SeqCst);
        assert!(put_off <= 6 * expected.put_off, "{put_off} sessions were put off");
        self.no_complaints(expected);
    }

    /// Nothing but the allowed lines is in the originals' logs.
    #[track_caller]
    pub fn no_complaints(&self, expected: &Expected) {
        let read = |name: &str| std::fs::read_to_string(self.host.scratch.join(name)).unwrap();
        let postfix =
            complaints(&read("maillog"), &[super::rig::OF_THE_CLOCK, expected.postfix].concat());
        let dovecot = complaints(&read("dovecot.log"), expected.dovecot);
        assert!(postfix.is_empty() && dovecot.is_empty(), "{postfix:#?}\n{dovecot:#?}");
    }

    /// So many messages; `during` is done while they flow.
    #[track_caller]
    fn mail_flows(&self, count: usize, during: impl FnOnce()) {
        let first = self.sent.lock().unwrap().len();
        let next = AtomicUsize::new(first);
        let limit = first + count;
        std::thread::scope(|scope| {
            let senders: Vec<_> =
                (0..SENDERS).map(|_| scope.spawn(|| self.send(&next, limit))).collect();
            eventually("mail to flow", || {
                (self.sent.lock().unwrap().len() >= first + SENDERS).then_some(())
            });
            during();
            for sender in senders {
                sender.join().unwrap();
            }
        });
        assert_eq!(self.sent.lock().unwrap().len(), limit);
    }

    /// To the SMTP server. Where nobody listens in the gap of a swap, its client is put off.
    fn connected(&self) -> Client {
        let port = self.host.postfix().port;
        let mut refused = false;
        let client = eventually("the SMTP port to be open", || {
            let client = Client::try_tcp(port);
            refused |= client.is_err();
            client.ok()
        });
        if refused {
            self.put_off.fetch_add(1, Ordering::SeqCst);
        }
        client
    }

    /// Sends its share; what is put off is sent again.
    fn send(&self, next: &AtomicUsize, limit: usize) {
        let mut waiting = None;
        let mut more = || {
            let number = next.fetch_add(1, Ordering::SeqCst);
            (number < limit).then_some((number, 0))
        };
        while let Some(message) = waiting.take().or_else(&mut more) {
            let mut session = Some(self.connected());
            let mut message = Some(message);
            let mut left = 3;
            while let (Some(client), Some((number, uncertain))) = (&mut session, message.take()) {
                let (end, sent) = say(client, number, left == 3);
                match end {
                    End::Accepted => {
                        self.sent.lock().unwrap().push(Sent { uncertain, ..sent });
                        left -= 1;
                        std::thread::park_timeout(PACE);
                        if left == 0 {
                            client.send("QUIT");
                            client.next_line();
                            session = None;
                        } else {
                            message = more();
                        }
                    }
                    End::PutOff | End::Uncertain => {
                        self.put_off.fetch_add(1, Ordering::SeqCst);
                        waiting = Some((number, uncertain + usize::from(end == End::Uncertain)));
                        session = None;
                    }
                }
            }
        }
    }

    /// Each message where it belongs, once, and with a good signature.
    #[track_caller]
    fn everything_arrived(&self, expected: &Expected) {
        let read = |place: &str| in_maildir(&self.host.scratch.join(place));
        let (local, inbox) = (read(&format!("spoolmail/{USER}")), read("virtual/inbox"));
        let dove = in_maildir(&self.dovecot.maildir(READER));
        let (near, late) = (contents(&self.near), contents(&self.late));
        let told = notices(&local);
        assert!(contents(&self.hard).is_empty(), "nothing goes there");
        let (mut repeated, mut verifier) = (0, Verifier::new());
        let mut known = BTreeSet::new();
        for Sent { id, kind, uncertain } in self.sent.lock().unwrap().iter() {
            known.insert(id.clone());
            let places: Vec<(&str, &Found)> = match kind {
                Kind::In => vec![("Dovecot's mailbox", &dove)],
                Kind::Out => vec![("near.example", &near)],
                Kind::Deferred => vec![("late.example", &late)],
                Kind::Local => vec![("the user", &local)],
                Kind::Virtual => vec![("the virtual mailbox", &inbox)],
                Kind::Alias => vec![("the user", &local), ("the virtual mailbox", &inbox)],
                Kind::Bounce => vec![("the sender's notices", &told)],
            };
            for (place, found) in places {
                let copies = found.get(id).map_or(&[][..], Vec::as_slice);
                assert!(
                    !copies.is_empty(),
                    "{kind:?} {id} is not in {place}: {}",
                    self.told_of(id)
                );
                let more = (copies.len() - 1).saturating_sub(*uncertain);
                assert!(
                    more <= 6 * expected.repeated,
                    "{kind:?} {id}: {} copies in {place}",
                    copies.len()
                );
                repeated += more;
                if *kind != Kind::Bounce {
                    copies.iter().for_each(|copy| verifier.must_be_signed(id, copy));
                }
            }
        }
        assert!(
            repeated <= 6 * expected.repeated,
            "{repeated} messages came twice:\n{}",
            self.host.postfix().log.text()
        );
        for (place, found) in [("near", &near), ("late", &late), ("virtual", &inbox)] {
            let strangers: Vec<&String> = found.keys().filter(|id| !known.contains(*id)).collect();
            assert!(strangers.is_empty(), "{place}: {strangers:?}");
        }
    }

    /// What Postfix's log has of a message.
    fn told_of(&self, id: &str) -> String {
        let log = self.host.postfix().log.text();
        let line = log.lines().find(|line| line.contains(&format!("message-id={id}")));
        let Some(queue_id) = line.and_then(|line| line.split("]: ").nth(1)?.split(':').next())
        else {
            return log;
        };
        log.lines().filter(|line| line.contains(queue_id)).map(|line| format!("\n{line}")).collect()
    }
}

/// Messages by Message-ID.
type Found = BTreeMap<String, Vec<Vec<u8>>>;

fn contents(remote: &Remote) -> Found {
    let mut found = Found::new();
    for content in remote.conversations().iter().flat_map(|said| &said.contents) {
        // Who has pipelined DATA behind a recipient that is refused sends an empty one.
        if !content.is_empty() {
            found
                .entry(message_id(content))
                .or_default()
                .push(content.replace("\\t", "\t").into_bytes()); // shown escaped
        }
    }
    found
}

/// Non-delivery notices, by the Message-ID of what they tell of.
fn notices(mail: &Found) -> Found {
    let mut found = Found::new();
    for copy in mail.values().flatten() {
        let text = String::from_utf8_lossy(copy);
        let Some((header, body)) = text.split_once("\n\n") else { continue };
        if header.contains("multipart/report") {
            found.entry(message_id(body)).or_default().push(copy.clone());
        }
    }
    found
}

struct Verifier {
    public: String,
    dkimpy: Dkimpy,
}

impl Verifier {
    fn new() -> Self {
        Self { public: record(KEY), dkimpy: Dkimpy::start() }
    }

    #[track_caller]
    fn must_be_signed(&mut self, id: &str, message: &[u8]) {
        let text = String::from_utf8_lossy(message).replace('\r', "").replace('\n', "\r\n");
        assert!(text.contains("DKIM-Signature:"), "{id} is not signed:\n{text}");
        assert!(self.dkimpy.is_good(text.as_bytes(), "sel1", &self.public), "{id}:\n{text}");
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Accepted,
    PutOff,
    /// It went away when it had the content.
    Uncertain,
}

/// One message. A third of the sessions begin with a login at Dovecot's auth.
fn say(client: &mut Client, number: usize, first: bool) -> (End, Sent) {
    let kind = KINDS[number % KINDS.len()];
    let id = format!("<{number}.{kind:?}@mix.test>");
    let recipient = match kind {
        Kind::In => READER.to_owned(),
        Kind::Out => format!("o{number}@near.example"),
        Kind::Local => format!("{USER}@example.com"),
        Kind::Virtual => "inbox@virt.example".to_owned(),
        Kind::Alias => "team@example.com".to_owned(),
        Kind::Bounce => format!("b{number}@hard.example"),
        Kind::Deferred => format!("d{number}@late.example"),
    };
    let sent = Sent { id: id.clone(), kind, uncertain: 0 };
    let mut all = |lines: &[(&str, &str)]| {
        lines.iter().all(|(line, wanted)| {
            let answer = if line.is_empty() { client.reply() } else { client.ask(line) };
            assert!(!answer.starts_with('5'), "{line}: {answer}\n{}", client.transcript);
            answer.starts_with(wanted)
        })
    };
    // \0anna@dove.example\0secret
    let login = "AUTH PLAIN AGFubmFAZG92ZS5leGFtcGxlAHNlY3JldA==";
    let greeting: &[(&str, &str)] = match (first, number % 3) {
        (true, 0) => &[("", "220"), ("EHLO client.example", "250"), (login, "235")],
        (true, _) => &[("", "220"), ("EHLO client.example", "250")],
        (false, _) => &[],
    };
    let envelope = [
        (format!("MAIL FROM:<{USER}@example.com>"), "250"),
        (format!("RCPT TO:<{recipient}>"), "250"),
        ("DATA".to_owned(), "354"),
    ];
    let envelope: Vec<(&str, &str)> =
        envelope.iter().map(|(line, wanted)| (line.as_str(), *wanted)).collect();
    if !all(greeting) || !all(&envelope) {
        return (End::PutOff, sent);
    }
    let answer = client.ask(&format!(
        "From: Alice <alice@example.com>\r\nTo: {recipient}\r\nSubject: {number}\r\nMessage-ID: {id}\r\n\
         Date: Fri, 1 Jan 2027 00:00:00 +0000\r\n\r\nbody {number}\r\n."
    ));
    let end = match answer.as_bytes().first() {
        Some(b'2') => End::Accepted,
        Some(_) => End::PutOff,
        None => End::Uncertain,
    };
    (end, sent)
}

fn lay_dovecot(scratch: &Scratch) -> Dovecot {
    scratch.directory("dovecot/conf.d");
    let dovecot = Dovecot::lay(scratch, &[(READER, PASSWORD)], "!include_try conf.d/*.conf");
    let maildir = dovecot.maildir(READER);
    for name in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(maildir.join(name)).unwrap();
    }
    for number in 0..12 {
        let path = maildir
            .join(format!("cur/17000000{number:02}.M1P1.mail:2,{}", ["", "S", "FS"][number % 3]));
        let text = format!("Message-ID: <old.{number}@mix.test>\nSubject: {number}\n\nbody\n");
        std::fs::write(path, text).unwrap();
    }
    let owner = format!("{VMAIL}:{VMAIL}");
    let mut command = std::process::Command::new("chown");
    assert!(command.args(["-R", &owner]).arg(scratch.join("vhosts")).status().unwrap().success());
    dovecot
}

fn open_directory(scratch: &Scratch, name: &str) -> PathBuf {
    let path = scratch.directory(name);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o1777)).unwrap();
    path
}

fn lay_postfix(scratch: &Scratch, dovecot: &Dovecot, milter: &str) -> Postfix {
    let boxes = open_directory(scratch, "virtual");
    let spool = open_directory(scratch, "spoolmail");
    let aliases = scratch.write("aliases", format!("team {USER}, inbox@virt.example\n"));
    let show = |path: &Path| path.display().to_string();
    Postfix::lay(
        scratch,
        &format!(
            "smtpd_milters = {milter}\nmilter_default_action = accept\nin_flow_delay = 0\n\
             minimal_backoff_time = 1s\nmaximal_backoff_time = 2s\nqueue_run_delay = 1s\n\
             virtual_mailbox_domains = virt.example\nvirtual_mailbox_base = {}\n\
             virtual_mailbox_maps = inline:{{inbox@virt.example=inbox/}}\n\
             virtual_uid_maps = static:65534\nvirtual_gid_maps = static:65534\nvirtual_minimum_uid = 1\n\
             alias_maps = texthash:{}\nmail_spool_directory = {}/\nforward_path =\n\
             relay_domains = dove.example\ntransport_maps = inline:{{dove.example=lmtp:unix:{}}}\n\
             smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {}\n",
            show(&boxes),
            show(&aliases),
            show(&spool),
            show(&dovecot.lmtp),
            show(&dovecot.socket("auth-client")),
        ),
    )
}
