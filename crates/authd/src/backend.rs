//! Questions that need root: PAM, shadow, the system's accounts, and password files that the protocol
//! worker may not open. A backend worker takes one question and gives one answer; whatever a PAM
//! module does to its process, only that answer is lost.

use crate::passwd_file::{Entry, Files};
use crate::scheme::{Stored, Verdict};
use crate::settings::Listed;
use nix::unistd::User;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process;
use zeroize::Zeroizing;

/// What the protocol worker asks.
#[derive(Debug, Serialize, Deserialize)]
pub enum Question {
    Pam {
        service: String,
        user: String,
        password: Password,
        remote_host: Option<String>,
    },
    /// Compares with the hash in `/etc/shadow`, which stays here.
    Shadow {
        user: String,
        password: Password,
    },
    Account {
        user: String,
    },
    /// The accounts of `/etc/passwd` within these bounds.
    Accounts(Listed),
    /// A line of a password file.
    Entry {
        path: PathBuf,
        user: String,
    },
    /// The users of a password file.
    Names {
        path: PathBuf,
    },
}

/// A password, wiped when it is dropped and never shown.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Vec<u8>", into = "Vec<u8>")]
pub struct Password(pub Zeroizing<Vec<u8>>);

impl From<Vec<u8>> for Password {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<Password> for Vec<u8> {
    fn from(password: Password) -> Self {
        password.0.to_vec()
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// What the backend answers, and which process it was, for the log.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reply {
    pub pid: u32,
    pub answer: Answer,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    Pam(Result<String, PamRefusal>),
    Shadow(ShadowVerdict),
    Account(Option<Account>),
    Entry(Option<FileEntry>),
    Names(Vec<String>),
    /// The look-up itself failed.
    Failed(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PamRefusal {
    pub kind: PamKind,
    /// For the log.
    pub text: String,
    /// What a module told the user.
    pub message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PamKind {
    UnknownUser,
    Password,
    Expired,
    Denied,
    Broken,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShadowVerdict {
    Match,
    Mismatch,
    UnknownUser,
    Expired,
    Unusable(String),
}

/// A system account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    pub password: String,
    pub uid: String,
    pub gid: String,
    pub home: String,
    pub extra: Vec<(String, Option<String>)>,
}

impl From<&Entry> for FileEntry {
    fn from(entry: &Entry) -> Self {
        let Entry { password, uid, gid, home, extra } = entry.clone();
        Self { password, uid, gid, home, extra }
    }
}

const SHADOW: &str = "/etc/shadow";
const PASSWD: &str = "/etc/passwd";
/// Dovecot's, which fail2ban's filters and the host's PAM rules know.
const TTY: &str = "dovecot";

/// Answers a question. Blocks; PAM may take seconds.
#[must_use]
pub fn answer(question: Question, files: &Files) -> Reply {
    let answer = match question {
        Question::Pam { service, user, password, remote_host } => {
            Answer::Pam(pam(&service, &user, &password.0, remote_host.as_deref()))
        }
        Question::Shadow { user, password } => match std::fs::read_to_string(SHADOW) {
            Ok(text) => Answer::Shadow(shadow(&text, &user, &password.0)),
            Err(error) => Answer::Failed(format!("open({SHADOW}) failed: {error}")),
        },
        Question::Account { user } => match User::from_name(&user) {
            Ok(account) => Answer::Account(account.map(Account::from)),
            Err(errno) => Answer::Failed(format!("getpwnam() failed: {errno}")),
        },
        Question::Accounts(listed) => match std::fs::read_to_string(PASSWD) {
            Ok(text) => Answer::Names(accounts(&text, listed)),
            Err(error) => Answer::Failed(format!("open({PASSWD}) failed: {error}")),
        },
        Question::Entry { path, user } => match files.users(&path) {
            Ok(users) => Answer::Entry(users.get(&user).map(FileEntry::from)),
            Err(error) => Answer::Failed(open_failed(&path, &error)),
        },
        Question::Names { path } => match files.users(&path) {
            Ok(users) => Answer::Names(users.names().map(str::to_owned).collect()),
            Err(error) => Answer::Failed(open_failed(&path, &error)),
        },
    };
    Reply { pid: process::id(), answer }
}

fn open_failed(path: &Path, error: &std::io::Error) -> String {
    format!("open({}) failed: {error}", path.display())
}

fn pam(
    service: &str,
    user: &str,
    password: &[u8],
    remote_host: Option<&str>,
) -> Result<String, PamRefusal> {
    let question = pam::Question { service, user, password, remote_host, tty: TTY };
    pam::check(&question).map_err(|refused| PamRefusal {
        kind: match refused.refusal {
            pam::Refusal::UnknownUser => PamKind::UnknownUser,
            pam::Refusal::Password => PamKind::Password,
            pam::Refusal::Expired => PamKind::Expired,
            pam::Refusal::Denied => PamKind::Denied,
            pam::Refusal::Broken => PamKind::Broken,
        },
        text: refused.text,
        message: refused.message,
    })
}

/// `name:hash:changed:min:max:warn:inactive:expires:` (shadow(5)).
fn shadow(text: &str, user: &str, password: &[u8]) -> ShadowVerdict {
    let line = text.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(':'));
    let Some(line) = line else { return ShadowVerdict::UnknownUser };
    let mut fields = line.split(':');
    let hash = fields.next().unwrap_or_default();
    let expires = fields.nth(5).and_then(|days| days.parse::<u64>().ok());
    if hash.is_empty() || hash.starts_with(['!', '*']) {
        return ShadowVerdict::Mismatch; // no password, or locked
    }
    match Stored::parse(hash, "CRYPT").verify(password) {
        Verdict::Match if expires.is_some_and(|day| day <= today()) => ShadowVerdict::Expired,
        Verdict::Match => ShadowVerdict::Match,
        Verdict::Mismatch => ShadowVerdict::Mismatch,
        Verdict::Unusable(reason) => ShadowVerdict::Unusable(reason),
    }
}

fn today() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() / 86_400)
}

fn accounts(text: &str, listed: Listed) -> Vec<String> {
    let within = |id: u32, first: u32, last: u32| id >= first && (last == 0 || id <= last);
    let name = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let wanted = within(uid, listed.first_uid, listed.last_uid)
            && within(gid, listed.first_gid, listed.last_gid);
        wanted.then(|| name.to_owned())
    };
    text.lines().filter_map(name).collect()
}

impl From<User> for Account {
    fn from(user: User) -> Self {
        Self {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir.to_string_lossy().into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shadow_lines() {
        let hash = "$1$hH0R.rio$BGf6BW/DYVb7AhPH1By3U.";
        let text = format!(
            "root:*:19000:0:99999:7:::\ninfo:{hash}:19000:0:99999:7:::\nold:{hash}:1:0:9:7::100:\n\
             locked:!{hash}:19000:0:99999:7:::\nempty::1::::::\nyes:$y$j9T$a$b:1::::::\n"
        );
        for (user, password, verdict) in [
            ("info", "secret", ShadowVerdict::Match),
            ("info", "wrong", ShadowVerdict::Mismatch),
            ("inf", "secret", ShadowVerdict::UnknownUser),
            ("old", "secret", ShadowVerdict::Expired),
            ("locked", "secret", ShadowVerdict::Mismatch),
            ("root", "*", ShadowVerdict::Mismatch),
            ("empty", "", ShadowVerdict::Mismatch),
        ] {
            assert_eq!(shadow(&text, user, password.as_bytes()), verdict, "{user}");
        }
        assert!(matches!(shadow(&text, "yes", b"x"), ShadowVerdict::Unusable(_)));
    }

    #[test]
    fn accounts_outside_the_bounds_are_not_listed() {
        let text = "root:x:0:0::/root:/bin/sh\ninfo:x:1003:1003::/home/info:/bin/sh\nbroken\n";
        let listed = Listed { first_uid: 500, last_uid: 0, first_gid: 1, last_gid: 0 };
        assert_eq!(accounts(text, listed), ["info"]);
        assert_eq!(accounts(text, Listed { last_uid: 1000, ..listed }), [""; 0]);
    }

    #[test]
    fn a_question_shows_no_password() {
        let password = Password::from(b"secret".to_vec());
        let question = Question::Shadow { user: "a".into(), password };
        assert!(!format!("{question:?}").contains("115"), "{question:?}");
    }
}
