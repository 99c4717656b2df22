//! From a next hop to the addresses to try, in their order: MX by preference, equals at random, both IP families, and never
//! ourselves.

use std::net::IpAddr;

use dns::{Failure as NameFailure, Hosts, Resolver};

use crate::session::Failure;
use crate::settings::{Preference, Route};

/// One address of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub host: String,
    pub address: IpAddr,
    pub preference: u32,
    /// The name server validated the address.
    pub secure: bool,
    /// The MX record that named the host was validated; nothing: there was none.
    pub mx_secure: Option<bool>,
    /// The last of the host's aliases.
    pub canonical: Option<String>,
}

/// What the look-ups gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub list: Vec<Candidate>,
    /// What went wrong on the way; decides when the list is empty.
    pub why: Option<Failure>,
    /// We are among the mail exchangers.
    pub ourselves: bool,
    pub warning: Option<String>,
}

/// Who answers, and how addresses are to be chosen.
pub struct Lookup<'a, R> {
    pub resolver: &'a R,
    pub hosts: &'a Hosts,
    pub route: &'a Route,
    /// Mail that would come back to us is refused: only on port 25.
    pub loop_detection: bool,
    /// Random numbers, for the order of equals.
    pub random: &'a (dyn Fn() -> u64 + Send + Sync),
}

/// Outcomes of one type of record, the worst last, as Postfix ranks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Absent,
    Malformed,
    Temporary,
}

fn rank(failure: &NameFailure) -> Rank {
    match failure {
        failure if failure.is_absence() => Rank::Absent,
        failure if failure.is_temporary() => Rank::Temporary,
        _ => Rank::Malformed,
    }
}

/// Postfix's text for a failed look-up.
pub fn text(name: &str, kind: &str, failure: &NameFailure) -> String {
    let service = format!("Name service error for name={name} type={kind}: {}", failure.reason());
    match failure {
        NameFailure::Malformed(_) => service,
        NameFailure::Loop => format!("Name server loop for {name}"),
        _ => format!("Host or domain name not found. {service}"),
    }
}

impl Found {
    fn fail(&mut self, hard: &str, soft: &str, reason: String) {
        let was_soft = self.why.as_ref().is_some_and(Failure::is_soft);
        self.why = Some(Failure::ours(if was_soft { soft } else { hard }, reason));
    }
}

impl<R: Resolver> Lookup<'_, R> {
    /// The mail exchangers of a domain; the domain itself where it names none.
    pub async fn domain(&self, name: &str) -> Found {
        let ascii = dns::to_ascii(name).unwrap_or_else(|| name.to_owned());
        if !dns::is_host_name(&ascii) {
            return self.host(name).await;
        }
        let mut found = Found::default();
        let mx_secure;
        let mut exchangers = match self.resolver.mx(&ascii).await {
            Ok(answer) => {
                mx_secure = answer.authentic;
                answer.records
            }
            Err(failure) => {
                let status = match rank(&failure) {
                    Rank::Absent => return self.host(name).await,
                    Rank::Malformed => "5.4.4",
                    Rank::Temporary => "4.4.3",
                };
                found.why = Some(Failure::ours(status, text(&ascii, "MX", &failure)));
                return if self.route.ignore_mx_errors { self.host(name).await } else { found };
            }
        };
        if exchangers.iter().any(dns::Mx::is_null) {
            let reason = format!("Domain {ascii} does not accept mail (nullMX)");
            found.why = Some(Failure::ours("5.1.0", reason));
            return found;
        }
        exchangers.sort_by_key(|mx| mx.preference);
        let best = exchangers.first().map(|mx| u32::from(mx.preference));
        for mx in &exchangers {
            if mx.exchange.parse::<IpAddr>().is_ok() {
                let what = "numeric domain name in resource data of MX record for";
                found.warning = Some(format!("{what} {ascii}: {}", mx.exchange));
            }
            self.addresses(&mx.exchange, mx.preference.into(), &mut found).await;
        }
        found.list.iter_mut().for_each(|candidate| candidate.mx_secure = Some(mx_secure));
        if found.list.is_empty() {
            if self.route.defer_without_mx_address {
                found.why = found.why.map(Failure::softened);
            }
            found.warning = Some(format!("no MX host for {name} has a valid address record"));
            return found;
        }
        self.without_ourselves(name, best, &mut found);
        self.order(&mut found.list);
        found
    }

    /// Cuts the list where we stand in it: nobody behind us would do better.
    fn without_ourselves(&self, name: &str, best: Option<u32>, found: &mut Found) {
        let own = |candidate: &&Candidate| self.route.own_addresses.contains(&candidate.address);
        let Some(preference) = found.list.iter().find(own).map(|candidate| candidate.preference)
        else {
            return;
        };
        if !self.loop_detection {
            return;
        }
        found.ourselves = true;
        let best_found = found.list.first().map(|candidate| candidate.preference);
        found.list.retain(|candidate| candidate.preference < preference);
        if found.list.is_empty() {
            found.why = Some(if best == best_found {
                Failure::ours("5.4.6", format!("mail for {name} loops back to myself"))
            } else {
                Failure::ours("4.4.4", format!("unable to find primary relay for {name}"))
            });
        }
    }

    /// The addresses of a host.
    pub async fn host(&self, name: &str) -> Found {
        let ascii = dns::to_ascii(name).unwrap_or_else(|| name.to_owned());
        let mut found = Found::default();
        self.addresses(&ascii, 0, &mut found).await;
        let own = |candidate: &Candidate| self.route.own_addresses.contains(&candidate.address);
        if self.loop_detection && found.list.iter().any(own) {
            let reason = format!("mail for {name} loops back to myself");
            return Found { why: Some(Failure::ours("5.4.6", reason)), ..Found::default() };
        }
        self.order(&mut found.list);
        found
    }

    fn family(&self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.route.ipv4 } else { self.route.ipv6 }
    }

    /// Adds the addresses of one host, or what is wrong with it.
    async fn addresses(&self, host: &str, preference: u32, found: &mut Found) {
        let candidate = |address| Candidate {
            host: host.to_owned(),
            address,
            preference,
            secure: false,
            mx_secure: None,
            canonical: None,
        };
        let add = |found: &mut Found, address| found.list.push(candidate(address));
        if let Ok(address) = host.parse::<IpAddr>()
            && self.family(address)
        {
            return add(found, address);
        }
        if self.route.dns {
            match self.query(host).await {
                Ok(addresses) => {
                    found.list.extend(addresses.into_iter().map(|one| Candidate {
                        secure: one.secure,
                        canonical: Some(one.name),
                        ..candidate(one.address)
                    }));
                    return;
                }
                Err((Rank::Temporary, reason)) => {
                    found.why = Some(Failure::ours("4.4.3", reason));
                    return;
                }
                Err((Rank::Malformed, reason)) => return found.fail("5.4.4", "4.4.4", reason),
                Err((Rank::Absent, reason)) => found.fail("5.4.4", "4.4.4", reason),
            }
        }
        if !self.route.native {
            return;
        }
        let known: Vec<IpAddr> = self.hosts.addresses(host).to_vec();
        let known = match known.is_empty() {
            false => Ok(known),
            true => {
                self.query(host).await.map(|all| all.into_iter().map(|one| one.address).collect())
            }
        };
        match known {
            Ok(addresses) => {
                let before = found.list.len();
                addresses
                    .into_iter()
                    .filter(|one| self.family(*one))
                    .for_each(|one| add(found, one));
                if found.list.len() == before {
                    found.fail("5.4.4", "4.4.4", format!("{host}: host not found"));
                }
            }
            Err((rank, _)) => {
                let (hard, why) = match rank {
                    Rank::Temporary => ("4.4.4", "Temporary failure in name resolution"),
                    _ => ("5.4.4", "Name or service not known"),
                };
                found.fail(hard, "4.4.4", format!("unable to look up host {host}: {why}"));
            }
        }
    }

    /// A and AAAA records; the failure that tells most where there is neither.
    async fn query(&self, host: &str) -> Result<Vec<Address>, (Rank, String)> {
        if !dns::is_host_name(host) {
            let reason = format!("Name service error for {host}: invalid host or domain name");
            return Err((Rank::Absent, reason));
        }
        let four = async {
            match self.route.ipv4 {
                true => Some(self.resolver.a(host).await),
                false => None,
            }
        };
        let six = async {
            match self.route.ipv6 {
                true => Some(self.resolver.aaaa(host).await),
                false => None,
            }
        };
        let (four, six) = tokio::join!(four, six);
        let (mut addresses, mut failures) = (Vec::new(), Vec::new());
        match four {
            Some(Ok(answer)) => addresses.extend(all(answer)),
            Some(Err(failure)) => failures.push((rank(&failure), text(host, "A", &failure))),
            None => {}
        }
        match six {
            Some(Ok(answer)) => addresses.extend(all(answer)),
            Some(Err(failure)) => failures.push((rank(&failure), text(host, "AAAA", &failure))),
            None => {}
        }
        if !addresses.is_empty() {
            return Ok(addresses);
        }
        // Of equals the last one is told.
        let worst = failures.into_iter().max_by_key(|(rank, _)| *rank);
        Err(worst.unwrap_or((Rank::Absent, format!("{host}: host not found"))))
    }

    /// By preference, then as `smtp_address_preference` and chance have it; then both families get their share.
    fn order(&self, list: &mut Vec<Candidate>) {
        if list.len() < 2 {
            return;
        }
        if self.route.randomize {
            for at in (1..list.len()).rev() {
                let other = usize::try_from((self.random)() % (at as u64 + 1)).unwrap_or(0);
                list.swap(at, other);
            }
        }
        list.sort_by_key(|candidate| {
            let later = match self.route.preference {
                Preference::Any => false,
                Preference::Ipv4 => candidate.address.is_ipv6(),
                Preference::Ipv6 => candidate.address.is_ipv4(),
            };
            (candidate.preference, later)
        });
        if self.route.balance && self.route.address_limit > 0 {
            balance(list, self.route.address_limit);
        }
    }
}

struct Address {
    address: IpAddr,
    name: String,
    secure: bool,
}

fn all<A: Into<IpAddr>>(answer: dns::Answer<A>) -> impl Iterator<Item = Address> {
    let dns::Answer { records, name, authentic, .. } = answer;
    let of = move |address: A| Address {
        address: address.into(),
        name: name.clone(),
        secure: authentic,
    };
    records.into_iter().map(of)
}

/// Neither family may take all of the places.
fn balance(list: &mut Vec<Candidate>, limit: usize) {
    let fours = list.iter().filter(|candidate| candidate.address.is_ipv4()).count();
    let sixes = list.len() - fours;
    if fours == 0 || sixes == 0 || list.len() <= limit {
        return;
    }
    let first_is_four = list.first().is_some_and(|candidate| candidate.address.is_ipv4());
    let (mut fours, mut sixes) = if sixes <= limit / 2 {
        (limit - sixes, sixes)
    } else if fours <= limit / 2 {
        (fours, limit - fours)
    } else {
        let fours = (limit + usize::from(first_is_four)) / 2;
        (fours, limit - fours)
    };
    list.retain(|candidate| {
        let left = if candidate.address.is_ipv4() { &mut fours } else { &mut sixes };
        let stays = *left > 0;
        *left = left.saturating_sub(1);
        stays
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use dns::testing::Zone;

    fn route() -> Route {
        Route {
            dns: true,
            ipv4: true,
            ipv6: true,
            balance: true,
            address_limit: 5,
            own_addresses: vec!["192.0.2.99".parse().unwrap()],
            ..Route::default()
        }
    }

    async fn domain(zone: &Zone, route: &Route, name: &str) -> String {
        let hosts = Hosts::default();
        let lookup =
            Lookup { resolver: zone, hosts: &hosts, route, loop_detection: true, random: &|| 0 };
        shown(&lookup.domain(name).await)
    }

    fn shown(found: &Found) -> String {
        let list: Vec<String> = found
            .list
            .iter()
            .map(|one| format!("{} {}[{}]", one.preference, one.host, one.address))
            .collect();
        match (&found.why, list.is_empty()) {
            (Some(why), true) => format!("{} {}", why.status, why.reason),
            _ => list.join(", "),
        }
    }

    fn zone() -> Zone {
        Zone::new()
            .with_mx("two.example", 20, "b.example")
            .with_mx("two.example", 10, "a.example")
            .with_a("a.example", [192, 0, 2, 1])
            .with_aaaa("a.example", [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])
            .with_a("b.example", [192, 0, 2, 2])
            .with_mx("backup.example", 20, "us.example")
            .with_mx("backup.example", 10, "a.example")
            .with_mx("backup.example", 30, "b.example")
            .with_a("us.example", [192, 0, 2, 99])
            .with_mx("loop.example", 5, "us.example")
            .with_mx("lame.example", 5, "gone.example")
            .with_mx("lame.example", 10, "us.example")
            .with_mx("null.example", 0, "")
            .with_mx("noaddress.example", 0, "gone.example")
            .with_mx("slowmx.example", 0, "slow.example")
            .fail("slow.example", NameFailure::TimedOut)
            .fail("broken.example", NameFailure::ServFail(String::new()))
            .fail("odd.example", NameFailure::Malformed(String::new()))
            .with_a("host.example", [192, 0, 2, 5])
    }

    #[tokio::test]
    async fn domains_are_resolved_as_postfix_resolves_them() {
        let (zone, route) = (zone(), route());
        let not_found = "Host or domain name not found. Name service error for";
        for (name, expected) in [
            ("two.example", "10 a.example[192.0.2.1], 10 a.example[2001:db8::1], 20 b.example[192.0.2.2]".to_owned()),
            ("host.example", "0 host.example[192.0.2.5]".into()),
            ("backup.example", "10 a.example[192.0.2.1], 10 a.example[2001:db8::1]".into()),
            ("loop.example", "5.4.6 mail for loop.example loops back to myself".into()),
            ("lame.example", "4.4.4 unable to find primary relay for lame.example".into()),
            ("null.example", "5.1.0 Domain null.example does not accept mail (nullMX)".into()),
            ("noaddress.example", format!("5.4.4 {not_found} name=gone.example type=AAAA: Host not found")),
            ("slowmx.example", format!("4.4.3 {not_found} name=slow.example type=AAAA: Host not found, try again")),
            ("broken.example", format!("4.4.3 {not_found} name=broken.example type=MX: Host not found, try again")),
            ("odd.example", "5.4.4 Name service error for name=odd.example type=MX: Malformed or unexpected name server reply".into()),
            ("nowhere.example", format!("5.4.4 {not_found} name=nowhere.example type=AAAA: Host not found")),
            ("192.0.2.7", "0 192.0.2.7[192.0.2.7]".into()),
            ("192.0.2.99", "5.4.6 mail for 192.0.2.99 loops back to myself".into()),
        ] {
            assert_eq!(domain(&zone, &route, name).await, expected, "{name}");
        }
    }

    #[tokio::test]
    async fn families_and_their_order_are_chosen() {
        let zone = zone();
        let only_four = Route { ipv6: false, ..route() };
        assert_eq!(
            domain(&zone, &only_four, "nowhere.example").await,
            "5.4.4 Host or domain name not found. Name service error for name=nowhere.example type=A: Host not found"
        );
        let six_first = Route { preference: Preference::Ipv6, ..route() };
        assert_eq!(
            domain(&zone, &six_first, "backup.example").await,
            "10 a.example[2001:db8::1], 10 a.example[192.0.2.1]"
        );
        let native = Route { dns: false, native: true, ..route() };
        let hosts = Hosts::parse("127.0.0.1 localhost\n");
        let lookup = Lookup {
            resolver: &zone,
            hosts: &hosts,
            route: &native,
            loop_detection: false,
            random: &|| 0,
        };
        assert_eq!(shown(&lookup.host("localhost").await), "0 localhost[127.0.0.1]");
        assert_eq!(
            shown(&lookup.host("nowhere.example").await),
            "5.4.4 unable to look up host nowhere.example: Name or service not known"
        );
    }

    #[test]
    fn one_family_does_not_crowd_out_the_other() {
        let list = |text: &str| -> Vec<Candidate> {
            let address = |c| match c {
                '4' => IpAddr::from([192, 0, 2, 1]),
                _ => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
            };
            let one = |c| Candidate {
                host: String::new(),
                address: address(c),
                preference: 0,
                secure: false,
                mx_secure: None,
                canonical: None,
            };
            text.chars().map(one).collect()
        };
        for (before, after) in [
            ("666666664", "66664"),
            ("444444446", "44446"),
            ("66664444", "66644"),
            ("44446666", "44466"),
            ("6644", "6644"),
            ("6666666", "6666666"),
        ] {
            let mut balanced = list(before);
            balance(&mut balanced, 5);
            assert_eq!(balanced, list(after), "{before}");
        }
    }
}
