//! kill -9 of supervisors and workers of every daemon, with at least ten transactions in flight each time and readers in
//! the mailboxes.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use harness::log::eventually;
use harness::site::Site;
use harness::{Daemon, Scratch, ports};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::reader::Memory;
use super::sender::{Door, Ledger};
use super::{RECIPIENTS, delivered, site};

const KILLS: usize = 50;
const SENDERS: usize = 16;
const READERS: usize = 2;
const IN_FLIGHT: usize = 10;
/// In the order in which they are started.
const DAEMONS: [&str; 6] = ["authd", "lmtp-delivery", "queue-manager", "smtpd", "imapd", "pop3d"];
/// The whole of the queue has to be delivered within this time after the last kill.
const DRAIN: Duration = Duration::from_secs(120);
/// Each line of the log may be about a delivery; without one, the mailboxes are looked at as often as this.
const LOOK: Duration = Duration::from_secs(5);

#[test]
fn what_got_a_250_is_delivered_whoever_is_killed() {
    let scratch = Scratch::new();
    let site = site(&scratch);
    let login = open_a_door_with_login(&site);
    let mut daemons: Vec<(&str, Daemon)> =
        DAEMONS.iter().map(|name| (*name, site.start(name))).collect();
    let (ledger, memory) = (Ledger::default(), Memory::default());
    let mut kills = Vec::new();
    std::thread::scope(|scope| {
        for number in 0..SENDERS {
            let door = match number % 2 {
                0 => Door { port: site.port("smtp"), login: false },
                _ => Door { port: login, login: true },
            };
            let ledger = &ledger;
            scope.spawn(move || ledger.send_all(door));
        }
        for _ in 0..READERS {
            scope.spawn(|| memory.imap_all(site.port("imap"), RECIPIENTS[0], &ledger));
            scope.spawn(|| memory.pop3_all(site.port("pop3"), RECIPIENTS[1], &ledger));
        }
        for number in 0..KILLS {
            eventually("ten transactions in flight", || {
                (ledger.in_flight.load(Ordering::Relaxed) >= IN_FLIGHT).then_some(())
            });
            let begun = SystemTime::now();
            let index = number % daemons.len();
            let round = number / daemons.len();
            let (name, daemon) = &mut daemons[index];
            if round.is_multiple_of(2) {
                let workers = daemon.workers();
                if let Some(worker) = workers.get(round / 2 % workers.len().max(1)) {
                    let _ = kill(Pid::from_raw(*worker), Signal::SIGKILL);
                }
            } else {
                let _down = ledger.down.write();
                daemon.kill();
                kills.push(begun..SystemTime::now());
                *daemon = site.start(name);
                continue;
            }
            kills.push(begun..SystemTime::now());
        }
        ledger.stop.store(true, Ordering::Relaxed);
    });
    let wrong = ledger.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "mail was refused for ever: {wrong:#?}");
    let repeated = account_for(&site, &ledger, &kills);
    memory.settle(site.port("imap"), site.port("pop3"), RECIPIENTS);
    let [imap, pop3] = *memory.sessions.lock().unwrap();
    assert!(imap > 0 && pop3 > 0, "{imap} IMAP and {pop3} POP3 sessions");
    println!(
        "{} messages accepted, {KILLS} kills, {repeated} deliveries repeated, {imap} IMAP and {pop3} POP3 sessions",
        ledger.accepted.lock().unwrap().len()
    );
}

/// A second SMTP service on which one sends only after a login without TLS, and plain logins for the readers.
fn open_a_door_with_login(site: &Site) -> u16 {
    let port = ports::free();
    change(&site.postfix().join("master.cf"), |text| {
        format!(
            "{text}127.0.0.1:{port} inet n - n - - smtpd\n  -o smtpd_sasl_auth_enable=yes\n  \
             -o smtpd_tls_security_level=none\n  -o smtpd_tls_auth_only=no\n  \
             -o smtpd_client_restrictions=permit_sasl_authenticated,reject\n"
        )
    });
    change(&site.dovecot(), |text| {
        text.replace("ssl = required", "ssl = yes")
            .replace("disable_plaintext_auth = yes", "disable_plaintext_auth = no")
    });
    port
}

fn change(path: &Path, change: impl FnOnce(String) -> String) {
    std::fs::write(path, change(std::fs::read_to_string(path).unwrap())).unwrap();
}

/// Waits until everything that was accepted is in its mailboxes, and counts the copies: a message comes to a
/// recipient at most once more for each kill that it lived through. Returns how many copies there are too many.
fn account_for(site: &Site, ledger: &Ledger, kills: &[Range<SystemTime>]) -> usize {
    let accepted = ledger.accepted.lock().unwrap();
    assert!(accepted.len() > KILLS, "only {} messages were accepted", accepted.len());
    let end = Instant::now() + DRAIN;
    let mut repeated = 0;
    for recipient in RECIPIENTS {
        let found = loop {
            let lines = site.log.lines().len();
            let found = delivered(site, recipient);
            let missing: Vec<_> =
                accepted.iter().filter(|mail| !found.contains_key(&mail.message_id)).collect();
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
            site.log.wait_for_more(lines, LOOK);
        };
        for mail in accepted.iter() {
            let mut copies = found[&mail.message_id].clone();
            copies.sort_unstable();
            let last = *copies.last().unwrap();
            // Whoever is killed is looked for first, so a kill takes its time.
            let meets = |kill: &&Range<SystemTime>| mail.since < kill.end && kill.start < last;
            let lived_through = kills.iter().filter(meets).count();
            assert!(
                copies.len() <= 1 + lived_through,
                "{} copies of {mail:?} for {recipient}, {lived_through} kills: {copies:?}",
                copies.len()
            );
            repeated += copies.len() - 1;
        }
    }
    repeated
}
