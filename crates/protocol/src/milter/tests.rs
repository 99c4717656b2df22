//! Both sides as captured between Postfix 3.7.11 and OpenDKIM, and as anything else.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

fn frame(bytes: &[u8]) -> Frame {
    let mut buffer = BytesMut::from(bytes);
    let frame = Frame::take(&mut buffer, LONGEST_FRAME).unwrap().unwrap();
    assert!(buffer.is_empty());
    frame
}

#[test]
fn the_servers_half_of_a_conversation_is_read_and_written_back() {
    let names = |list: &[(&'static str, &'static str)]| {
        list.iter().map(|&(name, value)| (name.into(), value.into())).collect()
    };
    let events = [
        (
            "0000000d 4f 00000006 000001ff 001fffff",
            Event::Negotiate(Negotiation::offer(6).unwrap()),
        ),
        (
            "00000071 44 43 6a006d782e6578616d706c652e6e657400 7b6461656d6f6e5f6e616d657d006d782e6578616d706c652e6e657400 7b6461656d6f6e5f616464727d003132372e302e302e3100 7600506f737466697820332e372e313100 5f006c6f63616c686f7374205b3132372e302e302e315d00",
            Event::Macros {
                code: b'C',
                values: names(&[
                    ("j", "mx.example.net"),
                    ("{daemon_name}", "mx.example.net"),
                    ("{daemon_addr}", "127.0.0.1"),
                    ("v", "Postfix 3.7.11"),
                    ("_", "localhost [127.0.0.1]"),
                ]),
            },
        ),
        (
            "00000018 43 6c6f63616c686f737400 34 b626 3132372e302e302e3100",
            Event::Connect {
                host: "localhost".into(),
                family: Family::Inet { port: 46630, address: "127.0.0.1".into() },
            },
        ),
        ("00000002 44 48", Event::Macros { code: b'H', values: Vec::new() }),
        (
            "00000015 4d 3c616c696365406578616d706c652e636f6d3e00",
            Event::Mail { address: "<alice@example.com>".into(), parameters: Vec::new() },
        ),
        (
            "0000001c 4c 582d466f6c64656400 206f6e650a202074776f0a09746872656500",
            Event::Header { name: "X-Folded".into(), value: " one\n  two\n\tthree".into() },
        ),
        ("00000001 4e", Event::Eoh),
        ("00000001 45", Event::Eom(Bytes::new())),
        ("00000001 41", Event::Abort),
        ("00000001 51", Event::Quit),
    ];
    for (bytes, event) in events {
        let bytes = hex(bytes);
        assert_eq!(Event::decode(frame(&bytes)), Ok(event.clone()));
        let mut written = Vec::new();
        event.encode(&mut written);
        assert_eq!(written, bytes);
    }
}

#[test]
fn the_filters_half_of_a_conversation_is_read_and_written_back() {
    let replies = [
        (
            "0000000d 4f 00000006 00000111 00100702",
            Reply::Negotiate(Negotiation {
                version: 6,
                actions: Actions::ADD_HEADERS | Actions::CHANGE_HEADERS | Actions::SET_MACROS,
                steps: Steps::NO_HELO
                    | Steps::NO_UNKNOWN
                    | Steps::NO_DATA
                    | Steps::SKIP
                    | Steps::LEADING_SPACE,
                macros: Vec::new(),
            }),
        ),
        ("00000001 63", Reply::Continue),
        (
            "00000045 69 00000000 444b494d2d46696c74657200 204f70656e444b494d2046696c7465722076322e31312e30206d782e6578616d706c652e6e657420313645434439444539363100",
            Reply::InsertHeader {
                index: 0,
                name: "DKIM-Filter".into(),
                value: " OpenDKIM Filter v2.11.0 mx.example.net 16ECD9DE961".into(),
            },
        ),
        ("00000001 61", Reply::Accept),
    ];
    for (bytes, reply) in replies {
        let bytes = hex(bytes);
        assert_eq!(Reply::decode(frame(&bytes)), Ok(reply.clone()));
        let mut written = Vec::new();
        reply.encode(&mut written);
        assert_eq!(written, bytes);
    }
}

#[test]
fn versions_offer_what_postfix_offers() {
    for (version, steps) in
        [(2, Some(0x7f)), (3, Some(0x17f)), (4, Some(0x37f)), (5, None), (6, Some(0x1f_ffff))]
    {
        assert_eq!(Negotiation::offer(version).map(|offer| offer.steps.0), steps);
    }
    let rspamd = Steps(0xf_f080);
    assert!(Stage::ALL.into_iter().all(|stage| rspamd.wants(stage)));
    let answered: Vec<_> = Stage::ALL.into_iter().filter(|&stage| rspamd.answers(stage)).collect();
    assert_eq!(answered, [Stage::Eom]);
}

#[test]
fn a_frame_of_no_length_or_too_much_is_refused_before_it_has_come() {
    for (bytes, error) in [
        (&[0, 0, 0, 0][..], BadFrame::Empty),
        (&[0, 0x10, 0, 1], BadFrame::TooLong(0x10_0001)),
        (b"HTTP", BadFrame::TooLong(0x4854_5450)),
    ] {
        assert_eq!(Frame::take(&mut BytesMut::from(bytes), LONGEST_FRAME), Err(error));
    }
}

#[test]
fn a_payload_that_its_code_does_not_allow_is_refused() {
    for (bytes, error) in [
        (&b"\0\0\0\x02cx"[..], BadMessage::Trailing(b'c')),
        (b"\0\0\0\x01z", BadMessage::Code(b'z')),
        (b"\0\0\0\x03hab", BadMessage::Short(b'h')),
        (b"\0\0\0\x03ha\0", BadMessage::Short(b'h')),
        (b"\0\0\0\x06ha\0b\0c", BadMessage::Trailing(b'h')),
        (b"\0\0\0\x04i\0\0\0", BadMessage::Short(b'i')),
        (b"\0\0\0\x06ea\0b\0c", BadMessage::Trailing(b'e')),
        (b"\0\0\0\x05O\0\0\0\x06", BadMessage::Short(b'O')),
    ] {
        assert_eq!(Reply::decode(frame(bytes)), Err(error));
    }
    for (bytes, error) in [
        (&b"\0\0\0\x05DMi\0a"[..], BadMessage::Short(b'D')),
        (b"\0\0\0\x04DMi\0", BadMessage::Short(b'D')),
        (b"\0\0\0\x04Ca\0x", BadMessage::Code(b'C')),
        (b"\0\0\0\x05Ca\0Ux", BadMessage::Trailing(b'C')),
        (b"\0\0\0\x01c", BadMessage::Code(b'c')),
    ] {
        assert_eq!(Event::decode(frame(bytes)), Err(error));
    }
    let mut many = vec![b'M'; 1];
    many.extend_from_slice(&[0; LONGEST_LIST + 2]);
    let many = Frame { code: b'M', payload: many.into() };
    assert_eq!(Event::decode(many), Err(BadMessage::TooMany(b'M')));
}

#[test]
fn a_reply_code_doubles_its_percent_signs() {
    let one = reply_code(550, "5.7.1", "50% off");
    assert_eq!(one, Reply::ReplyCode("550 5.7.1 50%% off".into()));
    let two = reply_code(451, "", "a\nb");
    assert_eq!(two, Reply::ReplyCode("451-a\r\n451 b".into()));
}

/// Text as it can stand in a string.
fn text() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(1..=255_u8, 0..20).prop_map(Bytes::from)
}

fn event() -> impl Strategy<Value = Event> {
    let texts = || proptest::collection::vec(text(), 0..4);
    let pairs = proptest::collection::vec((text(), text()), 0..4);
    let octets = || proptest::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from);
    prop_oneof![
        (any::<u8>(), pairs).prop_map(|(code, values)| Event::Macros { code, values }),
        (text(), any::<u16>(), text()).prop_map(|(host, port, address)| Event::Connect {
            host,
            family: Family::Inet6 { port, address },
        }),
        text().prop_map(|host| Event::Connect { host, family: Family::Unknown }),
        text().prop_map(Event::Helo),
        (text(), texts()).prop_map(|(address, parameters)| Event::Mail { address, parameters }),
        (text(), texts()).prop_map(|(address, parameters)| Event::Rcpt { address, parameters }),
        (text(), text()).prop_map(|(name, value)| Event::Header { name, value }),
        octets().prop_map(Event::Body),
        octets().prop_map(Event::Eom),
        Just(Event::Data),
        Just(Event::Quit),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        Just(Reply::Continue),
        Just(Reply::Progress),
        text().prop_map(Reply::ReplyCode),
        (any::<u32>(), text(), text()).prop_map(|(index, name, value)| Reply::ChangeHeader {
            index,
            name,
            value
        }),
        (text(), text())
            .prop_map(|(address, parameters)| Reply::ChangeFrom { address, parameters }),
        (
            any::<u32>(),
            any::<u32>(),
            any::<u32>(),
            proptest::collection::vec((0..9_u32, text()), 0..3)
        )
            .prop_map(|(version, actions, steps, macros)| Reply::Negotiate(Negotiation {
                version,
                actions: Actions(actions),
                steps: Steps(steps),
                macros,
            })),
        text().prop_map(|reason| Reply::Quarantine { reason }),
    ]
}

proptest! {
    /// One octet at a time is the same as all at once.
    #[test]
    fn what_one_side_writes_the_other_reads(
        events in proptest::collection::vec(event(), 0..6),
        replies in proptest::collection::vec(reply(), 0..6),
    ) {
        let (mut sent, mut answered) = (Vec::new(), Vec::new());
        events.iter().for_each(|event| event.encode(&mut sent));
        replies.iter().for_each(|reply| reply.encode(&mut answered));
        for step in [1, 7, usize::MAX] {
            prop_assert_eq!(&read(&sent, step, Event::decode), &events);
            prop_assert_eq!(&read(&answered, step, Reply::decode), &replies);
        }
    }

    #[test]
    fn garbage_is_a_message_or_an_error(bytes: Vec<u8>) {
        let mut buffer = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = Frame::take(&mut buffer, 1000) {
            let _ = Event::decode(frame.clone());
            let _ = Reply::decode(frame);
        }
        for code in 0..=255 {
            let frame = Frame { code, payload: bytes.clone().into() };
            if let Ok(event) = Event::decode(frame.clone()) {
                let mut written = Vec::new();
                event.encode(&mut written);
                prop_assert_eq!(&written[5..], &bytes[..]);
            }
            let _ = Reply::decode(frame);
        }
    }
}

fn read<T>(bytes: &[u8], step: usize, decode: fn(Frame) -> Result<T, BadMessage>) -> Vec<T> {
    let mut buffer = BytesMut::new();
    let mut list = Vec::new();
    for piece in bytes.chunks(step.min(bytes.len().max(1))) {
        buffer.extend_from_slice(piece);
        while let Some(frame) = Frame::take(&mut buffer, LONGEST_FRAME).unwrap() {
            list.push(decode(frame).unwrap());
        }
    }
    assert!(buffer.is_empty());
    list
}
