//! Each line of each sample does something: without it, what some daemon would run is another thing.
//!
//! The daemons are asked with `--plan`, so it is their own reading that counts, down to the settings of each worker.
//! That a setting which reaches a worker has its effect is what its row's test shows, and `cargo xtask proofs` that this
//! test fails without it. The lines that say what holds anyway are named here with their reason, which is checked.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use ::config::files::Disk;
use ::config::register::{Mark, find};
use ::config::{Problems, dovecot, opendkim, postfix};
use harness::site::Site;
use harness::{Scratch, binaries};
use serde_json::Value;

/// A line, or a block with all in it, that can be taken away.
#[derive(Debug)]
struct Item {
    /// `smtpd_banner`, `submission -o syslog_name`, `service auth`
    name: String,
    /// From 0.
    lines: Range<usize>,
}

/// How a file falls into items.
type Split = fn(&str) -> Vec<Item>;

/// What the daemons that read a file would do.
type Plans = Vec<(&'static str, String)>;

fn plans(site: &Site, daemons: &[&'static str]) -> Plans {
    let plan = |daemon: &&'static str| {
        let mut command = Command::new(binaries::path(daemon));
        let output = command.arg("--plan").args(site.arguments(daemon)).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let shown = match serde_json::from_str::<Value>(&text) {
            Ok(mut plan) => {
                forget_places(&mut plan);
                plan.to_string()
            }
            Err(_) => String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        (*daemon, shown)
    };
    daemons.iter().map(plan).collect()
}

/// Where a setting stands is not what it does, nor is a warning about it.
fn forget_places(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("problems");
            fields.retain(|_, field| {
                let place = field.get("file").is_some() && field.get("line").is_some();
                !place && !field.is_null()
            });
            fields.values_mut().for_each(forget_places);
        }
        Value::Array(values) => values.iter_mut().for_each(forget_places),
        _ => {}
    }
}

/// The logical lines of main.cf.
fn main_cf(text: &str) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with([' ', '\t']) {
            if let Some(item) = items.last_mut() {
                item.lines.end = number + 1;
            }
        } else if let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            items.push(Item { name: name.trim().to_owned(), lines: number..number + 1 });
        }
    }
    items
}

/// The services of master.cf, and each of their options.
fn master_cf(text: &str) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut service = (String::new(), 0);
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with('#') || words.is_empty() {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            let option = words.join(" ");
            let name = format!("{} {}", service.0, option.split('=').next().unwrap_or_default());
            items.push(Item { name, lines: number..number + 1 });
            items[service.1].lines.end = number + 1;
        } else {
            service = (words[0].to_owned(), items.len());
            items.push(Item { name: service.0.clone(), lines: number..number + 1 });
        }
    }
    items
}

/// The settings and blocks of dovecot.conf.
fn dovecot_conf(text: &str) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        let around = open.last().map(|at| format!("{} / ", items[*at].name)).unwrap_or_default();
        if line == "}" {
            let at = open.pop().unwrap();
            items[at].lines.end = number + 1;
        } else if let Some(block) = line.strip_suffix('{') {
            open.push(items.len());
            let name = format!("{around}{}", block.trim());
            items.push(Item { name, lines: number..number + 1 });
        } else if let Some((name, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            let name = format!("{around}{}", name.trim());
            items.push(Item { name, lines: number..number + 1 });
        }
    }
    items
}

/// The settings of opendkim.conf.
fn opendkim_conf(text: &str) -> Vec<Item> {
    let name = |line: &str| {
        let name = line.split_whitespace().next()?;
        (!name.starts_with('#')).then(|| name.to_owned())
    };
    let items = text.lines().enumerate();
    items
        .filter_map(|(number, line)| Some(Item { name: name(line)?, lines: number..number + 1 }))
        .collect()
}

/// The text with these lines empty, so that all others stay where they are.
fn without(text: &str, lines: &Range<usize>) -> String {
    let kept = |(number, line)| if lines.contains(&number) { "" } else { line };
    text.lines().enumerate().map(|pair| format!("{}\n", kept(pair))).collect()
}

/// Lines that mean nothing here beyond what holds already. An entry that is not needed fails the test.
const IDLE: &[(&str, &str)] = &[
    (
        "main.cf: data_directory",
        "the render's own line, for smtp-delivery, which is not asked here",
    ),
    ("main.cf: smtpd_tls_protocols", "what it excludes is older than all that rustls has"),
    (
        "main.cf: smtpd_tls_mandatory_protocols",
        "what it excludes is older than all that rustls has",
    ),
    ("main.cf: smtpd_tls_exclude_ciphers", "rustls has none of them"),
    (
        "main.cf: initial_destination_concurrency",
        "default_destination_rate_delay allows one at a time",
    ),
    (
        "main.cf: default_destination_concurrency_limit",
        "default_destination_rate_delay allows one at a time",
    ),
    ("main.cf: smtpd_tls_mandatory_ciphers", "every cipher there is has grade high"),
    ("main.cf: smtp_tls_mandatory_ciphers", "every cipher there is has grade high"),
    ("master.cf: postlog", "Postfix's programs write the log file through it, ours by themselves"),
    ("opendkim.conf: UserID", "the packages' user opendkim is who it runs as without it, too"),
    ("dovecot.conf: ssl_protocols", "what it excludes is older than all that rustls has"),
    (
        "dovecot.conf: ssl",
        "yes is the default, and disable_plaintext_auth asks for TLS as required does",
    ),
    ("dovecot.conf: service imap-login / inet_listener imaps / ssl", "Dovecot's default for imaps"),
    ("dovecot.conf: service pop3-login / inet_listener pop3s / ssl", "Dovecot's default for pop3s"),
    ("dovecot.conf: namespace inbox", "without any namespace there is this one"),
];

/// Why nobody misses a line.
#[derive(Debug, PartialEq, Eq)]
enum Reason {
    /// It says what the default, or main.cf for a service's option, says anyway.
    SaysTheSame,
    /// Only the commands read it, or nothing of ours does: the register says so.
    NoDaemonReadsIt,
}

/// A setting of main.cf or of a service's option, expanded as the daemons get it.
fn expanded(site: &Site, item: &Item) -> Option<String> {
    let mut problems = Problems::default();
    let host = postfix::Host::read(&Disk, &site.postfix(), &mut problems);
    let text = match item.name.split_once(" -o ") {
        Some((service, name)) => {
            let service = host.services().find(|known| known.name == service)?;
            host.view(service).text(name.trim_matches(['{', ' ']), &mut problems)
        }
        None => host.main().text(&item.name, &mut problems),
    };
    text.map(|text| text.as_str().to_owned())
}

fn reason(site: &Site, path: &Path, whole: &str, item: &Item) -> Option<Reason> {
    if path.ends_with("dovecot.conf") {
        let words = item.name.split(" / ").filter_map(|block| block.split(' ').next());
        let filters = ["protocol", "local", "remote", "local_name"];
        let words: Vec<&str> = words.filter(|word| !filters.contains(word)).collect();
        let line = whole.lines().nth(item.lines.start)?;
        let value = line.split_once('=')?.1.trim().trim_matches('"');
        let fact = find(dovecot::FACTS, &words.join("/"))?;
        if fact.mark == Mark::Harmless {
            return Some(Reason::NoDaemonReadsIt);
        }
        let same = fact.default == value;
        return same.then_some(Reason::SaysTheSame);
    }
    if path.ends_with("opendkim.conf") {
        let value = whole.lines().nth(item.lines.start)?.split_whitespace().nth(1)?;
        let fact = find(opendkim::names::FACTS, &item.name)?;
        let same = fact.default.eq_ignore_ascii_case(value);
        return match fact.mark {
            Mark::Harmless => Some(Reason::NoDaemonReadsIt),
            _ => same.then_some(Reason::SaysTheSame),
        };
    }
    let name = item.name.rsplit(" -o ").next().unwrap_or_default();
    let fact = find(postfix::FACTS, name);
    let by_commands = fact.is_some_and(|fact| {
        fact.mark == Mark::Harmless || fact.test.starts_with("theoris::classic")
    });
    if by_commands {
        return Some(Reason::NoDaemonReadsIt);
    }
    let before = expanded(site, item);
    std::fs::write(path, without(whole, &item.lines)).unwrap();
    let after = expanded(site, item);
    std::fs::write(path, whole).unwrap();
    (before.is_some() && before == after).then_some(Reason::SaysTheSame)
}

/// The lines that nobody misses, each with the reason found for it.
fn unmissed(
    site: &Site,
    path: &Path,
    items: Vec<Item>,
    daemons: &[&'static str],
) -> Vec<(String, Option<Reason>)> {
    let whole = std::fs::read_to_string(path).unwrap();
    let with = plans(site, daemons);
    for (daemon, plan) in &with {
        assert!(plan.starts_with('{'), "{daemon}: {plan}");
    }
    let mut found = Vec::new();
    for item in items {
        std::fs::write(path, without(&whole, &item.lines)).unwrap();
        let missed = plans(site, daemons) != with;
        std::fs::write(path, &whole).unwrap();
        if !missed {
            let reason = reason(site, path, &whole, &item);
            found.push((item.name, reason));
        }
    }
    found
}

/// The line as the sample has it: no private directory, no port of this run.
fn sample_words(site: &Site, line: &str) -> String {
    let line = line.replace(&site.root().display().to_string(), "");
    let service =
        |line: String, name: &&str| line.replace(&format!("127.0.0.1:{}", site.port(name)), name);
    ["smtp", "submission", "smtps"].iter().fold(line, service)
}

#[test]
fn a_line_taken_out_of_a_sample_is_missed() {
    let mut unexplained = Vec::new();
    let mut explained = BTreeSet::new();
    let mut used = BTreeSet::new();
    for name in harness::site::SAMPLES {
        let scratch = Scratch::new();
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc").join(name);
        let site = Site::render(&sample, scratch.path());
        let postfix: &[&str] = &["smtpd", "queue-manager", "lmtp-delivery", "smtp-delivery"];
        let dovecot: &[&str] = &["authd", "imapd", "pop3d", "lmtp-delivery"];
        let files: [(PathBuf, Split, &[&str]); 4] = [
            (site.postfix().join("main.cf"), main_cf, postfix),
            (site.postfix().join("master.cf"), master_cf, postfix),
            (site.dovecot(), dovecot_conf, dovecot),
            (site.root().join("etc/opendkim.conf"), opendkim_conf, &["dkim-milter"]),
        ];
        for (path, items, daemons) in files {
            let here: BTreeSet<&str> = site.daemons().collect();
            let daemons: Vec<&str> =
                daemons.iter().copied().filter(|daemon| here.contains(daemon)).collect();
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let items = items(&text);
            for (line, reason) in unmissed(&site, &path, items, &daemons) {
                let file = path.file_name().unwrap().to_string_lossy().into_owned();
                let line = sample_words(&site, &line);
                let shown = format!("{file}: {line}");
                let idle = IDLE.iter().position(|(known, _)| *known == shown);
                used.extend(idle);
                match reason {
                    None if idle.is_some() => {}
                    Some(reason) => {
                        explained.insert(format!("{name} {file}: {line}: {reason:?}"));
                    }
                    None => unexplained.push(format!("{name} {file}: {line}")),
                }
            }
        }
    }
    assert_eq!(unexplained, Vec::<String>::new());
    assert_eq!(used.len(), IDLE.len(), "some line of IDLE is missed after all: {used:?}");
    let explained: Vec<String> = explained.into_iter().collect();
    insta::assert_snapshot!(explained.join("\n"));
}
