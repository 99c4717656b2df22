//! The operator's command on the samples, with the daemons' own checks, and on daemons that run.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::site::{SAMPLES, Site};
use harness::{Scratch, binaries};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn theoris(site: &Site, words: &[&str]) -> (Option<i32>, Value) {
    let daemons = binaries::path("smtpd").parent().unwrap().to_owned();
    let mut command = Command::new(binaries::path("theoris"));
    command.args(words).arg("--json").arg("--daemons").arg(daemons);
    command.arg("-c").arg(site.postfix()).arg("--dovecot").arg(site.dovecot());
    command.arg("-x").arg(site.root().join("etc/opendkim.conf"));
    command.arg("--theoris").arg(site.root().join("etc/theoris.toml"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let answer = serde_json::from_slice(&output.stdout);
    (output.status.code(), answer.unwrap_or_else(|error| panic!("{error}: {said}")))
}

fn texts<'a>(list: &'a Value, level: &str) -> Vec<&'a str> {
    let found = list.as_array().unwrap().iter().filter(|one| one["level"] == level);
    found.map(|one| one["text"].as_str().unwrap()).collect()
}

/// Each sample can be adopted whole, and none of its settings is unknown.
#[test]
fn every_sample_is_ready() {
    for sample in SAMPLES {
        let scratch = Scratch::new();
        let site = Site::render(&root().join("etc").join(sample), scratch.path());
        let (_, report) = theoris(&site, &["check", "--no-dns"]);
        let obstacles = texts(&report["findings"], "critical");
        let unknown: Vec<&Value> = report["settings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| matches!(one["meaning"].as_str(), Some("unknown" | "refused")))
            .collect();
        assert!(unknown.is_empty(), "{sample}: {unknown:?}");
        for plank in report["planks"].as_array().unwrap() {
            let state = plank["state"].as_str().unwrap();
            assert!(matches!(state, "ready" | "absent"), "{sample}: {plank}: {obstacles:?}");
        }
    }
}

/// What Debian ships: every line of it is known by name.
#[test]
fn every_shipped_setting_is_marked() {
    if !harness::skip::can_run(false, &["postconf", "doveconf", "opendkim"]) {
        return;
    }
    let mut command = Command::new(binaries::path("theoris"));
    command.args(["check", "--no-dns", "--json", "--daemons"]);
    let output = command.arg(binaries::path("smtpd").parent().unwrap()).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let settings = report["settings"].as_array().unwrap();
    let unmarked: Vec<&Value> = settings.iter().filter(|one| one["meaning"] == "unknown").collect();
    assert!(settings.len() > 40 && unmarked.is_empty(), "{} {unmarked:?}", settings.len());
    for product in report["products"].as_array().unwrap() {
        assert!(product["coverage"]["percent"].as_u64() >= Some(90), "{product}");
        assert!(product["version"].is_string(), "{product}");
    }
    // Debian's mail_location is mbox, which only Dovecot serves.
    assert!(
        texts(&report["findings"], "critical").iter().all(|text| text.contains("mbox")),
        "{report}"
    );
}

/// What the daemon alone can know comes from its own check, once for all planks that say it.
#[test]
fn what_a_daemon_refuses_blocks_its_plank() {
    let scratch = Scratch::new();
    let site = Site::render(&root().join("etc/vps"), scratch.path());
    site.set_main("smtpd_recipient_restrictions", "permit_mynetwork, reject_unauth_destination");
    site.set_main("virtual_mailbox_domains", "mysql:/etc/postfix/domains.cf");
    let (code, report) = theoris(&site, &["check", "--no-dns"]);
    assert_eq!(code, Some(2));
    let state = |name: &str| {
        let planks = report["planks"].as_array().unwrap();
        planks.iter().find(|plank| plank["plank"] == name).unwrap()["state"].clone()
    };
    assert_eq!((state("smtp-in"), state("imap")), ("blocked".into(), "ready".into()));
    assert_eq!((state("smtp-out"), state("queue")), ("ready".into(), "blocked".into()));
    assert!(
        texts(&report["findings"], "critical")
            .iter()
            .any(|text| text.contains("table of type mysql")),
        "{report:#}"
    );
}

/// A daemon that runs is seen through its control socket, which only root's daemons have.
#[test]
fn a_running_daemon_is_ours() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let scratch = Scratch::new();
    let site = Site::render(&root().join("etc/vps"), scratch.path());
    let sockets = scratch.join("sockets");
    std::fs::create_dir(&sockets).unwrap();
    let toml = site.root().join("etc/theoris.toml");
    std::fs::write(&toml, format!("run-directory = {:?}\n", sockets.display().to_string()))
        .unwrap();
    let daemon = site.start("smtp-delivery");
    let (_, status) = theoris(&site, &["status", "--no-dns"]);
    let plank =
        status["planks"].as_array().unwrap().iter().find(|plank| plank["plank"] == "smtp-out");
    let plank = plank.unwrap();
    assert_eq!(
        (plank["served"].as_str(), plank["workers"].as_u64() > Some(0)),
        (Some("ours"), true),
        "{plank}"
    );
    assert_eq!(plank["version"], env!("CARGO_PKG_VERSION"));
    assert!(
        status["certificates"].as_array().unwrap().iter().all(|one| one["days"].as_i64() > Some(0))
    );
    drop(daemon);
    let (_, status) = theoris(&site, &["status", "--no-dns"]);
    assert!(status["planks"].as_array().unwrap().iter().all(|plank| plank["served"] != "ours"));
}
