//! Telling whom it concerns what became of a recipient: the bounce, defer, trace, verify and flush services, and the log.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mail_types::{Class, EnhancedStatus, Timestamp, quote_822};
use neighbours::attributes::{AttrIoError, AttrStream};
use neighbours::bounce::{BounceClient, Report};
use neighbours::flush::FlushClient;
use protocol::postfix::attr::AttrWriter;
use protocol::postfix::delivery::{DeliveryRequest, flags};
use protocol::postfix::{Dialect, Dsn, MsgStats, Recipient, protocols, read_greeting, read_status};
use routing::{Key, Maps};
use tables::Set;

use crate::settings::ServiceSettings;

/// Bits of `notify_flags`.
const NOTIFY_SUCCESS: u32 = 2;
const NOTIFY_DELAY: u32 = 8;

/// `recipient_status` of the verify service.
const DELIVERABLE: u32 = 0;
const DEFERRED: u32 = 1;
const BOUNCED: u32 = 2;

/// The reports of one service.
pub struct Reporter {
    client: BounceClient,
    flush: FlushClient,
    verify: std::path::PathBuf,
    dialect: Dialect,
    patience: Duration,
    pub ident: String,
    soft_bounce: bool,
    negative_cache: bool,
    filter: Option<StatusFilter>,
}

/// `smtp_delivery_status_filter`: other words for what became of a recipient.
struct StatusFilter {
    tables: Arc<Set>,
    maps: Maps,
    name: &'static str,
}

/// One delivery as reports see it.
#[derive(Clone, Copy)]
pub struct About<'a> {
    pub request: &'a DeliveryRequest,
    pub stats: &'a MsgStats,
    pub recipient: &'a Recipient,
    /// `mx[192.0.2.1]:25`, or `none`.
    pub relay: &'a str,
}

impl About<'_> {
    fn trace_bits(&self) -> u32 {
        self.request.flags & flags::TRACE_MASK
    }
}

impl Reporter {
    pub fn new(settings: &ServiceSettings) -> Self {
        let [bounce, defer, trace] = &settings.reports;
        let private = settings.queue.root.join("private");
        let dialect = Dialect::of_version(&settings.mail_version).unwrap_or_default();
        let patience = settings.ipc_timeout;
        let flush = settings.queue.root.join("public").join(&settings.flush);
        Self {
            client: BounceClient::new(&private, [bounce, defer, trace], dialect, patience),
            flush: FlushClient::new(flush, dialect, patience),
            verify: private.join(&settings.verify),
            dialect,
            patience,
            ident: settings.ident.clone(),
            soft_bounce: settings.soft_bounce,
            negative_cache: settings.negative_cache,
            filter: None,
        }
    }

    #[must_use]
    pub fn filtered(mut self, tables: &Arc<Set>, settings: &ServiceSettings) -> Self {
        let maps = settings.status_filter.clone();
        let name = match settings.lmtp {
            true => "lmtp_delivery_status_filter",
            false => "smtp_delivery_status_filter",
        };
        self.filter =
            (!maps.is_empty()).then(|| StatusFilter { tables: Arc::clone(tables), maps, name });
        self
    }

    /// The outcome with the status and the words that the filter has for it.
    async fn seen_through_filter(&self, dsn: Dsn) -> Dsn {
        let Some(filter) = &self.filter else { return dsn };
        let key = format!("{} {}", dsn.status, dsn.reason);
        let new = match filter.maps.find(&filter.tables, &key, Key::Whole).await {
            Ok(Some(new)) => new,
            Ok(None) => return dsn,
            Err(error) => {
                self.note(&format!("warning: {error}"));
                return dsn;
            }
        };
        let good = dsn.status.starts_with('2');
        match EnhancedStatus::prefix_of(&new) {
            Some((status, text)) if good == (status.class() == Class::Success) => {
                let reason = if text.is_empty() { dsn.reason } else { text.to_owned() };
                Dsn { status: status.to_string(), reason, ..dsn }
            }
            _ => {
                self.note(&format!("warning: {}: bad status code: {new}", filter.name));
                dsn
            }
        }
    }

    /// The recipient got it; whether it is done.
    pub async fn sent(&self, about: About<'_>, mut dsn: Dsn) -> bool {
        if !dsn.status.starts_with('2') {
            dsn.status = "2.0.0".to_owned();
        }
        let dsn = self.seen_through_filter(dsn).await;
        let bits = about.trace_bits();
        if bits & flags::MTA_VERIFY != 0 {
            return self.verified(about, &dsn, DELIVERABLE).await;
        }
        if bits & flags::USER_VERIFY != 0 {
            return self.tried(about, &dsn, "deliverable").await;
        }
        let notify = about.recipient.notify;
        let record = about.request.flags & flags::RECORD != 0
            || (about.request.flags & flags::DELAY_SENT != 0
                && (notify == 0 || notify & NOTIFY_DELAY != 0));
        let wanted = usize::from(record) + usize::from(notify & NOTIFY_SUCCESS != 0);
        for _ in 0..wanted {
            if !self.trace(about, &dsn).await {
                let reason = format!("{}: trace service failed", about.request.queue_id);
                return self.delayed(about, Dsn::local("4.3.0", "delayed", &reason)).await;
            }
        }
        self.log(about, &dsn, "sent");
        true
    }

    /// The recipient will never get it, or is to be tried again, unless the filter says the other; whether it is done.
    pub async fn failed(&self, about: About<'_>, dsn: Dsn) -> bool {
        let dsn = self.seen_through_filter(dsn).await;
        match dsn.status.starts_with('4') {
            true => self.delayed(about, dsn).await,
            false => self.bounced(about, dsn).await,
        }
    }

    async fn bounced(&self, about: About<'_>, mut dsn: Dsn) -> bool {
        let bits = about.trace_bits();
        if bits & flags::MTA_VERIFY != 0 {
            return self.verified(about, &dsn, BOUNCED).await;
        }
        if bits & flags::USER_VERIFY != 0 {
            return self.tried(about, &dsn, "undeliverable").await;
        }
        let (to, action, word) = match self.soft_bounce {
            true => (Report::Defer, "delayed", "SOFTBOUNCE"),
            false => (Report::Bounce, "failed", "bounced"),
        };
        if self.soft_bounce {
            dsn.status.replace_range(..1, "4");
        }
        dsn.action = action.to_owned();
        let appended = self.append(to, about, &dsn).await;
        if appended && (bits & flags::RECORD == 0 || self.trace(about, &dsn).await) {
            self.log(about, &dsn, word);
            return !self.soft_bounce;
        }
        let failed = Dsn::local("4.3.0", "delayed", "bounce or trace service failure");
        self.delayed(about, failed).await
    }

    /// Never done, but for probes.
    async fn delayed(&self, about: About<'_>, mut dsn: Dsn) -> bool {
        let bits = about.trace_bits();
        if bits & flags::MTA_VERIFY != 0 {
            return self.verified(about, &dsn, DEFERRED).await;
        }
        if bits & flags::USER_VERIFY != 0 {
            return self.tried(about, &dsn, "undeliverable").await;
        }
        dsn.action = "delayed".to_owned();
        self.append(Report::Defer, about, &dsn).await;
        self.log(about, &dsn, "deferred");
        if bits & flags::RECORD != 0 {
            self.trace(about, &dsn).await;
        }
        self.flush.add(&about.recipient.address, &about.request.queue_id).await;
        false
    }

    async fn append(&self, to: Report, about: About<'_>, dsn: &Dsn) -> bool {
        let id = &about.request.queue_id;
        match self.client.append(to, about.trace_bits(), id, about.recipient, dsn).await {
            Ok(()) => true,
            Err(error) => {
                let service = match to {
                    Report::Bounce => "bounce",
                    Report::Defer => "defer",
                    Report::Trace => "trace",
                };
                self.warn(about.request, &format!("{service} service failure: {error}"));
                false
            }
        }
    }

    async fn trace(&self, about: About<'_>, dsn: &Dsn) -> bool {
        let mut dsn = dsn.clone();
        if about.relay != "none" {
            dsn.reason = format!("delivery via {}: {}", about.relay, dsn.reason);
        }
        self.append(Report::Trace, about, &dsn).await
    }

    /// What `sendmail -bv` asked for.
    async fn tried(&self, about: About<'_>, dsn: &Dsn, word: &str) -> bool {
        let dsn = Dsn { action: word.to_owned(), ..dsn.clone() };
        if self.trace(about, &dsn).await {
            self.log(about, &dsn, word);
            return true;
        }
        false
    }

    /// A probe's outcome, for the verify service.
    async fn verified(&self, about: About<'_>, dsn: &Dsn, status: u32) -> bool {
        let word = if status == DELIVERABLE { "deliverable" } else { "undeliverable" };
        if status != DELIVERABLE && !self.negative_cache {
            self.log(about, dsn, "undeliverable-but-not-cached");
            return true;
        }
        let Recipient { original, address, .. } = about.recipient;
        let mut known = Ok(());
        if !original.is_empty() {
            known = self.update(original, status, &dsn.reason).await;
        }
        if known.is_ok() && address != original {
            known = self.update(address, status, &dsn.reason).await;
        }
        match known {
            Ok(()) => {
                self.log(about, dsn, word);
                true
            }
            Err(error) => {
                self.warn(about.request, &format!("verify service failure: {error}"));
                false
            }
        }
    }

    async fn update(&self, address: &str, status: u32, why: &str) -> Result<(), AttrIoError> {
        let mut stream = AttrStream::connect(&self.verify, self.patience).await?;
        if self.dialect.server_names_protocol() {
            read_greeting(&stream.list().await?, protocols::VERIFY)?;
        }
        let mut update = AttrWriter::new();
        update.text("request", "update");
        update.text("address", address);
        update.uint("recipient_status", status);
        update.text("reason", why);
        stream.send(&update.end()).await?;
        match read_status(&stream.list().await?)? {
            0 => Ok(()),
            _ => Err(AttrIoError::Closed),
        }
    }

    /// A warning about a message.
    pub fn warn(&self, request: &DeliveryRequest, text: &str) {
        let (id, ident) = (&request.queue_id, &self.ident);
        tracing::warn!(target: "mail", ident = %ident, queue_id = %id, "warning: {id}: {text}");
    }

    /// A line about a message.
    pub fn info(&self, request: &DeliveryRequest, text: &str) {
        let (id, ident) = (&request.queue_id, &self.ident);
        tracing::info!(target: "mail", ident = %ident, queue_id = %id, "{id}: {}", shown(text));
    }

    /// A line about no single message; `warning: ` in front of it counts.
    pub fn note(&self, text: &str) {
        let (ident, text) = (&self.ident, shown(text));
        match text.starts_with("warning: ") {
            true => tracing::warn!(target: "mail", ident = %ident, "{text}"),
            false => tracing::info!(target: "mail", ident = %ident, "{text}"),
        }
    }

    fn log(&self, about: About<'_>, dsn: &Dsn, status: &str) {
        let About { request, stats, recipient, relay } = about;
        let id = &request.queue_id;
        let external = |address: &str| match address {
            "" => String::new(),
            address => quote_822(address),
        };
        let to = external(&recipient.address);
        let original = &recipient.original;
        let orig = match original.is_empty() || same(original, &recipient.address) {
            true => String::new(),
            false => format!("orig_to=<{}>, ", external(original)),
        };
        let reused = match stats.reuse_count {
            count if count > 0 => format!("conn_use={}, ", count + 1),
            _ => String::new(),
        };
        let delays = stats.delays(Timestamp::from(SystemTime::now()));
        let (code, reason) = (&dsn.status, shown(&dsn.reason));
        tracing::info!(
            target: "mail", ident = %self.ident, queue_id = %id, to = %to, dsn = %code, status,
            "{id}: to=<{to}>, {orig}relay={relay}, {reused}{delays}, dsn={code}, status={status} ({reason})"
        );
    }
}

fn same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

/// Control characters of a peer's words do not reach the log.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
