//! `theoris status`: which planks are ours and whether they run, what waits in the queue, when certificates end, how much
//! room is left. For a look at a terminal, and for monitors: its exit code is the worst of what it tells.

mod control;
mod drift;
mod originals;
mod space;
mod units;

use std::path::Path;

use config::Problems;
use config::files::Disk;
use config::theoris::Theoris;
use serde::Serialize;

use crate::check::files::Files;
use crate::check::machine::Machine;
use crate::check::mistakes::certificates::{self, Shown};
use crate::check::planks::is_ours;
use crate::check::records;
use crate::check::report::{Finding, Level, code_of};
use crate::command::Command;
use crate::command::arguments::{Arguments, Known};
use crate::command::paths::{self, Paths};
use crate::command::shown::{self, Paint, Tone, escaped};
use crate::plank::Plank;
use crate::trace::timeline::since;
use control::{Answer, Running};
use space::{Queued, Space};

pub const COMMAND: Command = Command {
    name: "status",
    usage: "[--json] [--no-dns] [--queue-warning N] [--queue-critical N] [-c DIRECTORY] [--dovecot FILE] [-x FILE] [--theoris FILE] [--state DIRECTORY]",
    about: "tells which planks are ours and run, what has drifted, queue sizes, certificates, DNS records, disk space",
    run,
};

const OPTIONS: [Known; 4] =
    [("--json", false), ("--no-dns", false), ("--queue-warning", true), ("--queue-critical", true)];
/// Messages in the queue from which on a monitor should speak up.
const QUEUE_WARNING: usize = 50;
const QUEUE_CRITICAL: usize = 200;

/// Who serves a plank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Served {
    Ours,
    Theirs,
    /// Both run: in the middle of a swap, or on different sockets.
    Both,
    Nobody,
    Absent,
}

#[derive(Clone, Debug, Serialize)]
struct PlankStatus {
    plank: Plank,
    served: Served,
    /// The files say that it is ours.
    adopted: bool,
    original: Option<&'static str>,
    #[serde(flatten)]
    running: Option<Running>,
}

#[derive(Clone, Debug, Serialize)]
struct Status {
    version: &'static str,
    host: String,
    planks: Vec<PlankStatus>,
    queues: Vec<Queued>,
    certificates: Vec<Shown>,
    space: Vec<Space>,
    findings: Vec<Finding>,
}

/// From how many messages on the queue is told.
#[derive(Clone, Copy, Debug)]
struct Limits {
    warning: usize,
    critical: usize,
}

fn run(words: &[String]) -> Result<u8, String> {
    let known: Vec<Known> = OPTIONS.into_iter().chain(paths::OPTIONS).collect();
    let arguments = Arguments::read(words, &known)?;
    arguments.no_operands()?;
    let number = |name: &str, usual| match arguments.value(name) {
        None => Ok(usual),
        Some(text) => text.parse().map_err(|_| format!("{name} {text}: write a number")),
    };
    let limits = Limits {
        warning: number("--queue-warning", QUEUE_WARNING)?,
        critical: number("--queue-critical", QUEUE_CRITICAL)?,
    };
    let paths = Paths::of(&arguments);
    let files = Files::read(&paths);
    let mut status = look(&files, &Machine::this(&paths), &run_directory(&paths), limits);
    if !arguments.has("--no-dns") {
        records::find(&files, &mut status.findings);
    }
    status.sort();
    if arguments.has("--json") {
        let text = serde_json::to_string(&status).map_err(|error| error.to_string())?;
        shown::print(&format!("{text}\n"));
    } else {
        shown::print(&text(&status, Paint::of_terminal()));
    }
    Ok(code_of(status.findings.iter().map(|finding| finding.level).max()))
}

/// Where the daemons' control sockets are.
fn run_directory(paths: &Paths) -> std::path::PathBuf {
    let toml = (paths.theoris.path.as_path(), paths.theoris.by_operator);
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Theoris::read(&Disk, toml, environment, &[], &mut Problems::default()).run_directory
}

fn look(files: &Files, machine: &Machine, sockets: &Path, limits: Limits) -> Status {
    let mut findings = Vec::new();
    let planks = Plank::ALL.map(|plank| one(files, plank, sockets, &mut findings)).to_vec();
    let guarded = drift::find(&files.paths.state, &mut findings);
    if machine.systemd
        && let Some(units) = units::ask_systemd()
    {
        units::judge(&units, &guarded, &mut findings);
    }
    let queues = space::queues(files);
    judge_queues(&queues, limits, &mut findings);
    let (certificates, mut told) = certificates::shown(files, machine);
    findings.append(&mut told);
    judge_loaded(&certificates, &planks, &mut findings);
    let space = space::of_host(files);
    space::judge(&space, files, &mut findings);
    Status {
        version: env!("CARGO_PKG_VERSION"),
        host: machine.host_name.clone(),
        planks,
        queues,
        certificates,
        space,
        findings,
    }
}

impl Status {
    /// What is worst comes first; what is only good to know is `theoris check`'s.
    fn sort(&mut self) {
        self.findings.retain(|finding| finding.level > Level::Note);
        self.findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    }
}

fn one(files: &Files, plank: Plank, sockets: &Path, findings: &mut Vec<Finding>) -> PlankStatus {
    let original = originals::of(files, plank);
    let adopted = is_ours(files, plank);
    let running = match control::ask(&sockets.join(format!("{}.control", plank.daemon()))) {
        Answer::Running(running) => Some(*running),
        Answer::Silent => None,
        Answer::Odd(why) => {
            findings.push(Finding::warning(None, why).of(plank));
            None
        }
    };
    let theirs = original.is_some_and(|(_, runs)| runs) && !adopted;
    let served = match (&running, theirs) {
        (Some(_), true) => Served::Both,
        (Some(_), false) => Served::Ours,
        (None, true) => Served::Theirs,
        (None, false) if original.is_some() || adopted => Served::Nobody,
        (None, false) => Served::Absent,
    };
    if adopted && running.is_none() {
        let text = format!(
            "{plank} is adopted, and {} does not run: nobody does its work",
            plank.daemon()
        );
        let mend =
            format!("systemctl start theoris-{}, or theoris release {plank}", plank.daemon());
        findings.push(Finding::critical(None, text).mend(mend).of(plank));
    }
    if let Some(running) = &running {
        judge_daemon(plank, running, findings);
    }
    PlankStatus { plank, served, adopted, original: original.map(|(name, _)| name), running }
}

fn judge_daemon(plank: Plank, running: &Running, findings: &mut Vec<Finding>) {
    let daemon = plank.daemon();
    if running.version != env!("CARGO_PKG_VERSION") {
        let text = format!(
            "{daemon} runs in version {}, and {} is installed",
            running.version,
            env!("CARGO_PKG_VERSION")
        );
        findings.push(
            Finding::warning(None, text)
                .mend(format!("systemctl restart theoris-{daemon}"))
                .of(plank),
        );
    }
    if running.workers == running.starting {
        let text = format!("{daemon} has no worker that is ready");
        findings.push(
            Finding::critical(None, text).mend(format!("journalctl -u theoris-{daemon}")).of(plank),
        );
    }
    let errors =
        running.problems.iter().filter(|problem| problem.severity == config::Severity::Error);
    for problem in errors {
        let finding = Finding::from(problem);
        let text = format!("{daemon} goes on with its old configuration: {}", finding.text);
        findings.push(Finding { text, ..finding }.of(plank));
    }
}

fn judge_queues(queues: &[Queued], limits: Limits, findings: &mut Vec<Finding>) {
    let messages: usize = queues.iter().map(|queue| queue.messages).sum();
    let text = format!("{messages} messages are in the queue");
    let mend = "see mailq, and theoris trace for one of them";
    if messages >= limits.critical {
        findings.push(Finding::critical(None, text).mend(mend).of(Plank::Queue));
    } else if messages >= limits.warning {
        findings.push(Finding::warning(None, text).mend(mend).of(Plank::Queue));
    }
}

/// A daemon that still has the certificate from before a renewal.
fn judge_loaded(files: &[Shown], planks: &[PlankStatus], findings: &mut Vec<Finding>) {
    for plank in planks {
        for loaded in plank.running.iter().flat_map(|running| &running.certificates) {
            let newer = files
                .iter()
                .any(|shown| shown.file == loaded.file && shown.not_after > loaded.not_after);
            if newer {
                let daemon = plank.plank.daemon();
                let text = format!(
                    "{daemon} still shows the certificate {} from before its renewal",
                    loaded.file.display()
                );
                findings.push(
                    Finding::warning(None, text)
                        .mend(format!("systemctl reload theoris-{daemon}"))
                        .of(plank.plank),
                );
            }
        }
    }
}

fn text(status: &Status, paint: Paint) -> String {
    let mut text = format!("theoris {} on {}\n", status.version, escaped(&status.host));
    let heading = |text: &mut String, name: &str| {
        text.push_str(&format!("\n{}\n", paint.tone(Tone::Heading, name)));
    };
    heading(&mut text, "Planks");
    for plank in &status.planks {
        text.push_str(&line(plank, paint));
    }
    if !status.queues.is_empty() {
        heading(&mut text, "Queue");
        let sizes: Vec<String> = status
            .queues
            .iter()
            .map(|queue| format!("{} {}", queue.messages, queue.queue))
            .collect();
        text.push_str(&format!("  {}\n", sizes.join(", ")));
    }
    if !status.certificates.is_empty() {
        heading(&mut text, "Certificates");
        for shown in &status.certificates {
            let file = escaped(&shown.file.display().to_string());
            let names = escaped(&shown.names.join(", "));
            text.push_str(&format!("  {:>5} days  {file}  {names}\n", shown.days));
        }
    }
    heading(&mut text, "Disk");
    for space in &status.space {
        let path = escaped(&space.path.display().to_string());
        let (free, inodes) = (space.free_percent, space.free_inodes_percent);
        text.push_str(&format!(
            "  {free:>3} % free ({}), inodes {inodes} %  {path}\n",
            space::bytes(space.free_bytes)
        ));
    }
    if !status.findings.is_empty() {
        heading(&mut text, "To look at");
        for finding in &status.findings {
            text.push_str(&crate::check::print::finding(finding, paint));
        }
    }
    text
}

fn line(plank: &PlankStatus, paint: Paint) -> String {
    let (tone, word) = match plank.served {
        Served::Ours => (Tone::Good, "ours"),
        Served::Theirs => (Tone::Quiet, "theirs"),
        Served::Both => (Tone::Warning, "both"),
        Served::Nobody if plank.adopted => (Tone::Bad, "down"),
        Served::Nobody => (Tone::Quiet, "stopped"),
        Served::Absent => (Tone::Quiet, "absent"),
    };
    let mut parts = Vec::new();
    if let Some(running) = &plank.running {
        parts.push(format!("{} {}", plank.plank.daemon(), escaped(&running.version)));
        parts.push(format!(
            "for {}",
            since(running.seconds.cast_signed().saturating_mul(1_000_000))
        ));
        parts.push(format!(
            "{} open of {} connections",
            running.connections_open, running.connections_total
        ));
    }
    if let Some(original) =
        plank.original.filter(|_| matches!(plank.served, Served::Theirs | Served::Both))
    {
        parts.push(format!("{original} runs"));
    }
    let word = paint.tone(tone, &format!("{word:<9}"));
    let line = format!("  {:<10}{word} {}", plank.plank, parts.join(", "));
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::mistakes::testing::files;

    const LIMITS: Limits = Limits { warning: QUEUE_WARNING, critical: QUEUE_CRITICAL };

    fn with_queue(root: &Path, messages: usize, master: &str) -> Files {
        for name in ["active", "deferred", "hold", "incoming", "maildrop"] {
            std::fs::create_dir_all(root.join("q").join(name)).unwrap();
        }
        for number in 0..messages {
            std::fs::write(root.join(format!("q/hold/{:07X}", 0xABC_0000 + number)), "").unwrap();
        }
        files(
            root,
            &[("postfix/main.cf", "queue_directory = @/q\n"), ("postfix/master.cf", master)],
        )
    }

    #[test]
    fn an_adopted_plank_without_its_daemon_is_critical() {
        let root = tempfile::tempdir().unwrap();
        let master = "#theoris: smtp unix - - n - - smtp\nsmtp inet n - n - - smtpd\n";
        let status =
            look(&with_queue(root.path(), 3, master), &Machine::default(), root.path(), LIMITS);
        let served: Vec<(Plank, Served)> =
            status.planks.iter().map(|plank| (plank.plank, plank.served)).collect();
        assert!(
            served.contains(&(Plank::SmtpOut, Served::Nobody))
                && served.contains(&(Plank::Imap, Served::Absent))
        );
        assert_eq!(status.queues.iter().map(|queue| queue.messages).sum::<usize>(), 3);
        let found: Vec<&str> =
            status.findings.iter().map(|finding| finding.text.as_str()).collect();
        assert!(
            found.contains(
                &"smtp-out is adopted, and smtp-delivery does not run: nobody does its work"
            ),
            "{found:?}"
        );
        let shown = text(&status, Paint::PLAIN);
        assert!(shown.contains("  smtp-out  down\n") && shown.contains("3 hold"), "{shown}");
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["planks"][5]["served"], "nobody");
    }

    #[test]
    fn a_long_queue_is_told() {
        for (messages, level) in
            [(49, None), (50, Some(Level::Warning)), (200, Some(Level::Critical))]
        {
            let queues = [Queued { queue: "deferred", messages }];
            let mut findings = Vec::new();
            judge_queues(&queues, LIMITS, &mut findings);
            assert_eq!(findings.first().map(|finding| finding.level), level);
        }
    }

    #[test]
    fn an_old_version_and_an_old_certificate_are_told() {
        let certificates = vec![control::Certificate { file: "/c".into(), not_after: 5 }];
        let running =
            Running { version: "0.0.1".into(), workers: 1, certificates, ..Running::default() };
        let mut findings = Vec::new();
        judge_daemon(Plank::Imap, &running, &mut findings);
        let plank = PlankStatus {
            plank: Plank::Imap,
            served: Served::Ours,
            adopted: false,
            original: None,
            running: Some(running),
        };
        let shown = Shown { file: "/c".into(), names: vec![], not_after: 6, days: 0 };
        judge_loaded(&[shown], &[plank], &mut findings);
        let texts: Vec<&str> = findings.iter().map(|finding| finding.text.as_str()).collect();
        assert!(texts[0].starts_with("imapd runs in version 0.0.1, and "), "{texts:?}");
        assert_eq!(texts[1], "imapd still shows the certificate /c from before its renewal");
    }
}
