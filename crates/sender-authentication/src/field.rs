//! A header field as it stands in the message, white space and all.

/// One field. The octets are kept because `simple` canonicalization signs them as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    name: usize,
    octets: Vec<u8>,
}

impl Field {
    /// From a name and everything behind its colon, folded with CRLF, without the CRLF at the end.
    #[must_use]
    pub fn new(name: &[u8], value: &[u8]) -> Self {
        let octets = [name, b":", value].concat();
        Self { name: name.trim_ascii_end().len(), octets }
    }

    /// From the octets of a whole field without the CRLF at its end; `None` when there is no colon.
    #[must_use]
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let colon = octets.iter().position(|&octet| octet == b':')?;
        let name = octets.get(..colon)?.trim_ascii_end().len();
        Some(Self { name, octets: octets.to_vec() })
    }

    /// All fields of a header with CRLF line ends. A line without a colon belongs to no field.
    #[must_use]
    pub fn all(header: &[u8]) -> Vec<Self> {
        let mut fields: Vec<Self> = Vec::new();
        let mut rest = header;
        while !rest.is_empty() {
            let mut end = 0;
            loop {
                let more = rest.get(end..).unwrap_or_default();
                end +=
                    more.iter().position(|&octet| octet == b'\n').map_or(more.len(), |at| at + 1);
                if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                    break;
                }
            }
            let (field, after) = rest.split_at(end.min(rest.len()));
            fields.extend(Self::parse(field.strip_suffix(b"\r\n").unwrap_or(field)));
            rest = after;
        }
        fields
    }

    /// The name as spelled.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.octets.get(..self.name).unwrap_or_default()
    }

    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name().eq_ignore_ascii_case(name.as_bytes())
    }

    /// Everything behind the colon.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        let colon = self.octets.iter().position(|&octet| octet == b':');
        colon.and_then(|at| self.octets.get(at + 1..)).unwrap_or_default()
    }

    /// The whole field without the CRLF at its end.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }
}
