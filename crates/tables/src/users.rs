//! `unix:passwd.byname` and `unix:group.byname`: the system's own accounts as tables.

use nix::unistd::{Group, User};

/// Asks the name service. Behind a trait, as a sandboxed worker asks a helper and a test asks nobody.
pub trait Users: Send + Sync {
    /// The passwd(5) line of an account.
    ///
    /// # Errors
    ///
    /// What the name service said, when it could not answer.
    fn passwd(&self, name: &str) -> Result<Option<String>, String>;

    /// The group(5) line of a group.
    ///
    /// # Errors
    ///
    /// What the name service said, when it could not answer.
    fn group(&self, name: &str) -> Result<Option<String>, String>;
}

/// The accounts of this system, through its name service switch.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemUsers;

impl Users for SystemUsers {
    fn passwd(&self, name: &str) -> Result<Option<String>, String> {
        let user = User::from_name(name).map_err(|errno| errno.to_string())?;
        Ok(user.map(|user| {
            format!(
                "{}:{}:{}:{}:{}:{}:{}",
                user.name,
                user.passwd.to_string_lossy(),
                user.uid,
                user.gid,
                user.gecos.to_string_lossy(),
                user.dir.display(),
                user.shell.display()
            )
        }))
    }

    fn group(&self, name: &str) -> Result<Option<String>, String> {
        let group = Group::from_name(name).map_err(|errno| errno.to_string())?;
        Ok(group.map(|group| {
            format!(
                "{}:{}:{}:{}",
                group.name,
                group.passwd.to_string_lossy(),
                group.gid,
                group.mem.join(",")
            )
        }))
    }
}
