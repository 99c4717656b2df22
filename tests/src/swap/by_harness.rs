//! The plank authd, which no command swaps yet, under every kind of mail: in and out by the harness, all else being the
//! originals.

use std::path::Path;

use harness::Log;
use harness::daemon::Daemon;
use harness::log::eventually;
use harness::swap::{keep, put_back};
use theoris::planks::process;

use super::lines::{Allowed, BEGINS, When, complaints};
use super::mix::{Expected, Logins, Milter, Mix, Way, can_run};

/// The sockets of Dovecot's `service auth`.
const AUTH: [&str; 6] = [
    "auth-client",
    "auth-login",
    "auth-master",
    "auth-userdb",
    "login/login",
    "token-login/tokenlogin",
];

/// One daemon of ours, and what all its runs have said.
#[derive(Default)]
struct Plank {
    running: Option<Daemon>,
    log: Log,
}

impl Plank {
    #[track_caller]
    fn start(&mut self, mix: &Mix, name: &str, words: &[&str]) {
        let toml = mix.host.toml();
        let words = [words, &["--theoris", &toml]].concat();
        let run = mix.host.scratch.directory("run");
        self.log.push(BEGINS.to_owned());
        self.running = Some(Daemon::start_with(name, &run, &words, self.log.clone(), |_| {}));
    }

    /// Nobody has reached its sockets whom it has not accepted.
    #[track_caller]
    fn nobody_waits(&self) {
        let pid = self.running.as_ref().unwrap().pid();
        eventually("nobody to wait", || (process::waiting(pid) == 0).then_some(()));
    }

    #[track_caller]
    fn stop(&mut self) {
        self.log.push(BEGINS.to_owned());
        assert!(self.running.take().unwrap().stop().success(), "{}", self.log.text());
    }

    /// Ours complains of nothing else.
    #[track_caller]
    fn is_quiet(&self, allowed: &[Allowed]) {
        let bad = complaints(&self.log.text(), allowed);
        assert!(bad.is_empty(), "{bad:#?}\n{}", self.log.text());
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// Dovecot's lmtp keeps its connection to auth, as it does beside Dovecot's own; when that has ended behind it, it says so at
/// the next message, which Postfix brings again.
const AUTH_HAS_ENDED: &[Allowed] = &[
    Allowed {
        line: "lmtp(*: Error: auth-master: userdb lookup(*): write(auth socket) failed: Broken pipe",
        when: When::InASwap(LMTP),
        why: "it writes on the connection to auth that has ended",
    },
    Allowed {
        line: "lmtp(*): Error: lmtp-server: conn *: rcpt *: Failed to lookup user *: Internal error occurred. Refer to server log for more information.",
        when: When::InASwap(LMTP),
        why: "so it puts the message off",
    },
];
/// Processes of Dovecot's lmtp: Postfix delivers so many messages at once to a destination.
const LMTP: usize = 20;

#[test]
fn auth_under_every_kind_of_mail() {
    if !can_run() {
        return;
    }
    let (mix, mut ours) = (Mix::new(Milter::Unix, Logins::Some), Plank::default());
    let config = show(&mix.dovecot.config());
    let expected = Expected { dovecot: AUTH_HAS_ENDED, ..Expected::default() };
    mix.swapped_three_times(&expected, |mix, way| match way {
        Way::In => {
            // Dovecot listens on, under a name that nobody uses: there is no instant without a socket.
            AUTH.iter().for_each(|name| keep(&mix.dovecot.socket(name)));
            ours.start(mix, "authd", &["-c", &config]);
        }
        Way::Out => {
            AUTH.iter().for_each(|name| put_back(&mix.dovecot.socket(name)));
            ours.nobody_waits();
            ours.stop();
        }
    });
    ours.is_quiet(&[]);
}
