//! ENVELOPE and BODYSTRUCTURE of ordinary and of broken messages: Dovecot's and our scanner's.

use harness::client::Client;
use harness::dovecot::{Dovecot, VMAIL};
use harness::{Scratch, skip};
use message::mime::{Limits, scan};
use protocol::imap::body;

/// One message each; `|` is a line end.
const MESSAGES: &[&str] = &[
    "Subject: plain||body|",
    "From: a@b.example|Sender: s@b|Reply-To: r@b|To: t1@b, T Two <t2@b>|Cc: c@b (C Name)|Bcc:|Date: Sat, 1 Jan 2022 00:00:00 +0000|Message-ID: <m@b>|In-Reply-To: <r@b>|Subject: =?utf-8?Q?J=C3=BC?=|  folded|	more||body without end",
    "From: \"Quoted, \\\"Name\\\"\" <a@b>, Group: g1@b, G Two <g2@b>;, <@route.example,@two:u@h>|To: undisclosed-recipients:;||x|",
    "From: root|To: <root>, @x, \"local part\"@x, a@[192.0.2.1]|Cc: , ,|Bcc: a b c <d@e> trailing, x@y.z (one) (two)||x|",
    "From: A B|To: a@|Cc: <>|Bcc: <a@b|Reply-To: a@b c@d||x|",
    "From: first@b|From: second@b|Subject: one|Subject: two|To: a@b|To: c@d||x|",
    "From: =?iso-2022-jp?B?GyRCRnxLXBsoQg==?= <j@x>|Subject: \"quotes\" and \\backslash||x|",
    "To: \"a\" \"b\" <c@d>|Cc: a (c1) @ (c2) b (c3)||x|",
    "MIME-Version: 1.0|Content-Type: text/html; charset=\"utf-8\"; format=flowed|Content-Transfer-Encoding: Quoted-Printable|Content-ID: <i@d>|Content-Description: some  text|Content-MD5: Q2hlY2s=|Content-Language: ja, en-US|Content-Location: http://x/|Content-Disposition: attachment; filename=\"a b.txt\"; size=10||x|y",
    "Content-Type: text||x|",
    "Content-Type: TEXT/Plain; Charset=US-ASCII; X-Param = value (comment)||x|",
    "Content-Type: application/octet-stream; name=unquoted name.bin||x|",
    "Content-Type: text/plain; charset||x|",
    "Content-Type: ; broken||x|",
    "Content-Type: image/png; name*=UTF-8''%E3%81%82.png; name=\"a.png\"|Content-Disposition: attachment; filename*0=a; filename*1=b; size=5|Content-Transfer-Encoding: base64||iVBO|",
    "Content-Type: multipart/mixed; boundary=b||preamble|--b||one|--b|Content-Type: text/html||<p>||--b--|epilogue|",
    "Content-Type: multipart/mixed; boundary=\"b b\"; x=y||--b b|Content-Type: message/rfc822||Subject: inner|From: i@i||inner body|--b b|Content-Type: multipart/alternative; boundary=c||--c||t|--c|Content-Type: text/html||h|--c--||--b b--|",
    "Content-Type: multipart/mixed||no boundary|",
    "Content-Type: multipart/mixed; boundary=b||no parts|",
    "Content-Type: multipart/mixed; boundary=b||--b||never closed|",
    "Content-Type: multipart/mixed; boundary=b||--b||x|--b--|--b||late|",
    "Content-Type: multipart/digest; boundary=b||--b||Subject: d1||x|--b|Content-Type: text/plain||not a message|--b--|",
    "Content-Type: multipart/mixed; boundary=b||--b|Content-Type: multipart/mixed; boundary=bb||--bb||x|--bb||y|--bb--|--b||z|--b--|",
    "Content-Type: multipart/mixed; boundary=b||--b|Subject: header only|--b||x|--b--|",
    "Content-Type: message/rfc822||Subject: inner|Content-Type: multipart/mixed; boundary=q||--q||a|--q--|",
    "Content-Type: message/rfc822||",
    "Content-Type: message/delivery-status||Reporting-MTA: dns; x||",
    "Content-Type: multipart/report; report-type=delivery-status; boundary=r||--r||text|--r|Content-Type: message/delivery-status||A: b|--r|Content-Type: text/rfc822-headers||Subject: s|--r--|",
    "Content-Disposition: inline|Content-Transfer-Encoding: 8BIT|Content-Language: de|Content-ID:||x|",
    "Content-Type: multipart/mixed; boundary=b||--b|Content-Transfer-Encoding: BASE64|Content-Type: text/plain||YQ==|--b--",
    "Subject:|From:|To:||x|",
    "Date:|Message-ID:|In-Reply-To: |Content-Type:||x|",
    "From: a@b,|To: a@b,,c@d|Cc: a@b;c@d|Reply-To: g: a@b, b c||x|",
    "Subject: no body",
    "",
    "|only a body|",
    "Not a header line|Subject: after||x|",
    "Subject: 8bit \u{fc}|From: \u{fc} <u@x>||\u{fc}|",
    "From: a@b|Date:   Sat,  1 Jan 2022 (comment) 00:00 |Message-ID: <a@b> <c@d>|In-Reply-To: Your message of today||x|",
    "From: \"unterminated <a@b>, c@d||x|",
    "From: (only a comment)|To: (c) <a@b>|Cc: x <y@z> (w)||x|",
    "From: Group One: a@b; , Group Two:;, last@x|Reply-To: Unclosed: a@b, c@d||x|",
    "Content-Type: text/plain; a=1; b=\"two\"; c='three'; d=\"\"|Content-Transfer-Encoding: 7bit (c)||x|",
    "Content-Type: text/x-foo|Content-Disposition: attachment;||x|",
];

#[test]
fn envelopes_and_structures_are_dovecots() {
    if !skip::can_run(true, &["dovecot"]) {
        return;
    }
    let scratch = Scratch::new();
    let mut dovecot = Dovecot::lay(&scratch, &[("alice@example.org", "a")], "");
    let maildir = dovecot.maildir("alice@example.org");
    for name in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(maildir.join(name)).unwrap();
    }
    for (index, message) in MESSAGES.iter().enumerate() {
        let name = format!("{}.M1P1.host", 1_700_000_000 + index);
        std::fs::write(maildir.join("new").join(name), message.replace('|', "\n")).unwrap();
    }
    let owner = format!("{VMAIL}:{VMAIL}");
    let home = maildir.parent().unwrap();
    let done = std::process::Command::new("chown").args(["-R", &owner]).arg(home).status();
    assert!(done.unwrap().success());
    dovecot.start();
    let mut imap = Client::tcp(dovecot.imap);
    imap.line();
    imap.send("a LOGIN alice@example.org a");
    while !imap.line().starts_with("a OK") {}
    imap.send("b SELECT INBOX");
    while !imap.line().starts_with("b OK") {}
    let mut differences = String::new();
    for (index, message) in MESSAGES.iter().enumerate() {
        let number = index + 1;
        imap.send(&format!("c{number} FETCH {number} (ENVELOPE BODYSTRUCTURE)"));
        let theirs = response(&mut imap, &format!("c{number} "));
        let text = message.replace('|', "\n");
        let scanned = scan(text.as_bytes(), Limits::default()).unwrap();
        let mut ours = format!("* {number} FETCH (ENVELOPE ").into_bytes();
        body::envelope(&mut ours, &scanned.envelope);
        ours.extend_from_slice(b" BODYSTRUCTURE ");
        body::structure(&mut ours, &scanned.part, true);
        ours.push(b')');
        let ours = String::from_utf8_lossy(&ours).into_owned();
        if ours != unfolded(&theirs) {
            differences.push_str(&format!("{message}\n  theirs {theirs}\n  ours   {ours}\n"));
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// The untagged answer of a FETCH, with its literals; the tagged one is read too.
fn response(imap: &mut Client, tag: &str) -> String {
    let mut text = imap.line();
    while let Some(size) = text
        .strip_suffix('}')
        .and_then(|text| text.rsplit_once('{'))
        .and_then(|(_, size)| size.parse().ok())
    {
        text.push_str("\r\n");
        text.push_str(&String::from_utf8_lossy(&imap.bytes(size)));
        text.push_str(&imap.line());
    }
    let tagged = imap.line();
    assert!(tagged.starts_with(tag), "{tagged}");
    text
}

/// Dovecot sends a folded header as a literal; as one line it may as well be quoted.
fn unfolded(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let Some((size, after)) = rest[open + 1..].split_once("}\r\n") else { break };
        let Ok(size) = size.parse::<usize>() else { break };
        let literal = &after[..size];
        out.push_str(&rest[..open]);
        if literal.contains(['"', '\\']) || !literal.is_ascii() {
            out.push_str(&rest[open..open + size.to_string().len() + 4]);
            out.push_str(literal);
        } else {
            out.push_str(&format!("\"{literal}\""));
        }
        rest = &after[size..];
    }
    out + rest
}
