//! One message as it arrives, and what is to become of it.

use std::net::IpAddr;

use sender_authentication::Field;
use sender_authentication::dkim::canonical::{BodyHash, Canonicalization};
use sender_authentication::dkim::verify::Verifier;

use crate::macros::Macros;
use crate::settings::Settings;
use crate::signing::Signer;

/// What OpenDKIM calls a message without a queue id.
pub const NO_JOB: &str = "(unknown-jobid)";
/// Recipients that are remembered.
const MOST_RECIPIENTS: usize = 10_000;
/// Octets of header where the file sets no limit.
const MOST_HEADER: usize = 8 << 20;

/// The mail server's client.
#[derive(Clone, Debug)]
pub struct Client {
    pub host: String,
    pub address: IpAddr,
}

/// How the message goes on after its header.
#[derive(Debug)]
pub enum Work {
    /// The header is still coming.
    Header,
    /// Not a message that could be signed or verified: only said so at its end.
    Malformed,
    Verify(Box<Verifier>),
    Sign(Vec<Signer>, Box<BodyHash>),
}

#[derive(Debug)]
pub struct Message {
    pub job: Option<String>,
    pub recipients: Vec<String>,
    pub fields: Vec<Field>,
    pub header: Canonicalization,
    pub body: Canonicalization,
    pub work: Work,
    octets: usize,
}

impl Message {
    pub fn new(settings: &Settings) -> Self {
        let relaxed = |is| if is { Canonicalization::Relaxed } else { Canonicalization::Simple };
        Self {
            job: None,
            recipients: Vec::new(),
            fields: Vec::new(),
            header: relaxed(settings.signing.header_relaxed),
            body: relaxed(settings.signing.body_relaxed),
            work: Work::Header,
            octets: 0,
        }
    }

    /// The id in log lines, as far as it is known.
    pub fn job(&self) -> &str {
        self.job.as_deref().unwrap_or(NO_JOB)
    }

    /// Looks the queue id up, which some servers tell late.
    pub fn name(&mut self, macros: &Macros) {
        if self.job.is_none() {
            self.job = macros.get("i");
        }
    }

    pub fn recipient(&mut self, address: &[u8]) {
        if self.recipients.len() < MOST_RECIPIENTS {
            let text = String::from_utf8_lossy(address);
            self.recipients.push(text.trim_matches(['<', '>']).to_ascii_lowercase());
        }
    }

    /// Keeps a field; `false` when the header is too large. `value` has its lines divided by LF.
    pub fn field(&mut self, settings: &Settings, name: &[u8], value: &[u8]) -> bool {
        let limit = match settings.maximum_headers {
            0 => MOST_HEADER,
            limit => limit,
        };
        if self.octets + name.len() + value.len() + 2 > limit {
            return false;
        }
        self.octets += name.len() + value.len() + 2;
        self.fields.push(Field::new(name, &with_crlf(value)));
        true
    }

    /// The first field with this name.
    pub fn first(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.is(name))
    }

    /// A piece of the body; `false` when the rest does not matter.
    pub fn body(&mut self, piece: &[u8]) -> bool {
        match &mut self.work {
            Work::Verify(verifier) => {
                verifier.body(piece);
                !verifier.needs_no_body()
            }
            Work::Sign(_, hash) => {
                hash.update(piece);
                !hash.is_full()
            }
            Work::Header | Work::Malformed => false,
        }
    }
}

/// The lines of a value as they stand in the message.
fn with_crlf(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 8);
    let mut previous = 0;
    for &octet in value {
        if octet == b'\n' && previous != b'\r' {
            out.push(b'\r');
        }
        out.push(octet);
        previous = octet;
    }
    out
}
