//! Accounts, and giving up privileges for good.

use std::ffi::CString;
use std::path::Path;

use nix::unistd::{self, Gid, Group, Uid, User};
use serde::{Deserialize, Serialize};

/// Whom a worker becomes: numbers, looked up by the supervisor before the worker starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups: exactly these, and none that the supervisor had.
    pub groups: Vec<u32>,
}

impl Account {
    /// Looks a system user up, with its supplementary groups.
    ///
    /// # Errors
    ///
    /// A sentence for the operator when there is no such user or it cannot be looked up.
    pub fn named(name: &str) -> Result<Self, String> {
        let user = User::from_name(name)
            .map_err(|errno| format!("cannot look up user {name}: {errno}"))?
            .ok_or_else(|| format!("there is no user {name}"))?;
        let c_name = CString::new(name).map_err(|_| format!("there is no user {name:?}"))?;
        let groups = unistd::getgrouplist(&c_name, user.gid)
            .map_err(|errno| format!("cannot look up the groups of {name}: {errno}"))?;
        Ok(Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
        })
    }

    /// Numbers without a name and without supplementary groups.
    pub fn numeric(uid: u32, gid: u32) -> Self {
        Self { name: uid.to_string(), uid, gid, groups: Vec::new() }
    }
}

/// Looks a group up by name.
///
/// # Errors
///
/// A sentence for the operator.
pub fn group(name: &str) -> Result<u32, String> {
    Group::from_name(name)
        .map_err(|errno| format!("cannot look up group {name}: {errno}"))?
        .map(|group| group.gid.as_raw())
        .ok_or_else(|| format!("there is no group {name}"))
}

/// True when processes of this one can become other users.
pub fn is_root() -> bool {
    unistd::geteuid().is_root()
}

/// Whether the modes of a file and of the directories above it let `account` read it; no account is
/// this process's own user. Access control lists are not looked at.
pub fn may_read(account: Option<&Account>, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Some(account) = account else { return std::fs::File::open(path).is_ok() };
    let may = |path: &Path, bit: u32| {
        let Ok(facts) = std::fs::metadata(path) else { return false };
        let held = facts.gid() == account.gid || account.groups.contains(&facts.gid());
        let shift = if facts.uid() == account.uid {
            6
        } else if held {
            3
        } else {
            0
        };
        account.uid == 0 || facts.mode() >> shift & bit != 0
    };
    may(path, 4) && path.ancestors().skip(1).all(|directory| may(directory, 1))
}

/// A step that was refused, or that left something behind; the worker must not go on.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegesError {
    #[error("cannot become {account}: {step}: {errno}")]
    Refused { account: String, step: &'static str, errno: nix::Error },
    #[error("cannot give up what {account} must not have: {left}")]
    Left { account: String, left: &'static str },
}

/// Becomes `account` for good: supplementary groups, group, user, in this order, each checked.
/// Does nothing when the process is not root (unprivileged mode). No thread may exist yet.
///
/// # Errors
///
/// If a step is refused, or if root is still within reach afterwards.
pub fn drop_to(account: &Account) -> Result<(), PrivilegesError> {
    if !is_root() {
        return drop_capabilities(account);
    }
    if account.uid == 0 {
        return Ok(());
    }
    let refused =
        |step| move |errno| PrivilegesError::Refused { account: account.name.clone(), step, errno };
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
    unistd::setgroups(&groups).map_err(refused("setgroups"))?;
    unistd::setresgid(gid, gid, gid).map_err(refused("setresgid"))?;
    unistd::setresuid(uid, uid, uid).map_err(refused("setresuid"))?;
    check(account, uid, gid, groups)
}

/// Not root, but perhaps with capabilities that a unit gave to the supervisor.
fn drop_capabilities(account: &Account) -> Result<(), PrivilegesError> {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let refused = |step| {
        move |errno: rustix::io::Errno| PrivilegesError::Refused {
            account: account.name.clone(),
            step,
            errno: nix::Error::from_raw(errno.raw_os_error()),
        }
    };
    let held = rustix::thread::capabilities(None).map_err(refused("capabilities"))?;
    if held.effective.is_empty() && held.permitted.is_empty() && held.inheritable.is_empty() {
        return Ok(()); // a unit's filter may not even allow to ask for less
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::clear_ambient_capability_set().map_err(refused("ambient capabilities"))?;
    set_capabilities(None, sets).map_err(refused("capabilities"))
}

fn check(
    account: &Account,
    uid: Uid,
    gid: Gid,
    mut groups: Vec<Gid>,
) -> Result<(), PrivilegesError> {
    let left = |left| Err(PrivilegesError::Left { account: account.name.clone(), left });
    let users = unistd::getresuid();
    if !users.is_ok_and(|now| [now.real, now.effective, now.saved] == [uid; 3]) {
        return left("a user id");
    }
    let now = unistd::getresgid();
    if !now.is_ok_and(|now| [now.real, now.effective, now.saved] == [gid; 3]) {
        return left("a group id");
    }
    let mut held = unistd::getgroups().unwrap_or_else(|_| vec![Gid::from_raw(0)]);
    for list in [&mut held, &mut groups] {
        list.sort_by_key(|gid| gid.as_raw());
        list.dedup();
    }
    if held != groups {
        return left("a supplementary group");
    }
    if unistd::setuid(Uid::from_raw(0)).is_ok() {
        return left("the way back to root");
    }
    let capabilities = rustix::thread::capabilities(None);
    if !capabilities.is_ok_and(|sets| sets.effective.is_empty() && sets.permitted.is_empty()) {
        return left("a capability");
    }
    Ok(())
}

/// From now on no program that this process starts can gain anything by its set-uid bit.
///
/// # Errors
///
/// If the kernel refuses.
pub fn forbid_new_privileges() -> std::io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}
