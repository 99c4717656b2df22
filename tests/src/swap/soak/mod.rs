//! Dovecot's connections and ours on one Maildir with its sub-folders: random work of several sessions at once, and a model
//! that knows what each of them was promised.
//!
//! No promise may be broken: a UID means one message for ever, UIDVALIDITY stays, a flag or keyword that was stored is
//! there for both, a message that was accepted is there until its owner takes it away, and neither log complains.
//! `cargo xtask soak maildir` runs the same for as long as one likes.

mod checks;
mod content;
mod deliveries;
mod folders;
mod idler;
mod imap;
mod losses;
mod messages;
mod model;
mod pop3;
mod servers;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use content::Dice;
use deliveries::deliver;
use idler::Idler;
use losses::Renames;
use model::Model;
use pop3::Collector;
use servers::{Servers, Side};
use worker::Worker;

/// IMAP sessions that change things; each is the only one to store its own words, so that the model knows their values.
const WORKERS: usize = 4;
const COLLECTORS: usize = 2;
/// In a round: what each worker does, how often each collector logs in, how many messages each LMTP server is given.
const STEPS: usize = 40;
const LOGINS: usize = 3;
const DELIVERIES: usize = 12;
/// Without `THEORIS_SOAK_SECONDS`.
const ROUNDS: usize = 4;

/// What all sessions share.
struct World {
    servers: Servers,
    model: Mutex<Model>,
    began: Instant,
    renames: Mutex<Option<Renames>>,
}

impl World {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn dovecot_and_ours_at_random_work_on_one_maildir() {
    let Some(servers) = Servers::start() else { return };
    let seed = number("THEORIS_SOAK_SEED").unwrap_or_else(content::fresh_seed);
    println!("THEORIS_SOAK_SEED={seed}");
    let began = Instant::now();
    let long = number("THEORIS_SOAK_SECONDS").map(Duration::from_secs);
    let renames = Mutex::new(Renames::from_environment());
    let world = World { servers, model: Mutex::new(Model::default()), began, renames };
    checks::prepare(&world);
    let dice = |number: usize| Dice::new(seed.wrapping_mul(1000).wrapping_add(number as u64));
    let mut workers: Vec<Worker<'_>> =
        (0..WORKERS).map(|number| Worker::new(&world, number, dice(number))).collect();
    let mut collectors: Vec<Collector<'_>> = (0..COLLECTORS)
        .map(|number| Collector::new(&world, WORKERS + number, dice(WORKERS + number)))
        .collect();
    let mut idlers = Side::BOTH.map(|side| Idler::new(&world, side));
    let mut rounds = 0;
    while long.map_or(rounds < ROUNDS, |long| began.elapsed() < long) {
        round(&world, &mut workers, &mut collectors, &mut idlers);
        checks::all(&world, &mut workers, &mut idlers);
        rounds += 1;
        if long.is_some() {
            println!(
                "{:>6} s, round {rounds}: {}",
                began.elapsed().as_secs(),
                world.model().counts()
            );
        }
    }
    println!(
        "{rounds} rounds in {:.1} s: {}",
        began.elapsed().as_secs_f32(),
        world.model().counts()
    );
    world.tell_losses();
}

/// Everybody at work at once, each for a bounded number of steps.
fn round(
    world: &World,
    workers: &mut [Worker<'_>],
    collectors: &mut [Collector<'_>],
    idlers: &mut [Idler<'_>],
) {
    world.model().begin_round();
    if let Some(renames) = world.renames.lock().unwrap().as_mut() {
        renames.begin_round();
    }
    let (ended, failed) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for idler in idlers {
            scope.spawn(|| idler.watch(&ended));
        }
        let mut busy = Vec::new();
        for worker in workers {
            busy.push(scope.spawn(|| worker.work(STEPS)));
        }
        for collector in collectors {
            busy.push(scope.spawn(|| collector.collect(LOGINS)));
        }
        for side in Side::BOTH {
            busy.push(scope.spawn(move || deliver(world, side, DELIVERIES)));
        }
        for thread in busy {
            failed.fetch_or(thread.join().is_err(), Ordering::SeqCst);
        }
        ended.store(true, Ordering::SeqCst);
        // Wakes those who idle; what the failure was, the thread has said.
        deliver(world, Side::Theirs, 1);
    });
    assert!(!failed.load(Ordering::SeqCst), "a session has failed: see above");
}
