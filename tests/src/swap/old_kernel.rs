//! A kernel that hands no sockets over: one before 5.6, or a container whose filter of system calls refuses `pidfd_getfd`.

use std::process::{Command, Output};

use harness::services::said;
use harness::skip;
use nix::errno::Errno;

use super::rig::Host;
use super::{dkim, login};

const WITHOUT: &str = include_str!("without_pidfd_getfd.py");

/// `theoris` there.
fn theoris(host: &Host, words: &[&str], error: Errno) -> Output {
    let command = host.command(words);
    Command::new("/usr/bin/python3")
        .args(["-IS", "-c", WITHOUT, &(error as i32).to_string()])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

/// Refused before anything is changed, with what to do; with `--gap` it goes in, and out as far as the kernel can.
#[track_caller]
fn gap_is_named(host: &Host, plank: &str, serves: impl Fn()) {
    for error in [Errno::ENOSYS, Errno::EPERM] {
        let done = theoris(host, &["adopt", plank], error);
        let told = said(&done);
        assert_eq!(done.status.code(), Some(2), "{told}");
        assert!(told.contains("cannot take ") && told.contains(error.desc()), "{told}");
        assert!(told.contains("; --gap swaps with a short gap"), "{told}");
        assert!(told.contains("nothing was changed"), "{told}");
        serves();
    }
    for words in [["adopt", plank, "--gap"].as_slice(), &["release", plank]] {
        let done = theoris(host, words, Errno::ENOSYS);
        let told = said(&done);
        assert!(done.status.success(), "{told}");
        assert!(told.contains("nobody listened for "), "{told}");
        serves();
    }
}

#[test]
fn dovecots_ports_are_swapped_with_gap_where_none_can_be_handed_over() {
    if !skip::can_run(true, &["dovecot", "python3"]) {
        return;
    }
    let site = login::site("!include_try conf.d/*.conf");
    let before = login::whole(site.dovecot.pop3, login::POP3);
    gap_is_named(&site.host, "pop3", || {
        assert_eq!(login::whole(site.dovecot.pop3, login::POP3), before);
    });
    assert!(!site.host.scratch.join("dovecot/conf.d/99-theoris-pop3.conf").exists());
}

#[test]
fn opendkims_port_is_swapped_with_gap_where_it_cannot_be_handed_over() {
    if !dkim::can_run() {
        return;
    }
    let host = dkim::host(dkim::on_port, "tempfail");
    dkim::wait_for_filter(&host);
    gap_is_named(&host, "dkim", || dkim::wait_for_filter(&host));
    assert!(host.services.pid(dkim::UNIT).is_some());
}
