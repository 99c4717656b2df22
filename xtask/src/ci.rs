//! `cargo xtask ci`: what a change must pass, in the order that fails fastest.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::run::{Done, cargo, command, failed, must, root};
use crate::{checks, demo, edges, packages, peers, samples, test};

/// A named step.
type Step = (&'static str, fn() -> Done);

const STEPS: &[Step] = &[
    ("format", || must(&mut cargo(&["fmt", "--all", "--check"]))),
    ("edges", edges::check),
    ("file lengths", checks::file_lengths),
    ("no unsafe", checks::unsafe_is_forbidden),
    ("packages of the peers", peers::install),
    ("clippy", clippy),
    ("tests", || test::run(&[])),
    ("samples", samples::check),
    ("demo", || demo::run(&["--once"])),
    ("demo with system users", system_users),
    ("units", units),
    ("packages", packages::ci),
    ("documentation", documentation),
    ("licences, bans, sources", deny),
];

/// Runs every step; stops at the first that fails, and tells the time of each.
pub fn run() -> Done {
    let start = Instant::now();
    let mut times = Vec::new();
    for (name, step) in STEPS {
        println!("== {name}");
        let began = Instant::now();
        step().map_err(|problem| format!("{name}: {problem}"))?;
        times.push(format!("{:>5} s  {name}", began.elapsed().as_secs()));
    }
    println!("\n{}\n{:>5} s  all", times.join("\n"), start.elapsed().as_secs());
    Ok(())
}

fn clippy() -> Done {
    must(&mut cargo(&[
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--features=theoris-tests/soak",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))
}

fn system_users() -> Done {
    if !nix::unistd::geteuid().is_root() {
        println!("only root can give the demo users of its own: not run");
        return Ok(());
    }
    demo::run(&["--pam", "--once"])
}

fn documentation() -> Done {
    let mut doc = cargo(&[
        "doc",
        "--release",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--quiet",
    ]);
    // Private items are in these pages, so links to them lead somewhere.
    must(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"))
}

/// `systemd-analyze verify` and `security --offline` on copies of the units whose programs exist.
pub fn units() -> Done {
    let directory = root().join("systemd");
    let scratch = harness::Scratch::new();
    let mut services = Vec::new();
    for entry in fs::read_dir(&directory)
        .map_err(|error| format!("{}: {error}", directory.display()))?
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".service") && !name.ends_with(".socket") {
            continue;
        }
        let text = fs::read_to_string(entry.path()).map_err(|error| format!("{name}: {error}"))?;
        let built = format!("={}/", crate::run::release_directory().display());
        let text = text.replace("=/usr/libexec/theoris/", &built);
        let copy =
            scratch.write(&name, text.replace("=/usr/bin/theoris ", &format!("{built}theoris ")));
        if name.ends_with(".service") {
            services.push(copy);
        }
    }
    if services.is_empty() {
        return Err("systemd/ holds no service".into());
    }
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        println!("systemd-analyze is not on this machine: the units are not checked");
        return Ok(());
    }
    let mut analyze = command("systemd-analyze");
    must(analyze.args(["verify", "--man=no"]).args(&services))?;
    services.push(unprivileged(&scratch, &directory)?);
    for service in &services {
        let most = exposure_allowed(service);
        let mut exposure = command("systemd-analyze");
        let threshold = format!("--threshold={most}");
        exposure.args(["security", "--offline=yes", &threshold, "--no-pager"]).arg(service);
        must(exposure.stdout(std::process::Stdio::null())).map_err(|problem| {
            format!("{}: more exposed than {most}/10: {problem}", service.display())
        })?;
        if most == EXPOSED {
            reasons(service)?;
        }
    }
    Ok(())
}

/// What authd may have open, each line of it with a reason.
const EXPOSED: u32 = 50;

/// The filter's unit with the drop-in that takes root away from it.
fn unprivileged(scratch: &harness::Scratch, directory: &Path) -> Result<PathBuf, String> {
    let name = "theoris-dkim-milter";
    let dropin = directory.join("unprivileged").join(format!("{name}.conf"));
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let unit = read(&scratch.join(format!("{name}.service")))?;
    Ok(scratch.write(&format!("{name}-unprivileged.service"), unit + "\n" + &read(&dropin)?))
}

/// Every line of `systemd-analyze security` that is open must be explained in the unit: a comment names it.
fn reasons(unit: &Path) -> Done {
    let text = fs::read_to_string(unit).map_err(|error| format!("{}: {error}", unit.display()))?;
    let reasons: String = text.lines().filter(|line| line.starts_with('#')).collect();
    let mut analyze = command("systemd-analyze");
    analyze.args(["security", "--offline=yes", "--no-pager"]).arg(unit);
    let output = analyze.output().map_err(|error| failed(&analyze, error))?;
    let mut silent = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some(open) = line.strip_prefix("✗ ") else { continue };
        let shown = open.split_whitespace().next().unwrap_or_default();
        // SystemCallFilter=~@privileged, CapabilityBoundingSet=~CAP_(CHOWN|FSETID|SETFCAP)
        let mut names = shown.split(|c: char| !c.is_ascii_alphanumeric() && !"_@".contains(c));
        let explains = |name: &str| {
            let name = name.trim_start_matches("CAP_").trim_end_matches('_');
            let several = ["CapabilityBoundingSet", "RestrictAddressFamilies", "SystemCallFilter"];
            name.len() > 2 && !several.contains(&name) && reasons.contains(name)
        };
        if !names.any(explains) {
            silent.push(shown.to_owned());
        }
    }
    match silent.as_slice() {
        [] => Ok(()),
        _ => Err(format!("{}: open without a reason: {}", unit.display(), silent.join(", "))),
    }
}

/// Tenths of what `systemd-analyze security` may find: most for the one that loads PAM modules, least for a unit whose
/// every process is an ordinary user.
fn exposure_allowed(unit: &Path) -> u32 {
    let text = fs::read_to_string(unit).unwrap_or_default();
    if unit.ends_with("theoris-authd.service") {
        EXPOSED
    } else if text.lines().any(|line| line.starts_with("User=")) {
        20
    } else {
        30
    }
}

/// cargo-deny, installed when it is not there. Advisories need the network's database and are left to `cargo audit`.
fn deny() -> Done {
    if !cargo(&["deny", "--version"]).output().is_ok_and(|output| output.status.success()) {
        must(&mut cargo(&["install", "cargo-deny", "--locked", "--version", "0.20.2", "--quiet"]))?;
    }
    must(&mut cargo(&[
        "deny",
        "--all-features",
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))
}

/// What the originals' administrators do reaches ours too, and who is asked at the start stands before who asks.
#[test]
fn units_follow_the_originals() {
    let unit = |name: &str| {
        fs::read_to_string(root().join(format!("systemd/theoris-{name}.service"))).unwrap()
    };
    let has = |text: &str, key: &str, word: &str| {
        let values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.flat_map(str::split_whitespace).any(|value| value == word)
    };
    let postfix = ["postfix.service", "postfix@-.service"]; // Debian 13 and 12
    for daemon in ["smtpd", "queue-manager", "smtp-delivery", "lmtp-delivery"] {
        for original in postfix {
            assert!(has(&unit(daemon), "ReloadPropagatedFrom", original), "{daemon}: {original}");
        }
    }
    for daemon in ["imapd", "pop3d", "authd", "lmtp-delivery"] {
        assert!(has(&unit(daemon), "ReloadPropagatedFrom", "dovecot.service"), "{daemon}");
    }
    for daemon in ["imapd", "pop3d"] {
        for key in ["StopPropagatedFrom", "WantedBy"] {
            assert!(has(&unit(daemon), key, "dovecot.service"), "{daemon}: {key}");
        }
    }
    for daemon in ["authd", "dkim-milter"] {
        postfix.iter().for_each(|name| assert!(has(&unit(daemon), "Before", name), "{daemon}"));
    }
    // OpenDKIM's own goes when it stops, and is not there at a boot at which ours alone is started.
    assert!(has(&unit("dkim-milter"), "RuntimeDirectory", "opendkim"));
    assert!(has(&unit("dkim-milter"), "RuntimeDirectoryPreserve", "yes"));
}

/// Set-gid programs, as postdrop that a command of an alias calls, and PAM's helper: neither the unit nor what implies
/// the same for a user of its own keeps them from working.
#[test]
fn units_that_run_commands_let_set_gid_programs_be() {
    for daemon in ["lmtp-delivery", "authd"] {
        let path = root().join(format!("systemd/theoris-{daemon}.service"));
        let text = fs::read_to_string(path).unwrap();
        assert!(text.lines().any(|line| line == "NoNewPrivileges=no"), "{daemon}");
        for implies in ["User=", "DynamicUser="] {
            assert!(!text.lines().any(|line| line.starts_with(implies)), "{daemon}: {implies}");
        }
    }
}
