//! The plank dkim: every message is signed, whoever signs.

use std::os::unix::fs::PermissionsExt as _;

use harness::log::eventually;
use harness::postfix::Postfix;
use harness::{Scratch, ports};

use super::lines::{Allowed, When};
use super::login::gap;
use super::rig::{Host, Traffic, in_maildir};
use crate::compliance::dkim::can_run as dkim_can_run;
use crate::compliance::dkim::rig::{Dkimpy, KEY, record};

pub const UNIT: &str = "opendkim.service";

pub fn can_run() -> bool {
    dkim_can_run() && harness::skip::can_run(true, &["postfix"])
}

/// A key and the configuration of OpenDKIM: where that stands.
pub fn lay(scratch: &Scratch, socket: &str) -> String {
    let key = scratch.write("dkim/key", KEY);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let keys = format!("sel1._domainkey.example.com example.com:sel1:{}\n", key.display());
    let keys = scratch.write("dkim/keytable", keys);
    let signing = scratch.write("dkim/signingtable", "*@example.com sel1._domainkey.example.com\n");
    let conf = scratch.write(
        "opendkim.conf",
        format!(
            "Syslog yes\nBackground no\nMode sv\nCanonicalization relaxed/simple\nOversignHeaders From\nUserID postfix\n\
             UMask 007\nSocket {socket}\nKeyTable {}\nSigningTable refile:{}\nRequireSafeKeys no\n",
            keys.display(),
            signing.display()
        ),
    );
    conf.display().to_string()
}

/// Postfix delivers to a Maildir, OpenDKIM signs on its socket.
pub fn host(socket: impl FnOnce(&Scratch) -> (String, String), action: &str) -> Host {
    let scratch = Scratch::new();
    let (dkim, milter) = socket(&scratch);
    let boxes = scratch.directory("virtual");
    std::fs::set_permissions(&boxes, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let mut postfix = Postfix::lay(
        &scratch,
        &format!(
            "smtpd_milters = {milter}\nmilter_default_action = {action}\nin_flow_delay = 0\n\
             virtual_mailbox_domains = virt.example\nvirtual_mailbox_base = {}\n\
             virtual_mailbox_maps = inline:{{inbox@virt.example=inbox/}}\n\
             virtual_uid_maps = static:65534\nvirtual_gid_maps = static:65534\nvirtual_minimum_uid = 1\n",
            boxes.display()
        ),
    );
    let conf = lay(&scratch, &dkim);
    postfix.start();
    let mut host = Host::new(scratch, Some(postfix), None);
    host.services.original(UNIT, &["/usr/sbin/opendkim", "-f", "-x", &conf]);
    let toml = host.toml();
    host.services.ours("dkim-milter", &["-x", &conf, "--theoris", &toml]);
    host.services.systemctl(&["start", UNIT]);
    host.services.systemctl(&["enable", UNIT]);
    host
}

pub fn on_unix(scratch: &Scratch) -> (String, String) {
    let socket = scratch.join("spool/milter/socket");
    let directory = scratch.directory("spool/milter");
    let owner = nix::unistd::User::from_name("postfix").unwrap().unwrap();
    nix::unistd::chown(&directory, Some(owner.uid), Some(owner.gid)).unwrap();
    (format!("local:{}", socket.display()), format!("unix:{}", socket.display()))
}

pub fn on_port(_: &Scratch) -> (String, String) {
    let port = ports::free();
    (format!("inet:{port}@127.0.0.1"), format!("inet:127.0.0.1:{port}"))
}

pub fn wait_for_filter(host: &Host) {
    let conf = std::fs::read_to_string(host.scratch.join("opendkim.conf")).unwrap();
    let socket = conf.lines().find_map(|line| line.strip_prefix("Socket ")).unwrap().to_owned();
    eventually("OpenDKIM to listen", || {
        let listens = match socket.split_once(':').unwrap() {
            ("local", path) => std::os::unix::net::UnixStream::connect(path).is_ok(),
            (_, at) => {
                let port: u16 = at.split('@').next().unwrap().parse().unwrap();
                std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
            }
        };
        listens.then_some(())
    });
}

/// In and out three times: no message passes unsigned, no client of the filter is refused.
fn swapped_three_times(senders: usize, socket: impl FnOnce(&Scratch) -> (String, String)) {
    if !can_run() {
        return;
    }
    let host = host(socket, "accept");
    wait_for_filter(&host);
    let traffic = Traffic::start(host.postfix().port, senders, &["inbox@virt.example"]);
    let mut told = String::new();
    for _ in 0..3 {
        traffic.flows(10);
        let adopting = host.must(&["adopt", "dkim"]);
        assert!(host.services.pid(UNIT).is_none(), "{adopting}");
        assert!(!host.services.is_enabled(UNIT));
        traffic.flows(20);
        told.push_str(&host.must(&["release", "dkim"]));
        assert!(host.services.pid(UNIT).is_some() && host.services.is_enabled(UNIT));
    }
    traffic.flows(10);
    let sent = traffic.end();
    host.queue_empties();
    let arrived = in_maildir(&host.scratch.join("virtual/inbox"));
    assert_eq!(arrived.len(), sent.len());
    let (public, mut dkimpy) = (record(KEY), Dkimpy::start());
    for id in &sent {
        let copies = &arrived[id];
        assert_eq!(copies.len(), 1, "{id}");
        let message = String::from_utf8_lossy(&copies[0]).replace('\n', "\r\n");
        assert!(dkimpy.is_good(message.as_bytes(), "sel1", &public), "{told}\n{message}");
    }
    assert!(!told.contains("nobody listened"), "there is no gap: {told}");
    host.no_complaints(&[]);
}

#[test]
fn opendkim_on_a_unix_socket_is_swapped_under_mail() {
    swapped_three_times(3, on_unix);
}

#[test]
fn opendkim_on_a_port_is_swapped_under_mail() {
    swapped_three_times(3, on_port);
}

/// What Postfix says of a filter that nobody listens for.
pub const IN_A_GAP: &[Allowed] = &[
    Allowed {
        line: "postfix/smtpd: warning: connect to Milter service unix:*: No such file or directory",
        when: When::InASwap(usize::MAX),
        why: "each client that comes in the gap",
    },
    Allowed {
        line: "postfix/smtpd: warning: connect to Milter service unix:*: Connection refused",
        when: When::InASwap(usize::MAX),
        why: "OpenDKIM has bound and does not listen yet",
    },
];

/// Where OpenDKIM cannot be handed a socket, mail passes it by while it starts: each such message is named.
#[test]
fn unsigned_mail_of_a_gap_is_told() {
    if !can_run() {
        return;
    }
    let host = host(on_unix, "accept");
    wait_for_filter(&host);
    let traffic = Traffic::start(host.postfix().port, 3, &["inbox@virt.example"]);
    traffic.flows(5);
    host.must(&["adopt", "dkim", "--gap"]);
    traffic.flows(5);
    let told = host.must(&["release", "dkim", "--gap"]);
    assert!(told.contains("nobody listened for "), "{told}");
    traffic.flows(5);
    let sent = traffic.end();
    host.queue_empties();
    let arrived = in_maildir(&host.scratch.join("virtual/inbox"));
    let log = std::fs::read_to_string(host.scratch.join("maillog")).unwrap();
    for id in &sent {
        let [copy] = arrived[id].as_slice() else { panic!("{id}: not one copy") };
        if !String::from_utf8_lossy(copy).contains("DKIM-Signature:") {
            let queued = log.lines().find(|line| line.contains(&format!("message-id={id}")));
            let queue_id = queued.unwrap().split("]: ").nth(1).unwrap().split(':').next().unwrap();
            assert!(told.contains(queue_id), "{queue_id} is unsigned and nobody was told:\n{told}");
        }
    }
    host.no_complaints(IN_A_GAP);
}

/// On a port, too, ours binds in the moment in which OpenDKIM ends.
#[test]
fn without_handed_sockets_the_gap_of_a_port_is_short() {
    if !can_run() {
        return;
    }
    let host = host(on_port, "accept");
    wait_for_filter(&host);
    let told = host.must(&["adopt", "dkim", "--gap"]);
    assert!(gap(&told) < 300, "{told}");
    wait_for_filter(&host);
    host.must(&["release", "dkim", "--gap"]);
    wait_for_filter(&host);
    assert!(host.services.pid(UNIT).is_some());
}

#[test]
fn a_filter_that_does_not_start_leaves_opendkim_at_work() {
    if !can_run() {
        return;
    }
    let host = host(on_unix, "tempfail");
    wait_for_filter(&host);
    host.services.break_unit("dkim-milter");
    let traffic = Traffic::start(host.postfix().port, 2, &["inbox@virt.example"]);
    traffic.flows(5);
    let text = host.rolled_back(&["adopt", "dkim"]);
    assert!(text.contains("theoris-dkim-milter.service does not start"), "{text}");
    traffic.flows(5);
    let sent = traffic.end();
    host.queue_empties();
    let arrived = in_maildir(&host.scratch.join("virtual/inbox"));
    assert!(sent.iter().all(|id| arrived[id].len() == 1));
    let signed = |message: &Vec<u8>| String::from_utf8_lossy(message).contains("DKIM-Signature:");
    assert!(arrived.values().flatten().all(signed));
    host.no_complaints(&[]);
    let left = std::fs::read_dir(host.scratch.join("spool/milter")).unwrap().count();
    assert_eq!(left, 1, "no second name is left");
}
