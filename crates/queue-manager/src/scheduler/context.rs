//! What every part of the scheduler shares: settings, the queue, the clock, the neighbours.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use mail_types::{Clock, EnhancedStatus, QueueId};
use neighbours::bounce::{BounceClient, Report};
use neighbours::flush::FlushClient;
use neighbours::rewrite::RewriteClient;
use protocol::postfix::{Dialect, Dsn, MsgStats, Recipient};
use queue::QueueDirectory;

use super::log::Log;
use super::settings::Settings;

pub struct Context {
    pub settings: Settings,
    pub queue: QueueDirectory,
    pub clock: Arc<dyn Clock>,
    pub dialect: Dialect,
    pub rewrite: RewriteClient,
    pub reports: BounceClient,
    pub flush: FlushClient,
    pub log: Log,
    /// Mail that is deferred without a delivery is told of as Postfix's error(8) tells it.
    pub error_log: Log,
    /// Recipients of all active messages.
    pub recipients: AtomicUsize,
}

impl Context {
    #[must_use]
    pub fn new(settings: Settings, queue: QueueDirectory, clock: Arc<dyn Clock>) -> Self {
        let dialect = Dialect::of_version(&settings.mail_version).unwrap_or_default();
        let limit = settings.times.ipc;
        let rewrite = settings.private.join(&settings.rewrite_service);
        let [bounce, defer, trace] = &settings.bounce_services;
        let services = [bounce.as_str(), defer.as_str(), trace.as_str()];
        Self {
            rewrite: RewriteClient::new(rewrite, dialect, limit),
            flush: FlushClient::new(settings.flush.clone(), dialect, limit),
            reports: BounceClient::new(&settings.private, services, dialect, limit),
            log: Log::new(&settings.syslog_name, "qmgr"),
            error_log: Log::new(&settings.syslog_name, "error"),
            recipients: AtomicUsize::new(0),
            settings,
            queue,
            clock,
            dialect,
        }
    }

    /// Notes that a recipient has to wait, in the log and in the message's defer log.
    pub async fn defer(
        &self,
        id: &QueueId,
        stats: &MsgStats,
        trace_flags: u32,
        recipient: &Recipient,
        dsn: &Dsn,
    ) {
        let dsn = Dsn { status: transient(&dsn.status), action: "delayed".into(), ..dsn.clone() };
        let noted = self.reports.append(Report::Defer, trace_flags, id, recipient, &dsn).await;
        if let Err(error) = noted {
            self.log.warning(&format!("{id}: defer service failure: {error}"));
        }
        if self.settings.fast_flush {
            self.flush.add(&recipient.address, id).await;
        }
        let now = self.clock.timestamp();
        self.error_log.recipient(id, recipient, stats, now, "none", "deferred", &dsn);
    }
}

/// A status for "later", whatever an agent wrote.
fn transient(status: &str) -> String {
    match EnhancedStatus::parse(status) {
        Ok(status) => status.with_class(mail_types::Class::Transient).to_string(),
        Err(_) => "4.0.0".to_owned(),
    }
}
