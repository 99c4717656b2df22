//! The machine as far as adopting depends on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::Files as _;
use config::files::Disk;

use super::daemons::{Answer, ask};
use super::report::Finding;
use crate::command::paths::Paths;
use crate::plank::Plank;

/// How long an original may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// Facts, so that a test can make them up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub host_name: String,
    /// `Debian GNU/Linux 12 (bookworm), Linux 6.1.0`
    pub system: String,
    /// Major and minor number of the kernel.
    pub kernel: (u32, u32),
    /// The kernel's security modules; `None` when it does not tell.
    pub modules: Option<String>,
    pub selinux_enforcing: bool,
    pub systemd: bool,
    pub root: bool,
    /// Seconds since 1970.
    pub now: i64,
    /// People with an account: name and home.
    pub users: Vec<(String, PathBuf)>,
    /// Versions of the originals that are installed.
    pub postfix: Option<String>,
    pub dovecot: Option<String>,
    pub opendkim: Option<String>,
}

impl Machine {
    /// This machine.
    pub fn this(paths: &Paths) -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        let release = nix::sys::utsname::uname()
            .map(|name| name.release().to_string_lossy().into_owned())
            .unwrap_or_default();
        let os = read("/etc/os-release").and_then(|text| pretty_name(&text));
        let mut machine = Self {
            host_name: Disk.host_name(),
            system: format!(
                "{}, Linux {release}",
                os.unwrap_or_else(|| "an unknown system".into())
            ),
            kernel: numbers(&release),
            modules: read("/sys/kernel/security/lsm"),
            selinux_enforcing: read("/sys/fs/selinux/enforce")
                .is_some_and(|text| text.trim() == "1"),
            systemd: Path::new("/run/systemd/system").is_dir(),
            root: nix::unistd::geteuid().is_root(),
            now: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs().cast_signed()),
            users: read("/etc/passwd").map(|text| people(&text)).unwrap_or_default(),
            ..Self::default()
        };
        // The versions of the originals say something of the host's own files alone.
        if !paths.postfix.by_operator {
            machine.postfix = version(&["postconf", "-d", "-h", "mail_version"]);
        }
        if !paths.dovecot.by_operator {
            machine.dovecot = version(&["dovecot", "--version"]);
        }
        if !paths.opendkim.by_operator {
            machine.opendkim = version(&["opendkim", "-V"]);
        }
        machine
    }

    /// What stands in the way of adopting, whatever the files say.
    pub fn obstacles(&self, planks: &[Plank]) -> Vec<Finding> {
        let mut found = Vec::new();
        if self.selinux_enforcing {
            found.push(
                Finding::critical(
                    None,
                    "SELinux is enforcing: a confined Postfix or Dovecot may not connect to sockets of other programs",
                )
                .mend("setenforce 0 while a plank is ours, until there is a policy module"),
            );
        }
        if !self.systemd {
            found.push(
                Finding::warning(None, "there is no systemd here: nothing can be adopted for good")
                    .mend("in a container, start our daemon in the place of the original"),
            );
        }
        if self.kernel < (5, 6) {
            found.push(Finding::note(
                None,
                "this kernel cannot pass on a listening socket (pidfd_getfd, Linux 5.6): ports change hands with a gap of some milliseconds",
            ));
        }
        let landlock = self.modules.as_ref().is_none_or(|modules| modules.contains("landlock"));
        if self.kernel < (5, 19) {
            found.push(Finding::note(
                None,
                "this kernel has no Landlock that allows a delivery into a Maildir (Linux 5.19): workers run without that part of their sandbox",
            ));
        } else if !landlock {
            found.push(
                Finding::note(
                    None,
                    "Landlock is not among the kernel's security modules: workers run without that part of their sandbox",
                )
                .mend("add landlock to lsm= on the kernel's command line"),
            );
        }
        if !self.root {
            found.push(
                Finding::warning(
                    None,
                    "not run as root: keys, tables and mailboxes may not be readable",
                )
                .mend("run it as root; it changes nothing"),
            );
        }
        for finding in &mut found {
            finding.planks = planks.to_vec();
        }
        found
    }
}

fn version(words: &[&str]) -> Option<String> {
    let (program, arguments) = words.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments);
    let Answer::Ended { out, .. } = ask(command, PATIENCE) else { return None };
    let text = String::from_utf8_lossy(&out);
    let line = text.lines().next()?.trim();
    // "opendkim: OpenDKIM Filter v2.11.0", "2.3.19.1 (9b53102964)", "3.7.11"
    let word = line
        .split_whitespace()
        .find(|word| word.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()))?;
    Some(word.trim_start_matches('v').to_owned())
}

/// Those of /etc/passwd with a uid of a person; users of a directory service are not asked for.
fn people(passwd: &str) -> Vec<(String, PathBuf)> {
    let person = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, _, _, home, ..] = fields.as_slice() else { return None };
        let uid: u32 = uid.parse().ok()?;
        (1000..60_000).contains(&uid).then(|| ((*name).to_owned(), PathBuf::from(home)))
    };
    passwd.lines().filter_map(person).collect()
}

fn pretty_name(os_release: &str) -> Option<String> {
    let line = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
}

fn numbers(release: &str) -> (u32, u32) {
    let mut parts =
        release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_tells_what_stands_in_the_way() {
        let fine = Machine { kernel: (6, 1), systemd: true, root: true, ..Machine::default() };
        assert_eq!(fine.obstacles(&Plank::ALL), Vec::new());
        for (machine, said) in [
            (Machine { selinux_enforcing: true, ..fine.clone() }, "SELinux is enforcing"),
            (Machine { systemd: false, ..fine.clone() }, "no systemd"),
            (Machine { kernel: (4, 18), ..fine.clone() }, "pidfd_getfd"),
            (Machine { kernel: (5, 15), ..fine.clone() }, "no Landlock"),
            (Machine { modules: Some("capability,apparmor".into()), ..fine.clone() }, "not among"),
            (Machine { root: false, ..fine.clone() }, "not run as root"),
        ] {
            let found = machine.obstacles(&[Plank::Imap]);
            assert!(found.iter().any(|one| one.text.contains(said)), "{said}: {found:?}");
            assert!(found.iter().all(|one| one.planks == [Plank::Imap]));
        }
    }

    #[test]
    fn what_the_system_says_of_itself_is_read() {
        assert_eq!(numbers("6.1.0-28-amd64"), (6, 1));
        assert_eq!(numbers("nonsense"), (0, 0));
        assert_eq!(
            pretty_name("ID=debian\nPRETTY_NAME=\"Debian 12\"\n").as_deref(),
            Some("Debian 12")
        );
    }
}
