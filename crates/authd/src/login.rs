//! One login in its course: who it is about and which fields the databases have given it.

use crate::settings::{Field, Realm};
use crate::username::{self, BadName};
use protocol::dovecot_auth::{Params, Request};
use std::net::IpAddr;

/// What is known about a login.
#[derive(Clone, Debug, Default)]
pub struct Login {
    pub request: Request,
    /// The name as it is looked up now; empty until the client has said it.
    pub user: String,
    /// The name as the client typed it.
    pub typed: String,
    /// Whether the client has come so far as to say a name.
    pub named: bool,
    /// The user whom a master user wants to be.
    pub wanted: Option<String>,
    /// The master user, once his password was right.
    pub master: Option<String>,
    /// Passdb fields that the client may see.
    pub fields: Params,
    /// `userdb_…` fields, for the prefetch userdb; `None` if there was none.
    pub prefetched: Option<Params>,
    /// The password was right, so the user exists.
    pub proved: bool,
    /// Fields that steer the look-up itself.
    pub steer: Steer,
}

/// Passdb fields that are about the look-up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steer {
    pub password: Option<String>,
    pub no_password: bool,
    pub no_authenticate: bool,
    pub no_delay: bool,
    /// Why the entry does not count: `allow_nets`, `fail`.
    pub failed: Option<String>,
}

/// A field that cannot be; the text is for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadField(pub String);

impl Login {
    #[must_use]
    pub fn new(request: Request) -> Self {
        Self { request, ..Self::default() }
    }

    /// Takes the name that the client gave, and the user whom it wants to be, if another.
    ///
    /// # Errors
    ///
    /// [`BadName`]: the login fails.
    pub fn set_user(
        &mut self,
        realm: &Realm,
        typed: &str,
        wanted: Option<&str>,
    ) -> Result<(), BadName> {
        let (name, split) = username::split_master(realm, typed);
        self.typed = name.clone();
        self.named = true;
        self.user = username::normalise(realm, &name)?;
        self.wanted = match wanted.map(str::to_owned).or(split) {
            Some(wanted) => Some(username::normalise(realm, &wanted)?),
            None => None,
        };
        Ok(())
    }

    /// The value of a variable in templates.
    #[must_use]
    pub fn variable(&self, name: &str) -> String {
        let ip = |address: Option<IpAddr>| address.map(|ip| ip.to_string()).unwrap_or_default();
        let port = |port: Option<u16>| port.map(|port| port.to_string()).unwrap_or_default();
        let part = |of: &str, name: &str| username::name_variable(of, name);
        let request = &self.request;
        let wanted = self.wanted.as_deref().unwrap_or(&self.user);
        match name {
            "service" => request.service.clone(),
            "mech" => request.mechanism.clone(),
            "rip" | "real_rip" => ip(request.remote_address),
            "lip" | "real_lip" => ip(request.local_address),
            "rport" | "real_rport" => port(request.remote_port),
            "lport" | "real_lport" => port(request.local_port),
            "session" => request.session.clone().unwrap_or_default(),
            "local_name" => request.local_name.clone().unwrap_or_default(),
            "client_id" => request.client_id.clone().unwrap_or_default(),
            "pid" => std::process::id().to_string(),
            "secured" if request.secured != protocol::dovecot_auth::Secured::No => "secured".into(),
            "cert" if request.valid_client_cert => "valid".into(),
            "master_user" => self.master.clone().unwrap_or_default(),
            "login_user" => wanted.to_owned(),
            "login_username" => part("username", wanted),
            "login_domain" => part("domain", wanted),
            "orig_user" | "auth_user" => self.typed.clone(),
            "orig_username" | "auth_username" => part("username", &self.typed),
            "orig_domain" | "auth_domain" => part("domain", &self.typed),
            _ => username::name_variable(name, &self.user),
        }
    }

    /// Takes a field of a passdb.
    ///
    /// # Errors
    ///
    /// [`BadField`]: the entry is of no use.
    pub fn set_field(&mut self, name: &str, value: &str) -> Result<(), BadField> {
        let (name, suffix) = name.split_once(':').unwrap_or((name, ""));
        if suffix == "remove" {
            self.fields.remove(name);
            return Ok(());
        }
        if matches!(suffix, "protected" | "default") && self.fields.has(name) {
            return Ok(());
        }
        match name {
            "password" => self.steer.password = Some(value.to_owned()),
            "password_noscheme" => self.steer.password = Some(format!("{{PLAIN}}{value}")),
            "user" if !value.is_empty() => self.user = value.to_owned(),
            "username" => {
                let domain = username::name_variable("domain", &self.user);
                let at = if domain.is_empty() { "" } else { "@" };
                self.user = format!("{value}{at}{domain}");
            }
            "domain" => {
                let local = username::name_variable("username", &self.user);
                self.user = format!("{local}@{value}");
            }
            "login_user" => self.wanted = Some(value.to_owned()),
            "nopassword" => {
                if self
                    .steer
                    .password
                    .as_deref()
                    .is_some_and(|text| !without_scheme(text).is_empty())
                {
                    return Err(BadField("nopassword set but password is non-empty".into()));
                }
                self.steer.no_password = true;
            }
            "noauthenticate" => self.steer.no_authenticate = true,
            "fail" => self.steer.failed = Some("fail field is set".into()),
            "nodelay" => {
                self.steer.no_delay = true;
                self.add("nodelay", value);
            }
            "allow_nets" | "allow_real_nets" => {
                if let Err(why) = within(self.request.remote_address, value) {
                    self.steer.failed = Some(why);
                }
            }
            "delay_until" | "k5principals" => {
                return Err(BadField(format!("the field {name} is not supported")));
            }
            _ => match name.strip_prefix("userdb_") {
                Some(name) => self.prefetched.get_or_insert_default().set(name, value),
                None => self.add(name, value),
            },
        }
        Ok(())
    }

    /// Expands fields of the configuration and takes them.
    ///
    /// # Errors
    ///
    /// As [`Self::set_field`].
    pub fn set_fields(&mut self, fields: &[Field]) -> Result<(), BadField> {
        for field in fields {
            let value = field.value.expand(|variable| self.variable(variable));
            self.set_field(&field.name, &value)?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            self.fields.set_flag(name);
        } else {
            self.fields.set(name, value);
        }
    }

    /// The prefix of a log line: `driver(user,ip,<session>): `.
    #[must_use]
    pub fn prefix(&self, driver: &str) -> String {
        let user = if self.user.is_empty() { "?" } else { &self.user };
        let mut text = format!("{driver}({}", clean(user));
        if let Some(ip) = self.request.remote_address {
            text.push_str(&format!(",{ip}"));
        }
        if let Some(session) = &self.request.session {
            text.push_str(&format!(",<{}>", clean(session)));
        }
        text.push_str("): ");
        text
    }
}

/// Names come from the network: no line break or control byte of theirs gets into a log line.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(512).collect()
}

fn without_scheme(text: &str) -> &str {
    text.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or(text, |(_, hash)| hash)
}

/// `allow_nets`: addresses, networks and `local` for requests without an address.
fn within(address: Option<IpAddr>, nets: &str) -> Result<(), String> {
    let mut nets = nets.split([',', ' ']).filter(|net| !net.is_empty());
    let fits = match address {
        None => nets.any(|net| net == "local"),
        Some(address) => nets.any(|net| in_network(address, net)),
    };
    if fits {
        return Ok(());
    }
    Err(match address {
        Some(ip) => format!("allow_nets check failed: IP {ip} not in allowed networks"),
        None => "allow_nets check failed: Remote IP not known".into(),
    })
}

fn in_network(address: IpAddr, net: &str) -> bool {
    let (base, bits) = net.split_once('/').map_or((net, None), |(base, bits)| (base, Some(bits)));
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.map(str::parse::<u32>).transpose())
    else {
        return false;
    };
    let same = |a: u128, b: u128, width: u32| {
        let bits = bits.unwrap_or(width);
        bits <= width && (bits == 0 || a >> (width - bits) == b >> (width - bits))
    };
    match (address.to_canonical(), base.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        let request = Request { remote_address: "192.0.2.7".parse().ok(), ..Request::default() };
        Login { user: "bob@example.com".into(), ..Login::new(request) }
    }

    #[test]
    fn fields_do_what_dovecot_says() {
        let mut login = login();
        for (name, value) in [
            ("userdb_home", "/h"),
            ("nologin", "y"),
            ("reason", "later"),
            ("domain", "b.example"),
            ("nodelay", "yes"),
            ("reason:protected", "no"),
            ("host", "x"),
            ("host:remove", ""),
            ("password", "{PLAIN}x"),
            ("allow_nets", "10.0.0.0/8,192.0.2.0/24"),
        ] {
            login.set_field(name, value).unwrap();
        }
        assert_eq!(login.user, "bob@b.example");
        let shown: Vec<_> = login.fields.iter().collect();
        assert_eq!(
            shown,
            [("nologin", Some("y")), ("reason", Some("later")), ("nodelay", Some("yes"))]
        );
        assert_eq!(login.prefetched.as_ref().unwrap().get("home"), Some("/h"));
        assert_eq!(login.steer.failed, None);
        assert!(login.set_field("nopassword", "y").is_err());
    }

    #[test]
    fn addresses_outside_allow_nets_fail() {
        for (nets, fits) in [
            ("10.0.0.0/8", false),
            ("192.0.2.0/24", true),
            ("192.0.2.7", true),
            ("0.0.0.0/0", true),
            ("local", false),
            ("192.0.2.8/31", false),
            ("nonsense", false),
            ("192.0.2.0/99", false),
            ("2001:db8::/32", false),
        ] {
            let mut login = login();
            login.set_field("allow_nets", nets).unwrap();
            assert_eq!(login.steer.failed.is_none(), fits, "{nets}");
        }
        assert_eq!(within(None, "local,10.0.0.0/8"), Ok(()));
    }

    #[test]
    fn log_prefixes_hold_no_control_bytes() {
        let mut login = login();
        login.user = "a\nb".into();
        login.request.session = Some("s1".into());
        assert_eq!(login.prefix("pam"), "pam(a?b,192.0.2.7,<s1>): ");
    }
}
