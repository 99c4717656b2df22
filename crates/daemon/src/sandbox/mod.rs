//! What keeps a worker that a peer has taken over from doing anything but its work.
//!
//! Three walls, put up before the runtime starts any thread: no program can give it privileges
//! (no_new_privs), Landlock shows it only the files of its role, and seccomp refuses every system call
//! that no worker needs. A [`Role`](crate::Role) says what it [`Needs`]; nothing is the default.

mod calls;
mod capabilities;
mod files;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use config::theoris::SandboxMode as Mode;

pub(crate) use capabilities::keep_of_supervisor;
pub(crate) use files::available;

/// What a role's processes do beyond computing, speaking on descriptors they were given, and
/// connecting to unix sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Files and directories (with everything below) that it opens for reading. What does not exist at
    /// its start stays out of reach.
    pub read: Vec<PathBuf>,
    /// The same for reading, writing, creating and removing.
    pub write: Vec<PathBuf>,
    /// Writes wherever mailboxes may be: the home directory it was started for, and every directory of the
    /// system but those that never hold mail.
    pub mailboxes: bool,
    /// Talks to other hosts.
    pub network: bool,
    /// Asks for system users by [`Worker::users`](crate::Worker::users).
    pub users: bool,
    /// Loads shared libraries while it runs.
    pub libraries: bool,
}

impl Needs {
    /// Lets it write below each absolute path of a text such as `maildir:/srv/%d/%n:INDEX=/idx/%u`, up
    /// to the first variable.
    pub fn write_below(&mut self, text: &str) {
        for part in text.split([':', '=']).filter(|part| part.starts_with('/')) {
            let fixed = part.split('%').next().unwrap_or_default();
            let whole =
                if fixed == part { fixed } else { fixed.rsplit_once('/').map_or("", |(d, _)| d) };
            // All of it would be no sandbox.
            if !whole.trim_matches('/').is_empty() {
                self.write.push(whole.into());
            }
        }
    }

    fn writes(&self) -> bool {
        self.mailboxes || !self.write.is_empty()
    }
}

/// A wall that could not be put up; the worker must not go on.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("no_new_privs: {0}")]
    NoNewPrivileges(std::io::Error),
    #[error("Landlock: {0}")]
    Landlock(String),
    #[error("seccomp: {0}")]
    Seccomp(String),
}

/// Puts up the walls around this process, for good. `home` is of the user it was started for. No
/// thread may exist yet.
///
/// # Errors
///
/// If the kernel refuses one that it has.
pub fn enter(needs: Option<&Needs>, mode: Mode, home: Option<&str>) -> Result<(), SandboxError> {
    let Some(needs) = needs else { return Ok(()) };
    crate::privileges::forbid_new_privileges().map_err(SandboxError::NoNewPrivileges)?;
    if mode == Mode::Off {
        return Ok(());
    }
    files::restrict(needs, home).map_err(|error| SandboxError::Landlock(error.to_string()))?;
    calls::restrict(needs, mode).map_err(|error| SandboxError::Seccomp(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_paths_are_cut_at_their_variables() {
        let mut needs = Needs::default();
        needs.write_below("maildir:/srv/mail/%d/%n:INDEX=/idx/x%u:LAYOUT=fs");
        needs.write_below("maildir:~/Maildir");
        needs.write_below("/%u");
        needs.write_below("/var/mail");
        let write: Vec<_> = needs.write.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(write, ["/srv/mail", "/idx", "/var/mail"]);
    }
}
