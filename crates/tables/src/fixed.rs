//! Tables of fixed keys from postmap source: `hash:`, `btree:`, `lmdb:`, `texthash:`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::source::{Note, key_and_value, lines};

/// Keys are kept in lower case, as postmap writes them and as Postfix asks.
pub type Fixed = HashMap<String, String>;

/// Reads postmap source. The first of two equal keys counts.
pub fn parse(bytes: &[u8]) -> (Fixed, Vec<Note>) {
    let mut notes = Vec::new();
    let mut table = Fixed::new();
    for line in lines(bytes, &mut notes) {
        let (key, value) = key_and_value(&line.text);
        if key.is_empty() || value.is_empty() {
            notes.push(Note::skipped(line.number, "expected format: key whitespace value"));
            continue;
        }
        if key.ends_with(':') {
            let hint = "record is in \"key: value\" format; is this an alias file?";
            notes.push(Note::remark(line.number, hint));
        }
        insert(&mut table, key, value, line.number, &mut notes);
    }
    (table, notes)
}

pub fn insert(table: &mut Fixed, key: &str, value: &str, line: usize, notes: &mut Vec<Note>) {
    match table.entry(fold(key)) {
        Entry::Vacant(free) => {
            free.insert(value.to_owned());
        }
        Entry::Occupied(taken) => {
            notes.push(Note::remark(line, format!("duplicate entry: \"{}\"", taken.key())));
        }
    }
}

/// The form in which keys are kept and asked for.
pub fn fold(key: &str) -> String {
    key.to_lowercase()
}

#[cfg(test)]
mod tests {
    /// Values of `postmap -s` (Postfix 3.7.11) for the same text.
    #[test]
    fn postmap_source_reads_as_postmap_reads_it() {
        let text = "K1@Dom.x v1 v2  \n   cont\n# c\n\n  more\n\"a b\"@x  q val\nnoval\nk1@dom.x dup\n \
                    ignored\ncolon: x\n";
        let (table, notes) = super::parse(text.as_bytes());
        assert_eq!(table["k1@dom.x"], "v1 v2     cont  more");
        assert_eq!(table["\"a b\"@x"], "q val");
        assert_eq!(table.len(), 3);
        let notes: Vec<_> = notes.iter().map(ToString::to_string).collect();
        insta::assert_debug_snapshot!(notes, @r#"
        [
            "line 7: expected format: key whitespace value",
            "line 8: duplicate entry: \"k1@dom.x\"",
            "line 10: record is in \"key: value\" format; is this an alias file?",
        ]
        "#);
    }
}
