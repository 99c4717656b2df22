//! System users as local(8) needs them.

use std::path::{Path, PathBuf};

use daemon::{Identity, UserEntry, Worker};

/// A system user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub home: PathBuf,
    pub shell: String,
}

impl User {
    /// Asks the name service; nothing if there is no such user.
    pub async fn named(worker: &Worker, name: &str) -> Result<Option<Self>, String> {
        let users = worker.users().map_err(|error| error.to_string())?;
        Ok(users.user(name).await?.map(Self::from))
    }

    /// As [`Self::named`], by the number.
    pub async fn numbered(worker: &Worker, uid: u32) -> Result<Option<Self>, String> {
        let users = worker.users().map_err(|error| error.to_string())?;
        Ok(users.numbered(uid).await?.map(Self::from))
    }

    pub fn identity(&self, groups: &[u32]) -> Identity {
        let groups = groups.to_vec();
        Identity { uid: self.uid, gid: self.gid, home: self.home.display().to_string(), groups }
    }
}

impl From<UserEntry> for User {
    fn from(account: UserEntry) -> Self {
        Self {
            name: account.name,
            uid: account.uid,
            gid: account.gid,
            home: account.home.into(),
            shell: account.shell,
        }
    }
}

/// What `$name` stands for in `forward_path` and `luser_relay`.
#[derive(Clone, Copy, Debug)]
pub struct Macros<'a> {
    pub user: &'a str,
    pub home: Option<&'a Path>,
    pub shell: &'a str,
    /// `user+extension`.
    pub local: &'a str,
    pub domain: &'a str,
    pub recipient: &'a str,
    pub extension: Option<&'a str>,
    pub delimiter: &'a str,
}

impl Macros<'_> {
    fn value(&self, name: &str) -> Option<String> {
        match name {
            "user" => Some(self.user.to_owned()),
            "home" => self.home.map(|home| home.display().to_string()),
            "shell" => Some(self.shell.to_owned()),
            "local" => Some(self.local.to_owned()),
            "domain" => Some(self.domain.to_owned()),
            "recipient" => Some(self.recipient.to_owned()),
            "extension" => self.extension.map(str::to_owned),
            "recipient_delimiter" => self.extension.map(|_| self.delimiter.to_owned()),
            _ => None,
        }
    }

    /// Expands `$name`, `${name}`, `${name?text}` and `${name:text}`. Nothing for a text that needs
    /// what is not there.
    pub fn expand(&self, text: &str) -> Option<String> {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(inner) = rest.strip_prefix('{') {
                let (inner, after) = inner.split_once('}')?;
                rest = after;
                if let Some((name, then)) = inner.split_once('?') {
                    if self.value(name).is_some() {
                        out.push_str(&self.expand(then)?);
                    }
                } else if let Some((name, otherwise)) = inner.split_once(':') {
                    if self.value(name).is_none() {
                        out.push_str(&self.expand(otherwise)?);
                    }
                } else {
                    out.push_str(&self.value(inner)?);
                }
                continue;
            }
            let length =
                rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            out.push_str(&self.value(&rest[..length])?);
            rest = &rest[length..];
        }
        out.push_str(rest);
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forward_paths_are_expanded() {
        let mut macros = Macros {
            user: "info",
            home: Some(Path::new("/home/info")),
            shell: "/bin/sh",
            local: "info+x",
            domain: "example.com",
            recipient: "info+x@example.com",
            extension: Some("x"),
            delimiter: "+",
        };
        let path = "$home/.forward${recipient_delimiter}${extension}";
        assert_eq!(macros.expand(path).as_deref(), Some("/home/info/.forward+x"));
        assert_eq!(macros.expand("a${extension?-$extension}b").as_deref(), Some("a-xb"));
        macros.extension = None;
        assert_eq!(macros.expand(path), None);
        assert_eq!(macros.expand("$home/.forward").as_deref(), Some("/home/info/.forward"));
        assert_eq!(macros.expand("a${extension?x}${extension:y}").as_deref(), Some("ay"));
        assert_eq!(macros.expand("$nothing"), None);
    }
}
