//! What we say that we can do. Only what is really done is said.

/// Before the login, without STARTTLS, LOGINDISABLED and the mechanisms.
const BEFORE_LOGIN: &str = "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+";

/// After the login, in Dovecot's order.
const AFTER_LOGIN: &str = "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE UNSELECT CHILDREN \
    NAMESPACE UIDPLUS LIST-EXTENDED ESEARCH WITHIN LIST-STATUS MOVE STATUS=SIZE LITERAL+";

/// What decides on the capabilities before the login.
#[derive(Clone, Debug, Default)]
pub struct BeforeLogin<'a> {
    pub starttls: bool,
    /// Passwords may not be sent in the clear, and this connection is.
    pub login_disabled: bool,
    /// Mechanisms to offer, upper case.
    pub mechanisms: Vec<&'a str>,
}

/// The list before the login, without the word CAPABILITY.
#[must_use]
pub fn before_login(facts: &BeforeLogin<'_>) -> String {
    let mut list = String::from(BEFORE_LOGIN);
    if facts.starttls {
        list.push_str(" STARTTLS");
    }
    if facts.login_disabled {
        list.push_str(" LOGINDISABLED");
    }
    for mechanism in &facts.mechanisms {
        list.push_str(" AUTH=");
        list.push_str(mechanism);
    }
    list
}

/// The list after the login, without the word CAPABILITY.
///
/// `configured` is `imap_capability`: `+X Y` adds, anything else replaces the list.
#[must_use]
pub fn after_login(special_use: bool, quota: bool, configured: &str) -> String {
    let mut list = String::from(AFTER_LOGIN);
    match configured.trim().strip_prefix('+') {
        None if !configured.trim().is_empty() => return configured.trim().to_owned(),
        added => {
            if special_use {
                list.push_str(" SPECIAL-USE");
            }
            if quota {
                list.push_str(" QUOTA");
            }
            if let Some(added) = added.map(str::trim).filter(|added| !added.is_empty()) {
                list.push(' ');
                list.push_str(added);
            }
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_follow_what_is_configured() {
        let facts = BeforeLogin {
            starttls: true,
            login_disabled: false,
            mechanisms: vec!["PLAIN", "LOGIN"],
        };
        assert!(before_login(&facts).ends_with("LITERAL+ STARTTLS AUTH=PLAIN AUTH=LOGIN"));
        assert!(after_login(true, true, "").ends_with("LITERAL+ SPECIAL-USE QUOTA"));
        assert!(after_login(false, false, "+X-A X-B").ends_with("LITERAL+ X-A X-B"));
        assert_eq!(after_login(true, true, "IMAP4rev1"), "IMAP4rev1");
        assert!(!after_login(true, true, "").contains("CONDSTORE"));
    }
}
