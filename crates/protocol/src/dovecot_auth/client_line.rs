//! What a client says: `VERSION`, `CPID`, `AUTH`, `CONT`, `CANCEL`.

use super::MAX_LINE;
use super::request::{BadBase64, Request, decode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A line from a client, as the auth server understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientLine {
    Version {
        major: u32,
        minor: u32,
    },
    Cpid(u32),
    Auth {
        id: u32,
        request: Box<Request>,
        /// `resp=` did not decode: answer `FAIL` with `code=invalid_base64` at once.
        bad_base64: bool,
    },
    /// `None`: the data did not decode.
    Continue {
        id: u32,
        data: Option<Vec<u8>>,
    },
    Cancel {
        id: u32,
    },
}

/// Why a client is cut off: the text that the original logs after `BUG: Authentication client `.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("sent a broken VERSION")]
    BadVersion,
    #[error("not compatible with this server (mixed old and new binaries?)")]
    Incompatible,
    #[error("sent a broken CPID")]
    BadCpid,
    #[error("sent unknown command")]
    UnknownCommand,
    #[error("sent broken request id")]
    BadId,
    #[error("sent a duplicate request id")]
    DuplicateId,
    #[error("didn't specify service in request")]
    NoService,
    #[error("sent resp= as not the last parameter")]
    ParameterAfterResponse,
    #[error("requested unsupported authentication mechanism")]
    UnknownMechanism,
    #[error("sent more than {MAX_LINE} bytes in a line")]
    LineTooLong,
    #[error("sent a command before its handshake")]
    BeforeHandshake,
}

impl ClientLine {
    /// Reads one line from a client that has announced protocol minor version `minor`.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`]: the connection must be closed, without an answer.
    pub fn parse(line: &[u8], minor: u32) -> Result<Self, ProtocolError> {
        let (command, rest) = cut(line);
        match command {
            b"VERSION" => {
                let (major, rest) = cut(rest);
                let numbers = (number(major), number(cut(rest).0));
                let (Some(major), Some(minor)) = numbers else {
                    return Err(ProtocolError::BadVersion);
                };
                Ok(Self::Version { major, minor })
            }
            b"CPID" => match number(cut(rest).0) {
                Some(pid) if pid > 0 => Ok(Self::Cpid(pid)),
                _ => Err(ProtocolError::BadCpid),
            },
            b"AUTH" => {
                let (id, rest) = id(rest)?;
                let (request, response) = Request::parse(rest, minor)?;
                let bad_base64 = response == Err(BadBase64);
                Ok(Self::Auth { id, request: Box::new(request), bad_base64 })
            }
            b"CONT" => {
                let (id, rest) = id(rest)?;
                let data = std::str::from_utf8(cut(rest).0).ok();
                Ok(Self::Continue { id, data: data.and_then(|text| decode(text).ok()) })
            }
            b"CANCEL" => Ok(Self::Cancel { id: id(rest)?.0 }),
            _ => Err(ProtocolError::UnknownCommand),
        }
    }

    /// Appends the line and its LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        let text = match self {
            Self::Version { major, minor } => format!("VERSION\t{major}\t{minor}\n"),
            Self::Cpid(pid) => format!("CPID\t{pid}\n"),
            Self::Auth { id, request, .. } => return request.write(*id, out),
            Self::Continue { id, data } => {
                format!("CONT\t{id}\t{}\n", STANDARD.encode(data.as_deref().unwrap_or_default()))
            }
            Self::Cancel { id } => format!("CANCEL\t{id}\n"),
        };
        out.extend_from_slice(text.as_bytes());
    }
}

/// The first field and what follows its tab.
pub(super) fn cut(line: &[u8]) -> (&[u8], &[u8]) {
    match line.iter().position(|&byte| byte == b'\t') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &[]),
    }
}

/// Digits alone, no sign.
pub(super) fn number(field: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(field).ok()?;
    if text.starts_with('+') { None } else { text.parse().ok() }
}

fn id(rest: &[u8]) -> Result<(u32, &[u8]), ProtocolError> {
    let (field, rest) = cut(rest);
    match number(field) {
        Some(id) if id > 0 => Ok((id, rest)),
        _ => Err(ProtocolError::BadId),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Secured;
    use super::*;
    use proptest::prelude::*;

    fn auth(line: &str, minor: u32) -> Request {
        match ClientLine::parse(line.as_bytes(), minor).unwrap() {
            ClientLine::Auth { request, bad_base64: false, .. } => *request,
            other => unreachable!("{other:?}"),
        }
    }

    #[test]
    fn what_postfix_and_imap_login_send_is_understood() {
        let postfix = auth(
            "AUTH\t3\tPLAIN\tservice=smtp\tnologin\tlip=127.0.0.1\trip=192.0.2.7\tsecured\tresp=AGluZm8AcHctaW5mbw==",
            0,
        );
        assert_eq!(postfix.mechanism, "PLAIN");
        assert_eq!(postfix.service, "smtp");
        assert_eq!(postfix.remote_address, "192.0.2.7".parse().ok());
        assert_eq!(postfix.secured, Secured::Trusted);
        assert_eq!(postfix.initial_response.as_deref(), Some(&b"\0info\0pw-info"[..]));
        let login = auth(
            "AUTH\t1\tplain\tservice=imap\tsecured=tls\tsession=/W5Mn9BgApd/AAAB\tlip=::1\trip=junk\tlport=993\trport=45303\twhatever=1",
            2,
        );
        assert_eq!(login.mechanism, "PLAIN");
        assert_eq!((login.secured, login.remote_address), (Secured::Tls, None));
        assert_eq!((login.local_port, login.remote_port), (Some(993), Some(45303)));
        assert_eq!(login.initial_response, None);
    }

    #[test]
    fn a_client_of_dovecot_2_4_names_its_service_as_protocol() {
        let line = "AUTH\t1\tPLAIN\tprotocol=doveadm\tfinal-resp-ok\tresp=AGluZm8Ac2VjcmV0";
        let doveadm = auth(line, 3);
        assert_eq!(doveadm.service, "doveadm");
        assert_eq!(doveadm.initial_response.as_deref(), Some(&b"\0info\0secret"[..]));
    }

    #[test]
    fn an_empty_initial_response_depends_on_the_version() {
        for (line, minor, response) in [
            ("AUTH\t1\tPLAIN\tservice=x\tresp==", 0, Some(vec![])),
            ("AUTH\t1\tPLAIN\tservice=x\tresp=", 2, Some(vec![])),
            ("AUTH\t1\tPLAIN\tservice=x\tresp=", 1, None),
            ("AUTH\t1\tPLAIN\tservice=x", 2, None),
        ] {
            assert_eq!(auth(line, minor).initial_response, response, "{line}");
        }
        let bad = ClientLine::parse(b"AUTH\t4\tPLAIN\tservice=x\tresp=%%%", 2);
        assert!(matches!(bad, Ok(ClientLine::Auth { id: 4, bad_base64: true, .. })));
    }

    #[test]
    fn a_broken_client_is_told_by_name() {
        for (line, error) in [
            ("AUTH\t1\tPLAIN", ProtocolError::NoService),
            ("AUTH\t0\tPLAIN\tservice=x", ProtocolError::BadId),
            ("AUTH\t+1\tPLAIN\tservice=x", ProtocolError::BadId),
            ("AUTH\tx\tPLAIN\tservice=x", ProtocolError::BadId),
            (
                "AUTH\t1\tPLAIN\tservice=x\tresp=AA==\tsecured",
                ProtocolError::ParameterAfterResponse,
            ),
            ("CPID\t0", ProtocolError::BadCpid),
            ("CPID\tjunk", ProtocolError::BadCpid),
            ("VERSION\tone", ProtocolError::BadVersion),
            ("HELO", ProtocolError::UnknownCommand),
            ("", ProtocolError::UnknownCommand),
        ] {
            assert_eq!(ClientLine::parse(line.as_bytes(), 2), Err(error), "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_request_is_read_as_it_was_written(
            id in 1..u32::MAX, session in any::<Option<String>>(), response in any::<Option<Vec<u8>>>(),
        ) {
            let request = Request {
                mechanism: "PLAIN".into(), service: "imap".into(), session,
                remote_address: "2001:db8::1".parse().ok(), remote_port: Some(7),
                secured: Secured::Tls, final_resp_ok: true, initial_response: response,
                ..Request::default()
            };
            let line = ClientLine::Auth { id, request: Box::new(request), bad_base64: false };
            let mut out = Vec::new();
            line.write(&mut out);
            prop_assert_eq!(out.pop(), Some(b'\n'));
            prop_assert_eq!(ClientLine::parse(&out, 2), Ok(line));
        }

        #[test]
        fn no_line_is_a_panic(line in any::<Vec<u8>>()) {
            let _ = ClientLine::parse(&line, 2);
        }
    }
}
