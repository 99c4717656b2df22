//! The command lines of `theoris adopt`, `theoris release` and `theoris guard`.

use std::time::Duration;

use super::guard::{Guard, Watch};
use super::services::{Services, Systemd};
use super::{Manner, Outcome, Places, prospect, record, release_plan};
use crate::command::arguments::{Arguments, Known};
use crate::command::paths::{self, Paths};
use crate::command::{Command, code};
use crate::plank::Plank;

pub const ADOPT: Command = Command {
    name: "adopt",
    usage: "PLANK… [--dry-run] [--gap] [--patience SECONDS] [--state DIRECTORY] [--units DIRECTORY] [-c DIRECTORY] [--dovecot FILE] [-x FILE] [--theoris FILE] [--daemons DIRECTORY]",
    about: "swaps planks in, all or none: dkim, smtp-out, pop3, imap",
    run: |words| swapped("adopt", words),
};

pub const RELEASE: Command = Command {
    name: "release",
    usage: "PLANK… [--dry-run] [--gap] [--patience SECONDS] [--state DIRECTORY] [--units DIRECTORY]",
    about: "swaps planks out again",
    run: |words| swapped("release", words),
};

pub const GUARD: Command = Command {
    name: "guard",
    usage: "[--once] [--state DIRECTORY]",
    about: "keeps what was adopted, and tells what others change beside it",
    run: watched,
};

const OPTIONS: [Known; 6] = [
    ("--dry-run", false),
    ("--once", false),
    ("--gap", false),
    ("--patience", true),
    ("--state", true),
    ("--units", true),
];

/// What was asked for.
#[derive(Debug)]
struct Asked {
    planks: Vec<Plank>,
    places: Places,
    manner: Manner,
    dry_run: bool,
    once: bool,
}

impl Asked {
    fn services(&self) -> Systemd {
        Systemd { units: self.places.units.clone(), state: self.places.state.clone() }
    }
}

fn parse(words: &[String]) -> Result<Asked, String> {
    let known: Vec<Known> = OPTIONS.into_iter().chain(paths::OPTIONS).collect();
    let arguments = Arguments::read(words, &known)?;
    let paths = Paths::of(&arguments);
    let usual = Places::default();
    let place = |option: &str, usual| arguments.value(option).map_or(usual, Into::into);
    let places = Places {
        postfix: paths.postfix.path,
        dovecot: paths.dovecot.path,
        opendkim: paths.opendkim.path,
        theoris: Some(paths.theoris).filter(|named| named.by_operator).map(|named| named.path),
        daemons: paths.daemons,
        state: place("--state", usual.state),
        units: place("--units", usual.units),
    };
    let mut manner = Manner { gap: arguments.has("--gap"), ..Manner::default() };
    if let Some(seconds) = arguments.value("--patience") {
        let seconds = seconds.parse().map_err(|_| "--patience needs seconds")?;
        manner.patience = Duration::from_secs(seconds);
    }
    let mut planks = Vec::new();
    for name in &arguments.operands {
        match Plank::named(name) {
            Some(plank) if planks.contains(&plank) => {}
            Some(plank) => planks.push(plank),
            None => {
                let all = Plank::ALL.map(Plank::name).join(", ");
                return Err(format!("there is no plank {name}; the planks are {all}"));
            }
        }
    }
    let (dry_run, once) = (arguments.has("--dry-run"), arguments.has("--once"));
    Ok(Asked { planks, places, manner, dry_run, once })
}

fn swapped(verb: &str, words: &[String]) -> Result<u8, String> {
    let asked = parse(words)?;
    if asked.planks.is_empty() {
        return Err("which planks?".into());
    }
    let mut services = asked.services();
    Ok(match (verb, asked.dry_run) {
        ("adopt", true) => show_adoption(&asked, &mut services),
        (_, true) => show_release(&asked),
        (verb, false) => swap(verb, &asked, &mut services),
    })
}

fn watched(words: &[String]) -> Result<u8, String> {
    let asked = parse(words)?;
    let mut services = asked.services();
    Ok(watch(&asked, &mut services))
}

fn swap(verb: &str, asked: &Asked, services: &mut dyn Services) -> u8 {
    let mut tell = |line: &str| println!("{line}");
    let run = if verb == "adopt" { super::adopt } else { super::release };
    match run(&asked.planks, &asked.places, asked.manner, services, &mut tell) {
        Ok(Outcome::Done) => {
            watch_over(&asked.places, services);
            code::FINE
        }
        Ok(Outcome::Refused(reasons)) => {
            reasons.iter().for_each(|why| eprintln!("{why}"));
            eprintln!("theoris {verb}: nothing was changed");
            code::CRITICAL
        }
        Ok(Outcome::RolledBack(why)) => {
            eprintln!("theoris {verb}: {why}\ntheoris {verb}: everything is as it was before");
            code::CRITICAL
        }
        Ok(Outcome::HalfWay(why)) => {
            eprintln!("theoris {verb}: {why}\ntheoris {verb}: not complete; the next call goes on");
            code::CRITICAL
        }
        Err(why) => {
            eprintln!("theoris {verb}: {why}");
            code::CRITICAL
        }
    }
}

/// The guard runs as long as anything is adopted.
fn watch_over(places: &Places, services: &mut dyn Services) {
    let guarded =
        record::adopted(&places.state).and_then(|adopted| services.guard(!adopted.is_empty()));
    if let Err(why) = guarded {
        println!("{why}");
    }
}

fn show_adoption(asked: &Asked, services: &mut dyn Services) -> u8 {
    let adopted = match record::adopted(&asked.places.state) {
        Ok(adopted) => adopted,
        Err(why) => {
            eprintln!("theoris adopt: {why}");
            return code::CRITICAL;
        }
    };
    let mut worst = code::FINE;
    for plank in &asked.planks {
        let name = plank.name();
        if adopted.contains_key(plank) {
            println!("{name}: is adopted already");
            worst = code::CRITICAL;
            continue;
        }
        let prospect = prospect::of(*plank, &asked.places, asked.manner, services);
        for why in &prospect.refusals {
            println!("{name}: cannot be adopted: {why}");
            worst = code::CRITICAL;
        }
        if prospect.refusals.is_empty() {
            prospect.warnings.iter().for_each(|warning| println!("{name}: {warning}"));
            prospect.there.iter().for_each(|step| println!("{name}: {step}"));
            prospect.changes.iter().for_each(|change| println!("{change}"));
        }
    }
    worst
}

fn show_release(asked: &Asked) -> u8 {
    let mut worst = code::FINE;
    for plank in &asked.planks {
        let name = plank.name();
        match release_plan(*plank, &asked.places) {
            Ok(Some(steps)) => steps.iter().for_each(|step| println!("{name}: {step}")),
            Ok(None) => {
                println!("{name}: is not adopted");
                worst = code::CRITICAL;
            }
            Err(why) => {
                eprintln!("theoris release: {why}");
                worst = code::CRITICAL;
            }
        }
    }
    worst
}

/// The longest between two looks of the guard: what no file tells is seen then.
const PAUSE: Duration = Duration::from_secs(10);

fn watch(asked: &Asked, services: &mut dyn Services) -> u8 {
    let mut guard = Guard::default();
    let mut look =
        |guard: &mut Guard| guard.look(&asked.places, services).unwrap_or_else(|why| vec![why.0]);
    if asked.once {
        let told = look(&mut guard);
        told.iter().for_each(|line| println!("{line}"));
        return if told.is_empty() { code::FINE } else { code::WARNING };
    }
    let watch = match Watch::new() {
        Ok(watch) => watch,
        Err(error) => {
            eprintln!("theoris guard: {error}");
            return code::CRITICAL;
        }
    };
    let mut before = Vec::new();
    loop {
        watch.over(&asked.places);
        let told = look(&mut guard);
        told.iter().filter(|line| !before.contains(*line)).for_each(|line| println!("{line}"));
        before = told;
        if let Err(error) = watch.wait(PAUSE) {
            eprintln!("theoris guard: {error}");
            return code::CRITICAL;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Asked, String> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn words_are_read_and_unknown_ones_refused() {
        let asked = read("dkim smtp-out dkim --dry-run --patience 5 --state /s").unwrap();
        assert_eq!(asked.planks, [Plank::Dkim, Plank::SmtpOut]);
        assert!(asked.dry_run && asked.manner.patience == Duration::from_secs(5));
        assert_eq!(asked.places.state, std::path::Path::new("/s"));
        assert!(read("--state").unwrap_err().contains("needs a value"));
        assert!(read("smtp").unwrap_err().contains("there is no plank smtp"));
    }
}
