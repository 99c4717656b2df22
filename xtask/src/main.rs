//! `cargo xtask`: the demo, the tests and the checks of this repository.
#![forbid(unsafe_code)]

mod bench;
mod checks;
mod ci;
mod demo;
mod edges;
mod host;
mod packages;
mod peers;
mod proofs;
mod run;
mod samples;
mod soak;
mod test;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND
  demo [--once]       the daemons on a sample configuration, one message through all of them
  test [SUITE…]       every suite, or these: unit, or a module of tests/src (seams, compliance, …)
  ci                  all that a change must pass
  bench NAME [--json] ours beside the originals: smtp-in, dkim, outbound and handover [--messages N]
  host [RELEASE…]     Debian 12 and 13 with their own systemd in a container: theirs, ours, theirs again
  packages [--from DIRECTORY] [--revision N]
                      target/debian/*.deb: one for each daemon, one for the command
  packages --rpm [...]  target/rpm/*.rpm, for glibc 2.28
  packages --check-rpm FILE…
                      that an .rpm needs no newer one
  edges               which crate may use which
  proofs [--debug] [--all | --rest | X…]
                      that the test each obeyed setting names fails without the setting: all, those
                      not proved by an earlier call, those whose row has X, or a sample of them
  soak maildir [--minutes N] [--seed S]
                      random work of Dovecot's servers and ours on one Maildir, as long as one likes
  samples             `--check` of every daemon on the samples in etc/
  units               `systemd-analyze` on the units, and how exposed each may be
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo", words @ ..] => demo::run(words),
        ["test", suites @ ..] => test::run(suites),
        ["ci"] => ci::run(),
        ["bench", words @ ..] => bench::run(words),
        ["host", words @ ..] => host::run(words),
        ["packages", words @ ..] => packages::run(words),
        ["edges"] => edges::check(),
        ["proofs", words @ ..] => proofs::run(words),
        ["soak", words @ ..] => soak::run(words),
        ["samples"] => samples::check(),
        ["units"] => ci::units(),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("xtask: {problem}");
            ExitCode::FAILURE
        }
    }
}
