//! As much of DER as RSA and Ed25519 keys need: definite lengths, no recursion, every octet accounted for.

pub const INTEGER: u8 = 0x02;
pub const BIT_STRING: u8 = 0x03;
pub const OCTET_STRING: u8 = 0x04;
pub const OBJECT: u8 = 0x06;
pub const SEQUENCE: u8 = 0x30;

/// 1.2.840.113549.1.1.1, rsaEncryption.
pub const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.3.101.112, Ed25519 (RFC 8410).
pub const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Reads one value after the other.
#[derive(Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The contents of the next value, which must be of this type.
    pub fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        if found != tag {
            return None;
        }
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (octets, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (octets.iter().fold(0, |sum, &octet| sum << 8 | usize::from(octet)), rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(contents)
    }

    /// The magnitude of the next integer, without leading zeros; negative ones are no part of a key.
    pub fn unsigned(&mut self) -> Option<&'a [u8]> {
        let octets = self.take(INTEGER)?;
        if octets.first()? & 0x80 != 0 {
            return None;
        }
        let zeros = octets.iter().take_while(|&&octet| octet == 0).count();
        octets.get(zeros..)
    }

    pub fn sequence(&mut self) -> Option<Reader<'a>> {
        self.take(SEQUENCE).map(Reader)
    }

    /// The value, when it was the last.
    pub fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// One value with its type and length.
pub fn value(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut octets = vec![tag];
    if length < 0x80 {
        octets.push(length.to_le_bytes()[0]);
    } else {
        let big_endian = length.to_be_bytes();
        let zeros = big_endian.iter().take_while(|&&octet| octet == 0).count();
        let significant = big_endian.get(zeros..).unwrap_or_default();
        octets.push(0x80 | significant.len().to_le_bytes()[0]);
        octets.extend_from_slice(significant);
    }
    octets.extend_from_slice(contents);
    octets
}

/// An integer that is not negative, from its magnitude.
pub fn unsigned(magnitude: &[u8]) -> Vec<u8> {
    let mut contents = Vec::with_capacity(magnitude.len() + 1);
    if magnitude.first().is_none_or(|first| first & 0x80 != 0) {
        contents.push(0);
    }
    contents.extend_from_slice(magnitude);
    value(INTEGER, &contents)
}

/// The bits of a magnitude without leading zeros.
pub fn bits(magnitude: &[u8]) -> usize {
    magnitude.first().map_or(0, |first| magnitude.len() * 8 - first.leading_zeros() as usize)
}
