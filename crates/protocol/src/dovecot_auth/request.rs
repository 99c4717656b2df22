//! What a server knows about a client that wants to log in: the parameters of `AUTH`.

use super::client_line::ProtocolError;
use super::escape::{escape_to, fields};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;

/// How the client's transport is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Secured {
    #[default]
    No,
    /// Not by TLS, but the peer is trusted (the same host, or `login_trusted_networks`). Postfix says
    /// this for TLS too.
    Trusted,
    Tls,
}

/// The parameters of one `AUTH`. Addresses that did not parse are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// In upper case.
    pub mechanism: String,
    /// `smtp`, `imap`, `pop3`, `lmtp`, …: picks the settings of `protocol … { }`.
    pub service: String,
    pub local_address: Option<IpAddr>,
    pub remote_address: Option<IpAddr>,
    pub local_port: Option<u16>,
    pub remote_port: Option<u16>,
    pub secured: Secured,
    pub valid_client_cert: bool,
    pub cert_username: Option<String>,
    pub no_penalty: bool,
    pub nologin: bool,
    /// For log lines.
    pub session: Option<String>,
    /// The name that the client asked for by SNI.
    pub local_name: Option<String>,
    pub client_id: Option<String>,
    /// The server's last data may come with `OK` instead of in a `CONT` of its own.
    pub final_resp_ok: bool,
    pub debug: bool,
    /// `None`: the client sent none, so the mechanism speaks first.
    pub initial_response: Option<Vec<u8>>,
}

/// The `resp=` of an `AUTH`, as far as it could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadBase64;

impl Request {
    /// Appends `AUTH`, its parameters and LF.
    pub fn write(&self, id: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("AUTH\t{id}\t").as_bytes());
        escape_to(&self.mechanism, out);
        let mut put = |name: &str, value: Option<&str>| {
            out.push(b'\t');
            out.extend_from_slice(name.as_bytes());
            if let Some(value) = value {
                out.push(b'=');
                escape_to(value, out);
            }
        };
        put("service", Some(&self.service));
        for (flag, name) in [
            (self.nologin, "nologin"),
            (self.no_penalty, "no-penalty"),
            (self.valid_client_cert, "valid-client-cert"),
            (self.final_resp_ok, "final-resp-ok"),
            (self.debug, "debug"),
        ] {
            if flag {
                put(name, None);
            }
        }
        match self.secured {
            Secured::No => {}
            Secured::Trusted => put("secured", None),
            Secured::Tls => put("secured", Some("tls")),
        }
        for (name, value) in [
            ("session", self.session.clone()),
            ("cert_username", self.cert_username.clone()),
            ("local_name", self.local_name.clone()),
            ("client_id", self.client_id.clone()),
            ("lip", self.local_address.map(|ip| ip.to_string())),
            ("rip", self.remote_address.map(|ip| ip.to_string())),
            ("lport", self.local_port.map(|port| port.to_string())),
            ("rport", self.remote_port.map(|port| port.to_string())),
        ] {
            if let Some(value) = value {
                put(name, Some(&value));
            }
        }
        if let Some(response) = &self.initial_response {
            // an empty response is `=`: `resp=` alone means "none" to protocol 1.1
            let encoded =
                if response.is_empty() { "=".to_owned() } else { STANDARD.encode(response) };
            put("resp", Some(&encoded));
        }
        out.push(b'\n');
    }

    /// Reads what follows `AUTH<TAB>id<TAB>` from a client of protocol minor version `minor`.
    pub(super) fn parse(
        rest: &[u8],
        minor: u32,
    ) -> Result<(Self, Result<(), BadBase64>), ProtocolError> {
        let mut fields = fields(rest);
        let mechanism = fields.next().unwrap_or_default().to_ascii_uppercase();
        let mut request = Self { mechanism, ..Self::default() };
        let mut response = None;
        for field in fields {
            if response.is_some() {
                return Err(ProtocolError::ParameterAfterResponse);
            }
            let (name, value) = field.split_once('=').unwrap_or((&field, ""));
            if name == "resp" {
                response = Some(value.to_owned());
            } else {
                request.set(name, value);
            }
        }
        if request.service.is_empty() {
            return Err(ProtocolError::NoService);
        }
        let decoded = match response.as_deref() {
            None => Ok(None),
            Some("=") => Ok(Some(Vec::new())),
            Some("") => Ok((minor >= 2).then(Vec::new)),
            Some(text) => decode(text).map(Some),
        };
        let outcome = decoded.map(|response| request.initial_response = response);
        Ok((request, outcome))
    }

    fn set(&mut self, name: &str, value: &str) {
        let text = || Some(value.to_owned());
        match name {
            // Dovecot 2.4 calls it protocol.
            "service" | "protocol" => self.service = value.to_owned(),
            "lip" => self.local_address = value.parse().ok(),
            "rip" => self.remote_address = value.parse().ok(),
            "lport" => self.local_port = value.parse().ok(),
            "rport" => self.remote_port = value.parse().ok(),
            "secured" if value == "tls" => self.secured = Secured::Tls,
            "secured" => self.secured = Secured::Trusted,
            "valid-client-cert" => self.valid_client_cert = true,
            "cert_username" => self.cert_username = text(),
            "no-penalty" => self.no_penalty = true,
            "nologin" => self.nologin = true,
            "session" => self.session = text(),
            "local_name" => self.local_name = text(),
            "client_id" => self.client_id = text(),
            "final-resp-ok" => self.final_resp_ok = true,
            "debug" => self.debug = true,
            _ => {} // a newer client's parameter: the protocol says to ignore it
        }
    }
}

/// Decodes base64 as the original does: padding is demanded, nothing may follow it.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, BadBase64> {
    STANDARD.decode(text).map_err(|_| BadBase64)
}
