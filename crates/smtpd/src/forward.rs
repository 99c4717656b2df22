//! XCLIENT and XFORWARD: another host says who the client is (Postfix's XCLIENT_README, XFORWARD_README).

use protocol::smtp::{Reply, is_host_name, parse_mail_host_address};

use crate::client::{Client, Forwarded, ForwardedClient, NameStatus, UNKNOWN};
use crate::session::Protocol;
use crate::text::neutral;

const UNAVAILABLE: &str = "[UNAVAILABLE]";
const TEMPORARY: &str = "[TEMPUNAVAIL]";

/// What XCLIENT changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Override {
    pub client: Option<Client>,
    pub helo: Option<String>,
    pub protocol: Option<Protocol>,
    pub login: Option<String>,
}

fn bad(what: &str, value: &str) -> Reply {
    Reply::new(501, format!("5.5.4 Bad {what} syntax: {value}"))
}

fn port(what: &str, value: &str) -> Result<Option<u16>, Reply> {
    if value.eq_ignore_ascii_case(UNAVAILABLE) {
        return Ok(None);
    }
    value.parse().map(Some).map_err(|_| bad(what, value))
}

/// A host name, or `unknown` when there is none.
fn name(what: &str, value: &str) -> Result<String, Reply> {
    if value.eq_ignore_ascii_case(UNAVAILABLE) || value.eq_ignore_ascii_case(TEMPORARY) {
        return Ok(UNKNOWN.to_owned());
    }
    if is_host_name(value) { Ok(value.to_owned()) } else { Err(bad(what, value)) }
}

fn status(value: &str) -> NameStatus {
    match value {
        _ if value.eq_ignore_ascii_case(UNAVAILABLE) => NameStatus::Absent,
        _ if value.eq_ignore_ascii_case(TEMPORARY) => NameStatus::Temporary,
        _ => NameStatus::Known,
    }
}

fn address(what: &str, value: &str) -> Result<Option<std::net::IpAddr>, Reply> {
    if value.eq_ignore_ascii_case(UNAVAILABLE) {
        return Ok(None);
    }
    parse_mail_host_address(value).map(Some).ok_or_else(|| bad(what, &neutral(value)))
}

/// Reads XCLIENT's attributes over the client as it is.
///
/// # Errors
///
/// The reply for an attribute that is wrong; nothing is changed then.
pub fn xclient(current: &Client, attributes: &[(String, String)]) -> Result<Override, Reply> {
    let mut client = current.clone();
    let mut change = Override::default();
    for (attribute, value) in attributes {
        match attribute.as_str() {
            "NAME" => {
                client.name = name("NAME", value)?;
                client.name_status = status(value);
                if client.name != UNKNOWN {
                    client.reverse_name.clone_from(&client.name);
                    client.reverse_status = NameStatus::Known;
                }
            }
            "REVERSE_NAME" => {
                client.reverse_name = name("REVERSE_NAME", value)?;
                client.reverse_status = status(value);
            }
            "ADDR" => client.address = address("ADDR", value)?,
            "PORT" => client.port = port("PORT", value)?,
            "DESTADDR" => client.server_address = address("DESTADDR", value)?,
            "DESTPORT" => client.server_port = port("DESTPORT", value)?,
            "HELO" if value.eq_ignore_ascii_case(UNAVAILABLE) => change.helo = None,
            "HELO" if value.len() > 255 => return Err(bad("HELO", value)),
            "HELO" => change.helo = Some(neutral(value)),
            "PROTO" if value.eq_ignore_ascii_case("SMTP") => change.protocol = Some(Protocol::Smtp),
            "PROTO" if value.eq_ignore_ascii_case("ESMTP") => {
                change.protocol = Some(Protocol::Esmtp);
            }
            "PROTO" => return Err(bad("PROTO", value)),
            "LOGIN" if value.eq_ignore_ascii_case(UNAVAILABLE) => {}
            "LOGIN" => change.login = Some(value.clone()),
            other => {
                return Err(Reply::new(501, format!("5.5.4 Bad XCLIENT attribute name: {other}")));
            }
        }
    }
    change.client = Some(client);
    Ok(change)
}

/// Takes XFORWARD's attributes, which only logs and headers of later stages see.
pub fn xforward(forwarded: &mut Forwarded, attributes: &[(String, String)]) -> Reply {
    match forward(forwarded, attributes) {
        Ok(()) => Reply::new(250, "2.0.0 Ok"),
        Err(reply) => reply,
    }
}

fn forward(forwarded: &mut Forwarded, attributes: &[(String, String)]) -> Result<(), Reply> {
    for (attribute, value) in attributes {
        let absent = value.eq_ignore_ascii_case(UNAVAILABLE);
        match attribute.as_str() {
            "IDENT" => forwarded.ident = (!absent).then(|| neutral(value)),
            "SOURCE" => {
                forwarded.domain = Some(match value.to_ascii_uppercase().as_str() {
                    "REMOTE" => "remote",
                    "LOCAL" => "local",
                    _ if absent => "local",
                    _ => return Err(bad("SOURCE", value)),
                });
            }
            "NAME" | "ADDR" | "PORT" | "HELO" | "PROTO" => {
                let client = forwarded.client.get_or_insert_with(ForwardedClient::default);
                forward_client(client, attribute, value, absent)?;
            }
            other => {
                return Err(Reply::new(501, format!("5.5.4 Bad XFORWARD attribute name: {other}")));
            }
        }
    }
    Ok(())
}

fn forward_client(
    client: &mut ForwardedClient,
    attribute: &str,
    value: &str,
    absent: bool,
) -> Result<(), Reply> {
    match attribute {
        "NAME" => client.name = name("NAME", &neutral_name(value))?,
        "ADDR" => client.address = address("ADDR", value)?,
        "PORT" => {
            client.port =
                port("PORT", value)?.map_or_else(|| UNKNOWN.to_owned(), |p| p.to_string());
        }
        "HELO" => client.helo = (!absent).then(|| neutral(value)),
        _ if absent => client.protocol = UNKNOWN.to_owned(),
        _ if value.len() > 64 => return Err(bad("PROTO", value)),
        _ => client.protocol = neutral(value),
    }
    Ok(())
}

/// Names may not be in the DNS, so only their characters matter.
fn neutral_name(value: &str) -> String {
    if value.starts_with('[') { value.to_owned() } else { neutral(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        Client {
            name: "localhost".into(),
            name_status: Default::default(),
            reverse_name: "localhost".into(),
            reverse_status: Default::default(),
            address: "127.0.0.1".parse().ok(),
            port: Some(4000),
            socket_address: None,
            server_address: None,
            server_port: None,
            log_port: false,
        }
    }

    fn attributes(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn xclient_replaces_the_client() {
        let change = xclient(
            &client(),
            &attributes(&[
                ("NAME", "spike.example"),
                ("ADDR", "IPv6:2001:db8::1"),
                ("PORT", "[UNAVAILABLE]"),
                ("PROTO", "esmtp"),
                ("HELO", "h<x>"),
                ("LOGIN", "bob"),
            ]),
        )
        .expect("good attributes");
        let client = change.client.expect("a client");
        assert_eq!(client.name_and_address(), "spike.example[2001:db8::1]");
        assert_eq!((client.port, change.helo.as_deref()), (None, Some("h?x?")));
        assert_eq!(
            (change.protocol, change.login.as_deref()),
            (Some(Protocol::Esmtp), Some("bob"))
        );
    }

    #[test]
    fn bad_attributes_are_refused() {
        for (name, value, text) in [
            ("NAME", "a b", "501 5.5.4 Bad NAME syntax: a b"),
            ("ADDR", "127.0.0", "501 5.5.4 Bad ADDR syntax: 127.0.0"),
            ("PORT", "x", "501 5.5.4 Bad PORT syntax: x"),
            ("PROTO", "LMTP", "501 5.5.4 Bad PROTO syntax: LMTP"),
            ("FOO", "x", "501 5.5.4 Bad XCLIENT attribute name: FOO"),
        ] {
            let reply = xclient(&client(), &attributes(&[(name, value)])).expect_err(name);
            assert_eq!(reply.to_string(), text);
        }
    }

    #[test]
    fn xforward_is_kept_for_logs() {
        let mut forwarded = Forwarded::default();
        let pairs = [("NAME", "n.example"), ("ADDR", "192.0.2.7"), ("IDENT", "ABC123")];
        assert!(xforward(&mut forwarded, &attributes(&pairs)).is_positive());
        let client = forwarded.client.expect("a client");
        assert_eq!(client.name_and_address(false), "n.example[192.0.2.7]");
        assert_eq!(forwarded.ident.as_deref(), Some("ABC123"));
    }
}
