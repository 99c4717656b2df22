//! What a worker of the auth daemon is told: dovecot.conf, read and checked by the supervisor.

use crate::template::Template;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Everything for one worker.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Settings {
    /// For CRAM-MD5 challenges.
    pub hostname: String,
    pub listeners: Vec<Listener>,
    /// What holds for a `service=` without settings of its own.
    pub realm: Realm,
    /// The services that `protocol NAME { }` gives settings of their own.
    pub services: BTreeMap<String, Realm>,
    pub failure_delay: Duration,
    pub penalty: bool,
    /// Answers that the backend workers may work on at once.
    pub backend_questions: usize,
    /// Passwd-files that this worker may not open are read by the backend workers.
    pub files_by_backend: bool,
    /// What a listing of the passwd userdb leaves out.
    pub listed: Listed,
}

/// Which accounts `LIST` gives.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Listed {
    pub first_uid: u32,
    /// 0: no limit.
    pub last_uid: u32,
    pub first_gid: u32,
    pub last_gid: u32,
}

/// A socket of `service auth`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listener {
    pub name: String,
    pub kind: Kind,
    pub path: PathBuf,
    /// With mode 0666 any local user may connect, but asks only for himself.
    pub everybody: Option<Owner>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// What is spoken on a socket; Dovecot decides it by the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Postfix and other servers that only want a yes or no.
    Client,
    /// Login processes, whose logins a mail process has confirmed on a master socket.
    Login,
    Master,
    Userdb,
}

impl Kind {
    /// The kind of a socket: what follows the last `-` of its file name.
    ///
    /// # Errors
    ///
    /// The kinds that this daemon does not serve.
    pub fn of(path: &str) -> Result<Self, String> {
        let file = path.rsplit('/').next().unwrap_or_default();
        match file.rsplit('-').next().unwrap_or_default() {
            "login" => Ok(Self::Login),
            "master" => Ok(Self::Master),
            "userdb" => Ok(Self::Userdb),
            "token" | "tokenlogin" => {
                Err("a token socket (imap-urlauth) is not served yet; give it `mode = 0`".into())
            }
            _ => Ok(Self::Client),
        }
    }
}

/// How logins of one service work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Realm {
    pub mechanisms: Vec<MechanismName>,
    pub default_realm: String,
    /// Empty: every character.
    pub username_chars: String,
    /// Pairs of a character and what it becomes.
    pub username_translation: String,
    /// `None`: the name stays.
    pub username_format: Option<Template>,
    pub master_user_separator: Option<char>,
    /// `auth_ssl_require_client_cert`.
    pub require_client_cert: bool,
    pub passdbs: Vec<Passdb>,
    pub userdbs: Vec<Userdb>,
    pub log: LogLevel,
}

impl Default for Realm {
    fn default() -> Self {
        Self {
            mechanisms: vec![MechanismName::Plain],
            default_realm: String::new(),
            username_chars: "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01234567890.-_@"
                .into(),
            username_translation: String::new(),
            username_format: Template::parse("%Lu").ok(),
            master_user_separator: None,
            require_client_cert: false,
            passdbs: Vec::new(),
            userdbs: Vec::new(),
            log: LogLevel::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MechanismName {
    Plain,
    Login,
    CramMd5,
}

/// How much is logged.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LogLevel {
    /// Why logins failed.
    pub verbose: bool,
    /// The steps of each login.
    pub debug: bool,
    pub passwords: PasswordLog,
}

/// How a mistyped password shows in the log; the number is how much of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PasswordLog {
    #[default]
    No,
    Plain(Option<usize>),
    Sha1(Option<usize>),
}

/// A `passdb { }`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Passdb {
    pub driver: PassDriver,
    pub deny: bool,
    pub master: bool,
    pub skip: Skip,
    /// Empty: every mechanism. In upper case.
    pub mechanisms: Vec<String>,
    /// Empty: every user.
    pub username_filter: Vec<String>,
    pub success: Rule,
    pub failure: Rule,
    pub internal_failure: Rule,
    pub default_fields: Vec<Field>,
    pub override_fields: Vec<Field>,
    /// `None`: as the realm says.
    pub verbose: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PassDriver {
    PasswdFile { path: Template, scheme: String, username_format: Template },
    Pam { service: Template, failure_message: bool },
    Shadow,
    Static { fields: Vec<Field> },
}

impl PassDriver {
    /// As log lines call it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::PasswdFile { .. } => "passwd-file",
            Self::Pam { .. } => "pam",
            Self::Shadow => "shadow",
            Self::Static { .. } => "static",
        }
    }
}

/// A `userdb { }`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Userdb {
    pub driver: UserDriver,
    pub skip: SkipUser,
    pub success: Rule,
    pub failure: Rule,
    pub internal_failure: Rule,
    pub default_fields: Vec<Field>,
    pub override_fields: Vec<Field>,
    pub verbose: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserDriver {
    Passwd { fields: Vec<Field> },
    PasswdFile { path: Template, username_format: Template },
    Static { fields: Vec<Field>, allow_all_users: bool },
    Prefetch,
}

impl UserDriver {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Passwd { .. } => "passwd",
            Self::PasswdFile { .. } => "passwd-file",
            Self::Static { .. } => "static",
            Self::Prefetch => "prefetch",
        }
    }
}

/// `name=value` of `default_fields`, `override_fields` or a driver's arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    pub value: Template,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Skip {
    Never,
    Authenticated,
    Unauthenticated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SkipUser {
    Never,
    Found,
    NotFound,
}

/// What a database's answer does to the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    Return,
    ReturnOk,
    ReturnFail,
    Continue,
    ContinueOk,
    ContinueFail,
}

impl Rule {
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "return" => Self::Return,
            "return-ok" => Self::ReturnOk,
            "return-fail" => Self::ReturnFail,
            "continue" => Self::Continue,
            "continue-ok" => Self::ContinueOk,
            "continue-fail" => Self::ContinueFail,
            _ => return None,
        })
    }
}

impl Settings {
    /// How logins of a service work.
    #[must_use]
    pub fn realm(&self, service: &str) -> &Realm {
        self.services.get(service).unwrap_or(&self.realm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_name_tells_what_a_socket_speaks() {
        for (path, kind) in [
            ("auth-userdb", Kind::Userdb),
            ("auth-master", Kind::Master),
            ("login/login", Kind::Login),
            ("auth-login", Kind::Login),
            ("/var/spool/postfix/private/auth", Kind::Client),
            ("auth-client", Kind::Client),
        ] {
            assert_eq!(Kind::of(path), Ok(kind), "{path}");
        }
        assert!(Kind::of("token-login/tokenlogin").is_err());
    }
}
