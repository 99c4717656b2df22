//! Which users a worker may be started for. Whoever asks may have been taken over by a peer.

use crate::{Identity, UserRange};

/// # Errors
///
/// Why not.
pub(super) fn check(range: &UserRange, identity: &Identity) -> Result<(), String> {
    within("uid", identity.uid, range.first_uid, range.last_uid)?;
    within("gid", identity.gid, range.first_gid, range.last_gid)?;
    match identity.groups.iter().find(|group| !range.groups.contains(group)) {
        Some(group) => Err(format!("extra group {group} is not allowed")),
        None => Ok(()),
    }
}

fn within(what: &str, id: u32, first: u32, last: u32) -> Result<(), String> {
    match id {
        0 => Err(format!("{what} 0 is never allowed")),
        u32::MAX => Err(format!("{what} {id} is nobody's")),
        _ if id < first || (last != 0 && id > last) => {
            Err(format!("{what} {id} is not within first_valid_{what} and last_valid_{what}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_users_in_range_and_never_root() {
        let range = UserRange { first_uid: 1000, groups: vec![8], ..UserRange::default() };
        for (uid, gid, groups, allowed) in [
            (1000, 1000, vec![], true),
            (1000, 1000, vec![8], true),
            (1000, 1000, vec![8, 42], false),
            (999, 1000, vec![], false),
            (0, 1000, vec![], false),
            (1000, 0, vec![], false),
            (u32::MAX, 1000, vec![], false),
        ] {
            let identity = Identity { uid, gid, home: "/".to_owned(), groups };
            assert_eq!(check(&range, &identity).is_ok(), allowed, "{identity:?}");
        }
        let open = UserRange { first_uid: 0, ..UserRange::default() };
        let root = Identity { uid: 0, gid: 100, home: "/".to_owned(), groups: vec![] };
        assert!(check(&open, &root).is_err());
    }
}
