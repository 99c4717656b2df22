//! One passdb's answer to one login.

use crate::backend::{Answer, FileEntry, PamKind, Password, Question, ShadowVerdict};
use crate::engine::Engine;
use crate::log;
use crate::login::{Login, Steer};
use crate::mechanism::{Claim, cram_md5_fits};
use crate::scheme::{Stored, Verdict};
use crate::settings::{Field, LogLevel, PassDriver, Passdb};
use crate::template::Template;

/// What a passdb says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassResult {
    Ok,
    Mismatch,
    UnknownUser,
    Disabled,
    Expired,
    /// Nothing is known.
    Internal,
    /// This passdb cannot check this mechanism.
    SchemeUnavailable,
}

/// How the login is proved.
pub enum Proof<'a> {
    Claim(&'a Claim),
    /// An earlier passdb has accepted the password; only fields are wanted.
    Earlier,
    /// A look-up without a password (`PASS`).
    Lookup,
}

/// One question to one passdb.
pub struct Ask<'a> {
    pub engine: &'a Engine,
    pub passdb: &'a Passdb,
    pub level: &'a LogLevel,
}

impl Ask<'_> {
    fn verbose(&self) -> bool {
        self.passdb.verbose.unwrap_or(self.level.verbose)
    }

    fn info(&self, login: &Login, text: &str) {
        log::info(self.verbose(), login, self.passdb.driver.name(), text);
    }

    fn error(&self, login: &Login, text: &str) {
        log::error(login, self.passdb.driver.name(), text);
    }

    /// Asks the passdb. On any other answer than `Ok` the login's fields are as they were before.
    pub async fn ask(&self, login: &mut Login, proof: &Proof<'_>) -> PassResult {
        let before = (login.fields.clone(), login.prefetched.clone(), login.user.clone());
        login.steer = Steer::default();
        let mut result = self.drive(login, proof).await;
        if let Some(why) = login.steer.failed.take()
            && result == PassResult::Ok
        {
            self.info(login, &why);
            result = PassResult::Mismatch;
        }
        if result != PassResult::Ok {
            (login.fields, login.prefetched, login.user) = before;
        }
        result
    }

    async fn drive(&self, login: &mut Login, proof: &Proof<'_>) -> PassResult {
        if let Err(bad) = login.set_fields(&self.passdb.default_fields) {
            self.error(login, &bad.to_string());
            return PassResult::Internal;
        }
        let result = match &self.passdb.driver {
            PassDriver::PasswdFile { path, scheme, username_format } => {
                self.passwd_file(login, proof, path, scheme, username_format).await
            }
            PassDriver::Static { fields } => self.fixed(login, proof, fields).await,
            PassDriver::Pam { service, failure_message } => match proof {
                Proof::Claim(claim) => self.pam(login, claim, service, *failure_message).await,
                Proof::Earlier => PassResult::Ok,
                Proof::Lookup => PassResult::SchemeUnavailable,
            },
            PassDriver::Shadow => match proof {
                Proof::Claim(claim) => self.shadow(login, claim).await,
                Proof::Earlier => PassResult::Ok,
                Proof::Lookup => PassResult::SchemeUnavailable,
            },
        };
        if result == PassResult::Ok
            && let Err(bad) = login.set_fields(&self.passdb.override_fields)
        {
            self.error(login, &bad.to_string());
            return PassResult::Internal;
        }
        result
    }

    async fn passwd_file(
        &self,
        login: &mut Login,
        proof: &Proof<'_>,
        path: &Template,
        scheme: &str,
        format: &Template,
    ) -> PassResult {
        let path = file_path(path, login);
        let name = format.expand(|variable| login.variable(variable));
        let entry = match self.engine.file_entry(&path, &name).await {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                self.unknown_user(login, proof);
                return PassResult::UnknownUser;
            }
            Err(why) => {
                self.error(login, &why);
                return PassResult::Internal;
            }
        };
        let FileEntry { password, extra, .. } = entry;
        login.steer.password = Some(password);
        for (field, value) in &extra {
            let value = expanded(value.as_deref().unwrap_or_default(), login);
            if let Err(bad) = login.set_field(field, &value) {
                self.error(login, &bad.to_string());
                return PassResult::Internal;
            }
        }
        self.compare(login, proof, scheme).await
    }

    async fn fixed(&self, login: &mut Login, proof: &Proof<'_>, fields: &[Field]) -> PassResult {
        if let Err(bad) = login.set_fields(fields) {
            self.error(login, &bad.to_string());
            return PassResult::Internal;
        }
        self.compare(login, proof, "PLAIN").await
    }

    /// Compares what the entry stores with what the client proves.
    async fn compare(&self, login: &Login, proof: &Proof<'_>, scheme: &str) -> PassResult {
        let claim = match proof {
            Proof::Earlier | Proof::Lookup => return PassResult::Ok,
            Proof::Claim(_) if login.steer.no_authenticate => return PassResult::SchemeUnavailable,
            Proof::Claim(claim) => claim,
        };
        if login.steer.no_password {
            return PassResult::Ok;
        }
        let Some(text) = &login.steer.password else {
            self.info(login, "No password returned (and no nopassword)");
            return PassResult::Mismatch;
        };
        let stored = Stored::parse(text, scheme);
        match claim {
            Claim::Password { password, .. } => {
                let verdict = self.engine.verify(stored, password).await;
                self.judge(login, verdict, password)
            }
            Claim::CramMd5 { challenge, response, .. } => match stored.plain() {
                Some(plain) if !plain.is_empty() => {
                    let fits = cram_md5_fits(challenge, response, &plain);
                    let verdict = if fits { Verdict::Match } else { Verdict::Mismatch };
                    self.judge(login, verdict, b"")
                }
                _ => {
                    let have = &stored.scheme;
                    let text = format!("Requested CRAM-MD5 scheme, but we have only {have}");
                    self.info(login, &text);
                    PassResult::SchemeUnavailable
                }
            },
        }
    }

    fn judge(&self, login: &Login, verdict: Verdict, password: &[u8]) -> PassResult {
        match verdict {
            Verdict::Match => PassResult::Ok,
            Verdict::Mismatch => {
                let given = log::given_password(self.level, password);
                self.info(login, &format!("Password mismatch{given}"));
                PassResult::Mismatch
            }
            Verdict::Unusable(why) => {
                self.error(login, &why);
                PassResult::Internal
            }
        }
    }

    fn unknown_user(&self, login: &Login, proof: &Proof<'_>) {
        let given = match proof {
            Proof::Claim(Claim::Password { password, .. }) => {
                log::given_password(self.level, password)
            }
            _ => String::new(),
        };
        self.info(login, &format!("unknown user{given}"));
    }

    async fn pam(
        &self,
        login: &mut Login,
        claim: &Claim,
        service: &Template,
        failure_message: bool,
    ) -> PassResult {
        let Claim::Password { password, .. } = claim else { return PassResult::SchemeUnavailable };
        let question = Question::Pam {
            service: service.expand(|variable| login.variable(variable)),
            user: login.user.clone(),
            password: Password::from(password.to_vec()),
            remote_host: login.request.remote_address.map(|ip| ip.to_string()),
        };
        let told = self.engine.ask(question).await;
        let say = |login: &Login, fault, text: &str| {
            if fault || self.verbose() {
                log::from_worker(fault, login, "pam", told.worker, told.id, text);
            }
        };
        let refusal = match told.answer {
            Answer::Pam(Ok(name)) => {
                login.user = name; // a module may have renamed the user
                return PassResult::Ok;
            }
            Answer::Pam(Err(refusal)) => refusal,
            Answer::Failed(why) => {
                self.error(login, &why);
                return PassResult::Internal;
            }
            _ => return PassResult::Internal,
        };
        let account = refusal.text.starts_with("pam_acct_mgmt");
        let given = match refusal.kind {
            PamKind::Password | PamKind::UnknownUser => log::given_password(self.level, password),
            _ => String::new(),
        };
        say(login, account || refusal.kind == PamKind::Broken, &format!("{}{given}", refusal.text));
        if failure_message && let Some(message) = &refusal.message {
            login.fields.set("reason", message);
        }
        match refusal.kind {
            PamKind::UnknownUser => PassResult::UnknownUser,
            PamKind::Expired => PassResult::Expired,
            PamKind::Password | PamKind::Denied => PassResult::Mismatch,
            PamKind::Broken => PassResult::Internal,
        }
    }

    async fn shadow(&self, login: &Login, claim: &Claim) -> PassResult {
        let Claim::Password { password, .. } = claim else { return PassResult::SchemeUnavailable };
        let given = Password::from(password.to_vec());
        let told =
            self.engine.ask(Question::Shadow { user: login.user.clone(), password: given }).await;
        match told.answer {
            Answer::Shadow(verdict) => match verdict {
                ShadowVerdict::Match => PassResult::Ok,
                ShadowVerdict::Mismatch => self.judge(login, Verdict::Mismatch, password),
                ShadowVerdict::Unusable(why) => self.judge(login, Verdict::Unusable(why), password),
                ShadowVerdict::UnknownUser => {
                    self.unknown_user(login, &Proof::Claim(claim));
                    PassResult::UnknownUser
                }
                ShadowVerdict::Expired => PassResult::Expired,
            },
            Answer::Failed(why) => {
                self.error(login, &why);
                PassResult::Internal
            }
            _ => PassResult::Internal,
        }
    }
}

/// A path with the user's parts: a name never leaves the directory that the path names.
pub(crate) fn file_path(path: &Template, login: &Login) -> String {
    path.expand(|variable| {
        let value = login.variable(variable).replace('/', "_");
        if value.starts_with('.') { value.replacen('.', "_", 1) } else { value }
    })
}

/// A value of a password file may hold variables; one that does not parse stays as it is.
pub(crate) fn expanded(value: &str, login: &Login) -> String {
    if !value.contains('%') {
        return value.to_owned();
    }
    Template::parse(value)
        .map_or_else(|_| value.to_owned(), |template| template.expand(|name| login.variable(name)))
}
