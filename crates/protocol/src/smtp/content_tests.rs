use super::*;
use proptest::prelude::*;

type Pieces = Vec<(Vec<u8>, Ending)>;

/// The lines of DATA content, and what is left for the command parser; `None`: the end has not come.
fn data(input: &[u8], step: usize) -> (Pieces, Option<Vec<u8>>) {
    let mut content = Content::new(16);
    let mut lines = Vec::new();
    let mut seen = 0;
    for piece in input.chunks(step.max(1)) {
        let mut rest = piece;
        loop {
            let (used, event) = content.next(rest);
            seen += used;
            match event {
                Event::NeedMore => break,
                Event::Line(line, ending) => lines.push((line.to_vec(), ending)),
                Event::End => return (lines, Some(input[seen..].to_vec())),
            }
            rest = &rest[used..];
        }
    }
    (lines, None)
}

#[test]
fn only_crlf_dot_crlf_ends_data() {
    for (input, ends, stored) in [
        (&b"abc\r\n.\r\n"[..], true, &["abc"][..]),
        (b".\r\n", true, &[]),
        (b"abc\n.\n", false, &["abc"]),
        (b"abc\n.\r\n", false, &["abc"]),
        (b"abc\r\n.\n", false, &["abc"]),
        (b"abc\r.\r", false, &[]),
        (b"abc\r\n.\r\r\nQUIT\r\n", false, &["abc", "\r", "QUIT"]),
        (b"abc\r\n..\r\n.\r\n", true, &["abc", "."]),
        (b"..x\r\n.\r\n", true, &["x"].map(|_| ".x")),
        (b".x\r\n.\r\n", true, &["x"]),
        (b"a\rb\r\n.\r\n", true, &["a\rb"]),
        (b"a\0b\r\n.\r\n", true, &["a\0b"]),
        (b"\r\n.\r\n", true, &[""]),
        (b"a\n\r\n.\r\n", true, &["a", ""]),
        (b"0123456789abcdef.\r\n.\r\n", true, &["0123456789abcdef", "."]),
    ] {
        for step in [1, 2, 3, input.len()] {
            let (lines, rest) = data(input, step);
            let text: Vec<String> =
                lines.iter().map(|(line, _)| String::from_utf8_lossy(line).into_owned()).collect();
            let shown = String::from_utf8_lossy(input);
            assert_eq!(
                (rest.is_some(), text),
                (ends, stored.iter().map(|s| s.to_string()).collect()),
                "{shown:?}"
            );
        }
    }
}

#[test]
fn what_follows_the_end_is_left_alone() {
    assert_eq!(data(b"x\r\n.\r\nQUIT\r\n", 100).1.as_deref(), Some(&b"QUIT\r\n"[..]));
}

fn chunked(sizes: &[usize], input: &[u8], step: usize) -> Pieces {
    let mut chunk = Chunk::new(16);
    let mut lines = Vec::new();
    let mut at = 0;
    for (number, &size) in sizes.iter().enumerate() {
        chunk.begin(size as u64, number + 1 == sizes.len());
        'chunk: loop {
            let piece = &input[at..(at + step).min(input.len())];
            let mut rest = piece;
            loop {
                let (used, event) = chunk.next(rest);
                at += used;
                match event {
                    Event::NeedMore => break,
                    Event::Line(line, ending) => lines.push((line.to_vec(), ending)),
                    Event::End => break 'chunk,
                }
                rest = &rest[used..];
            }
        }
    }
    lines
}

#[test]
fn lines_go_on_across_chunks() {
    let lines = chunked(&[4, 3, 3], b"ab\r\n.\r\nend", 100);
    assert_eq!(
        lines,
        [
            (b"ab".to_vec(), Ending::Crlf),
            (b".".to_vec(), Ending::Crlf),
            (b"end".to_vec(), Ending::Nothing)
        ]
    );
    assert_eq!(chunked(&[3, 1], b"ab\r\n", 100), [(b"ab".to_vec(), Ending::Crlf)]);
    assert_eq!(chunked(&[0], b"", 100), []);
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop_oneof![
        3 => Just(b'\r'),
        3 => Just(b'\n'),
        3 => Just(b'.'),
        2 => any::<u8>()
    ];
    proptest::collection::vec(octet, 0..120)
}

proptest! {
    #[test]
    fn data_one_byte_at_a_time_is_all_at_once(input in octets()) {
        prop_assert_eq!(data(&input, 1), data(&input, input.len()));
    }

    #[test]
    fn chunks_one_byte_at_a_time_are_all_at_once(input in octets(), cut in 0_usize..120) {
        let cut = cut.min(input.len());
        let sizes = [cut, input.len() - cut];
        prop_assert_eq!(chunked(&sizes, &input, 1), chunked(&sizes, &input, 200));
    }

    /// No content that is stuffed properly can end early or leave commands behind.
    #[test]
    fn stuffed_content_is_never_smuggled(input in octets()) {
        let mut stuffed = Vec::new();
        let mut start = true;
        for &octet in &input {
            if start && octet == b'.' {
                stuffed.push(b'.');
            }
            start = stuffed.ends_with(b"\r") && octet == b'\n';
            stuffed.push(octet);
        }
        if !start || input.is_empty() {
            stuffed.extend_from_slice(b"\r\n");
        }
        stuffed.extend_from_slice(b".\r\n");
        let rest = data(&stuffed, 64).1;
        prop_assert_eq!(rest.as_deref(), Some(&b""[..]));
    }
}
