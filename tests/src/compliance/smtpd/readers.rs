//! Programs that read the logs: fail2ban and pflogsumm find the same in ours as in Postfix's.

use std::process::Command;

use harness::skip;

use super::case::Case;
use super::file;
use super::peers::Peers;

/// The same abuse of both servers, as two log files.
fn abuse() -> Option<[String; 2]> {
    if !skip::can_run(true, &["postfix", "dovecot", "fail2ban-regex", "pflogsumm"]) {
        return None;
    }
    let cases = Case::read_all(&file("abuse.txt"));
    let peers = Peers::start(&cases, Some(&file("dns.zone")));
    let mut logs = [String::new(), String::new()];
    for (number, case) in cases.iter().enumerate() {
        for (log, lines) in logs.iter_mut().zip(peers.logs(number, case)) {
            for line in lines {
                log.push_str(&format!("Nov 22 04:00:{number:02} mail postfix/{line}\n"));
            }
        }
    }
    Some(logs)
}

/// What a filter of Debian's fail2ban matches, without ports and process ids.
fn matched(log: &str, filter: &str) -> Vec<String> {
    let scratch = harness::Scratch::new();
    let path = scratch.write("log", log);
    let output = Command::new("fail2ban-regex")
        .args(["--print-all-matched", "-l", "CRITICAL"])
        .arg(path)
        .arg(filter)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| line.strip_prefix("|  Nov 22 "));
    lines.map(plain).collect()
}

fn plain(line: &str) -> String {
    let (head, text) = line.split_once("]: ").unwrap_or(("", line));
    let program = head.split('[').next().unwrap_or_default();
    format!("{program}: {}", super::transcript::normal(text))
}

#[test]
fn fail2ban_finds_the_same_abuse() {
    let Some([theirs, ours]) = abuse() else { return };
    for (mode, least) in [("normal", 5), ("more", 5), ("auth", 2), ("ddos", 2), ("aggressive", 10)]
    {
        let filter = format!("/etc/fail2ban/filter.d/postfix.conf[mode={mode}]");
        let (wanted, found) = (matched(&theirs, &filter), matched(&ours, &filter));
        assert!(wanted.len() >= least, "{mode} finds {wanted:#?} in\n{theirs}");
        assert_eq!(found, wanted, "{mode}");
    }
}

#[test]
fn pflogsumm_counts_the_same() {
    let Some(logs) = abuse() else { return };
    let scratch = harness::Scratch::new();
    let [theirs, ours] = logs.map(|log| {
        let path = scratch.write("log", log);
        let output = Command::new("pflogsumm").arg(path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // Connections are timed by the second; nothing else differs from run to run.
        text.lines().map(super::transcript::normal).collect::<Vec<_>>()
    });
    assert!(theirs.iter().any(|line| line.contains("rejected") && !line.contains("   0  ")));
    assert_eq!(ours, theirs);
}
