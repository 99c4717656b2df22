//! MAIL and RCPT with the parameters that the server understands.

use mail_types::quote_822;
use protocol::postfix::Recipient;
use protocol::postfix::delivery::DeliveryRequest;
use protocol::smtp::xtext_encode;

use crate::session::Features;

/// The sender asked for SMTPUTF8, or headers or addresses need it.
const SMTPUTF8_REQUESTED: u32 = 1;

/// Whether the message can only go to a server with SMTPUTF8.
pub fn needs_smtputf8(request: &DeliveryRequest) -> bool {
    let flags = request.sendopts & 0xff;
    flags & SMTPUTF8_REQUESTED != 0 && flags & !SMTPUTF8_REQUESTED & 0x0e != 0
}

/// `XFORWARD` with what the server takes and we know: first who sent the message, then how.
pub fn xforward(request: &DeliveryRequest, features: &Features) -> [Option<String>; 2] {
    let client = &request.client;
    let known = |value: &str| !value.eq_ignore_ascii_case("unknown");
    let context = match client.rewrite_context.as_str() {
        "" => "",
        "local" => "LOCAL",
        _ => "REMOTE",
    };
    let line = |facts: &[(&str, &str)]| {
        let told = facts.iter().filter(|(name, value)| {
            !value.is_empty() && features.xforward.iter().any(|offered| offered == name)
        });
        let words: Vec<String> =
            told.map(|(name, value)| format!(" {name}={}", xtext_encode(value))).collect();
        (!words.is_empty()).then(|| format!("XFORWARD{}", words.concat()))
    };
    let sure = |value| if known(value) { value } else { "" };
    [
        line(&[
            ("NAME", sure(&client.name)),
            ("ADDR", sure(&client.address)),
            ("PORT", sure(&client.port)),
        ]),
        line(&[
            ("PROTO", sure(&client.protocol)),
            ("HELO", &client.helo),
            ("IDENT", &client.log_ident),
            ("SOURCE", context),
        ]),
    ]
}

/// How addresses are written.
#[derive(Clone, Copy)]
pub struct Writing {
    pub quote: bool,
}

impl Writing {
    fn address(self, address: &str) -> String {
        if self.quote && !address.is_empty() { quote_821(address) } else { address.to_owned() }
    }

    /// `sender` may have been rewritten. `downgrading`: the content is going to change its size.
    pub fn mail(
        self,
        sender: &str,
        request: &DeliveryRequest,
        features: &Features,
        downgrading: bool,
        dummy_auth: bool,
    ) -> String {
        let mut line = format!("MAIL FROM:<{}>", self.address(sender));
        if features.size && !downgrading {
            line.push_str(&format!(" SIZE={}", request.size));
        }
        if features.eight_bit {
            match request.encoding.as_str() {
                "8bit" => line.push_str(" BODY=8BITMIME"),
                "7bit" => line.push_str(" BODY=7BIT"),
                _ => {}
            }
        }
        if features.dsn {
            if !request.envelope_id.is_empty() {
                line.push_str(&format!(" ENVID={}", xtext_encode(&request.envelope_id)));
            }
            match request.ret {
                1 => line.push_str(" RET=FULL"),
                2 => line.push_str(" RET=HDRS"),
                _ => {}
            }
        }
        if features.smtputf8 && request.sendopts & SMTPUTF8_REQUESTED != 0 {
            line.push_str(" SMTPUTF8");
        }
        if dummy_auth {
            line.push_str(" AUTH=<>");
        }
        line
    }

    /// `address` may have been rewritten.
    pub fn rcpt(
        self,
        address: &str,
        recipient: &Recipient,
        request: &DeliveryRequest,
        features: &Features,
    ) -> String {
        let mut line = format!("RCPT TO:<{}>", self.address(address));
        if !features.dsn {
            return line;
        }
        if let Some(original) = original(recipient, request) {
            line.push_str(&format!(" ORCPT={original}"));
        }
        let notify = mail_types::Notify::from_bits(recipient.notify).unwrap_or_default();
        if !notify.is_none() {
            line.push_str(&format!(" NOTIFY={notify}"));
        }
        line
    }
}

/// `rfc822;user@example.com`, coded as its type wants it.
fn original(recipient: &Recipient, request: &DeliveryRequest) -> Option<String> {
    let text = match recipient.dsn_original.as_str() {
        "" if recipient.original.is_empty() => return None,
        "" => {
            let quoted = quote_822(&recipient.original);
            let utf8 = request.sendopts != 0 && !quoted.is_ascii();
            format!("{};{quoted}", if utf8 { "utf-8" } else { "rfc822" })
        }
        text => text.to_owned(),
    };
    let is_utf8 = text.get(..6).is_some_and(|kind| kind.eq_ignore_ascii_case("utf-8;"));
    if !is_utf8 {
        return Some(xtext_encode(&text));
    }
    let mut coded = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '+' | '=' | '\\' | '\0'..=' ' | '\x7f' => {
                coded.push_str(&format!("\\x{{{:02X}}}", u32::from(c)));
            }
            c => coded.push(c),
        }
    }
    Some(coded)
}

/// RFC 5321's form: the local part in quotes where it is no dot-string.
fn quote_821(address: &str) -> String {
    let (local, domain) = match address.rfind('@') {
        Some(at) => address.split_at(at),
        None => (address, ""),
    };
    let special = |c: char| {
        matches!(c, ' ' | '<' | '>' | '(' | ')' | '[' | ']' | '\\' | ',' | ';' | ':' | '@' | '"')
            || c.is_ascii_control()
    };
    let plain = !local.is_empty()
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..")
        && !local.contains(special);
    if plain {
        return address.to_owned();
    }
    let mut quoted = String::with_capacity(address.len() + 4);
    quoted.push('"');
    for c in local.chars() {
        if matches!(c, '\r' | '\n' | '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted.push_str(domain);
    quoted.replace(['\r', '\n'], "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_types::QueueId;
    use protocol::postfix::MsgStats;
    use protocol::postfix::delivery::ClientFacts;

    fn request() -> DeliveryRequest {
        DeliveryRequest {
            flags: 3,
            queue_name: "active".into(),
            queue_id: QueueId::parse("640A99A4A51").unwrap(),
            data_offset: 0,
            size: 1234,
            nexthop: "example.org".into(),
            encoding: "8bit".into(),
            sendopts: 0,
            sender: "a@example.com".into(),
            envelope_id: "id+1".into(),
            ret: 2,
            stats: MsgStats::default(),
            client: ClientFacts::default(),
            recipients: Vec::new(),
        }
    }

    const WRITING: Writing = Writing { quote: true };

    #[test]
    fn parameters_are_those_the_server_knows() {
        let all = Features {
            size: true,
            eight_bit: true,
            dsn: true,
            smtputf8: true,
            ..Features::default()
        };
        let request = request();
        assert_eq!(
            WRITING.mail("a@example.com", &request, &all, false, true),
            "MAIL FROM:<a@example.com> SIZE=1234 BODY=8BITMIME ENVID=id+2B1 RET=HDRS AUTH=<>"
        );
        let utf8 = DeliveryRequest { sendopts: 1, ..request.clone() };
        assert!(WRITING.mail("", &utf8, &all, true, false).ends_with("RET=HDRS SMTPUTF8"));
        let none = Features::default();
        assert_eq!(WRITING.mail("", &request, &none, false, false), "MAIL FROM:<>");
        let recipient = Recipient {
            original: "b c@example.org".into(),
            address: "b@example.org".into(),
            notify: 6,
            ..Recipient::default()
        };
        assert_eq!(
            WRITING.rcpt("b@example.org", &recipient, &request, &all),
            "RCPT TO:<b@example.org> ORCPT=rfc822;\"b+20c\"@example.org NOTIFY=SUCCESS,FAILURE"
        );
        assert_eq!(
            WRITING.rcpt("b@example.org", &recipient, &request, &none),
            "RCPT TO:<b@example.org>"
        );
    }

    #[test]
    fn local_parts_are_quoted_where_they_must() {
        for (internal, external) in [
            ("a.b@c", "a.b@c"),
            ("a b@c", "\"a b\"@c"),
            (".a@c", "\".a\"@c"),
            ("a@b@c", "\"a@b\"@c"),
            ("a\"b@c", "\"a\\\"b\"@c"),
            ("@c", "\"\"@c"),
            ("jörg@c", "jörg@c"),
        ] {
            assert_eq!(quote_821(internal), external);
        }
    }

    #[test]
    fn smtputf8_is_needed_only_where_something_is_utf8() {
        for (flags, needed) in [(0, false), (1, false), (2, false), (3, true), (9, true)] {
            assert_eq!(needs_smtputf8(&DeliveryRequest { sendopts: flags, ..request() }), needed);
        }
    }
}
