//! Names and addresses of hosts as the system's resolver gives them: `/etc/hosts` first, then the DNS.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use dns::{Failure, Resolver};

use crate::client::{Client, NameStatus, UNKNOWN};
use crate::policy::failure::{address_text, softest};

/// A hosts file this large is no hosts file.
const LARGEST: u64 = 1 << 20;

/// The hosts file and a resolver. Clones share what has been read.
#[derive(Debug)]
pub struct Hosts<R> {
    path: PathBuf,
    read: Arc<Mutex<Option<Read>>>,
    pub dns: Arc<R>,
}

/// The entries, and the file's time when they were read.
type Read = (SystemTime, Arc<dns::Hosts>);

impl<R> Clone for Hosts<R> {
    fn clone(&self) -> Self {
        Self { path: self.path.clone(), read: Arc::clone(&self.read), dns: Arc::clone(&self.dns) }
    }
}

impl<R: Resolver> Hosts<R> {
    #[must_use]
    pub fn new(dns: Arc<R>) -> Self {
        Self::at("/etc/hosts", dns)
    }

    #[must_use]
    pub fn at(path: impl Into<PathBuf>, dns: Arc<R>) -> Self {
        Self { path: path.into(), read: Arc::default(), dns }
    }

    /// The client with the name of its address, if that name has this address too. Also what to log.
    pub async fn named(&self, client: Client) -> (Client, Vec<String>) {
        let Some(address) = client.address else { return (client, Vec::new()) };
        let name = match self.name(address).await {
            Ok(name) => name,
            Err(failure) => {
                let status =
                    if failure.is_temporary() { NameStatus::Temporary } else { NameStatus::Absent };
                return (
                    Client { name_status: status, reverse_status: status, ..client },
                    Vec::new(),
                );
            }
        };
        if !protocol::smtp::is_host_name(&name) || protocol::smtp::is_host_address(&name) {
            return (client, vec![format!("warning: bad host name \"{name}\" of {address}")]);
        }
        let found = self.addresses_in(&name, &[address.is_ipv4()]).await;
        let (status, reason) = match found {
            Ok(addresses) if addresses.contains(&address) => (NameStatus::Known, None),
            Ok(_) => (NameStatus::Forged, Some(String::new())),
            Err(failure) => {
                let status =
                    if failure.is_temporary() { NameStatus::Temporary } else { NameStatus::Forged };
                (status, Some(format!(": {}", address_text(&failure))))
            }
        };
        let log = reason
            .map(|reason| {
                format!("warning: hostname {name} does not resolve to address {address}{reason}")
            })
            .into_iter()
            .collect();
        let shown = if status == NameStatus::Known { name.clone() } else { UNKNOWN.to_owned() };
        let client = Client {
            name: shown,
            name_status: status,
            reverse_name: name,
            reverse_status: NameStatus::Known,
            ..client
        };
        (client, log)
    }

    async fn name(&self, address: IpAddr) -> Result<String, Failure> {
        if let Some(name) = self.entries().await.name(address) {
            return Ok(name.to_owned());
        }
        let answer = self.dns.ptr(address).await?;
        answer.records.into_iter().next().ok_or(Failure::NoData)
    }

    /// The addresses of a host, IPv4 first.
    ///
    /// # Errors
    ///
    /// Why there are none.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, Failure> {
        self.addresses_in(name, &[true, false]).await
    }

    /// `families`: whether IPv4, for each family that is wanted.
    async fn addresses_in(&self, name: &str, families: &[bool]) -> Result<Vec<IpAddr>, Failure> {
        let wanted = |address: &IpAddr| families.contains(&address.is_ipv4());
        let listed: Vec<IpAddr> =
            self.entries().await.addresses(name).iter().copied().filter(wanted).collect();
        if !listed.is_empty() {
            return Ok(listed);
        }
        let mut found = Vec::new();
        let mut failure: Option<Failure> = None;
        for &ipv4 in families {
            let answer: Result<Vec<IpAddr>, Failure> = if ipv4 {
                self.dns
                    .a(name)
                    .await
                    .map(|answer| answer.records.into_iter().map(Into::into).collect())
            } else {
                self.dns
                    .aaaa(name)
                    .await
                    .map(|answer| answer.records.into_iter().map(Into::into).collect())
            };
            match answer {
                Ok(addresses) => found.extend(addresses),
                Err(error) => {
                    failure = Some(match failure {
                        Some(earlier) => softest(earlier, error),
                        None => error,
                    });
                }
            }
        }
        match failure {
            Some(failure) if found.is_empty() => Err(failure),
            _ => Ok(found),
        }
    }

    async fn entries(&self) -> Arc<dns::Hosts> {
        if let Some(entries) = self.known() {
            return entries;
        }
        let (path, read) = (self.path.clone(), Arc::clone(&self.read));
        tokio::task::spawn_blocking(move || load(&path, &read)).await.unwrap_or_default()
    }

    fn known(&self) -> Option<Arc<dns::Hosts>> {
        let changed = std::fs::metadata(&self.path).and_then(|meta| meta.modified()).ok()?;
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.as_ref().filter(|(at, _)| *at == changed).map(|(_, entries)| Arc::clone(entries))
    }
}

fn load(path: &std::path::Path, read: &Mutex<Option<Read>>) -> Arc<dns::Hosts> {
    let Ok(meta) = std::fs::metadata(path) else { return Arc::default() };
    if meta.len() > LARGEST {
        return Arc::default();
    }
    let text = std::fs::read(path).unwrap_or_default();
    let entries = Arc::new(dns::Hosts::parse(&String::from_utf8_lossy(&text)));
    if let Ok(changed) = meta.modified() {
        *read.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((changed, Arc::clone(&entries)));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::{Hosts, NameStatus, UNKNOWN};
    use crate::client::Client;
    use dns::Failure;
    use dns::testing::Zone;
    use std::net::IpAddr;
    use std::sync::Arc;

    fn client(address: &str) -> Client {
        Client::unnamed(address.parse().ok(), Some(4000))
    }

    async fn name_of(hosts: &Hosts<Zone>, address: &str) -> (String, String, NameStatus) {
        let (client, _) = hosts.named(client(address)).await;
        (client.name, client.reverse_name, client.name_status)
    }

    #[tokio::test]
    async fn names_come_from_the_file_or_the_dns_and_are_confirmed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "127.0.0.1 localhost lo # x\n::1 localhost\n\nbad line\n")
            .unwrap();
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let zone = Zone::new()
            .with_ptr(address(1), "good.example")
            .with_a("good.example", [192, 0, 2, 1])
            .with_ptr(address(2), "forged.example")
            .with_a("forged.example", [192, 0, 2, 9])
            .with_ptr(address(3), "gone.example")
            .with_ptr(address(4), "late.example")
            .fail("late.example", Failure::TimedOut)
            .fail("5.2.0.192.in-addr.arpa", Failure::TimedOut);
        let hosts = Hosts::at(file.path(), Arc::new(zone));
        for (address, name, reverse, status) in [
            ("127.0.0.1", "localhost", "localhost", NameStatus::Known),
            ("::1", "localhost", "localhost", NameStatus::Known),
            ("192.0.2.1", "good.example", "good.example", NameStatus::Known),
            ("192.0.2.2", UNKNOWN, "forged.example", NameStatus::Forged),
            ("192.0.2.3", UNKNOWN, "gone.example", NameStatus::Forged),
            ("192.0.2.4", UNKNOWN, "late.example", NameStatus::Temporary),
            ("192.0.2.5", UNKNOWN, UNKNOWN, NameStatus::Temporary),
            ("192.0.2.6", UNKNOWN, UNKNOWN, NameStatus::Absent),
        ] {
            let wanted = (name.to_owned(), reverse.to_owned(), status);
            assert_eq!(name_of(&hosts, address).await, wanted, "{address}");
        }
    }
}
