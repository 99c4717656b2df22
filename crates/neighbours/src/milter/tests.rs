//! The conversation with a filter that is no friend: a scripted one at the other end of a socket.

use std::path::PathBuf;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use protocol::milter::{Event, Frame, LONGEST_FRAME, Negotiation, Reply, Steps};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::{
    Chain, Change, Client, DefaultAction, FilterSettings, Message, Piece, Response, Settings,
};

const LATER: &str = "451 4.7.1 Service unavailable - try again later";

/// A place for a filter's socket.
struct Rig {
    directory: tempfile::TempDir,
    listener: UnixListener,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
        Self { directory, listener }
    }

    fn chain(&self, action: DefaultAction) -> Chain {
        Chain::new(&settings("unix:socket", action), "postfix/smtpd", self.directory.path())
    }

    /// The filter's end, negotiated with these steps.
    async fn met(&self, steps: Steps) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut peer = Peer { stream, input: BytesMut::new() };
        assert!(matches!(peer.event().await, Some(Event::Negotiate(offer)) if offer.version == 6));
        peer.say(&Reply::Negotiate(Negotiation { steps, ..Negotiation::default() })).await;
        peer
    }
}

fn settings(name: &str, default_action: DefaultAction) -> Settings {
    let filter = FilterSettings {
        name: name.to_owned(),
        connect_timeout: Duration::from_secs(30),
        command_timeout: Duration::from_secs(30),
        content_timeout: Duration::from_secs(300),
        protocol: "6".to_owned(),
        default_action,
    };
    Settings { filters: vec![filter], ..Settings::default() }
}

/// The filter's side of a connection.
struct Peer {
    stream: UnixStream,
    input: BytesMut,
}

impl Peer {
    /// The next event that is no list of macros.
    async fn event(&mut self) -> Option<Event> {
        loop {
            while let Some(frame) = Frame::take(&mut self.input, LONGEST_FRAME).unwrap() {
                match Event::decode(frame).unwrap() {
                    Event::Macros { .. } => {}
                    event => return Some(event),
                }
            }
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn say(&mut self, reply: &Reply) {
        let mut out = Vec::new();
        reply.encode(&mut out);
        self.raw(&out).await;
    }

    async fn raw(&mut self, octets: &[u8]) {
        let _ = self.stream.write_all(octets).await; // the server may have gone
    }

    /// "Continue" to everything up to the end of the connection, at the end of a message with `edits` in front; the codes
    /// of what came.
    async fn agree(mut self, edits: &[Reply]) -> String {
        let mut heard = String::new();
        while let Some(event) = self.event().await {
            heard.push(char::from(event.code()));
            if matches!(event, Event::Eom(_)) {
                let mut out = Vec::new();
                edits.iter().for_each(|edit| edit.encode(&mut out));
                self.raw(&out).await;
            }
            if event.stage().is_some() {
                self.say(&Reply::Continue).await;
            }
        }
        heard
    }
}

/// A connection with one message: what the chain says of it, and the edits that were asked for.
async fn one_letter(mut chain: Chain) -> (Option<Response>, Vec<Change>) {
    assert_eq!(chain.connect(&client(), &nothing).await, None);
    let mut letter = Letter::of(&["Subject: x", "", "body"]);
    let response = chain.message(&mut letter, &nothing).await;
    chain.quit().await;
    (response, letter.changes)
}

fn client() -> Client {
    Client { name: "unknown".into(), address: Some([192, 0, 2, 1].into()), port: 25 }
}

fn nothing(_: &str) -> Option<String> {
    None
}

/// A message of a few lines that notes its edits.
#[derive(Default)]
struct Letter {
    pieces: Vec<Piece>,
    at: usize,
    changes: Vec<Change>,
}

impl Letter {
    fn of(lines: &[&'static str]) -> Self {
        let pieces = lines.iter().map(|line| Piece::Line(Bytes::from_static(line.as_bytes())));
        Self { pieces: pieces.collect(), ..Self::default() }
    }
}

impl Message for Letter {
    fn rewind(&mut self) -> Result<(), Response> {
        self.at = 0;
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Piece>, Response> {
        self.at += 1;
        Ok(self.pieces.get(self.at - 1).cloned())
    }

    fn own_field(&self) -> &[u8] {
        b"Received: by us"
    }

    fn longest_field(&self) -> usize {
        100
    }

    async fn change(&mut self, change: Change) -> Option<Response> {
        self.changes.push(change);
        None
    }
}

#[tokio::test]
async fn a_message_is_shown_in_its_parts_and_the_end_is_said() {
    let rig = Rig::new();
    let mut chain = rig.chain(DefaultAction::Tempfail);
    let server = async {
        assert_eq!(chain.connect(&client(), &nothing).await, None);
        assert_eq!(chain.helo("c.example", &nothing).await, None);
        assert_eq!(chain.mail("<a@example.com>", &[], &nothing).await, None);
        let mut letter =
            Letter::of(&["Received: by us", "Subject: x", "\tfolded", "", "body", "more"]);
        assert_eq!(chain.message(&mut letter, &nothing).await, None);
        chain.abort();
        chain.quit().await;
        letter.changes
    };
    let filter = async { rig.met(Steps(0)).await.agree(&[]).await };
    let (changes, heard) = tokio::join!(server, filter);
    assert_eq!((changes, heard.as_str()), (vec![], "CHMLNBEAQ"));
}

#[tokio::test]
async fn what_happens_without_a_filter_is_as_configured() {
    let directory = tempfile::tempdir().unwrap();
    for (action, wanted) in [
        (DefaultAction::Accept, None),
        (DefaultAction::Tempfail, Some(Response::reply(LATER))),
        (DefaultAction::Reject, Some(Response::reply("550 5.5.0 Service unavailable"))),
        (DefaultAction::Quarantine, Some(Response::Hold)),
        (DefaultAction::Shutdown, Some(Response::reply(&LATER.replace("451", "421")))),
    ] {
        for name in ["unix:absent", "unix:/absent/socket", "inet:127.0.0.1:x", "inet:nowhere", "x"]
        {
            let mut chain = Chain::new(&settings(name, action), "postfix/smtpd", directory.path());
            assert_eq!(chain.connect(&client(), &nothing).await, wanted, "{name} {action:?}");
            assert_eq!(chain.mail("<>", &[], &nothing).await, wanted, "{name} {action:?}");
            assert_eq!(chain.standing(), wanted);
            chain.quit().await;
            assert_eq!(chain.standing(), None);
        }
    }
}

#[tokio::test]
async fn a_long_path_is_no_panic() {
    let name = format!("unix:/{}", "x".repeat(5000));
    let settings = settings(&name, DefaultAction::Tempfail);
    let mut chain = Chain::new(&settings, "postfix/smtpd", &PathBuf::new());
    assert_eq!(chain.connect(&client(), &nothing).await, Some(Response::reply(LATER)));
}

#[tokio::test]
async fn replies_may_be_cut_anywhere() {
    let rig = Rig::new();
    let mut chain = rig.chain(DefaultAction::Tempfail);
    let filter = async {
        let mut peer = rig.met(Steps(0)).await;
        peer.event().await.unwrap();
        let mut out = Vec::new();
        Reply::Progress.encode(&mut out);
        Reply::ReplyCode("550 5.7.1 no".into()).encode(&mut out);
        for octet in out {
            peer.raw(&[octet]).await;
            tokio::task::yield_now().await;
        }
        peer.event().await
    };
    let server = async {
        let response = chain.connect(&client(), &nothing).await;
        drop(chain);
        response
    };
    let (response, after) = tokio::join!(server, filter);
    assert_eq!(response, Some(Response::reply("550 5.7.1 no")));
    assert!(after.is_none(), "{after:?}");
}

/// Each answer ends the conversation at once; none is waited for, stored or believed.
#[tokio::test]
async fn nonsense_ends_the_conversation() {
    for nonsense in [
        &b"\x7f\xff\xff\xff"[..],
        b"\0\x10\0\x02c",
        b"\0\0\0\0",
        b"\0\0\0\x02cc",
        b"\0\0\0\x01\xff",
        b"\0\0\0\x05i\0\0\0\0",
        b"\0\0\0\x02ya",
        b"220 mail.example.com ESMTP\r\n",
        b"O",
        b"",
    ] {
        let rig = Rig::new();
        let (mut chain, from) = (rig.chain(DefaultAction::Tempfail), client());
        let filter = async {
            let mut peer = rig.met(Steps(0)).await;
            peer.event().await.unwrap();
            peer.raw(nonsense).await;
            if nonsense.len() < 4 {
                drop(peer.stream); // a piece of a frame, and the end
                return None;
            }
            peer.event().await
        };
        let (response, after) = tokio::join!(chain.connect(&from, &nothing), filter);
        let shown = nonsense.escape_ascii();
        // A reply that is no SMTP reply is a mistake of the filter's author, to Postfix.
        let text = if nonsense.ends_with(b"ya") { Response::MISCONFIGURED } else { LATER };
        assert_eq!(response, Some(Response::reply(text)), "{shown}");
        assert!(after.is_none(), "{shown}: {after:?}");
        assert!(!chain.is_active());
    }
}

#[tokio::test]
async fn a_handshake_that_asks_for_what_was_not_offered_fails() {
    let answer = |version: u32, actions: u32, steps: u32| {
        let mut frame = b"\0\0\0\x0dO".to_vec();
        [version, actions, steps].iter().for_each(|word| frame.extend(word.to_be_bytes()));
        frame
    };
    for (frame, good) in [
        (answer(6, 0x1ff, 0), true),
        (answer(2, 0, 0x7f), true),
        (answer(7, 0, 0), false),
        (answer(6, 0x200, 0), false),
        (b"\0\0\0\x05O\0\0\0\x06".to_vec(), false),
        (b"\0\0\0\x01c".to_vec(), false),
    ] {
        let rig = Rig::new();
        let mut chain = rig.chain(DefaultAction::Reject);
        let filter = async {
            let (stream, _) = rig.listener.accept().await.unwrap();
            let mut peer = Peer { stream, input: BytesMut::new() };
            peer.event().await.unwrap();
            peer.raw(&frame).await;
            if peer.event().await.is_some() {
                peer.say(&Reply::Continue).await;
            }
        };
        let server = async {
            let response = chain.connect(&client(), &nothing).await;
            chain.quit().await;
            drop(chain);
            response
        };
        let (response, ()) = tokio::join!(server, filter);
        assert_eq!(response.is_none(), good, "{}: {response:?}", frame.escape_ascii());
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_filter_is_left_in_time() {
    let rig = Rig::new();
    let (mut chain, from) = (rig.chain(DefaultAction::Tempfail), client());
    let start = tokio::time::Instant::now();
    let filter = async {
        let mut peer = rig.met(Steps(0)).await;
        peer.event().await.unwrap();
        // Signs of life count, each for one time limit.
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(20)).await;
            peer.say(&Reply::Progress).await;
        }
        peer.event().await
    };
    let (response, after) = tokio::join!(chain.connect(&from, &nothing), filter);
    assert_eq!(response, Some(Response::reply(LATER)));
    assert!(after.is_none());
    let waited = start.elapsed().as_secs();
    assert!((90..=91).contains(&waited), "{waited}");
}

#[tokio::test]
async fn signs_of_life_without_end_are_no_life() {
    let rig = Rig::new();
    let mut chain = rig.chain(DefaultAction::Accept);
    let filter = async {
        let mut peer = rig.met(Steps(0)).await;
        peer.event().await.unwrap();
        let progress = b"\0\0\0\x01p".repeat(1000);
        while peer.stream.write_all(&progress).await.is_ok() {}
    };
    let server = async {
        let response = chain.connect(&client(), &nothing).await;
        (response, chain.is_active())
    };
    let ((response, active), ()) = tokio::join!(server, filter);
    assert_eq!((response, active), (None, false));
}

/// A filter that wants no answers and reads nothing: what it is told is bounded by a time limit.
#[tokio::test(start_paused = true)]
async fn a_filter_that_does_not_read_is_left() {
    let rig = Rig::new();
    let mut chain = rig.chain(DefaultAction::Tempfail);
    let mut letter = Letter::of(&["Subject: x", ""]);
    letter.pieces.extend((0..2000).map(|_| Piece::Line(Bytes::from(vec![b'x'; 900]))));
    let filter = async {
        let mut peer = rig.met(Steps::SILENT_BODY).await;
        for _ in 0..2 {
            peer.event().await.unwrap();
            peer.say(&Reply::Continue).await;
        }
        peer
    };
    let server = async {
        assert_eq!(chain.connect(&client(), &nothing).await, None);
        assert_eq!(chain.mail("<>", &[], &nothing).await, None);
    };
    let (_peer, ()) = tokio::join!(filter, server);
    // The header would be answered; without one nothing is waited for but room.
    letter.pieces.drain(..2);
    letter.pieces.insert(0, Piece::Line(Bytes::new()));
    let start = tokio::time::Instant::now();
    let response = chain.message(&mut letter, &nothing).await;
    assert_eq!(response, Some(Response::reply(LATER)));
    assert!(start.elapsed() < Duration::from_secs(301));
}

#[tokio::test]
async fn edits_are_bounded_and_come_in_their_order() {
    for (count, good) in [(10_000_u32, true), (10_001, false)] {
        let edit = |index| Reply::InsertHeader { index, name: "X".into(), value: "y".into() };
        let edits: Vec<Reply> = (0..count).map(edit).collect();
        let rig = Rig::new();
        let filter = async { rig.met(Steps(0)).await.agree(&edits).await };
        let server = one_letter(rig.chain(DefaultAction::Tempfail));
        let ((response, changes), _) = tokio::join!(server, filter);
        assert_eq!(response.is_none(), good, "{response:?}");
        assert_eq!(changes.len(), 10_000);
        let in_order = changes.iter().zip(0_u32..).all(
            |(change, at)| matches!(change, Change::InsertHeader { index, .. } if *index == at),
        );
        assert!(in_order);
    }
}

/// On purpose stricter than Postfix, which folds, cuts or takes them.
#[tokio::test]
async fn names_that_no_field_can_have_are_refused() {
    for name in ["", "X Y", "X:", ":", "X\tY", "X\nY", "gr\u{fc}n", "\u{7f}"] {
        let name = Bytes::copy_from_slice(name.as_bytes());
        let edits = [Reply::AddHeader { name: name.clone(), value: "x".into() }];
        let rig = Rig::new();
        let filter = async { rig.met(Steps(0)).await.agree(&edits).await };
        let (outcome, _) = tokio::join!(one_letter(rig.chain(DefaultAction::Tempfail)), filter);
        let refused = Response::reply("451 4.3.5 Server configuration problem - try again later");
        assert_eq!(outcome, (Some(refused), Vec::new()), "{name:?}");
    }
}

#[tokio::test]
async fn a_verdict_over_the_connection_is_the_last_word() {
    let rig = Rig::new();
    let mut chain = rig.chain(DefaultAction::Tempfail);
    let filter = async {
        let mut peer = rig.met(Steps(0)).await;
        peer.event().await.unwrap();
        peer.say(&Reply::Reject).await;
        peer.event().await
    };
    let server = async {
        let first = chain.connect(&client(), &nothing).await;
        let second = chain.mail("<a@example.com>", &[], &nothing).await;
        (first, second, chain.standing())
    };
    let ((first, second, standing), after) = tokio::join!(server, filter);
    let refused = Some(Response::reply("550 5.7.1 Command rejected"));
    assert_eq!([&first, &second, &standing], [&refused; 3]);
    assert!(after.is_none());
}
