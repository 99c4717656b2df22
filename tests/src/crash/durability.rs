//! kill -9 cannot show a missing fsync: the kernel still has the data. The order of system calls can.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use harness::strace::Strace;
use harness::{Daemon, Scratch, skip};

use super::sender::{Accepted, Door, Ledger};
use super::site;

#[test]
fn each_250_is_preceded_by_the_fsync_of_its_file() {
    if !skip::can_run(true, &["strace"]) {
        return;
    }
    let scratch = Scratch::new();
    let site = site(&scratch);
    let daemons: Vec<Daemon> =
        ["lmtp-delivery", "queue-manager", "smtpd"].iter().map(|name| site.start(name)).collect();
    let workers: Vec<i32> = daemons.iter().flat_map(Daemon::workers).collect();
    let calls = "fsync,fdatasync,write,writev,sendto,sendmsg";
    let strace = Strace::attach(&workers, calls, &scratch.join("strace"));
    let ledger = Ledger::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                (0..10).for_each(|_| {
                    ledger.send(Door { port: site.port("smtp"), login: false }).unwrap()
                })
            });
        }
    });
    assert_eq!(ledger.in_flight.load(Ordering::Relaxed), 0);
    let record = strace.finish();
    let (synced_first, promised) = promises(&record);
    for Accepted { message_id, queue_id, .. } in ledger.accepted.into_inner().unwrap() {
        assert!(promised.contains(&queue_id), "the 250 of {message_id} ({queue_id}) is not seen");
        assert!(synced_first.contains(&queue_id), "{queue_id} got its 250 before an fsync");
    }
}

/// Queue ids whose 250 came after an fsync of their file, and all that got a 250.
fn promises(record: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut synced, mut first, mut promised) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut unfinished: BTreeMap<&str, String> = BTreeMap::new();
    for line in record.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        // A write counts from its beginning, an fsync from its end.
        if let Some(queue_id) = queued_as(call) {
            if synced.contains(&queue_id) {
                first.insert(queue_id.clone());
            }
            promised.insert(queue_id);
        }
        if call.contains("sync(") {
            let name = synced_file(call);
            match (call.contains("<unfinished"), name) {
                (true, Some(name)) => drop(unfinished.insert(pid, name)),
                (false, Some(name)) if call.ends_with("= 0") => drop(synced.insert(name)),
                _ => {}
            }
        } else if call.contains("sync resumed") && call.ends_with("= 0") {
            synced.extend(unfinished.remove(pid));
        }
    }
    (first, promised)
}

/// The file's name in `fsync(12</var/spool/postfix/incoming/4XYZ>) = 0`.
fn synced_file(call: &str) -> Option<String> {
    let path = call.split_once('<')?.1.split_once('>')?.0;
    Some(path.rsplit('/').next()?.to_owned())
}

fn queued_as(call: &str) -> Option<String> {
    let (_, id) = call.split_once("queued as ")?;
    Some(id.chars().take_while(char::is_ascii_alphanumeric).collect())
}

#[test]
fn the_record_is_read_in_the_order_of_completion() {
    let record = "\
1 10:00:00.1 fsync(5</q/incoming/4A>) = 0
2 10:00:00.2 write(9<socket:[1]>, \"250 2.0.0 Ok: queued as 4A\\r\\n\", 29) = 29
1 10:00:00.3 fdatasync(5</q/incoming/4B> <unfinished ...>
2 10:00:00.4 sendto(9<socket:[1]>, \"250 2.0.0 Ok: queued as 4B\\r\\n\", 29, 0, NULL, 0) = 29
1 10:00:00.5 <... fdatasync resumed>) = 0
1 10:00:00.6 fsync(5</q/incoming/4C> <unfinished ...>
1 10:00:00.7 <... fsync resumed>)      = 0
2 10:00:00.8 writev(9<socket:[1]>, [{iov_base=\"250 2.0.0 Ok: queued as 4C\\r\\n\"}], 1) = 29
1 10:00:00.9 fsync(5</q/incoming/4D>) = -1 ENOSPC (No space left on device)
2 10:00:01.0 write(9<socket:[1]>, \"250 2.0.0 Ok: queued as 4D\\r\\n\", 29) = 29
";
    let (first, promised) = promises(record);
    assert_eq!(first.into_iter().collect::<Vec<_>>(), ["4A", "4C"]);
    assert_eq!(promised.len(), 4);
}
