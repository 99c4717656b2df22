//! Delivered messages as IMAP and POP3 give them.

use harness::client::{Client, trust};
use harness::site::Site;

use super::journey::PASSWORD;
use crate::run::Done;

/// Logs in on port 143 with STARTTLS and fetches the newest message.
pub fn by_imap(site: &Site, user: &str) -> Vec<String> {
    let mut client = Client::at(site.address(), site.port("imap"));
    client.line();
    client.imap("a", "STARTTLS");
    let mut client = client.start_tls(site.host(), &trust(&site.ca));
    client.imap("b", &format!("LOGIN {user} {PASSWORD}"));
    client.imap("c", "SELECT INBOX");
    let answer = client.imap("d", "FETCH * (UID FLAGS RFC822.SIZE ENVELOPE BODY.PEEK[])");
    client.imap("e", "LOGOUT");
    show("IMAP", user, &answer);
    answer
}

/// Logs in on port 995 and retrieves the newest message.
pub fn by_pop3(site: &Site, user: &str) -> Result<Vec<String>, String> {
    let mut client =
        Client::tls_at(site.address(), site.port("pop3s"), site.host(), &trust(&site.ca));
    client.line();
    let mut last = String::new();
    for command in [format!("USER {user}"), format!("PASS {PASSWORD}"), "STAT".to_owned()] {
        client.send(&command);
        last = client.line();
        if !last.starts_with("+OK") {
            return Err(format!(
                "POP3 refuses:\n{}\nthe daemons say:\n{}",
                client.transcript,
                site.log.text()
            ));
        }
    }
    let number = last.split(' ').nth(1).unwrap_or_default();
    client.send(&format!("RETR {number}"));
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
    Ok(answer)
}

fn show(protocol: &str, user: &str, answer: &[String]) {
    println!("\n{protocol} shows {user}:\n");
    for line in answer {
        println!("    {line}");
    }
}

/// Every one of these texts has to stand in the answer.
pub fn holds(answer: &[String], wanted: &[&str]) -> Done {
    // A folded header field is one line to its reader.
    let text = answer.join("\n").replace("\n\t", " ").replace("\n ", " ");
    match wanted.iter().find(|wanted| !text.contains(**wanted)) {
        None => Ok(()),
        Some(missing) => Err(format!("{missing:?} is not in what was read:\n{text}")),
    }
}
