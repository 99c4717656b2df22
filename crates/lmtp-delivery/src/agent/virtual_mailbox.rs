//! virtual(8): mailboxes of hosted domains, looked up by the whole address.

use std::path::{Path, PathBuf};

use daemon::Identity;
use protocol::postfix::Recipient;
use routing::{Key, LookupError, Maps, split_extension};

use crate::agent::job::Job;
use crate::agent::report::Verdict;
use crate::agent::settings::{MboxSettings, ServiceSettings, VirtualSettings};
use crate::agent::{Service, header, verdict_of};
use crate::task::{MboxTarget, Target};

impl Service {
    pub(super) async fn virtual_mailbox(
        &self,
        settings: &VirtualSettings,
        job: &Job,
        recipient: &Recipient,
    ) -> Verdict {
        let address = &recipient.address;
        if header::loops(&job.delivered_to, address) {
            return Verdict::failed("5.4.6", format!("mail forwarding loop for {address}"));
        }
        match self.place(settings, address).await {
            Ok(Some((path, identity))) => {
                let prefix = header::prefix(&job.request.sender, recipient);
                let target = target(&self.settings, path, &job.request.sender, address);
                verdict_of(job.deliver(&self.worker, identity, prefix, target).await)
            }
            Ok(None) => Verdict::failed("5.1.1", format!("unknown user: \"{address}\"")),
            Err(unusable) => {
                self.warn(&unusable.0);
                Verdict::failed("4.3.5", "mail system configuration error")
            }
        }
    }

    /// The mailbox and its owner; nothing if there is no such recipient.
    async fn place(
        &self,
        settings: &VirtualSettings,
        address: &str,
    ) -> Result<Option<(PathBuf, Identity)>, Unusable> {
        let Some(mailbox) = self.by_address(&settings.maps, address).await? else {
            return Ok(None);
        };
        let unsafe_path = || Unusable(format!("recipient {address}: bad mailbox path {mailbox}"));
        let path = mailbox_path(&settings.base, &mailbox).ok_or_else(unsafe_path)?;
        let uid = self.number(&settings.uids, address, "uid", settings.minimum_uid).await?;
        let gid = self.number(&settings.gids, address, "gid", 1).await?;
        let home = settings.base.clone();
        Ok(Some((path, Identity { uid, gid, home, groups: self.settings.groups.clone() })))
    }

    async fn number(
        &self,
        maps: &Maps,
        address: &str,
        what: &str,
        least: u32,
    ) -> Result<u32, Unusable> {
        let names: Vec<&str> = maps.iter().map(routing::TableName::as_str).collect();
        let names = names.join(", ");
        let Some(value) = self.by_address(maps, address).await? else {
            return Err(Unusable(format!("recipient {address}: {what} not found in {names}")));
        };
        let number = value.trim().parse().ok().filter(|&number: &u32| number >= least.max(1));
        number
            .ok_or_else(|| Unusable(format!("recipient {address}: bad {what} {value} in {names}")))
    }

    /// The whole address, the address without extension, then `@domain`.
    async fn by_address(&self, maps: &Maps, address: &str) -> Result<Option<String>, LookupError> {
        let address = address.to_lowercase();
        if let Some(found) = maps.find(&self.tables, &address, Key::Whole).await? {
            return Ok(Some(found));
        }
        let Some((local, domain)) = address.rsplit_once('@') else { return Ok(None) };
        if let Some((user, _)) = split_extension(local, &self.settings.recipient_delimiter) {
            let key = format!("{user}@{domain}");
            if let Some(found) = maps.find(&self.tables, &key, Key::Part).await? {
                return Ok(Some(found));
            }
        }
        maps.find(&self.tables, &format!("@{domain}"), Key::Part).await
    }
}

/// What is wrong with a table or its answer, for the operator.
struct Unusable(String);

impl From<LookupError> for Unusable {
    fn from(error: LookupError) -> Self {
        Self(error.to_string())
    }
}

/// `virtual_mailbox_base/RESULT`. A result that climbs out of the base is refused.
fn mailbox_path(base: &str, result: &str) -> Option<PathBuf> {
    let climbs = Path::new(result).components().any(|part| part.as_os_str() == "..");
    if climbs || (base.is_empty() && !result.starts_with('/')) || result.trim().is_empty() {
        return None;
    }
    // By text, not by Path: the trailing slash tells a Maildir.
    Some(PathBuf::from(if base.is_empty() {
        result.to_owned()
    } else {
        format!("{}/{}", base.trim_end_matches('/'), result.trim_start_matches('/'))
    }))
}

/// A path that ends in a slash is a Maildir, any other an mbox file.
pub(super) fn target(
    settings: &ServiceSettings,
    path: PathBuf,
    sender: &str,
    user: &str,
) -> Target {
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Target::Maildir { path, host: settings.myhostname.clone() };
    }
    let MboxSettings { locks, attempts, pause, size_limit, owned } = &settings.mbox;
    let has = |name: &str| locks.iter().any(|lock| lock == name);
    Target::Mbox(Box::new(MboxTarget {
        path,
        user: user.to_owned(),
        sender: sender.to_owned(),
        dotlock: has("dotlock"),
        fcntl: has("fcntl"),
        flock: has("flock"),
        attempts: *attempts,
        pause: *pause,
        size_limit: *size_limit,
        owned: *owned,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_stay_below_their_base() {
        for (base, result, path) in [
            ("/var/mail/v", "example.com/info/", Some("/var/mail/v/example.com/info/")),
            ("/var/mail/v/", "/example.com/info", Some("/var/mail/v/example.com/info")),
            ("", "/srv/x/", Some("/srv/x/")),
            ("", "x/", None),
            ("/b", "../etc/passwd", None),
            ("/b", "a/../../x", None),
            ("/b", " ", None),
        ] {
            assert_eq!(mailbox_path(base, result), path.map(PathBuf::from), "{base} {result}");
        }
    }
}
