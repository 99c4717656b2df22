//! Our queue manager with the services around it, between Postfix's smtpd and cleanup and its delivery agents.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use harness::client::Client;
use harness::daemon::Daemon;
use harness::log::eventually;
use harness::postfix::Postfix;
use harness::{Scratch, skip};

/// What our queue-manager stands in for here; smtpd, cleanup, pickup, local and virtual stay Postfix's.
const OURS: [(&str, &str); 10] = [
    ("qmgr", "unix"),
    ("rewrite", "unix"),
    ("bounce", "unix"),
    ("defer", "unix"),
    ("trace", "unix"),
    ("flush", "unix"),
    ("error", "unix"),
    ("retry", "unix"),
    ("discard", "unix"),
    ("showq", "unix"),
];

/// Postfix ends before its directory does.
struct Site {
    postfix: Postfix,
    scratch: Scratch,
}

impl Site {
    /// System users in `mail/NAME/`, virtual users of virt.example in `virtual/NAME/`.
    fn lay(main: &str) -> Self {
        let scratch = Scratch::new();
        let boxes = scratch.path().display();
        let all = format!(
            "in_flow_delay = 0\nlocal_recipient_maps =\nmail_spool_directory = {boxes}/mail/\n\
             virtual_mailbox_domains = virt.example\nvirtual_mailbox_base = {boxes}/virtual\n\
             virtual_mailbox_maps = inline:{{{{anna@virt.example = anna/}}, {{ben@virt.example = ben/}}}}\n\
             virtual_uid_maps = static:65534\nvirtual_gid_maps = static:65534\n\
             virtual_minimum_uid = 1\n{main}"
        );
        let postfix = Postfix::lay(&scratch, &all);
        for name in ["mail", "virtual"] {
            let directory = scratch.directory(name);
            fs::set_permissions(directory, fs::Permissions::from_mode(0o1777)).unwrap();
        }
        Self { postfix, scratch }
    }

    /// Postfix without what is ours, then ours.
    fn start_with_ours(&mut self) -> Daemon {
        self.start_with_ours_and(&[])
    }

    fn start_with_ours_and(&mut self, more: &[(&str, &str)]) -> Daemon {
        self.postfix.without(&[&OURS, more].concat());
        self.postfix.start();
        let config = self.postfix.config();
        let arguments = ["-c", config.to_str().unwrap()];
        Daemon::start("queue-manager", &self.scratch.directory("run"), &arguments)
    }

    fn send(&self, from: &str, to: &[&str], subject: &str) {
        let to: Vec<String> = to.iter().map(|to| format!("<{to}>")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        self.send_with(&format!("<{from}>"), &to, subject);
    }

    fn send_with(&self, from: &str, to: &[&str], subject: &str) {
        let mut smtp = Client::tcp(self.postfix.port);
        assert!(smtp.reply().starts_with("220 "));
        smtp.expect("EHLO client.example", "250");
        smtp.expect(&format!("MAIL FROM:{from}"), "250");
        for to in to {
            smtp.expect(&format!("RCPT TO:{to}"), "250");
        }
        smtp.expect("DATA", "354");
        smtp.expect(&format!("Subject: {subject}\r\n\r\nbody\r\n."), "250");
        smtp.expect("QUIT", "221");
    }

    fn mailbox(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// A socket is there before anybody may connect to it.
    #[track_caller]
    fn listens(&self, agent: &str) {
        let socket = self.postfix.queue().join("private").join(agent);
        eventually("the agent to listen", || UnixStream::connect(&socket).ok().map(drop));
    }

    fn queue_is_empty(&self) -> bool {
        // Twice: a message may go from a queue that is not looked at yet to one that was.
        let queues = ["incoming", "active", "deferred", "bounce", "defer"];
        queues.iter().chain(&queues).all(|name| files(&self.postfix.queue().join(name)).is_empty())
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// How often each subject lies in a Maildir.
fn subjects(maildir: &Path) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for path in files(&maildir.join("new")) {
        let text = fs::read_to_string(path).unwrap();
        let subject = text.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap();
        *count.entry(subject.to_owned()).or_insert(0) += 1;
    }
    count
}

#[test]
fn fifty_messages_go_through_postfix_agents_and_are_all_accounted_for() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let mut site = Site::lay("");
    let ours = site.start_with_ours();
    let wanted: Vec<String> = (0..50).map(|n| format!("message {n}")).collect();
    for subject in &wanted {
        site.send("bob@client.example", &["games@example.com", "anna@virt.example"], subject);
    }
    let arrived = |name: &str| {
        let found = subjects(&site.mailbox(name));
        wanted.iter().all(|subject| found.get(subject) == Some(&1)) && found.len() == wanted.len()
    };
    eventually("all mail", || (arrived("mail/games") && arrived("virtual/anna")).then_some(()));
    eventually("an empty queue", || site.queue_is_empty().then_some(()));
    // The line comes after the file is gone.
    ours.log.wait_until("50 removals", |lines| {
        let removed = lines.iter().filter(|line| line.text.ends_with(": removed")).count();
        (removed == 50).then_some(())
    });
    let line = ours.log.wait_for("(queue active)");
    assert!(
        line.contains("from=<bob@client.example>, size=") && line.contains(", nrcpt=2"),
        "{line}"
    );
}

#[derive(Clone, Copy, PartialEq)]
enum Cast {
    Postfix,
    Ours,
    OursWithCleanup,
}

/// Bounces with every kind of original, and a report of success.
fn notices(cast: Cast) -> String {
    // One delivery at a time: the recipients stand in a notice in the order in which they failed.
    let main = "virtual_alias_maps = inline:{{old@virt.example = nobody-here@example.com}}\n\
                local_destination_concurrency_limit = 1\ninitial_destination_concurrency = 1\n";
    let mut site = Site::lay(main);
    let _daemon = match cast {
        Cast::Postfix => {
            site.postfix.start();
            None
        }
        Cast::Ours => Some(site.start_with_ours()),
        Cast::OursWithCleanup => {
            Some(site.start_with_ours_and(&[("cleanup", "unix"), ("pickup", "unix")]))
        }
    };
    let lost = ["<nobody-here@example.com>", "<old@virt.example>"];
    site.send_with("<games@example.com>", &lost, "lost 1");
    site.send_with("<games@example.com> BODY=7BIT RET=HDRS ENVID=E1", &lost[..1], "lost 2");
    site.send_with("<games@example.com> BODY=8BITMIME", &lost[..1], "lost 3 \u{e9}");
    let told = ["<anna@virt.example> NOTIFY=SUCCESS", "<ben@virt.example> NOTIFY=NEVER"];
    site.send_with("<games@example.com> RET=HDRS", &told, "lost 4 (not at all)");
    let paths = eventually("the notices", || {
        Some(files(&site.mailbox("mail/games").join("new"))).filter(|paths| paths.len() == 4)
    });
    eventually("an empty queue", || site.queue_is_empty().then_some(()));
    let mut notices: Vec<String> =
        paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    notices.sort_by_key(|text| text[text.find("Subject: lost").unwrap()..].to_owned());
    notices.iter().map(|text| normal(text) + "\n").collect()
}

#[test]
fn a_notice_reads_like_the_one_of_postfix() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let theirs = notices(Cast::Postfix);
    pretty_assert(&notices(Cast::Ours), &theirs);
    pretty_assert(&notices(Cast::OursWithCleanup), &theirs);
}

/// Without what differs between any two notices: ids, dates, the order of equal lines.
fn normal(text: &str) -> String {
    let mut lines = Vec::new();
    let is_id = |word: &str| {
        word.len() >= 8 && word.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b))
    };
    for line in text.lines() {
        if ["Date: ", "Arrival-Date: ", "Message-Id: "].iter().any(|name| line.starts_with(name)) {
            lines.push(line.split(": ").next().unwrap().to_owned());
            continue;
        }
        if is_dated(line) {
            // What stands before the date, without the queue id and the day of the week.
            let before = line.split(", ").next().unwrap_or_default();
            let before = before.rsplit_once([' ', '\t']).map_or("", |(before, _)| before);
            lines.push(before.split("id ").next().unwrap_or_default().to_owned());
            continue;
        }
        let words: Vec<String> = line
            .split(' ')
            .map(|word| {
                let bare = word.trim_end_matches([';', ',', '.']);
                let id = bare.trim_start_matches("--").trim_start_matches("\tboundary=\"");
                let id = id.split(['.', '/']).next().unwrap_or_default();
                if is_id(id) { "ID".to_owned() } else { word.to_owned() }
            })
            .collect();
        let line = words.join(" ");
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if let Some((name, port)) = line.rsplit_once(':')
            && digits(port)
        {
            lines.push(name.to_owned());
        } else {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// `…, 22 Nov 2026 01:26:20 +0000 (UTC)`, on whatever day and in whatever zone.
fn is_dated(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    words.windows(2).any(|pair| {
        let (time, zone) = (pair[0].as_bytes(), pair[1]);
        time.len() == 8 && time[2] == b':' && time[5] == b':' && zone.starts_with(['+', '-'])
    })
}

#[track_caller]
fn pretty_assert(ours: &str, theirs: &str) {
    let all = format!("{ours}\n\n{theirs}");
    for (number, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
        assert_eq!(ours, theirs, "line {number} of\n{all}");
    }
    assert_eq!(ours.lines().count(), theirs.lines().count(), "\n{ours}\n\n{theirs}");
}

#[test]
fn mail_waits_for_its_agent_and_goes_when_it_is_flushed() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let mut site = Site::lay("transport_maps = inline:{{slow.example = slow:}}\n");
    let ours = site.start_with_ours();
    site.send("bob@client.example", &["x@slow.example"], "slow");
    ours.log.wait_for("warning: connect to transport private/slow: No such file or directory");
    let line = ours.log.wait_for("status=deferred (mail transport unavailable)");
    assert!(line.contains("to=<x@slow.example>, relay=none, delay="), "{line}");
    let deferred = site.postfix.queue().join("deferred");
    eventually("the message in the deferred queue", || {
        (!files(&deferred).is_empty()).then_some(())
    });
    let listed = site.postfix.command(&["postqueue", "-p"]);
    assert!(listed.contains("mail transport unavailable"), "{listed}");
    // The agent appears: Postfix's discard under another name.
    site.postfix.add_services("slow unix - - n - - discard");
    site.postfix.command(&["postfix", "reload"]);
    site.listens("slow");
    site.postfix.command(&["postqueue", "-f"]);
    site.postfix.log.wait_for("to=<x@slow.example>, relay=none");
    ours.log.wait_for(": removed");
    eventually("an empty queue", || site.queue_is_empty().then_some(()));
}

/// `postqueue -i` and `-s` are Postfix's, the flush service is ours.
#[test]
fn one_message_or_one_site_can_be_sent_now() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let mut site = Site::lay(
        "transport_maps = inline:{{slow.example = slow:}}\nfast_flush_domains = slow.example\n",
    );
    let ours = site.start_with_ours();
    for n in 1..=2 {
        site.send("bob@client.example", &["x@slow.example"], &format!("slow {n}"));
    }
    let deferred = site.postfix.queue().join("deferred");
    eventually("both in the deferred queue", || (files(&deferred).len() == 2).then_some(()));
    let log = site.postfix.queue().join("flush/slow_example");
    assert_eq!(fs::read_to_string(log).unwrap().lines().count(), 2);
    site.postfix.add_services("slow unix - - n - - discard");
    site.postfix.command(&["postfix", "reload"]);
    site.listens("slow");
    let first = files(&deferred).remove(0).file_name().unwrap().to_str().unwrap().to_owned();
    site.postfix.command(&["postqueue", "-i", &first]);
    ours.log.wait_for(&format!("{first}: removed"));
    assert_eq!(files(&deferred).len(), 1);
    site.postfix.command(&["postqueue", "-s", "slow.example"]);
    eventually("an empty queue", || site.queue_is_empty().then_some(()));
}

#[test]
fn error_retry_and_discard_take_their_mail() {
    if !skip::can_run(true, &["postfix"]) {
        return;
    }
    let mut site = Site::lay(
        "transport_maps = inline:{{no.example = error:5.7.1 not for you}, \
         {later.example = retry:4.7.0 come back}, {gone.example = discard:silently}}\n\
         smtpd_reject_unlisted_recipient = no\n",
    );
    let ours = site.start_with_ours();
    let to = ["a@no.example", "b@later.example", "c@gone.example"];
    site.send("games@example.com", &to, "three ways");
    for line in [
        "to=<a@no.example>, relay=none",
        "dsn=5.7.1, status=bounced (not for you)",
        "dsn=4.7.0, status=deferred (come back)",
        "dsn=2.0.0, status=sent (silently)",
        "sender non-delivery notification: ",
    ] {
        ours.log.wait_for(line);
    }
    eventually("the notice", || {
        subjects(&site.mailbox("mail/games"))
            .contains_key("Undelivered Mail Returned to Sender")
            .then_some(())
    });
    // Only the deferred recipient is still to do.
    let listed = site.postfix.command(&["postqueue", "-p"]);
    assert!(listed.contains("b@later.example") && !listed.contains("a@no.example"), "{listed}");
}
