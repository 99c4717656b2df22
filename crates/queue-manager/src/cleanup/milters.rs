//! Milters of a message: those that smtpd hands over in the middle of its session, or our own for mail that came
//! another way (`non_smtpd_milters`), for which cleanup plays the client.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use mail_types::quote_822;
use neighbours::milter::{Chain, Client, Response};
use protocol::postfix::cleanup::{CleanupFlags, CleanupStatus};
use protocol::postfix::milter::{Common, HandedMilter, MOST_MILTERS, acknowledgement};
use protocol::postfix::record::Record;
use protocol::postfix::{AttrError, status_reply};

use super::Service;
use super::message::Message;
use super::milter_edits::Edited;
use crate::ipc::{IpcError, Peer};

/// The filters of one message.
#[derive(Debug, Default)]
pub(crate) enum Milters {
    #[default]
    None,
    /// smtpd's, perhaps none of them: then our own are not asked either.
    Given(Chain),
    Own(Chain),
}

impl Milters {
    /// Our own, if the client of cleanup lets us ask them.
    pub fn own(service: &Arc<Service>, flags: CleanupFlags) -> Self {
        let settings = &service.settings.milters.filters;
        if settings.filters.is_empty() || !flags.contains(CleanupFlags::MILTER) {
            return Self::None;
        }
        Self::Own(Chain::new(settings, &service.ident, &service.shared.queue.root))
    }
}

/// Takes the filters that a record announces: their state as attributes, their sockets one by one.
pub(super) async fn receive(
    peer: &mut Peer<daemon::Stream>,
    record: &Record,
    ident: &str,
) -> Result<Chain, IpcError> {
    let text = String::from_utf8_lossy(&record.data).into_owned();
    let bad = || AttrError::Value { name: "milter count", value: text.chars().take(40).collect() };
    let count: usize = text.trim().parse().map_err(|_| bad())?;
    if count > MOST_MILTERS {
        return Err(bad().into());
    }
    let mut common = Common::default();
    let mut filters = Vec::new();
    for number in 0..count {
        let (first, milter) = HandedMilter::decode(&peer.list().await?)?;
        match first {
            Some(first) if number == 0 => common = first,
            None if number > 0 => {}
            _ => return Err(bad().into()),
        }
        peer.send(&acknowledgement()).await?;
        let socket = peer.socket().await?;
        peer.send(&acknowledgement()).await?;
        filters.push((milter, socket));
    }
    if count > 0 {
        peer.send(&status_reply(0)).await?;
    }
    Ok(Chain::received(common, filters, ident))
}

impl Message {
    /// Whether the file must be one that filters can edit.
    pub fn has_milters(&self) -> bool {
        !matches!(self.milters, Milters::None)
    }

    /// Whether filters are still asked.
    fn asks_milters(&self) -> bool {
        self.flags.contains(CleanupFlags::MILTER) && self.writes()
    }

    /// Our own filters hear of the client and of the sender.
    pub(super) async fn tell_sender(&mut self) {
        let Milters::Own(mut chain) = std::mem::take(&mut self.milters) else { return };
        if self.asks_milters() {
            self.tell_session(&mut chain).await;
        }
        self.milters = Milters::Own(chain);
    }

    async fn tell_session(&mut self, chain: &mut Chain) {
        // What is told of the client later does not change who it is to the filters.
        self.envelope.milter_client = Some(self.envelope.client.clone());
        let client = self.client();
        let values = self.macros(true, None);
        let values = |name: &str| values.get(name).cloned();
        if let Some(response) = chain.connect(&client, &values).await {
            self.obey("CONNECT", response);
            return;
        }
        let helo = self.told_client().get("helo_name").unwrap_or(&client.name).clone();
        if let Some(response) = chain.helo(&helo, &values).await {
            self.obey("EHLO", response);
            return;
        }
        let sender = self.external_sender();
        if let Some(response) = chain.mail(&sender, &[], &values).await {
            self.obey("MAIL", response);
        }
    }

    /// And of each recipient, which they cannot refuse: nobody is there to hear it.
    pub(super) async fn tell_recipient(&mut self, address: &str) {
        if !matches!(self.milters, Milters::Own(_)) || !self.asks_milters() {
            return;
        }
        let Milters::Own(mut chain) = std::mem::take(&mut self.milters) else { return };
        let recipient = if address.is_empty() { String::new() } else { quote_822(address) };
        let values = self.macros(true, Some(&recipient));
        let values = |name: &str| values.get(name).cloned();
        if let Some(response) = chain.rcpt(&recipient, &[], false, &values).await
            && self.obey("RCPT", response)
        {
            self.warn(
                "milter configuration error: can't reject recipient in non-smtpd(8) submission",
            );
            self.warn("message not accepted, try again later");
            "4.3.5 Server configuration error".clone_into(&mut self.reason);
            self.status.add(CleanupStatus::DEFER);
        }
        self.milters = Milters::Own(chain);
    }

    /// Shows the message to the filters and carries out what they want. The file is complete and written.
    pub async fn inspect(&mut self, file: File) {
        let (mut chain, own) = match std::mem::take(&mut self.milters) {
            Milters::None => return,
            Milters::Given(chain) => (chain, false),
            Milters::Own(chain) => (chain, true),
        };
        if self.asks_milters() {
            self.inspect_with(&mut chain, own, file).await;
        }
        self.milters = if own { Milters::Own(chain) } else { Milters::Given(chain) };
    }

    async fn inspect_with(&mut self, chain: &mut Chain, own: bool, file: File) {
        let recipient = self.envelope.last_recipient.as_deref().map(quote_822);
        let values = self.macros(own, recipient.as_deref());
        let values = |name: &str| values.get(name).cloned();
        if own && let Some(response) = chain.data(&values).await {
            self.obey("DATA", response);
            if !self.asks_milters() {
                return;
            }
        }
        let response = match Edited::new(self, file) {
            Ok(mut edited) => {
                let response = chain.message(&mut edited, &values).await;
                edited.end();
                response
            }
            Err(error) => {
                self.write_failed(&error);
                return;
            }
        };
        if let Some(response) = response {
            self.obey("END-OF-MESSAGE", response);
        }
    }

    /// Our own filters, to see the client go when all is over; smtpd's belong to smtpd.
    pub fn release_milters(&mut self) -> Option<Chain> {
        match std::mem::take(&mut self.milters) {
            Milters::Own(chain) => Some(chain),
            Milters::Given(_) | Milters::None => None,
        }
    }

    /// Carries out a filter's word on the message, with its line in the log. Whether it refuses something.
    fn obey(&mut self, event: &str, response: Response) -> bool {
        let decided = self.flags.contains(CleanupFlags::DISCARD) || !self.status.is_ok();
        if decided {
            return false;
        }
        let (action, text, refused) = match response {
            Response::Hold if self.flags.contains(CleanupFlags::HOLD) => return false,
            Response::Hold => {
                self.flags = self.flags.with(CleanupFlags::HOLD);
                ("milter-hold", "milter triggers HOLD action".to_owned(), false)
            }
            Response::Discard => {
                self.flags = self.flags.with(CleanupFlags::DISCARD);
                ("milter-discard", "milter triggers DISCARD action".to_owned(), false)
            }
            Response::Shutdown => {
                let text = self.refuse("421 4.7.0 Server closing connection");
                ("milter-reject", text, true)
            }
            Response::Reply(reply) => ("milter-reject", self.refuse(&reply), true),
        };
        let client = self.client_shown();
        let whose = self.whose();
        self.info(&format!("{action}: {event} from {client}: {text};{whose}"));
        refused
    }

    /// Sets status and reason; gives the text without its code.
    fn refuse(&mut self, reply: &str) -> String {
        let temporary = reply.starts_with('4');
        self.status.add(if temporary { CleanupStatus::DEFER } else { CleanupStatus::CONT });
        let text = reply.get(4..).unwrap_or_default();
        let shown = |sign: char| text.chars().map(move |c| if c.is_control() { sign } else { c });
        let smtp = self.flags.contains(CleanupFlags::SMTP_REPLY);
        self.reason = if smtp { reply.to_owned() } else { shown('_').collect() };
        shown('?').collect()
    }

    fn external_sender(&self) -> String {
        match self.envelope.sender.as_deref() {
            None | Some("") => String::new(),
            Some(sender) => quote_822(sender),
        }
    }

    fn told_client(&self) -> &BTreeMap<String, String> {
        self.envelope.milter_client.as_ref().unwrap_or(&self.envelope.client)
    }

    /// The client as smtpd has told it; other mail comes from here.
    fn client(&self) -> Client {
        let known = self.told_client();
        let address = known.get("client_address").and_then(|address| address.parse().ok());
        match (known.get("client_name"), address) {
            (Some(name), Some(address)) => {
                let port = known.get("client_port").and_then(|port| port.parse().ok());
                Client { name: name.clone(), address: Some(address), port: port.unwrap_or(0) }
            }
            _ => Client {
                name: "localhost".to_owned(),
                address: Some(std::net::Ipv4Addr::LOCALHOST.into()),
                port: 0,
            },
        }
    }

    fn client_shown(&self) -> String {
        let client = self.client();
        let address = client.address.map_or_else(String::new, |address| address.to_string());
        format!("{}[{address}]", client.name)
    }

    /// Every macro that has a value at this stage of a message.
    fn macros(&self, own: bool, recipient: Option<&str>) -> BTreeMap<&'static str, String> {
        let settings = &self.service.settings.milters;
        let client = self.client();
        let known = self.told_client();
        let mut values = BTreeMap::from([
            ("daemon_name", settings.daemon_name.clone()),
            ("v", settings.version.clone()),
            ("j", self.service.shared.myhostname.clone()),
            ("i", self.id.to_string()),
        ]);
        let address = client.address.map_or_else(String::new, |address| address.to_string());
        let reverse = known.get("reverse_client_name").unwrap_or(&client.name).clone();
        let forged =
            if reverse.eq_ignore_ascii_case(&client.name) { "" } else { " (may be forged)" };
        values.insert("_", format!("{reverse} [{address}]{forged}"));
        values.insert("client_ptr", reverse);
        values.insert("client_name", client.name);
        values.insert("client_port", client.port.to_string());
        let server = known.get("server_address").unwrap_or(&address).clone();
        values.insert("daemon_addr", server);
        values.insert("client_addr", address);
        let port = known.get("server_port").filter(|port| *port != "unknown");
        values.insert("daemon_port", port.map_or_else(|| "0".to_owned(), Clone::clone));
        for (name, attribute) in [
            ("auth_type", "sasl_method"),
            ("auth_authen", "sasl_username"),
            ("auth_author", "sasl_sender"),
        ] {
            values.extend(self.envelope.client.get(attribute).map(|value| (name, value.clone())));
        }
        if own {
            values.insert("mail_addr", self.external_sender());
            values.extend(recipient.map(|recipient| ("rcpt_addr", recipient.to_owned())));
        }
        values
    }
}
