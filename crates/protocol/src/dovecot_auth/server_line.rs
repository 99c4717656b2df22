//! What the auth server says to a client: its handshake, then `OK`, `FAIL` and `CONT`.

use super::client_line::{cut, number};
use super::escape::{escape_to, fields, unescape};
use super::params::Params;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A line from the auth server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerLine {
    Version {
        major: u32,
        minor: u32,
    },
    Mech(Mechanism),
    Spid(u32),
    Cuid(u32),
    Cookie(String),
    Done,
    Ok {
        id: u32,
        params: Params,
    },
    Fail {
        id: u32,
        params: Params,
    },
    Continue {
        id: u32,
        data: Vec<u8>,
    },
    /// Anything else: a newer server's line, to be ignored.
    Unknown,
}

/// A mechanism as `MECH` announces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mechanism {
    pub name: String,
    /// `private anonymous plaintext dictionary active forward-secrecy mutual-auth channel-binding`.
    pub flags: Vec<String>,
}

impl Mechanism {
    #[must_use]
    pub fn new(name: &str, flags: &[&str]) -> Self {
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        Self { name: name.to_owned(), flags }
    }

    /// Whether the password crosses the wire readable: not to be offered without TLS.
    #[must_use]
    pub fn is_plaintext(&self) -> bool {
        self.has("plaintext")
    }

    /// Not to be listed to the client.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.has("private")
    }

    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.has("anonymous")
    }

    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|one| one == flag)
    }
}

/// A line of the auth server that makes no sense; the connection is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the auth server sent a broken {0} line")]
pub struct BrokenServer(pub &'static str);

impl ServerLine {
    /// Reads one line of the server.
    ///
    /// # Errors
    ///
    /// [`BrokenServer`]: close the connection.
    pub fn parse(line: &[u8]) -> Result<Self, BrokenServer> {
        let (command, rest) = cut(line);
        let numbered = |name| {
            let (field, rest) = cut(rest);
            number(field).map(|id| (id, rest)).ok_or(BrokenServer(name))
        };
        Ok(match command {
            b"VERSION" => {
                let (major, rest) = numbered("VERSION")?;
                Self::Version { major, minor: number(cut(rest).0).unwrap_or(0) }
            }
            b"MECH" => {
                let mut fields = fields(rest).filter(|field| !field.is_empty());
                let name = fields.next().ok_or(BrokenServer("MECH"))?.to_ascii_uppercase();
                Self::Mech(Mechanism { name, flags: fields.map(String::from).collect() })
            }
            b"SPID" => Self::Spid(numbered("SPID")?.0),
            b"CUID" => Self::Cuid(numbered("CUID")?.0),
            b"COOKIE" => Self::Cookie(unescape(cut(rest).0).into_owned()),
            b"DONE" => Self::Done,
            b"OK" => {
                let (id, rest) = numbered("OK")?;
                Self::Ok { id, params: Params::parse(rest) }
            }
            b"FAIL" => {
                let (id, rest) = numbered("FAIL")?;
                Self::Fail { id, params: Params::parse(rest) }
            }
            b"CONT" => {
                let (id, rest) = numbered("CONT")?;
                let data = STANDARD.decode(cut(rest).0).map_err(|_| BrokenServer("CONT"))?;
                Self::Continue { id, data }
            }
            _ => Self::Unknown,
        })
    }

    /// Appends the line and its LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Version { major, minor } => put(out, &format!("VERSION\t{major}\t{minor}")),
            Self::Mech(mechanism) => {
                put(out, "MECH\t");
                escape_to(&mechanism.name, out);
                for flag in &mechanism.flags {
                    out.push(b'\t');
                    escape_to(flag, out);
                }
            }
            Self::Spid(pid) => put(out, &format!("SPID\t{pid}")),
            Self::Cuid(number) => put(out, &format!("CUID\t{number}")),
            Self::Cookie(cookie) => put(out, &format!("COOKIE\t{cookie}")),
            Self::Done => put(out, "DONE"),
            Self::Ok { id, params } => {
                put(out, &format!("OK\t{id}"));
                params.write(out);
            }
            Self::Fail { id, params } => {
                put(out, &format!("FAIL\t{id}"));
                params.write(out);
            }
            // the tab stands there even before empty data: Postfix demands the field
            Self::Continue { id, data } => {
                put(out, &format!("CONT\t{id}\t{}", STANDARD.encode(data)));
            }
            Self::Unknown => return,
        }
        out.push(b'\n');
    }
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// What a client knows about the server once its handshake is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    pub mechanisms: Vec<Mechanism>,
    pub server_pid: u32,
    pub connection: u32,
    /// For the master protocol's `REQUEST`; empty if the server sent none.
    pub cookie: String,
}

/// The server's handshake as the client collects it.
#[derive(Debug, Default)]
pub struct Handshake {
    welcome: Welcome,
    version: bool,
}

/// More mechanisms than any server has.
const MAX_MECHANISMS: usize = 64;

impl Handshake {
    /// Takes a line; gives the whole handshake at its `DONE`.
    ///
    /// # Errors
    ///
    /// [`BrokenServer`] if this is not a client socket of an auth server that we can talk to.
    pub fn line(&mut self, line: ServerLine) -> Result<Option<Welcome>, BrokenServer> {
        match line {
            ServerLine::Version { major, .. } if major != super::VERSION.0 => {
                return Err(BrokenServer("VERSION"));
            }
            ServerLine::Version { .. } => self.version = true,
            ServerLine::Mech(mechanism) if self.welcome.mechanisms.len() < MAX_MECHANISMS => {
                self.welcome.mechanisms.push(mechanism);
            }
            ServerLine::Mech(_) => return Err(BrokenServer("MECH")),
            ServerLine::Spid(pid) => self.welcome.server_pid = pid,
            ServerLine::Cuid(number) => self.welcome.connection = number,
            ServerLine::Cookie(cookie) => self.welcome.cookie = cookie,
            ServerLine::Done if self.version => return Ok(Some(std::mem::take(&mut self.welcome))),
            ServerLine::Unknown => {}
            _ => return Err(BrokenServer("handshake")),
        }
        Ok(None)
    }
}

/// Appends the handshake that an auth server sends at once: every `MECH` before `SPID`, or Postfix
/// takes it for a wrong socket.
pub fn write_handshake(welcome: &Welcome, out: &mut Vec<u8>) {
    let (major, minor) = super::VERSION;
    ServerLine::Version { major, minor }.write(out);
    for mechanism in &welcome.mechanisms {
        ServerLine::Mech(mechanism.clone()).write(out);
    }
    ServerLine::Spid(welcome.server_pid).write(out);
    ServerLine::Cuid(welcome.connection).write(out);
    ServerLine::Cookie(welcome.cookie.clone()).write(out);
    ServerLine::Done.write(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAPTURED: &str = "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tCRAM-MD5\tdictionary\tactive\n\
        SPID\t149\nCUID\t2\nCOOKIE\td1b1bd80027270c59e3b9e1643f51809\nDONE\n";

    #[test]
    fn a_captured_handshake_is_read_and_printed_back() {
        let mut handshake = Handshake::default();
        let mut welcome = None;
        for line in CAPTURED.lines() {
            welcome = handshake.line(ServerLine::parse(line.as_bytes()).unwrap()).unwrap();
        }
        let welcome = welcome.unwrap();
        assert!(welcome.mechanisms[0].is_plaintext());
        assert_eq!(welcome.cookie, "d1b1bd80027270c59e3b9e1643f51809");
        let mut out = Vec::new();
        write_handshake(&welcome, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), CAPTURED);
    }

    #[test]
    fn replies_are_read_and_printed() {
        for (line, printed) in [
            ("OK\t1\tuser=info\t", "OK\t1\tuser=info\n"),
            (
                "OK\t2\tuser=info\t\toriginal_user=info@a",
                "OK\t2\tuser=info\toriginal_user=info@a\n",
            ),
            ("FAIL\t9\tuser=x\tcode=temp_fail", "FAIL\t9\tuser=x\tcode=temp_fail\n"),
            ("CONT\t1\t", "CONT\t1\t\n"),
            ("CONT\t1\tVXNlcm5hbWU6", "CONT\t1\tVXNlcm5hbWU6\n"),
            ("NEWER\t1", ""),
        ] {
            let mut out = Vec::new();
            ServerLine::parse(line.as_bytes()).unwrap().write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), printed);
        }
        assert_eq!(ServerLine::parse(b"OK\tx"), Err(BrokenServer("OK")));
    }

    proptest! {
        #[test]
        fn no_line_is_a_panic(line in any::<Vec<u8>>()) {
            let _ = ServerLine::parse(&line);
        }
    }
}
