//! The plank dkim: every message is signed, whoever signs.

use std::os::unix::fs::PermissionsExt as _;

use harness::log::eventually;
use harness::postfix::Postfix;
use harness::{Scratch, ports};

use super::rig::{Host, IN_A_GAP, Traffic, in_maildir, is_empty};
use crate::compliance::dkim::can_run as dkim_can_run;
use crate::compliance::dkim::rig::{Dkimpy, KEY, record};

pub const UNIT: &str = "opendkim.service";

pub fn can_run() -> bool {
    dkim_can_run() && harness::skip::can_run(true, &["postfix"])
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
    let key = scratch.write("dkim/key", KEY);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let keys = format!("sel1._domainkey.example.com example.com:sel1:{}\n", key.display());
    let keys = scratch.write("dkim/keytable", keys);
    let signing = scratch.write("dkim/signingtable", "*@example.com sel1._domainkey.example.com\n");
    let conf = scratch.write(
        "opendkim.conf",
        format!(
            "Syslog yes\nBackground no\nMode sv\nCanonicalization relaxed/simple\nOversignHeaders From\nUserID postfix\n\
             UMask 007\nSocket {dkim}\nKeyTable {}\nSigningTable refile:{}\nRequireSafeKeys no\n",
            keys.display(),
            signing.display()
        ),
    );
    postfix.start();
    let mut host = Host::new(scratch, Some(postfix), None);
    let conf = conf.display().to_string();
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

/// In and out three times; the way in never lets a message pass unsigned, the way out tells which did.
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
        let warnings = host.postfix().log.text().matches(IN_A_GAP).count();
        traffic.flows(20);
        let after = host.postfix().log.text().matches(IN_A_GAP).count();
        assert_eq!(warnings, after, "nobody misses the filter once it is ours");
        told.push_str(&host.must(&["release", "dkim"]));
        assert!(host.services.pid(UNIT).is_some() && host.services.is_enabled(UNIT));
    }
    traffic.flows(10);
    let sent = traffic.end();
    eventually("an empty queue", || is_empty(&host.postfix().queue()).then_some(()));
    let arrived = in_maildir(&host.scratch.join("virtual/inbox"));
    assert_eq!(arrived.len(), sent.len());
    let log = host.postfix().log.text();
    let (public, mut dkimpy) = (record(KEY), Dkimpy::start());
    for id in &sent {
        let copies = &arrived[id];
        assert_eq!(copies.len(), 1, "{id}");
        let message = String::from_utf8_lossy(&copies[0]).replace('\n', "\r\n");
        if message.contains("DKIM-Signature:") {
            assert!(dkimpy.is_good(message.as_bytes(), "sel1", &public), "{message}");
        } else {
            let queued = log.lines().find(|line| line.contains(&format!("message-id={id}")));
            let queue_id = queued.unwrap().split("]: ").nth(1).unwrap().split(':').next().unwrap();
            assert!(
                told.contains(queue_id),
                "{queue_id} went unsigned and nobody was told:\n{told}"
            );
        }
    }
    let gaps = told.lines().filter_map(|line| line.split_once("nobody listened for "));
    for (_, gap) in gaps {
        let gap: u64 = gap.strip_suffix(" ms").unwrap().parse().unwrap();
        // 60 to 130 ms where nothing else runs; test machines are busy
        assert!(gap < 10_000, "a gap of {gap} ms");
    }
    host.no_complaints(&[IN_A_GAP, "warning: milter "]);
}

#[test]
fn opendkim_on_a_unix_socket_is_swapped_under_mail() {
    swapped_three_times(3, on_unix);
}

#[test]
fn opendkim_on_a_port_is_swapped_under_mail() {
    swapped_three_times(1, on_port); // both accept from one socket until OpenDKIM is idle
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
    let begin = std::time::Instant::now();
    let text = host.refused(&["adopt", "dkim"]);
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
    assert!(text.contains("theoris-dkim-milter.service does not start"), "{text}");
    assert!(text.contains("everything is as it was before"), "{text}");
    traffic.flows(5);
    let sent = traffic.end();
    eventually("an empty queue", || is_empty(&host.postfix().queue()).then_some(()));
    let arrived = in_maildir(&host.scratch.join("virtual/inbox"));
    assert!(sent.iter().all(|id| arrived[id].len() == 1));
    let signed = |message: &Vec<u8>| String::from_utf8_lossy(message).contains("DKIM-Signature:");
    assert!(arrived.values().flatten().all(signed));
    host.no_complaints(&[]);
    let left = std::fs::read_dir(host.scratch.join("spool/milter")).unwrap().count();
    assert_eq!(left, 1, "no second name is left");
}
