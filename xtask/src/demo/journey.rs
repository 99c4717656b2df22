//! One message submitted, and its way through the daemons as a time line.

use std::time::SystemTime;

use harness::client::{Client, trust};
use harness::log::Line;
use harness::site::Site;

/// Who writes to whom in the demo.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    pub sender: &'static str,
    pub login: &'static str,
    /// `NUL login NUL password` in base64 (RFC 4616).
    plain: &'static str,
    pub recipient: &'static str,
    /// The logins in whose mailboxes it arrives; the first is read by IMAP, the last by POP3.
    pub readers: &'static [&'static str],
}

pub const PASSWORD: &str = "secret";

/// Virtual users; the recipient is an alias of two mailboxes, so that one message is delivered twice.
pub const GUIDE: Cast = Cast {
    sender: "user1@example.com",
    login: "user1@example.com",
    plain: "AHVzZXIxQGV4YW1wbGUuY29tAHNlY3JldA==",
    recipient: "sales@example.org",
    readers: &["user1@example.com", "user2@example.com"],
};

/// System users through PAM: both forms of the name log in.
pub const VPS: Cast = Cast {
    sender: "info@example.com",
    login: "info",
    plain: "AGluZm8Ac2VjcmV0",
    recipient: "postmaster@example.com",
    readers: &["info", "info@example.com"],
};

/// What was submitted.
pub struct Sent {
    pub queue_id: String,
    pub message_id: String,
    began: SystemTime,
}

/// Submits a message on port 587 with STARTTLS and AUTH PLAIN, and waits until it has left the queue.
pub fn submit(site: &Site, cast: &Cast) -> Sent {
    let began = SystemTime::now();
    let message_id = format!(
        "<{}@client.example.com>",
        began.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_micros())
    );
    let trust = trust(&site.ca);
    let mut client = Client::tcp(site.port("submission"));
    client.reply();
    client.expect("EHLO client.example.com", "250");
    client.expect("STARTTLS", "220");
    let mut client = client.start_tls("mail.example.com", &trust);
    client.expect("EHLO client.example.com", "250");
    client.expect(&format!("AUTH PLAIN {}", cast.plain), "235");
    let Cast { sender, recipient, .. } = cast;
    client.expect(&format!("MAIL FROM:<{sender}>"), "250");
    client.expect(&format!("RCPT TO:<{recipient}>"), "250");
    client.expect("DATA", "354");
    let message = format!(
        "From: {sender}\r\nTo: {recipient}\r\nSubject: The first voyage\r\nMessage-ID: {message_id}\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\
         Ahoj! Its planks were replaced one by one, and it never stopped sailing.\r\n."
    );
    let reply = client.expect(&message, "250 2.0.0");
    client.expect("QUIT", "221");
    let queue_id = reply.rsplit(' ').next().unwrap_or_default().to_owned();
    site.log.wait_for(&format!("{queue_id}: removed"));
    Sent { queue_id, message_id, began }
}

/// Prints every line that the daemons wrote about the message, with the milliseconds since its start.
pub fn show(site: &Site, sent: &Sent) {
    println!("\nThe way of {} (message-id {}):\n", sent.queue_id, sent.message_id);
    for line in site.log.lines().iter().filter(|line| is_about(line, sent)) {
        let passed = line.at.duration_since(sent.began).unwrap_or_default();
        println!("{:>7.1} ms  {}", passed.as_secs_f64() * 1000.0, line.text);
    }
}

fn is_about(line: &Line, sent: &Sent) -> bool {
    line.text.contains(&sent.queue_id)
        || (line.at >= sent.began
            && (line.text.contains("connect from")
                || line.text.contains("TLS connection established")))
}
