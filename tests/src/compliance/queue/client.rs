//! A client of cleanup, and what it finds in the queue afterwards.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// A record: its type and its data.
pub type Record = (char, Vec<u8>);

/// What became of a message.
#[derive(Debug)]
pub struct Taken {
    pub id: String,
    /// The server's last list, NULs as `|`.
    pub answer: String,
    /// Queue, mode, records with id and times made alike.
    pub file: Option<(String, u32, Vec<String>)>,
}

impl PartialEq for Taken {
    fn eq(&self, other: &Self) -> bool {
        self.answer == other.answer && self.file == other.file
    }
}

pub fn bytes(flags: u32, records: &[Record]) -> Vec<u8> {
    let mut bytes = format!("flags\0{flags}\0\0").into_bytes();
    for (kind, data) in records {
        bytes.push(*kind as u8);
        let mut length = data.len();
        while length >= 0x80 {
            bytes.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(data);
    }
    bytes
}

fn connect(queue: &Path, service: &str) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(queue.join("public").join(service)).unwrap();
    stream.set_read_timeout(Some(harness::log::PATIENCE)).unwrap();
    let greeting = list(&mut stream);
    let id = greeting.split('|').nth(3);
    let id =
        id.unwrap_or_else(|| panic!("no greeting from {service}, but {greeting:?}")).to_owned();
    (stream, id)
}

fn list(stream: &mut UnixStream) -> String {
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\0\0") || bytes.ends_with(b"reason\0\0") {
        if stream.read_exact(&mut byte).is_err() {
            break; // the end, or too long a silence
        }
        bytes.push(byte[0]);
    }
    String::from_utf8_lossy(&bytes).replace('\0', "|")
}

/// Sends a message, looks at its file and takes it away.
pub fn give(queue: &Path, flags: u32, records: &[Record]) -> Taken {
    give_to(queue, "cleanup", flags, records)
}

/// As [`give`], to the cleanup service of this name.
pub fn give_to(queue: &Path, service: &str, flags: u32, records: &[Record]) -> Taken {
    let (mut stream, id) = connect(queue, service);
    // A server that refuses early may have closed.
    let _ = stream.write_all(&bytes(flags, records));
    let answer = list(&mut stream);
    let mut file = None;
    for name in ["incoming", "hold"] {
        let path = queue.join(name).join(&id);
        if let Ok(content) = std::fs::read(&path) {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            file = Some((name.to_owned(), mode, shown(&content, &id)));
            std::fs::remove_file(path).unwrap();
        }
    }
    Taken { id, answer, file }
}

/// Sends a message and leaves it in the queue.
pub fn leave(queue: &Path, flags: u32, records: &[Record]) {
    let (mut stream, _) = connect(queue, "cleanup");
    stream.write_all(&bytes(flags, records)).unwrap();
    assert!(list(&mut stream).starts_with("status|0|"));
}

/// Sends part of a conversation and goes away.
pub fn cut(queue: &Path, bytes: &[u8]) {
    let (mut stream, _) = connect(queue, "cleanup");
    let _ = stream.write_all(bytes);
}

/// The records of a file in their order, one line each.
pub fn shown(mut file: &[u8], id: &str) -> Vec<String> {
    let (mut lines, mut of_ids) = (Vec::new(), 0);
    while let [kind, rest @ ..] = file {
        let (mut length, mut size) = (0, 0);
        loop {
            length |= usize::from(rest[size] & 0x7f) << (7 * size);
            size += 1;
            if rest[size - 1] & 0x80 == 0 {
                break;
            }
        }
        let (data, after) = rest[size..].split_at(length);
        let text = String::from_utf8_lossy(data);
        if matches!(kind, b'N' | b'L') {
            of_ids += text.matches(id).count() * id.len();
        }
        let text = text.replace(id, "ID");
        let text = match (text.split_once('='), text.split_once("<20")) {
            (Some(("create_time", _)), _) => "create_time=NOW".to_owned(),
            (_, Some((before, id))) if id.contains(".ID@") => format!("{before}<NOW{}", &id[12..]),
            _ => text,
        };
        lines.push(format!("{} {text}", *kind as char));
        file = after;
    }
    // How long an id is depends on the number of its inode.
    if let Some(sizes) = lines.first_mut().filter(|line| line.starts_with("C ")) {
        *sizes = without(sizes, of_ids);
    }
    lines
}

/// The record of sizes, with content and message shorter by so many octets.
fn without(record: &str, octets: usize) -> String {
    let shorter = |(index, word): (usize, &str)| match (index, word.parse::<usize>()) {
        (1 | 5, Ok(size)) => size.saturating_sub(octets).to_string(),
        _ => word.to_owned(),
    };
    record.split_whitespace().enumerate().map(shorter).collect::<Vec<_>>().join(" ")
}
