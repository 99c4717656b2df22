//! Whom to ask, how long and how often: from `/etc/resolv.conf`, or from `[resolver]` of theoris.toml.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use config::theoris::Resolver;

/// As glibc: more name servers than this are not asked (resolv.conf(5)).
const MOST_SERVERS: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Asked in this order; the next one when one fails or is silent.
    pub servers: Vec<SocketAddr>,
    /// For one question to one server.
    pub timeout: Duration,
    /// How often the whole list is asked.
    pub attempts: u32,
    /// Answers kept in memory.
    pub cache: usize,
    /// Questions under way at once; more wait.
    pub concurrent: usize,
}

impl Default for Settings {
    /// What glibc does without a resolv.conf.
    fn default() -> Self {
        Self {
            servers: vec![(Ipv4Addr::LOCALHOST, 53).into()],
            timeout: Duration::from_secs(5),
            attempts: 2,
            cache: 4096,
            concurrent: 256,
        }
    }
}

impl Settings {
    /// What resolv.conf says where theoris.toml says nothing. The supervisor reads the file, since a worker may not.
    pub fn new(resolver: &Resolver, resolv_conf: &str) -> Self {
        let mut settings = Self::from_resolv_conf(resolv_conf);
        if !resolver.servers.is_empty() {
            settings.servers = resolver.servers.iter().map(|server| server.0).collect();
        }
        if let Some(seconds) = resolver.timeout.positive() {
            settings.timeout = Duration::from_secs(seconds.into());
        }
        if let Some(attempts) = resolver.attempts.positive() {
            settings.attempts = attempts.into();
        }
        settings
    }

    /// `nameserver` lines and the options `timeout:` and `attempts:`, within glibc's bounds. `search` and `domain` are left
    /// aside: Postfix asks for names as they are (`smtp_dns_resolver_options` is empty).
    pub fn from_resolv_conf(text: &str) -> Self {
        let mut settings = Self { servers: Vec::new(), ..Self::default() };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(address);
                    if let Some(server) = server.filter(|_| settings.servers.len() < MOST_SERVERS) {
                        settings.servers.push(server);
                    }
                }
                Some("options") => words.for_each(|word| settings.option(word)),
                _ => {}
            }
        }
        if settings.servers.is_empty() {
            settings.servers = Self::default().servers;
        }
        settings
    }

    fn option(&mut self, word: &str) {
        let number =
            |text: &str, most| text.parse::<u32>().ok().map(|number| number.clamp(1, most));
        if let Some(seconds) = word.strip_prefix("timeout:").and_then(|text| number(text, 30)) {
            self.timeout = Duration::from_secs(seconds.into());
        } else if let Some(attempts) =
            word.strip_prefix("attempts:").and_then(|text| number(text, 5))
        {
            self.attempts = attempts;
        }
    }
}

/// `fe80::1%eth0` is asked without its scope.
fn address(text: &str) -> Option<SocketAddr> {
    let text = text.split_once('%').map_or(text, |(address, _)| address);
    text.parse::<IpAddr>().ok().map(|address| (address, 53).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_glibc_reads_it() {
        let text = "# c\nsearch example.org\nnameserver 192.0.2.1\n  nameserver 2001:db8::1 # second\n\
            nameserver fe80::1%eth0\nnameserver 192.0.2.4\nnameserver nonsense\n\
            options ndots:2 timeout:3 attempts:9 rotate\noptions attempts:x\n";
        let settings = Settings::from_resolv_conf(text);
        let servers: Vec<String> = settings.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1]:53"]);
        assert_eq!((settings.timeout, settings.attempts), (Duration::from_secs(3), 5));
        assert_eq!(Settings::from_resolv_conf("").servers, ["127.0.0.1:53".parse().unwrap()]);
    }

    #[test]
    fn theoris_toml_goes_over_resolv_conf() {
        let server = "127.0.0.53:5353".to_owned().try_into().unwrap();
        let resolver = Resolver { servers: vec![server], ..Resolver::default() };
        let settings = Settings::new(&resolver, "nameserver 192.0.2.1\noptions timeout:1\n");
        assert_eq!(settings.servers, ["127.0.0.53:5353".parse().unwrap()]);
        assert_eq!((settings.timeout, settings.attempts), (Duration::from_secs(1), 2));
    }
}
