//! One message submitted, and its way through the daemons as a time line.

use std::time::SystemTime;

use harness::client::{Client, trust};
use harness::log::Line;
use harness::site::Site;

pub const FROM: &str = "user1@example.com";
/// An alias of two mailboxes, so that one message is delivered twice.
pub const TO: &str = "sales@example.org";
/// Where it arrives.
pub const MAILBOXES: &[&str] = &["user1@example.com", "user2@example.com"];
pub const PASSWORD: &str = "secret";

/// What was submitted.
pub struct Sent {
    pub queue_id: String,
    pub message_id: String,
    began: SystemTime,
}

/// Submits a message on port 587 with STARTTLS and AUTH PLAIN, and waits until it has left the queue.
pub fn submit(site: &Site) -> Sent {
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
    // NUL user1@example.com NUL secret, in base64 (RFC 4616).
    client.expect("AUTH PLAIN AHVzZXIxQGV4YW1wbGUuY29tAHNlY3JldA==", "235");
    client.expect(&format!("MAIL FROM:<{FROM}>"), "250");
    client.expect(&format!("RCPT TO:<{TO}>"), "250");
    client.expect("DATA", "354");
    let message = format!(
        "From: User One <{FROM}>\r\nTo: Sales <{TO}>\r\nSubject: The first voyage\r\nMessage-ID: {message_id}\r\n\
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
