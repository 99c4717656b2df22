//! The macros that the mail server sends ahead of its events.

use bytes::Bytes;

/// Octets of macros that are kept for one connection.
const MOST: usize = 64 * 1024;

/// By the event they came for: a later list for the same event replaces the earlier one.
#[derive(Clone, Debug, Default)]
pub struct Macros {
    lists: Vec<(u8, Vec<(Bytes, Bytes)>)>,
    too_many: bool,
}

/// Latest event first, so that the freshest value is found.
const ORDER: &[u8] = b"EBNLTRMHC";

impl Macros {
    pub fn set(&mut self, code: u8, values: Vec<(Bytes, Bytes)>) {
        let size = |list: &[(Bytes, Bytes)]| {
            list.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        };
        self.lists.retain(|(other, _)| *other != code);
        let known: usize = self.lists.iter().map(|(_, list)| size(list)).sum();
        self.too_many |= known + size(&values) > MOST;
        if !self.too_many {
            self.lists.push((code, values));
        }
    }

    /// Whether the peer sent more than any server does.
    pub fn too_many(&self) -> bool {
        self.too_many
    }

    /// A message is over: what belongs to the connection stays.
    pub fn end_of_message(&mut self) {
        self.lists.retain(|(code, _)| matches!(code, b'C' | b'H'));
    }

    /// The value of `i` or `{auth_type}`, with or without braces on the wire; never an empty one.
    pub fn get(&self, name: &str) -> Option<String> {
        let bare = |name: &[u8]| {
            let inner = name.strip_prefix(b"{").and_then(|name| name.strip_suffix(b"}"));
            inner.unwrap_or(name).to_vec()
        };
        let wanted = bare(name.as_bytes());
        ORDER.iter().find_map(|code| {
            let (_, list) = self.lists.iter().find(|(other, _)| other == code)?;
            let (_, value) =
                list.iter().find(|(name, value)| bare(name) == wanted && !value.is_empty())?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    }
}
