//! A message submitted on one host, and its way through all daemons as a time line.

use std::time::SystemTime;

use harness::client::{Client, trust};
use harness::log::Line;
use harness::site::Site;
use theoris::trace::timeline::{self, Event};

pub const PASSWORD: &str = "secret";

/// Somebody who sends: on which host, as whom.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    pub address: &'static str,
    pub login: &'static str,
    /// `NUL login NUL password` in base64 (RFC 4616).
    plain: &'static str,
}

/// Who writes to whom on the host `here`.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    pub sender: Sender,
    /// To whom the other host writes.
    pub recipient: &'static str,
    /// The logins in whose mailboxes that arrives; the first is read by IMAP, the last by POP3.
    pub readers: &'static [&'static str],
}

/// Virtual users; the recipient is an alias of two mailboxes, so that one message is delivered twice.
pub const GUIDE: Cast = Cast {
    sender: Sender {
        address: "user1@example.com",
        login: "user1@example.com",
        plain: "AHVzZXIxQGV4YW1wbGUuY29tAHNlY3JldA==",
    },
    recipient: "sales@example.com",
    readers: &["user1@example.com", "user2@example.com"],
};

/// System users through PAM: both forms of the name log in.
pub const VPS: Cast = Cast {
    sender: Sender { address: "info@example.com", login: "info", plain: "AGluZm8Ac2VjcmV0" },
    recipient: "postmaster@example.com",
    readers: &["info", "info@example.com"],
};

/// The one who writes on the other host, and reads there.
pub const ABROAD: Sender = Sender {
    address: "user1@example.org",
    login: "user1@example.org",
    plain: "AHVzZXIxQGV4YW1wbGUub3JnAHNlY3JldA==",
};

/// What was submitted.
pub struct Sent {
    pub queue_id: String,
    pub message_id: String,
    began: SystemTime,
}

/// Submits a message on port 587 of `site` with STARTTLS and AUTH PLAIN, and waits until it has left that host's queue.
pub fn submit(site: &Site, sender: &Sender, recipient: &str, subject: &str) -> Sent {
    let began = SystemTime::now();
    let Sender { address, .. } = sender;
    let message_id = format!(
        "<{}@client.example.com>",
        began.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_micros())
    );
    let host = format!("mail.{}", address.rsplit('@').next().unwrap_or_default());
    let mut client = Client::at(site.address(), site.port("submission"));
    client.reply();
    client.expect("EHLO client.example.com", "250");
    client.expect("STARTTLS", "220");
    let mut client = client.start_tls(&host, &trust(&site.ca));
    client.expect("EHLO client.example.com", "250");
    client.expect(&format!("AUTH PLAIN {}", sender.plain), "235");
    client.expect(&format!("MAIL FROM:<{address}>"), "250");
    client.expect(&format!("RCPT TO:<{recipient}>"), "250");
    client.expect("DATA", "354");
    let message = format!(
        "From: {address}\r\nTo: {recipient}\r\nSubject: {subject}\r\nMessage-ID: {message_id}\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         Ahoj! Its planks were replaced one by one, and it never stopped sailing.\r\n."
    );
    let reply = client.expect(&message, "250 2.0.0");
    client.expect("QUIT", "221");
    let queue_id = reply.rsplit(' ').next().unwrap_or_default().to_owned();
    site.log.wait_for(&format!("{queue_id}: removed"));
    Sent { queue_id, message_id, began }
}

/// The queue id that a message has on the host where it arrives, when it has left the queue there.
pub fn arrived(site: &Site, message_id: &str) -> String {
    let line = site.log.wait_for(&format!("message-id={message_id}"));
    let queue_id = queue_id(&line);
    site.log.wait_for(&format!("{queue_id}: removed"));
    queue_id
}

/// The queue id of the notice that this host wrote about a message, when it is delivered.
pub fn bounced(site: &Site, sent: &Sent) -> String {
    let line = site.log.wait_for(&format!("{}: sender non-delivery notification: ", sent.queue_id));
    let queue_id = line.rsplit(' ').next().unwrap_or_default().to_owned();
    site.log.wait_for(&format!("{queue_id}: removed"));
    queue_id
}

/// `postfix/cleanup[1]: QUEUE-ID: message-id=…`
fn queue_id(line: &str) -> String {
    line.split(": ").nth(1).unwrap_or_default().to_owned()
}

/// Prints every line that the daemons of these hosts wrote about these queue ids, with the time since the start
/// of the first.
pub fn show(sent: &Sent, hosts: &[(&str, &Site, &[&str])]) {
    let mut events = Vec::new();
    for (name, site, queue_ids) in hosts {
        let about = |line: &Line| {
            queue_ids.iter().any(|id| line.text.contains(id))
                || line.text.contains(&sent.message_id)
                || (line.at >= sent.began && line.text.contains("TLS connection established"))
        };
        events.extend(site.log.lines().into_iter().filter(about).map(|line| Event {
            at: micros(line.at),
            host: (*name).to_owned(),
            text: line.text,
        }));
    }
    println!("\nThe way of {} (message-id {}):\n", sent.queue_id, sent.message_id);
    print!("{}", timeline::text(events, Some(micros(sent.began)), false));
}

fn micros(at: SystemTime) -> i64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
