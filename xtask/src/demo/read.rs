//! The delivered message as IMAP and POP3 give it.

use harness::client::{Client, trust};
use harness::site::Site;

use super::journey::{PASSWORD, Sent};
use crate::run::Done;

/// Logs in on port 143 with STARTTLS and fetches the message.
pub fn by_imap(site: &Site, user: &str, sent: &Sent) -> Done {
    let mut client = Client::tcp(site.port("imap"));
    client.line();
    client.imap("a", "STARTTLS");
    let mut client = client.start_tls("mail.example.com", &trust(&site.ca));
    client.imap("b", &format!("LOGIN {user} {PASSWORD}"));
    client.imap("c", "SELECT INBOX");
    let answer = client.imap("d", "FETCH 1 (UID FLAGS RFC822.SIZE ENVELOPE BODY.PEEK[])");
    client.imap("e", "LOGOUT");
    show("IMAP", user, &answer);
    holds("IMAP", &answer, &sent.message_id, &client.transcript)
}

/// Logs in on port 995 and retrieves the message.
pub fn by_pop3(site: &Site, user: &str, sent: &Sent) -> Done {
    let mut client = Client::tls(site.port("pop3s"), "mail.example.com", &trust(&site.ca));
    client.line();
    for command in [format!("USER {user}"), format!("PASS {PASSWORD}"), "UIDL 1".to_owned()] {
        client.send(&command);
        if !client.line().starts_with("+OK") {
            return Err(format!(
                "POP3 refuses:\n{}\nthe daemons say:\n{}",
                client.transcript,
                site.log.text()
            ));
        }
    }
    client.send("RETR 1");
    let mut answer = vec![client.line()];
    while answer[0].starts_with("+OK")
        && answer.last().is_some_and(|line| line != ".")
        && answer.len() < 200
    {
        answer.push(client.line());
    }
    client.send("QUIT");
    client.line();
    show("POP3", user, &answer);
    holds("POP3", &answer, &sent.message_id, &client.transcript)
}

fn show(protocol: &str, user: &str, answer: &[String]) {
    println!("\n{protocol} shows {user}:\n");
    for line in answer {
        println!("    {line}");
    }
}

fn holds(protocol: &str, answer: &[String], message_id: &str, transcript: &str) -> Done {
    if answer.iter().any(|line| line.contains(message_id)) {
        return Ok(());
    }
    Err(format!("{protocol} does not show {message_id}:\n{transcript}"))
}
