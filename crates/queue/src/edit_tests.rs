use std::fmt::Write as _;
use std::io::Write as _;

use super::*;
use crate::content::{Content, LineEnd};

const RECEIVED: &str = "Received: from here\n\tby there; now";

/// A file as cleanup leaves it before the milters, and where it can be edited.
fn file(fields: &[&str], body: &str) -> (Editor, u64) {
    let mut bytes = Vec::new();
    let mut points = EditPoints::default();
    let here = |bytes: &Vec<u8>| bytes.len() as u64;
    let dummy = |bytes: &mut Vec<u8>| {
        let at = here(bytes);
        write_dummy(bytes);
        Point { at, target: here(bytes) }
    };
    record::write(&mut bytes, RecordType::SIZE, crate::SizeRecord::default().print().as_bytes());
    record::write(&mut bytes, RecordType::TIME, b"1 2");
    points.sender.at = here(&bytes);
    record::write(&mut bytes, RecordType::SENDER, b"a@b.test");
    write_padding(&mut bytes, RecordType::POINTER, 8);
    points.sender.target = here(&bytes);
    for name in ["one@c.test", "two@c.test"] {
        record::write(&mut bytes, RecordType::ORIGINAL_RECIPIENT, name.as_bytes());
        record::write(&mut bytes, RecordType::RECIPIENT, name.as_bytes());
    }
    points.recipients = dummy(&mut bytes);
    record::write(&mut bytes, RecordType::MESSAGE, b"");
    points.data = here(&bytes);
    for field in fields {
        bytes.extend_from_slice(&field_records(field.as_bytes(), 2048));
    }
    points.header = dummy(&mut bytes);
    for line in format!("\n{body}").lines() {
        record::write(&mut bytes, RecordType::LINE, line.as_bytes());
    }
    // As cleanup does behind the body: room for a pointer.
    write_dummy(&mut bytes);
    points.extracted = here(&bytes);
    record::write(&mut bytes, RecordType::EXTRACTED, b"");
    record::write(&mut bytes, RecordType::END, b"");
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    let end = here(&bytes);
    (Editor::new(file, points, end, Some(1 << 20), RECEIVED.as_bytes()), points.data)
}

fn content(editor: &Editor, data: u64) -> String {
    let mut content = Content::at(editor.file(), data).unwrap();
    let mut text = String::new();
    while let Some((piece, end)) = content.next_piece().unwrap() {
        let end = if end == LineEnd::Newline { "\n" } else { "" };
        write!(text, "{}{end}", String::from_utf8_lossy(&piece)).unwrap();
    }
    assert_eq!(Some(content.position()), Some(editor.points.extracted + 2));
    text
}

fn records(text: &str) -> Vec<u8> {
    field_records(text.as_bytes(), 2048)
}

#[test]
fn inserts_count_every_field_and_see_each_other() {
    let (mut editor, data) = file(&[RECEIVED, "A: 1", "Subject: s"], "body");
    editor.insert_header(0, &records("X-One: 1")).unwrap();
    editor.insert_header(0, &records("X-Two: 2")).unwrap();
    editor.insert_header(1, &records("X-Three: 3")).unwrap();
    editor.insert_header(5, &records("X-Before-Subject: 4")).unwrap();
    editor.insert_header(u32::MAX, &records("X-Last: 5")).unwrap();
    insta::assert_snapshot!(content(&editor, data), @r"
    X-Two: 2
    X-Three: 3
    X-One: 1
    Received: from here
    	by there; now
    A: 1
    X-Before-Subject: 4
    Subject: s
    X-Last: 5

    body
    ");
}

#[test]
fn changes_count_by_name_without_our_own_received() {
    let fields = [RECEIVED, "X-A: 1", "Received: from elsewhere", "x-a: 2\n folded", "X-A: 3"];
    let (mut editor, data) = file(&fields, "body");
    editor.change_header(2, b"X-A", &records("X-A: two")).unwrap();
    editor.delete_header(1, b"X-a").unwrap();
    editor.change_header(1, b"received", &records("Received: changed\r\nfolded\n again")).unwrap();
    editor.change_header(9, b"X-A", &records("X-A: added")).unwrap();
    editor.delete_header(1, b"X-None").unwrap();
    editor.add_header(&records("E:")).unwrap();
    editor.change_header(1, b"E", &records("E: longer than it was before")).unwrap();
    insta::assert_snapshot!(content(&editor, data), @r"
    Received: from here
    	by there; now
    Received: changed
    	folded
     again
    X-A: two
    X-A: 3
    X-A: added
    E: longer than it was before

    body
    ");
}

#[test]
fn bodies_are_replaced_again_and_again_and_headers_go_on() {
    let (mut editor, data) =
        file(&[RECEIVED, "A: 1"], "a body of\nseveral lines that is\nlong enough");
    for (round, body) in
        ["short", "much longer than the first body\nand the room there is\nfor it", "x"]
            .into_iter()
            .enumerate()
    {
        editor.begin_body().unwrap();
        for line in body.lines() {
            editor.body_line(RecordType::LINE, line.as_bytes()).unwrap();
        }
        let size = editor.end_body().unwrap();
        let octets: usize = body.lines().map(|line| line.len() + 2).sum();
        assert_eq!(size, editor.before_body + 2 + octets as u64);
        editor.add_header(&records(&format!("X-Round: {round}"))).unwrap();
        let text = content(&editor, data);
        assert!(text.ends_with(&format!("X-Round: {round}\n\n{body}\n")), "{text}");
    }
    let grown = editor.end();
    for _ in 0..50 {
        editor.begin_body().unwrap();
        editor.body_line(RecordType::LINE, b"again").unwrap();
        editor.end_body().unwrap();
    }
    assert_eq!(editor.end(), grown);
}

#[test]
fn sender_and_recipients_change() {
    let (mut editor, _) = file(&[RECEIVED], "");
    for sender in ["", "a-rather-long-sender@example.test"] {
        let mut bytes = Vec::new();
        record::write_attribute(&mut bytes, "ret_flags", "2");
        let at = bytes.len() as u64;
        record::write(&mut bytes, RecordType::SENDER, sender.as_bytes());
        editor.change_sender(&bytes, at).unwrap();
    }
    let recipient = |name: &[u8]| {
        let mut bytes = Vec::new();
        record::write(&mut bytes, RecordType::ORIGINAL_RECIPIENT, name);
        record::write(&mut bytes, RecordType::RECIPIENT, name);
        bytes
    };
    editor.add_recipients(&recipient(b"three@c.test")).unwrap();
    editor.add_recipients(&recipient(b"four@c.test")).unwrap();
    assert_eq!(editor.cancel_recipients(b"two@c.test").unwrap(), [b"two@c.test"]);
    assert_eq!(editor.cancel_recipients(b"three@c.test").unwrap(), [b"three@c.test"]);
    assert!(editor.cancel_recipients(b"none@c.test").unwrap().is_empty());
    let (mut senders, mut recipients) = (Vec::new(), Vec::new());
    let mut all = Records::new(editor.file()).unwrap();
    while let Some(located) = all.read().unwrap() {
        match located.kind() {
            RecordType::SENDER => senders.push(located.text()),
            RecordType::RECIPIENT => recipients.push(located.text()),
            RecordType::END => break,
            _ => {}
        }
    }
    assert_eq!(senders, ["a-rather-long-sender@example.test"]);
    assert_eq!(recipients, ["one@c.test", "four@c.test"]);
}

#[test]
fn a_limit_holds() {
    let (mut editor, data) = file(&[RECEIVED, "A: 1"], "body");
    editor.limit = Some(editor.end() + 40);
    let long = records(&format!("X: {}", "x".repeat(100)));
    assert!(matches!(editor.add_header(&long), Err(EditError::Full)));
    assert!(matches!(editor.insert_header(0, &long), Err(EditError::Full)));
    assert!(content(&editor, data).ends_with("A: 1\n\nbody\n"));
}

#[derive(Clone, Debug)]
enum Edit {
    Add(String),
    Insert(u32, String),
    Change(u32, usize, String),
    Delete(u32, usize),
    Body(String),
}

const NAMES: [&str; 3] = ["A", "Bee", "X-Longer-Name"];

fn edit() -> impl proptest::strategy::Strategy<Value = Edit> {
    use proptest::prelude::*;
    let field = || {
        (0..3_usize, "[a-z ]{0,40}(\n [a-z]{1,9}){0,2}")
            .prop_map(|(name, value)| format!("{}: {value}", NAMES[name]))
    };
    prop_oneof![
        field().prop_map(Edit::Add),
        (0..9_u32, field()).prop_map(|(index, field)| Edit::Insert(index, field)),
        (1..4_u32, 0..3_usize, "[a-z]{1,30}").prop_map(|(index, name, value)| Edit::Change(
            index,
            name,
            format!("{}: {value}", NAMES[name])
        )),
        (1..4_u32, 0..3_usize).prop_map(|(index, name)| Edit::Delete(index, name)),
        "([a-z]{0,50}\n){0,5}".prop_map(Edit::Body),
    ]
}

/// The same edits on a list of fields.
fn model(fields: &mut Vec<String>, body: &mut String, edit: &Edit) {
    let nth = |fields: &[String], index: u32, name: usize| {
        let matches = |field: &&String| field.split(':').next() == Some(NAMES[name]);
        let found = fields.iter().enumerate().filter(|(_, field)| matches(field));
        found.map(|(at, _)| at).nth(index as usize - 1)
    };
    match edit {
        Edit::Add(field) => fields.push(field.clone()),
        Edit::Insert(index, field) => {
            let at = (*index as usize).min(fields.len());
            fields.insert(at, field.clone());
        }
        Edit::Change(index, name, field) => match nth(fields, *index, *name) {
            Some(at) => fields[at].clone_from(field),
            None => fields.push(field.clone()),
        },
        Edit::Delete(index, name) => {
            if let Some(at) = nth(fields, *index, *name) {
                fields.remove(at);
            }
        }
        Edit::Body(text) => body.clone_from(text),
    }
}

proptest::proptest! {
    #[test]
    fn any_edits_are_as_on_a_list(edits in proptest::collection::vec(edit(), 0..25)) {
        let start = [RECEIVED, "A: 1", "Bee: 2\n folded", "A: 3"];
        let (mut editor, data) = file(&start, "the old body\nof two lines");
        let mut fields: Vec<String> = start.iter().map(|&field| field.to_owned()).collect();
        let mut body = String::from("the old body\nof two lines\n");
        for edit in &edits {
            match edit {
                Edit::Add(field) => editor.add_header(&records(field)),
                Edit::Insert(index, field) => editor.insert_header(*index, &records(field)),
                Edit::Change(index, name, field) => {
                    editor.change_header(*index, NAMES[*name].as_bytes(), &records(field))
                }
                Edit::Delete(index, name) => editor.delete_header(*index, NAMES[*name].as_bytes()),
                Edit::Body(text) => {
                    editor.begin_body().unwrap();
                    for line in text.lines() {
                        editor.body_line(RecordType::LINE, line.as_bytes()).unwrap();
                    }
                    editor.end_body().map(|_| ())
                }
            }
            .unwrap();
            model(&mut fields, &mut body, edit);
        }
        let expected = format!("{}\n\n{body}", fields.join("\n"));
        proptest::prop_assert_eq!(content(&editor, data), expected);
    }
}
