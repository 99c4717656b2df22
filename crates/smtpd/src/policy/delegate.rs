//! `check_policy_service`: what a policy server is told, and what its answer does (Postfix's SMTPD_POLICY_README).

use std::fmt::Write as _;
use std::time::Duration;

use routing::TableName;
use serde::{Deserialize, Serialize};

use super::evaluate::{About, Evaluation, Outcome, Stop};
use super::{Subject, World};

/// What is done when a server's own default action cannot be had either.
const LAST_RESORT: &str = "451 4.3.5 Server configuration problem";

/// One policy server with its limits (`smtpd_policy_service_*`, or its own in braces).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyServer {
    pub endpoint: Endpoint,
    /// The endpoint without its type, as log lines have it.
    pub shown: String,
    pub timeout: Duration,
    pub max_idle: Duration,
    pub max_ttl: Duration,
    /// Requests over one connection; 0: any number.
    pub request_limit: u32,
    pub retry_delay: Duration,
    pub try_limit: u32,
    pub default_action: String,
    pub context: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Endpoint {
    Unix(std::path::PathBuf),
    Inet { host: String, port: u16 },
}

impl<W: World> Evaluation<'_, W> {
    pub(super) async fn delegated(
        &mut self,
        name: &str,
        about: About<'_>,
    ) -> Result<Outcome, Stop> {
        let settings = self.settings;
        let Some(server) = settings.policy_servers.get(name) else {
            self.warn(&format!("check_policy_service: no endpoint for {name}"));
            return Err(self.server_error());
        };
        let (answer, warnings) =
            self.world.ask_policy(server, &request(&self.subject, &server.context)).await;
        warnings.iter().for_each(|line| self.warn(line));
        let default = if self.delegating { LAST_RESORT } else { server.default_action.as_str() };
        let action = answer.as_deref().unwrap_or(default);
        let nested = std::mem::replace(&mut self.delegating, answer.is_none());
        let outcome = self.act(&TableName::new(name), action, about).await;
        self.delegating = nested;
        outcome
    }
}

/// The attributes in Postfix's order, one a line, ended by an empty line.
fn request(subject: &Subject<'_>, context: &str) -> String {
    let client = subject.client;
    let state = match subject.stage.name() {
        "BDAT" => "DATA",
        other => other,
    };
    let counted = matches!(state, "DATA" | "END-OF-MESSAGE");
    let login = subject.login;
    let encryption = subject.encryption;
    let mut text = String::from("request=smtpd_access_policy\n");
    let mut add = |name: &str, value: &str| {
        // Nothing that a client says may begin another line.
        let value: String = value.chars().filter(|c| !matches!(c, '\n' | '\0')).collect();
        let _ = writeln!(text, "{name}={value}");
    };
    add("protocol_state", state);
    add("protocol_name", subject.protocol);
    add("client_address", &client.address_text());
    add("client_name", &client.name);
    add("client_port", &client.port_text());
    add("reverse_client_name", &client.reverse_name);
    add("server_address", &client.server_address_text());
    add("server_port", &client.server_port_text());
    add("helo_name", subject.helo.unwrap_or_default());
    add("sender", subject.sender.unwrap_or_default());
    add("recipient", subject.recipient.unwrap_or_default());
    add("recipient_count", &if counted { subject.recipients } else { 0 }.to_string());
    add("queue_id", subject.queue_id.unwrap_or_default());
    add("instance", subject.instance);
    add("size", &subject.size.to_string());
    add("etrn_domain", subject.etrn.unwrap_or_default());
    add("stress", if subject.stress { "yes" } else { "" });
    add("sasl_method", login.map_or("", |login| &login.method));
    add("sasl_username", login.map_or("", |login| &login.user));
    add("sasl_sender", subject.sasl_sender.unwrap_or_default());
    for name in ["ccert_subject", "ccert_issuer", "ccert_fingerprint", "ccert_pubkey_fingerprint"] {
        add(name, "");
    }
    add("encryption_protocol", encryption.map_or("", |(protocol, _, _)| protocol));
    add("encryption_cipher", encryption.map_or("", |(_, cipher, _)| cipher));
    add("encryption_keysize", &encryption.map_or(0, |(_, _, bits)| bits).to_string());
    add("policy_context", context);
    text.push('\n');
    text
}
