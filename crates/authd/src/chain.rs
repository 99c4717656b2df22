//! The passdbs of a realm, asked in their order until one decides.

use crate::engine::Engine;
use crate::log;
use crate::login::Login;
use crate::mechanism::Claim;
use crate::passdb::{Ask, PassResult, Proof};
use crate::settings::{Passdb, Realm, Rule, Skip};
use crate::userdb::{self, UserResult};

/// Why a login failed, as the client may know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Password,
    Expired,
    Disabled,
    /// A master user asked for somebody who does not exist.
    Authorization,
    Temporary,
}

/// Checks a login whose user is set.
pub async fn authenticate(
    engine: &Engine,
    realm: &Realm,
    login: &mut Login,
    claim: &Claim,
) -> Result<(), Failure> {
    let Some(wanted) = login.wanted.clone() else {
        let result = run(engine, realm, login, &Proof::Claim(claim), false).await;
        return verdict(result.0);
    };
    let (result, go_on) = run(engine, realm, login, &Proof::Claim(claim), true).await;
    verdict(result)?;
    let text = format!("Master user logging in as {}", crate::login::clean(&wanted));
    log::info(true, login, "auth", &text);
    login.master = Some(std::mem::replace(&mut login.user, wanted));
    login.wanted = None;
    if go_on {
        let result = run(engine, realm, login, &Proof::Earlier, false).await;
        return verdict(result.0).map_err(|failure| match failure {
            Failure::Temporary => failure,
            _ => Failure::Authorization,
        });
    }
    match userdb::look_up(engine, realm, &mut login.clone()).await {
        UserResult::Found(_) => Ok(()),
        UserResult::NotFound => Err(Failure::Authorization),
        UserResult::Internal => Err(Failure::Temporary),
    }
}

/// Passdb fields of a user, without a password.
pub async fn look_up(engine: &Engine, realm: &Realm, login: &mut Login) -> PassResult {
    run(engine, realm, login, &Proof::Lookup, false).await.0
}

fn verdict(result: PassResult) -> Result<(), Failure> {
    Err(match result {
        PassResult::Ok => return Ok(()),
        PassResult::Internal => Failure::Temporary,
        PassResult::Expired => Failure::Expired,
        PassResult::Disabled => Failure::Disabled,
        PassResult::Mismatch | PassResult::UnknownUser | PassResult::SchemeUnavailable => {
            Failure::Password
        }
    })
}

/// The result, and whether a master passdb wants the ordinary ones asked as well.
async fn run(
    engine: &Engine,
    realm: &Realm,
    login: &mut Login,
    proof: &Proof<'_>,
    master: bool,
) -> (PassResult, bool) {
    let mut success = matches!(proof, Proof::Earlier);
    let mut internal = false;
    let mut last = PassResult::UnknownUser;
    for passdb in &realm.passdbs {
        if !applies(passdb, login, master) {
            continue;
        }
        match passdb.skip {
            Skip::Authenticated if success => continue,
            Skip::Unauthenticated if !success => continue,
            _ => {}
        }
        let earlier = Proof::Earlier;
        let ask = Ask { engine, passdb, level: &realm.log };
        let result = ask.ask(login, if success { &earlier } else { proof }).await;
        log::debug(&realm.log, login, passdb.driver.name(), &format!("{result:?}"));
        if passdb.deny {
            match result {
                PassResult::UnknownUser => continue,
                PassResult::Internal => return (result, false),
                _ => {
                    let verbose = passdb.verbose.unwrap_or(realm.log.verbose);
                    log::info(verbose, login, passdb.driver.name(), "User found from deny passdb");
                    return (PassResult::Disabled, false);
                }
            }
        }
        let rule = match result {
            PassResult::Ok => passdb.success,
            PassResult::Internal => passdb.internal_failure,
            _ => passdb.failure,
        };
        internal |= result == PassResult::Internal;
        last = result;
        let ok = result == PassResult::Ok;
        match rule {
            Rule::ReturnOk => return (PassResult::Ok, false),
            Rule::ReturnFail => {
                return (if ok { PassResult::Mismatch } else { result }, false);
            }
            Rule::Return => return (if success { PassResult::Ok } else { result }, false),
            Rule::ContinueFail => success = false,
            Rule::ContinueOk => success = true,
            Rule::Continue => success |= ok,
        }
        if master && success {
            return (PassResult::Ok, true);
        }
    }
    let result = match last {
        _ if success => PassResult::Ok,
        _ if internal => PassResult::Internal,
        // the last rule forbade what the last passdb allowed
        PassResult::Ok => PassResult::Mismatch,
        other => other,
    };
    (result, false)
}

fn applies(passdb: &Passdb, login: &Login, master: bool) -> bool {
    let mechanism = &login.request.mechanism;
    passdb.master == master
        && (passdb.mechanisms.is_empty()
            || mechanism.is_empty()
            || passdb.mechanisms.contains(mechanism))
        && filter_fits(&passdb.username_filter, &login.user)
}

/// `*@example.com !bad@example.com`: any positive pattern, and no negative one.
fn filter_fits(filter: &[String], user: &str) -> bool {
    let mut positive = filter.iter().filter(|pattern| !pattern.starts_with('!')).peekable();
    let allowed = positive.peek().is_none() || positive.any(|pattern| wildcard(pattern, user));
    let mut negative = filter.iter().filter_map(|pattern| pattern.strip_prefix('!'));
    allowed && !negative.any(|pattern| wildcard(pattern, user))
}

/// `*` any text, `?` any character; without regard to case.
fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, seen)) => {
                    star = Some((at, seen + 1));
                    p = at + 1;
                    t = seen + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests;
