//! `give-back`: the way back without any program of ours, for a host on which `theoris` does not run any more.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use harness::services::said;
use harness::{Scratch, skip};

use super::dkim;
use super::login::{IMAP, POP3, site, whole};
use super::rig::{Host, is_empty};
use super::smtp_out::{AT_A_RELOAD, Out, can_run};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("packages/give-back")
}

/// The script on a host whose `theoris` cannot be started: it says so when it is.
fn give_back(host: &Host, planks: &[&str]) -> Output {
    let scratch: &Scratch = &host.scratch;
    let broken = scratch
        .write("broken/theoris", "#!/bin/sh\necho a broken theoris was called >&2\nexit 126\n");
    let done = Command::new("chmod").arg("755").arg(&broken).status();
    assert!(done.unwrap().success());
    let services = host.services.drop_ins();
    let path = format!(
        "{}:{}:{}",
        broken.parent().unwrap().display(),
        services.parent().unwrap().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut command = Command::new("sh");
    command.arg(script()).env("PATH", path).stdin(Stdio::null());
    for (option, value) in [
        ("-c", scratch.join("postfix")),
        ("--dovecot", scratch.join("dovecot/dovecot.conf")),
        ("-x", scratch.join("opendkim.conf")),
        ("--state", scratch.join("state")),
        ("--units", services),
    ] {
        command.arg(option).arg(value);
    }
    command.args(planks).output().unwrap()
}

/// It gives everything back, and says nothing of a broken program.
#[track_caller]
fn gives_back(host: &Host, planks: &[&str]) -> String {
    let output = host.swapping(|| give_back(host, planks));
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains("broken theoris"), "{text}");
    text
}

/// Nothing remembers the plank.
#[track_caller]
fn is_forgotten(host: &Host, plank: &str) {
    assert!(!host.scratch.join("state/adopted.json").exists());
    let text = host.refused(&["release", plank]);
    assert!(text.contains(&format!("{plank} is not adopted")), "{text}");
}

fn second_names(host: &Host) -> usize {
    let entries = std::fs::read_dir(host.postfix().queue().join("private")).unwrap().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count()
}

#[test]
fn smtp_out_comes_back_under_mail() {
    if !can_run() {
        return;
    }
    let out = Out::new();
    let before = out.host.master_cf();
    let traffic = out.traffic();
    traffic.flows(5);
    out.host.must(&["adopt", "smtp-out"]);
    traffic.flows(5);
    let text = gives_back(&out.host, &[]);
    assert!(text.contains("private/relay is master's again"), "{text}");
    assert_eq!(out.host.master_cf(), before, "not a byte differs");
    assert!(out.host.services.pid("theoris-smtp-delivery.service").is_none());
    assert_eq!(second_names(&out.host), 0);
    let by_us = out.by_us();
    traffic.flows(9); // to every transport, relay among them
    let sent = traffic.end();
    out.all_once_or_twice(&sent); // the script holds no queue manager
    assert_eq!(out.by_us(), by_us, "Postfix delivers");
    out.host.no_complaints(AT_A_RELOAD);
    is_forgotten(&out.host, "smtp-out");
    out.host.must(&["adopt", "smtp-out"]);
    out.host.must(&["release", "smtp-out"]);
    assert_eq!(out.host.master_cf(), before);
}

/// Our daemon is gone as well, its unit broken, and a master that was started since has taken the socket of `relay`.
#[test]
fn smtp_out_comes_back_from_a_dead_daemon() {
    if !can_run() {
        return;
    }
    let mut out = Out::new();
    let before = out.host.master_cf();
    out.host.must(&["adopt", "smtp-out"]);
    out.host.services.break_unit("smtp-delivery");
    out.host.services.systemctl(&["stop", "theoris-smtp-delivery.service"]);
    let postfix = out.host.postfix.as_mut().unwrap();
    postfix.stop();
    postfix.start();
    // The record is unreadable, too: the marks tell what is ours.
    out.host.scratch.write("state/adopted.json", "\0");
    gives_back(&out.host, &[]);
    assert_eq!(out.host.master_cf(), before, "not a byte differs");
    let by_us = out.by_us();
    let traffic = out.traffic();
    traffic.flows(6);
    let sent = traffic.end();
    out.all_once(&sent);
    assert_eq!(out.by_us(), by_us);
    assert_eq!(second_names(&out.host), 0);
}

#[test]
fn a_file_that_cannot_be_written_is_told_and_nothing_is_forgotten() {
    if !can_run() {
        return;
    }
    let out = Out::new();
    let before = out.host.master_cf();
    out.host.must(&["adopt", "smtp-out"]);
    let blocking = out.host.scratch.directory("postfix/.master.cf.theoris-new/full");
    let output = give_back(&out.host, &["smtp-out"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("cannot be written"), "{text}");
    std::fs::remove_dir_all(blocking.parent().unwrap()).unwrap();
    gives_back(&out.host, &["smtp-out"]);
    assert_eq!(out.host.master_cf(), before);
}

#[test]
fn opendkim_comes_back_to_its_socket_and_its_port() {
    if !dkim::can_run() {
        return;
    }
    for on_port in [false, true] {
        let socket = if on_port { dkim::on_port } else { dkim::on_unix };
        let host = dkim::host(socket, "tempfail");
        dkim::wait_for_filter(&host);
        host.must(&["adopt", "dkim"]);
        gives_back(&host, &["dkim"]);
        assert!(host.services.pid(dkim::UNIT).is_some() && host.services.is_enabled(dkim::UNIT));
        assert!(host.services.pid("theoris-dkim-milter.service").is_none());
        dkim::wait_for_filter(&host);
        assert_eq!(std::fs::read_dir(host.services.drop_ins()).unwrap().count(), 0);
        host.no_complaints(dkim::IN_A_GAP);
        assert!(is_empty(&host.postfix().queue()));
        is_forgotten(&host, "dkim");
    }
}

#[test]
fn dovecot_serves_pop3_and_imap_again() {
    if !skip::can_run(true, &["dovecot"]) {
        return;
    }
    let site = site("!include_try conf.d/*.conf");
    let ports = [(site.dovecot.pop3, POP3), (site.dovecot.imap, IMAP)];
    let before = ports.map(|(port, dialogue)| whole(port, dialogue));
    let config = std::fs::read(site.dovecot.config()).unwrap();
    site.host.must(&["adopt", "pop3", "imap"]);
    // One alone first: the other one stays ours.
    gives_back(&site.host, &["imap"]);
    assert!(site.host.services.pid("theoris-imapd.service").is_none());
    assert!(site.host.services.pid("theoris-pop3d.service").is_some());
    let text = site.host.refused(&["release", "imap"]);
    assert!(text.contains("imap is not adopted"), "{text}");
    gives_back(&site.host, &[]);
    assert!(site.host.services.pid("theoris-pop3d.service").is_none());
    let conf_d = site.host.scratch.join("dovecot/conf.d");
    assert_eq!(std::fs::read_dir(conf_d).unwrap().count(), 0);
    assert_eq!(std::fs::read(site.dovecot.config()).unwrap(), config);
    for ((port, dialogue), before) in ports.into_iter().zip(before) {
        assert_eq!(whole(port, dialogue), before);
    }
    is_forgotten(&site.host, "pop3");
}

#[test]
fn a_host_without_planks_is_left_alone() {
    let scratch = Scratch::new();
    scratch.write("postfix/master.cf", "smtp unix - - n - - smtp\n#theoris is a ship\n");
    let host = Host::new(scratch, None, None);
    let text = gives_back(&host, &[]);
    assert!(text.contains("no plank is ours"), "{text}");
    assert_eq!(give_back(&host, &["mda"]).status.code(), Some(64));
}
