//! Forgetting one setting, which proves that a test depends on it (`cargo xtask proofs`).
//!
//! With the feature `proofs` every reader leaves the setting out that `THEORIS_FORGET` names (`postfix smtpd_banner`), as
//! if no file had it. Without the feature, which no program for a host is built with, nothing of this exists.

/// Whether this setting of a product (`postfix`, `dovecot`, `opendkim`) is left out.
#[cfg(feature = "proofs")]
pub fn is_forgotten(product: &str, name: &str) -> bool {
    let forgotten = std::env::var("THEORIS_FORGET").unwrap_or_default();
    forgotten
        .split_once(' ')
        .is_some_and(|(known, setting)| known == product && setting.eq_ignore_ascii_case(name))
}

#[cfg(not(feature = "proofs"))]
pub const fn is_forgotten(_product: &str, _name: &str) -> bool {
    false
}
