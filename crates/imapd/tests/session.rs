//! Whole sessions over a pipe: what a client says, what it hears, and what happens when it does not.
#![cfg(test)]

use std::path::Path;
use std::time::Duration;

use daemon::Wire;
use imapd::namespace::Namespaces;
use imapd::session::Session;
use imapd::settings::Settings;
use login::arrival::Passenger;
use login::facts::{Facts, Security};
use mailstore::{Access, Attributes, Location, Options, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

fn passenger(home: &Path) -> Passenger {
    Passenger {
        user: "alice".into(),
        home: home.display().to_string(),
        fields: vec![],
        facts: Facts {
            session: "s".into(),
            remote: "127.0.0.1:9".parse().unwrap(),
            local: "127.0.0.1:143".parse().unwrap(),
            security: Security::Tls,
            server_name: None,
        },
    }
}

/// A session on a Maildir in `home`; `room` octets fit into the pipe.
fn session(home: &Path, room: usize) -> (Session, DuplexStream) {
    let (here, there) = duplex(room);
    let settings = Settings { location: "maildir:~/Maildir".into(), ..Settings::default() };
    let user = passenger(home);
    let namespaces = Namespaces::of(&settings, &user).unwrap();
    (Session::new(Wire::from_io(here), settings, user, namespaces, None), there)
}

fn save(home: &Path, mail: &str) {
    let store = Store::new(Location::maildir(home.join("Maildir")), Options::default());
    store.ensure_inbox().unwrap();
    let mut incoming = store.begin("INBOX").unwrap();
    incoming.write(mail.as_bytes()).unwrap();
    let mut inbox = store.open("INBOX", Access::Peek).unwrap();
    inbox.save(vec![(incoming.finish().unwrap(), Attributes::default())]).unwrap();
}

/// Everything that a client hears to all that it says, without times and UIDVALIDITY.
async fn conversation(home: &Path, says: &[u8], step: usize) -> String {
    let (session, mut client) = session(home, 1 << 20);
    let served = session.run(b"* OK\r\n");
    let asked = async {
        for piece in says.chunks(step) {
            client.write_all(piece).await.unwrap();
            client.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        String::from_utf8(heard).unwrap()
    };
    let ((), heard) = tokio::join!(served, asked);
    let mut text = String::new();
    for line in heard.lines() {
        let line = line.split(" (0.").next().unwrap();
        // A UIDVALIDITY is the second in which its mailbox was made.
        let hidden = line.split_once("UIDVALIDITY ").or_else(|| line.split_once("APPENDUID "));
        text.push_str(hidden.map_or(line, |(before, _)| before));
        text.push('\n');
    }
    text
}

#[tokio::test]
async fn one_octet_at_a_time_is_all_at_once() {
    let says = b"a SELECT INBOX\r\nb FETCH 1 (UID BODY[])\r\nc STORE 1 +FLAGS (a)\r\n\
        d SEARCH SUBJECT {3+}\r\none\r\ne UID SEARCH RETURN (COUNT) ALL\r\nf IDLE\r\nDONE\r\n\
        g APPEND INBOX (\\Flagged) {14+}\r\nSubject: two\r\n\r\nh FETCH 2 (UID FLAGS)\r\n\
        i EXPUNGE\r\nj LOGOUT\r\n";
    let mut heard = Vec::new();
    for step in [1, 7, 10_000] {
        let home = tempfile::tempdir().unwrap();
        save(home.path(), "Subject: one\r\n\r\nbody\r\n");
        let text = conversation(home.path(), says, step).await;
        heard.push(text.replace(|c: char| c.is_ascii_digit() && c > '2', "N"));
    }
    assert_eq!(heard[0], heard[1]);
    assert_eq!(heard[1], heard[2]);
    for line in [
        "* 1 FETCH (UID 1 FLAGS (\\Seen \\Recent) BODY[] {22}",
        "* SEARCH 1",
        "* ESEARCH (TAG \"e\") UID COUNT 1",
        "+ idling",
        "* 2 EXISTS",
        "* 2 FETCH (UID 2 FLAGS (\\Flagged \\Recent))",
        "* BYE Logging out",
    ] {
        assert!(heard[0].lines().any(|heard| heard == line), "{line} in:\n{}", heard[0]);
    }
}

/// Mail that comes while `+ idling` is on its way to the client is told at once.
#[tokio::test]
async fn idle_misses_nothing_at_its_start() {
    let home = tempfile::tempdir().unwrap();
    save(home.path(), "Subject: one\r\n\r\nbody\r\n");
    let (session, mut client) = session(home.path(), 4);
    let served = tokio::spawn(session.run(b""));
    client.write_all(b"s SELECT INBOX\r\n").await.unwrap();
    let mut line = vec![];
    while !line.starts_with(b"s OK") {
        line = read_line(&mut client).await;
    }
    client.write_all(b"i IDLE\r\n").await.unwrap();
    // The pipe is full from here until the client reads on.
    assert_eq!(client.read_u8().await.unwrap(), b'+');
    save(home.path(), "Subject: two\r\n\r\nbody\r\n");
    let told = async { while read_line(&mut client).await != b"* 2 EXISTS\r\n" {} };
    tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
    drop(client);
    let _ = served.await;
}

/// Whoever waits in a mailbox that is not there any more is told at once, and not after DONE.
#[tokio::test]
async fn idle_ends_with_its_mailbox() {
    type Change = fn(&Store);
    let changes: [Change; 2] =
        [|store| store.delete("Gone").unwrap(), |store| store.rename("Gone", "Moved").unwrap()];
    for change in changes {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(Location::maildir(home.path().join("Maildir")), Options::default());
        store.ensure_inbox().unwrap();
        store.create("Gone").unwrap();
        let (session, mut client) = session(home.path(), 1 << 20);
        let served = tokio::spawn(session.run(b""));
        client.write_all(b"s SELECT Gone\r\ni IDLE\r\n").await.unwrap();
        while read_line(&mut client).await != b"+ idling\r\n" {}
        change(&store);
        let mut heard = String::new();
        let ended = client.read_to_string(&mut heard);
        tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().unwrap();
        assert_eq!(heard, "* BYE Selected mailbox was deleted, have to disconnect.\r\n");
        served.await.unwrap();
    }
}

/// The client is told that it has to begin anew, and not to make the mailbox that it copies to.
#[tokio::test]
async fn a_mailbox_that_was_made_anew_is_not_copied_from() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::new(Location::maildir(home.path().join("Maildir")), Options::default());
    save(home.path(), "Subject: one\r\n\r\nbody\r\n");
    store.create("Anew").unwrap();
    let mut anew = store.open("Anew", Access::Select).unwrap();
    let mut inbox = store.open("INBOX", Access::Select).unwrap();
    let uids = [inbox.messages()[0].uid];
    inbox.copy(&uids, &mut anew).unwrap();
    let (session, mut client) = session(home.path(), 1 << 20);
    let served = tokio::spawn(session.run(b""));
    client.write_all(b"s SELECT Anew\r\n").await.unwrap();
    while !read_line(&mut client).await.starts_with(b"s OK") {}
    store.delete("Anew").unwrap();
    store.create("Anew").unwrap();
    client.write_all(b"c COPY 1 INBOX\r\nn NOOP\r\ng COPY 1 INBOX\r\nl LOGOUT\r\n").await.unwrap();
    let mut heard = String::new();
    client.read_to_string(&mut heard).await.unwrap();
    assert!(heard.contains("c NO ") && !heard.contains("TRYCREATE"), "{heard}");
    assert!(heard.contains("* OK [CLOSED] ") && heard.contains("g BAD "), "{heard}");
    served.await.unwrap();
}

async fn read_line(client: &mut DuplexStream) -> Vec<u8> {
    let mut line = vec![];
    while !line.ends_with(b"\n") {
        line.push(client.read_u8().await.unwrap());
    }
    line
}

/// Message numbers stay while a client uses them: others' expunges wait for NOOP.
#[tokio::test]
async fn expunges_wait_until_numbers_may_change() {
    let home = tempfile::tempdir().unwrap();
    for subject in ["one", "two", "three"] {
        save(home.path(), &format!("Subject: {subject}\r\n\r\nbody\r\n"));
    }
    let (session, mut client) = session(home.path(), 1 << 20);
    let served = tokio::spawn(session.run(b""));
    let mut heard = String::new();
    let ask = async |client: &mut DuplexStream, line: &str, heard: &mut String| {
        client.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        let tag = format!("\n{} OK", line.split(' ').next().unwrap());
        let start = heard.len();
        let mut buffer = [0; 4096];
        while !format!("\n{}", &heard[start..]).contains(&tag) {
            let count = client.read(&mut buffer).await.unwrap();
            assert!(count > 0, "{heard}");
            heard.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
        heard[start..].to_owned()
    };
    ask(&mut client, "a SELECT INBOX", &mut heard).await;
    let store = Store::new(Location::maildir(home.path().join("Maildir")), Options::default());
    let mut other = store.open("INBOX", Access::Peek).unwrap();
    let first = other.messages()[0].uid;
    other.remove(&[first]).unwrap();
    let answer = ask(&mut client, "b FETCH 1:3 (UID)", &mut heard).await;
    assert!(!answer.contains("EXPUNGE\r\n"), "{answer}");
    let answer = ask(&mut client, "c STORE 2 +FLAGS (\\Flagged)", &mut heard).await;
    assert!(answer.starts_with("* 2 FETCH (FLAGS (\\Flagged"), "{answer}");
    let answer = ask(&mut client, "d FETCH 1 (BODY[])", &mut heard).await;
    assert!(answer.contains("d OK [EXPUNGEISSUED]"), "{answer}");
    let answer = ask(&mut client, "e NOOP", &mut heard).await;
    assert!(answer.contains("* 1 EXPUNGE\r\n"), "{answer}");
    let answer = ask(&mut client, "f FETCH 1 (UID FLAGS)", &mut heard).await;
    assert!(answer.starts_with("* 1 FETCH (UID 2 FLAGS (\\Flagged"), "{answer}");
    client.write_all(b"g LOGOUT\r\n").await.unwrap();
    served.await.unwrap();
}

/// Who asks for much and reads nothing is dropped after five minutes, and costs little until then.
#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_is_dropped() {
    let home = tempfile::tempdir().unwrap();
    save(home.path(), &format!("Subject: x\r\n\r\n{}", "0123456789\r\n".repeat(200_000)));
    let (session, mut client) = session(home.path(), 4096);
    client.write_all(b"a SELECT INBOX\r\nb FETCH 1 BODY[]\r\n").await.unwrap();
    let begun = tokio::time::Instant::now();
    session.run(b"").await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(300) && took < Duration::from_secs(360), "{took:?}");
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert!(heard.len() <= 4096);
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_sent_away() {
    let home = tempfile::tempdir().unwrap();
    save(home.path(), "Subject: x\r\n\r\n");
    let (session, mut client) = session(home.path(), 4096);
    let begun = tokio::time::Instant::now();
    session.run(b"").await;
    assert_eq!(begun.elapsed().as_secs() / 60, 30);
    let mut heard = String::new();
    client.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "* BYE Disconnected for inactivity.\r\n");
}

/// The disk is full or the mailbox is gone: an answer, and the session lives as far as it can.
#[tokio::test]
async fn a_mailbox_that_is_deleted_ends_the_session() {
    let home = tempfile::tempdir().unwrap();
    save(home.path(), "Subject: x\r\n\r\n");
    let store = Store::new(Location::maildir(home.path().join("Maildir")), Options::default());
    store.create("Work").unwrap();
    let (session, mut client) = session(home.path(), 1 << 16);
    let served = tokio::spawn(session.run(b""));
    client.write_all(b"a SELECT Work\r\n").await.unwrap();
    let mut buffer = [0; 4096];
    let mut heard = String::new();
    while !heard.contains("a OK") {
        let count = client.read(&mut buffer).await.unwrap();
        heard.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    store.delete("Work").unwrap();
    client.write_all(b"b NOOP\r\n").await.unwrap();
    served.await.unwrap();
    client.read_to_string(&mut heard).await.unwrap();
    assert!(
        heard.ends_with("* BYE Selected mailbox was deleted, have to disconnect.\r\n"),
        "{heard}"
    );
}

#[tokio::test]
async fn twenty_mistakes_end_a_session() {
    let home = tempfile::tempdir().unwrap();
    save(home.path(), "Subject: x\r\n\r\n");
    let text = conversation(home.path(), "x\r\n".repeat(30).as_bytes(), 1000).await;
    assert!(text.ends_with("* BYE Too many invalid IMAP commands.\n"), "{text}");
    assert_eq!(text.matches("x BAD").count(), 19);
}
