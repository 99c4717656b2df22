//! `cargo xtask demo`: the daemons on the sample `guide`, one message through all of them, and settings for a mail program.
//!
//! Needs Rust and a C compiler. Everything happens below one private directory, on loopback, as an ordinary user;
//! root becomes a uid that nobody has before anything of the demo runs.

mod journey;
mod pam;
mod read;
mod user;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::site::{DAEMONS, Host, Site};
use harness::{Daemon, Scratch};

use self::journey::Cast;

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

/// Starts the daemons, sends a message through them and shows what became of it.
fn perform(samples: &Path, state: &Path, options: &Options) -> Done {
    let (sample, cast) =
        if options.pam { ("vps", journey::VPS) } else { ("guide", journey::GUIDE) };
    println!("laying out etc/{sample} below {}", state.display());
    let site = Site::render_for(&Host::default(), &samples.join(sample), state, preferred_port);
    if options.pam {
        pam::use_own_service(&site)?;
    }
    let mut daemons: Vec<Daemon> = Vec::new();
    for name in DAEMONS {
        daemons.push(site.start(name));
        println!("started {name}");
    }
    let sent = journey::submit(&site, &cast);
    journey::show(&site, &sent);
    read::by_imap(&site, cast.readers.first().ok_or("nobody reads")?, &sent)?;
    read::by_pop3(&site, cast.readers.last().ok_or("nobody reads")?, &sent)?;
    println!(
        "\nOK: submitted with STARTTLS and AUTH, queued, delivered to a Maildir, read by IMAP and POP3."
    );
    if !options.once {
        // Only now: a blocked signal would stay blocked in every process started later.
        let end = stop_on_signals()?;
        settings(&site, &cast);
        while !end.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("\nstopping");
    }
    for mut daemon in daemons.into_iter().rev() {
        daemon.stop();
    }
    Ok(())
}

/// The standard port plus 2000 where it is free: 2587 is easier to type than 27311.
fn preferred_port(standard: u16) -> u16 {
    let wished = if standard == 25 { 2525 } else { 2000 + standard };
    match std::net::TcpListener::bind(("127.0.0.1", wished)) {
        Ok(_) => wished,
        Err(_) => harness::ports::free(),
    }
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
        cast.sender,
        cast.login,
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
