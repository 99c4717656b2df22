//! Judging the signatures of a message.
//!
//! [`Verifier`] takes the header and the body; [`Verifier::finish`] asks for the keys and gives one [`Outcome`] per
//! signature, in the order of the fields. Of many signatures only the first few are looked at.

use std::collections::HashMap;

use dns::{Failure, Resolver};

use super::canonical::{BodyHash, Canonicalization};
use super::fault::Fault;
use super::key::{self, Key};
use super::signature::{Received, Signature, Times, without_signature};
use super::{Algorithm, select};
use crate::Field;

/// What a host demands of signatures.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Signatures that are judged; the others are neutral.
    pub most_signatures: usize,
    pub least_key_bits: usize,
    /// Fields that a signature must cover where the message has them.
    pub must_be_signed: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { most_signatures: 3, least_key_bits: 1024, must_be_signed: Vec::new() }
    }
}

/// Whether DNSSEC vouches for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    Unprotected,
    Secure,
}

/// The verdict on one signature, as a word of RFC 8601 section 2.7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    Fail,
    Policy,
    Neutral,
    TempError,
    PermError,
}

impl Verdict {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Policy => "policy",
            Self::Neutral => "neutral",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// One signature, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub received: Received,
    pub verdict: Verdict,
    pub fault: Option<Fault>,
    /// 0 while unknown, and for Ed25519.
    pub key_bits: usize,
    pub protection: Option<Protection>,
    /// `t=y` in the key record.
    pub testing: bool,
    /// As much of `b=` as tells it from the others.
    pub text: String,
}

/// A verification in progress.
#[derive(Debug)]
pub struct Verifier {
    fields: Vec<Field>,
    policy: Policy,
    received: Vec<Received>,
    /// One per canonicalization, digest and length that is asked for.
    bodies: Vec<(BodyKey, BodyHash)>,
}

type BodyKey = (Canonicalization, crypto::Hash, Option<u64>);

/// Signature fields that are read at all: the rest of a flood is not even parsed.
const MAX_SIGNATURES: usize = 50;

impl Verifier {
    /// Reads the signatures of a header.
    #[must_use]
    pub fn new(fields: Vec<Field>, policy: Policy, times: Times) -> Self {
        let signatures = fields.iter().enumerate().filter(|(_, field)| field.is("DKIM-Signature"));
        let received: Vec<Received> = signatures
            .take(MAX_SIGNATURES)
            .map(|(index, field)| Received::read(index, field.value(), times))
            .collect();
        let mut bodies: Vec<(BodyKey, BodyHash)> = Vec::new();
        for signature in received.iter().take(policy.most_signatures) {
            if let Ok(signature) = &signature.signature {
                let key = body_key(signature);
                if !bodies.iter().any(|(other, _)| *other == key) {
                    bodies.push((key, BodyHash::new(key.0, key.1, key.2)));
                }
            }
        }
        Self { fields, policy, received, bodies }
    }

    #[must_use]
    pub fn signatures(&self) -> &[Received] {
        &self.received
    }

    /// The header as it was given.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Whether the rest of the body does not matter.
    #[must_use]
    pub fn needs_no_body(&self) -> bool {
        self.bodies.is_empty()
    }

    /// The next piece of the body, with CRLF line ends.
    pub fn body(&mut self, piece: &[u8]) {
        self.bodies.iter_mut().for_each(|(_, hash)| hash.update(piece));
    }

    /// Asks for the keys and judges.
    pub async fn finish<R: Resolver>(self, resolver: &R) -> Vec<Outcome> {
        let bodies: Vec<(BodyKey, (Vec<u8>, u64))> =
            self.bodies.into_iter().map(|(key, hash)| (key, hash.finish())).collect();
        let mut records: HashMap<String, Result<Record, Fault>> = HashMap::new();
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(self.received.len());
        for (index, received) in self.received.iter().enumerate() {
            let mut outcome = Outcome::new(received, &self.received);
            if index >= self.policy.most_signatures {
                outcome.verdict = Verdict::Neutral;
                outcomes.push(outcome);
                continue;
            }
            let signature = match &received.signature {
                Ok(signature) => signature,
                Err(fault) => {
                    outcome.fault = Some(*fault);
                    outcomes.push(outcome);
                    continue;
                }
            };
            let record = record(received, resolver, &mut records).await;
            let body = bodies.iter().find(|(key, _)| *key == body_key(signature));
            let body = body.map(|(_, body)| body);
            let judged = judge(&mut outcome, signature, record, body, &self.fields, &self.policy);
            outcome.fault = judged.err();
            outcome.verdict = outcome.fault.map_or(Verdict::Pass, verdict);
            outcomes.push(outcome);
        }
        outcomes
    }
}

impl Outcome {
    fn new(received: &Received, all: &[Received]) -> Self {
        Self {
            received: received.clone(),
            verdict: Verdict::PermError,
            fault: None,
            key_bits: 0,
            protection: None,
            testing: false,
            text: distinct(received, all),
        }
    }
}

/// Eight characters of `b=`, or as many as tell it from every other signature (RFC 8601 section 2.7.1, RFC 6008).
fn distinct(received: &Received, all: &[Received]) -> String {
    let shared = |other: &Received| {
        received.text.bytes().zip(other.text.bytes()).take_while(|(one, two)| one == two).count()
    };
    let others = all.iter().filter(|other| other.text != received.text);
    let length = others.map(|other| shared(other) + 1).max().unwrap_or(0).max(8);
    received.text.chars().take(length).collect()
}

fn body_key(signature: &Signature) -> BodyKey {
    (signature.body, signature.algorithm.hash(), signature.length)
}

#[derive(Clone)]
struct Record {
    octets: Vec<u8>,
    /// Told with the signature that the key was asked for.
    protection: Option<Protection>,
}

async fn record<R: Resolver>(
    received: &Received,
    resolver: &R,
    known: &mut HashMap<String, Result<Record, Fault>>,
) -> Result<Record, Fault> {
    let (Some(selector), Some(domain)) = (&received.selector, &received.domain) else {
        return Err(Fault::NoKey);
    };
    let Some(name) = key::name(selector, domain) else { return Err(Fault::NoKey) };
    if let Some(record) = known.get(&name) {
        return record.clone().map(|record| Record { protection: None, ..record });
    }
    let record = match resolver.txt(&name).await {
        Ok(answer) => {
            let protection =
                if answer.authentic { Protection::Secure } else { Protection::Unprotected };
            match answer.records.as_slice() {
                [octets] => Ok(Record { octets: octets.clone(), protection: Some(protection) }),
                [] => Err(Fault::NoKey),
                _ => Err(Fault::MultipleKeys),
            }
        }
        Err(Failure::NoDomain | Failure::NoData) => Err(Fault::NoKey),
        Err(_) => Err(Fault::KeyFail),
    };
    known.insert(name, record.clone());
    record
}

fn judge(
    outcome: &mut Outcome,
    signature: &Signature,
    record: Result<Record, Fault>,
    body: Option<&(Vec<u8>, u64)>,
    fields: &[Field],
    policy: &Policy,
) -> Result<(), Fault> {
    let record = record?;
    outcome.protection = record.protection;
    let key = Key::parse(&record.octets, Some(signature.algorithm))?;
    outcome.key_bits = key.bits();
    outcome.testing = key.testing;
    if let Some((_, length)) = body
        && signature.length.is_some_and(|limit| limit > *length)
    {
        return Err(Fault::LengthTooLarge);
    }
    if outcome.key_bits > 0 && outcome.key_bits < policy.least_key_bits {
        return Err(Fault::KeyTooSmall);
    }
    key.verify(&signed_data(outcome.received.field, signature, fields), signature)?;
    if body.is_none_or(|(hash, _)| *hash != signature.body_hash) {
        return Err(Fault::BadSignature);
    }
    let exact = |domain: &str| {
        outcome
            .received
            .identity
            .rsplit('@')
            .next()
            .is_some_and(|host| host.eq_ignore_ascii_case(domain))
    };
    if key.exact_domain && !outcome.received.domain.as_deref().is_some_and(exact) {
        return Err(Fault::Subdomain);
    }
    // RFC 8301 section 3.1: verifiers must not consider rsa-sha1 signatures valid
    if signature.algorithm == Algorithm::RsaSha1 {
        return Err(Fault::WeakAlgorithm);
    }
    let covered = |name: &String| signature.names.iter().any(|one| one.eq_ignore_ascii_case(name));
    let missing = |name: &String| !covered(name) && fields.iter().any(|field| field.is(name));
    if policy.must_be_signed.iter().any(missing) {
        return Err(Fault::Unprotected);
    }
    Ok(())
}

/// What was signed: the fields of `h=`, then the signature itself without its `b=`.
fn signed_data(own: usize, signature: &Signature, fields: &[Field]) -> Vec<u8> {
    let mut data = Vec::new();
    for field in select(&signature.names, fields) {
        signature.header.field(field, &mut data);
        data.extend_from_slice(b"\r\n");
    }
    if let Some(field) = fields.get(own) {
        let octets = field.octets();
        let name = octets.len() - field.value().len();
        let own =
            [octets.get(..name).unwrap_or_default(), &without_signature(field.value())].concat();
        if let Some(field) = Field::parse(&own) {
            signature.header.field(&field, &mut data);
        }
    }
    data
}

/// The word for a fault, as OpenDKIM gives it.
fn verdict(fault: Fault) -> Verdict {
    match fault {
        Fault::MultipleKeys | Fault::KeyFail | Fault::KeySyntax => Verdict::TempError,
        Fault::KeyTooSmall | Fault::WeakAlgorithm | Fault::Unprotected => Verdict::Policy,
        Fault::NoKey
        | Fault::LengthTooLarge
        | Fault::KeyRevoked
        | Fault::KeyVersion
        | Fault::KeyUnknownHash
        | Fault::KeyHashMismatch
        | Fault::NotEmailKey
        | Fault::KeyTypeUnknown
        | Fault::BadSignature
        | Fault::Subdomain => Verdict::Fail,
        _ => Verdict::PermError,
    }
}
