//! Why there is no answer; each reason has its own consequence for mail.

use std::net::SocketAddr;

/// No record to hand out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// NXDOMAIN, or a name that cannot be one.
    #[error("the name does not exist")]
    NoDomain,
    /// The name exists, without a record of this kind.
    #[error("the name has no such record")]
    NoData,
    /// The server could not find out.
    #[error("the server failed ({0})")]
    ServFail(String),
    /// No server answered in time.
    #[error("no answer in time")]
    TimedOut,
    /// The server, or the machine on the way to it, wants nothing of it.
    #[error("refused ({0})")]
    Refused(String),
    /// Names that stand for each other, or too many in a row.
    #[error("a chain of CNAME records without end")]
    Loop,
    /// An answer that makes no sense.
    #[error("bad answer ({0})")]
    Malformed(String),
}

impl Failure {
    /// Whether asking again later may help, as Postfix judges.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::ServFail(_) | Self::TimedOut | Self::Refused(_))
    }

    /// Whether there certainly is no such record.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NoDomain | Self::NoData | Self::Loop)
    }

    /// What Postfix writes behind `Name service error for name=… type=…: `.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoDomain => "Host not found",
            Self::NoData => "Host found but no data record of requested type",
            Self::ServFail(_) | Self::TimedOut | Self::Refused(_) => "Host not found, try again",
            Self::Loop => "Name server loop",
            Self::Malformed(_) => "Malformed or unexpected name server reply",
        }
    }

    /// Of two servers' failures, the one that tells more.
    pub(crate) fn or(self, earlier: Option<Self>) -> Self {
        match (self, earlier) {
            (Self::TimedOut, Some(earlier)) => earlier,
            (now, _) => now,
        }
    }

    pub(crate) fn unreachable(server: SocketAddr, why: &dyn std::fmt::Display) -> Self {
        Self::Refused(format!("{server}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_temporary() {
        for (failure, temporary, reason) in [
            (Failure::NoDomain, false, "Host not found"),
            (Failure::NoData, false, "Host found but no data record of requested type"),
            (Failure::ServFail(String::new()), true, "Host not found, try again"),
            (Failure::TimedOut, true, "Host not found, try again"),
            (Failure::Refused(String::new()), true, "Host not found, try again"),
            (Failure::Loop, false, "Name server loop"),
            (Failure::Malformed(String::new()), false, "Malformed or unexpected name server reply"),
        ] {
            assert_eq!(
                (failure.is_temporary(), failure.reason()),
                (temporary, reason),
                "{failure}"
            );
        }
        let earlier = Failure::ServFail("a".into());
        assert_eq!(Failure::TimedOut.or(Some(earlier.clone())), earlier);
        assert_eq!(Failure::NoData.or(Some(earlier)), Failure::NoData);
    }
}
