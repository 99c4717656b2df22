//! SASL as a client: the best mechanism that the server offers and the security options allow, and its answers.

use std::num::NonZeroU32;

use protocol::smtp::{decode_response, encode_challenge};

/// Rounds of PBKDF2 that we are ready to compute for a server.
const MOST_ROUNDS: u32 = 200_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: String,
}

/// Best first, as Cyrus SASL ranks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    ScramSha256,
    ScramSha1,
    CramMd5,
    Plain,
    Login,
}

impl Mechanism {
    const ALL: [Self; 5] =
        [Self::ScramSha256, Self::ScramSha1, Self::CramMd5, Self::Plain, Self::Login];

    pub fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::CramMd5 => "CRAM-MD5",
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    /// `smtp_sasl_security_options`: what the mechanism must not be, or must have.
    fn satisfies(self, option: &str) -> bool {
        let scram = matches!(self, Self::ScramSha256 | Self::ScramSha1);
        match option {
            "noplaintext" => !matches!(self, Self::Plain | Self::Login),
            "noactive" | "mutual_auth" => scram,
            "nodictionary" | "forward_secrecy" => false,
            _ => true, // none of them is anonymous
        }
    }

    /// The best of those offered; nothing if none is good enough.
    pub fn choose(offered: &[String], options: &[String]) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| {
            offered.iter().any(|word| word.eq_ignore_ascii_case(mechanism.name()))
                && options.iter().all(|option| mechanism.satisfies(option))
        })
    }
}

/// Words of `smtp_sasl_security_options`.
pub const OPTIONS: [&str; 6] =
    ["noplaintext", "noactive", "nodictionary", "forward_secrecy", "noanonymous", "mutual_auth"];

/// Why the login cannot go on from our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    #[error("no mechanism available")]
    NoMechanism,
    #[error("another step is needed in authentication")] // the words of Cyrus SASL
    NotBase64,
    #[error("bad protocol / cancel")]
    BadProtocol,
    #[error("bad protocol / cancel")]
    WrongServer,
}

/// One login.
pub struct Login {
    pub mechanism: Mechanism,
    credentials: Credentials,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Begin,
    /// LOGIN has asked for the name.
    Password,
    /// SCRAM: what we began with, without its header.
    ScramFirst {
        bare: String,
        nonce: String,
    },
    /// SCRAM: what the server must prove.
    ScramFinal {
        signature: Vec<u8>,
    },
    Done,
}

impl Login {
    /// # Errors
    ///
    /// [`LoginError::NoMechanism`].
    pub fn new(
        offered: &[String],
        options: &[String],
        credentials: Credentials,
    ) -> Result<Self, LoginError> {
        let mechanism = Mechanism::choose(offered, options).ok_or(LoginError::NoMechanism)?;
        Ok(Self { mechanism, credentials, stage: Stage::Begin })
    }

    /// What goes with AUTH, in base64; empty where the server speaks first. `nonce` is for SCRAM.
    pub fn initial(&mut self, nonce: &str) -> String {
        let Credentials { user, password } = &self.credentials;
        match self.mechanism {
            Mechanism::Plain => {
                self.stage = Stage::Done;
                encode_challenge(format!("\0{user}\0{password}").as_bytes())
            }
            Mechanism::ScramSha1 | Mechanism::ScramSha256 => {
                let name = user.replace('=', "=3D").replace(',', "=2C");
                let bare = format!("n={name},r={nonce}");
                let first = encode_challenge(format!("n,,{bare}").as_bytes());
                self.stage = Stage::ScramFirst { bare, nonce: nonce.to_owned() };
                first
            }
            Mechanism::CramMd5 | Mechanism::Login => String::new(),
        }
    }

    /// The answer to a challenge, both in base64.
    ///
    /// # Errors
    ///
    /// [`LoginError`]
    pub fn answer(&mut self, challenge: &str) -> Result<String, LoginError> {
        let challenge = decode_response(challenge.trim()).ok_or(LoginError::NotBase64)?;
        let answer = match (self.mechanism, std::mem::replace(&mut self.stage, Stage::Done)) {
            (Mechanism::Login, Stage::Begin) => {
                self.stage = Stage::Password;
                self.credentials.user.clone().into_bytes()
            }
            (Mechanism::Login, Stage::Password) => self.credentials.password.clone().into_bytes(),
            (Mechanism::CramMd5, Stage::Begin) => {
                let mac = crypto::hmac_md5(self.credentials.password.as_bytes(), &challenge);
                format!("{} {}", self.credentials.user, hexadecimal(&mac)).into_bytes()
            }
            (_, Stage::ScramFirst { bare, nonce }) => {
                let challenge =
                    String::from_utf8(challenge).map_err(|_| LoginError::BadProtocol)?;
                self.prove(&bare, &nonce, &challenge)?
            }
            (_, Stage::ScramFinal { signature }) => {
                let shown = challenge.strip_prefix(b"v=".as_slice());
                let shown = shown.and_then(|text| std::str::from_utf8(text).ok());
                let shown = shown.and_then(decode_response).ok_or(LoginError::BadProtocol)?;
                if !crypto::equal(&shown, &signature) {
                    return Err(LoginError::WrongServer);
                }
                Vec::new()
            }
            _ => return Err(LoginError::BadProtocol),
        };
        Ok(encode_challenge(&answer))
    }

    /// RFC 5802 section 3: the client's proof, without channel binding.
    fn prove(&mut self, bare: &str, nonce: &str, first: &str) -> Result<Vec<u8>, LoginError> {
        let part = |name: char| {
            first.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        let bad = LoginError::BadProtocol;
        let whole = part('r').filter(|whole| whole.len() > nonce.len() && whole.starts_with(nonce));
        let whole = whole.ok_or(bad)?;
        let salt = part('s').and_then(decode_response).ok_or(bad)?;
        let rounds = part('i').and_then(|rounds| rounds.parse::<u32>().ok());
        let rounds = rounds.filter(|rounds| *rounds <= MOST_ROUNDS).and_then(NonZeroU32::new);
        let rounds = rounds.ok_or(bad)?;
        let password = self.credentials.password.as_bytes();
        let salted = self.salted(password, &salt, rounds);
        let client_key = self.mac(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={whole}");
        let message = format!("{bare},{first},{without_proof}");
        let stored = match self.mechanism {
            Mechanism::ScramSha256 => crypto::sha256(&client_key).to_vec(),
            _ => crypto::sha1(&client_key).to_vec(),
        };
        let signature = self.mac(&stored, message.as_bytes());
        let proof: Vec<u8> =
            client_key.iter().zip(&signature).map(|(key, bit)| key ^ bit).collect();
        let server_key = self.mac(&salted, b"Server Key");
        self.stage = Stage::ScramFinal { signature: self.mac(&server_key, message.as_bytes()) };
        Ok(format!("{without_proof},p={}", encode_challenge(&proof)).into_bytes())
    }

    fn salted(&self, password: &[u8], salt: &[u8], rounds: NonZeroU32) -> Vec<u8> {
        match self.mechanism {
            Mechanism::ScramSha256 => crypto::pbkdf2_hmac_sha256(password, salt, rounds).to_vec(),
            _ => crypto::pbkdf2_hmac_sha1(password, salt, rounds).to_vec(),
        }
    }

    fn mac(&self, key: &[u8], data: &[u8]) -> Vec<u8> {
        match self.mechanism {
            Mechanism::ScramSha256 => crypto::hmac_sha256(key, data).to_vec(),
            _ => crypto::hmac_sha1(key, data).to_vec(),
        }
    }
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &str) -> Vec<String> {
        list.split_whitespace().map(str::to_owned).collect()
    }

    fn login(offered: &str, options: &str, user: &str, password: &str) -> Login {
        let credentials = Credentials { user: user.into(), password: password.into() };
        Login::new(&words(offered), &words(options), credentials).unwrap()
    }

    fn text(base64: &str) -> String {
        String::from_utf8(decode_response(base64).unwrap()).unwrap()
    }

    #[test]
    fn the_best_allowed_mechanism_is_taken() {
        for (offered, options, chosen) in [
            ("LOGIN PLAIN CRAM-MD5", "", Some("CRAM-MD5")),
            ("LOGIN PLAIN", "", Some("PLAIN")),
            ("login", "noanonymous", Some("LOGIN")),
            ("PLAIN LOGIN", "noplaintext noanonymous", None),
            ("PLAIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256", "noplaintext", Some("SCRAM-SHA-256")),
            ("CRAM-MD5 SCRAM-SHA-1", "mutual_auth", Some("SCRAM-SHA-1")),
            ("GSSAPI", "", None),
        ] {
            let mechanism = Mechanism::choose(&words(offered), &words(options));
            assert_eq!(mechanism.map(Mechanism::name), chosen, "{offered} {options}");
        }
    }

    #[test]
    fn plain_login_and_cram_as_in_their_rfcs() {
        assert_eq!(text(&login("PLAIN", "", "u", "p").initial("")), "\0u\0p");
        let mut old = login("LOGIN", "", "user", "secret");
        assert_eq!(old.initial(""), "");
        assert_eq!(text(&old.answer(&encode_challenge(b"Username:")).unwrap()), "user");
        assert_eq!(text(&old.answer(&encode_challenge(b"Password:")).unwrap()), "secret");
        assert_eq!(old.answer(""), Err(LoginError::BadProtocol));
        let mut cram = login("CRAM-MD5", "", "tim", "tanstaaftanstaaf"); // RFC 2195
        let challenge = encode_challenge(b"<1896.697170952@postoffice.reston.mci.net>");
        assert_eq!(text(&cram.answer(&challenge).unwrap()), "tim b913a602c7eda7a495b4e6e7334d3890");
    }

    /// RFC 5802 section 5 and RFC 7677 section 3.
    #[test]
    fn scram_as_in_its_rfcs() {
        let mut scram = login("SCRAM-SHA-1", "", "user", "pencil");
        assert_eq!(
            text(&scram.initial("fyko+d2lbbFgONRv9qkxdawL")),
            "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"
        );
        let first = "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096";
        assert_eq!(
            text(&scram.answer(&encode_challenge(first.as_bytes())).unwrap()),
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
        );
        let last = encode_challenge(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=");
        assert_eq!(scram.answer(&last).unwrap(), "");

        let mut scram = login("SCRAM-SHA-256", "", "user", "pencil");
        scram.initial("rOprNGfwEbeRWgbNEkqO");
        let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(
            text(&scram.answer(&encode_challenge(first.as_bytes())).unwrap()),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        let wrong = encode_challenge(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=");
        assert_eq!(scram.answer(&wrong), Err(LoginError::WrongServer));
    }

    #[test]
    fn a_server_cannot_make_us_compute_for_ever() {
        for first in
            ["r=nonceX,s=QSXC,i=4294967295", "r=nonceX,s=QSXC,i=0", "r=other,s=QSXC,i=1", "x"]
        {
            let mut scram = login("SCRAM-SHA-1", "", "user", "pencil");
            scram.initial("nonce");
            let answer = scram.answer(&encode_challenge(first.as_bytes()));
            assert_eq!(answer, Err(LoginError::BadProtocol), "{first}");
        }
    }
}
