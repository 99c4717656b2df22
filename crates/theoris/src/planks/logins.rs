//! Postfix's smtpd and the socket at which it asks Dovecot who may log in.
//!
//! A reload of Dovecot takes all its Unix sockets away and makes them anew, some milliseconds later. An smtpd connects in
//! its first session, and one that meets no socket, or a connection that nobody takes any more, ends with `no SASL
//! authentication mechanisms`; master starts no other one for a minute. What is connected already stays so: the old auth
//! serves it for some seconds. So master and its smtpds are held around the reload.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::Problems;
use config::files::Disk;
use config::postfix::Host;

use super::hold::Held;
use super::process::{self, Address, Listening};
use super::prospect::text_of;
use super::steps::until;
use super::{Mishap, postfix};
use crate::check::mistakes::seams::{login_socket, sockets};

/// One that master has just forked has its parent's name. They are looked for in this order: it changes its name once.
const SERVERS: [&str; 2] = ["master", "smtpd"];
/// How long connections that Dovecot has not accepted are waited for.
const ACCEPTED: Duration = Duration::from_secs(5);
/// As long as any other wait for a reload of Dovecot, which reads its whole configuration first.
const REOPENED: Duration = Duration::from_secs(10);

/// Reloads Dovecot, whose master this is, without an instant in which an smtpd of the Postfix that is configured here finds
/// no socket. Whoever is held goes on at the end, or when this run is killed.
///
/// # Errors
///
/// Those of the reload.
pub fn spared(
    configuration: &Path,
    dovecot: (&Path, i32),
    reload: impl FnOnce() -> Result<(), Mishap>,
) -> Result<(), Mishap> {
    let (file, pid) = dovecot;
    let host = Host::read(&Disk, configuration, &mut Problems::default());
    let queue = text_of(&host, "queue_directory");
    let open = |at: &Address| process::listening(pid, at);
    let asked: Vec<(Address, Vec<Listening>)> = asked(&host, file)
        .into_iter()
        .map(|at| (at.clone(), open(&at)))
        .filter(|(_, listening)| !listening.is_empty())
        .collect();
    let master = postfix::master(queue.as_ref()).filter(|_| !asked.is_empty());
    let Some(master) = master else { return reload() };
    let at: Vec<Address> = asked.iter().map(|(at, _)| at.clone()).collect();
    let held = hold(master);
    let _ = until(ACCEPTED, || process::served(&[pid], &at) == 0);
    reload()?;
    // Dovecot closes all its old sockets before it opens the first new one.
    let anew = |(at, old): &(Address, Vec<Listening>)| {
        open(at).iter().any(|new| old.iter().all(|old| old.inode != new.inode))
    };
    let _ = until(REOPENED, || asked.iter().all(anew) || !process::is_alive(pid));
    drop(held);
    Ok(())
}

/// The sockets of Dovecot's auth, as Dovecot names them, that servers of this Postfix ask.
fn asked(host: &Host, dovecot: &Path) -> Vec<Address> {
    let real = |path: &PathBuf| fs::canonicalize(path).ok();
    let wanted: Vec<PathBuf> = host
        .running("smtpd")
        .filter_map(|service| login_socket(host, service))
        .filter_map(|path| real(&path))
        .collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    let config = config::dovecot::Config::read(&Disk, dovecot, &mut Problems::default());
    let auth = sockets(&config, "auth").into_iter();
    auth.filter(|path| real(path).is_some_and(|path| wanted.contains(&path)))
        .map(Address::Unix)
        .collect()
}

/// master first: it starts nobody then.
fn hold(master: i32) -> Vec<Held> {
    let Ok(first) = Held::first_thread(master) else { return Vec::new() };
    let mut held = vec![first];
    for name in SERVERS {
        let servers = process::children(master, name);
        held.extend(servers.into_iter().filter_map(|pid| Held::first_thread(pid).ok()));
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sockets_that_smtpd_asks_and_dovecot_has_are_found() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for directory in ["spool/private", "run"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        std::os::unix::fs::symlink(at("run"), at("link")).unwrap();
        for socket in ["spool/private/auth", "spool/private/other", "run/auth-client"] {
            fs::write(at(socket), "").unwrap();
        }
        let shown = root.path().display().to_string();
        fs::write(
            at("dovecot.conf"),
            format!(
                "base_dir = {shown}/run\nservice auth {{\n  unix_listener {shown}/spool/private/auth {{\n    mode = 0666\n  }}\n}}\n"
            ),
        )
        .unwrap();
        let main = format!("queue_directory = {shown}/spool\nsmtpd_sasl_auth_enable = yes\n");
        let smtpd = "smtp inet n - n - - smtpd\n";
        let found = |main: &str, master: &str| -> Vec<String> {
            fs::write(at("main.cf"), main).unwrap();
            fs::write(at("master.cf"), master).unwrap();
            let host = Host::read(&Disk, root.path(), &mut Problems::default());
            let found = asked(&host, &at("dovecot.conf"));
            found.iter().map(|at| at.to_string().replace(&shown, "")).collect()
        };
        let with =
            |path: &str| format!("{main}smtpd_sasl_type = dovecot\nsmtpd_sasl_path = {path}\n");
        assert_eq!(found(&with("private/auth"), smtpd), ["/spool/private/auth"]);
        assert_eq!(found(&with("unix:private/auth"), smtpd), ["/spool/private/auth"]);
        // The same directory by another name, as /var/run is.
        assert_eq!(found(&with(&format!("{shown}/link/auth-client")), smtpd), ["/run/auth-client"]);
        let chrooted = "smtp inet n - y - - smtpd\n  -o smtpd_sasl_path=/private/auth\n";
        assert_eq!(found(&with("x"), chrooted), ["/spool/private/auth"]);
        let none: [(String, &str); 5] = [
            (with("private/other"), smtpd),
            (with("inet:127.0.0.1:12345"), smtpd),
            (main.clone() + "smtpd_sasl_path = private/auth\n", smtpd),
            (with("private/auth"), "smtp inet n - n - - smtpd\n  -o smtpd_sasl_auth_enable=no\n"),
            (with("private/auth"), "smtp unix - - n - - smtp\n"),
        ];
        for (main, master) in none {
            assert_eq!(found(&main, master), [""; 0], "{main}{master}");
        }
    }
}
