//! What a client has tried before its login, in the words that fail2ban reads.

use std::time::Instant;

use crate::client::Refusal;

/// What happened so far, for the line at the end.
#[derive(Debug)]
pub(crate) struct Attempts {
    pub connected: Instant,
    pub first: Option<Instant>,
    pub count: u32,
    pub accepted: u32,
    /// A challenge is without its response; it stays so when the client breaks off.
    pub unfinished: bool,
    /// A SASL mechanism, not a command with a password.
    pub tried_in_the_clear: bool,
    pub last: Option<Refusal>,
    pub user: String,
    pub method: String,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self {
            connected: Instant::now(),
            first: None,
            count: 0,
            accepted: 0,
            unfinished: false,
            tried_in_the_clear: false,
            last: None,
            user: String::new(),
            method: String::new(),
        }
    }

    /// The part in parentheses of a disconnection, which fail2ban reads.
    pub(crate) fn history(&self) -> String {
        let since = |start: Option<Instant>| start.map_or(0, |start| start.elapsed().as_secs());
        let waited = since(self.first);
        let (count, accepted) = (self.count, self.accepted);
        if count == 0 {
            return format!("no auth attempts in {} secs", since(Some(self.connected)));
        }
        if self.tried_in_the_clear {
            return "tried to use disallowed plaintext auth".to_owned();
        }
        if self.unfinished && count == 1 {
            return format!("client didn't finish SASL auth, waited {waited} secs");
        }
        if accepted == count {
            return format!("internal failure, {accepted} successful auths");
        }
        match &self.last {
            Some(Refusal::Authorization { .. }) => {
                format!("authorization failed, {count} attempts in {waited} secs")
            }
            Some(Refusal::Temporary) => "auth service reported temporary failure".to_owned(),
            Some(Refusal::Disabled { .. }) => "user disabled".to_owned(),
            Some(Refusal::Expired { .. }) => "password expired".to_owned(),
            Some(Refusal::InvalidBase64) => "sent invalid base64 in response".to_owned(),
            Some(Refusal::LoginDisabled { .. }) => "login disabled".to_owned(),
            Some(Refusal::UnsupportedMechanism) => {
                "tried to use unsupported auth mechanism".to_owned()
            }
            _ => format!("auth failed, {count} attempts in {waited} secs"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Captured from Dovecot 2.3.19.
    #[test]
    fn histories_are_dovecots() {
        let mut attempts = Attempts::new();
        assert_eq!(attempts.history(), "no auth attempts in 0 secs");
        attempts.count = 2;
        attempts.last = Some(Refusal::Failed { reason: None });
        assert_eq!(attempts.history(), "auth failed, 2 attempts in 0 secs");
        attempts.last = Some(Refusal::Expired { reason: None });
        assert_eq!(attempts.history(), "password expired");
        attempts.last = Some(Refusal::Authorization { reason: None });
        assert_eq!(attempts.history(), "authorization failed, 2 attempts in 0 secs");
        attempts.unfinished = true;
        assert_eq!(attempts.history(), "authorization failed, 2 attempts in 0 secs");
        attempts.count = 1;
        assert_eq!(attempts.history(), "client didn't finish SASL auth, waited 0 secs");
        attempts.tried_in_the_clear = true;
        assert_eq!(attempts.history(), "tried to use disallowed plaintext auth");
        let good = Attempts { count: 1, accepted: 1, ..Attempts::new() };
        assert_eq!(good.history(), "internal failure, 1 successful auths");
    }
}
