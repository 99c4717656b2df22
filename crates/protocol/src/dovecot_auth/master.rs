//! The master protocol, spoken on `auth-master` and `auth-userdb`: who is this user, and did that
//! login really happen.

use super::Ticket;
use super::client_line::{cut, number};
use super::escape::{escape_to, unescape};
use super::params::Params;

/// The version that the master protocol speaks.
pub const VERSION: (u32, u32) = (1, 1);

/// What a mail process asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterRequest {
    Version {
        major: u32,
        minor: u32,
    },
    /// Userdb fields of a name. `params` hold `service=` and what is known about the connection.
    User {
        id: u32,
        name: String,
        params: Params,
    },
    /// Passdb fields of a name, without a password.
    Pass {
        id: u32,
        name: String,
        params: Params,
    },
    /// All names that the userdbs know.
    List {
        id: u32,
        params: Params,
    },
    /// A login process says that this login succeeded: is that so, and who is it?
    Request {
        id: u32,
        ticket: Ticket,
        params: Params,
    },
    CacheFlush {
        id: u32,
        users: Vec<String>,
    },
}

/// What the auth server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterReply {
    Version { major: u32, minor: u32 },
    Spid(u32),
    User { id: u32, name: String, fields: Params },
    Pass { id: u32, fields: Params },
    NotFound { id: u32 },
    Fail { id: u32, params: Params },
    ListItem { id: u32, name: String },
    ListDone { id: u32, failed: bool },
    Flushed { id: u32, count: u32 },
    Unknown,
}

/// A line of the master protocol that makes no sense; the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broken {0} line")]
pub struct BrokenLine(pub &'static str);

/// Names that one `CACHE-FLUSH` may carry.
const MAX_FLUSHED: usize = 1000;

fn id<'a>(rest: &'a [u8], command: &'static str) -> Result<(u32, &'a [u8]), BrokenLine> {
    let (field, rest) = cut(rest);
    number(field).map(|id| (id, rest)).ok_or(BrokenLine(command))
}

fn name(rest: &[u8]) -> (String, &[u8]) {
    let (field, rest) = cut(rest);
    (unescape(field).into_owned(), rest)
}

fn version(rest: &[u8]) -> Result<(u32, u32), BrokenLine> {
    let (major, rest) = id(rest, "VERSION")?;
    Ok((major, number(cut(rest).0).unwrap_or(0)))
}

impl MasterRequest {
    /// Reads one line of a mail process.
    ///
    /// # Errors
    ///
    /// [`BrokenLine`]: the connection must be closed.
    pub fn parse(line: &[u8]) -> Result<Self, BrokenLine> {
        let (command, rest) = cut(line);
        match command {
            b"VERSION" => version(rest).map(|(major, minor)| Self::Version { major, minor }),
            b"USER" => {
                let (id, rest) = id(rest, "USER")?;
                let (name, rest) = name(rest);
                Ok(Self::User { id, name, params: Params::parse(rest) })
            }
            b"PASS" => {
                let (id, rest) = id(rest, "PASS")?;
                let (name, rest) = name(rest);
                Ok(Self::Pass { id, name, params: Params::parse(rest) })
            }
            b"LIST" => {
                let (id, rest) = id(rest, "LIST")?;
                Ok(Self::List { id, params: Params::parse(rest) })
            }
            b"REQUEST" => {
                let (id_, rest) = id(rest, "REQUEST")?;
                let (client_pid, rest) = id(rest, "REQUEST")?;
                let (auth_id, rest) = id(rest, "REQUEST")?;
                let (cookie, rest) = name(rest);
                let ticket = Ticket { client_pid, auth_id, cookie };
                Ok(Self::Request { id: id_, ticket, params: Params::parse(rest) })
            }
            b"CACHE-FLUSH" => {
                let (id, rest) = id(rest, "CACHE-FLUSH")?;
                let names = super::escape::fields(rest).filter(|name| !name.is_empty());
                Ok(Self::CacheFlush {
                    id,
                    users: names.take(MAX_FLUSHED).map(String::from).collect(),
                })
            }
            _ => Err(BrokenLine("unknown")),
        }
    }

    /// The id that the answer carries; a `VERSION` has none.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        match self {
            Self::Version { .. } => None,
            Self::User { id, .. }
            | Self::Pass { id, .. }
            | Self::List { id, .. }
            | Self::Request { id, .. }
            | Self::CacheFlush { id, .. } => Some(*id),
        }
    }

    /// Appends the line and its LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Version { major, minor } => put(out, &format!("VERSION\t{major}\t{minor}")),
            Self::User { id, name, params } => named(out, "USER", *id, name, params),
            Self::Pass { id, name, params } => named(out, "PASS", *id, name, params),
            Self::List { id, params } => {
                put(out, &format!("LIST\t{id}"));
                params.write(out);
            }
            Self::Request { id, ticket, params } => {
                let Ticket { client_pid, auth_id, cookie } = ticket;
                put(out, &format!("REQUEST\t{id}\t{client_pid}\t{auth_id}\t"));
                escape_to(cookie, out);
                params.write(out);
            }
            Self::CacheFlush { id, users } => {
                put(out, &format!("CACHE-FLUSH\t{id}"));
                for user in users {
                    out.push(b'\t');
                    escape_to(user, out);
                }
            }
        }
        out.push(b'\n');
    }
}

impl MasterReply {
    /// Reads one line of the auth server.
    ///
    /// # Errors
    ///
    /// [`BrokenLine`]: the connection is of no use any more.
    pub fn parse(line: &[u8]) -> Result<Self, BrokenLine> {
        let (command, rest) = cut(line);
        Ok(match command {
            b"VERSION" => {
                let (major, minor) = version(rest)?;
                Self::Version { major, minor }
            }
            b"SPID" => Self::Spid(id(rest, "SPID")?.0),
            b"USER" => {
                let (id, rest) = id(rest, "USER")?;
                let (name, rest) = name(rest);
                Self::User { id, name, fields: Params::parse(rest) }
            }
            b"PASS" => {
                let (id, rest) = id(rest, "PASS")?;
                Self::Pass { id, fields: Params::parse(rest) }
            }
            b"NOTFOUND" => Self::NotFound { id: id(rest, "NOTFOUND")?.0 },
            b"FAIL" => {
                let (id, rest) = id(rest, "FAIL")?;
                Self::Fail { id, params: Params::parse(rest) }
            }
            b"LIST" => {
                let (id, rest) = id(rest, "LIST")?;
                Self::ListItem { id, name: name(rest).0 }
            }
            b"DONE" => {
                let (id, rest) = id(rest, "DONE")?;
                Self::ListDone { id, failed: cut(rest).0 == b"fail" }
            }
            b"OK" => {
                let (id, rest) = id(rest, "OK")?;
                Self::Flushed { id, count: number(cut(rest).0).unwrap_or(0) }
            }
            _ => Self::Unknown,
        })
    }

    /// Appends the line and its LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Version { major, minor } => put(out, &format!("VERSION\t{major}\t{minor}")),
            Self::Spid(pid) => put(out, &format!("SPID\t{pid}")),
            Self::User { id, name, fields } => named(out, "USER", *id, name, fields),
            Self::Pass { id, fields } => {
                put(out, &format!("PASS\t{id}"));
                fields.write(out);
            }
            Self::NotFound { id } => put(out, &format!("NOTFOUND\t{id}")),
            Self::Fail { id, params } => {
                put(out, &format!("FAIL\t{id}"));
                params.write(out);
            }
            Self::ListItem { id, name } => named(out, "LIST", *id, name, &Params::default()),
            Self::ListDone { id, failed } => {
                put(out, &format!("DONE\t{id}\t{}", if *failed { "fail" } else { "" }));
            }
            Self::Flushed { id, count } => put(out, &format!("OK\t{id}\t{count}")),
            Self::Unknown => return,
        }
        out.push(b'\n');
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn named(out: &mut Vec<u8>, command: &str, id: u32, name: &str, params: &Params) {
    put(out, &format!("{command}\t{id}\t"));
    escape_to(name, out);
    params.write(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn captured_requests_are_read_and_printed_back() {
        for line in [
            "VERSION\t1\t1",
            "USER\t1\talice@example.com\tservice=lmtp",
            "PASS\t4\tfrank@example.com\tservice=lmtp",
            "LIST\t7\tservice=doveadm\tuser=a*",
            "REQUEST\t3446276097\t2919\t1\ta698c9bebf11fdf9ae04eb54eb5c5abf\tsession_pid=2923\trequest_auth_token",
            "CACHE-FLUSH\t5\tinfo\ttaro",
        ] {
            let mut out = Vec::new();
            MasterRequest::parse(line.as_bytes()).unwrap().write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{line}\n"));
        }
        for line in ["USER", "USER\tx\ty", "REQUEST\t1\t2", "HELLO\t1", ""] {
            assert!(MasterRequest::parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn captured_replies_are_read_and_printed_back() {
        for line in [
            "SPID\t77",
            "USER\t1\tinfo\tsystem_groups_user=info\tuid=1003\tgid=1003\thome=/home/info",
            "PASS\t4\tuser=frank@example.com\tproxy=y\thost=192.0.2.9",
            "NOTFOUND\t1",
            "FAIL\t4\treason=Configured passdbs don't support credentials lookups",
            "LIST\t7\talice@example.com",
            "DONE\t7\t",
            "DONE\t7\tfail",
            "OK\t5\t2",
        ] {
            let mut out = Vec::new();
            MasterReply::parse(line.as_bytes()).unwrap().write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{line}\n"));
        }
    }

    proptest! {
        #[test]
        fn no_line_is_a_panic(line in any::<Vec<u8>>()) {
            let _ = (MasterRequest::parse(&line), MasterReply::parse(&line));
        }
    }
}
