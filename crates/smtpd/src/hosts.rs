//! Names of clients from /etc/hosts.
//!
//! Postfix asks the system's resolver for the name and checks that the name has the address. Until there is a
//! resolver of ours only the hosts file is asked; every other client is `unknown`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// A hosts file this large is no hosts file.
const LARGEST: u64 = 1 << 20;

#[derive(Clone, Debug)]
pub struct Hosts {
    path: PathBuf,
    read: Arc<Mutex<Option<Read>>>,
}

/// The entries, and the file's time when they were read.
type Read = (SystemTime, Arc<Entries>);

type Entries = Vec<(IpAddr, Vec<String>)>;

impl Default for Hosts {
    fn default() -> Self {
        Self::at("/etc/hosts")
    }
}

impl Hosts {
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), read: Arc::default() }
    }

    /// The first name of an address, and whether that name has this address too.
    pub async fn name_of(&self, address: IpAddr) -> (Option<String>, bool) {
        let entries = match self.known() {
            Some(entries) => entries,
            None => {
                let hosts = self.clone();
                tokio::task::spawn_blocking(move || hosts.load()).await.unwrap_or_default()
            }
        };
        let name = entries
            .iter()
            .find(|(known, _)| *known == address)
            .and_then(|(_, names)| names.first());
        let Some(name) = name else { return (None, false) };
        // The first entry of a name is the one that counts, for each family.
        let confirmed = entries
            .iter()
            .filter(|(known, _)| known.is_ipv4() == address.is_ipv4())
            .any(|(known, names)| {
                *known == address && names.iter().any(|other| other.eq_ignore_ascii_case(name))
            });
        (Some(name.clone()), confirmed)
    }

    fn known(&self) -> Option<Arc<Entries>> {
        let changed = std::fs::metadata(&self.path).and_then(|meta| meta.modified()).ok()?;
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.as_ref().filter(|(at, _)| *at == changed).map(|(_, entries)| Arc::clone(entries))
    }

    fn load(&self) -> Arc<Entries> {
        let Ok(meta) = std::fs::metadata(&self.path) else { return Arc::default() };
        if meta.len() > LARGEST {
            return Arc::default();
        }
        let text = std::fs::read(&self.path).unwrap_or_default();
        let entries = Arc::new(parse(&String::from_utf8_lossy(&text)));
        if let Ok(changed) = meta.modified() {
            *self.read.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((changed, Arc::clone(&entries)));
        }
        entries
    }
}

fn parse(text: &str) -> Entries {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let address = words.next()?.parse().ok()?;
            Some((address, words.map(str::to_owned).collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_come_from_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "127.0.0.1 localhost lo # x\n::1 localhost\n\nbad line\n")
            .unwrap();
        let hosts = Hosts::at(file.path());
        let name = |text: &str| {
            let address = text.parse().unwrap();
            let hosts = hosts.clone();
            async move { hosts.name_of(address).await }
        };
        assert_eq!(name("127.0.0.1").await, (Some("localhost".into()), true));
        assert_eq!(name("::1").await, (Some("localhost".into()), true));
        assert_eq!(name("192.0.2.1").await, (None, false));
    }
}
