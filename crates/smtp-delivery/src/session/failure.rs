//! Why a recipient, a message or a server failed, as log lines and delivery status notifications tell it.

use protocol::postfix::Dsn;
use protocol::smtp::ReceivedReply;

use super::Server;

/// A failure with its enhanced status; the first digit decides what becomes of the mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub status: String,
    pub reason: String,
    /// The host that said so; nothing if we did.
    pub mta: Option<String>,
    /// What it said, after the kind of its words: `smtp`, `x-sasl`.
    pub diagnostic: Option<(&'static str, String)>,
    /// It broke the protocol: this connection must not serve another message.
    pub out_of_protocol: bool,
}

impl Failure {
    /// One that we found ourselves.
    pub fn ours(status: &str, reason: impl Into<String>) -> Self {
        Self {
            status: status.to_owned(),
            reason: reason.into(),
            mta: None,
            diagnostic: None,
            out_of_protocol: false,
        }
    }

    /// What a server's reply means, in the words of `reason`.
    pub fn of_reply(server: &Server, reply: &ReceivedReply, reason: String) -> Self {
        let odd = !reply.status.starts_with(['4', '5']);
        let code = reply.code;
        Self {
            status: if odd { "5.5.0".to_owned() } else { reply.status.clone() },
            reason: if odd { format!("Protocol error: {reason}") } else { reason },
            mta: Some(server.host.clone()),
            diagnostic: Some(("smtp", reply.one_line())),
            out_of_protocol: odd
                || !(400..600).contains(&code)
                || code == 555
                || (500..510).contains(&code),
        }
    }

    /// `host mx[192.0.2.1] said: 550 5.1.1 no (in reply to RCPT TO command)`
    pub fn said(server: &Server, reply: &ReceivedReply, request: &str) -> Self {
        let reason =
            format!("host {} said: {} (in reply to {request})", server.short(), reply.one_line());
        Self::of_reply(server, reply, reason)
    }

    /// `host mx[192.0.2.1] refused to talk to me: 554 no`
    pub fn refused(server: &Server, reply: &ReceivedReply) -> Self {
        let reason = format!("host {} refused to talk to me: {}", server.short(), reply.one_line());
        Self::of_reply(server, reply, reason)
    }

    pub fn is_soft(&self) -> bool {
        self.status.starts_with('4')
    }

    /// Mail would come back to us.
    pub fn is_loop(&self) -> bool {
        self.status == "5.4.6" || self.status == "4.4.6"
    }

    /// The same, to be tried again.
    #[must_use]
    pub fn softened(mut self) -> Self {
        if self.status.starts_with('5') {
            self.status.replace_range(..1, "4");
        }
        self
    }

    /// In the terms of a delivery status notification.
    pub fn dsn(&self, action: &str) -> Dsn {
        let mut dsn = Dsn::local(&self.status, action, &self.reason);
        if let Some(mta) = &self.mta {
            dsn.mta_type = "dns".to_owned();
            dsn.mta_name.clone_from(mta);
        }
        if let Some((kind, text)) = &self.diagnostic {
            dsn.diag_type = (*kind).to_owned();
            dsn.diag_text.clone_from(text);
        }
        dsn
    }
}
