//! The SASL mechanisms from the server's side, without their socket: PLAIN (RFC 4616), LOGIN,
//! CRAM-MD5 (RFC 2195).

use crate::scheme::hex;
use crate::settings::MechanismName;
use protocol::dovecot_auth::Mechanism;
use zeroize::Zeroizing;

impl MechanismName {
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "PLAIN" => Self::Plain,
            "LOGIN" => Self::Login,
            "CRAM-MD5" => Self::CramMd5,
            _ => return None,
        })
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::CramMd5 => "CRAM-MD5",
        }
    }

    /// As the handshake announces it.
    #[must_use]
    pub fn announcement(self) -> Mechanism {
        match self {
            Self::Plain | Self::Login => Mechanism::new(self.name(), &["plaintext"]),
            Self::CramMd5 => Mechanism::new(self.name(), &["dictionary", "active"]),
        }
    }
}

/// What a client proves to know, and as whom.
pub enum Claim {
    Password { user: String, authorization: Option<String>, password: Zeroizing<Vec<u8>> },
    CramMd5 { user: String, challenge: String, response: String },
}

impl Claim {
    #[must_use]
    pub fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } | Self::CramMd5 { user, .. } => user,
        }
    }
}

/// What to do after a message of the client.
pub enum Progress {
    Challenge(Vec<u8>),
    Claim(Claim),
    /// The message makes no sense: a failed login; the text is for the log.
    Invalid(&'static str),
}

/// A mechanism in its course. Each state holds what is known in it.
pub enum Exchange {
    Plain,
    LoginUser,
    LoginPassword { user: String },
    CramMd5 { challenge: String },
}

/// What a challenge is made of, so that it never comes twice.
pub struct Nonce<'a> {
    /// 16 digits.
    pub digits: u64,
    pub unix_time: u64,
    pub hostname: &'a str,
}

impl Exchange {
    /// Begins; `response` is what came with the request.
    pub fn start(
        name: MechanismName,
        response: Option<&[u8]>,
        nonce: &Nonce<'_>,
    ) -> (Option<Self>, Progress) {
        match (name, response) {
            (MechanismName::Plain, Some(response)) => Self::Plain.step(response),
            (MechanismName::Plain, None) => (Some(Self::Plain), Progress::Challenge(Vec::new())),
            (MechanismName::Login, Some(response)) => Self::LoginUser.step(response),
            (MechanismName::Login, None) => {
                (Some(Self::LoginUser), Progress::Challenge(b"Username:".to_vec()))
            }
            (MechanismName::CramMd5, _) => {
                let Nonce { digits, unix_time, hostname } = nonce;
                let challenge =
                    format!("<{:016}.{unix_time}@{hostname}>", digits % 10_000_000_000_000_000);
                let sent = challenge.clone().into_bytes();
                (Some(Self::CramMd5 { challenge }), Progress::Challenge(sent))
            }
        }
    }

    /// Takes the client's next message.
    pub fn step(self, response: &[u8]) -> (Option<Self>, Progress) {
        match self {
            Self::Plain => (None, plain(response)),
            Self::LoginUser => match std::str::from_utf8(response) {
                Ok(user) if !user.contains('\0') => {
                    let user = user.to_owned();
                    let prompt = Progress::Challenge(b"Password:".to_vec());
                    (Some(Self::LoginPassword { user }), prompt)
                }
                _ => (None, Progress::Invalid("invalid input")),
            },
            Self::LoginPassword { user } => {
                let password = Zeroizing::new(response.to_vec());
                (None, Progress::Claim(Claim::Password { user, authorization: None, password }))
            }
            Self::CramMd5 { challenge } => (None, cram_md5(challenge, response)),
        }
    }
}

/// `authzid NUL authcid NUL password`.
fn plain(response: &[u8]) -> Progress {
    let mut parts = response.splitn(3, |&byte| byte == 0);
    let (Some(authzid), Some(user), Some(password)) = (parts.next(), parts.next(), parts.next())
    else {
        return Progress::Invalid("invalid input");
    };
    let (Ok(authzid), Ok(user)) = (std::str::from_utf8(authzid), std::str::from_utf8(user)) else {
        return Progress::Invalid("invalid input");
    };
    if password.contains(&0) {
        return Progress::Invalid("invalid input");
    }
    // asking for oneself by name is asking for nothing
    let authorization = Some(authzid).filter(|id| !id.is_empty() && *id != user);
    Progress::Claim(Claim::Password {
        user: user.to_owned(),
        authorization: authorization.map(str::to_owned),
        password: Zeroizing::new(password.to_vec()),
    })
}

/// `user SP 32 hexadecimal digits`.
fn cram_md5(challenge: String, response: &[u8]) -> Progress {
    let parts = std::str::from_utf8(response).ok().and_then(|text| text.rsplit_once(' '));
    match parts {
        Some((user, digest)) if digest.len() == 32 => Progress::Claim(Claim::CramMd5 {
            user: user.to_owned(),
            challenge,
            response: digest.to_ascii_lowercase(),
        }),
        _ => Progress::Invalid("invalid input"),
    }
}

/// Whether a CRAM-MD5 response proves to know `password`.
#[must_use]
pub fn cram_md5_fits(challenge: &str, response: &str, password: &[u8]) -> bool {
    let expected = hex(&crypto::hmac_md5(password, challenge.as_bytes()));
    crypto::equal(expected.as_bytes(), response.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce<'static> = Nonce {
        digits: 413_930_199_848_911,
        unix_time: 1_795_295_357,
        hostname: "mx1.example.com",
    };

    fn claim(progress: Progress) -> (String, Option<String>, Vec<u8>) {
        match progress {
            Progress::Claim(Claim::Password { user, authorization, password }) => {
                (user, authorization, password.to_vec())
            }
            _ => unreachable!("no password"),
        }
    }

    #[test]
    fn plain_with_and_without_initial_response() {
        let (_, progress) = Exchange::start(MechanismName::Plain, Some(b"\0info\0pw"), &NONCE);
        assert_eq!(claim(progress), ("info".into(), None, b"pw".to_vec()));
        let (state, progress) = Exchange::start(MechanismName::Plain, None, &NONCE);
        assert!(matches!(progress, Progress::Challenge(data) if data.is_empty()));
        let (_, progress) = state.unwrap().step(b"bob\0admin\0pw");
        assert_eq!(claim(progress), ("admin".into(), Some("bob".into()), b"pw".to_vec()));
        let (_, progress) = Exchange::Plain.step(b"info\0info\0pw");
        assert_eq!(claim(progress).1, None);
        for bad in [&b""[..], b"info", b"a\0b", b"a\0b\0c\0d", b"\0\xff\0x"] {
            assert!(
                matches!(Exchange::Plain.step(bad).1, Progress::Invalid("invalid input")),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn login_asks_for_name_and_password() {
        let (state, progress) = Exchange::start(MechanismName::Login, None, &NONCE);
        assert!(matches!(progress, Progress::Challenge(data) if data == b"Username:"));
        let (state, progress) = state.unwrap().step(b"info");
        assert!(matches!(progress, Progress::Challenge(data) if data == b"Password:"));
        assert_eq!(claim(state.unwrap().step(b"pw").1), ("info".into(), None, b"pw".to_vec()));
    }

    #[test]
    fn cram_md5_as_in_its_rfc() {
        let (_, progress) = Exchange::start(MechanismName::CramMd5, Some(b"x"), &NONCE);
        assert!(matches!(progress, Progress::Challenge(data)
            if data == b"<0413930199848911.1795295357@mx1.example.com>"));
        let state =
            Exchange::CramMd5 { challenge: "<1896.697170952@postoffice.reston.mci.net>".into() };
        let (_, progress) = state.step(b"tim b913a602c7eda7a495b4e6e7334d3890");
        let Progress::Claim(Claim::CramMd5 { user, challenge, response }) = progress else {
            unreachable!()
        };
        assert_eq!(user, "tim");
        assert!(cram_md5_fits(&challenge, &response, b"tanstaaftanstaaf"));
        assert!(!cram_md5_fits(&challenge, &response, b"tanstaaf"));
    }
}
