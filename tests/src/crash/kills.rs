//! kill -9 of supervisors and workers, with at least ten transactions in flight each time.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use harness::log::eventually;
use harness::{Daemon, Scratch};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::sender::Ledger;
use super::{RECIPIENTS, delivered, site};

const KILLS: usize = 50;
const SENDERS: usize = 16;
const IN_FLIGHT: usize = 10;
/// The whole of the queue has to be delivered within this time after the last kill.
const DRAIN: Duration = Duration::from_secs(120);

/// The daemons on a message's way, in the order in which they are started.
const DAEMONS: [&str; 3] = ["lmtp-delivery", "queue-manager", "smtpd"];

#[test]
fn what_got_a_250_is_delivered_whoever_is_killed() {
    let scratch = Scratch::new();
    let site = site(&scratch);
    let mut daemons: Vec<(&str, Daemon)> =
        DAEMONS.iter().map(|name| (*name, site.start(name))).collect();
    let ledger = Ledger::default();
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| ledger.send_all(site.port("smtp")));
        }
        for number in 0..KILLS {
            eventually("ten transactions in flight", || {
                (ledger.in_flight.load(Ordering::Relaxed) >= IN_FLIGHT).then_some(())
            });
            let index = number % daemons.len();
            let (name, daemon) = &mut daemons[index];
            if (number / DAEMONS.len()).is_multiple_of(2) {
                let workers = daemon.workers();
                if let Some(worker) = workers.get(number / 6 % workers.len().max(1)) {
                    let _ = kill(Pid::from_raw(*worker), Signal::SIGKILL);
                }
            } else {
                daemon.kill();
                *daemon = site.start(name);
            }
        }
        ledger.stop.store(true, Ordering::Relaxed);
    });
    let accepted = ledger.accepted.into_inner().unwrap();
    assert!(accepted.len() > KILLS, "only {} messages were accepted", accepted.len());
    let end = Instant::now() + DRAIN;
    let mut repeated = 0;
    for recipient in RECIPIENTS {
        let found = loop {
            let found = delivered(&site, recipient);
            let missing: Vec<_> =
                accepted.iter().filter(|(id, _)| !found.contains_key(id)).collect();
            if missing.is_empty() {
                break found;
            }
            assert!(
                Instant::now() < end,
                "{recipient} has not got {} of {} messages: {missing:?}\n{}",
                missing.len(),
                accepted.len(),
                site.log.text()
            );
            std::thread::sleep(Duration::from_millis(50));
        };
        for (id, copies) in &found {
            assert!(*copies <= 1 + KILLS, "{copies} copies of {id} for {recipient}");
            repeated += copies - 1;
        }
    }
    // Only what was being delivered at a kill may come twice, and only once for each kill.
    assert!(repeated <= KILLS * SENDERS * RECIPIENTS.len(), "{repeated} deliveries were repeated");
    println!("{} messages accepted, {KILLS} kills, {repeated} deliveries repeated", accepted.len());
}
