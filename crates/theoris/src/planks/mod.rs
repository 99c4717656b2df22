//! `theoris adopt` and `theoris release`: one service of a running host swapped for ours, and back.
//!
//! A plank is a list of [`Step`]s there and a list back. All or nothing: whatever goes wrong on the way there is answered
//! by the whole way back, whose steps may be done however far the way there had come. The same way back stands in a
//! journal before the first step is done, so a run that was killed is undone, or its release completed, by the next one.

mod bound;
mod catch;
pub mod command;
mod dovecot;
mod filter;
pub mod guard;
pub mod hand;
mod hold;
#[cfg(test)]
mod lingering;
mod logins;
pub mod marks;
mod ports;
mod postfix;
pub mod process;
mod prospect;
mod record;
mod rewrite;
pub mod services;
mod steps;
mod unsigned;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::plank::Plank;
pub(crate) use hand::WITH_SOCKET;
pub use prospect::Prospect;
use record::{Adopted, Journal, Record, Undertaking};
use services::Services;
use steps::Run;
pub use steps::Step;

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Places {
    /// Postfix's configuration directory.
    pub postfix: PathBuf,
    pub dovecot: PathBuf,
    pub opendkim: PathBuf,
    pub theoris: Option<PathBuf>,
    /// Where our daemons are installed.
    pub daemons: PathBuf,
    /// What stands here survives a reboot.
    pub state: PathBuf,
    /// Where drop-ins of the running system stand.
    pub units: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            postfix: "/etc/postfix".into(),
            dovecot: "/etc/dovecot/dovecot.conf".into(),
            opendkim: "/etc/opendkim.conf".into(),
            theoris: None,
            daemons: "/usr/libexec/theoris".into(),
            state: "/var/lib/theoris".into(),
            units: "/run/systemd/system".into(),
        }
    }
}

/// How to go about it.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// How long to wait for those who are being served.
    pub patience: Duration,
    /// Swap with a short gap, as on kernels that hand no sockets over.
    pub gap: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { patience: Duration::from_secs(600), gap: false }
    }
}

/// What went wrong, in a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mishap(pub String);

impl Mishap {
    fn file(path: &Path, error: &io::Error) -> Self {
        let why = match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
            io::ErrorKind::StorageFull => "no space is left".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied; run it as root".to_owned(),
            _ => error.to_string(),
        };
        Self(format!("{}: {why}", path.display()))
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Nothing was begun; why.
    Refused(Vec<String>),
    /// It went wrong, and everything is as it was before; why.
    RolledBack(String),
    /// It went wrong, and so did the way back; the next run tries it again.
    HalfWay(String),
}

/// Swaps planks in, all or none.
///
/// # Errors
///
/// When not even the state directory can be used.
pub fn adopt(
    planks: &[Plank],
    places: &Places,
    manner: Manner,
    services: &mut dyn Services,
    tell: &mut dyn FnMut(&str),
) -> Result<Outcome, Mishap> {
    let record = Record::open(&places.state)?;
    if let Some(outcome) = recover(&record, manner, services, tell)? {
        return Ok(outcome);
    }
    let mut adopted = record.adopted()?;
    let mut prospects = Vec::new();
    let mut refused = Vec::new();
    for plank in planks {
        let prospect = match adopted.contains_key(plank) {
            true => Prospect::refused(*plank, format!("{} is adopted already", plank.name())),
            false => prospect::of(*plank, places, manner, services),
        };
        refused.extend(prospect.refusals.iter().cloned());
        prospects.push(prospect);
    }
    if !refused.is_empty() {
        return Ok(Outcome::Refused(refused));
    }
    let mut journal = Journal { adopts: true, planks: Vec::new(), step: String::new() };
    for prospect in &prospects {
        journal.planks.push(Undertaking { plank: prospect.plank, back: prospect.back.clone() });
        if let Err(why) = forward(prospect, &record, &mut journal, manner, services, tell) {
            tell(&format!("{}: {why}; going back", prospect.plank.name()));
            return back(&record, &journal, manner, services, tell).map(|undone| match undone {
                None => Outcome::RolledBack(why.0),
                Some(half) => Outcome::HalfWay(format!("{why}; and {half}")),
            });
        }
    }
    for prospect in prospects {
        let held = prospect.held.seen(services, prospect.plank.daemon());
        adopted.insert(prospect.plank, Adopted { back: prospect.back, held });
    }
    record.set_adopted(&adopted)?;
    record.end_journal()?;
    Ok(Outcome::Done)
}

fn forward(
    prospect: &Prospect,
    record: &Record,
    journal: &mut Journal,
    manner: Manner,
    services: &mut dyn Services,
    tell: &mut dyn FnMut(&str),
) -> Result<(), Mishap> {
    let mut caught = Vec::new();
    for step in &prospect.there {
        journal.step = step.to_string();
        record.set_journal(journal)?;
        tell(&format!("{}: {step}", prospect.plank.name()));
        let mut run = Run::new(services, manner);
        run.caught = std::mem::take(&mut caught);
        let done = run.step(step);
        run.notes.iter().for_each(|note| tell(note));
        caught = run.caught;
        done?;
    }
    Ok(())
}

/// Swaps planks out.
///
/// # Errors
///
/// When not even the state directory can be used.
pub fn release(
    planks: &[Plank],
    places: &Places,
    manner: Manner,
    services: &mut dyn Services,
    tell: &mut dyn FnMut(&str),
) -> Result<Outcome, Mishap> {
    let record = Record::open(&places.state)?;
    if let Some(outcome) = recover(&record, manner, services, tell)? {
        return Ok(outcome);
    }
    let adopted = record.adopted()?;
    let mut journal = Journal { adopts: false, planks: Vec::new(), step: String::new() };
    let mut refused = Vec::new();
    for plank in planks {
        match adopted.get(plank) {
            Some(known) => {
                refused.extend(known.back.iter().flat_map(stands_in_the_way));
                journal.planks.push(Undertaking { plank: *plank, back: known.back.clone() });
            }
            None => refused.push(format!("{} is not adopted", plank.name())),
        }
    }
    refused.sort_unstable();
    refused.dedup();
    if !refused.is_empty() {
        return Ok(Outcome::Refused(refused));
    }
    Ok(match back(&record, &journal, manner, services, tell)? {
        None => Outcome::Done,
        Some(half) => Outcome::HalfWay(half),
    })
}

/// Before the first step is done: what would keep this one from being done.
fn stands_in_the_way(step: &Step) -> Vec<String> {
    let Step::GiveBack(back) = step else { return Vec::new() };
    let master = postfix::master(&back.queue);
    master.map_or(Vec::new(), |master| ports::taken(&back.configuration, master))
}

/// What a release would do; nothing for a plank that is not adopted.
///
/// # Errors
///
/// When the record cannot be read.
pub fn release_plan(plank: Plank, places: &Places) -> Result<Option<Vec<Step>>, Mishap> {
    Ok(record::adopted(&places.state)?.remove(&plank).map(|known| known.back))
}

/// Ends what an interrupted run began: an adoption is undone, a release completed.
fn recover(
    record: &Record,
    manner: Manner,
    services: &mut dyn Services,
    tell: &mut dyn FnMut(&str),
) -> Result<Option<Outcome>, Mishap> {
    let Some(journal) = record.journal()? else { return Ok(None) };
    let adopted = record.adopted()?;
    if journal.adopts && journal.planks.iter().all(|begun| adopted.contains_key(&begun.plank)) {
        record.end_journal()?; // it had all been done
        return Ok(None);
    }
    let what = if journal.adopts { "an adoption" } else { "a release" };
    tell(&format!("{what} was interrupted at: {}; giving back what it had begun", journal.step));
    Ok(back(record, &journal, manner, services, tell)?.map(Outcome::HalfWay))
}

/// Gives the planks of a journal back, the last one first. What cannot be done is tried again by the next run.
fn back(
    record: &Record,
    journal: &Journal,
    manner: Manner,
    services: &mut dyn Services,
    tell: &mut dyn FnMut(&str),
) -> Result<Option<String>, Mishap> {
    let mut adopted = record.adopted()?;
    let mut journal = journal.clone();
    while let Some(undertaking) = journal.planks.last().cloned() {
        for step in &undertaking.back {
            journal.step = step.to_string();
            record.set_journal(&journal)?;
            tell(&format!("{}: {step}", undertaking.plank.name()));
            let mut run = Run::new(services, manner);
            let done = run.step(step);
            run.notes.iter().for_each(|note| tell(note));
            if let Err(why) = done {
                return Ok(Some(format!("{}: {step}: {why}", undertaking.plank.name())));
            }
        }
        if adopted.remove(&undertaking.plank).is_some() {
            record.set_adopted(&adopted)?;
        }
        journal.planks.pop();
    }
    record.end_journal()?;
    Ok(None)
}
