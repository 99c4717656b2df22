//! Entries of master.cf whose port belongs to somebody else: master(8) ends at its next reload, whoever calls for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use config::Problems;
use config::files::Disk;
use config::postfix::{Host, ServiceType, listen};

use super::process::{self, Address};

/// What stands in the way of a reload of this master, a sentence for each entry, with its line.
pub fn taken(configuration: &Path, master: i32) -> Vec<String> {
    let mut problems = Problems::default(); // they are told where the daemons are planned
    let host = Host::read(&Disk, configuration, &mut problems);
    let inet = host.services().filter(|service| service.kind == ServiceType::Inet);
    let live = inet.filter(|service| !service.adopted || service.live_again);
    let refusal = |(at, address): (String, SocketAddr)| {
        let holder = somebody(address, master)?;
        let name = process::command(holder);
        Some(format!(
            "{at}: {address} belongs to {name}, pid {holder}: Postfix's master would end at its next reload; end that, or take the entry out"
        ))
    };
    live.flat_map(|service| {
        let addresses = listen::addresses(&host.view(service), service, &mut problems);
        addresses.into_iter().map(|address| (service.at.to_string(), address))
    })
    .filter_map(refusal)
    .collect()
}

/// Who listens where master would have to, and does not yet.
fn somebody(address: SocketAddr, master: i32) -> Option<i32> {
    let at = Address::Tcp(address);
    if !process::listening(master, &at).is_empty() {
        return None;
    }
    // All addresses are taken as well when one of them is.
    let loopback = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        IpAddr::V6(ip) if ip.is_unspecified() => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        _ => None,
    };
    let near = loopback.map(|ip| Address::Tcp(SocketAddr::new(ip, address.port())));
    let others = std::iter::once(at).chain(near).flat_map(|at| process::listeners(&at));
    let other = |pid: i32| pid != master && process::share_network(pid, master);
    others.map(|holder| holder.pid).find(|pid| other(*pid))
}
