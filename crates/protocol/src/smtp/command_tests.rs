use super::*;
use crate::smtp::OriginalRecipient;
use mail_types::{Body, Notify, Ret};

fn answer(line: &str) -> String {
    let request = Request::parse(line, Dialect::SMTP).expect("a word");
    match request.command {
        Ok(command) => format!("{command:?}"),
        Err(mistake) => Reply::from(mistake).to_string(),
    }
}

#[test]
fn mistakes_get_postfix_replies() {
    for (line, reply) in [
        ("EHLO", "501 Syntax: EHLO hostname"),
        ("MAIL", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        ("MAIL TO:<a@b>", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        ("MAIL FROM:<a@b", "501 5.1.7 Bad sender address syntax"),
        ("MAIL FROM:<a b@c.example>", "501 5.1.7 Bad sender address syntax"),
        ("MAIL FROM:<a@b> SIZE=", "501 5.5.4 Bad message size syntax"),
        ("MAIL FROM:<a@b> SIZE=-1", "501 5.5.4 Bad message size syntax"),
        (
            "MAIL FROM:<a@b> SIZE=99999999999999999999999",
            "552 5.3.4 Message size exceeds file system imposed limit",
        ),
        ("MAIL FROM:<a@b> BODY=BINARYMIME", "555 5.5.4 Unsupported option: BODY=BINARYMIME"),
        ("MAIL FROM:<a@b> FOO", "555 5.5.4 Unsupported option: FOO"),
        ("MAIL FROM:<a@b> SMTPUTF8=x", "555 5.5.4 Unsupported option: SMTPUTF8=x"),
        ("MAIL FROM:<a@b> RET=FOO", "501 5.5.4 Bad RET parameter syntax"),
        ("MAIL FROM:<a@b> RET=FULL RET=FULL", "501 5.5.4 Bad RET parameter syntax"),
        ("MAIL FROM:<a@b> ENVID=+0A", "501 5.5.4 Bad ENVID parameter syntax"),
        ("MAIL FROM:<a@b> ENVID=a+", "501 5.5.4 Bad ENVID parameter syntax"),
        ("MAIL FROM:<a@b> AUTH=a AUTH=b", "503 5.5.4 Error: multiple AUTH= options"),
        ("RCPT TO:<>", "501 5.1.3 Bad recipient address syntax"),
        ("RCPT a@b", "501 5.5.4 Syntax: RCPT TO:<address>"),
        ("RCPT TO:<a@b> NOTIFY=NEVER,SUCCESS", "501 5.5.4 Error: Bad NOTIFY parameter syntax"),
        ("RCPT TO:<a@b> NOTIFY=", "501 5.5.4 Error: Bad NOTIFY parameter syntax"),
        ("RCPT TO:<a@b> ORCPT=a@b", "501 5.5.4 Error: Bad ORCPT parameter syntax"),
        ("RCPT TO:<a@b> ORCPT=;a@b", "501 5.5.4 Error: Bad ORCPT parameter syntax"),
        ("RCPT TO:<a@b> SIZE=10", "555 5.5.4 Unsupported option: SIZE=10"),
        ("DATA now", "501 5.5.4 Syntax: DATA"),
        ("RSET x", "501 5.5.4 Syntax: RSET"),
        ("STARTTLS x", "501 5.5.4 Syntax: STARTTLS"),
        ("BDAT", "521 5.5.4 Syntax: BDAT count [LAST]"),
        ("BDAT x", "521 5.5.4 Syntax: BDAT count [LAST]"),
        ("BDAT 5 FIRST", "521 5.5.4 Syntax: BDAT count [LAST]"),
        ("BDAT 99999999999999999999", "521 5.5.4 Syntax: BDAT count [LAST]"),
        ("VRFY", "501 5.5.4 Syntax: VRFY address [SMTPUTF8]"),
        ("VRFY SMTPUTF8", "501 5.5.4 Syntax: VRFY address [SMTPUTF8]"),
        ("ETRN", "500 Syntax: ETRN domain"),
        ("AUTH", "501 5.5.4 Syntax: AUTH mechanism"),
        ("AUTH A B C", "501 5.5.4 Syntax: AUTH mechanism"),
        ("XCLIENT", "501 5.5.4 Syntax: XCLIENT attribute=value..."),
        ("XFORWARD NAME", "501 5.5.4 Error: attribute=value expected"),
        ("LHLO x", "500 5.5.2 Error: command not recognized"),
        ("HELP", "500 5.5.2 Error: command not recognized"),
    ] {
        assert_eq!(answer(line), reply, "{line}");
    }
}

#[test]
fn parameters_are_kept() {
    let request = Request::parse(
        "mail from:<a@b.example> size=10 Body=8bitmime SMTPUTF8 AUTH=<> RET=hdrs ENVID=QQ+2B1",
        Dialect::SMTP,
    )
    .expect("a word");
    assert_eq!(
        request.command,
        Ok(Command::Mail(Mail {
            address: "a@b.example".into(),
            argument: "<a@b.example>".into(),
            size: Some(10),
            body: Some(Body::EightBitMime),
            smtputf8: true,
            auth: None,
            ret: Some(Ret::Headers),
            envelope_id: Some("QQ+1".into()),
        }))
    );
    let request = Request::parse(
        "RCPT TO:<a@b.example> NOTIFY=success,DELAY ORCPT=rfc822;a+40b@c.d",
        Dialect::SMTP,
    )
    .expect("a word");
    assert_eq!(
        request.command,
        Ok(Command::Rcpt(Recipient {
            address: "a@b.example".into(),
            argument: "<a@b.example>".into(),
            notify: Notify::SUCCESS.union(Notify::DELAY),
            original: Some(OriginalRecipient { kind: "rfc822".into(), address: "a@b@c.d".into() }),
        }))
    );
}

#[test]
fn the_dialect_decides_which_verbs_exist() {
    let verb = |line, dialect| Request::parse(line, dialect).expect("a word").verb;
    assert_eq!(verb("LHLO x", Dialect::LMTP), Verb::Lhlo);
    assert_eq!(verb("EHLO x", Dialect::LMTP), Verb::Unknown);
    assert_eq!(verb("ehlo x", Dialect::SMTP), Verb::Ehlo);
    assert_eq!(Request::parse("   ", Dialect::SMTP), None);
}

#[test]
fn without_dsn_its_parameters_are_refused() {
    let dialect = Dialect { dsn: false, ..Dialect::SMTP };
    let request = Request::parse("RCPT TO:<a@b> NOTIFY=NEVER", dialect).expect("a word");
    assert_eq!(request.command, Err(Mistake::DsnDisabled));
}

#[test]
fn attribute_values_are_decoded_and_cleaned() {
    let request = Request::parse("XCLIENT NAME=a+2Bb addr=x+0Ay", Dialect::SMTP).expect("a word");
    assert_eq!(
        request.command,
        Ok(Command::XClient(vec![("NAME".into(), "a+b".into()), ("ADDR".into(), "x?y".into())]))
    );
}
