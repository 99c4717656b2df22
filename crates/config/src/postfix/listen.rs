//! Where an inet service listens: `smtp`, `2525`, `127.0.0.1:2525`, `[::1]:smtp`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{INET_INTERFACES, INET_PROTOCOLS, Service, View};
use crate::{Files, Problems, files::Disk};

/// Service names that master.cf may use instead of a port.
const PORTS: [(&str, u16); 4] =
    [("smtp", 25), ("submission", 587), ("smtps", 465), ("submissions", 465)];

/// The addresses of a service, by `inet_interfaces` and `inet_protocols` where it names none.
#[must_use]
pub fn addresses(view: &View<'_>, service: &Service, problems: &mut Problems) -> Vec<SocketAddr> {
    let (host, name) = match service.name.rsplit_once(':') {
        Some((host, port)) => (Some(host.trim_start_matches('[').trim_end_matches(']')), port),
        None => (None, service.name.as_str()),
    };
    let Some(port) = port(name) else {
        problems
            .error(service.at.clone(), format!("unknown service \"{name}\""))
            .instead("write a port number, or smtp, submission or submissions");
        return Vec::new();
    };
    let hosts = match host.filter(|host| !host.is_empty()) {
        Some(host) => match host.parse() {
            Ok(address) => vec![address],
            Err(_) if host.eq_ignore_ascii_case("localhost") => {
                vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
            }
            Err(_) => {
                problems
                    .error(service.at.clone(), format!("{host} is not an address"))
                    .instead("write the address itself in front of the port");
                return Vec::new();
            }
        },
        None => interfaces(view, problems),
    };
    let protocols = view.get(INET_PROTOCOLS, problems);
    let allowed = |family: &str| {
        protocols.iter().any(|word| word.as_str() == "all" || word.as_str() == family)
    };
    let local = Disk.addresses();
    let mut addresses: Vec<SocketAddr> = hosts
        .into_iter()
        .filter(|address| allowed(if address.is_ipv4() { "ipv4" } else { "ipv6" }))
        // A host without IPv6 has no ::1 either.
        .filter(|address| address.is_ipv4() || local.iter().any(|(known, _)| known.is_ipv6()))
        .map(|address| SocketAddr::new(address, port))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The number of a service's name: one of ours, a number, or one of the machine's table.
#[must_use]
pub fn port(name: &str) -> Option<u16> {
    let known = PORTS.iter().find(|(known, _)| *known == name).map(|(_, port)| *port);
    known.or_else(|| name.parse().ok()).or_else(|| from_services(name))
}

/// The machine's own table of services.
fn from_services(name: &str) -> Option<u16> {
    let text = Disk.read("/etc/services".as_ref()).ok()?;
    String::from_utf8_lossy(&text).lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let first = words.next()?;
        let (port, protocol) = words.next()?.split_once('/')?;
        let named = first == name || words.any(|alias| alias == name);
        (named && protocol == "tcp").then(|| port.parse().ok()).flatten()
    })
}

fn interfaces(view: &View<'_>, problems: &mut Problems) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for word in view.get(INET_INTERFACES, problems) {
        match word.as_str() {
            "all" => {
                addresses.push(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
                addresses.push(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
            }
            "loopback-only" | "localhost" => {
                addresses.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
                addresses.push(IpAddr::V6(Ipv6Addr::LOCALHOST));
            }
            text => match text.trim_start_matches('[').trim_end_matches(']').parse() {
                Ok(address) => addresses.push(address),
                Err(_) => {
                    problems
                        .error(
                            word.at.clone(),
                            format!("inet_interfaces: {text} is not an address"),
                        )
                        .instead("write addresses, all, or loopback-only");
                }
            },
        }
    }
    addresses
}
