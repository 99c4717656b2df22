//! Two hosts and the name server that both ask: `here` is example.com, `there` plays the rest of the world as example.org.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use harness::dns;
use harness::site::{Host, Site};
use harness::{Daemon, ports};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const THERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

pub struct World {
    pub here: Site,
    pub there: Site,
    /// In the order in which they were started; both hosts'.
    daemons: Vec<Daemon>,
    _names: dns::Server,
}

impl World {
    /// Lays both hosts out below `state`: `sample` as example.com, `guide` as example.org. Nothing runs yet but the
    /// name server.
    pub fn lay(samples: &Path, sample: &str, state: &Path) -> Self {
        let names = dns::Server::start("");
        let nameserver = Some(names.address());
        let smtp = port_for_both();
        let here = Host { address: HERE, nameserver, swapped: None };
        let here =
            Site::render_for(&here, &samples.join(sample), &state.join("here"), |standard| {
                if standard == 25 { smtp } else { preferred_port(standard) }
            });
        let there =
            Host { address: THERE, nameserver, swapped: Some(("example.com", "example.org")) };
        let there =
            Site::render_for(&there, &samples.join("guide"), &state.join("there"), |standard| {
                if standard == 25 { smtp } else { ports::free() }
            });
        for (site, address, foreign) in
            [(&here, HERE, "example.org"), (&there, THERE, "example.com")]
        {
            site.forget_domain(foreign);
            // Both are on loopback: each trusts its own address alone, and finds the other one's port.
            site.set_main("mynetworks", &format!("{address}/32"));
            site.set_main("smtp_bind_address", &address.to_string());
            site.set_main("smtp_tcp_port", &smtp.to_string());
        }
        let zone = [("example.com", &here, HERE), ("example.org", &there, THERE)]
            .map(|(domain, site, address)| zone(domain, site, address));
        names.set(&zone.concat());
        Self { here, there, daemons: Vec::new(), _names: names }
    }

    /// Starts the eight daemons of each host.
    pub fn start(&mut self) {
        for (name, site) in [("example.com", &self.here), ("example.org", &self.there)] {
            self.daemons.extend(site.start_all());
            println!("started {} as {name}", site.daemons().collect::<Vec<_>>().join(", "));
        }
    }

    pub fn stop(mut self) {
        for mut daemon in self.daemons.drain(..).rev() {
            daemon.stop();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (name, site) in [("example.com", &self.here), ("example.org", &self.there)] {
                eprintln!("\nThe daemons of {name} said:\n{}", site.log.text());
            }
        }
    }
}

/// What a domain publishes: where its mail goes, who may send it, its key, and what to do with the rest.
fn zone(domain: &str, site: &Site, address: Ipv4Addr) -> String {
    let mut zone = format!(
        "{domain} MX 10 mail.{domain}\nmail.{domain} A {address}\n{domain} TXT \"v=spf1 mx -all\"\n\
         _dmarc.{domain} TXT \"v=DMARC1; p=reject; rua=mailto:postmaster@{domain}\"\n{}",
        dns::ptr(address.into(), &format!("mail.{domain}"))
    );
    for key in &site.dkim {
        // A string of a TXT record holds 255 bytes.
        let (first, rest) = key.record.split_at(200.min(key.record.len()));
        zone.push_str(&format!("{} TXT \"{first}\" \"{rest}\"\n", key.name));
    }
    zone
}

/// A port for SMTP that is free on both addresses.
fn port_for_both() -> u16 {
    let free =
        |port: u16| [HERE, THERE].iter().all(|address| TcpListener::bind((*address, port)).is_ok());
    std::iter::once(2525)
        .chain(std::iter::repeat_with(ports::free))
        .find(|port| free(*port))
        .unwrap_or(2525)
}

/// The standard port plus 2000 where it is free: 2587 is easier to type than 27311.
fn preferred_port(standard: u16) -> u16 {
    match TcpListener::bind((HERE, 2000 + standard)) {
        Ok(_) => 2000 + standard,
        Err(_) => ports::free(),
    }
}
