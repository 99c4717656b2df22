//! The rewrite service (`private/rewrite`): qualify an address, or find its transport and next hop.

use super::attr::{AttrError, AttrList, AttrWriter, excerpt};

/// Bits of a resolution's `flags`.
pub mod flags {
    pub const FINAL: u32 = 1;
    /// Source-routed: `user%dom`, `a!b`, `@a,@b:c`.
    pub const ROUTED: u32 = 2;
    /// Bad address syntax.
    pub const ERROR: u32 = 4;
    /// A table could not be asked; try again.
    pub const FAIL: u32 = 8;
    pub const CLASS_LOCAL: u32 = 256;
    pub const CLASS_ALIAS: u32 = 512;
    pub const CLASS_VIRTUAL: u32 = 1024;
    pub const CLASS_RELAY: u32 = 2048;
    pub const CLASS_DEFAULT: u32 = 4096;
    pub const CLASS_MASK: u32 = 256 | 512 | 1024 | 2048 | 4096;
}

/// How an address that lacks its domain is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    Local,
    Remote,
}

impl Rule {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
        }
    }
}

/// One request; many may follow each other on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RewriteRequest {
    /// `address` is in external form; the empty one is `""`.
    Rewrite { rule: Rule, address: String },
    /// Addresses in internal form.
    Resolve { sender: String, address: String },
    /// As resolve, with the `address_verify_*` settings.
    Verify { sender: String, address: String },
}

impl RewriteRequest {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut list = AttrWriter::new();
        match self {
            Self::Rewrite { rule, address } => {
                list.text("request", "rewrite");
                list.text("rule", rule.as_str());
                list.text("address", address);
            }
            Self::Resolve { sender, address } | Self::Verify { sender, address } => {
                let name = if matches!(self, Self::Verify { .. }) { "verify" } else { "resolve" };
                list.text("request", name);
                list.text("sender", sender);
                list.text("address", address);
            }
        }
        list.end()
    }

    /// # Errors
    ///
    /// [`AttrError`] if it is no request.
    pub fn decode(list: &AttrList) -> Result<Self, AttrError> {
        let mut fields = list.fields();
        let request = match fields.text("request")? {
            "rewrite" => {
                let rule = match fields.text("rule")? {
                    "local" => Rule::Local,
                    "remote" => Rule::Remote,
                    other => return Err(AttrError::Value { name: "rule", value: excerpt(other) }),
                };
                Self::Rewrite { rule, address: fields.string("address")? }
            }
            "resolve" => Self::Resolve {
                sender: fields.string("sender")?,
                address: fields.string("address")?,
            },
            "verify" => Self::Verify {
                sender: fields.string("sender")?,
                address: fields.string("address")?,
            },
            other => return Err(AttrError::Value { name: "request", value: excerpt(other) }),
        };
        fields.finish()?;
        Ok(request)
    }
}

/// What the server says of itself with every answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerState {
    #[default]
    Stays,
    /// It is about to exit; the client connects anew for its next request.
    Leaves,
}

impl ServerState {
    fn write(self, list: &mut AttrWriter) {
        list.uint("flags", u32::from(self == Self::Leaves));
    }

    const fn of(flags: u32) -> Self {
        if flags == 0 { Self::Stays } else { Self::Leaves }
    }
}

/// The answer to a rewrite, in external form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    pub server: ServerState,
    pub address: String,
}

impl Rewritten {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut list = AttrWriter::new();
        self.server.write(&mut list);
        list.text("address", &self.address);
        list.end()
    }

    /// # Errors
    ///
    /// [`AttrError`] if the list is another one.
    pub fn decode(list: &AttrList) -> Result<Self, AttrError> {
        let mut fields = list.fields();
        let server = ServerState::of(fields.uint("flags")?);
        let address = fields.string("address")?;
        fields.finish()?;
        Ok(Self { server, address })
    }
}

/// The answer to resolve and verify.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    pub server: ServerState,
    /// A service name of master.cf.
    pub transport: String,
    pub nexthop: String,
    /// Internal form.
    pub recipient: String,
    /// Bits of [`flags`].
    pub flags: u32,
}

impl Resolution {
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut list = AttrWriter::new();
        self.server.write(&mut list);
        list.text("transport", &self.transport);
        list.text("nexthop", &self.nexthop);
        list.text("recipient", &self.recipient);
        list.uint("flags", self.flags);
        list.end()
    }

    /// # Errors
    ///
    /// [`AttrError`] if the list is another one.
    pub fn decode(list: &AttrList) -> Result<Self, AttrError> {
        let mut fields = list.fields();
        let resolution = Self {
            server: ServerState::of(fields.uint("flags")?),
            transport: fields.string("transport")?,
            nexthop: fields.string("nexthop")?,
            recipient: fields.string("recipient")?,
            flags: fields.uint("flags")?,
        };
        fields.finish()?;
        Ok(resolution)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_captured_conversation() {
        for (captured, request) in [
            (
                "request|rewrite|rule|local|address|pfxalice||",
                RewriteRequest::Rewrite { rule: Rule::Local, address: "pfxalice".into() },
            ),
            (
                "request|resolve|sender|alice@example.test|address|good@sink.test||",
                RewriteRequest::Resolve {
                    sender: "alice@example.test".into(),
                    address: "good@sink.test".into(),
                },
            ),
        ] {
            let bytes = captured.replace('|', "\0").into_bytes();
            assert_eq!(request.encode(), bytes);
            assert_eq!(RewriteRequest::decode(&AttrList::parse(&bytes).unwrap()), Ok(request));
        }
        let bytes = "flags|0|transport|smtp|nexthop|[127.0.0.1]:10026|recipient|good@sink.test|flags|4096||"
            .replace('|', "\0");
        let resolution = Resolution::decode(&AttrList::parse(bytes.as_bytes()).unwrap()).unwrap();
        assert_eq!(resolution.flags, flags::CLASS_DEFAULT);
        assert_eq!(resolution.encode(), bytes.as_bytes());
        let answer = Rewritten { server: ServerState::Leaves, address: "a@b".into() };
        let list = AttrList::parse(&answer.encode()).unwrap();
        assert_eq!(Rewritten::decode(&list), Ok(answer));
    }
}
