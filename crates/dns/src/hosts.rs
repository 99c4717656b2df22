//! `/etc/hosts`, for what the originals ask with `getaddrinfo` and `getnameinfo`.

use std::collections::HashMap;
use std::net::IpAddr;

/// The file's text, as look-ups. Read by the supervisor; a bounded file of the host's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    addresses: HashMap<String, Vec<IpAddr>>,
    names: HashMap<IpAddr, String>,
}

impl Hosts {
    /// Lines of an address and its names; what is no address is passed over, as the C library does.
    pub fn parse(text: &str) -> Self {
        let mut hosts = Self::default();
        for line in text.lines() {
            let line = line.split_once('#').map_or(line, |(before, _)| before);
            let mut words = line.split_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
            for (index, name) in words.enumerate() {
                if index == 0 {
                    hosts.names.entry(address).or_insert_with(|| name.to_owned());
                }
                hosts.addresses.entry(name.to_ascii_lowercase()).or_default().push(address);
            }
        }
        hosts
    }

    pub fn addresses(&self, name: &str) -> &[IpAddr] {
        self.addresses.get(&name.to_ascii_lowercase()).map_or(&[], Vec::as_slice)
    }

    /// The first name on the first line of this address.
    pub fn name(&self, address: IpAddr) -> Option<&str> {
        self.names.get(&address).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_is_the_name() {
        let hosts = Hosts::parse(
            "127.0.0.1 localhost\n::1 localhost ip6-localhost # both\n#192.0.2.9 no\nnonsense x\n\
             192.0.2.1\tMail.example.org mail\n192.0.2.1 other\n",
        );
        assert_eq!(hosts.name([192, 0, 2, 1].into()), Some("Mail.example.org"));
        assert_eq!(hosts.name([192, 0, 2, 9].into()), None);
        assert_eq!(hosts.addresses("LOCALHOST").len(), 2);
        assert_eq!(hosts.addresses("mail.example.org"), [IpAddr::from([192, 0, 2, 1])]);
        assert!(hosts.addresses("x").is_empty());
    }
}
