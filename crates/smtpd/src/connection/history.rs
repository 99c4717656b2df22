//! What was said in the session, kept for the postmaster (`notify_classes`), and which of our words mean what.

use neighbours::postmaster::{About, Class};
use protocol::smtp::Reply;

use super::Conversation;
use crate::text::cut;

/// Stands for what would let somebody log in.
const HIDDEN: &str = "(hidden)";

impl Conversation {
    /// Keeps a line of the client's.
    pub(super) fn keep_heard(&mut self, line: &[u8]) {
        if !self.service().postmaster.classes.is_empty() {
            self.history.heard(&without_secret(&protocol::smtp::printable(line)));
        }
    }

    /// Keeps that the client has sent a response of a login.
    pub(super) fn keep_heard_secret(&mut self) {
        if !self.service().postmaster.classes.is_empty() {
            self.history.heard(HIDDEN);
        }
    }

    /// Keeps our reply as it went out.
    pub(super) fn keep_said(&mut self, bytes: &[u8]) {
        if !self.service().postmaster.classes.is_empty() {
            let text = String::from_utf8_lossy(bytes);
            text.lines().for_each(|line| self.history.said(&crate::text::printable(line, '?')));
        }
    }

    /// A part of the session is over: whoever wants to hear of what was wrong with it is told.
    pub(super) async fn turn_page(&mut self) {
        if self.history.len() > self.service().history_threshold {
            self.tell_postmaster(None).await;
        }
    }

    /// The session is over, or all of it that belongs to one client.
    pub(super) async fn tell_postmaster(&mut self, aborted: Option<&'static str>) {
        let history = std::mem::take(&mut self.history);
        let postmaster = &self.context.service.postmaster;
        if !postmaster.wants(&history) {
            return;
        }
        let about = About {
            subject: format!("SMTP server: errors from {}", self.client()),
            opening: None,
            aborted: Some(aborted),
            tells_bounces: true,
        };
        if let Err(error) = postmaster.tell(&history, &about).await {
            self.log(&format!("warning: postmaster notify: {error}"));
        }
    }
}

/// The words of AUTH without its initial response.
fn without_secret(line: &str) -> String {
    let mut words = line.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(verb), Some(mechanism), Some(_)) if verb.eq_ignore_ascii_case("AUTH") => {
            format!("{verb} {} {HIDDEN}", cut(mechanism, 100))
        }
        _ => line.to_owned(),
    }
}

/// What a reply in our own words says is wrong. Those of restrictions, filters and cleanup bring their class along.
pub(super) fn class(reply: &Reply) -> Option<Class> {
    let text = reply.text().first().map(String::as_str).unwrap_or_default();
    let (begins, ends) = (|start: &str| text.starts_with(start), |end: &str| text.ends_with(end));
    match reply.code() {
        421 if ends("too many errors") => Some(Class::Protocol),
        421 if text.contains("Error: too many ") => Some(Class::Policy),
        450 if begins("4.7.1 Error: too m") => Some(Class::Policy),
        451 if ends("queue file write error") => Some(Class::Resource),
        452 if begins("4.3.1 Insufficient") => Some(Class::Resource),
        454 if begins("4.7.0 TLS not available") => Some(Class::Software),
        502 if begins("5.5.1 VRFY") => Some(Class::Policy),
        503 if ends("send HELO/EHLO first") => Some(Class::Policy),
        503 if begins("5.7.0") => None,
        500 if begins("5.5.6") => None,
        501 if begins("5.7.0") => None,
        550 if begins("5.7.0 Error: insufficient") => Some(Class::Policy),
        552 if begins("5.3.4 ") => Some(Class::Policy),
        554 if ends("TLS already active") => Some(Class::Protocol),
        500..=504 | 521 | 555 => Some(Class::Protocol),
        _ if ends("Error: bare <LF> received") => Some(Class::Protocol),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_words_have_a_class() {
        use Class::{Policy, Protocol, Resource, Software};
        for (reply, class) in [
            ("501 Syntax: EHLO hostname", Some(Protocol)),
            ("500 5.5.2 Error: command not recognized", Some(Protocol)),
            ("555 5.5.4 Unsupported option: X", Some(Protocol)),
            ("421 4.7.0 mail.example Error: too many errors", Some(Protocol)),
            ("550 5.5.2 mail.example Error: bare <LF> received", Some(Protocol)),
            ("503 5.5.1 Error: send HELO/EHLO first", Some(Policy)),
            ("450 4.7.1 Error: too much mail from 192.0.2.1", Some(Policy)),
            ("421 4.7.0 m Error: too many connections from 192.0.2.1", Some(Policy)),
            ("452 4.3.1 Insufficient system storage", Some(Resource)),
            ("454 4.7.0 TLS not available due to local problem", Some(Software)),
            ("452 4.5.3 Error: too many recipients", None),
            ("554 5.5.1 Error: no valid recipients", None),
            ("530 5.7.0 Must issue a STARTTLS command first", None),
            ("503 5.7.0 Error: access denied for x", None),
            ("535 5.7.8 Error: authentication failed: no", None),
        ] {
            let told = super::class(&Reply::from_rejection(reply).unwrap());
            assert_eq!(told, class, "{reply}");
        }
    }

    #[test]
    fn nobody_is_sent_a_password() {
        for (line, kept) in [
            ("AUTH PLAIN AGJvYgBzZWNyZXQ=", "AUTH PLAIN (hidden)"),
            ("auth  login  Ym9i", "auth login (hidden)"),
            ("AUTH LOGIN", "AUTH LOGIN"),
            ("MAIL FROM:<a@b> SIZE=5", "MAIL FROM:<a@b> SIZE=5"),
        ] {
            assert_eq!(without_secret(line), kept);
        }
    }
}
