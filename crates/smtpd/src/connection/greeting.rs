//! The beginning of a conversation: limits, offers, restrictions on the client, and the banner.

use std::time::Instant;

use config::postfix::Pattern;
use routing::{Key, TableName, Tables};

use super::{Conversation, End, Question, Step, Where};
use crate::anvil::Event;
use crate::forward;
use crate::keywords::Discarded;
use crate::policy::{AddressList, Verdict};
use crate::session::{Offers, Protocol};
use crate::settings::TlsLevel;

impl Conversation {
    /// `first`: a new connection, not an XCLIENT.
    pub(super) async fn greet(&mut self, first: bool) -> Step {
        self.make_offers(first).await?;
        if !self.service().tls.wrapper && first && self.service().screen.is_none() {
            self.look_for_pipelining("CONNECT").await?;
        }
        self.count_connection().await?;
        if !self.service().policy.delay_reject {
            let verdict = self.check(Question::Client).await;
            match verdict {
                Verdict::Pass => {}
                Verdict::HangUp => return Err(End::Closed),
                Verdict::Refuse(reply) => {
                    self.denied = true;
                    self.errors += 1;
                    return self.reply(reply).await;
                }
            }
        }
        if let Some(reply) = self.tell_connect().await {
            self.errors += u32::from(reply.code() != 421);
            return self.reply(reply).await;
        }
        let banner = self.service().banner.clone();
        self.say(220, banner).await?;
        Ok(())
    }

    async fn holds(&self, list: &AddressList) -> Result<bool, End> {
        let client = &self.session.client;
        match list.holds(&*self.context.tables, &client.name, client.address).await {
            Ok(holds) => Ok(holds),
            Err(error) => {
                self.log(&format!("warning: {error}"));
                Err(End::Closed)
            }
        }
    }

    /// What this client may use. XFORWARD's authorisation is that of the real client, so XCLIENT keeps it.
    async fn make_offers(&mut self, first: bool) -> Step {
        let service = self.service().clone();
        let xforward = if first {
            self.holds(&service.xforward_hosts).await?
        } else {
            self.session.offers.xforward
        };
        let offers = Offers {
            starttls: service.tls.level != TlsLevel::None && !service.tls.wrapper,
            tls_required: service.tls.level == TlsLevel::Encrypt,
            xclient: self.holds(&service.xclient_hosts).await?,
            xforward,
            discarded: self.discarded_keywords().await,
            ..Offers::default()
        };
        self.session.offers = offers;
        self.refuses_bare_lf =
            service.bare_newline.reject && !self.holds(&service.bare_newline.exclusions).await?;
        self.offer_auth().await
    }

    async fn discarded_keywords(&self) -> Discarded {
        let service = self.service();
        let key = self.session.client.address_text();
        let found =
            service.discard_keyword_maps.find(&*self.context.tables, &key, Key::Whole).await;
        match found {
            Ok(Some(words)) => Discarded::parse(words.split([' ', ',', '\t'])),
            Ok(None) => service.discard_keywords.clone(),
            Err(error) => {
                self.log(&format!("warning: {error}"));
                service.discard_keywords.clone()
            }
        }
    }

    /// Counts the client, unless it is trusted, and refuses it when it is too many.
    async fn count_connection(&mut self) -> Step {
        let service = self.service().clone();
        let (rates, name) = (&service.rates, &service.name);
        self.counted = None;
        let Some(address) = self.session.client.address else { return Ok(()) };
        if self.session.offers.xclient || self.holds(&rates.exceptions).await? {
            return Ok(());
        }
        let counted = self.context.anvil.connect(name, address, rates.window, Instant::now());
        let (concurrent, rate) = (counted.concurrent, counted.rate);
        self.counted = Some(counted);
        let too_many = if over(concurrent, rates.connection_count) {
            format!("Connection concurrency limit exceeded: {concurrent}")
        } else if over(rate, rates.connection_rate) {
            format!("Connection rate limit exceeded: {rate}")
        } else {
            return Ok(());
        };
        self.log(&format!("warning: {too_many} from {} for service {name}", self.client()));
        let text = format!("4.7.0 {} Error: too many connections from {address}", self.host());
        self.say(421, text).await?;
        Err(End::Closed)
    }

    /// Counts an event of a client that is not trusted: how many there were, when that is beyond `limit`.
    pub(super) fn too_many(&self, event: Event, limit: u32) -> Option<u32> {
        let counted = self.counted.as_ref().filter(|_| limit > 0)?;
        Some(counted.count(event, Instant::now())).filter(|&rate| over(rate, limit))
    }

    pub(super) async fn xclient(&mut self, attributes: &[(String, String)]) -> Result<bool, End> {
        let change = match forward::xclient(&self.session.client, attributes) {
            Ok(change) => change,
            Err(reply) => {
                self.reply(reply).await?;
                return Ok(true);
            }
        };
        self.quit_milters().await;
        self.tell_postmaster(None).await;
        let client = change.client.unwrap_or_else(|| self.session.client.clone());
        self.session.became(client, change.helo, change.protocol.unwrap_or(Protocol::Smtp));
        self.reset();
        self.session.login = change.login.map(|user| crate::client::Login {
            method: "XCLIENT".to_owned(),
            user: crate::text::printable(&user, '?'),
        });
        self.place = Where::Command(protocol::smtp::Verb::XClient);
        self.choose_milters().await;
        self.greet(false).await?;
        Ok(false)
    }

    /// Words that no mail program says: `GET`, header lines, whatever `smtpd_forbidden_commands` names.
    pub(super) async fn is_forbidden(&self, word: &str) -> bool {
        if crate::text::is_header_line(word) {
            return true;
        }
        for item in &self.service().forbidden_commands {
            let hit = match &item.pattern {
                Pattern::Text(text) => text.eq_ignore_ascii_case(word),
                Pattern::Table(table) => {
                    let table = TableName::new(table.to_string());
                    let found = self.context.tables.lookup(&table, word, Key::Whole).await;
                    found.is_ok_and(|found| found.is_some()) // not critical
                }
                Pattern::Network(_) | Pattern::File(_) => false,
            };
            if hit {
                return !item.negated;
            }
        }
        false
    }
}

pub(super) fn over(count: u32, limit: u32) -> bool {
    limit > 0 && count > limit
}
