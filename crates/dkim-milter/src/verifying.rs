//! The end of a message that is verified: OpenDKIM's verdict, its Authentication-Results and its log lines.

use bytes::Bytes;
use protocol::milter::{Reply, reply_code};
use sender_authentication::Field;
use sender_authentication::dkim::fault::Fault;
use sender_authentication::dkim::verify::{Outcome, Verdict};
use sender_authentication::results::{self, Results};

use crate::message::Message;
use crate::outcome::{Level, Output};
use crate::settings::{Action, Settings};

/// What a message is, seen as a whole.
enum Whole<'a> {
    Unsigned,
    Good,
    /// Refused signature, missing key…: the signature that stands for all, and why.
    Bad(&'a Outcome, Fault),
}

/// Fields that claim to be ours are removed, from the last to the first so that the others keep their numbers.
pub fn forged(settings: &Settings, authserv_id: &str, message: &Message, out: &mut Output) {
    if settings.verifying.keep_results {
        return;
    }
    let mut index = 0;
    let mut removals = Vec::new();
    for field in message.fields.iter().filter(|field| field.is("Authentication-Results")) {
        index += 1;
        match Results::parse(field.value()) {
            Some(results) => {
                if claims(settings, authserv_id, &results) {
                    removals.push((index, field));
                }
            }
            None => out.log(
                Level::Warning,
                format!("{}: failed to parse Authentication-Results: header field", message.job()),
            ),
        }
    }
    let removals =
        removals.into_iter().rev().map(|(index, field): (u32, &Field)| Reply::ChangeHeader {
            index,
            name: Bytes::copy_from_slice(field.name()),
            value: Bytes::new(),
        });
    out.replies.extend(removals);
}

fn claims(settings: &Settings, authserv_id: &str, results: &Results) -> bool {
    let about_dkim = settings.verifying.remove_all_methods
        // behind our name, what is no list of results may be taken for one by somebody less strict
        || results.methods.as_ref().is_none_or(|methods| methods.iter().any(|name| name == "dkim"));
    let from_us = match &settings.verifying.remove_from {
        Some(names) => {
            let name = results.authserv_id.split('/').next().unwrap_or_default();
            names.contains(&name.to_ascii_lowercase())
        }
        None => results.is_from(authserv_id),
    };
    about_dkim && from_us
}

/// Says what became of the signatures, and gives the last answer.
pub fn finish(
    settings: &Settings,
    authserv_id: &str,
    message: &Message,
    outcomes: &[Outcome],
    lead: &str,
    out: &mut Output,
) -> Vec<Reply> {
    let job = message.job();
    log_outcomes(settings, job, outcomes, out);
    let whole = judge(outcomes);
    if let Whole::Good = whole
        && settings.log.success
    {
        out.log(Level::Info, format!("{job}: DKIM verification successful"));
    }
    let unsigned = matches!(whole, Whole::Unsigned);
    if !unsigned || settings.verifying.always_add_results {
        let mut items: Vec<String> = outcomes
            .iter()
            .map(|outcome| results::dkim_item(outcome, !settings.verifying.no_header_b))
            .collect();
        if unsigned {
            items.push("dkim=none".to_owned());
        }
        items.push("dkim-atps=neutral".to_owned());
        let value = results::write(&name(settings, authserv_id, job), &items);
        out.replies.push(insert("Authentication-Results", &format!("{lead}{value}")));
    }
    answer(settings, job, &whole, out)
}

/// The name in front of our results.
fn name(settings: &Settings, authserv_id: &str, job: &str) -> String {
    if settings.authserv_id_with_job_id {
        format!("{authserv_id}/{job}")
    } else {
        authserv_id.to_owned()
    }
}

/// The result of a message that is none: no author, or one that cannot be read.
pub fn malformed(authserv_id: &str, lead: &str) -> Reply {
    let value = format!("{lead}{authserv_id}; dkim=permerror (bad message/signature format)");
    insert("Authentication-Results", &value)
}

pub fn insert(name: &'static str, value: &str) -> Reply {
    Reply::InsertHeader {
        index: 0,
        name: name.into(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn log_outcomes(settings: &Settings, job: &str, outcomes: &[Outcome], out: &mut Output) {
    let domain = |one: &Outcome| one.received.domain.clone().unwrap_or_else(|| "(null)".to_owned());
    if outcomes.len() > 1 {
        let domains: Vec<String> = outcomes.iter().map(domain).collect();
        let domains = domains.join(", ");
        out.log(Level::Info, format!("{job}: message has signatures from {domains}"));
    }
    let ignored = outcomes.iter().filter(|one| one.verdict == Verdict::Neutral).count();
    if ignored > 0 {
        let plural = if ignored == 1 { "" } else { "s" };
        out.log(Level::Info, format!("{job}: ignoring {ignored} signature{plural}"));
    }
    for syntax in outcomes.iter().filter_map(|one| one.received.syntax.as_ref()) {
        out.log(Level::Error, format!("{job}: syntax error: {syntax}"));
    }
    if settings.log.results {
        let results: Vec<String> = outcomes
            .iter()
            .filter_map(|one| {
                let selector = one.received.selector.as_deref()?;
                let result = one.fault.map_or("no signature error", Fault::text);
                let (text, domain) = (&one.text, domain(one));
                Some(format!(
                    "signature={text} domain={domain} selector={selector} result=\"{result}\""
                ))
            })
            .collect();
        if !results.is_empty() {
            out.log(Level::Info, format!("{job}: {}", results.join("; ")));
        }
    }
}

/// A good signature stands for all; else the first one that was looked at.
fn judge(outcomes: &[Outcome]) -> Whole<'_> {
    if outcomes.iter().any(|outcome| outcome.verdict == Verdict::Pass) {
        return Whole::Good;
    }
    match outcomes.first() {
        None => Whole::Unsigned,
        Some(outcome) => Whole::Bad(outcome, outcome.fault.unwrap_or(Fault::Syntax)),
    }
}

fn answer(settings: &Settings, job: &str, whole: &Whole<'_>, out: &mut Output) -> Vec<Reply> {
    let on = settings.on;
    let (outcome, fault) = match whole {
        Whole::Good => return vec![Reply::Accept],
        Whole::Unsigned if settings.verifying.always_add_results => return vec![Reply::Accept],
        Whole::Unsigned => {
            if on.no_signature != Action::Accept {
                out.log(Level::Notice, format!("{job}: no signature data"));
            } else if settings.log.why {
                out.log(Level::Debug, format!("{job}: no signature data"));
            }
            return carry_out(on.no_signature, "4.7.0", Some("no DKIM signature data"));
        }
        Whole::Bad(outcome, fault) => (outcome, *fault),
    };
    let selector = outcome.received.selector.as_deref().unwrap_or_default();
    let domain = outcome.received.domain.as_deref().unwrap_or_default();
    let failed = |why: &str| {
        let name = format!("{selector}._domainkey.{domain}");
        format!("{job}: key retrieval failed (s={selector}, d={domain}): '{name}' {why}")
    };
    match fault {
        Fault::BadSignature => {
            out.log(Level::Notice, format!("{job}: bad signature data"));
            // the domain only tries DKIM out: such a signature is as good as none
            let action = if outcome.testing { Action::Accept } else { on.bad_signature };
            carry_out(action, "4.7.0", Some("bad DKIM signature data"))
        }
        Fault::KeyRevoked => {
            let algorithm = outcome.received.algorithm.map_or("", |algorithm| algorithm.name());
            out.log(
                Level::Notice,
                format!("{job}: key revoked (s={selector}, d={domain}, a={algorithm})"),
            );
            carry_out(on.bad_signature, "4.7.0", None)
        }
        Fault::NoKey => {
            out.log(Level::Error, failed("record not found"));
            carry_out(on.key_not_found, "4.7.5", Some("DKIM key retrieval failed"))
        }
        Fault::KeyFail => {
            out.log(Level::Error, failed("query failed"));
            carry_out(on.dns_error, "4.7.5", Some("DKIM key retrieval failed"))
        }
        Fault::Syntax => carry_out(on.bad_signature, "4.7.0", Some("DKIM signature syntax error")),
        _ => carry_out(on.bad_signature, "4.7.0", Some("DKIM signature processing failed")),
    }
}

/// The answer for an action. Without a text the mail server says its own.
pub fn carry_out(action: Action, later: &str, text: Option<&str>) -> Vec<Reply> {
    match (action, text) {
        (Action::Accept, _) => vec![Reply::Accept],
        (Action::Discard, _) => vec![Reply::Discard],
        (Action::Quarantine, text) => vec![
            Reply::Quarantine { reason: text.unwrap_or("DKIM").to_owned().into() },
            Reply::Accept,
        ],
        (Action::Reject, Some(text)) => vec![reply_code(550, "5.7.0", text)],
        (Action::Reject, None) => vec![Reply::Reject],
        (Action::Tempfail, Some(text)) => vec![reply_code(451, later, text)],
        (Action::Tempfail, None) => vec![Reply::Tempfail],
    }
}
