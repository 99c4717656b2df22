//! The message of a session as records for cleanup, in the order in which Postfix's smtpd sends them.

use mail_types::Notify;
use neighbours::cleanup::{CleanupError, Submission};
use protocol::postfix::cleanup::CleanupFlags;
use protocol::postfix::record::RecordType;
use protocol::smtp::Recipient;

use crate::client::literal;
use crate::policy::Wishes;
use crate::session::Session;
use crate::settings::Queue;

/// What cleanup is asked to do with mail of this service.
#[must_use]
pub fn flags(queue: &Queue, smtputf8: bool) -> CleanupFlags {
    let mut flags = CleanupFlags::SMTPD;
    if !queue.checks {
        flags = flags.without(CleanupFlags::FILTER);
    }
    if !queue.mappings {
        flags = flags.without(CleanupFlags::BCC_OK).without(CleanupFlags::MAP_OK);
    }
    if smtputf8 { flags.with(CleanupFlags::SMTPUTF8) } else { flags }
}

/// The envelope up to the first recipient: time, sender, and who the client is.
pub async fn envelope(
    submission: &mut Submission,
    session: &Session,
    arrival: std::time::Duration,
) -> Result<(), CleanupError> {
    let Some(transaction) = session.transaction() else {
        return Ok(());
    };
    let (mail, forwarded) = (&transaction.mail, &session.forwarded);
    let time = format!("{} {}", arrival.as_secs(), arrival.subsec_micros());
    submission.record(RecordType::TIME, time.as_bytes()).await?;
    let ident = forwarded.ident.clone().unwrap_or_else(|| submission.queue_id().to_string());
    submission.attribute("log_ident", ident).await?;
    let context = if transaction.local_rewrite { "local" } else { "remote" };
    submission.attribute("rewrite_context", forwarded.domain.unwrap_or(context)).await?;
    if let Some(login) = &session.login {
        submission.attribute("sasl_method", &login.method).await?;
        submission.attribute("sasl_username", &login.user).await?;
    }
    if let Some(sender) = &mail.auth {
        submission.attribute("sasl_sender", sender).await?;
    }
    if let Some(id) = &mail.envelope_id {
        submission.attribute("envelope_id", id).await?;
    }
    if let Some(ret) = mail.ret {
        submission.attribute("ret_flags", ret.bits().to_string()).await?;
    }
    submission.record(RecordType::SENDER, mail.address.as_bytes()).await?;
    if let Some(body) = mail.body {
        submission.attribute("encoding", body.encoding()).await?;
    }
    client(submission, session).await
}

/// First what logs show (XFORWARD may have replaced it), then what is so.
async fn client(submission: &mut Submission, session: &Session) -> Result<(), CleanupError> {
    let client = &session.client;
    let protocol = session.protocol.name();
    match &session.forwarded.client {
        Some(shown) => {
            submission.attribute("log_client_name", &shown.name).await?;
            submission.attribute("log_client_address", literal(shown.address)).await?;
            submission.attribute("log_client_port", &shown.port).await?;
            let origin = shown.name_and_address(client.log_port);
            submission.attribute("log_message_origin", origin).await?;
            if let Some(helo) = &shown.helo {
                submission.attribute("log_helo_name", helo).await?;
            }
            submission.attribute("log_protocol_name", &shown.protocol).await?;
        }
        None => {
            submission.attribute("log_client_name", &client.name).await?;
            submission.attribute("log_client_address", client.literal()).await?;
            submission.attribute("log_client_port", client.port_text()).await?;
            submission.attribute("log_message_origin", client.name_and_address()).await?;
            if let Some(helo) = &session.helo {
                submission.attribute("log_helo_name", helo).await?;
            }
            submission.attribute("log_protocol_name", protocol).await?;
        }
    }
    submission.attribute("client_name", &client.name).await?;
    submission.attribute("reverse_client_name", &client.reverse_name).await?;
    submission.attribute("client_address", client.address_text()).await?;
    submission.attribute("client_port", client.port_text()).await?;
    submission.attribute("server_address", client.server_address_text()).await?;
    submission.attribute("server_port", client.server_port_text()).await?;
    if let Some(helo) = &session.helo {
        submission.attribute("helo_name", helo).await?;
    }
    submission.attribute("protocol_name", protocol).await?;
    submission.attribute("client_address_type", client.family().to_string()).await
}

/// One recipient with its delivery status options. Sent at once, so that cleanup works while the client goes on.
pub async fn recipient(
    submission: &mut Submission,
    recipient: &Recipient,
) -> Result<(), CleanupError> {
    if !recipient.notify.is_none() {
        submission.attribute("notify_flags", recipient.notify.bits().to_string()).await?;
    }
    let original = recipient.original_or_argument();
    let value = format!("{};{}", original.kind, original.address);
    submission.attribute("dsn_orig_rcpt", value).await?;
    submission.record(RecordType::RECIPIENT, recipient.address.as_bytes()).await?;
    submission.flush().await
}

/// The end of the envelope and the headers that we put on top.
pub async fn begin_content(
    submission: &mut Submission,
    wishes: &Wishes,
    received: &[String],
) -> Result<(), CleanupError> {
    flag_record(submission, wishes).await?;
    submission.record(RecordType::MESSAGE, b"").await?;
    for line in wishes.prepend.iter().chain(received) {
        submission.record(RecordType::LINE, line.as_bytes()).await?;
    }
    Ok(())
}

/// The end of the content and what access tables want besides.
pub async fn end_content(submission: &mut Submission, wishes: &Wishes) -> Result<(), CleanupError> {
    submission.record(RecordType::EXTRACTED, b"").await?;
    if let Some(filter) = &wishes.filter {
        submission.record(RecordType::FILTER, filter.as_bytes()).await?;
    }
    if let Some(to) = &wishes.redirect {
        submission.record(RecordType::REDIRECT, to.as_bytes()).await?;
    }
    for bcc in &wishes.bcc {
        submission.record(RecordType::RECIPIENT, bcc.as_bytes()).await?;
        submission.attribute("notify_flags", Notify::NEVER.bits().to_string()).await?;
    }
    flag_record(submission, wishes).await
}

async fn flag_record(submission: &mut Submission, wishes: &Wishes) -> Result<(), CleanupError> {
    let mut flags = CleanupFlags::default();
    if wishes.hold {
        flags = flags.with(CleanupFlags::HOLD);
    }
    if wishes.discard {
        flags = flags.with(CleanupFlags::DISCARD);
    }
    if flags == CleanupFlags::default() {
        return Ok(());
    }
    submission.record(RecordType::FLAGS, flags.0.to_string().as_bytes()).await
}
