//! The words behind `argv=`: `${sender}` and the like, and one word per recipient where it names one.

use mail_types::quote_822;
use protocol::postfix::Recipient;
use protocol::postfix::delivery::DeliveryRequest;
use routing::split_extension;

use super::settings::PipeSettings;

/// Macros whose word comes once for each recipient.
const OF_RECIPIENTS: [&str; 6] =
    ["recipient", "original_recipient", "user", "extension", "mailbox", "domain"];

/// What the macros of one request stand for.
pub struct Values<'r> {
    settings: &'r PipeSettings,
    delimiter: &'r str,
    request: &'r DeliveryRequest,
}

/// A piece of a word.
enum Piece<'t> {
    Text(&'t str),
    Macro(&'t str),
}

impl<'r> Values<'r> {
    pub fn new(
        settings: &'r PipeSettings,
        delimiter: &'r str,
        request: &'r DeliveryRequest,
    ) -> Self {
        Self { settings, delimiter, request }
    }

    /// # Errors
    ///
    /// The name of a macro that there is not.
    pub fn expand(&self, words: &[String]) -> Result<Vec<String>, String> {
        let mut expanded = Vec::new();
        for word in words {
            let pieces = pieces(word);
            let named = |piece: &Piece<'_>| match piece {
                Piece::Macro(name) => OF_RECIPIENTS.contains(name),
                Piece::Text(_) => false,
            };
            if pieces.iter().any(named) {
                for recipient in &self.request.recipients {
                    expanded.push(self.join(&pieces, recipient)?);
                }
            } else {
                expanded.push(self.join(&pieces, &Recipient::default())?);
            }
        }
        Ok(expanded)
    }

    fn join(&self, pieces: &[Piece<'_>], recipient: &Recipient) -> Result<String, String> {
        let mut word = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => word.push_str(text),
                Piece::Macro(name) => {
                    word += &self.value(name, recipient).ok_or_else(|| (*name).to_owned())?;
                }
            }
        }
        Ok(word)
    }

    fn value(&self, name: &str, recipient: &Recipient) -> Option<String> {
        let (request, client) = (self.request, &self.request.client);
        let parts = || Parts::new(&self.folded(&recipient.address), self.delimiter);
        Some(match name {
            "recipient" => self.morphed(&recipient.address),
            "original_recipient" => self.morphed(&recipient.original),
            "user" => parts().user,
            "extension" => parts().extension,
            "mailbox" => parts().mailbox,
            "domain" => parts().domain,
            "sender" => match request.sender.as_str() {
                "" => self.quoted(&self.settings.null_sender),
                sender => self.quoted(sender),
            },
            "nexthop" if self.settings.fold_host => request.nexthop.to_lowercase(),
            "nexthop" => request.nexthop.clone(),
            "size" => request.size.to_string(),
            "client_address" => client.address.clone(),
            "client_hostname" => client.name.clone(),
            "client_port" => client.port.clone(),
            "client_protocol" => client.protocol.clone(),
            "client_helo" => client.helo.clone(),
            "sasl_method" => client.sasl_method.clone(),
            "sasl_username" => client.sasl_username.clone(),
            "sasl_sender" => client.sasl_sender.clone(),
            "queue_id" => request.queue_id.to_string(),
            "envid" => request.envelope_id.clone(),
            _ => return None,
        })
    }

    fn quoted(&self, address: &str) -> String {
        if self.settings.quote_addresses && !address.is_empty() {
            quote_822(address)
        } else {
            address.to_owned()
        }
    }

    fn morphed(&self, address: &str) -> String {
        self.folded(&self.quoted(address))
    }

    fn folded(&self, address: &str) -> String {
        let (local, domain) = match address.rsplit_once('@') {
            Some((local, domain)) => (local, Some(domain)),
            None => (address, None),
        };
        let fold =
            |text: &str, fold: bool| if fold { text.to_lowercase() } else { text.to_owned() };
        let local = fold(local, self.settings.fold_user);
        match domain {
            Some(domain) => format!("{local}@{}", fold(domain, self.settings.fold_host)),
            None => local,
        }
    }
}

/// An address, taken apart.
struct Parts {
    user: String,
    extension: String,
    mailbox: String,
    domain: String,
}

impl Parts {
    fn new(address: &str, delimiter: &str) -> Self {
        let (mailbox, domain) = address.rsplit_once('@').unwrap_or((address, ""));
        let (user, extension) = match split_extension(mailbox, delimiter) {
            Some((user, rest)) => (user, rest.chars().skip(1).collect()),
            None => (mailbox, String::new()),
        };
        Self {
            user: user.to_owned(),
            extension,
            mailbox: mailbox.to_owned(),
            domain: domain.to_owned(),
        }
    }
}

/// Takes a word apart: `$name`, `${name}`, `$(name)`, `$$`. There are no conditions here.
fn pieces(word: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        pieces.push(Piece::Text(&rest[..at]));
        rest = &rest[at + 1..];
        let close = match rest.chars().next() {
            Some('{') => '}',
            Some('(') => ')',
            Some('$') => {
                pieces.push(Piece::Text("$"));
                rest = &rest[1..];
                continue;
            }
            _ => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let end = end.unwrap_or(rest.len());
                pieces.push(Piece::Macro(&rest[..end]));
                rest = &rest[end..];
                continue;
            }
        };
        let (inner, after) = rest[1..].split_once(close).unwrap_or((&rest[1..], ""));
        pieces.push(Piece::Macro(inner));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_once_or_for_each_recipient() {
        let settings = PipeSettings {
            fold_user: true,
            fold_host: true,
            quote_addresses: true,
            null_sender: "MAILER-DAEMON".into(),
            ..PipeSettings::default()
        };
        let recipient =
            |address: &str| Recipient { address: address.into(), ..Recipient::default() };
        let request = DeliveryRequest {
            nexthop: "Next.Example".into(),
            size: 42,
            recipients: vec![recipient("A+X@B.c"), recipient("d e@f")],
            flags: 0,
            queue_name: "active".into(),
            queue_id: mail_types::QueueId::parse("3F0C11").unwrap(),
            data_offset: 0,
            encoding: String::new(),
            sendopts: 0,
            sender: String::new(),
            envelope_id: String::new(),
            ret: 0,
            stats: protocol::postfix::MsgStats::default(),
            client: protocol::postfix::delivery::ClientFacts::default(),
        };
        let values = Values::new(&settings, "+", &request);
        let words = |words: &[&str]| {
            values.expand(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(
            words(&["x", "-f", "$sender", "${recipient}", "$size/$nexthop",]),
            Ok(["x", "-f", "MAILER-DAEMON", "a+x@b.c", "\"d e\"@f", "42/next.example"]
                .map(str::to_owned)
                .to_vec())
        );
        assert_eq!(
            words(&["$user,$extension,$mailbox,$(domain)$$"]),
            Ok(["a,x,a+x,b.c$", "d e,,d e,f$"].map(str::to_owned).to_vec())
        );
        for unknown in ["nope", "size?is"] {
            assert_eq!(words(&[&format!("${{{unknown}}}")]), Err(unknown.to_owned()));
        }
    }
}
