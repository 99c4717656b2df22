//! What the scheduler obeys, read once and serialisable for its worker.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use config::Problems;
use config::postfix::{self, Host, View};
use serde::{Deserialize, Serialize};

use super::window::{Feedback, WindowLimits};

/// As Postfix's agents give up themselves.
const LONGEST_DELIVERY: Duration = Duration::from_secs(18_000);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub syslog_name: String,
    /// The directory of the agents' sockets.
    pub private: PathBuf,
    pub mail_version: String,
    pub rewrite_service: String,
    /// The socket of the flush service.
    pub flush: PathBuf,
    /// Whether any destination has a flush log at all.
    pub fast_flush: bool,
    pub bounce_services: [String; 3],
    pub double_bounce_sender: String,
    pub recipient_delimiter: String,
    pub defer_transports: Vec<String>,
    pub soft_bounce: bool,
    pub times: Times,
    /// Most messages in the active queue.
    pub messages: usize,
    /// Most recipients in memory, and how many a message may have whatever the others take.
    pub recipients: usize,
    pub recipients_at_least: usize,
    pub transports: BTreeMap<String, TransportSettings>,
    pub other_transports: TransportSettings,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Times {
    pub queue_run_delay: Duration,
    pub minimal_backoff: Duration,
    pub maximal_backoff: Duration,
    pub maximal_lifetime: Duration,
    pub bounce_lifetime: Duration,
    pub transport_retry: Duration,
    pub ipc: Duration,
    /// The longest that an agent may take for one request.
    pub delivery: Duration,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct TransportSettings {
    pub window: WindowLimits,
    /// Most recipients of one request; 0 is no limit, 1 gives each recipient its own destination.
    pub recipients: usize,
    pub destination_rate_delay: Duration,
    pub transport_rate_delay: Duration,
    pub slots: Slots,
}

/// How small messages may overtake large ones.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Slots {
    /// Below 2: never.
    pub cost: usize,
    pub loan: usize,
    /// In percent.
    pub discount: usize,
    pub minimum: usize,
}

impl Settings {
    /// Reads the settings of the queue manager's service and of every transport of master.cf.
    pub fn read(host: &Host, view: &View<'_>, problems: &mut Problems) -> Self {
        let queue: PathBuf = view.get(postfix::QUEUE_DIRECTORY, problems).into();
        let agents = host.services().filter(|service| service.kind == postfix::ServiceType::Unix);
        let transports = agents
            .map(|service| (service.name.clone(), transport(view, &service.name, problems)))
            .collect();
        let deferred = view.get(postfix::DEFER_TRANSPORTS, problems);
        let flush = view.get(postfix::FLUSH_SERVICE_NAME, problems);
        Self {
            flush: queue.join("public").join(flush),
            fast_flush: !view.get(postfix::FAST_FLUSH_DOMAINS, problems).is_empty(),
            syslog_name: view.get(postfix::SYSLOG_NAME, problems),
            private: queue.join("private"),
            mail_version: view.get(postfix::MAIL_VERSION, problems),
            rewrite_service: view.get(postfix::REWRITE_SERVICE_NAME, problems),
            bounce_services: [
                view.get(postfix::BOUNCE_SERVICE_NAME, problems),
                view.get(postfix::DEFER_SERVICE_NAME, problems),
                view.get(postfix::TRACE_SERVICE_NAME, problems),
            ],
            double_bounce_sender: view.get(postfix::DOUBLE_BOUNCE_SENDER, problems),
            recipient_delimiter: view.get(postfix::RECIPIENT_DELIMITER, problems),
            defer_transports: routing::tables::split_list(&deferred)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            soft_bounce: view.get(postfix::SOFT_BOUNCE, problems),
            times: times(view, problems),
            messages: count(view.get(postfix::QMGR_MESSAGE_ACTIVE_LIMIT, problems)).max(1),
            recipients: count(view.get(postfix::QMGR_MESSAGE_RECIPIENT_LIMIT, problems)),
            recipients_at_least: count(view.get(postfix::QMGR_MESSAGE_RECIPIENT_MINIMUM, problems))
                .max(1),
            transports,
            other_transports: transport(view, "default", problems),
        }
    }

    #[must_use]
    pub fn transport(&self, name: &str) -> &TransportSettings {
        self.transports.get(name).unwrap_or(&self.other_transports)
    }
}

fn times(view: &View<'_>, problems: &mut Problems) -> Times {
    Times {
        queue_run_delay: view.get(postfix::QUEUE_RUN_DELAY, problems).max(Duration::from_secs(1)),
        minimal_backoff: view.get(postfix::MINIMAL_BACKOFF_TIME, problems),
        maximal_backoff: view.get(postfix::MAXIMAL_BACKOFF_TIME, problems),
        maximal_lifetime: view.get(postfix::MAXIMAL_QUEUE_LIFETIME, problems),
        bounce_lifetime: view.get(postfix::BOUNCE_QUEUE_LIFETIME, problems),
        transport_retry: view.get(postfix::TRANSPORT_RETRY_TIME, problems),
        ipc: view.get(postfix::IPC_TIMEOUT, problems),
        delivery: LONGEST_DELIVERY,
    }
}

fn count(value: i64) -> usize {
    usize::try_from(value).unwrap_or(0)
}

fn transport(view: &View<'_>, name: &str, problems: &mut Problems) -> TransportSettings {
    let feedback = |setting, problems: &mut Problems| {
        let text: String = view.for_transport(name, setting, problems);
        Feedback::parse(&text).unwrap_or_else(|| {
            let what = format!("bad concurrency feedback \"{text}\" for transport {name}");
            problems
                .error(None, what)
                .instead("write a number from 0 to 1, or 1/concurrency, or 1/sqrt_concurrency");
            Feedback::Constant(1.0)
        })
    };
    let positive = feedback(postfix::DEFAULT_DESTINATION_CONCURRENCY_POSITIVE_FEEDBACK, problems);
    let negative = feedback(postfix::DEFAULT_DESTINATION_CONCURRENCY_NEGATIVE_FEEDBACK, problems);
    let mut number = |setting| count(view.for_transport(name, setting, problems));
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let cohorts = number(postfix::DEFAULT_DESTINATION_CONCURRENCY_FAILED_COHORT_LIMIT);
    let mut settings = TransportSettings {
        window: WindowLimits {
            initial: narrow(number(postfix::INITIAL_DESTINATION_CONCURRENCY)).max(1),
            most: narrow(number(postfix::DEFAULT_DESTINATION_CONCURRENCY_LIMIT)),
            positive,
            negative,
            failed_cohorts: f64::from(narrow(cohorts)),
        },
        recipients: number(postfix::DEFAULT_DESTINATION_RECIPIENT_LIMIT),
        slots: Slots {
            cost: number(postfix::DEFAULT_DELIVERY_SLOT_COST),
            loan: number(postfix::DEFAULT_DELIVERY_SLOT_LOAN),
            discount: number(postfix::DEFAULT_DELIVERY_SLOT_DISCOUNT).min(100),
            minimum: number(postfix::DEFAULT_MINIMUM_DELIVERY_SLOTS),
        },
        destination_rate_delay: view.for_transport(
            name,
            postfix::DEFAULT_DESTINATION_RATE_DELAY,
            problems,
        ),
        transport_rate_delay: view.for_transport(
            name,
            postfix::DEFAULT_TRANSPORT_RATE_DELAY,
            problems,
        ),
    };
    if settings.destination_rate_delay > Duration::ZERO {
        settings.window.most = 1;
        settings.window.initial = 1;
    }
    settings
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use config::files::Memory;

    pub fn settings(main: &str) -> Settings {
        let master = "local unix - n n - - local\nvirtual unix - n n - - virtual\nsmtp unix - - n - - smtp\n";
        let files = Memory::with([("/p/main.cf", main), ("/p/master.cf", master)]);
        let mut problems = Problems::default();
        let host = Host::read(&files, "/p".as_ref(), &mut problems);
        let settings = Settings::read(&host, &host.main(), &mut problems);
        assert!(!problems.has_errors(), "{problems:?}");
        settings
    }

    #[test]
    fn a_transport_has_its_own_limits() {
        let settings = settings(
            "smtp_destination_concurrency_limit = 7\nsmtp_destination_rate_delay = 2s\n\
             virtual_destination_recipient_limit = 1\nminimal_backoff_time = 60s\n",
        );
        assert_eq!(settings.transport("smtp").window.most, 1, "a rate delay forces one at a time");
        assert_eq!(settings.transport("virtual").recipients, 1);
        assert_eq!(settings.transport("virtual").window.most, 20);
        assert_eq!(settings.transport("local").window.most, 2);
        assert_eq!(settings.transport("local").recipients, 1);
        assert_eq!(settings.transport("unknown").window.initial, 5);
        assert_eq!(settings.times.minimal_backoff.as_secs(), 60);
        assert_eq!(settings.times.maximal_lifetime.as_secs(), 432_000);
    }

    #[test]
    fn every_setting_changes_the_scheduler() {
        let shown = |main: &str| format!("{:?}", settings(main));
        let plain = shown("relay_domains = x\n");
        for line in [
            "syslog_name = x\n",
            "queue_directory = /x\n",
            "rewrite_service_name = x\n",
            "bounce_service_name = x\n",
            "defer_service_name = x\n",
            "trace_service_name = x\n",
            "flush_service_name = x\n",
            "fast_flush_domains =\n",
            "double_bounce_sender = x\n",
            "recipient_delimiter = -\n",
            "defer_transports = x\n",
            "soft_bounce = yes\n",
            "qmgr_message_active_limit = 7\n",
            "qmgr_message_recipient_limit = 7\n",
            "qmgr_message_recipient_minimum = 7\n",
            "queue_run_delay = 7s\n",
            "minimal_backoff_time = 7s\n",
            "maximal_backoff_time = 7s\n",
            "maximal_queue_lifetime = 7s\n",
            "bounce_queue_lifetime = 7s\n",
            "transport_retry_time = 7s\n",
            "ipc_timeout = 7s\n",
            "default_destination_concurrency_positive_feedback = 1/7\n",
            "default_destination_concurrency_negative_feedback = 1/7\n",
            "default_destination_concurrency_failed_cohort_limit = 7\n",
            "initial_destination_concurrency = 7\n",
            "default_destination_concurrency_limit = 7\n",
            "default_destination_recipient_limit = 7\n",
            "default_delivery_slot_cost = 7\n",
            "default_delivery_slot_loan = 7\n",
            "default_delivery_slot_discount = 7\n",
            "default_minimum_delivery_slots = 7\n",
            "default_destination_rate_delay = 7s\n",
            "default_transport_rate_delay = 7s\n",
            "mail_version = 3.10.1\n",
        ] {
            assert_ne!(shown(&format!("relay_domains = x\n{line}")), plain, "{line}");
        }
    }
}
