//! The end of an attempt: notices, then gone or back to the deferred queue.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use neighbours::bounce::Report;
use protocol::postfix::bounce::{BounceRequest, DELETE_RECIPIENTS, Notice};
use protocol::postfix::delivery::flags::TRACE_MASK;
use queue::{Lock, LogKind, Queue, QueueFile};

use super::context::Context;
use super::log::external;
use super::message::Facts;

/// Whether all recipients are done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Nothing,
    /// Some were deferred, or a notice could not be posted.
    Something,
}

/// Finishes an attempt. When this returns the message is out of the active queue, or the log says
/// why it is not; then the next start of the queue manager finds it.
pub async fn finish(context: &Arc<Context>, facts: &Facts, mut left: Left) {
    if send_reports(context, facts).await == Left::Something {
        left = Left::Something;
    }
    if left == Left::Something {
        left = expire_or_warn(context, facts).await;
    }
    let moved = match left {
        Left::Nothing => remove(context, facts).await,
        Left::Something => put_off(context, facts).await,
    };
    if let Err(error) = moved {
        context.log.warning(&format!("{}: cannot leave the active queue: {error}", facts.id));
    }
}

/// Bounces and success reports, if their logs hold any.
async fn send_reports(context: &Arc<Context>, facts: &Facts) -> Left {
    let mut left = Left::Nothing;
    if has_log(context, facts, LogKind::Bounce) {
        let request = match &facts.envelope.verp {
            Some(delimiters) => BounceRequest::Verp(notice(facts, 0), delimiters.clone()),
            None => BounceRequest::Flush(notice(facts, 0)),
        };
        if !asked(context, facts, Report::Bounce, &request).await {
            left = Left::Something;
        }
    }
    if has_log(context, facts, LogKind::Trace) {
        let request = BounceRequest::Trace(notice(facts, facts.trace_flags()));
        if asked(context, facts, Report::Trace, &request).await {
            forget_trace_flags(context, facts).await;
        } else {
            left = Left::Something;
        }
    }
    left
}

/// Mail that is too old goes back to its sender; a sender who wanted to know of a delay is told.
async fn expire_or_warn(context: &Arc<Context>, facts: &Facts) -> Left {
    let times = &context.settings.times;
    // A probe is tried once, whatever came of it.
    if facts.trace_flags() & (TRACE_MASK & !protocol::postfix::delivery::flags::RECORD) != 0 {
        return Left::Nothing;
    }
    let age = age(context, facts);
    let lifetime =
        if facts.sender().is_empty() { times.bounce_lifetime } else { times.maximal_lifetime };
    if facts.force_expire || age >= lifetime {
        let word = if facts.force_expire { "force-expired" } else { "expired" };
        let sender = external(facts.sender());
        context.log.info(&facts.id, &format!("from=<{sender}>, status={word}, returned to sender"));
        let request = BounceRequest::Flush(notice(facts, DELETE_RECIPIENTS));
        if asked(context, facts, Report::Defer, &request).await {
            return Left::Nothing;
        }
    } else if let Some((time, offset)) = facts.envelope.warn
        && time > 0
        && context.clock.timestamp().seconds >= time
        && asked(context, facts, Report::Defer, &BounceRequest::Warn(notice(facts, 0))).await
    {
        let marked = with_file(context, facts, move |file| {
            file.mark_warned(offset).map_err(|error| io::Error::other(error.to_string()))
        });
        if let Err(error) = marked.await {
            context.log.warning(&format!("{}: cannot mark the delay notice: {error}", facts.id));
        }
    }
    Left::Something
}

/// Success reports asked for with `sendmail -v` come once, not at every attempt.
async fn forget_trace_flags(context: &Arc<Context>, facts: &Facts) {
    let Some((bits, offset)) = facts.envelope.trace_flags.filter(|&(bits, _)| bits != 0) else {
        return;
    };
    let killed = with_file(context, facts, move |file| {
        file.kill_attribute(offset).map_err(|error| io::Error::other(error.to_string()))
    });
    if let Err(error) = killed.await {
        context.log.warning(&format!("{}: cannot clear trace flags {bits}: {error}", facts.id));
    }
}

async fn remove(context: &Arc<Context>, facts: &Facts) -> io::Result<()> {
    let (shared, id) = (Arc::clone(context), facts.id.clone());
    blocking(move || {
        // Of a forced expiry; every other defer log went when the attempt began or with its notice.
        let _ = shared.queue.remove_log(LogKind::Defer, &id);
        shared.queue.remove(Queue::Active, &id)
    })
    .await?;
    context.log.info(&facts.id, "removed");
    Ok(())
}

async fn put_off(context: &Arc<Context>, facts: &Facts) -> io::Result<()> {
    let times = &context.settings.times;
    let most = times.maximal_backoff.max(times.minimal_backoff);
    let delay = age(context, facts).clamp(times.minimal_backoff, most);
    let (shared, id) = (Arc::clone(context), facts.id.clone());
    let until = context.clock.now() + delay;
    blocking(move || {
        shared.queue.set_time(Queue::Active, &id, until)?;
        shared.queue.rename(&id, Queue::Active, Queue::Deferred)
    })
    .await
}

/// Since the message came into the queue.
fn age(context: &Context, facts: &Facts) -> Duration {
    let created = Duration::from_secs(u64::try_from(facts.create_time()).unwrap_or(0));
    let since = context.clock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.saturating_sub(created)
}

fn has_log(context: &Context, facts: &Facts, kind: LogKind) -> bool {
    let path = context.queue.path_in(kind.directory(), &facts.id);
    std::fs::metadata(path).is_ok_and(|log| log.len() > 0)
}

fn notice(facts: &Facts, flags: u32) -> Notice {
    let envelope = &facts.envelope;
    Notice {
        flags,
        queue_name: "active".to_owned(),
        queue_id: facts.id.clone(),
        encoding: envelope.encoding.clone(),
        sendopts: u32::try_from(envelope.size.map_or(0, |size| size.smtputf8)).unwrap_or(0),
        sender: facts.sender().to_owned(),
        envelope_id: envelope.envelope_id.clone(),
        ret: envelope.ret,
    }
}

async fn asked(context: &Context, facts: &Facts, to: Report, request: &BounceRequest) -> bool {
    match context.reports.ask(to, request).await {
        Ok(()) => true,
        Err(error) => {
            let service = match to {
                Report::Bounce => "bounce",
                Report::Defer => "defer",
                Report::Trace => "trace",
            };
            context.log.warning(&format!("{}: {service} service failure: {error}", facts.id));
            false
        }
    }
}

async fn with_file(
    context: &Arc<Context>,
    facts: &Facts,
    action: impl FnOnce(&QueueFile) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let (context, id) = (Arc::clone(context), facts.id.clone());
    blocking(move || {
        let file = QueueFile::open(&context.queue, Queue::Active, &id, Lock::Shared)?;
        action(&file)
    })
    .await
}

/// Runs file system work where it may wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
