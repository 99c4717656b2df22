//! Stored passwords: `{SCHEME}hash`, and whether a password fits one.

mod crypt;
mod digest;
mod md5_crypt;
mod scram;

use protocol::base64;

/// A stored password that is split into its scheme and its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    /// In upper case, without the encoding suffix.
    pub scheme: String,
    encoding: Encoding,
    hash: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// As the scheme has it by default.
    Default,
    Base64,
    Hex,
}

/// How a password compares with a stored one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Match,
    Mismatch,
    /// The stored password is of no use: the reason, for the log.
    Unusable(String),
}

impl Verdict {
    fn of(fits: bool) -> Self {
        if fits { Self::Match } else { Self::Mismatch }
    }
}

impl Stored {
    /// Splits `{SCHEME}hash`; without braces it is of `default_scheme`.
    #[must_use]
    pub fn parse(text: &str, default_scheme: &str) -> Self {
        let (scheme, hash) = match text.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            Some(parts) => parts,
            // `$1$` without a scheme is MD5-CRYPT whatever the default says
            None if text.starts_with("$1$") => ("MD5-CRYPT", text),
            None => (default_scheme, text),
        };
        let (scheme, encoding) = match scheme.rsplit_once('.') {
            Some((name, "b64" | "base64")) => (name, Encoding::Base64),
            Some((name, "hex" | "HEX")) => (name, Encoding::Hex),
            _ => (scheme, Encoding::Default),
        };
        Self { scheme: scheme.to_ascii_uppercase(), encoding, hash: hash.to_owned() }
    }

    /// The password itself, where the scheme stores it readable.
    #[must_use]
    pub fn plain(&self) -> Option<Vec<u8>> {
        match self.scheme.as_str() {
            "PLAIN" | "CLEAR" | "CLEARTEXT" => match self.encoding {
                Encoding::Default => Some(self.hash.clone().into_bytes()),
                Encoding::Base64 => base64::decode(self.hash.as_bytes()),
                Encoding::Hex => unhex(&self.hash),
            },
            _ => None,
        }
    }

    /// Whether this stored password is empty: it never matches, whatever the scheme.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hash.is_empty()
    }

    /// Compares a password. Slow on purpose for most schemes: call it on the hashing threads.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> Verdict {
        if self.hash.is_empty() {
            return Verdict::Mismatch;
        }
        match self.scheme.as_str() {
            "PLAIN" | "CLEAR" | "CLEARTEXT" => match self.plain() {
                Some(plain) => Verdict::of(crypto::equal(&plain, password)),
                None => self.broken(),
            },
            "CRYPT" | "SHA512-CRYPT" | "SHA256-CRYPT" | "BLF-CRYPT" | "MD5-CRYPT" | "MD5"
            | "DES-CRYPT" => crypt::verify(&self.scheme, &self.hash, password),
            "ARGON2ID" | "ARGON2I" => crypt::argon2(&self.hash, password),
            "SCRAM-SHA-1" | "SCRAM-SHA-256" | "PBKDF2" => {
                scram::verify(&self.scheme, &self.hash, password)
            }
            scheme => match digest::Digest::named(scheme) {
                Some(digest) => match self.decode(digest) {
                    Some(stored) => digest.verify(&stored, password),
                    None => self.broken(),
                },
                None => Verdict::Unusable(format!("Unknown scheme {scheme}")),
            },
        }
    }

    fn decode(&self, digest: digest::Digest) -> Option<Vec<u8>> {
        let hex = match self.encoding {
            Encoding::Hex => true,
            Encoding::Base64 => false,
            Encoding::Default => self.hash.len() == 2 * digest.length() || digest.is_hex(),
        };
        if hex { unhex(&self.hash) } else { base64::decode(self.hash.as_bytes()) }
    }

    fn broken(&self) -> Verdict {
        Verdict::Unusable(format!("Invalid password in passdb: not a valid {} hash", self.scheme))
    }
}

/// Shows the scheme alone: hashes do not belong into logs.
impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{}}}…", self.scheme)
    }
}

/// Whether [`Stored::verify`] knows a scheme, for settings that name one.
#[must_use]
pub fn is_known(scheme: &str) -> bool {
    const OTHERS: &[&str] = &[
        "PLAIN",
        "CLEAR",
        "CLEARTEXT",
        "CRYPT",
        "SHA512-CRYPT",
        "SHA256-CRYPT",
        "BLF-CRYPT",
        "MD5-CRYPT",
        "MD5",
        "ARGON2ID",
        "ARGON2I",
        "SCRAM-SHA-1",
        "SCRAM-SHA-256",
        "PBKDF2",
    ];
    let scheme = scheme.to_ascii_uppercase();
    let name = scheme.split('.').next().unwrap_or_default();
    OTHERS.contains(&name) || digest::Digest::named(name).is_some()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks_exact(2).map(byte).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `doveadm pw -p secret` of Dovecot 2.3.19.
    const DOVEADM: &[&str] = &[
        "{SHA512-CRYPT}$6$RlmCoLV3EnPDquOZ$HshOtrFQq2w.81WQvaktteiPT.XABAjFxWnai38ETiBA0Ws3fxlEOl4oSFPymWkqHsiefYzZoYjVDUfnWXy9H/",
        "{SHA256-CRYPT}$5$AoLeRtS/VvTMUaaI$Whg7ysQNXhZY65/31ABNQ5Mw.nG.hgEdb7iCJEyJEA0",
        "{BLF-CRYPT}$2y$05$sSGwptmkMc1jebe1bQqr3.LhL973SqcdnT4B8tS6XdYDLUnV8vWKW",
        "{CRYPT}$2y$05$nSp23HKoXDQWkd8bKcwBDeIjEdwRD8OBWzc4nT5kSU/b6TjwLSXPi",
        "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$arQWJcLMKsxvFQs88sV1nQ$5nYw5K2NX6ogGu433NZCn98SK+NRkW1oVhvt8reXwI0",
        "{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$CYRFBVbbHYBWTIBmBmgFEQ$eNfGO2EphThZ+i2Fe3fZ5PBn/TkMsdlqsgqSjW9nedM",
        "{PBKDF2}$1$R7CNQ4ksLpf007w8$5000$1bb83259aa87c08d39ffd08f011f4891f83f2216",
        "{SCRAM-SHA-256}4096,a4DeKESqav+pReUVdEgCXw==,pdzzomlQdKqu6agO1k4r//b6+0FdmVI9mEpO/R3y6mY=,pGd6am9pvbymPHoxGjoF9g+4vJB/M77DmlwW9vqERJQ=",
        "{SCRAM-SHA-1}4096,wO4VdoLINcEV2sjsW13cWg==,GxA5qTzyktHMN4L+/JFUsXh4qo4=,DgpFWG7//V5qbomJcfpA09+5yMs=",
        "{SSHA512}JNmsKsRHLuXqbI7BLbGcqL/1GMVz2T4o3gmDi3AePVLEhKgxasfUx6yVz1dY3mrW11FIyt0OvYa9oAABHWRp6QNL1NE=",
        "{SSHA256}v+s2CyRXv55+dZVTvfqUEF+BR25MWI2XRyxocCkcVbpjj0sc",
        "{SSHA}E1BIM/nuvrRzK1xQPHRmIckkCC7Mma7U",
        "{SHA512}vSsar3708Jvp9Szi2NWZZ02Bqp1qRCFpbcTZPdBhnWgs5WtNZKnvCXdhztmeD2cmW192CF5bDufKRpayrW/isg==",
        "{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=",
        "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        "{MD5-CRYPT}$1$hH0R.rio$BGf6BW/DYVb7AhPH1By3U.",
        "{MD5}$1$hH0R.rio$BGf6BW/DYVb7AhPH1By3U.",
        "{SMD5}m9LvtyRKUZMjGdxFkCLm2VWvRzE=",
        "{LDAP-MD5}Xr4ilOzQ4PCOq3aQ0qbuaQ==",
        "{PLAIN-MD5}5ebe2294ecd0e0f08eab7690d2a6ee69",
        "{PLAIN}secret",
        "{CLEARTEXT}secret",
        "{PLAIN.b64}c2VjcmV0",
        "{PLAIN.HEX}736563726574",
        "{SHA.hex}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4",
        "{SHA1}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4",
    ];

    #[test]
    fn passwords_that_doveadm_hashed_are_verified() {
        for text in DOVEADM {
            let stored = Stored::parse(text, "CRYPT");
            assert_eq!(stored.verify(b"secret"), Verdict::Match, "{text}");
            assert_eq!(stored.verify(b"Secret"), Verdict::Mismatch, "{text}");
            assert_eq!(stored.verify(b""), Verdict::Mismatch, "{text}");
        }
    }

    #[test]
    fn the_default_scheme_is_used_without_braces() {
        assert_eq!(Stored::parse("secret", "PLAIN").verify(b"secret"), Verdict::Match);
        let crypt = "$1$hH0R.rio$BGf6BW/DYVb7AhPH1By3U.";
        assert_eq!(Stored::parse(crypt, "PLAIN").verify(b"secret"), Verdict::Match);
    }

    #[test]
    fn nothing_matches_an_empty_stored_password() {
        for text in ["", "{PLAIN}", "{CRYPT}", "{SSHA}", "{SHA512-CRYPT}"] {
            assert_eq!(Stored::parse(text, "PLAIN").verify(b""), Verdict::Mismatch, "{text}");
        }
    }

    #[test]
    fn broken_and_unknown_hashes_are_told() {
        for text in [
            "{FOO}x",
            "{SHA512-CRYPT}x",
            "{SHA512-CRYPT}$6$rounds=999999999$s$x",
            "{BLF-CRYPT}$2y$31$sSGwptmkMc1jebe1bQqr3.LhL973SqcdnT4B8tS6XdYDLUnV8vWKW",
            "{BLF-CRYPT}$2y$äöü",
            "{ARGON2ID}$argon2id$v=19$m=4294967295,t=3,p=1$arQWJcLMKsxvFQs88sV1nQ$5nYw5K2NX6ogGu433NZCn98SK+NRkW1oVhvt8reXwI0",
            "{CRYPT}$y$j9T$x$y",
            "{CRYPT}IqLLIihEoj8.w",
            "{SSHA}####",
            "{SSHA}AA==",
            "{PBKDF2}$1$s$999999999$00",
            "{PLAIN.HEX}xyz",
        ] {
            let verdict = Stored::parse(text, "CRYPT").verify(b"secret");
            assert!(matches!(verdict, Verdict::Unusable(_)), "{text}: {verdict:?}");
        }
    }
}
