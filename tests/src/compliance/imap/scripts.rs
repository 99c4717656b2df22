//! The scripts. `USER` becomes the name of each server's own user.

/// What is wrong, in every way that a client has found.
pub const MISTAKES: &[&str] = &[
    "a0 CAPABILITY",
    "c LOGIN USER secret",
    "e NAMESPACE",
    "g  NOOP",
    "h FETCH 1",
    "m SEARCH OR",
    "q STATUS INBOX (MESSAGES)",
    "ag CLOSE",
    "f SELECT INBOX",
    "h FETCH 1",
    "h1 FETCH 1 FLAGS",
    "i SEARCH",
    "j STORE 1 FLAGS \\Seen",
    "k FOO",
    "n UID FOO",
    "p FETCH 1 (FLAGS",
    "r STATUS INBOX MESSAGES",
    "r STATUS INBOX (FOO)",
    "r STATUS INBOX ()",
    "n15 UID COPY 1",
    "n14 UID",
    "n17 SEARCH FOO",
    "n18 SEARCH KEYWORD",
    "n19 SEARCH NOT",
    "n20 SEARCH UID foo",
    "n21 SEARCH BEFORE foo",
    "n22 SEARCH LARGER abc",
    "n23 SEARCH CHARSET x-none ALL",
    "n7 SELECT \"abc",
    "n9 SELECT a(b",
    "n10 SELECT nosuch)",
    "n21 SELECT {3~}",
    "n11 NOOP",
    "n8 SELECT \"a\\bc\"",
    "n12 CLOSE",
    "d43 LOGIN alice pw",
    "d51 APPEND Sent",
    "d52 APPEND",
    "d53 APPEND INBOX (\\Seen foo \\Recent) {5}",
    "d54 GETQUOTA foo",
    "d55 SETQUOTA \"User quota\" (STORAGE 10)",
    "d56 GETQUOTA \"User quota\"",
    "d57 GETQUOTAROOT nosuch",
    "d57 GETQUOTAROOT INBOX",
    "d58 ID (\"name\" \"x\")",
    "d58 ID foo",
    "d58 ID NIL",
    "d58 ID (",
    "e1 DELETE",
    "e2 RENAME",
    "e3 RENAME a",
    "e4 CREATE",
    "e5 SUBSCRIBE",
    "e6 LSUB",
    "e7 LIST",
    "e8 STATUS",
    "e9 GETQUOTA",
    "e10 GETQUOTAROOT",
    "e11 UNSUBSCRIBE",
    "e12 SELECT",
    "e13 EXAMINE",
    "e14 STATUS Sent",
    "e16 COPY",
    "e17 UID EXPUNGE",
    "aa ENABLE FOO",
    "ab ENABLE",
    "ac CHECK",
    "ad NOOP extra",
    "l4 LOGOUT",
];

/// A mailbox's life.
pub const MESSAGES: &[&str] = &[
    "c LOGIN USER secret",
    "f SELECT INBOX",
    "a2 APPEND INBOX (\\Seen foo) \"01-Jan-2020 10:11:12 +0100\" {12+}\r\nSubject: x\r\n",
    "a3 APPEND INBOX (\\Seen foo) \"01-Jan-2020 10:11:12 +0100\" {0+}\r\n",
    "a4 APPEND INBOX {3+}\r\nabc",
    "a5 APPEND INBOX {3+}\r\nabd",
    "a6 APPEND nosuch {3+}\r\nabd",
    "h FETCH 1:* (UID FLAGS RFC822.SIZE BODYSTRUCTURE ENVELOPE)",
    "h0 FETCH 1 INTERNALDATE",
    "h3 FETCH 1 (BODY[] RFC822.HEADER RFC822.TEXT BODY[HEADER.FIELDS (Subject From)] BODY[TEXT]<0.3>)",
    "h4 FETCH 1 BODY[1.MIME]",
    "h5 FETCH 1 BODY[foo]",
    "h6 FETCH 1 (FLAGS FOO)",
    "h7 FETCH 1,3:2 FLAGS",
    "h8 FETCH 0 FLAGS",
    "h9 FETCH 99 FLAGS",
    "h10 UID FETCH 99:* FLAGS",
    "h11 FETCH 2 BODY[]",
    "h12 FETCH 3 (FLAGS BODY[TEXT])",
    "h13 FETCH 3 (BODY[TEXT] UID)",
    "i1 STORE 1 FLAGS \\Seen",
    "i1b STORE 1 +FLAGS \\Seen",
    "i2 STORE 1 +FLAGS (\\Deleted)",
    "i3 STORE 1 FLAGS.SILENT ()",
    "i4 STORE 1 +FLAGS (\\Recent)",
    "i5 STORE 1 +FLAGS (a]b)",
    "i6 STORE 1 FOO (a)",
    "i7 UID STORE 1 +FLAGS (bar)",
    "i8 UID STORE 999 +FLAGS (bar)",
    "i9 STORE 1:3 +FLAGS.SILENT (baz)",
    "i10 STORE 1:3 -FLAGS (\\Seen)",
    "j1 SEARCH ALL",
    "j2 UID SEARCH RETURN (MIN MAX COUNT ALL) ALL",
    "j3 SEARCH RETURN () 1:*",
    "j5 SEARCH 99",
    "j7 SEARCH KEYWORD foo UNKEYWORD bar",
    "j10 SEARCH (OR SEEN DELETED) NOT (ANSWERED)",
    "j11 SEARCH RETURN (MIN) UID 99",
    "j12 SEARCH HEADER Subject \"\" SINCE 1-Jan-2020",
    "j13 SEARCH SUBJECT x",
    "j14 SEARCH TEXT abc",
    "j15 SEARCH BODY abd",
    "j16 SEARCH NEW",
    "j17 SEARCH CHARSET UTF-8 SUBJECT {2+}\r\nxx",
    "k1 COPY 1 Sent",
    "k2 COPY 1 nosuch",
    "k3 MOVE 1 Sent",
    "k4 UID COPY 999 Sent",
    "k4 UID MOVE 999 Sent",
    "k5 EXPUNGE",
    "k6 STATUS Sent (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE)",
    "k7 STATUS INBOX (MESSAGES)",
    "k8 STORE 1 +FLAGS.SILENT (\\Deleted)",
    "k8 UID EXPUNGE 1",
    "k8 UID EXPUNGE 2",
    "k9 CLOSE",
    "l1 EXAMINE INBOX",
    "l2 STORE 1 +FLAGS (\\Seen)",
    "l3 EXPUNGE",
    "l3a FETCH 1 BODY[]",
    "l3b UNSELECT",
    "l4 LOGOUT",
];

/// Names, and what is told of them.
pub const MAILBOXES: &[&str] = &[
    "c LOGIN USER secret",
    "d CREATE foo.",
    "d1 CREATE foo/bar",
    "d2 CREATE a..b",
    "d3 CREATE .a",
    "d4 CREATE \"a&b\"",
    "d5 CREATE \"x y\"",
    "d6 LIST \"\" *",
    "d7 LIST \"\" \"\"",
    "d8 LIST \"foo\" \"b*\"",
    "d9 CREATE INBOX",
    "d9 CREATE Sent",
    "d9 CREATE Trash",
    "d9 CREATE Trash",
    "d10 CREATE a.b.c",
    "d11 LIST \"\" %",
    "d12 LIST \"\" a%",
    "d13 DELETE a",
    "d14 DELETE nosuch",
    "d15 RENAME foo bar",
    "d16 RENAME nosuch bar",
    "d17 RENAME bar INBOX",
    "d17 RENAME bar bar",
    "d18 RENAME INBOX bar",
    "d18 RENAME a q",
    "d18 LIST \"\" q*",
    "d19 SUBSCRIBE bar",
    "d19 SUBSCRIBE inbox",
    "d20 SUBSCRIBE nosuch",
    "d21 UNSUBSCRIBE nosuch",
    "d22 LIST (SUBSCRIBED) \"\" *",
    "d23 LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %",
    "d23 SUBSCRIBE q.b.c",
    "d23 LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %",
    "d23 LIST (SUBSCRIBED) \"\" %",
    "d24 DELETE bar",
    "d25 LSUB \"\" %",
    "d26 LIST (SUBSCRIBED) \"\" *",
    "d26 LIST (SUBSCRIBED) \"\" * RETURN (CHILDREN)",
    "d26 LIST \"\" * RETURN (SUBSCRIBED CHILDREN)",
    "d27 LIST \"\" INBOX",
    "d28 LIST \"\" inbox",
    "d29 STATUS inbox (UIDNEXT)",
    "d30 CREATE \"\"",
    "d31 DELETE INBOX",
    "d32 LIST (FOO) \"\" *",
    "d33 LIST \"\" * RETURN (STATUS (MESSAGES))",
    "d34 LIST (SPECIAL-USE) \"\" *",
    "d34 LIST \"\" (* %) RETURN (CHILDREN SUBSCRIBED SPECIAL-USE)",
    "d38 LSUB \"\" %",
    "d39 LSUB \"\" q.%",
    "d39 LSUB \"\" *",
    "d44 SELECT nosuch",
    "d45 STATUS nosuch (MESSAGES)",
    "d46 SELECT q",
    "d46 DELETE q.b.c",
    "d47 SELECT Drafts",
    "d48 UNSELECT",
    "d49 LIST \"\" *",
    "d50 LOGOUT",
];

/// Conversations without a login.
pub const BEFORE_LOGIN: &[&[&str]] = &[
    &["a CAPABILITY", "b NOOP", "c ID NIL", "d ENABLE X", "e STARTTLS", "f LOGOUT"],
    &["a FOO", "b SELECT INBOX", "c LOGIN"],
    &["a LOGIN x (y)", "* NOOP", "b NOOP"],
    &["a AUTHENTICATE FOO", "b AUTHENTICATE PLAIN", "*", "c LOGOUT"],
    &["a AUTHENTICATE PLAIN *bad*", "b LOGOUT"],
    &["a LOGIN USER secret", "b LOGOUT"],
];

/// Messages with everything that a MIME tree can have, and some that no mailer should have sent.
pub const MAIL: &[&[u8]] = &[
    b"From: \"A. Person\" <a@example.com>\n\
      To: Group: one@example.org, Two <two@example.org>;, undisclosed\n\
      Cc: =?utf-8?q?J=C3=BCrgen?= <j@example.net>, <@route.example:x@y.example>\n\
      Bcc:\n\
      Subject: =?iso-2022-jp?b?GyRCJDMbKEI=?= test\n\
       folded\n\
      Date: Mon, 1 Jan 2024 10:00:00 +0900\n\
      Message-ID: <m1@example.com>\n\
      In-Reply-To: <m0@example.com>\n\
      MIME-Version: 1.0\n\
      Content-Type: multipart/mixed; boundary=\"b1\"\n\
      \n\
      preamble\n\
      --b1\n\
      Content-Type: multipart/alternative; boundary=b2\n\
      \n\
      --b2\n\
      Content-Type: text/plain; charset=utf-8; format=flowed\n\
      Content-Transfer-Encoding: quoted-printable\n\
      \n\
      J=C3=BCrgen says hello\n\
      two lines\n\
      \n\
      --b2\n\
      Content-Type: text/html; charset=iso-2022-jp\n\
      Content-ID: <cid1@x>\n\
      Content-Language: ja, en\n\
      Content-Location: http://x/\n\
      Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==\n\
      \n\
      <p>hi</p>\n\
      --b2--\n\
      \n\
      --b1\n\
      Content-Type: application/pdf; name=\"a b.pdf\"\n\
      Content-Disposition: attachment; size=10; filename*=UTF-8''%E3%81%82.pdf\n\
      Content-Description: a \"quoted\" thing\n\
      Content-Transfer-Encoding: base64\n\
      \n\
      aGVsbG8gd29ybGQ=\n\
      --b1\n\
      Content-Type: message/rfc822\n\
      \n\
      From: inner@example.com\n\
      Subject: inner subject\n\
      Content-Type: multipart/mixed; boundary=b3\n\
      \n\
      --b3\n\
      \n\
      inner text\n\
      --b3\n\
      Content-Type: image/gif\n\
      Content-Transfer-Encoding: base64\n\
      \n\
      R0lGODlh\n\
      --b3--\n\
      --b1--\n\
      epilogue\n",
    b"Subject: plain\n\nno mime at all\nline 2\n",
    b"From: nodomain\n\
      Subject: say \"hi\" \\ there\n\
      Sender: s@s.example\n\
      Reply-To: r@r.example\n\
      Content-Type: multipart/mixed\n\
      \n\
      no boundary\n",
    b"Subject: digest\n\
      Content-Type: multipart/digest; boundary=d\n\
      \n\
      --d\n\
      \n\
      Subject: one\n\
      \n\
      first\n\
      --d\n\
      \n\
      Subject: two\n\
      \n\
      second\n\
      --d--\n",
    b"Subject: 8bit \xc3\xbc\n\
      From: J\xc3\xbcrgen <j@x.example>\n\
      Content-Type: text/plain; charset=utf-8\n\
      Content-Transfer-Encoding: 8bit\n\
      \n\
      Gr\xc3\xbc\xc3\x9fe\n",
    b"Subject: broken mime\n\
      Content-Type: multipart/mixed; boundary=\"x\"\n\
      \n\
      --x\n\
      Content-Type: text/plain\n\
      \n\
      never closed\n\
      --x\n\
      Content-Type: message/rfc822\n\
      \n",
    b"\nno header, only body\n",
];

const ITEMS: &[&str] = &[
    "(UID FLAGS RFC822.SIZE)",
    "BODYSTRUCTURE",
    "BODY",
    "RFC822.SIZE",
    "BODY.PEEK[HEADER]",
    "BODY.PEEK[TEXT]",
    "BODY.PEEK[]",
    "BODY.PEEK[1]",
    "BODY.PEEK[1.MIME]",
    "BODY.PEEK[1.2]",
    "BODY.PEEK[1.2.MIME]",
    "BODY.PEEK[2]",
    "BODY.PEEK[2.MIME]",
    "BODY.PEEK[3.HEADER]",
    "BODY.PEEK[3.1]",
    "BODY.PEEK[3.2]",
    "BODY.PEEK[3.1.MIME]",
    "BODY.PEEK[3.HEADER.FIELDS (subject)]",
    "BODY.PEEK[9]",
    "BODY.PEEK[1.9]",
    "BODY.PEEK[1.HEADER]",
    "BODY.PEEK[1.TEXT]",
    "BODY.PEEK[HEADER.FIELDS (From X-No SUBJECT)]",
    "BODY.PEEK[HEADER.FIELDS.NOT (From Subject Date)]",
    "BODY.PEEK[]<10.20>",
    "BODY.PEEK[TEXT]<3>",
    "BODY.PEEK[]<100000.5>",
    "BODY.PEEK[1]<2.5>",
    "RFC822.HEADER",
    "BODY[TEXT]",
    "RFC822",
];

const KEYS: &[&str] = &[
    "SUBJECT inner",
    "TEXT inner",
    "BODY inner",
    "BODY hello",
    "FROM person",
    "TO two",
    "HEADER Message-ID m1",
    "SENTON 1-Jan-2024",
    "SENTBEFORE 2-Jan-2024",
    "SENTSINCE 1-Jan-2024",
    "LARGER 100",
    "SMALLER 50",
    "SINCE 1-Jan-2020",
    "BEFORE 1-Jan-2020",
    "UID 3:5",
    "NOT UID 3:5",
    "1:3 SEEN",
    "BODY \"two lines\"",
    "TEXT folded",
    "SUBJECT \"test folded\"",
    "BODY worlds",
    "OLDER 10",
    "YOUNGER 100000",
    "OR FROM person SUBJECT plain",
    "CHARSET US-ASCII TEXT plain",
    "CHARSET UTF-8 BODY {8+}\r\nJ\u{fc}rgen",
    "CHARSET UTF-8 TEXT {8+}\r\ngr\u{fc}\u{df}e",
];

const CHANGES: &[&str] = &[
    "h1 STORE 1:* +FLAGS (\\Flagged)",
    "h2 UID STORE 1:3 -FLAGS.SILENT (\\Flagged)",
    "h3 FETCH 1:* FLAGS",
    "h4 STORE 2,4 +FLAGS (\\Deleted)",
    "h5 UID EXPUNGE 2",
    "h6 EXPUNGE",
    "h7 UID SEARCH ALL",
    "h8 COPY 1:3 Sent",
    "h9 UID COPY 1,5 Sent",
    "h10 MOVE 2:3 Sent",
    "h11 UID MOVE 1 Sent",
    "h12 STATUS Sent (MESSAGES UIDNEXT UNSEEN SIZE)",
    "h13 UID FETCH 1:* (FLAGS)",
    "h14 CLOSE",
    "h15 LOGOUT",
];

/// Every section of every message, and searches through them.
pub fn parts() -> Vec<String> {
    let mut script = vec!["c LOGIN USER secret".to_owned(), "f SELECT INBOX".to_owned()];
    for item in ITEMS {
        for number in 1..=MAIL.len() {
            script.push(format!("g{} FETCH {number} {item}", script.len()));
        }
    }
    // The first one's folded subject is a literal in Dovecot's envelope, and a quoted string in ours.
    for number in 2..=MAIL.len() {
        script.push(format!("e{number} FETCH {number} ENVELOPE"));
    }
    for (number, key) in KEYS.iter().enumerate() {
        let octets = key.split("\r\n").nth(1).map_or(0, str::len);
        let key = key.replace("{8+}", &format!("{{{octets}+}}"));
        script.push(format!("s{number} SEARCH {key}"));
    }
    // Where the flags stand that a FETCH itself sets.
    for line in [
        "u0 STORE 1:* -FLAGS.SILENT (\\Seen)",
        "u1 FETCH 1 (UID BODY[])",
        "u2 FETCH 2 (BODY[] UID RFC822.SIZE)",
        "u3 UID FETCH 3 BODY[TEXT]",
        "u4 FETCH 4 (BODY[1] FLAGS UID)",
        "u5 FETCH 5 (RFC822.SIZE RFC822 ENVELOPE)",
        "u6 FETCH 6 (ENVELOPE BODY[]<0.5> UID)",
    ] {
        script.push(line.to_owned());
    }
    script.extend(CHANGES.iter().map(|&line| line.to_owned()));
    script
}
