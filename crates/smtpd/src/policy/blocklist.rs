//! DNS lists of clients and domains: `reject_rbl_client`, `reject_rhsbl_*`, `permit_dnswl_client` and their reply.

use std::net::Ipv4Addr;

use config::postfix::expand::{Names, expand, references};
use config::text::Sourced;
use dns::Resolver;
use routing::Key;
use serde::{Deserialize, Serialize};

use super::dsn::{RECIPIENT, SENDER, split_status};
use super::evaluate::{CLIENT, Evaluation, HELO, Outcome, REVERSE_CLIENT, Stop};
use super::failure::lookup_text;
use super::octets::Octets;
use super::subject::Stage;
use super::{Subject, World};
use crate::client::UNKNOWN;

/// Characters of TXT records that a reply may hold.
const LONGEST_REASON: usize = 500;

/// What a list is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listed {
    /// The client's address; the others are names.
    Address,
    Client,
    ReverseClient,
    Helo,
    Sender,
    Recipient,
}

/// One list, as written: `zen.example.org=127.0.0.[2..11]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    pub written: String,
    pub domain: String,
    pub filter: Option<Octets>,
}

impl Site {
    /// # Errors
    ///
    /// What is wrong with the pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (domain, pattern) = match text.split_once('=') {
            Some((domain, pattern)) => (domain, Some(Octets::parse(pattern)?)),
            None => (text, None),
        };
        if !dns::is_host_name(domain) {
            return Err(format!("\"{domain}\" is no domain name"));
        }
        Ok(Self { written: text.to_owned(), domain: domain.to_owned(), filter: pattern })
    }
}

/// A listing.
struct Hit {
    reason: String,
}

/// Nothing can be said for now.
struct Unknown;

impl<W: World> Evaluation<'_, W> {
    /// `reject_rbl_client` and `reject_rhsbl_*`.
    pub(super) async fn reject_listed(&mut self, of: Listed, site: &Site) -> Result<Outcome, Stop> {
        let Some((what, class)) = self.listed_name(of) else { return Ok(Outcome::Dunno) };
        match self.look_up(of, site, &what).await {
            Ok(Some(hit)) => self.listed_reply(site, &hit, &what, class).await,
            Ok(None) | Err(Unknown) => Ok(Outcome::Dunno),
        }
    }

    /// `permit_dnswl_client` and `permit_rhswl_client`: never for a destination that is not ours.
    pub(super) async fn permit_listed(
        &mut self,
        of: Listed,
        site: &Site,
        word: &str,
    ) -> Result<Outcome, Stop> {
        let Some((what, class)) = self.listed_name(of) else { return Ok(Outcome::Dunno) };
        if self.subject.stage == Stage::Command("RCPT")
            && let Some(recipient) = self.subject.recipient
            && !self.is_authorized(recipient).await?
        {
            return Ok(Outcome::Dunno);
        }
        match self.look_up(of, site, &what).await {
            Ok(Some(_)) => {
                let client = self.subject.client.name_and_address();
                Ok(self.permit(word, CLIENT, &client, ""))
            }
            Ok(None) => Ok(Outcome::Dunno),
            Err(Unknown) => {
                let text = format!("<{what}>: {class} rejected: Service unavailable");
                self.defer_if_reject(450, "4.7.1", text);
                Ok(Outcome::Dunno)
            }
        }
    }

    /// `reject_maps_rbl`, the old name with a list of its own.
    pub(super) async fn reject_maps_rbl(&mut self) -> Result<Outcome, Stop> {
        self.warn(
            "support for restriction \"reject_maps_rbl\" will be removed from Postfix; use \
             \"reject_rbl_client domain-name\" instead",
        );
        for site in &self.settings.blocklists.sites {
            let outcome = self.reject_listed(Listed::Address, site).await?;
            if outcome != Outcome::Dunno {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Dunno)
    }

    /// What is looked up, and its class; nothing for a name that is not known.
    fn listed_name(&self, of: Listed) -> Option<(String, &'static str)> {
        let client = self.subject.client;
        let known = |name: &str| (!name.eq_ignore_ascii_case(UNKNOWN)).then(|| name.to_owned());
        let sender = self.subject.sender.filter(|sender| !sender.is_empty());
        Some(match of {
            Listed::Address => (client.address?.to_string(), CLIENT),
            Listed::Client => (known(&client.name)?, CLIENT),
            Listed::ReverseClient => (known(&client.reverse_name)?, REVERSE_CLIENT),
            Listed::Helo => (self.subject.helo?.to_owned(), HELO),
            Listed::Sender => (sender?.to_owned(), SENDER),
            Listed::Recipient => (self.subject.recipient?.to_owned(), RECIPIENT),
        })
    }

    async fn look_up(
        &mut self,
        of: Listed,
        site: &Site,
        what: &str,
    ) -> Result<Option<Hit>, Unknown> {
        let front = match (of, self.subject.client.address) {
            (Listed::Address, Some(address)) => {
                format!("{}.", dns::reversed(address).trim_end_matches('.'))
            }
            (Listed::Address, None) => return Ok(None),
            _ => match queried_domain(what) {
                Some(domain) => format!("{domain}."),
                None => return Ok(None),
            },
        };
        let query = format!("{front}{}", site.domain);
        let dns = self.world.dns();
        let found: Vec<Ipv4Addr> = match dns.a(&query).await {
            Ok(answer) => answer.records,
            Err(failure) if failure.is_absence() => return Ok(None),
            Err(failure) => {
                let why = lookup_text(&failure, &query, "A");
                self.warn(&format!("{query}: RBL lookup error: {why}"));
                return Err(Unknown);
            }
        };
        if let Some(filter) = &site.filter
            && !found.iter().any(|address| filter.matches(*address))
        {
            return Ok(None);
        }
        let texts = dns.txt(&query).await.map(|answer| answer.records).unwrap_or_default();
        let texts: Vec<String> =
            texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
        let mut reason = texts.join(" / ");
        reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
        Ok(Some(Hit { reason }))
    }

    async fn listed_reply(
        &mut self,
        site: &Site,
        hit: &Hit,
        what: &str,
        class: &'static str,
    ) -> Result<Outcome, Stop> {
        let settings = &self.settings.blocklists;
        let own = settings.reply_maps.find(self.world.tables(), &site.written, Key::Whole).await;
        let own = match own {
            Ok(own) => own,
            Err(error) => {
                self.warn(&error.to_string());
                return Err(self.server_error());
            }
        };
        let names = Values {
            code: self.settings.codes.maps_rbl,
            domain: &site.domain,
            reason: &hit.reason,
            what,
            class,
            subject: self.subject,
            allowed: &settings.expansion_filter,
        };
        let expanded = match own.as_deref().map(|template| names.expand(template)) {
            Some(Some(expanded)) => Some(expanded),
            Some(None) => {
                let template = own.unwrap_or_default();
                let domain = &site.written;
                self.warn(&format!("bad rbl reply template for domain {domain}: {template}"));
                None
            }
            None => None,
        };
        let reply = expanded.or_else(|| names.expand(&settings.default_reply)).unwrap_or_default();
        let code = reply.get(..3).and_then(|code| code.parse::<u16>().ok());
        let Some(code) =
            code.filter(|code| (400..600).contains(code) && reply.as_bytes().get(3) == Some(&b' '))
        else {
            self.warn(&format!("rbl response code configuration error: {reply}"));
            return Ok(self.reject(450, "4.7.1", "Service unavailable"));
        };
        let (status, text) = split_status("4.7.1", reply.get(4..).unwrap_or_default());
        let status = self.fixed(&status, class);
        let text = if text.is_empty() { "Service unavailable" } else { text };
        Ok(self.reject(code, &status, text))
    }
}

/// The domain that a name or address is looked up by; names that end in a number are no domains.
fn queried_domain(what: &str) -> Option<String> {
    let domain = what.rsplit_once('@').map_or(what, |(_, domain)| domain);
    let last = domain.rsplit('.').next().unwrap_or_default();
    if domain.starts_with('[') || last.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let ascii = if domain.is_ascii() { Some(domain.to_owned()) } else { dns::to_ascii(domain) };
    ascii.filter(|domain| dns::is_host_name(domain))
}

/// What `$name` stands for in a reply.
struct Values<'a> {
    code: u16,
    domain: &'a str,
    reason: &'a str,
    what: &'a str,
    class: &'a str,
    subject: Subject<'a>,
    /// Characters that a value may hold (`smtpd_expansion_filter`).
    allowed: &'a str,
}

impl Values<'_> {
    fn expand(&self, template: &str) -> Option<String> {
        if references(template).iter().any(|name| self.value(name).is_none()) {
            return None;
        }
        expand(&Sourced::built_in(template), self).ok().map(|text| text.as_str().to_owned())
    }

    fn value(&self, name: &str) -> Option<String> {
        let client = self.subject.client;
        Some(match name {
            "rbl_code" => self.code.to_string(),
            "rbl_domain" => self.domain.to_owned(),
            "rbl_reason" | "rbl_txt" => self.reason.to_owned(),
            "rbl_what" => self.what.to_owned(),
            "rbl_class" => self.class.to_owned(),
            "client" => client.name_and_address(),
            "client_address" => client.address_text(),
            "client_port" => client.port_text(),
            "client_name" => client.name.clone(),
            "reverse_client_name" => client.reverse_name.clone(),
            "helo_name" => self.subject.helo.unwrap_or_default().to_owned(),
            "server_address" => client.server_address_text(),
            "server_port" => client.server_port_text(),
            "sender" => self.subject.sender.unwrap_or_default().to_owned(),
            "sender_name" => part(self.subject.sender, 0),
            "sender_domain" => part(self.subject.sender, 1),
            "recipient" => self.subject.recipient.unwrap_or_default().to_owned(),
            "recipient_name" => part(self.subject.recipient, 0),
            "recipient_domain" => part(self.subject.recipient, 1),
            "localtime" | "session" => String::new(),
            _ => return None,
        })
    }
}

fn part(address: Option<&str>, which: usize) -> String {
    let address = address.unwrap_or_default();
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    if which == 0 { local } else { domain }.to_owned()
}

impl Names for Values<'_> {
    fn raw(&self, name: &str) -> Option<Sourced> {
        let value = self.value(name)?;
        let safe: String =
            value.chars().map(|c| if self.allowed.contains(c) { c } else { '_' }).collect();
        // A value is text: what looks like a macro in it is none.
        Some(Sourced::built_in(safe.replace('$', "$$")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_domains_are_asked_about() {
        assert_eq!(queried_domain("a@b.example").as_deref(), Some("b.example"));
        assert_eq!(queried_domain("helo.example").as_deref(), Some("helo.example"));
        for none in ["a@[1.2.3.4]", "1.2.3.4", "", "a@", "a@x..y"] {
            assert_eq!(queried_domain(none), None, "{none}");
        }
    }

    #[test]
    fn sites_have_patterns() {
        let site = Site::parse("zen.example=127.0.0.[2..4]").unwrap();
        assert_eq!(site.domain, "zen.example");
        assert!(site.filter.unwrap().matches([127, 0, 0, 3].into()));
        assert!(Site::parse("zen.example=127").is_err() && Site::parse("-bad-").is_err());
    }
}
