//! The bounce, defer and trace services: what became of each recipient, kept in the queue directory
//! until the sender has been told.
//!
//! `service` answers requests and keeps the logs, `letters` decides who is told what, `notice` writes
//! the text with the host's `template`s around the message as `original` finds it in the queue, and
//! `mail` has cleanup queue it.

mod letters;
mod mail;
mod notice;
mod original;
mod service;
mod template;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::postfix;
use daemon::{Role, Worker, WorkerError};
use queue::LogKind;
use serde::{Deserialize, Serialize};

use crate::plan::{Asked, Served, Takeover};
use crate::scheduler::log::Log;
use crate::serve;

pub use service::Server;

pub const TAKEOVER: Takeover =
    Takeover { command: "bounce", role: "bounce", settings: read, shape, work };

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    host: notice::Host,
    readers: letters::Readers,
    /// A larger message is returned without its body.
    bounce_size_limit: i64,
    old_style_logs: bool,
    /// Notices go through header and body checks and milters too.
    filtered: bool,
    cleanup: PathBuf,
    timeout: Duration,
    defer_service: String,
    trace_service: String,
}

fn read(asked: &Asked<'_>, problems: &mut config::Problems) -> serde_json::Value {
    let view = &asked.view;
    let filtered = view.get(postfix::INTERNAL_MAIL_FILTER_CLASSES, problems);
    let cleanup = view.get(postfix::CLEANUP_SERVICE_NAME, problems);
    let settings = Settings {
        host: host(asked, problems),
        readers: readers(asked, problems),
        bounce_size_limit: i64::try_from(view.get(postfix::BOUNCE_SIZE_LIMIT, problems))
            .unwrap_or(i64::MAX),
        old_style_logs: view.get(postfix::BACKWARDS_BOUNCE_LOGFILE_COMPATIBILITY, problems),
        filtered: routing::tables::split_list(&filtered).contains(&"bounce"),
        cleanup: asked.shared.socket(&format!("public/{cleanup}")),
        timeout: view.get(postfix::IPC_TIMEOUT, problems),
        defer_service: view.get(postfix::DEFER_SERVICE_NAME, problems),
        trace_service: view.get(postfix::TRACE_SERVICE_NAME, problems),
    };
    serde_json::to_value(settings).unwrap_or_default()
}

fn host(asked: &Asked<'_>, problems: &mut config::Problems) -> notice::Host {
    let view = &asked.view;
    notice::Host {
        myhostname: view.get(postfix::MYHOSTNAME, problems),
        mail_name: view.get(postfix::MAIL_NAME, problems),
        maximal_queue_lifetime: view.get(postfix::MAXIMAL_QUEUE_LIFETIME, problems),
        utf8: view.get(postfix::SMTPUTF8_ENABLE, problems),
        threaded: view.get(postfix::ENABLE_THREADED_BOUNCES, problems),
        templates: template::read(view, asked.files, problems),
    }
}

fn readers(asked: &Asked<'_>, problems: &mut config::Problems) -> letters::Readers {
    let view = &asked.view;
    let classes = view.get(postfix::NOTIFY_CLASSES, problems);
    let has = |class: &str| classes.iter().any(|word| word.as_str().eq_ignore_ascii_case(class));
    let sender = view.get(postfix::DOUBLE_BOUNCE_SENDER, problems);
    let myhostname = view.get(postfix::MYHOSTNAME, problems);
    letters::Readers {
        double_bounce: format!("{sender}@{myhostname}"),
        bounces: view.get(postfix::BOUNCE_NOTICE_RECIPIENT, problems),
        copy_bounces: has("bounce"),
        delays: view.get(postfix::DELAY_NOTICE_RECIPIENT, problems),
        copy_delays: has("delay"),
        bounced_bounces: view.get(postfix::N2BOUNCE_NOTICE_RECIPIENT, problems),
        keep_bounced_bounces: has("bounce") || has("2bounce"),
        trace_bounces: has("2bounce"),
    }
}

fn shape(role: &mut Role) {
    role.connections = 200;
}

fn work(worker: Worker, served: Vec<Served>) -> Result<(), WorkerError> {
    serve::each(worker, served, server, |server, connection| server.serve(connection.stream))
}

fn server(service: &Served) -> Result<Server, WorkerError> {
    let settings: Settings = service.settings()?;
    let kind = match &service.name {
        name if *name == settings.defer_service => LogKind::Defer,
        name if *name == settings.trace_service => LogKind::Trace,
        _ => LogKind::Bounce,
    };
    let log = Log::new(&service.shared.syslog_name, "bounce");
    let (queue, dialect) = (service.shared.queue.clone(), service.shared.dialect());
    Ok(Server::new(kind, settings, queue, dialect, Arc::new(log)))
}
