//! What is to happen to each recipient of a message: transport, next hop and queue.

use std::time::Duration;

use protocol::postfix::delivery::flags::TRACE_MASK;
use protocol::postfix::rewrite::{Resolution, flags};
use protocol::postfix::{Dsn, Recipient};
use routing::split_extension;

use super::context::Context;
use super::message::Facts;

/// The next step for one recipient.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Deliver {
        recipient: Recipient,
        transport: String,
        nexthop: String,
        queue: String,
    },
    /// Not now.
    Defer {
        recipient: Recipient,
        dsn: Dsn,
    },
    /// Mail to the double-bounce address ends here.
    Discard {
        recipient: Recipient,
    },
}

/// How often the rewrite service is asked before the recipient waits for the next run.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Decides about all recipients of a batch.
pub async fn decide(context: &Context, facts: &Facts, batch: Vec<Recipient>) -> Vec<Decision> {
    let mut decisions = Vec::with_capacity(batch.len());
    for recipient in redirected(facts, batch) {
        decisions.push(one(context, facts, recipient).await);
    }
    decisions
}

/// `REDIRECT` puts one recipient in the place of all.
fn redirected(facts: &Facts, mut batch: Vec<Recipient>) -> Vec<Recipient> {
    let Some(target) = &facts.envelope.redirect else { return batch };
    batch.truncate(1);
    for recipient in &mut batch {
        *recipient = Recipient { address: target.clone(), ..Recipient::default() };
    }
    batch
}

async fn one(context: &Context, facts: &Facts, recipient: Recipient) -> Decision {
    let settings = &context.settings;
    let deferred = |recipient, status: &str, reason: &str| Decision::Defer {
        recipient,
        dsn: Dsn::local(status, "delayed", reason),
    };
    if facts.force_expire {
        return deferred(recipient, "4.7.0", "message is administratively expired");
    }
    let resolution = match resolve(context, facts, &recipient).await {
        Some(resolution) => resolution,
        None => return deferred(recipient, "4.3.0", "address resolver failure"),
    };
    if resolution.flags & flags::FAIL != 0 {
        return deferred(recipient, "4.3.0", "address resolver failure");
    }
    let Resolution { mut transport, mut nexthop, recipient: resolved, flags, .. } = resolution;
    if flags & flags::ERROR != 0 {
        transport = "error".to_owned();
        nexthop = "5.1.3 bad address syntax".to_owned();
    } else if let Some(filter) = &facts.envelope.filter
        && facts.trace_flags() & TRACE_MASK == 0
    {
        let (name, to) = filter.split_once(':').unwrap_or((filter, ""));
        transport = name.to_owned();
        nexthop = match to {
            "" => resolved.rsplit_once('@').map_or(&*resolved, |(_, domain)| domain).to_owned(),
            to => to.to_owned(),
        };
    }
    let mut recipient = recipient;
    recipient.address.clone_from(&resolved);
    let local = resolved.rsplit_once('@').map_or(&*resolved, |(local, _)| local);
    if flags & flags::CLASS_LOCAL != 0 && local.eq_ignore_ascii_case(&settings.double_bounce_sender)
    {
        return Decision::Discard { recipient };
    }
    if settings.defer_transports.contains(&transport) && !facts.unthrottle {
        return deferred(recipient, "4.3.2", "deferred transport");
    }
    if transport.is_empty() || transport.contains('/') || transport == "." || transport == ".." {
        return deferred(recipient, "4.3.5", "mail system configuration error");
    }
    let queue = queue_name(context, &transport, &nexthop, local);
    Decision::Deliver { recipient, transport, nexthop, queue }
}

/// A destination is its next hop; where an agent takes one recipient at a time, each recipient is a
/// destination of its own.
fn queue_name(context: &Context, transport: &str, nexthop: &str, local: &str) -> String {
    let single = context.settings.transport(transport).recipients == 1;
    if !single || transport == "error" || transport == "retry" {
        return nexthop.to_lowercase();
    }
    let delimiters = &context.settings.recipient_delimiter;
    let user = split_extension(local, delimiters).map_or(local, |(user, _)| user);
    format!("{user}@{nexthop}").to_lowercase()
}

async fn resolve(context: &Context, facts: &Facts, recipient: &Recipient) -> Option<Resolution> {
    for attempt in 1..=ATTEMPTS {
        match context.rewrite.resolve(facts.sender(), &recipient.address).await {
            Ok(resolution) => return Some(resolution),
            Err(error) if attempt == 1 && error.is_of_a_restart() => {}
            Err(error) => {
                context.log.warning(&format!("problem talking to service rewrite: {error}"));
            }
        }
        if attempt < ATTEMPTS {
            tokio::time::sleep(PAUSE).await;
        }
    }
    None
}
