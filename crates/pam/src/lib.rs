//! One question to PAM: may this user log in with this password?
//!
//! PAM's modules are C code of other people: they keep state, sleep, and may crash. So ask from a
//! process that can be lost. A transaction lives and dies within [`check`], on one thread.
#![forbid(unsafe_code)]

use nonstick::items::{Items, ItemsMut};
use nonstick::{
    AuthnFlags, ConversationAdapter, ErrorCode, PamShared, Transaction, TransactionBuilder,
};
use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What PAM is told.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The file in `/etc/pam.d`.
    pub service: &'a str,
    pub user: &'a str,
    pub password: &'a [u8],
    /// `PAM_RHOST`: the client's address.
    pub remote_host: Option<&'a str>,
    /// `PAM_TTY`.
    pub tty: &'a str,
}

/// Why PAM says no, as far as its callers act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    UnknownUser,
    /// A wrong password; also a locked account, which `pam_unix` does not tell apart.
    Password,
    /// The password or the account is out of date, and was right otherwise.
    Expired,
    /// Any other answer of a module: a refusal too.
    Denied,
    /// PAM itself did not work; nothing is known about the password.
    Broken,
}

/// PAM's no, with the text for the log.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    pub refusal: Refusal,
    /// In Dovecot's words: `pam_authenticate() failed: Authentication failure`.
    pub text: String,
    /// The last error text that a module showed.
    pub message: Option<String>,
}

impl Refused {
    fn new(refusal: Refusal, text: String) -> Self {
        Self { refusal, text, message: None }
    }
}

/// The one prompt that we can answer is the one for the password.
struct Answers<'a> {
    user: &'a str,
    password: &'a [u8],
    asked: Cell<u32>,
    message: &'a RefCell<Option<String>>,
}

/// Prompts for a password that are answered; a module stack that asks for more wants another secret.
const PASSWORD_PROMPTS: u32 = 2;

impl ConversationAdapter for Answers<'_> {
    fn prompt(&self, _: impl AsRef<OsStr>) -> Result<OsString, ErrorCode> {
        Ok(self.user.into())
    }

    fn masked_prompt(&self, request: impl AsRef<OsStr>) -> Result<OsString, ErrorCode> {
        *self.message.borrow_mut() = Some(request.as_ref().to_string_lossy().into_owned());
        self.asked.set(self.asked.get() + 1);
        if self.asked.get() > PASSWORD_PROMPTS {
            return Err(ErrorCode::ConversationError);
        }
        Ok(OsStr::from_bytes(self.password).to_owned())
    }

    fn error_msg(&self, message: impl AsRef<OsStr>) {
        *self.message.borrow_mut() = Some(message.as_ref().to_string_lossy().into_owned());
    }

    fn info_msg(&self, _: impl AsRef<OsStr>) {}
}

/// Authenticates the user, then checks his account. Gives the name that PAM ends with: a module may
/// rename the user. Blocks, for seconds if a module delays failures.
///
/// # Errors
///
/// [`Refused`], whatever the reason.
pub fn check(question: &Question<'_>) -> Result<String, Refused> {
    let Question { service, user, password, .. } = *question;
    if service.contains(['\0', '/']) || user.contains('\0') || password.contains(&0) {
        // no C string can hold it, so no account can have it
        return Err(Refused::new(Refusal::Password, "Password mismatch".into()));
    }
    let message = RefCell::new(None);
    let answers = Answers { user, password, asked: Cell::new(0), message: &message };
    transact(question, answers).map_err(|refused| Refused { message: message.take(), ..refused })
}

fn transact(question: &Question<'_>, answers: Answers<'_>) -> Result<String, Refused> {
    let Question { service, user, remote_host, tty, .. } = *question;
    let broken = |step: &str| {
        let step = step.to_owned();
        move |error| Refused::new(Refusal::Broken, format!("{step}() failed: {error}"))
    };
    let mut pam = TransactionBuilder::new_with_service(service)
        .username(user)
        .build(answers.into_conversation())
        .map_err(broken("pam_start"))?;
    {
        let mut items = pam.items_mut();
        let host = remote_host.map(OsStr::new);
        if host.is_some() {
            items.set_remote_host(host).map_err(broken("pam_set_item"))?;
        }
        items.set_remote_user(Some(user.as_ref())).map_err(broken("pam_set_item"))?;
        items.set_tty_name(Some(tty.as_ref())).map_err(broken("pam_set_item"))?;
    }
    pam.authenticate(AuthnFlags::empty()).map_err(|error| authentication(error, service))?;
    pam.account_management(AuthnFlags::empty()).map_err(account)?;
    let name = pam.items().user().map_err(broken("pam_get_item"))?;
    Ok(name.and_then(|name| name.into_string().ok()).unwrap_or_else(|| user.to_owned()))
}

fn authentication(error: ErrorCode, service: &str) -> Refused {
    let missing = !Path::new("/etc/pam.d").join(service).exists();
    let hint = if missing { format!(" (/etc/pam.d/{service} missing?)") } else { String::new() };
    match error {
        ErrorCode::UserUnknown => Refused::new(Refusal::UnknownUser, format!("unknown user{hint}")),
        ErrorCode::AuthenticationError => {
            let hint = if missing { &hint } else { " (Password mismatch?)" };
            let text = format!("pam_authenticate() failed: {error}{hint}");
            Refused::new(Refusal::Password, text)
        }
        _ => Refused::new(expiry(error), format!("pam_authenticate() failed: {error}{hint}")),
    }
}

fn account(error: ErrorCode) -> Refused {
    let refusal = match error {
        ErrorCode::UserUnknown => Refusal::UnknownUser,
        other => expiry(other),
    };
    Refused::new(refusal, format!("pam_acct_mgmt() failed: {error}"))
}

fn expiry(error: ErrorCode) -> Refusal {
    match error {
        ErrorCode::NewAuthTokRequired | ErrorCode::AccountExpired => Refusal::Expired,
        _ => Refusal::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_c_string_can_hold_never_reaches_pam() {
        let question = Question {
            service: "x",
            user: "a\0b",
            password: b"p",
            remote_host: None,
            tty: "dovecot",
        };
        assert_eq!(check(&question).unwrap_err().refusal, Refusal::Password);
        let question = Question { user: "a", password: b"p\0q", ..question };
        assert_eq!(check(&question).unwrap_err().refusal, Refusal::Password);
        let question = Question { service: "../x", password: b"p", ..question };
        assert_eq!(check(&question).unwrap_err().refusal, Refusal::Password);
    }

    #[test]
    fn results_are_sorted_as_dovecot_sorts_them() {
        for (error, refusal) in [
            (ErrorCode::NewAuthTokRequired, Refusal::Expired),
            (ErrorCode::AccountExpired, Refusal::Expired),
            (ErrorCode::AuthenticationError, Refusal::Denied),
            (ErrorCode::UserUnknown, Refusal::UnknownUser),
            (ErrorCode::PermissionDenied, Refusal::Denied),
        ] {
            assert_eq!(account(error).refusal, refusal, "{error}");
        }
        let missing = authentication(ErrorCode::SystemError, "no-such-service");
        assert!(missing.text.ends_with(" (/etc/pam.d/no-such-service missing?)"), "{missing}");
        assert_eq!(
            account(ErrorCode::NewAuthTokRequired).text,
            "pam_acct_mgmt() failed: Authentication token is no longer valid; new one required"
        );
    }
}
