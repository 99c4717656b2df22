//! Dovecot's ports: closed and opened by a file of our own in conf.d, which doveconf has to show in effect.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::net::sockopt;
use serde::{Deserialize, Serialize};

use super::catch::Catch;
use super::process::{self, Address};
use super::services::run as run_program;
use super::steps::{Run, until};
use super::{Mishap, Places, logins, rewrite};

/// The name of its master process.
pub const PROGRAM: &str = "dovecot";
const RELOAD_LIMIT: Duration = Duration::from_secs(10);
/// A reload that has come to nothing until then is asked for again: one that Dovecot gets while it starts is lost.
const RELOAD_AGAIN: Duration = Duration::from_secs(3);
const DOVECONF_LIMIT: Duration = Duration::from_secs(5);

/// One of Dovecot's login services, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `pop3-login`.
    pub service: String,
    /// Names of its inet_listeners.
    pub listeners: Vec<String>,
    pub at: Vec<Address>,
    pub configuration: PathBuf,
    pub base: PathBuf,
    /// Postfix's configuration directory, whose smtpd may ask Dovecot who may log in.
    #[serde(default = "usual_postfix")]
    pub postfix: PathBuf,
    /// Ours.
    pub file: PathBuf,
    pub daemon: String,
    /// Whom `auth-master` has to be for; nothing when our broker reaches it as it is.
    pub master_user: Option<String>,
}

/// For records of a version that did not look at Postfix.
fn usual_postfix() -> PathBuf {
    Places::default().postfix
}

/// What our file says of each listener.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Say {
    Prepared,
    Closed,
    Shared,
}

impl Part {
    fn text(&self, say: Say) -> String {
        let line = match say {
            Say::Prepared => None,
            Say::Closed => Some("port = 0"),
            Say::Shared => Some("reuse_port = yes"),
        };
        let mut text = format!(
            "# Written by theoris adopt: {} serves these ports. theoris release removes this file.\n",
            self.daemon
        );
        if let Some(user) = &self.master_user {
            text.push_str(&format!(
                "service auth {{\n  unix_listener auth-master {{\n    user = {user}\n    mode = 0600\n  }}\n}}\n"
            ));
        }
        let Some(line) = line else { return text };
        text.push_str(&format!("service {} {{\n", self.service));
        for name in &self.listeners {
            text.push_str(&format!("  inet_listener {name} {{\n    {line}\n  }}\n"));
        }
        text.push_str("}\n");
        text
    }

    /// The change, for people.
    pub fn shown(&self) -> String {
        self.text(Say::Closed)
    }

    fn master(&self) -> Option<i32> {
        let text = fs::read_to_string(self.base.join("master.pid")).ok()?;
        let pid = text.trim().parse().ok()?;
        (process::is_alive(pid) && process::command(pid) == PROGRAM).then_some(pid)
    }

    fn reload(&self) -> Result<(), Mishap> {
        let Some(pid) = self.master() else {
            return Err(Mishap("Dovecot does not run".into()));
        };
        logins::spared(&self.postfix, (&self.configuration, pid), || {
            kill(Pid::from_raw(pid), Signal::SIGHUP)
                .map_err(|error| Mishap(format!("cannot signal Dovecot, pid {pid}: {error}")))
        })
    }

    /// Reloads until it has had its effect.
    fn reload_until(&self, effect: impl Fn() -> bool, failure: &str) -> Result<(), Mishap> {
        let begun = Instant::now();
        while begun.elapsed() < RELOAD_LIMIT {
            self.reload()?;
            if until(RELOAD_AGAIN, &effect).is_ok() {
                return Ok(());
            }
        }
        Err(Mishap(format!("{failure}; see Dovecot's log")))
    }

    fn write(&self, say: Say) -> Result<(), Mishap> {
        let failed = |error| Mishap::file(&self.file, &error);
        rewrite::replace(&self.file, self.text(say).as_bytes()).map_err(failed)
    }

    fn remove(&self) -> Result<(), Mishap> {
        rewrite::remove(&self.file).map_err(|error| Mishap::file(&self.file, &error))
    }

    /// What doveconf has for a setting of a listener.
    fn asked(&self, name: &str, setting: &str) -> Result<String, Mishap> {
        let path = format!("service/{}/inet_listener/{name}/{setting}", self.service);
        let mut command = Command::new("doveconf");
        command.arg("-c").arg(&self.configuration).args(["-h", &path]);
        Ok(run_program(&mut command, DOVECONF_LIMIT)?.trim().to_owned())
    }

    /// Lets our broker confirm logins with Dovecot's auth.
    ///
    /// # Errors
    ///
    /// When our file has no effect: it is taken away again.
    pub fn prepare(&self) -> Result<(), Mishap> {
        let Some(user) = &self.master_user else { return Ok(()) };
        self.write(Say::Prepared)?;
        let mut command = Command::new("doveconf");
        command.arg("-c").arg(&self.configuration);
        command.args(["-h", "service/auth/unix_listener/auth-master/user"]);
        let has = run_program(&mut command, DOVECONF_LIMIT)?;
        if has.trim() != user {
            self.remove()?;
            return Err(
                self.no_effect(&format!("unix_listener auth-master has user {:?}", has.trim()))
            );
        }
        let wanted =
            nix::unistd::User::from_name(user).ok().flatten().map(|user| user.uid.as_raw());
        let path = self.base.join("auth-master");
        let owned = || {
            let facts = fs::metadata(&path);
            facts.is_ok_and(|facts| Some(std::os::unix::fs::MetadataExt::uid(&facts)) == wanted)
        };
        self.reload_until(owned, &format!("{}: does not become {user}'s", path.display()))
    }

    fn no_effect(&self, what: &str) -> Mishap {
        Mishap(format!(
            "{}: not in effect: {what}; write \"!include {}\" as the last line of {}",
            self.file.display(),
            self.file.display(),
            self.configuration.display()
        ))
    }

    /// Refuses a file that another one overrides, or that nothing includes.
    fn prove(&self) -> Result<(), Mishap> {
        for name in &self.listeners {
            let port = self.asked(name, "port")?;
            if port != "0" {
                return Err(self.no_effect(&format!("inet_listener {name} still has port {port}")));
            }
        }
        Ok(())
    }

    /// Whether Dovecot would leave the ports to us if it started now.
    ///
    /// # Errors
    ///
    /// When doveconf does not tell, as in the middle of somebody's work.
    pub fn leaves(&self) -> Result<bool, Mishap> {
        for name in &self.listeners {
            if self.asked(name, "port")? != "0" {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Has Dovecot close the ports that our daemon shares with it by now.
    ///
    /// # Errors
    ///
    /// When our file has no effect: it is taken away again.
    pub fn close(&self, run: &mut Run<'_>) -> Result<(), Mishap> {
        self.write(Say::Closed)?;
        if let Err(why) = self.prove() {
            self.remove()?;
            return Err(why);
        }
        if run.gap {
            let catch = Catch::begin(&self.at);
            self.reload()?;
            return run.caught(catch, RELOAD_LIMIT);
        }
        let closes = |pid| self.at.iter().all(|at| process::listening(pid, at).is_empty());
        let closed = || self.master().is_some_and(closes);
        self.reload_until(closed, "Dovecot does not close its ports")
    }

    fn listens(&self) -> bool {
        let listens = |pid| self.at.iter().all(|at| !process::listening(pid, at).is_empty());
        self.master().is_some_and(listens)
    }

    /// Has Dovecot open its ports again, beside ours, and then stops ours.
    ///
    /// # Errors
    ///
    /// When Dovecot does not listen again; ours goes on then.
    pub fn give_back(&self, run: &mut Run<'_>) -> Result<(), Mishap> {
        let ours = run.services.process(&self.daemon);
        if self.master().is_none() || self.listens() {
            run.services.stop(&self.daemon)?;
            if self.file.exists() {
                self.remove()?;
                if self.master().is_some() {
                    self.reload()?; // it may have given our broker its auth-master
                }
            }
            return Ok(());
        }
        // Without handed sockets, those that were bound for ours can be shared since then.
        if let Some(pid) = ours
            && (run.gap || self.share(pid).is_ok())
        {
            self.write(Say::Shared)?;
            self.reload()?;
            if until(Duration::from_secs(3), || self.listens()).is_ok() {
                run.services.stop(&self.daemon)?;
                self.remove()?;
                self.reload()?;
                return Ok(());
            }
        }
        self.remove()?;
        run.services.begin_stop(&self.daemon)?;
        let free = || {
            ours.is_none_or(|pid| self.at.iter().all(|at| process::listening(pid, at).is_empty()))
        };
        let begun = Instant::now();
        let _ = until(RELOAD_LIMIT, free);
        self.reload_until(|| self.listens(), "Dovecot does not open its ports")?;
        run.notes.push(format!(
            "{}: nobody listened for {} ms",
            self.service,
            begun.elapsed().as_millis()
        ));
        run.services.stop(&self.daemon)
    }

    /// Lets Dovecot bind beside the sockets of ours.
    fn share(&self, pid: i32) -> std::io::Result<()> {
        for at in &self.at {
            for listening in process::listening(pid, at) {
                let socket: OwnedFd = process::take(&listening)?;
                sockopt::set_socket_reuseport(&socket, true)?;
            }
        }
        Ok(())
    }
}

/// Where our file stands: the conf.d beside dovecot.conf.
pub fn own_file(configuration: &Path, protocol: &str) -> PathBuf {
    let directory = configuration.parent().unwrap_or(Path::new("/etc/dovecot")).join("conf.d");
    directory.join(format!("{}{protocol}.conf", config::dovecot::ADOPTED_FILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planks::lingering::Lingering;

    /// The compliance suite has doveconf 2.4 read the same file; 2.3 reads it in every swap.
    #[test]
    fn the_file_closes_every_listener_and_lets_our_broker_in() {
        let part = Part {
            service: "imap-login".into(),
            listeners: vec!["imap".into(), "imaps".into()],
            at: Vec::new(),
            configuration: "/etc/dovecot/dovecot.conf".into(),
            base: "/run/dovecot".into(),
            postfix: usual_postfix(),
            file: own_file("/etc/dovecot/dovecot.conf".as_ref(), "imap"),
            daemon: "imapd".into(),
            master_user: Some("dovecot".into()),
        };
        assert!(part.file.ends_with("conf.d/99-theoris-imap.conf"));
        assert_eq!(
            part.shown(),
            include_str!("../../../../tests/src/compliance/config/2.4/99-theoris-imap.conf")
        );
    }

    /// A reload takes Dovecot a moment, in which the port is still its own.
    #[test]
    fn the_next_step_waits_until_dovecot_has_closed_its_port() {
        closes(0);
    }

    #[test]
    fn a_reload_that_dovecot_has_missed_is_asked_for_again() {
        closes(1);
    }

    fn closes(missed: usize) {
        let base = tempfile::tempdir().unwrap();
        let mut theirs = Lingering::start(base.path(), PROGRAM, "tcp");
        theirs.missed = missed;
        fs::write(base.path().join("master.pid"), format!("{}\n", theirs.pid())).unwrap();
        let part = Part {
            service: "pop3-login".into(),
            listeners: Vec::new(), // doveconf has nothing to prove
            at: vec![theirs.at.clone()],
            configuration: base.path().join("dovecot.conf"),
            base: base.path().to_owned(),
            postfix: base.path().to_owned(), // nobody asks Dovecot who may log in
            file: base.path().join("99-theoris-pop3.conf"),
            daemon: "pop3d".into(),
            master_user: None,
        };
        theirs.awaited_by(move |run| part.close(run));
    }
}
