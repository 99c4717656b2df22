//! Both protocols over socket pairs, with look-ups in this process.

use super::*;
use crate::engine::Here;
use crate::passwd_file::Files;
use crate::settings::{
    MechanismName, Owner, PassDriver, Passdb, Realm, Rule, Skip, SkipUser, UserDriver, Userdb,
};
use crate::template::Template;
use daemon::{Peer, Stream};
use protocol::base64;
use protocol::dovecot_auth::sasl;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

const USERS: &str = "alice@example.com:{PLAIN}secret:5000:5000::/var/vmail/alice::userdb_quota_rule=*:storage=2M\n\
    short@example.com:{PLAIN}secret\ncarol@example.com:{PLAIN}secret::::::nologin reason=not=today\n";

fn shared(directory: &std::path::Path, delay: Duration) -> Arc<Shared> {
    let users = directory.join("users");
    std::fs::write(&users, USERS).unwrap();
    let path = Template::parse(users.to_str().unwrap()).unwrap();
    let username_format = Template::parse("%u").unwrap();
    let passdb = Passdb {
        driver: PassDriver::PasswdFile {
            path: path.clone(),
            scheme: "CRYPT".into(),
            username_format: username_format.clone(),
        },
        deny: false,
        master: false,
        skip: Skip::Never,
        mechanisms: Vec::new(),
        username_filter: Vec::new(),
        success: Rule::ReturnOk,
        failure: Rule::Continue,
        internal_failure: Rule::Continue,
        default_fields: Vec::new(),
        override_fields: Vec::new(),
        verbose: None,
    };
    let userdb = Userdb {
        driver: UserDriver::PasswdFile { path, username_format },
        skip: SkipUser::Never,
        success: Rule::ReturnOk,
        failure: Rule::Continue,
        internal_failure: Rule::Continue,
        default_fields: Vec::new(),
        override_fields: Vec::new(),
        verbose: None,
    };
    let realm = Realm {
        mechanisms: vec![MechanismName::Plain, MechanismName::Login, MechanismName::CramMd5],
        passdbs: vec![passdb],
        userdbs: vec![userdb],
        ..Realm::default()
    };
    let settings = Settings { realm, failure_delay: delay, ..Settings::default() };
    let engine = Engine::new(settings, Box::new(Here(Arc::new(Files::default()))));
    Arc::new(Shared::new(engine).unwrap())
}

struct Talk {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Talk {
    fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self { lines: BufReader::new(read).lines(), write }
    }

    fn client(shared: &Arc<Shared>, kind: Kind) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        tokio::spawn(client::serve(Stream::Unix(theirs), Arc::clone(shared), kind));
        Self::new(ours)
    }

    fn master(shared: &Arc<Shared>, kind: Kind, uid: u32, everybody: Option<Owner>) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = Peer::Unix { uid, gid: uid, pid: Some(77) };
        tokio::spawn(master::serve(
            Stream::Unix(theirs),
            peer,
            Arc::clone(shared),
            kind,
            everybody,
        ));
        Self::new(ours)
    }

    async fn say(&mut self, text: &str) {
        self.write.write_all(text.as_bytes()).await.unwrap();
    }

    /// The next line; "" at the end.
    async fn line(&mut self) -> String {
        self.lines.next_line().await.unwrap_or_default().unwrap_or_default()
    }

    async fn ask(&mut self, text: &str) -> String {
        self.say(text).await;
        self.line().await
    }

    /// Reads to `DONE` and says hello; gives the cookie.
    async fn greet(&mut self, pid: u32) -> String {
        let mut cookie = String::new();
        loop {
            let line = self.line().await;
            if let Some(text) = line.strip_prefix("COOKIE\t") {
                cookie = text.to_owned();
            }
            if line == "DONE" || line.is_empty() {
                self.say(&format!("VERSION\t1\t2\nCPID\t{pid}\n")).await;
                return cookie;
            }
        }
    }
}

fn plain(user: &str, password: &str) -> String {
    base64::encode(&sasl::plain(user.as_bytes(), password.as_bytes()))
}

#[tokio::test]
async fn logins_by_every_mechanism() {
    let directory = tempfile::tempdir().unwrap();
    let shared = shared(directory.path(), Duration::ZERO);
    let mut client = Talk::client(&shared, Kind::Client);
    assert_eq!(client.line().await, "VERSION\t1\t2");
    assert_eq!(client.line().await, "MECH\tPLAIN\tplaintext");
    client.greet(1).await;
    let (good, bad) = (plain("Alice@Example.com", "secret"), plain("alice@example.com", "x"));
    for (sent, answer) in [
        (
            format!("AUTH\t1\tPLAIN\tservice=smtp\tresp={good}\n"),
            "OK\t1\tuser=alice@example.com\toriginal_user=Alice@Example.com",
        ),
        (format!("AUTH\t2\tPLAIN\tservice=smtp\tresp={bad}\n"), "FAIL\t2\tuser=alice@example.com"),
        ("AUTH\t3\tplain\tservice=smtp\n".into(), "CONT\t3\t"),
        (
            format!("CONT\t3\t{}\n", plain("short@example.com", "secret")),
            "OK\t3\tuser=short@example.com",
        ),
        ("AUTH\t4\tLOGIN\tservice=smtp\n".into(), "CONT\t4\tVXNlcm5hbWU6"),
        (format!("CONT\t4\t{}\n", base64::encode(b"carol@example.com")), "CONT\t4\tUGFzc3dvcmQ6"),
        (
            format!("CONT\t4\t{}\n", base64::encode(b"secret")),
            "OK\t4\tuser=carol@example.com\tnologin\treason=not=today",
        ),
        (
            "AUTH\t5\tPLAIN\tservice=x\tresp=%%\n".into(),
            "FAIL\t5\tcode=invalid_base64\treason=Invalid base64 data in initial response",
        ),
        ("CONT\t77\tAA==\n".into(), "FAIL\t77\treason=Authentication request timed out"),
        (
            format!("AUTH\t6\tPLAIN\tservice=smtp\tresp={}\n", plain("al ice", "x")),
            "FAIL\t6\tuser=al ice\toriginal_user=al ice",
        ),
    ] {
        assert_eq!(client.ask(&sent).await, answer, "{sent}");
    }
    assert_eq!(client.ask("AUTH\t8\tPLAIN\tservice=x\tresp=AAAA\n").await, "FAIL\t8");
    let challenge = client.ask("AUTH\t9\tCRAM-MD5\tservice=imap\n").await;
    let challenge =
        base64::decode(challenge.strip_prefix("CONT\t9\t").unwrap().as_bytes()).unwrap();
    let mac = crypto::hmac_md5(b"secret", &challenge);
    let response = format!("alice@example.com {}", hex(&mac));
    let answer = client.ask(&format!("CONT\t9\t{}\n", base64::encode(response.as_bytes()))).await;
    assert_eq!(answer, "OK\t9\tuser=alice@example.com");
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let shared = shared(directory.path(), Duration::ZERO);
    for (name, sent) in [
        ("no handshake", "AUTH\t1\tPLAIN\tservice=x\n".to_owned()),
        ("other version", "VERSION\t2\t0\n".into()),
        ("bad pid", "VERSION\t1\t0\nCPID\tjunk\n".into()),
        ("unknown mechanism", "VERSION\t1\t0\nCPID\t1\nAUTH\t1\tGSSAPI\tservice=x\n".into()),
        ("no service", "VERSION\t1\t0\nCPID\t1\nAUTH\t1\tPLAIN\n".into()),
        (
            "duplicate id",
            "VERSION\t1\t0\nCPID\t1\nAUTH\t1\tPLAIN\tservice=x\nAUTH\t1\tPLAIN\tservice=x\n".into(),
        ),
        ("unknown command", "VERSION\t1\t0\nCPID\t1\nQUIT\n".into()),
        ("long line", "x".repeat(16_385)),
    ] {
        let mut client = Talk::client(&shared, Kind::Client);
        while client.line().await != "DONE" {}
        client.say(&sent).await;
        let mut last = client.line().await;
        if name == "duplicate id" && last.starts_with("CONT") {
            last = client.line().await;
        }
        assert_eq!(last, "", "{name}");
    }
}

/// The clock stands still while there is something to do.
#[tokio::test(start_paused = true)]
async fn a_failure_waits_and_a_success_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let shared = shared(directory.path(), Duration::from_millis(1));
    let mut client = Talk::client(&shared, Kind::Client);
    client.greet(1).await;
    let bad = plain("alice@example.com", "x");
    let good = plain("alice@example.com", "secret");
    let both = format!(
        "AUTH\t1\tPLAIN\tservice=a\trip=192.0.2.1\tresp={bad}\nAUTH\t2\tPLAIN\tservice=a\tresp={good}\n"
    );
    let success = client.ask(&both).await;
    assert_eq!(success, "OK\t2\tuser=alice@example.com");
    assert_eq!(client.line().await, "FAIL\t1\tuser=alice@example.com");
}

#[tokio::test]
async fn a_login_is_confirmed_to_the_mail_process() {
    let directory = tempfile::tempdir().unwrap();
    let shared = shared(directory.path(), Duration::ZERO);
    let mut login = Talk::client(&shared, Kind::Login);
    let cookie = login.greet(4711).await;
    let resp = plain("Alice@example.com", "secret");
    let answer =
        login.ask(&format!("AUTH\t1\tPLAIN\tservice=imap\tsession=s\tresp={resp}\n")).await;
    assert!(answer.starts_with("OK\t1\t"), "{answer}");
    let mut master = Talk::master(&shared, Kind::Master, 0, None);
    assert_eq!(master.line().await, "VERSION\t1\t1");
    assert!(master.line().await.starts_with("SPID\t"));
    master.say("VERSION\t1\t1\n").await;
    let request =
        |cookie: &str, pid: u32| format!("REQUEST\t9\t4711\t1\t{cookie}\tsession_pid={pid}\n");
    assert_eq!(master.ask(&request("00", 77)).await, "FAIL\t9");
    assert_eq!(master.ask(&request(&cookie, 78)).await, "FAIL\t9");
    assert_eq!(
        master.ask(&request(&cookie, 77)).await,
        "USER\t9\talice@example.com\tquota_rule=*:storage=2M\tuid=5000\tgid=5000\t\
         home=/var/vmail/alice\tauth_mech=PLAIN\tauth_user=Alice@example.com"
    );
    assert_eq!(master.ask(&request(&cookie, 77)).await, "FAIL\t9");
}

#[tokio::test]
async fn users_are_looked_up_and_listed() {
    let directory = tempfile::tempdir().unwrap();
    let shared = shared(directory.path(), Duration::ZERO);
    let mut userdb = Talk::master(&shared, Kind::Userdb, 0, None);
    userdb.line().await;
    userdb.line().await;
    for (sent, answer) in [
        (
            "USER\t1\talice@example.com\tservice=lmtp\n",
            "USER\t1\talice@example.com\tuid=5000\tgid=5000\thome=/var/vmail/alice\tquota_rule=*:storage=2M",
        ),
        ("USER\t2\tshort@example.com\tservice=lmtp\n", "USER\t2\tshort@example.com"),
        ("USER\t3\tnobody@example.com\tservice=lmtp\n", "NOTFOUND\t3"),
        ("USER\t4\ta/b\tservice=lmtp\n", "NOTFOUND\t4"),
        (
            "PASS\t5\tcarol@example.com\tservice=lmtp\n",
            "PASS\t5\tuser=carol@example.com\tnologin\treason=not=today",
        ),
        ("PASS\t6\tnobody@example.com\tservice=lmtp\n", "NOTFOUND\t6"),
        ("LIST\t7\tservice=x\n", "LIST\t7\talice@example.com"),
    ] {
        assert_eq!(userdb.ask(sent).await, answer, "{sent}");
    }
    assert_eq!(userdb.line().await, "LIST\t7\tshort@example.com");
    assert_eq!(userdb.line().await, "LIST\t7\tcarol@example.com");
    assert_eq!(userdb.line().await, "DONE\t7\t");
    assert_eq!(userdb.ask("REQUEST\t1\t2\t3\tx\n").await, "", "a userdb socket confirms no logins");
}

#[tokio::test]
async fn on_a_socket_for_everybody_a_user_asks_for_himself() {
    let directory = tempfile::tempdir().unwrap();
    let shared = shared(directory.path(), Duration::ZERO);
    let owner = Some(Owner { uid: 101, gid: 101 });
    for (uid, answer) in [
        (0, "USER\t1\talice@example.com\tuid=5000"),
        (101, "USER\t1\talice@example.com\tuid=5000"),
        (5000, "USER\t1\talice@example.com\tuid=5000"),
        (5001, "FAIL\t1"),
    ] {
        let mut userdb = Talk::master(&shared, Kind::Userdb, uid, owner);
        userdb.line().await;
        userdb.line().await;
        let line = userdb.ask("USER\t1\talice@example.com\tservice=lmtp\n").await;
        assert!(line.starts_with(answer), "{uid}: {line}");
        if uid >= 5000 {
            assert_eq!(userdb.ask("LIST\t2\n").await, "DONE\t2\tfail");
            assert_eq!(userdb.ask("PASS\t3\talice@example.com\n").await, "FAIL\t3");
        }
    }
}

// The clock stands still: the minute that a login process has for its last requests passes at once.
#[tokio::test(start_paused = true)]
async fn a_process_that_finishes_sends_its_clients_to_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let shared = shared(directory.path(), Duration::ZERO);
    let mut login = Talk::client(&shared, Kind::Login);
    let cookie = login.greet(4711).await;
    let resp = plain("alice@example.com", "secret");
    login.ask(&format!("AUTH\t1\tPLAIN\tservice=imap\tresp={resp}\n")).await;
    let mut masters = [
        Talk::master(&shared, Kind::Master, 0, None),
        Talk::master(&shared, Kind::Master, 0, None),
    ];
    for master in &mut masters {
        master.line().await;
        master.line().await;
    }
    let [mut knows, mut knows_not] = masters;
    let mut userdb = Talk::master(&shared, Kind::Userdb, 0, None);
    userdb.line().await;
    userdb.line().await;
    shared.finishing.send_replace(Some(Cause::Reload));
    let request = |id: u32| format!("REQUEST\t9\t4711\t{id}\t{cookie}\tsession_pid=77\n");
    assert_eq!(knows_not.ask(&request(2)).await, "", "another process may know it");
    let answer = knows.ask(&request(1)).await;
    assert!(answer.starts_with("USER\t9\t"), "{answer}");
    assert_eq!(login.line().await, "");
    // a mail process that has been idle may still ask
    let answer = userdb.ask("USER\t1\tshort@example.com\tservice=lmtp\n").await;
    assert_eq!(answer, "USER\t1\tshort@example.com");
    shared.finishing.send_replace(Some(Cause::Stop));
    assert_eq!(userdb.line().await, "");
}
