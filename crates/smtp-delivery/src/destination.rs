//! `host`, `host:port`, `[host]:port`, `[ipv6:::1]`: a next hop as transport tables and relayhost write it.

/// A destination taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// As written: the key of policies and passwords.
    pub text: String,
    pub host: String,
    pub port: u16,
    /// In brackets: no MX lookup.
    pub literal: bool,
}

/// What is wrong with one; such mail waits for the configuration to be mended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDestination {
    #[error("{0} in server description: {1}")]
    Form(&'static str, String),
    #[error("unknown service: {0}/tcp")]
    Service(String),
    #[error("bad network port: {0} for destination: {1}")]
    Port(String, String),
}

impl Destination {
    /// `default` is the port of the protocol.
    pub fn parse(text: &str, default: u16) -> Result<Self, BadDestination> {
        let form = |what| BadDestination::Form(what, text.to_owned());
        let (host, service, literal) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']').ok_or_else(|| form("missing \"]\""))?;
                let service = match behind {
                    "" => "",
                    behind => {
                        behind.strip_prefix(':').ok_or_else(|| form("garbage after \"]\""))?
                    }
                };
                let host = match host.get(..5) {
                    Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => {
                        host.get(5..).unwrap_or_default()
                    }
                    _ => host,
                };
                (host, service, true)
            }
            None => {
                let (host, service) = text.rsplit_once(':').unwrap_or((text, ""));
                (host, service, false)
            }
        };
        if host.is_empty() {
            return Err(form("missing host information"));
        }
        let numeric = host.parse::<std::net::IpAddr>().is_ok();
        if !numeric && !host.split('.').all(is_label) {
            return Err(form("valid hostname or network address required"));
        }
        let port = match service {
            "" => default,
            service => match port(service) {
                Some(port) => port,
                None if service.bytes().all(|c| c.is_ascii_digit()) => {
                    return Err(BadDestination::Port(service.to_owned(), text.to_owned()));
                }
                None => return Err(BadDestination::Service(service.to_owned())),
            },
        };
        Ok(Self { text: text.to_owned(), host: host.to_owned(), port, literal })
    }
}

fn is_label(label: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || !c.is_ascii();
    !label.is_empty() && label.chars().all(fits)
}

/// A port by number or by the names that mail uses.
pub fn port(service: &str) -> Option<u16> {
    match service {
        "smtp" => Some(25),
        "submission" => Some(587),
        "smtps" | "submissions" => Some(465),
        "lmtp" => Some(24),
        number => number.parse().ok().filter(|port| *port > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_taken_apart() {
        for (text, host, port, literal) in [
            ("example.org", "example.org", 25, false),
            ("example.org:587", "example.org", 587, false),
            ("example.org:submission", "example.org", 587, false),
            ("[mx.example.org]", "mx.example.org", 25, true),
            ("[mx.example.org]:2525", "mx.example.org", 2525, true),
            ("[mx.example.org]:", "mx.example.org", 25, true),
            ("[127.0.0.1]:10026", "127.0.0.1", 10026, true),
            ("[ipv6:::1]:25", "::1", 25, true),
            ("[::1]", "::1", 25, true),
        ] {
            let destination = Destination::parse(text, 25).unwrap();
            assert_eq!((&*destination.host, destination.port), (host, port), "{text}");
            assert_eq!((destination.literal, &*destination.text), (literal, text));
        }
        for (text, problem) in [
            ("[mx", "missing \"]\" in server description: [mx"),
            ("[mx]x", "garbage after \"]\" in server description: [mx]x"),
            (":25", "missing host information in server description: :25"),
            ("a..b", "valid hostname or network address required in server description: a..b"),
            ("mx:0", "bad network port: 0 for destination: mx:0"),
            ("mx:99999", "bad network port: 99999 for destination: mx:99999"),
            ("mx:nope", "unknown service: nope/tcp"),
        ] {
            assert_eq!(Destination::parse(text, 25).unwrap_err().to_string(), problem);
        }
    }
}
