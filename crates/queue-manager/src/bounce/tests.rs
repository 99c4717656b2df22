//! The services against a queue directory of their own, without cleanup.

use super::letters::{Letter, Readers, Report};
use super::notice::{Host, Text};
use super::original::Original;
use super::template::Kind;
use super::*;

use mail_types::QueueId;
use protocol::postfix::bounce::{BounceRequest, Notice};
use protocol::postfix::{Dialect, Dsn, Recipient, greeting, protocols, status_reply};
use queue::{LogEntry, QueueDirectory};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn host() -> Host {
    let files = config::files::Memory::with([
        ("/p/main.cf", "myhostname = mail.example.test\nsmtputf8_enable = yes\n"),
        ("/p/master.cf", ""),
    ]);
    let mut problems = config::Problems::default();
    let host = config::postfix::Host::read(&files, "/p".as_ref(), &mut problems);
    Host {
        myhostname: "mail.example.test".into(),
        mail_name: "Postfix".into(),
        maximal_queue_lifetime: Duration::from_secs(432_000),
        utf8: true,
        threaded: false,
        templates: template::read(&host.main(), &files, &mut problems),
    }
}

fn readers() -> Readers {
    Readers {
        double_bounce: "double-bounce@mail.example.com".into(),
        bounces: "bounces".into(),
        copy_bounces: false,
        delays: "delays".into(),
        copy_delays: false,
        bounced_bounces: "doubles".into(),
        keep_bounced_bounces: false,
        trace_bounces: false,
    }
}

fn service(root: &std::path::Path) -> Arc<Server> {
    let settings = Settings {
        host: host(),
        readers: readers(),
        bounce_size_limit: 50_000,
        old_style_logs: true,
        filtered: false,
        cleanup: root.join("public/cleanup"),
        timeout: Duration::from_secs(5),
        defer_service: "defer".into(),
        trace_service: "trace".into(),
    };
    let log = Arc::new(Log::new("postfix", "bounce"));
    let queue = QueueDirectory::new(root);
    Arc::new(Server::new(LogKind::Bounce, settings, queue, Dialect::default(), log))
}

async fn status(server: &Arc<Server>, input: &[u8]) -> Vec<u8> {
    let (mut near, far) = tokio::io::duplex(1 << 20);
    near.write_all(input).await.unwrap();
    near.shutdown().await.unwrap();
    Arc::clone(server).serve(far).await;
    let mut answer = Vec::new();
    near.read_to_end(&mut answer).await.unwrap();
    let greeting = greeting(Dialect::default(), protocols::BOUNCE);
    answer.strip_prefix(greeting.as_slice()).unwrap().to_vec()
}

#[tokio::test]
async fn a_report_is_on_disk_and_a_notice_that_cannot_be_posted_keeps_it() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("bounce")).unwrap();
    let server = service(root.path());
    let queue_id = QueueId::parse("640A99A4A51").unwrap();
    let recipient = Recipient { address: "x@y.example".into(), ..Recipient::default() };
    let dsn = Dsn::local("5.1.1", "failed", "no such user\nContent-Type: text/html");
    let append = BounceRequest::Append { flags: 0, queue_id: queue_id.clone(), recipient, dsn };
    let append = append.encode(Dialect::default());
    assert_eq!(status(&server, &append).await, status_reply(0));
    let log = root.path().join("bounce/640A99A4A51");
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("reason=no such user?Content-Type: text/html\n"), "{text}");
    let notice = |sender: &str| Notice {
        flags: 0,
        queue_name: "active".into(),
        queue_id: queue_id.clone(),
        encoding: String::new(),
        sendopts: 0,
        sender: sender.into(),
        envelope_id: String::new(),
        ret: 0,
    };
    // No cleanup is there: the sender has not been told, so the log stays.
    let flush = BounceRequest::Flush(notice("a@b.example")).encode(Dialect::default());
    assert_eq!(status(&server, &flush).await, status_reply(-1));
    assert!(log.exists());
    // A bounce that bounces ends here.
    let double = notice("double-bounce@mail.example.com");
    let flush = BounceRequest::Flush(double).encode(Dialect::default());
    assert_eq!(status(&server, &flush).await, status_reply(0));
    assert!(!log.exists());
}

#[tokio::test]
async fn nonsense_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let server = service(root.path());
    for input in [
        &b"nrequest\x009\0\0"[..],
        b"nrequest\x000\0flags\x000\0queue_id\0../../etc/passwd\0\0",
        b"hello\0world\0\0",
    ] {
        assert_eq!(status(&server, input).await, status_reply(-1));
    }
    assert_eq!(status(&server, &[b'x'; 300_000]).await, b"");
}

/// The lines of a notice of Postfix 3.7.11 for the same failure.
#[test]
fn a_failure_is_told_in_postfix_words() {
    let entry = LogEntry {
        recipient: Recipient {
            address: "bad1@sink.test".into(),
            dsn_original: "rfc822;bad1@sink.test".into(),
            ..Recipient::default()
        },
        dsn: Dsn {
            status: "5.1.1".into(),
            diag_type: "smtp".into(),
            diag_text: "550 5.1.1 <bad1@sink.test> no such user here".into(),
            mta_type: "dns".into(),
            mta_name: "127.0.0.1".into(),
            action: "failed".into(),
            reason: "host 127.0.0.1[127.0.0.1] said: 550 5.1.1 <bad1@sink.test> no such \
                     user here (in reply to RCPT TO command)"
                .into(),
        },
    };
    let text = told(&host(), "pfxbob@mail.example.test", entry);
    assert!(text.starts_with("Received: by mail.example.test (Postfix)\n\tid 7FB609A449F; "));
    let text = text.split_once("From: ").unwrap().1;
    insta::assert_snapshot!(text);
}

/// The head and the tail of a notice for a message that is gone.
fn told(host: &Host, sender: &str, entry: LogEntry) -> String {
    let (new, old) =
        (QueueId::parse("7FB609A449F").unwrap(), QueueId::parse("E7C8A9A4497").unwrap());
    let mut original = Original::default();
    original.sender = sender.into();
    let letter = Letter {
        from: String::new(),
        to: sender.into(),
        postmaster: false,
        explained: true,
        report: Report::Recipients(vec![entry]),
        headers_only: true,
        what: "",
        copy: false,
    };
    let text = Text {
        host,
        kind: Kind::Failure,
        letter: &letter,
        id: &old,
        original: &original,
        envelope_id: "abc+",
        utf8: true,
        encoding: Some("8bit"),
        headers_only: true,
        now: 1_795_295_949,
    };
    let lines = [text.head(&new), text.tail()].concat();
    String::from_utf8(lines.join(&b'\n')).unwrap()
}

/// Addresses of RFC 6531 stand as they are, with their type.
#[test]
fn an_address_in_utf8_is_typed_so() {
    let recipient = Recipient { address: "\u{e4}@b.example".into(), ..Recipient::default() };
    let dsn = Dsn::local("5.1.1", "failed", "no");
    let text = told(&host(), "j\u{f6}rg@src.example", LogEntry { recipient, dsn });
    assert!(text.contains("\nX-Postfix-Sender: utf-8; j\u{f6}rg@src.example\n"), "{text}");
    assert!(text.contains("\nFinal-Recipient: utf-8; \u{e4}@b.example\n"), "{text}");
    assert!(text.contains("\nContent-Type: message/global-delivery-status\n"), "{text}");
}
