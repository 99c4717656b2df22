//! Restrictions on names that the DNS must know: client, HELO, sender and recipient domains, and MX backup.

use std::net::IpAddr;

use dns::{Failure, Resolver};
use protocol::postfix::rewrite::flags;

use super::dsn::{RECIPIENT, SENDER};
use super::evaluate::{Evaluation, HELO, Outcome, Stop};
use super::failure::{address_text, softest};
use super::{Tempfail, World};
use crate::client::NameStatus;

/// What the DNS knows of a domain that gets or sends mail.
enum Mail {
    Reachable,
    NullMx,
    Nowhere(Failure),
}

impl<W: World> Evaluation<'_, W> {
    /// `reject_unknown_client_hostname`: name, address and name again must agree.
    pub(super) fn unknown_client(&mut self) -> Outcome {
        let client = self.subject.client;
        let code = match client.name_status {
            NameStatus::Known => return Outcome::Dunno,
            NameStatus::Temporary => 450,
            NameStatus::Absent | NameStatus::Forged => self.settings.codes.unknown_client,
        };
        let address = client.address_text();
        let text = format!("Client host rejected: cannot find your hostname, [{address}]");
        self.reject(code, "4.7.25", &text)
    }

    /// `reject_unknown_reverse_client_hostname`
    pub(super) fn unknown_reverse_client(&mut self) -> Outcome {
        let client = self.subject.client;
        let code = match client.reverse_status {
            NameStatus::Known => return Outcome::Dunno,
            NameStatus::Absent => self.settings.codes.unknown_client,
            NameStatus::Temporary | NameStatus::Forged => 450,
        };
        let address = client.address_text();
        let text = format!("Client host rejected: cannot find your reverse hostname, [{address}]");
        self.reject(code, "4.7.1", &text)
    }

    /// `reject_unknown_helo_hostname`: no A, AAAA or MX record.
    pub(super) async fn unknown_helo(&mut self, helo: &str) -> Outcome {
        let failure = match self.has_address(helo).await {
            Ok(()) => return Outcome::Dunno,
            Err(failure) => match self.world.dns().mx(helo).await {
                Ok(_) => return Outcome::Dunno,
                Err(second) => softest(failure, second),
            },
        };
        let action = self.settings.tempfail.helo;
        let text = format!("<{helo}>: {HELO} rejected: {}", not_found(&failure, "Host not found"));
        if failure.is_temporary() {
            return self.tempfail(action, 450, "4.7.1", &text);
        }
        self.reject(self.settings.codes.unknown_hostname, "4.7.1", &text)
    }

    /// `reject_unknown_sender_domain`, `reject_unknown_recipient_domain`: for addresses that are not ours.
    pub(super) async fn unknown_domain(
        &mut self,
        address: &str,
        class: &'static str,
    ) -> Result<Outcome, Stop> {
        let resolution = self.resolved(address, class).await?;
        let finals = flags::CLASS_LOCAL | flags::CLASS_ALIAS | flags::CLASS_VIRTUAL;
        let Some((_, domain)) = resolution.recipient.rsplit_once('@') else {
            return Ok(Outcome::Dunno);
        };
        if resolution.flags & finals != 0 || (domain.starts_with('[') && domain.ends_with(']')) {
            return Ok(Outcome::Dunno);
        }
        let domain = ascii(domain);
        let failure = match self.mail_host(&domain).await {
            Mail::Reachable => return Ok(Outcome::Dunno),
            Mail::NullMx => {
                let (code, status) =
                    if class == SENDER { (550, "4.7.27") } else { (556, "4.1.10") };
                let text = format!(
                    "<{address}>: {class} rejected: Domain {domain} does not accept mail (nullMX)"
                );
                return Ok(self.reject(code, status, &text));
            }
            Mail::Nowhere(failure) => failure,
        };
        let status = if class == SENDER { "4.1.8" } else { "4.1.2" };
        let reason = not_found(&failure, "Domain not found");
        let text = format!("<{address}>: {class} rejected: {reason}");
        if failure.is_temporary() {
            return Ok(self.tempfail(self.settings.tempfail.address, 450, status, &text));
        }
        Ok(self.reject(self.settings.codes.unknown_address, status, &text))
    }

    async fn mail_host(&self, domain: &str) -> Mail {
        let failure = match self.world.dns().mx(domain).await {
            Ok(answer) if answer.records.iter().any(dns::Mx::is_null) => return Mail::NullMx,
            Ok(_) => return Mail::Reachable,
            Err(failure @ Failure::Malformed(_)) => return Mail::Nowhere(failure),
            Err(failure) => failure,
        };
        match self.has_address(domain).await {
            Ok(()) => Mail::Reachable,
            Err(second) => Mail::Nowhere(softest(failure, second)),
        }
    }

    async fn has_address(&self, name: &str) -> Result<(), Failure> {
        let dns = self.world.dns();
        let Err(first) = dns.a(name).await else { return Ok(()) };
        match dns.aaaa(name).await {
            Ok(_) => Ok(()),
            Err(second) => Err(softest(first, second)),
        }
    }

    /// `permit_mx_backup`: we are a mail exchanger of the domain, though not a primary one.
    pub(super) async fn mx_backup(&mut self, recipient: &str) -> Result<Outcome, Stop> {
        let resolution = self.resolved(recipient, RECIPIENT).await?;
        let permitted =
            |this: &mut Self| Ok(this.permit("permit_mx_backup", RECIPIENT, recipient, ""));
        let Some((_, domain)) = resolution.recipient.rsplit_once('@') else {
            return permitted(self);
        };
        if !self.settings.allow_untrusted_routing && resolution.flags & flags::ROUTED != 0 {
            return Ok(Outcome::Dunno);
        }
        if self.is_authorized(recipient).await? {
            return permitted(self);
        }
        if domain.starts_with('[') && domain.ends_with(']') {
            return Ok(Outcome::Dunno);
        }
        let mut exchangers = match self.world.dns().mx(&ascii(domain)).await {
            Ok(answer) => answer.records,
            Err(failure) => {
                if failure.is_temporary() {
                    let text = format!(
                        "<{recipient}>: {RECIPIENT} rejected: Unable to look up mail exchanger \
                         information: {}",
                        failure.reason()
                    );
                    self.defer_if_reject(450, "4.4.4", text);
                }
                return Ok(Outcome::Dunno);
            }
        };
        exchangers.sort_by_key(|mx| mx.preference);
        let best = exchangers.first().map_or(0, |mx| mx.preference);
        let (primary, backup): (Vec<_>, Vec<_>) =
            exchangers.into_iter().partition(|mx| mx.preference == best);
        let names = |list: Vec<dns::Mx>| -> Vec<String> {
            list.into_iter().map(|mx| mx.exchange).filter(|name| !name.is_empty()).collect()
        };
        let (primary, backup) = (names(primary), names(backup));
        if self.is_one_of(&primary, recipient).await?
            || !self.is_one_of(&backup, recipient).await?
            || !self.are_trusted(&primary, recipient).await
        {
            return Ok(Outcome::Dunno);
        }
        permitted(self)
    }

    /// Is one of these hosts ourselves, by name or by address?
    async fn is_one_of(&mut self, hosts: &[String], recipient: &str) -> Result<bool, Stop> {
        for host in hosts {
            let ours = self.settings.destination.holds_domain(self.world.tables(), host).await;
            if ours.map_err(|error| self.lookup_failed(&error, recipient))? {
                return Ok(true);
            }
        }
        for host in hosts {
            match self.world.addresses(host).await {
                Ok(addresses) => {
                    if addresses.iter().any(|one| self.settings.own_addresses.contains(one)) {
                        return Ok(true);
                    }
                }
                Err(failure) => {
                    let text = format!(
                        "<{recipient}>: {RECIPIENT} rejected: Unable to look up mail exchanger \
                         host {host}: {}",
                        address_text(&failure)
                    );
                    self.defer_if_reject(450, "4.4.4", text);
                }
            }
        }
        Ok(false)
    }

    /// All addresses of the primary hosts must be in `permit_mx_backup_networks`, where that is set.
    async fn are_trusted(&mut self, hosts: &[String], recipient: &str) -> bool {
        let networks = &self.settings.mx_backup_networks;
        if networks.is_empty() {
            return true;
        }
        for host in hosts {
            let addresses: Vec<IpAddr> = match self.world.addresses(host).await {
                Ok(addresses) => addresses,
                Err(failure) => {
                    let text = format!(
                        "<{recipient}>: {RECIPIENT} rejected: Unable to look up host {host} as \
                         mail exchanger: {}",
                        failure.reason()
                    );
                    self.defer_if_reject(450, "4.4.4", text);
                    return false;
                }
            };
            for address in addresses {
                match networks.holds(self.world.tables(), host, Some(address)).await {
                    Ok(true) => {}
                    Ok(false) => return false,
                    Err(_) => {
                        let text = format!(
                            "<{recipient}>: {RECIPIENT} rejected: Unable to verify host {host} as \
                             mail exchanger"
                        );
                        self.defer_if_reject(450, "4.4.4", text);
                        return false;
                    }
                }
            }
        }
        true
    }

    /// A refusal for a failure of somebody else: postponed until the request would be permitted, or now.
    pub(super) fn tempfail(
        &mut self,
        action: Tempfail,
        code: u16,
        status: &str,
        text: &str,
    ) -> Outcome {
        match action {
            Tempfail::DeferIfPermit => self.defer_if_permit(code, status, text.to_owned()),
            Tempfail::Defer => self.reject(code, status, text),
        }
    }
}

fn not_found(failure: &Failure, otherwise: &'static str) -> &'static str {
    match failure {
        Failure::Malformed(_) => "Malformed DNS server reply",
        _ => otherwise,
    }
}

fn ascii(domain: &str) -> String {
    let ascii = if domain.is_ascii() { None } else { dns::to_ascii(domain) };
    ascii.unwrap_or_else(|| domain.to_owned())
}
