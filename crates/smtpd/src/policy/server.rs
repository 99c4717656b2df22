//! Access by the hosts that serve a name: `check_*_mx_access`, `check_*_ns_access`, `check_*_a_access`.

use dns::{Failure, Resolver};
use routing::TableName;
use serde::{Deserialize, Serialize};

use super::dsn::{RECIPIENT, SENDER};
use super::evaluate::{About, CLIENT, Evaluation, HELO, Outcome, REVERSE_CLIENT, Stop};
use super::failure::address_text;
use super::{AccessOf, World};
use crate::client::UNKNOWN;

/// Hosts and addresses that are looked at for one name.
const MOST: usize = 100;

/// How a name leads to hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Servers {
    /// The name's own addresses.
    A,
    Mx,
    Ns,
}

impl Servers {
    pub const ALL: [Self; 3] = [Self::A, Self::Mx, Self::Ns];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Mx => "MX",
            Self::Ns => "NS",
        }
    }
}

impl<W: World> Evaluation<'_, W> {
    pub(super) async fn server_access(
        &mut self,
        of: AccessOf,
        servers: Servers,
        table: &TableName,
        word: &str,
        about: About<'_>,
    ) -> Result<Outcome, Stop> {
        let client = self.subject.client;
        let named = |name: &str| !name.eq_ignore_ascii_case(UNKNOWN);
        let shown = client.name_and_address();
        let (name, shown, class) = match of {
            AccessOf::Client if named(&client.name) => {
                (client.name.as_str(), shown.as_str(), CLIENT)
            }
            AccessOf::ReverseClient if named(&client.reverse_name) => {
                (client.reverse_name.as_str(), client.reverse_name.as_str(), REVERSE_CLIENT)
            }
            AccessOf::Helo => match self.subject.helo {
                Some(helo) => (helo, helo, HELO),
                None => return Ok(Outcome::Dunno),
            },
            AccessOf::Sender => match self.subject.sender {
                Some(sender) if !sender.is_empty() => (sender, sender, SENDER),
                _ => return Ok(Outcome::Dunno),
            },
            AccessOf::Recipient => match self.subject.recipient {
                Some(recipient) if !recipient.is_empty() => (recipient, recipient, RECIPIENT),
                _ => return Ok(Outcome::Dunno),
            },
            _ => return Ok(Outcome::Dunno),
        };
        let about = About { name: shown, class, ..about };
        let outcome = self.served_by(servers, table, name, about).await?;
        self.forbid_permit(word, &outcome, name)?;
        Ok(outcome)
    }

    async fn served_by(
        &mut self,
        servers: Servers,
        table: &TableName,
        name: &str,
        about: About<'_>,
    ) -> Result<Outcome, Stop> {
        let domain = name.rsplit_once('@').map_or(name, |(_, domain)| domain);
        if let Some(literal) = domain.strip_prefix('[') {
            // An address is its own mail exchanger; it has no name server.
            let address = literal
                .strip_suffix(']')
                .filter(|_| servers != Servers::Ns)
                .and_then(protocol::smtp::parse_mail_host_address);
            let Some(address) = address else { return Ok(Outcome::Dunno) };
            let found = self.address_entry(table, &address.to_string()).await;
            return self.decide(table, found, about).await;
        }
        let ascii = if domain.is_ascii() { None } else { dns::to_ascii(domain) };
        let domain = ascii.as_deref().unwrap_or(domain);
        let hosts = match self.hosts(servers, domain, name).await {
            Ok(hosts) => hosts,
            Err((asked, failure)) => {
                self.warn(&format!(
                    "Unable to look up {} host for {asked}: {}",
                    servers.name(),
                    failure.reason()
                ));
                return Ok(Outcome::Dunno);
            }
        };
        let mut seen = 0;
        for host in hosts.iter().take(MOST) {
            if servers != Servers::A {
                let found = self.domain_entry(table, host).await;
                if !matches!(found, Ok(None)) {
                    return self.decide(table, found, about).await;
                }
            }
            let addresses = match self.world.addresses(host).await {
                Ok(addresses) => addresses,
                Err(failure) => {
                    if servers != Servers::A {
                        self.warn(&format!(
                            "Unable to look up {} host {host} for {} {}: {}",
                            servers.name(),
                            about.class,
                            about.name,
                            address_text(&failure)
                        ));
                    }
                    continue;
                }
            };
            for address in addresses {
                seen += 1;
                if seen > MOST {
                    self.warn(&format!(
                        "check_server_access: {} server address count limit ({MOST}) exceeded for \
                         {} {} -- ignoring the remainder",
                        servers.name(),
                        about.class,
                        about.name
                    ));
                    return Ok(Outcome::Dunno);
                }
                let found = self.address_entry(table, &address.to_string()).await;
                if !matches!(found, Ok(None)) {
                    return self.decide(table, found, about).await;
                }
            }
        }
        Ok(Outcome::Dunno)
    }

    /// The hosts of a domain; a failure with the name that was asked for last.
    async fn hosts(
        &self,
        servers: Servers,
        domain: &str,
        name: &str,
    ) -> Result<Vec<String>, (String, Failure)> {
        let dns = self.world.dns();
        match servers {
            Servers::A => Ok(vec![domain.to_owned()]),
            Servers::Mx => match dns.mx(domain).await {
                Ok(answer) if answer.records.iter().any(dns::Mx::is_null) => Ok(Vec::new()),
                Ok(mut answer) => {
                    answer.records.sort_by_key(|mx| mx.preference);
                    Ok(answer.records.into_iter().map(|mx| mx.exchange).collect())
                }
                // A name without MX is its own.
                Err(failure) if failure.is_absence() => Ok(vec![domain.to_owned()]),
                Err(failure) => Err((domain.to_owned(), failure)),
            },
            Servers::Ns => {
                let mut asked = domain;
                loop {
                    let failure = match dns.ns(asked).await {
                        Ok(answer) => return Ok(answer.records),
                        Err(failure) => failure,
                    };
                    if !failure.is_absence() {
                        return Err((asked.to_owned(), failure));
                    }
                    match asked.split_once('.').filter(|(_, parent)| !parent.is_empty()) {
                        Some((_, parent)) => asked = parent,
                        None => return Err((name.to_owned(), failure)),
                    }
                }
            }
        }
    }
}
