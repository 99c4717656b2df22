//! From an address to its class, transport and next hop, as trivial-rewrite(8) resolves it.

use std::net::IpAddr;

use crate::keys::parted;
use crate::rewrite::{Context, strip_trailing_dot};
use crate::settings::{Settings, Transports};
use crate::tables::{LookupError, Maps, Tables};
use crate::tokens::{Token, first, internal, last, scan, scan_address};

/// Routing with its tables. All questions of the daemons go to this.
pub struct Routing<T> {
    pub settings: Settings,
    pub tables: T,
}

/// Which domain list an address fell under; it decides the transport and the table of recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Local,
    VirtualAlias,
    VirtualMailbox,
    Relay,
    Default,
}

/// Where one recipient goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// A service of master.cf, such as `smtp`, `local`, `error`.
    pub transport: String,
    pub nexthop: String,
    /// The address in internal form, always `user@domain`.
    pub recipient: String,
    pub class: Class,
    /// The local part holds `@`, `%` or `!`: another host might relay by it.
    pub source_routed: bool,
}

/// The outcome of resolving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    Route(Route),
    /// The domain is not one: `5.1.3 bad address syntax`.
    BadSyntax {
        recipient: String,
    },
}

impl<T: Tables> Routing<T> {
    /// Resolves an address in internal form for mail from `sender` (empty: the null sender).
    ///
    /// # Errors
    ///
    /// [`LookupError`]: `4.3.0 address resolver failure`, the mail waits.
    pub async fn resolve(&self, sender: &str, address: &str) -> Result<Resolution, LookupError> {
        self.resolve_by(&self.settings.transports, sender, address).await
    }

    /// As [`Routing::resolve`], by the settings for address probes.
    ///
    /// # Errors
    ///
    /// As [`Routing::resolve`].
    pub async fn resolve_probe(
        &self,
        sender: &str,
        address: &str,
    ) -> Result<Resolution, LookupError> {
        self.resolve_by(&self.settings.probe_transports, sender, address).await
    }

    async fn resolve_by(
        &self,
        transports: &Transports,
        sender: &str,
        address: &str,
    ) -> Result<Resolution, LookupError> {
        let (tokens, is_local) = self.strip_local_domains(address).await?;
        let recipient = internal(&tokens);
        let domain = parted(&recipient).1.unwrap_or_default().to_owned();
        if !valid_domain(&domain) {
            return Ok(Resolution::BadSyntax { recipient });
        }
        let source_routed = recipient.split(['@', '!', '%']).count() > 2;
        let (class, transport, nexthop) = if is_local {
            (Class::Local, transports.local.clone(), domain.clone())
        } else {
            self.classify(transports, sender, &domain).await?
        };
        let (transport, nexthop) = match transport.split_once(':') {
            Some((transport, "")) => (transport.to_owned(), nexthop),
            // The text of a class's own error is not a transport:nexthop pair.
            Some((transport, given)) if class != Class::VirtualAlias => {
                (transport.to_owned(), given.to_owned())
            }
            _ => (transport, nexthop),
        };
        if transport.is_empty() {
            let table = crate::tables::TableName::new("main.cf");
            return Err(LookupError { table, why: "null transport is not allowed".to_owned() });
        }
        let mut route = Route { transport, nexthop, recipient, class, source_routed };
        self.apply_transport_maps(transports, &domain, &mut route).await?;
        let relocated = &self.settings.maps.relocated;
        if let Some(moved) = self.find_address(relocated, &route.recipient).await? {
            route.transport = "error".to_owned();
            route.nexthop = format!("5.1.6 User has moved to {}", moved.answer);
        }
        Ok(Resolution::Route(route))
    }

    /// Strips every domain of ours off the address, as `user%dom@ours` means `user@dom`.
    async fn strip_local_domains(&self, address: &str) -> Result<(Vec<Token>, bool), LookupError> {
        let settings = &self.settings;
        let mut tokens = scan_address(&mail_types::quote_822(address));
        let mut saved: Option<Vec<Token>> = None;
        let mut remote = false;
        for _ in 0..address.len() + 100 {
            strip_trailing_dot_of_domain(&mut tokens);
            if settings.resolve_null_domain && tokens.last().is_some_and(|token| token.is('@')) {
                tokens.pop();
            }
            if let Some(at) = last(&tokens, '@') {
                let domain = tokens.get(at + 1..).unwrap_or_default();
                if !domain.is_empty() && !self.is_local(&internal(domain)).await? {
                    remote = true;
                    break;
                }
                saved = Some(tokens.split_off(at));
            }
            if self.has_routing_sign(&tokens) {
                settings.rewriting.rewrite_tokens(Context::Local, &mut tokens);
                continue;
            }
            if self.crack_quoted(&mut tokens) {
                continue;
            }
            if matches!(tokens.as_slice(), [] | [Token::Quoted(_)]) && internal(&tokens).is_empty()
            {
                tokens = scan(&settings.empty_address_recipient);
            }
            break;
        }
        if !remote {
            match saved {
                Some(domain) => tokens.extend(domain),
                None => {
                    tokens.push(Token::Sign('@'));
                    tokens.extend(scan(&settings.myhostname));
                }
            }
        }
        Ok((tokens, !remote))
    }

    fn has_routing_sign(&self, tokens: &[Token]) -> bool {
        let rewriting = &self.settings.rewriting;
        last(tokens, '@').is_some()
            || (rewriting.swap_bangpath && first(tokens, '!').is_some())
            || (rewriting.percent_hack && last(tokens, '%').is_some())
    }

    /// A quoted local part with routing operators is taken apart too, to stop relaying by quotes.
    fn crack_quoted(&self, tokens: &mut Vec<Token>) -> bool {
        let rewriting = &self.settings.rewriting;
        if !self.settings.resolve_dequoted_address {
            return false;
        }
        let [Token::Quoted(local)] = tokens.as_slice() else { return false };
        let at = local.rfind('@');
        let percent = local.rfind('%').filter(|_| rewriting.percent_hack);
        let bang = local.rfind('!').filter(|_| rewriting.swap_bangpath);
        let opened = match (at, percent, bang) {
            (Some(_), _, _) => mail_types::quote_822(local),
            (None, Some(percent), _) => {
                let mut local = local.clone();
                local.replace_range(percent..=percent, "@");
                mail_types::quote_822(&local)
            }
            (None, None, Some(_)) => local.clone(),
            (None, None, None) => return false,
        };
        *tokens = scan_address(&opened);
        rewriting.rewrite_tokens(Context::Local, tokens);
        true
    }

    async fn classify(
        &self,
        transports: &Transports,
        sender: &str,
        domain: &str,
    ) -> Result<(Class, String, String), LookupError> {
        let classes = &self.settings.classes;
        if classes.virtual_alias_domains.holds(&self.tables, domain).await? {
            let table =
                if self.settings.known.show_table_name { " in virtual alias table" } else { "" };
            let why = format!("5.1.1 User unknown{table}");
            return Ok((Class::VirtualAlias, "error".to_owned(), why));
        }
        if classes.virtual_mailbox_domains.holds(&self.tables, domain).await? {
            let transport = transports.virtual_mailbox.clone();
            return Ok((Class::VirtualMailbox, transport, domain.to_owned()));
        }
        let (class, transport) = if classes.relay_domains.holds(&self.tables, domain).await? {
            (Class::Relay, transports.relay.clone())
        } else {
            let maps = &transports.sender_dependent_default_transport_maps;
            let key = sender_key(sender, &transports.null_sender_transport_key);
            let chosen = self.for_sender(maps, key).await?;
            (Class::Default, chosen.unwrap_or_else(|| transports.default.clone()))
        };
        let maps = &transports.sender_dependent_relayhost_maps;
        let key = sender_key(sender, &transports.null_sender_relayhost_key);
        let nexthop = match self.for_sender(maps, key).await? {
            Some(relayhost) => relayhost,
            None if transports.relayhost.is_empty() => domain.to_owned(),
            None => transports.relayhost.clone(),
        };
        Ok((class, transport, nexthop))
    }

    /// The answer for a sender; `DUNNO` stands for none.
    async fn for_sender(&self, maps: &Maps, sender: &str) -> Result<Option<String>, LookupError> {
        let found = self.find_address(maps, sender).await?;
        Ok(found.map(|found| found.answer).filter(|answer| !answer.eq_ignore_ascii_case("DUNNO")))
    }

    async fn apply_transport_maps(
        &self,
        transports: &Transports,
        domain: &str,
        route: &mut Route,
    ) -> Result<(), LookupError> {
        // Mail to an unknown user of a virtual alias domain stays refused.
        if transports.transport_maps.is_empty() || route.class == Class::VirtualAlias {
            return Ok(());
        }
        let maps = &transports.transport_maps;
        let style = transports.transport_subdomains;
        let entry = match self.find_route(maps, &route.recipient, style).await? {
            Some(entry) => Some(entry),
            None => maps.find(&self.tables, "*", crate::tables::Key::Part).await?,
        };
        if let Some(entry) = entry {
            let (transport, nexthop) = entry.split_once(':').unwrap_or((&entry, ""));
            route.update(transport.trim(), nexthop.trim(), domain);
        }
        Ok(())
    }

    /// Whether mail for `domain` is at home here: `mydestination`, or an address of this system.
    ///
    /// # Errors
    ///
    /// [`LookupError`] of a table in `mydestination`.
    pub async fn is_local(&self, domain: &str) -> Result<bool, LookupError> {
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        if domain.is_empty() {
            return Ok(false);
        }
        if self.settings.classes.mydestination.holds(&self.tables, domain).await? {
            return Ok(true);
        }
        let literal = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = literal.and_then(literal_address);
        Ok(address.is_some_and(|address| self.settings.own_addresses.contains(&address)))
    }
}

impl Route {
    /// Applies a transport map's entry. `:` alone changes nothing; a transport without a next hop
    /// goes to the recipient's own domain.
    fn update(&mut self, transport: &str, nexthop: &str, domain: &str) {
        if !nexthop.is_empty() {
            self.nexthop = nexthop.to_owned();
        } else if transport == "error" || transport == "retry" {
            self.nexthop = "Address is undeliverable".to_owned();
        } else if !transport.is_empty() {
            self.nexthop = domain.to_owned();
        }
        if !transport.is_empty() {
            self.transport = transport.to_owned();
        }
    }
}

fn sender_key<'a>(sender: &'a str, null: &'a str) -> &'a str {
    if sender.is_empty() { null } else { sender }
}

fn strip_trailing_dot_of_domain(tokens: &mut Vec<Token>) {
    if last(tokens, '@').is_some() {
        strip_trailing_dot(tokens);
    }
}

fn literal_address(text: &str) -> Option<IpAddr> {
    let v6 = text.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    match v6 {
        Some(_) => text.get(5..)?.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

/// A host name (letters, digits, `-`, `_`, and beyond ASCII for SMTPUTF8) or an address literal.
fn valid_domain(domain: &str) -> bool {
    if let Some(inside) = domain.strip_prefix('[') {
        return inside.strip_suffix(']').and_then(literal_address).is_some();
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c) || !c.is_ascii())
    };
    domain.len() <= 255
        && domain.split('.').all(label)
        && domain.parse::<std::net::Ipv4Addr>().is_err()
        && !domain.chars().all(|c| c.is_ascii_digit())
}
