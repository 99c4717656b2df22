use super::*;

fn session() -> Session {
    let client = Client {
        name: "localhost".into(),
        name_status: Default::default(),
        reverse_name: "localhost".into(),
        reverse_status: Default::default(),
        address: "127.0.0.1".parse().ok(),
        port: Some(4000),
        socket_address: None,
        server_address: None,
        server_port: None,
        log_port: false,
    };
    let dialogue = Dialogue {
        host: "mail.example".into(),
        helo_required: false,
        delay_reject: true,
        disable_vrfy: false,
        strict_envelopes: false,
        smtputf8: true,
        strict_smtputf8: false,
        broken_sasl_clients: true,
        size_limit: 1000,
        recipient_limit: 2,
        recipient_overshoot: 1,
    };
    Session::new(client, dialogue, Offers::default())
}

/// Plays commands; whatever is asked of the world is granted.
fn play(session: &mut Session, commands: &[&str]) -> Vec<String> {
    commands.iter().map(|line| one(session, line)).collect()
}

fn one(session: &mut Session, line: &str) -> String {
    let request = Request::parse(line, session.dialect()).expect("a word");
    match session.request(request) {
        Action::Answer(answer) | Action::Close(answer) => answer.reply.to_string(),
        Action::CheckSender(mail) => session.begin(mail, false).to_string(),
        Action::CheckRecipient(recipient) => session.add_recipient(&recipient.address).to_string(),
        Action::ReceiveContent => {
            session.reset();
            "354".into()
        }
        Action::ReceiveChunk { last, first, .. } => {
            if first {
                session.chunks_begun();
            }
            if last {
                session.reset();
            }
            "250 2.0.0 Ok".into()
        }
        Action::SkipChunk { last, answer, .. } => {
            session.chunk_failed(last);
            answer.reply.to_string()
        }
        Action::StartTls => {
            session.tls_started();
            "220".into()
        }
        other => format!("{other:?}"),
    }
}

fn codes(answers: &[String]) -> Vec<&str> {
    answers.iter().map(|answer| answer.get(..3).unwrap_or_default()).collect()
}

#[test]
fn commands_out_of_order_are_refused() {
    for (sent, expected) in [
        (&["RCPT TO:<a@b>"][..], &["503 5.5.1 Error: need MAIL command"][..]),
        (&["RCPT nonsense"], &["503 5.5.1 Error: need MAIL command"]),
        (
            &["MAIL FROM:<>", "MAIL FROM:<>"],
            &["250 2.1.0 Ok", "503 5.5.1 Error: nested MAIL command"],
        ),
        (&["DATA"], &["503 5.5.1 Error: need RCPT command"]),
        (&["MAIL FROM:<>", "DATA"], &["250 2.1.0 Ok", "554 5.5.1 Error: no valid recipients"]),
        (&["AUTH PLAIN"], &["503 5.5.1 Error: authentication not enabled"]),
        (&["STARTTLS"], &["502 5.5.1 Error: command not implemented"]),
        (&["XCLIENT NAME=x"], &["550 5.7.0 Error: insufficient authorization"]),
        (&["XCLIENT"], &["501 5.5.4 Syntax: XCLIENT attribute=value..."]),
        (
            &["MAIL FROM:<>", "ETRN a.b"],
            &["250 2.1.0 Ok", "503 Error: MAIL transaction in progress"],
        ),
        (&["ETRN a b"], &["500 Syntax: ETRN domain"]),
        (&["ETRN -x-"], &["501 Error: invalid parameter syntax"]),
        (&["QUIT now"], &["221 2.0.0 Bye"]),
    ] {
        assert_eq!(play(&mut session(), sent), expected, "{sent:?}");
    }
}

#[test]
fn helo_resets_and_ehlo_lists() {
    let mut session = session();
    session.offers = Offers {
        starttls: true,
        auth: Some(vec!["PLAIN".into(), "LOGIN".into()]),
        xforward: true,
        ..Offers::default()
    };
    let answers = play(&mut session, &["MAIL FROM:<>", "EHLO c.example", "MAIL FROM:<>"]);
    assert_eq!(codes(&answers), ["250", "250", "250"]);
    let reply = session.greeted("c.example", true);
    assert_eq!(
        reply.text(),
        [
            "mail.example",
            "PIPELINING",
            "SIZE 1000",
            "VRFY",
            "ETRN",
            "STARTTLS",
            "AUTH PLAIN LOGIN",
            "AUTH=PLAIN LOGIN",
            "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT",
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "DSN",
            "SMTPUTF8",
            "CHUNKING"
        ]
    );
    session.tls_started();
    assert!(!session.greeted("c", true).text().contains(&"STARTTLS".to_owned()));
}

#[test]
fn recipients_are_limited_with_an_overshoot() {
    let mut session = session();
    let sent = ["MAIL FROM:<>", "RCPT TO:<a@b>", "RCPT TO:<a@b>", "RCPT TO:<a@b>"];
    assert_eq!(codes(&play(&mut session, &sent)), ["250", "250", "250", "452"]);
    let request = Request::parse("RCPT TO:<a@b>", session.dialect()).expect("a word");
    let Action::Answer(answer) = session.request(request) else { unreachable!() };
    assert!(answer.failed, "the second one beyond the limit is an error");
}

#[test]
fn chunks_that_fail_are_skipped_to_the_last() {
    let mut session = session();
    assert_eq!(
        play(
            &mut session,
            &["BDAT 3", "MAIL FROM:<>", "BDAT 4 LAST", "MAIL FROM:<>", "RCPT TO:<a@b>", "BDAT 0",]
        ),
        [
            "503 5.5.1 Error: need RCPT command",
            "503 5.5.1 Error: MAIL after BDAT",
            "551 5.0.0 Discarded 4 bytes after earlier error",
            "250 2.1.0 Ok",
            "250 2.1.5 Ok",
            "551 5.7.1 Null BDAT request",
        ]
    );
    session.reset();
    let sent = ["MAIL FROM:<>", "RCPT TO:<a@b>", "BDAT 3", "DATA", "RCPT TO:<a@b>", "BDAT 1 LAST"];
    assert_eq!(codes(&play(&mut session, &sent)), ["250", "250", "250", "503", "503", "250"]);
}

#[test]
fn a_size_outlives_a_failed_mail_until_reset() {
    let mut session = session();
    let size = |session: &mut Session, line: &str| {
        let request = Request::parse(line, session.dialect()).expect("a word");
        match session.request(request) {
            Action::CheckSender(mail) => mail.size,
            other => unreachable!("{other:?}"),
        }
    };
    assert_eq!(size(&mut session, "MAIL FROM:<a@b> SIZE=2000"), Some(2000));
    assert_eq!(size(&mut session, "MAIL FROM:<a@b>"), Some(2000));
    session.reset();
    assert_eq!(size(&mut session, "MAIL FROM:<a@b>"), Some(0));
}

#[test]
fn bad_addresses_are_logged() {
    let mut session = session();
    play(&mut session, &["MAIL FROM:<>", "RCPT TO:<>"]);
    assert_eq!(
        session.take_log(),
        ["warning: Illegal address syntax from localhost[127.0.0.1] in RCPT command: <>"]
    );
}
