//! Who a user is: uid, gid, home and whatever else the userdbs say.

use crate::backend::{Answer, Question};
use crate::chain;
use crate::engine::Engine;
use crate::log;
use crate::login::Login;
use crate::passdb::{PassResult, expanded, file_path};
use crate::settings::{Field, Realm, Rule, SkipUser, UserDriver, Userdb};
use protocol::dovecot_auth::Params;

/// What the userdbs say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserResult {
    Found(Params),
    NotFound,
    /// Nothing is known.
    Internal,
}

/// Asks the userdbs of a realm in their order. The login's user may be renamed.
pub async fn look_up(engine: &Engine, realm: &Realm, login: &mut Login) -> UserResult {
    let mut found: Option<Params> = None;
    let mut internal = false;
    for userdb in &realm.userdbs {
        match userdb.skip {
            SkipUser::Found if found.is_some() => continue,
            SkipUser::NotFound if found.is_none() => continue,
            _ => {}
        }
        // fields that the passdb has given for the userdb come first
        let given = || login.prefetched.clone().unwrap_or_default();
        let mut fields = found.clone().unwrap_or_else(given);
        set(&mut fields, login, &userdb.default_fields, false);
        let result = ask(engine, realm, userdb, login).await;
        let rule = match &result {
            UserResult::Found(_) => userdb.success,
            UserResult::NotFound => userdb.failure,
            UserResult::Internal => userdb.internal_failure,
        };
        internal |= result == UserResult::Internal;
        if let UserResult::Found(more) = result {
            for (name, value) in more.iter() {
                fields.replace(name, value.map(str::to_owned));
            }
            set(&mut fields, login, &userdb.override_fields, true);
            if !matches!(rule, Rule::ReturnFail | Rule::ContinueFail) {
                found = Some(fields);
            }
        } else if matches!(rule, Rule::ReturnOk | Rule::ContinueOk) {
            found.get_or_insert_default();
        }
        match rule {
            Rule::ReturnFail => return UserResult::NotFound,
            Rule::Return | Rule::ReturnOk => break,
            Rule::ContinueFail => found = None,
            Rule::Continue | Rule::ContinueOk => {}
        }
    }
    match found {
        Some(fields) => numbers(engine, login, fields).await,
        None if internal => UserResult::Internal,
        None => UserResult::NotFound,
    }
}

fn set(fields: &mut Params, login: &Login, more: &[Field], replace: bool) {
    for Field { name, value } in more {
        if replace || !fields.has(name) {
            fields.set(name, value.expand(|variable| login.variable(variable)));
        }
    }
}

async fn ask(engine: &Engine, realm: &Realm, userdb: &Userdb, login: &mut Login) -> UserResult {
    let driver = userdb.driver.name();
    let verbose = userdb.verbose.unwrap_or(realm.log.verbose);
    match &userdb.driver {
        UserDriver::Prefetch => match &login.prefetched {
            Some(fields) => UserResult::Found(fields.clone()),
            None => UserResult::NotFound,
        },
        UserDriver::Passwd { fields } => {
            let told = engine.ask(Question::Account { user: login.user.clone() }).await;
            match told.answer {
                Answer::Account(Some(account)) => {
                    let mut found = Params::new();
                    login.user.clone_from(&account.name);
                    found.set("system_groups_user", account.name);
                    found.set("uid", account.uid.to_string());
                    found.set("gid", account.gid.to_string());
                    found.set("home", account.home);
                    set(&mut found, login, fields, true);
                    UserResult::Found(found)
                }
                Answer::Account(None) => {
                    log::info(verbose, login, driver, "unknown user");
                    UserResult::NotFound
                }
                Answer::Failed(why) => fault(login, driver, &why),
                _ => UserResult::Internal,
            }
        }
        UserDriver::PasswdFile { path, username_format } => {
            let path = file_path(path, login);
            let name = username_format.expand(|variable| login.variable(variable));
            match engine.file_entry(&path, &name).await {
                Ok(Some(entry)) => {
                    let mut found = Params::new();
                    for (name, value) in
                        [("uid", &entry.uid), ("gid", &entry.gid), ("home", &entry.home)]
                    {
                        if !value.is_empty() {
                            found.set(name, value);
                        }
                    }
                    for (name, value) in &entry.extra {
                        if let Some(name) = name.strip_prefix("userdb_") {
                            found.set(name, expanded(value.as_deref().unwrap_or_default(), login));
                        }
                    }
                    UserResult::Found(found)
                }
                Ok(None) => {
                    log::info(verbose, login, driver, "unknown user");
                    UserResult::NotFound
                }
                Err(why) => fault(login, driver, &why),
            }
        }
        UserDriver::Static { fields, allow_all_users } => {
            if !login.proved && !allow_all_users {
                match chain::look_up(engine, realm, login).await {
                    PassResult::Ok => {}
                    PassResult::SchemeUnavailable => {
                        let why = "passdb doesn't support lookups, can't verify user's existence";
                        return fault(login, driver, why);
                    }
                    PassResult::Internal => return UserResult::Internal,
                    _ => return UserResult::NotFound,
                }
            }
            let mut found = Params::new();
            set(&mut found, login, fields, true);
            UserResult::Found(found)
        }
    }
}

fn fault(login: &Login, driver: &str, why: &str) -> UserResult {
    log::error(login, driver, why);
    UserResult::Internal
}

/// Turns names of users and groups into numbers, as the callers expect.
async fn numbers(engine: &Engine, login: &Login, mut fields: Params) -> UserResult {
    for key in ["uid", "gid"] {
        let Some(name) = fields.get(key).map(str::to_owned) else { continue };
        if name.parse::<u32>().is_ok() {
            continue;
        }
        let told = engine.ask(Question::Account { user: name.clone() }).await;
        // a group that is not also a user's is looked up when the configuration is read
        let Answer::Account(Some(account)) = told.answer else {
            return fault(login, "userdb", &format!("Invalid {key} value '{name}'"));
        };
        let number = if key == "uid" { account.uid } else { account.gid };
        fields = fields
            .iter()
            .map(|(name, value)| {
                let value = value.map(str::to_owned);
                (name.to_owned(), if name == key { Some(number.to_string()) } else { value })
            })
            .collect();
    }
    UserResult::Found(fields)
}

/// The names that the userdbs know. `false`: not all could be asked.
pub async fn names(engine: &Engine, realm: &Realm) -> (Vec<String>, bool) {
    let mut names = Vec::new();
    let mut complete = true;
    let nobody = Login::default();
    for userdb in &realm.userdbs {
        let more = match &userdb.driver {
            UserDriver::Passwd { .. } => {
                let question = Question::Accounts(engine.settings.listed);
                match engine.ask(question).await.answer {
                    Answer::Names(names) => Ok(names),
                    Answer::Failed(why) => Err(why),
                    _ => Err("auth worker answered something else".to_owned()),
                }
            }
            UserDriver::PasswdFile { path, .. } if path.is_literal() => {
                engine.file_names(path.text()).await
            }
            UserDriver::Prefetch => Ok(Vec::new()),
            UserDriver::PasswdFile { .. } | UserDriver::Static { .. } => {
                Err("iteration is not supported by this userdb".to_owned())
            }
        };
        match more {
            Ok(more) => names.extend(more),
            Err(why) => {
                complete = false;
                log::error(&nobody, userdb.driver.name(), &why);
            }
        }
    }
    (names, complete)
}
