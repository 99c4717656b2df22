//! Our Received header, line by line as Postfix writes it (RFC 5321 section 4.4).

use daemon::tls::Facts;
use mail_types::quote_822;

use crate::session::{Protocol, Session};
use crate::settings::Received;
use crate::text::comment;

/// The header for the message of this session, as `queue_id`, which arrived `seconds` after 1970.
#[must_use]
pub fn lines(
    session: &Session,
    settings: &Received,
    host: &str,
    tls: Option<&Facts>,
    queue_id: &str,
    seconds: i64,
) -> Vec<String> {
    let client = &session.client;
    let from = session.helo.as_deref().unwrap_or(&client.name);
    let mut lines = vec![format!("Received: from {from} ({} [{}])", client.name, client.literal())];
    if let Some(facts) = tls.filter(|_| settings.tls) {
        lines.push(format!("\t(using {}", session_of(facts)));
        match key_exchange(facts) {
            Some(exchange) => lines.push(format!("\t key-exchange {exchange})")),
            None => lines.iter_mut().last().into_iter().for_each(|line| line.push(')')),
        }
        lines.push("\t(No client certificate requested)".to_owned());
    }
    if let Some(login) = session.login.as_ref().filter(|_| settings.login) {
        lines.push(format!("\t(Authenticated sender: {})", comment(&login.user)));
    }
    let transaction = session.transaction();
    let smtputf8 = transaction.is_some_and(|transaction| transaction.mail.smtputf8);
    let by = format!(
        "\tby {host} ({}) with {} id {queue_id}",
        settings.mail_name,
        protocol(session, smtputf8)
    );
    let date = message::date::format_with_zone(seconds);
    let only = transaction
        .filter(|transaction| transaction.recipients == 1)
        .and_then(|transaction| transaction.first_recipient.as_deref());
    match only {
        Some(recipient) => {
            lines.push(by);
            lines.push(format!("\tfor <{}>; {date}", quote_822(recipient)));
        }
        None => {
            lines.push(format!("{by};"));
            lines.push(format!("\t{date}"));
        }
    }
    lines
}

/// `ESMTPSA` and its kin (RFC 3848).
fn protocol(session: &Session, smtputf8: bool) -> String {
    let word = if smtputf8 { "UTF8SMTP" } else { session.protocol.name() };
    let esmtp = session.protocol == Protocol::Esmtp;
    let tls = if esmtp && session.tls { "S" } else { "" };
    let login = if esmtp && session.login.is_some() { "A" } else { "" };
    format!("{word}{tls}{login}")
}

/// `TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)`
#[must_use]
pub fn session_of(facts: &Facts) -> String {
    let (bits, cipher) = (facts.bits, &facts.cipher);
    format!("{} with cipher {cipher} ({bits}/{bits} bits)", facts.version)
}

/// In OpenSSL's words: a curve stands in parentheses behind the method, X25519 is a method of its own. Only for
/// TLS 1.3; the name of an older cipher tells it.
#[must_use]
pub fn key_exchange(facts: &Facts) -> Option<String> {
    if facts.version != "TLSv1.3" {
        return None;
    }
    let group = facts.key_exchange.as_deref()?;
    Some(if group.starts_with("P-") { format!("ECDHE ({group})") } else { group.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, Login};
    use crate::session::{Dialogue, Offers};
    use protocol::smtp::Mail;

    fn session() -> Session {
        let client = Client {
            name: "localhost".into(),
            name_status: Default::default(),
            reverse_name: "localhost".into(),
            reverse_status: Default::default(),
            address: "2001:db8::1".parse().ok(),
            port: None,
            socket_address: None,
            server_address: None,
            server_port: None,
            log_port: false,
        };
        let dialogue = Dialogue {
            host: "mail.example".into(),
            helo_required: false,
            delay_reject: true,
            disable_vrfy: false,
            strict_envelopes: false,
            smtputf8: true,
            strict_smtputf8: false,
            broken_sasl_clients: false,
            size_limit: 0,
            recipient_limit: 1000,
            recipient_overshoot: 1000,
        };
        Session::new(client, dialogue, Offers::default())
    }

    #[test]
    fn one_recipient_is_named_several_are_not() {
        let mut session = session();
        session.greeted("client.example", true);
        session.tls = true;
        session.login = Some(Login { method: "PLAIN".into(), user: "bob)".into() });
        session.begin(Mail::default(), false);
        session.add_recipient("a b@c.example");
        let settings = Received { mail_name: "Postfix".into(), tls: true, login: true };
        let facts = Facts {
            version: "TLSv1.3",
            cipher: "TLS_AES_256_GCM_SHA384".into(),
            bits: 256,
            key_exchange: Some("P-256".into()),
            server_name: None,
            resumed: false,
        };
        let header = lines(&session, &settings, "mail.example", Some(&facts), "ABC", 0);
        assert_eq!(
            header[..6],
            [
                "Received: from client.example (localhost [IPv6:2001:db8::1])",
                "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)",
                "\t key-exchange ECDHE (P-256))",
                "\t(No client certificate requested)",
                "\t(Authenticated sender: bob?)",
                "\tby mail.example (Postfix) with ESMTPSA id ABC",
            ]
        );
        assert!(header[6].starts_with("\tfor <\"a b\"@c.example>; "), "{}", header[6]);
        session.add_recipient("d@e.example");
        let header = lines(&session, &settings, "mail.example", None, "ABC", 0);
        assert!(header[2].ends_with("with ESMTPSA id ABC;"), "{header:?}");
        assert_eq!(header.len(), 4);
    }
}
