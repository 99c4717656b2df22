//! A disk that is full: the sender is told to come back, and nothing that was refused is delivered.

use std::process::{Child, Command, Stdio};

use harness::log::eventually;
use harness::strace::attached;
use harness::{Daemon, Scratch, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::sender::{Door, Ledger};
use super::{RECIPIENTS, delivered, site};

/// strace that lets every fsync of these processes fail, as a full disk with delayed allocation does.
struct FullDisk(Child);

impl FullDisk {
    fn strike(processes: &[i32]) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"]);
        command.args(["-e", "inject=fsync,fdatasync:error=ENOSPC"]);
        for process in processes {
            command.args(["-p", &process.to_string()]);
        }
        let strace = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        attached(processes);
        Self(strace)
    }

    fn relieve(mut self) {
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGINT);
        let _ = self.0.wait();
    }
}

#[test]
fn a_full_disk_refuses_for_now_and_loses_nothing() {
    if !skip::can_run(true, &["strace"]) {
        return;
    }
    let scratch = Scratch::new();
    let site = site(&scratch);
    let daemons: Vec<Daemon> =
        ["lmtp-delivery", "queue-manager", "smtpd"].iter().map(|name| site.start(name)).collect();
    let ledger = Ledger::default();
    let door = Door { port: site.port("smtp"), login: false };
    ledger.send(door).unwrap();
    let full = FullDisk::strike(&daemons[1].workers());
    for _ in 0..5 {
        let refused = ledger.send(door).unwrap_err().to_string();
        assert!(refused.starts_with("45"), "{refused}\n{}", site.log.text());
    }
    full.relieve();
    ledger.send(door).unwrap();
    let accepted = ledger.accepted.into_inner().unwrap();
    assert_eq!(accepted.len(), 2);
    for recipient in RECIPIENTS {
        eventually("both accepted messages", || {
            let found = delivered(&site, recipient);
            accepted.iter().all(|mail| found.contains_key(&mail.message_id)).then_some(())
        });
        assert_eq!(delivered(&site, recipient).len(), 2, "what was refused was delivered");
    }
}
