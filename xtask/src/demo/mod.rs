//! `cargo xtask demo`: two hosts with all daemons and a name server; a message out, one in, one that bounces; and settings for
//! a mail program.
//!
//! Needs Rust and a C compiler. Everything happens below one private directory, on loopback, as an ordinary user;
//! root becomes a uid that nobody has before anything of the demo runs.

mod journey;
mod pam;
mod read;
mod user;
mod world;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::Scratch;
use harness::site::Site;

use self::journey::{ABROAD, Cast};
use self::read::holds;
use self::world::World;

use crate::run::{Done, cargo, must, release_directory, root};

const USAGE: &str = "\
cargo xtask demo [--once] [--pam]
  --once  ends after the check, its exit status tells
  --pam   as root: system users through a PAM service of the demo's own (sample vps)";

/// What the demo was asked to do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    once: bool,
    pam: bool,
    /// Set in the child that an ordinary uid runs: where programs, samples and state are.
    inside: Option<PathBuf>,
}

impl Options {
    /// # Errors
    ///
    /// The usage, for a word that is not known.
    pub fn read(words: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--once" => options.once = true,
                "--pam" => options.pam = true,
                "--inside" => options.inside = words.next().map(PathBuf::from),
                _ => return Err(USAGE.to_owned()),
            }
        }
        Ok(options)
    }
}

/// Builds, then runs the demo, as an ordinary user.
pub fn run(words: &[&str]) -> Done {
    let options = Options::read(words)?;
    if let Some(directory) = &options.inside {
        return perform(&directory.join("etc"), &directory.join("state"), &options);
    }
    if options.pam && !nix::unistd::geteuid().is_root() {
        return Err("--pam needs root: PAM reads /etc/shadow".into());
    }
    let start = Instant::now();
    println!("building the daemons (the first time takes some minutes)");
    must(&mut cargo(&["build", "--release", "--workspace", "--bins"]))?;
    println!("built in {} s", start.elapsed().as_secs());
    let scratch = Scratch::new();
    if options.pam {
        return pam::run_in_own_namespace(&root().join("etc"), scratch.path(), options.once);
    }
    if nix::unistd::geteuid().is_root() {
        return user::run_as_nobody(
            &release_directory(),
            &root().join("etc"),
            scratch.path(),
            options.once,
        );
    }
    perform(&root().join("etc"), &scratch.directory("state"), &options)
}

/// Starts both hosts, sends messages between them and shows what became of them.
fn perform(samples: &Path, state: &Path, options: &Options) -> Done {
    let (sample, cast) =
        if options.pam { ("vps", journey::VPS) } else { ("guide", journey::GUIDE) };
    println!(
        "laying out etc/{sample} as example.com and etc/guide as example.org below {}",
        state.display()
    );
    let mut world = World::lay(samples, sample, state);
    if options.pam {
        pam::use_own_service(&world.here)?;
    }
    world.start();
    out(&world, &cast)?;
    into(&world, &cast)?;
    bounce(&world, &cast)?;
    println!(
        "\nOK: a message went out, signed here and verified there; one came in, signed there and verified here; one bounced."
    );
    if !options.once {
        // Only now: a blocked signal would stay blocked in every process started later.
        let end = stop_on_signals()?;
        settings(&world.here, &cast);
        while !end.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("\nstopping");
    }
    world.stop();
    Ok(())
}

/// Submitted here with STARTTLS and AUTH, signed, sent to the other host by its MX, verified and read there.
fn out(world: &World, cast: &Cast) -> Done {
    let World { here, there, .. } = world;
    let sent = journey::submit(here, &cast.sender, ABROAD.address, "The first voyage");
    let id = journey::arrived(there, &sent.message_id);
    journey::show(
        &sent,
        &[("example.com", here, &[&*sent.queue_id]), ("example.org", there, &[&*id])],
    );
    let read = read::by_imap(there, ABROAD.login);
    holds(
        &read,
        &[
            &*sent.message_id,
            "DKIM-Signature: v=1; a=rsa-sha256;",
            "d=example.com",
            "Authentication-Results: mail.example.org; dkim=pass",
        ],
    )
}

/// Written on the other host to one of our addresses, read here by IMAP and POP3.
fn into(world: &World, cast: &Cast) -> Done {
    let World { here, there, .. } = world;
    let sent = journey::submit(there, &ABROAD, cast.recipient, "The voyage back");
    let id = journey::arrived(here, &sent.message_id);
    journey::show(
        &sent,
        &[("example.org", there, &[&*sent.queue_id]), ("example.com", here, &[&*id])],
    );
    let verified = "Authentication-Results: mail.example.com; dkim=pass";
    let reader = cast.readers.first().ok_or("nobody reads")?;
    holds(&read::by_imap(here, reader), &[&*sent.message_id, verified])?;
    let reader = cast.readers.last().ok_or("nobody reads")?;
    holds(&read::by_pop3(here, reader)?, &[&*sent.message_id, verified])
}

/// To somebody whom the other host does not know: the sender gets a notice.
fn bounce(world: &World, cast: &Cast) -> Done {
    let World { here, there, .. } = world;
    let sent = journey::submit(here, &cast.sender, "nobody@example.org", "To nobody");
    let id = journey::bounced(here, &sent);
    journey::show(
        &sent,
        &[("example.com", here, &[&*sent.queue_id, &*id]), ("example.org", there, &[])],
    );
    let read = read::by_imap(here, cast.sender.login);
    holds(
        &read,
        &[
            "Undelivered Mail Returned to Sender",
            "Final-Recipient: rfc822; nobody@example.org",
            "Status: 5.1.1",
            &*sent.message_id,
        ],
    )
}

fn settings(site: &Site, cast: &Cast) {
    println!(
        "\n\
         To try it with a mail program (Thunderbird: configure manually), as long as this runs:\n\
         \n\
         \x20 address    {}          user name {}, password secret\n\
         \x20 IMAP       127.0.0.1 port {}         SSL/TLS, normal password\n\
         \x20 POP3       127.0.0.1 port {}         SSL/TLS\n\
         \x20 outgoing   127.0.0.1 port {}         STARTTLS, normal password (or port {} with SSL/TLS)\n\
         \x20 authority  {}\n\
         \n\
         The daemons' files: {}\n\
         Ctrl-C ends it and takes everything away.",
        cast.sender.address,
        cast.sender.login,
        site.port("imaps"),
        site.port("pop3s"),
        site.port("submission"),
        site.port("smtps"),
        site.ca.display(),
        site.root().display(),
    );
}

/// A flag that SIGINT and SIGTERM raise.
fn stop_on_signals() -> Result<&'static AtomicBool, String> {
    static END: AtomicBool = AtomicBool::new(false);
    use nix::sys::signal::{SigSet, Signal};
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().map_err(|error| format!("signals: {error}"))?;
    std::thread::spawn(move || {
        let _ = signals.wait();
        END.store(true, Ordering::Relaxed);
    });
    Ok(&END)
}
