//! The schemes of crypt(3) and their kin, with a ceiling on what one comparison may cost: whoever can
//! write a password database must not be able to stop the logins of everybody else.

use super::{Verdict, md5_crypt};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordVerifier};
use sha_crypt::ShaCrypt;

/// About three seconds of SHA-512.
const MAX_SHA_ROUNDS: u64 = 5_000_000;
/// About three seconds of bcrypt.
const MAX_BCRYPT_COST: u32 = 15;
/// Memory in KiB, and memory times passes.
const MAX_ARGON2_MEMORY: u32 = 512 * 1024;
const MAX_ARGON2_WORK: u64 = 4 * 1024 * 1024;

pub(super) fn verify(scheme: &str, hash: &str, password: &[u8]) -> Verdict {
    if !hash.is_ascii() {
        return broken(scheme);
    }
    if hash.starts_with("$6$") || hash.starts_with("$5$") {
        sha(scheme, hash, password)
    } else if hash.starts_with("$2") {
        blowfish(scheme, hash, password)
    } else if let Some(rest) = hash.strip_prefix("$1$") {
        match rest.split_once('$') {
            Some((salt, _)) => {
                let computed = md5_crypt::hash(password, salt.as_bytes());
                Verdict::of(crypto::equal(computed.as_bytes(), hash.as_bytes()))
            }
            None => broken(scheme),
        }
    } else {
        Verdict::Unusable(format!(
            "{scheme}: this hash is neither SHA-crypt ($5$, $6$), bcrypt ($2y$) nor MD5-crypt ($1$); \
             let PAM check it, or set the password anew"
        ))
    }
}

fn broken(scheme: &str) -> Verdict {
    Verdict::Unusable(format!("Invalid password in passdb: not a valid {scheme} hash"))
}

fn costly(scheme: &str) -> Verdict {
    Verdict::Unusable(format!("{scheme} hash asks for more work than is allowed"))
}

fn sha(scheme: &str, hash: &str, password: &[u8]) -> Verdict {
    let rounds = hash.get(3..).and_then(|rest| rest.strip_prefix("rounds="));
    if let Some(rounds) = rounds.and_then(|rest| rest.split('$').next()) {
        match rounds.parse::<u64>() {
            Ok(rounds) if rounds > MAX_SHA_ROUNDS => return costly(scheme),
            Ok(_) => {}
            Err(_) => return broken(scheme),
        }
    }
    match ShaCrypt::default().verify_password(password, hash) {
        Ok(()) => Verdict::Match,
        Err(argon2::password_hash::Error::PasswordInvalid) => Verdict::Mismatch,
        Err(_) => broken(scheme),
    }
}

fn blowfish(scheme: &str, hash: &str, password: &[u8]) -> Verdict {
    match hash.get(4..6).and_then(|cost| cost.parse::<u32>().ok()) {
        Some(cost) if cost > MAX_BCRYPT_COST => costly(scheme),
        Some(_) => bcrypt::verify(password, hash).map_or_else(|_| broken(scheme), Verdict::of),
        None => broken(scheme),
    }
}

pub(super) fn argon2(hash: &str, password: &[u8]) -> Verdict {
    let Ok(parsed) = PasswordHash::new(hash) else { return broken("ARGON2") };
    let number = |name| parsed.params.get(name).and_then(|value| value.decimal().ok());
    let (Some(memory), Some(passes)) = (number("m"), number("t")) else { return broken("ARGON2") };
    if memory > MAX_ARGON2_MEMORY || u64::from(memory) * u64::from(passes) > MAX_ARGON2_WORK {
        return costly("ARGON2");
    }
    match Argon2::default().verify_password(password, &parsed) {
        Ok(()) => Verdict::Match,
        Err(argon2::password_hash::Error::PasswordInvalid) => Verdict::Mismatch,
        Err(_) => broken("ARGON2"),
    }
}
