//! A misspelt name is reported at its line, whichever setting of a sample it is.

use std::path::{Path, PathBuf};

use ::config::files::Memory;
use ::config::{Problems, dovecot, postfix};

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc").join(name)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A name with two letters swapped, or one dropped: slips that leave another known name are not slips.
fn misspelt(name: &str, is_known: impl Fn(&str) -> bool) -> String {
    let letters: Vec<char> = name.chars().collect();
    let middle = letters.len() / 2;
    let swapped = (middle..letters.len() - 1).map(|at| {
        let mut letters = letters.clone();
        letters.swap(at, at + 1);
        letters.into_iter().collect::<String>()
    });
    let dropped = (0..letters.len()).map(|at| {
        let mut letters = letters.clone();
        letters.remove(at);
        letters.into_iter().collect::<String>()
    });
    swapped.chain(dropped).find(|slip| slip != name && !is_known(slip)).unwrap()
}

fn told(problems: &Problems, file: &str, line: usize, slip: &str) -> bool {
    problems.iter().any(|problem| {
        let here = problem
            .place
            .as_ref()
            .is_some_and(|place| place.file.ends_with(file) && place.line == line);
        here && problem.text.contains(slip)
    })
}

/// The text with `name` in line `number` (from 1) replaced.
fn with_slip(text: &str, number: usize, name: &str, slip: &str) -> String {
    let line = |(index, line): (usize, &str)| {
        if index + 1 == number { line.replacen(name, slip, 1) + "\n" } else { format!("{line}\n") }
    };
    text.lines().enumerate().map(line).collect()
}

fn read_postfix(main: &str, master: &str) -> Problems {
    let files = Memory::with([("/p/main.cf", main), ("/p/master.cf", master)]);
    let mut problems = Problems::default();
    postfix::Host::read(&files, "/p".as_ref(), &mut problems);
    problems
}

#[test]
fn each_misspelt_setting_of_main_cf_is_reported_at_its_line() {
    for name in harness::site::SAMPLES {
        let directory = sample(name).join("postfix");
        let (main, master) = (text(&directory.join("main.cf")), text(&directory.join("master.cf")));
        assert_eq!(read_postfix(&main, &master).to_string(), "", "{name}");
        let mut tried = 0;
        for (index, line) in main.lines().enumerate() {
            let Some((setting, _)) =
                line.split_once('=').filter(|_| line.starts_with(|c: char| c.is_ascii_lowercase()))
            else {
                continue;
            };
            let setting = setting.trim();
            let slip =
                misspelt(setting, |slip| ::config::register::find(postfix::FACTS, slip).is_some());
            let problems = read_postfix(&with_slip(&main, index + 1, setting, &slip), &master);
            assert!(
                told(&problems, "main.cf", index + 1, &slip),
                "{name}: {slip} for {setting} in line {}: {problems}",
                index + 1
            );
            tried += 1;
        }
        assert!(tried > 15, "{name}: only {tried} settings");
    }
}

/// A sample holds no line that we do not obey.
#[test]
fn every_line_of_a_sample_is_obeyed() {
    for name in harness::site::SAMPLES {
        let directory = sample(name).join("postfix");
        let files = Memory::with([
            ("/p/main.cf", text(&directory.join("main.cf"))),
            ("/p/master.cf", text(&directory.join("master.cf"))),
            ("/d", text(&sample(name).join("dovecot/dovecot.conf"))),
        ]);
        let mut problems = Problems::default();
        let host = postfix::Host::read(&files, "/p".as_ref(), &mut problems);
        let commands: Vec<&str> = host.services().map(|service| service.command.as_str()).collect();
        host.report_unsupported(&commands, &mut problems);
        let dovecot = dovecot::Config::read(&files, "/d".as_ref(), &mut problems);
        let programs = [
            "auth",
            "login",
            "imap-login",
            "imap",
            "pop3-login",
            "pop3",
            "lmtp",
            "mail",
            "ssl",
            "master",
        ];
        dovecot.report_unsupported(&programs, &mut problems);
        let told: Vec<String> = problems
            .iter()
            .map(ToString::to_string)
            .filter(|line| !line.contains("ssl_protocols is obsolete"))
            .collect();
        assert_eq!(told, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn each_misspelt_override_of_master_cf_is_reported_at_its_line() {
    for name in harness::site::SAMPLES {
        let directory = sample(name).join("postfix");
        let (main, master) = (text(&directory.join("main.cf")), text(&directory.join("master.cf")));
        let mut tried = 0;
        for (index, line) in master.lines().enumerate() {
            let Some((setting, _)) =
                line.trim().strip_prefix("-o ").and_then(|option| option.split_once('='))
            else {
                continue;
            };
            let slip =
                misspelt(setting, |slip| ::config::register::find(postfix::FACTS, slip).is_some());
            let problems = read_postfix(&main, &with_slip(&master, index + 1, setting, &slip));
            assert!(
                told(&problems, "master.cf", index + 1, &slip),
                "{name}: {slip} in line {}: {problems}",
                index + 1
            );
            tried += 1;
        }
        assert!(tried > 2, "{name}: only {tried} overrides");
    }
}

#[test]
fn each_misspelt_setting_and_block_of_dovecot_conf_is_an_error_at_its_line() {
    let read = |text: &str| {
        let files = Memory::with([("/dovecot.conf", text)]);
        let mut problems = Problems::default();
        dovecot::Config::read(&files, "/dovecot.conf".as_ref(), &mut problems);
        problems
    };
    for name in harness::site::SAMPLES {
        let whole = text(&sample(name).join("dovecot/dovecot.conf"));
        assert!(!read(&whole).has_errors(), "{name}: {}", read(&whole));
        let mut tried = 0;
        for (index, line) in whole.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let setting = match line.split_once('=') {
                Some((setting, _)) => setting.trim(),
                None if line.ends_with('{') => line.split_whitespace().next().unwrap(),
                None => continue,
            };
            let known = |slip: &str| {
                dovecot::FACTS.iter().any(|fact| fact.name.rsplit('/').next() == Some(slip))
            };
            let slip = misspelt(setting, known);
            let problems = read(&with_slip(&whole, index + 1, setting, &slip));
            assert!(
                told(&problems, "dovecot.conf", index + 1, &slip),
                "{name}: {slip} in line {}: {problems}",
                index + 1
            );
            // A plugin may have settings of its own, so there a slip is told and no more.
            let in_plugin = setting.starts_with("quota");
            assert!(problems.has_errors() || in_plugin, "{name}: {slip}");
            tried += 1;
        }
        assert!(tried > 10, "{name}: only {tried} settings");
    }
}
