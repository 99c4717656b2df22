//! A private Dovecot 2.3: Debian's programs with a configuration, sockets, users and a log of their own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Log, Scratch, ports};

/// The uid and gid that own virtual mailboxes in the tests; no user of the machine has it.
pub const VMAIL: u32 = 5000;

/// A Dovecot configuration in a scratch directory; [`Dovecot::start`] runs Debian's master on it.
#[derive(Debug)]
pub struct Dovecot {
    root: PathBuf,
    pub imap: u16,
    pub pop3: u16,
    pub lmtp: PathBuf,
    pub log: Log,
    running: bool,
}

impl Dovecot {
    /// Lays out `dovecot/dovecot.conf` and `dovecot/users` in `scratch`; mail lies in `vhosts/DOMAIN/USER/Maildir`, owned by
    /// [`VMAIL`]. `users` are `name:password` pairs (scheme PLAIN). `extra` is appended to the configuration.
    pub fn lay(scratch: &Scratch, users: &[(&str, &str)], extra: &str) -> Self {
        let root = scratch.path().to_owned();
        let shown = root.display();
        let (imap, pop3) = (ports::free(), ports::free());
        let mail = scratch.directory("vhosts");
        if nix::unistd::geteuid().is_root() {
            nix::unistd::chown(&mail, Some(VMAIL.into()), Some(VMAIL.into())).unwrap();
        }
        let lines: String = users
            .iter()
            .map(|(name, password)| format!("{name}:{{PLAIN}}{password}::::::\n"))
            .collect();
        let path = scratch.write("dovecot/users", lines);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
        scratch.write(
            "dovecot/dovecot.conf",
            format!(
                "\
base_dir = {shown}/dovecot-run
state_dir = {shown}/dovecot-state
log_path = {shown}/dovecot.log
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_location = maildir:{shown}/vhosts/%d/%n/Maildir
first_valid_uid = 500
mail_uid = {VMAIL}
mail_gid = {VMAIL}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {shown}/dovecot/users
}}
userdb {{
  driver = static
  args = uid={VMAIL} gid={VMAIL} home={shown}/vhosts/%d/%n
}}
namespace inbox {{
  inbox = yes
}}
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
}}
service auth {{
  unix_listener auth-client {{
    mode = 0666
  }}
  unix_listener auth-userdb {{
    mode = 0666
  }}
}}
service stats {{
  chroot =
}}
{extra}
"
            ),
        );
        scratch.directory("dovecot-state");
        let lmtp = root.join("dovecot-run/lmtp");
        Self { root, imap, pop3, lmtp, log: Log::default(), running: false }
    }

    /// The configuration file, for `-c`.
    pub fn config(&self) -> PathBuf {
        self.root.join("dovecot/dovecot.conf")
    }

    /// A socket in its base_dir, such as `auth-client`.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.root.join("dovecot-run").join(name)
    }

    /// The Maildir of `user@domain`.
    pub fn maildir(&self, address: &str) -> PathBuf {
        let (user, domain) = address.split_once('@').unwrap();
        self.root.join("vhosts").join(domain).join(user).join("Maildir")
    }

    #[track_caller]
    pub fn start(&mut self) {
        self.start_with(|_| {});
    }

    /// As [`Dovecot::start`], with a last word on the command.
    #[track_caller]
    pub fn start_with(&mut self, adjust: impl FnOnce(&mut Command)) {
        let mut command = Command::new("dovecot");
        command.arg("-c").arg(self.config());
        adjust(&mut command);
        // Not output(): the daemon keeps what it inherits.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        assert!(
            command.stderr(Stdio::null()).status().unwrap().success(),
            "dovecot does not start"
        );
        self.running = true;
        let path = self.root.join("dovecot.log");
        crate::log::eventually("Dovecot's log", || path.exists().then_some(()));
        self.log.follow_file(&path, self.master_pid());
        self.log.wait_for("starting up for");
    }

    #[track_caller]
    pub fn master_pid(&self) -> i32 {
        let path = self.root.join("dovecot-run/master.pid");
        crate::log::eventually("Dovecot's master.pid", || {
            std::fs::read_to_string(&path).ok()?.trim().parse().ok()
        })
    }

    /// `doveadm -c CONFIG words…`: its standard output; stops the test when it fails.
    #[track_caller]
    pub fn doveadm(&self, words: &[&str]) -> String {
        let output =
            Command::new("doveadm").arg("-c").arg(self.config()).args(words).output().unwrap();
        assert!(
            output.status.success(),
            "doveadm {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn stop(&mut self) {
        if self.running {
            self.running = false;
            let pid = self.master_pid();
            let _ = Command::new("doveadm").arg("-c").arg(self.config()).arg("stop").output();
            crate::log::eventually("dovecot to end", || {
                (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
            });
        }
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        self.stop();
    }
}
