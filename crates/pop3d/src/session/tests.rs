//! Whole conversations on a Maildir, as transcripts.

use super::*;
use crate::settings::Settings;
use login::arrival::Passenger;
use login::facts::Facts;
use std::path::Path;

const FIRST: &[u8] = b"Subject: one\n\n.dot\n";
const SECOND: &[u8] = b"Subject: two\r\n\r\nbody\r\n";

fn passenger(home: &Path) -> Passenger {
    let address = "127.0.0.1:9".parse().unwrap();
    Passenger {
        user: "taro".into(),
        home: home.display().to_string(),
        fields: Vec::new(),
        facts: Facts::new(address, address, &[]),
    }
}

fn deliver(home: &Path, name: &str, content: &[u8]) {
    for directory in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(home.join("Maildir").join(directory)).unwrap();
    }
    std::fs::write(home.join("Maildir/new").join(name), content).unwrap();
}

fn open(home: &Path, settings: &Settings) -> Session {
    let settings = Settings { location: "maildir:~/Maildir".into(), ..settings.clone() };
    Session::new(Maildrop::open(&settings, &passenger(home)).unwrap(), &settings)
}

fn two_messages() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    deliver(home.path(), "1.M1P1.host", FIRST);
    deliver(home.path(), "2.M1P1.host", SECOND);
    home
}

fn talk(session: &mut Session, lines: &[(&str, &str)]) {
    for (line, wanted) in lines {
        match session.command(line.as_bytes()).unwrap() {
            Answer::Say(text) => assert_eq!(text, wanted.replace('|', "\r\n"), "{line}"),
            other => unreachable!("{line}: {other:?}"),
        }
    }
}

#[test]
fn the_commands_of_rfc_1939() {
    let home = two_messages();
    let mut session = open(home.path(), &Settings::default());
    talk(
        &mut session,
        &[
            ("STAT", "+OK 2 44|"),
            ("LIST", "+OK 2 messages:|1 22|2 22|.|"),
            ("list 2", "+OK 2 22|"),
            ("LIST 3", "-ERR There's no message 3.|"),
            ("LIST 0", "-ERR There's no message 0.|"),
            ("RETR x", "-ERR Invalid message number: x|"),
            ("TOP 1", "-ERR Noise after message number: |"),
            ("TOP 1 x", "-ERR Invalid size: x|"),
            ("DELE 1", "+OK Marked to be deleted.|"),
            ("DELE 1", "-ERR Message is deleted.|"),
            ("STAT", "+OK 1 22|"),
            ("LIST", "+OK 1 messages:|2 22|.|"),
            ("RSET", "+OK|"),
            ("STAT", "+OK 2 44|"),
            ("NOOP", "+OK|"),
            ("LAST", "-ERR Unknown command: LAST|"),
            ("XTND", "-ERR Unknown command: XTND|"),
            ("CAPA", "+OK|CAPA|TOP|UIDL|RESP-CODES|PIPELINING|AUTH-RESP-CODE|.|"),
        ],
    );
    assert!(matches!(session.command(b"QUIT"), Ok(Answer::Quit)));
}

#[test]
fn uidls_follow_the_format_and_stay() {
    let home = two_messages();
    let mut session = open(home.path(), &Settings::default());
    let Ok(Answer::Say(text)) = session.command(b"UIDL") else { unreachable!() };
    let list = std::fs::read_to_string(home.path().join("Maildir/dovecot-uidlist")).unwrap();
    let validity = list.split(" V").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let validity: u32 = validity.parse().unwrap();
    assert_eq!(
        text,
        format!("+OK\r\n1 00000001{validity:08x}\r\n2 00000002{validity:08x}\r\n.\r\n")
    );
    let own = Settings { uidl_format: "%f".into(), ..Settings::default() };
    talk(
        &mut open(home.path(), &own),
        &[
            ("UIDL 2", "+OK 2 2.M1P1.host|"),
            ("DELE 2", "+OK Marked to be deleted.|"),
            ("UIDL", "+OK|1 1.M1P1.host|.|"),
            ("UIDL 2", "-ERR Message is deleted.|"),
        ],
    );
}

#[test]
fn quit_deletes_and_marks_as_seen_and_nothing_else_does() {
    let home = two_messages();
    let mut session = open(home.path(), &Settings::default());
    assert!(matches!(session.command(b"RETR 2"), Ok(Answer::Message { lines: None, .. })));
    session.command(b"DELE 1").unwrap();
    session.keep_seen().unwrap(); // the connection is lost
    let names = |home: &Path| {
        let files = std::fs::read_dir(home.join("Maildir/cur")).unwrap();
        let mut names: Vec<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(home.path()), ["1.M1P1.host:2,", "2.M1P1.host:2,S"]);
    let mut session = open(home.path(), &Settings::default());
    session.command(b"DELE 1").unwrap();
    assert_eq!(session.commit().unwrap(), "+OK Logging out, messages deleted.\r\n");
    assert_eq!(names(home.path()), ["2.M1P1.host:2,S"]);
    let quiet = Settings { no_flag_updates: true, ..Settings::default() };
    deliver(home.path(), "3.M1P1.host", FIRST);
    let mut session = open(home.path(), &quiet);
    session.command(b"RETR 2").unwrap();
    assert_eq!(session.commit().unwrap(), "+OK Logging out.\r\n");
    assert_eq!(names(home.path()), ["2.M1P1.host:2,S", "3.M1P1.host:2,"]);
}

#[test]
fn settings_for_unusual_hosts() {
    let home = two_messages();
    deliver(home.path(), "3.M1P1.host", b"X-UIDL: abc\nSubject: three\n\nx\n");
    deliver(home.path(), "4.M1P1.host", b"X-UIDL: abc\nSubject: four\n\nx\n");
    let settings = Settings {
        reuse_xuidl: true,
        rename_duplicates: true,
        enable_last: true,
        deleted_flag: Some("$POP3Deleted".into()),
        uidl_format: "%f".into(),
        ..Settings::default()
    };
    let mut session = open(home.path(), &settings);
    talk(
        &mut session,
        &[("UIDL", "+OK|1 1.M1P1.host|2 2.M1P1.host|3 abc|4 abc-2|.|"), ("LAST", "+OK 0|")],
    );
    session.command(b"RETR 2").unwrap();
    talk(&mut session, &[("LAST", "+OK 2|"), ("DELE 3", "+OK Marked to be deleted.|")]);
    session.commit().unwrap();
    assert_eq!(std::fs::read_dir(home.path().join("Maildir/cur")).unwrap().count(), 4);
    talk(&mut open(home.path(), &settings), &[("STAT", "+OK 3 77|")]);
}

#[test]
fn too_many_bad_commands_end_the_session() {
    let home = two_messages();
    let mut session = open(home.path(), &Settings::default());
    for _ in 0..20 {
        assert!(matches!(session.command(b"X"), Ok(Answer::Say(_))));
    }
    let last = session.command(b"X").unwrap();
    assert_eq!(last, Answer::Leave("-ERR Too many bad commands.\r\n".into()));
}

#[test]
fn one_session_at_a_time_where_it_is_asked_for() {
    let home = two_messages();
    let settings = Settings { location: "maildir:~/Maildir".into(), ..Settings::default() };
    let mut maildrop = Maildrop::open(&settings, &passenger(home.path())).unwrap();
    let lock = maildrop.lock_session().unwrap();
    let path = home.path().join("Maildir/dovecot-pop3-session.lock");
    assert!(
        std::fs::read_to_string(&path).unwrap().starts_with(&format!("{}:", std::process::id()))
    );
    drop(lock);
    assert!(!path.exists());
}

/// With `pop3_lock_session` the second session waits, and what it lists is what the first has left.
#[test]
fn a_session_that_waited_for_another_lists_what_is_left() {
    let home = two_messages();
    let settings = Settings { location: "maildir:~/Maildir".into(), ..Settings::default() };
    let open = || Maildrop::open(&settings, &passenger(home.path())).unwrap();
    let (mut first, mut second) = (open(), open());
    let lock = first.lock_session().unwrap();
    first.delete(&[first.entries()[0].uid]).unwrap();
    drop(lock);
    let _lock = second.lock_session().unwrap();
    assert_eq!(second.entries().len(), 1);
    assert_eq!(second.entries()[0].uid, first.entries()[1].uid);
}
