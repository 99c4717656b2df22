//! What an agent does with an outcome: it tells bounce, defer or trace, writes the log line, and says
//! whether the recipient is done.

use std::time::{Duration, SystemTime};

use mail_types::{Timestamp, quote_822};
use neighbours::bounce::{BounceClient, Report, ReportError};
use protocol::postfix::delivery::{DeliveryRequest, flags};
use protocol::postfix::{Dialect, Dsn, Recipient};

use crate::agent::settings::ServiceSettings;
use crate::task::Failure;

/// `ipc_timeout`.
const PATIENCE: Duration = Duration::from_secs(3600);
/// NOTIFY=SUCCESS among the bits of `notify_flags`.
const NOTIFY_SUCCESS: u32 = 2;

/// The outcome for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// With the text of the log line, and what a delivery status notification calls it.
    Sent {
        text: String,
        action: &'static str,
    },
    Failed(Failure),
}

impl Verdict {
    pub fn delivered(text: impl Into<String>) -> Self {
        Self::Sent { text: text.into(), action: "delivered" }
    }

    pub fn failed(status: &str, text: impl Into<String>) -> Self {
        Self::Failed(Failure::new(status, text))
    }
}

/// The reports of one service.
pub struct Reporter {
    client: BounceClient,
    ident: String,
    relay: String,
    soft_bounce: bool,
}

impl Reporter {
    pub fn new(settings: &ServiceSettings) -> Self {
        let [bounce, defer, trace] = &settings.reports;
        let private = settings.queue.root.join("private");
        let dialect = Dialect::of_version(&settings.mail_version).unwrap_or_default();
        Self {
            client: BounceClient::new(&private, [bounce, defer, trace], dialect, PATIENCE),
            ident: settings.ident.clone(),
            relay: settings.name.clone(),
            soft_bounce: settings.soft_bounce,
        }
    }

    /// Tells whom it concerns; whether the recipient is done. `recipient` may be one that the
    /// request's own recipient was expanded to.
    pub async fn conclude(
        &self,
        request: &DeliveryRequest,
        recipient: &Recipient,
        verdict: &Verdict,
    ) -> bool {
        match verdict {
            Verdict::Sent { text, action } => self.sent(request, recipient, text, action).await,
            Verdict::Failed(failure) if !failure.status.starts_with('5') => {
                self.deferred(request, recipient, failure, "deferred").await
            }
            Verdict::Failed(failure) if self.soft_bounce => {
                let status = failure.status.replacen('5', "4", 1);
                let softened = Failure { status, ..failure.clone() };
                self.deferred(request, recipient, &softened, "SOFTBOUNCE").await
            }
            Verdict::Failed(failure) => self.bounced(request, recipient, failure).await,
        }
    }

    async fn sent(
        &self,
        request: &DeliveryRequest,
        recipient: &Recipient,
        text: &str,
        action: &str,
    ) -> bool {
        if recipient.notify & NOTIFY_SUCCESS != 0 || request.flags & flags::RECORD != 0 {
            let reason = format!("delivery via {}: {text}", self.relay);
            let dsn = Dsn::local("2.0.0", action, &reason);
            if let Err(error) = self.append(Report::Trace, request, recipient, &dsn).await {
                return self.service_failed(request, recipient, "trace", &error).await;
            }
        }
        self.log(request, recipient, "2.0.0", "sent", text);
        true
    }

    async fn bounced(
        &self,
        request: &DeliveryRequest,
        recipient: &Recipient,
        failure: &Failure,
    ) -> bool {
        let dsn = dsn(failure, "failed");
        match self.append(Report::Bounce, request, recipient, &dsn).await {
            Ok(()) => {
                self.log(request, recipient, &failure.status, "bounced", &failure.text);
                true
            }
            Err(error) => self.service_failed(request, recipient, "bounce", &error).await,
        }
    }

    async fn service_failed(
        &self,
        request: &DeliveryRequest,
        recipient: &Recipient,
        service: &str,
        error: &ReportError,
    ) -> bool {
        self.warn(request, &format!("{service} service failure: {error}"));
        let failure = Failure::new("4.3.0", "bounce or trace service failure");
        self.deferred(request, recipient, &failure, "deferred").await
    }

    async fn deferred(
        &self,
        request: &DeliveryRequest,
        recipient: &Recipient,
        failure: &Failure,
        word: &str,
    ) -> bool {
        let dsn = dsn(failure, "delayed");
        if let Err(error) = self.append(Report::Defer, request, recipient, &dsn).await {
            self.warn(request, &format!("defer service failure: {error}"));
        }
        self.log(request, recipient, &failure.status, word, &failure.text);
        false
    }

    async fn append(
        &self,
        to: Report,
        request: &DeliveryRequest,
        recipient: &Recipient,
        dsn: &Dsn,
    ) -> Result<(), ReportError> {
        let bits = request.flags & flags::TRACE_MASK;
        self.client.append(to, bits, &request.queue_id, recipient, dsn).await
    }

    /// A warning about a message.
    pub fn warn(&self, request: &DeliveryRequest, text: &str) {
        let id = &request.queue_id;
        let ident = &self.ident;
        tracing::warn!(target: "mail", ident = %ident, queue_id = %id, "warning: {id}: {text}");
    }

    fn log(
        &self,
        request: &DeliveryRequest,
        recipient: &Recipient,
        dsn: &str,
        status: &str,
        text: &str,
    ) {
        let id = &request.queue_id;
        let to = quote_822(&recipient.address);
        let original = &recipient.original;
        let orig = if original.is_empty() || original.eq_ignore_ascii_case(&recipient.address) {
            String::new()
        } else {
            format!("orig_to=<{}>, ", quote_822(original))
        };
        let delays = request.stats.delays(Timestamp::from(SystemTime::now()));
        let relay = &self.relay;
        tracing::info!(
            target: "mail", ident = %self.ident, queue_id = %id, to = %to, dsn, status,
            "{id}: to=<{to}>, {orig}relay={relay}, {delays}, dsn={dsn}, status={status} ({text})"
        );
    }
}

/// A command's own words are a diagnostic of the kind x-unix.
fn dsn(failure: &Failure, action: &str) -> Dsn {
    let mut dsn = Dsn::local(&failure.status, action, &failure.text);
    if !failure.diagnostic.is_empty() {
        dsn.diag_type = "x-unix".to_owned();
        dsn.diag_text.clone_from(&failure.diagnostic);
    }
    dsn
}
