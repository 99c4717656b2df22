//! `cargo xtask bench`: ours beside the original, in one run, at the same durability. Figures are ratios.

mod dkim;
mod handover;
mod outbound;
mod processes;
mod smtp_in;

use std::path::Path;

use serde_json::json;

use crate::run::{Done, cargo, must};

/// One measured run of one side.
#[derive(Clone, Copy, Debug)]
struct Figure {
    /// Messages accepted per second of wall time.
    rate: f64,
    /// Seconds of CPU, user and system, of all processes of the side, per 1,000 messages.
    cpu: f64,
    /// Largest sum of the proportional set sizes of all processes of the side, in MiB.
    memory: f64,
}

/// Both sides of one load.
struct Comparison {
    load: String,
    ours: Vec<Figure>,
    theirs: Vec<Figure>,
}

/// Messages that `outbound` drains.
const MESSAGES: usize = 5_000;
/// Messages that `handover` hands over.
const HANDED_OVER: usize = 10_000;

/// Runs the named benchmark.
pub fn run(words: &[&str]) -> Done {
    const USAGE: &str = "cargo xtask bench smtp-in|outbound|dkim|handover [--json] [--messages N]";
    let (name, options) = words.split_first().ok_or(USAGE)?;
    let (mut json, mut messages) = (false, None);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match (*option, *name) {
            ("--json", _) => json = true,
            ("--messages", "outbound" | "handover") => {
                let number = options.next().and_then(|number| number.parse().ok());
                messages = Some(number.filter(|number| *number >= 100).ok_or(USAGE)?);
            }
            _ => return Err(USAGE.into()),
        }
    }
    if !nix::unistd::geteuid().is_root() || !Path::new("/usr/sbin/postfix").exists() {
        return Err("a comparison needs root and Debian's postfix".into());
    }
    // Whoever names a directory of binaries has built them.
    if std::env::var_os("THEORIS_BIN_DIR").is_none() {
        must(&mut cargo(&["build", "--release", "--workspace", "--bins", "--quiet"]))?;
    }
    let comparisons = match *name {
        "smtp-in" => smtp_in::run(),
        "outbound" => outbound::run(messages.unwrap_or(MESSAGES)),
        "dkim" => return dkim::run(json),
        "handover" => {
            handover::run(messages.unwrap_or(HANDED_OVER), json);
            return Ok(());
        }
        _ => {
            return Err(format!(
                "no benchmark {name}; there are: smtp-in, outbound, dkim, handover"
            ));
        }
    };
    for comparison in &comparisons {
        if json {
            println!("{}", as_json(name, comparison));
        } else {
            show(comparison);
        }
    }
    Ok(())
}

fn stop(problem: &str) -> ! {
    eprintln!("xtask: {problem}");
    std::process::exit(1)
}

/// The middle of the figures of several runs.
fn median(figures: &[Figure], of: impl Fn(&Figure) -> f64) -> f64 {
    let mut values: Vec<f64> = figures.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn show(comparison: &Comparison) {
    println!("\n{} ({} runs of each, in turn; medians)", comparison.load, comparison.ours.len());
    println!("{:<28} {:>10} {:>10} {:>8}", "", "ours", "Postfix", "ratio");
    type Of = fn(&Figure) -> f64;
    let rows: [(&str, Of); 3] = [
        ("messages/s", |figure| figure.rate),
        ("CPU s per 1,000 messages", |figure| figure.cpu),
        ("memory, MiB (PSS)", |figure| figure.memory),
    ];
    for (name, of) in rows {
        let (ours, theirs) = (median(&comparison.ours, of), median(&comparison.theirs, of));
        println!("{name:<28} {ours:>10.2} {theirs:>10.2} {:>8.2}", ours / theirs);
    }
}

fn as_json(name: &str, comparison: &Comparison) -> String {
    let side = |figures: &[Figure]| {
        json!({
            "rate": median(figures, |figure| figure.rate),
            "cpu_seconds_per_1000": median(figures, |figure| figure.cpu),
            "memory_mib": median(figures, |figure| figure.memory),
        })
    };
    let rate = |figures: &[Figure]| median(figures, |figure| figure.rate);
    json!({
        "benchmark": name,
        "load": comparison.load,
        "runs": comparison.ours.len(),
        "ours": side(&comparison.ours),
        "postfix": side(&comparison.theirs),
        "ratio": rate(&comparison.ours) / rate(&comparison.theirs),
    })
    .to_string()
}
