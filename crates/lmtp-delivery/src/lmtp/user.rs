//! From a recipient to the place of the mail: the userdb's answer over dovecot.conf.

use std::path::PathBuf;

use config::dovecot::variables::{Variable, expand, of_user};
use daemon::Identity;
use neighbours::userdb::{Answer, Lookup, User, Userdb};

use crate::lmtp::settings::{LmtpSettings, MailSettings};
use crate::task::QuotaSettings;

/// Whose mail it is and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mailbox {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
    /// `mail_location`, its variables expanded.
    pub location: String,
    pub quota: Option<QuotaSettings>,
}

impl Mailbox {
    pub fn identity(&self) -> Identity {
        let home = self.home.display().to_string();
        Identity { uid: self.uid, gid: self.gid, home, groups: Vec::new() }
    }
}

/// Looks `user` up. An error is the reply for the address that the client gave, `full`.
pub async fn find(
    settings: &LmtpSettings,
    userdb: &Userdb,
    lookup: &Lookup,
    user: &str,
    full: &str,
) -> Result<Mailbox, String> {
    let temporary = || format!("451 4.3.0 <{full}> Temporary internal error");
    let fail = |text: String| {
        tracing::error!(target: "mail", ident = %settings.ident, "lmtp({}): Error: lmtp-server: rcpt {full}: {text}", std::process::id());
        temporary()
    };
    match userdb.user(user, lookup).await {
        Ok(Answer::Found(found)) => mailbox(&settings.mail, found).map_err(fail),
        Ok(Answer::NotFound) => Err(format!("550 5.1.1 <{full}> User doesn't exist: {user}")),
        Ok(Answer::Failed { .. }) => Err(temporary()),
        Err(error) => Err(fail(format!("Failed to lookup user {user}: {error}"))),
    }
}

fn mailbox(settings: &MailSettings, user: User) -> Result<Mailbox, String> {
    let missing = |what: &str| format!("User {} is missing {what}", user.name);
    let uid = user.uid().or(settings.uid).ok_or_else(|| missing("UID (see mail_uid setting)"))?;
    let gid = user.gid().or(settings.gid).ok_or_else(|| missing("GID (see mail_gid setting)"))?;
    if !settings.admits(uid, gid) {
        return Err(format!(
            "Mail access for users with UID {uid} not permitted (see first_valid_uid in config file, uid from userdb lookup)."
        ));
    }
    let home = match user.home() {
        Some(home) => home.to_owned(),
        None => PathBuf::from(expanded(&settings.home, &user.name, "", uid, gid)?),
    };
    let location = user.mail().unwrap_or(&settings.location);
    let location = expanded(location, &user.name, &home.display().to_string(), uid, gid)?;
    let quota = settings.quota.clone().map(|quota| with_rules_of(&user, quota));
    Ok(Mailbox { uid, gid, location, home, quota, name: user.name })
}

fn expanded(text: &str, user: &str, home: &str, uid: u32, gid: u32) -> Result<String, String> {
    let (uid, gid) = (uid.to_string(), gid.to_string());
    let mut variables = of_user(user).to_vec();
    variables.extend([
        Variable::new('h', "home", home),
        Variable::new('i', "uid", &uid),
        Variable::long("gid", &gid),
        Variable::new('s', "service", "lmtp"),
    ]);
    expand(text, &variables).map_err(|error| error.to_string())
}

/// `quota_rule` of the userdb stands for that of dovecot.conf.
fn with_rules_of(user: &User, mut quota: QuotaSettings) -> QuotaSettings {
    if let Some(rule) = user.fields.get("quota_rule") {
        quota.rules = vec![rule.to_owned()];
    }
    quota
}
