//! Landlock: which files and ports a worker can reach at all, whatever their modes say.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use super::Needs;

/// The newest that is known here; an older kernel enforces what it knows.
const KNOWN: ABI = ABI::V6;
/// What any program may read: time zones, and facts about itself.
const READABLE: [&str; 4] = ["/etc/localtime", "/usr/share/zoneinfo", "/proc/self", "/dev/urandom"];
/// Top-level directories that hold no mail.
const WITHOUT_MAIL: [&str; 13] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run",
    "/sbin", "/sys", "/usr",
];

/// Whether the kernel has Landlock that allows renames from one directory to another (ABI 2): every
/// delivery into a Maildir is one.
pub(crate) fn available() -> bool {
    let asked = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer);
    asked.is_ok_and(|ruleset| ruleset.create().is_ok())
}

pub(super) fn restrict(needs: &Needs, home: Option<&str>) -> Result<(), RulesetError> {
    if !available() {
        return Ok(()); // the supervisor has said so
    }
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(KNOWN))?;
    if !needs.network {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp)?;
    }
    let mut rules = ruleset.create()?;
    if needs.network {
        // Any port of ours: for `smtp_bind_address`.
        rules = rules.add_rule(NetPort::new(0, AccessNet::BindTcp))?;
    }
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write =
        AccessFs::from_all(KNOWN) & !(AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar);
    for path in READABLE.iter().map(Path::new).chain(needs.read.iter().map(PathBuf::as_path)) {
        rules = allow(rules, path, read)?;
    }
    rules = allow(rules, Path::new("/dev/null"), read | AccessFs::WriteFile)?;
    let trees = if needs.mailboxes { mail_trees() } else { Vec::new() };
    let home = home.filter(|_| needs.mailboxes).map(PathBuf::from);
    for path in needs.write.iter().chain(&trees).chain(&home) {
        rules = allow(rules, path, write)?;
    }
    // No flag is set that Landlock would need privileges for: no_new_privs holds already.
    rules.restrict_self().map(drop)
}

/// A path that is not there, or that this user cannot reach, needs no rule to be out of reach.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(opened) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    rules.add_rule(PathBeneath::new(opened, access))
}

/// The directories below `/` in which mailboxes may be.
fn mail_trees() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir("/") else { return Vec::new() };
    let resolved = entries.flatten().filter_map(|entry| entry.path().canonicalize().ok());
    let mut trees: Vec<PathBuf> = resolved
        .filter(|path| path.is_dir() && path.parent().is_some())
        .filter(|path| !WITHOUT_MAIL.iter().any(|system| path.starts_with(system)))
        .collect();
    trees.sort();
    trees.dedup();
    trees
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_mail_is_looked_for_among_the_system() {
        let trees = mail_trees();
        assert!(trees.iter().any(|tree| tree == Path::new("/var")), "{trees:?}");
        assert!(!trees.iter().any(|tree| tree.starts_with("/etc") || tree.starts_with("/usr")));
        assert!(!trees.contains(&PathBuf::from("/")));
    }
}
