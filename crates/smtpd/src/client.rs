//! Who is at the other end, as log lines, headers and restrictions name it.

use std::net::IpAddr;

/// How far a name of the client can be believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameStatus {
    Known,
    /// The DNS could not say.
    Temporary,
    /// There is none.
    #[default]
    Absent,
    /// The name has other addresses.
    Forged,
}

/// One SMTP client. XCLIENT may replace any part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The verified host name, or `unknown`.
    pub name: String,
    pub name_status: NameStatus,
    /// What the reverse lookup alone says, or `unknown`.
    pub reverse_name: String,
    pub reverse_status: NameStatus,
    /// `None` after XCLIENT `ADDR=[UNAVAILABLE]`.
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    /// The address at the other end of the socket, which XCLIENT does not change.
    pub socket_address: Option<IpAddr>,
    pub server_address: Option<IpAddr>,
    pub server_port: Option<u16>,
    /// Show the port in `name[address]:port` (`smtpd_client_port_logging`).
    pub log_port: bool,
}

pub const UNKNOWN: &str = "unknown";

impl Client {
    /// `name[address]`, as in every log line.
    #[must_use]
    pub fn name_and_address(&self) -> String {
        match self.port.filter(|_| self.log_port) {
            Some(port) => format!("{}[{}]:{port}", self.name, self.address_text()),
            None => format!("{}[{}]", self.name, self.address_text()),
        }
    }

    #[must_use]
    pub fn address_text(&self) -> String {
        text(self.address)
    }

    /// As in headers and literals: IPv6 with its prefix (RFC 5321 section 4.1.3).
    #[must_use]
    pub fn literal(&self) -> String {
        literal(self.address)
    }

    #[must_use]
    pub fn port_text(&self) -> String {
        port_text(self.port)
    }

    #[must_use]
    pub fn server_address_text(&self) -> String {
        text(self.server_address)
    }

    #[must_use]
    pub fn server_port_text(&self) -> String {
        port_text(self.server_port)
    }

    /// The kernel's number of the address family: what cleanup wants to know it by.
    #[must_use]
    pub fn family(&self) -> u32 {
        match self.address {
            None => 0,
            Some(IpAddr::V4(_)) => 2,
            Some(IpAddr::V6(_)) => 10,
        }
    }

    /// A client that has no name yet.
    #[must_use]
    pub fn unnamed(address: Option<IpAddr>, port: Option<u16>) -> Self {
        Self {
            name: UNKNOWN.to_owned(),
            name_status: NameStatus::Absent,
            reverse_name: UNKNOWN.to_owned(),
            reverse_status: NameStatus::Absent,
            address,
            port,
            socket_address: address,
            server_address: None,
            server_port: None,
            log_port: false,
        }
    }
}

#[must_use]
pub fn literal(address: Option<IpAddr>) -> String {
    match address {
        Some(IpAddr::V6(address)) => format!("IPv6:{address}"),
        other => text(other),
    }
}

fn text(address: Option<IpAddr>) -> String {
    address.map_or_else(|| UNKNOWN.to_owned(), |address| address.to_string())
}

fn port_text(port: Option<u16>) -> String {
    port.map_or_else(|| UNKNOWN.to_owned(), |port| port.to_string())
}

/// What XFORWARD says of the client behind the client, for logs alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Name, address, port, HELO or protocol was given, so all of them replace ours.
    pub client: Option<ForwardedClient>,
    pub ident: Option<String>,
    /// `local` or `remote`: the rewrite context.
    pub domain: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedClient {
    pub name: String,
    pub address: Option<IpAddr>,
    pub port: String,
    pub helo: Option<String>,
    pub protocol: String,
}

impl Default for ForwardedClient {
    fn default() -> Self {
        Self {
            name: UNKNOWN.to_owned(),
            address: None,
            port: UNKNOWN.to_owned(),
            helo: None,
            protocol: UNKNOWN.to_owned(),
        }
    }
}

impl ForwardedClient {
    /// The name alone when there is no address.
    #[must_use]
    pub fn name_and_address(&self, log_port: bool) -> String {
        match self.address {
            None => self.name.clone(),
            Some(address) if log_port && self.port != UNKNOWN => {
                format!("{}[{address}]:{}", self.name, self.port)
            }
            Some(address) => format!("{}[{address}]", self.name),
        }
    }
}

/// Who logged in, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    pub method: String,
    pub user: String,
}
