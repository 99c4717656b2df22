//! A complete message to its recipients: one task each, one reply each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use daemon::Worker;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::lmtp::id;
use crate::lmtp::session::{Recipient, Transaction};
use crate::lmtp::settings::LmtpSettings;
use crate::lmtp::spool::Spool;
use crate::task::{self, DovecotTarget, Gone, Outcome, Source, Target, Task};

/// Deliveries of one message at a time.
const AT_ONCE: usize = 8;

/// What all recipients of a transaction share.
pub struct Delivery {
    pub worker: Worker,
    pub settings: Arc<LmtpSettings>,
    /// The session's id.
    pub id: String,
    /// The transaction's number in the connection.
    pub number: u32,
    /// What the client called itself in LHLO.
    pub client: String,
    pub secure: bool,
}

impl Delivery {
    /// Delivers to all recipients; the replies in their order, each with its CRLF.
    pub async fn run(&self, transaction: Transaction, spool: &Spool) -> String {
        let sender = transaction.sender.unwrap_or_default();
        let single = transaction.recipients.len() == 1;
        let message_id = spool.message_id();
        let room = Arc::new(Semaphore::new(AT_ONCE));
        // A recipient that was named twice gets one copy and the same answer.
        let mut begun: HashMap<String, usize> = HashMap::new();
        let mut running: Vec<JoinHandle<Result<Outcome, Gone>>> = Vec::new();
        let mut order = Vec::new();
        for recipient in &transaction.recipients {
            let next = running.len();
            let at = *begun.entry(recipient.address.full.clone()).or_insert(next);
            if at == next {
                let task = self.task(&sender, recipient, single);
                running.push(self.begin(task, recipient, spool, Arc::clone(&room)));
            }
            order.push(at);
        }
        let mut outcomes = Vec::new();
        for task in running {
            outcomes.push(task.await.map_err(|error| error.to_string()));
        }
        let mut replies = String::new();
        for (recipient, at) in transaction.recipients.iter().zip(order) {
            let Some(outcome) = outcomes.get(at) else { continue };
            replies.push_str(&self.reply(recipient, outcome, &message_id));
        }
        replies
    }

    fn begin(
        &self,
        task: Task,
        recipient: &Recipient,
        spool: &Spool,
        room: Arc<Semaphore>,
    ) -> JoinHandle<Result<Outcome, Gone>> {
        let (worker, identity) = (self.worker.clone(), recipient.mailbox.identity());
        let content = spool.descriptor();
        tokio::spawn(async move {
            let _room = room.acquire_owned().await;
            let uid = identity.uid;
            let content = content.map_err(|source| Gone::Unreachable { uid, source })?;
            task::perform(&worker, task::DELIVERY, identity, &task, Some(content)).await
        })
    }

    fn task(&self, sender: &str, recipient: &Recipient, single: bool) -> Task {
        let settings = &self.settings;
        let (address, mailbox) = (&recipient.address, &recipient.mailbox);
        let detail =
            address.detail.clone().filter(|detail| settings.save_to_detail && !detail.is_empty());
        Task {
            content: Source::Lines,
            prefix: self.prefix(sender, recipient, single),
            target: Target::Dovecot(Box::new(DovecotTarget {
                location: mailbox.location.clone(),
                home: mailbox.home.clone(),
                mailbox: detail,
                separator: settings.mail.separator,
                hostname: settings.hostname.clone(),
                autocreate: settings.autocreate,
                autosubscribe: settings.autosubscribe,
                fsync: settings.mail.fsync,
                quota: mailbox.quota.clone(),
            })),
        }
    }

    /// `Return-Path`, `Delivered-To` and `Received`, as Dovecot's lmtp writes them.
    fn prefix(&self, sender: &str, recipient: &Recipient, single: bool) -> String {
        let settings = &self.settings;
        let mut out = format!("Return-Path: <{sender}>\n");
        let address = match settings.delivery_address.as_str() {
            "final" => Some(&recipient.address.full),
            "original" => recipient.address.original.as_ref(),
            _ => None,
        };
        if let Some(address) = address.filter(|_| single) {
            out.push_str(&format!("Delivered-To: {address}\n"));
        }
        if settings.add_received {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let date = message::date::format(i64::try_from(now).unwrap_or(0));
            let with = if self.secure { "LMTPS" } else { "LMTP" };
            let id = id::numbered(&self.id, self.number, 1);
            let whom = match single {
                true => format!("\n\tfor <{}>", recipient.address.full),
                false => String::new(),
            };
            out.push_str(&format!(
                "Received: from {}\n\tby {} with {with}\n\tid {id}\n\t(envelope-from <{sender}>){whom}; {date}\n",
                self.client, settings.hostname,
            ));
        }
        out
    }

    fn reply(
        &self,
        recipient: &Recipient,
        outcome: &Result<Result<Outcome, Gone>, String>,
        message_id: &str,
    ) -> String {
        let address = &recipient.address.full;
        let id = id::numbered(&self.id, self.number, recipient.number);
        let (error, text, reply) = match outcome {
            Ok(Ok(Outcome::Saved { mailbox, instead_of })) => {
                if let Some(why) = instead_of {
                    self.log(recipient, message_id, true, &format!("save {why}"));
                }
                let text = format!("saved mail to {mailbox}");
                (false, text, format!("250 2.0.0 <{address}> {id} Saved"))
            }
            Ok(Ok(Outcome::OverQuota)) => {
                let code =
                    if self.settings.quota_full_tempfail { "452 4.2.2" } else { "552 5.2.2" };
                let full = "Quota exceeded (mailbox for user is full)";
                let text = format!("save failed to INBOX: {full}");
                (false, text, format!("{code} <{address}> {full}"))
            }
            Ok(Ok(Outcome::Failed(failure))) => {
                let text = format!("save failed to INBOX: {}", failure.text);
                (true, text, internal(address))
            }
            Ok(Ok(Outcome::Text(_))) => {
                (true, "save failed to INBOX: unexpected answer".to_owned(), internal(address))
            }
            Ok(Err(gone)) => (true, format!("save failed to INBOX: {gone}"), internal(address)),
            Err(panic) => (true, format!("save failed to INBOX: {panic}"), internal(address)),
        };
        self.log(recipient, message_id, error, &text);
        reply + "\r\n"
    }

    fn log(&self, recipient: &Recipient, message_id: &str, error: bool, text: &str) {
        let user = &recipient.mailbox.name;
        let id = id::numbered(&self.id, self.number, recipient.number);
        let (ident, pid) = (&self.settings.ident, std::process::id());
        let level = if error { "Error: " } else { "" };
        let text = format!("lmtp({user})<{pid}><{id}>: {level}msgid={message_id}: {text}");
        if error {
            tracing::error!(target: "mail", ident = %ident, message_id, user = %user, "{text}");
        } else {
            tracing::info!(target: "mail", ident = %ident, message_id, user = %user, "{text}");
        }
    }
}

/// The client learns when it was, not why.
fn internal(address: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let stamp = message::date::format_stamp(i64::try_from(now).unwrap_or(0));
    format!(
        "451 4.2.0 <{address}> Internal error occurred. Refer to server log for more information. [{stamp}]"
    )
}
