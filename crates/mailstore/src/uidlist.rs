//! `dovecot-uidlist` version 3 as text: which UID belongs to which file name.
//!
//! Reading takes whatever stands there. A line that cannot be understood is left out and the list
//! counts as damaged, so that the next writer mends it; every other line keeps its UID. (Dovecot
//! itself throws the whole file away, and with it every client's copy of the mailbox.)

use std::collections::HashMap;

use mail_types::{Uid, UidValidity};

use crate::file_name;

/// A line longer than this is not one of ours, nor of Dovecot's.
const LONGEST_LINE: usize = 4096;

/// One message's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub uid: Uid,
    /// Letters with their values, in the order in which they came.
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub base: Box<[u8]>,
}

impl Record {
    #[must_use]
    pub fn new(uid: Uid, base: &[u8]) -> Self {
        Self { uid, extensions: Vec::new(), base: base.into() }
    }

    /// `S` physical size, `W` virtual size, `G` GUID, `P` POP3 UIDL, `O` POP3 order.
    #[must_use]
    pub fn extension(&self, letter: u8) -> Option<&[u8]> {
        self.extensions.iter().find(|(key, _)| *key == letter).map(|(_, value)| value.as_slice())
    }

    /// The line, with its LF.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        let mut line = self.uid.to_string().into_bytes();
        for (letter, value) in &self.extensions {
            line.push(b' ');
            line.push(*letter);
            line.extend_from_slice(value);
        }
        line.extend_from_slice(b" :");
        line.extend_from_slice(&self.base);
        line.push(b'\n');
        line
    }
}

/// The header line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub uid_validity: Option<UidValidity>,
    next_uid: u32,
    /// The mailbox GUID.
    pub guid: Option<String>,
    /// `P` and letters we do not know, kept as they are.
    others: Vec<(u8, Vec<u8>)>,
}

impl Header {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|&byte| byte == b' ');
        if fields.next()? != b"3" {
            return None;
        }
        let mut header = Self::default();
        for field in fields.filter(|field| !field.is_empty()) {
            let (&letter, value) = field.split_first()?;
            match letter {
                b'V' => header.uid_validity = UidValidity::new(small_number(value)?),
                b'N' => header.next_uid = small_number(value)?,
                b'G' => header.guid = guid(value),
                _ => header.others.push((letter, value.to_vec())),
            }
        }
        Some(header)
    }

    /// The format of POP3 UIDLs that this mailbox insists on (`P`).
    #[must_use]
    pub fn pop3_uidl_format(&self) -> Option<&[u8]> {
        self.others.iter().find(|(letter, _)| *letter == b'P').map(|(_, value)| value.as_slice())
    }
}

fn guid(value: &[u8]) -> Option<String> {
    let right = value.len() == 32 && value.iter().all(u8::is_ascii_hexdigit);
    right.then(|| String::from_utf8_lossy(value).into_owned())
}

fn small_number(digits: &[u8]) -> Option<u32> {
    u32::try_from(file_name::number(digits)?).ok()
}

/// The whole list.
#[derive(Clone, Debug, Default)]
pub struct UidList {
    pub header: Header,
    records: Vec<Record>,
    by_base: HashMap<Box<[u8]>, Uid>,
    /// Above every UID that was ever seen here.
    next_uid: u32,
    damaged: bool,
    /// Courier's version, whose names have no colon.
    old: bool,
    /// The record of a last line that has no end.
    half: Option<Uid>,
}

impl UidList {
    /// Reads a whole file.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut list = Self { next_uid: 1, ..Self::default() };
        let end = text.iter().position(|&byte| byte == b'\n').unwrap_or(text.len());
        let (first, rest) = text.split_at(end);
        if let Some(header) = Header::parse(first) {
            list.next_uid = header.next_uid.max(1);
            list.damaged =
                header.uid_validity.is_none() || header.guid.is_none() || header.next_uid == 0;
            list.header = header;
        } else {
            list.damaged = true;
            list.read_old_header(first);
        }
        list.append_lines(rest.get(1..).unwrap_or_default());
        list
    }

    /// Courier's version 1: `1 UIDVALIDITY NEXTUID`, then `UID NAME`.
    fn read_old_header(&mut self, line: &[u8]) {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        if let [b"1", validity, next] = fields[..] {
            self.header.uid_validity = small_number(validity).and_then(UidValidity::new);
            self.next_uid = small_number(next).unwrap_or(1).max(1);
            self.old = true;
        }
    }

    /// Reads lines that another process has appended.
    pub fn append_lines(&mut self, text: &[u8]) {
        let half = !text.is_empty() && !text.ends_with(b"\n");
        self.damaged |= half;
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            match parse_record(line, self.old) {
                Some(record) => self.insert(record),
                None => {
                    self.damaged = true;
                    self.stay_above(line);
                }
            }
        }
        self.half = self.records.last().map(|record| record.uid).filter(|_| half);
    }

    /// Puts a record back that the file has lost, in place of what has its UID now.
    pub fn restore(&mut self, record: Record) {
        self.remove(record.uid);
        self.insert(record);
        self.damaged = true;
    }

    fn remove(&mut self, uid: Uid) {
        if let Ok(at) = self.records.binary_search_by_key(&uid, |known| known.uid) {
            let record = self.records.remove(at);
            self.by_base.remove(&record.base);
        }
    }

    /// A line that broke off within the file name still tells whose it was, if only one of the
    /// `unlisted` files begins like it.
    pub fn complete_half_line(&mut self, unlisted: &[&[u8]], exists: impl Fn(&[u8]) -> bool) {
        let Some(half) = self.half.take().and_then(|uid| self.record(uid).cloned()) else { return };
        let mut like = unlisted.iter().filter(|base| base.starts_with(&half.base));
        if let (Some(base), None, false) = (like.next(), like.next(), exists(&half.base)) {
            self.restore(Record { base: (*base).into(), ..half });
        }
    }

    /// Even a broken line tells which UID was given away, if it is a believable one.
    fn stay_above(&mut self, line: &[u8]) {
        let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let believable = self.next_uid.saturating_add(100_000);
        if let Some(uid) = small_number(&line[..digits]).filter(|&uid| uid <= believable) {
            self.next_uid = self.next_uid.max(uid.saturating_add(1));
        }
    }

    /// Adds a record. A file name that comes again has got a new UID; a UID that comes again
    /// stays with its first file.
    pub fn insert(&mut self, record: Record) {
        if self.by_base.get(&record.base) == Some(&record.uid) {
            return; // appended by ourselves, read back
        }
        if self.records.binary_search_by_key(&record.uid, |known| known.uid).is_ok() {
            self.damaged = true;
            return;
        }
        if let Some(old) = self.by_base.insert(record.base.clone(), record.uid) {
            self.damaged = true;
            if let Ok(at) = self.records.binary_search_by_key(&old, |known| known.uid) {
                self.records.remove(at);
            }
        }
        self.next_uid = self.next_uid.max(record.uid.get().saturating_add(1));
        let at = self.records.partition_point(|known| known.uid < record.uid);
        self.damaged |= at != self.records.len();
        self.records.insert(at, record);
    }

    /// Takes a UID for a new file; `None` when none is left.
    pub fn assign(&mut self, base: &[u8]) -> Option<Uid> {
        let uid = Uid::new(self.next_uid)?;
        self.insert(Record::new(uid, base));
        Some(uid)
    }

    pub fn record_mut(&mut self, uid: Uid) -> Option<&mut Record> {
        let index = self.records.binary_search_by_key(&uid, |record| record.uid).ok()?;
        self.records.get_mut(index)
    }

    #[must_use]
    pub fn record(&self, uid: Uid) -> Option<&Record> {
        let index = self.records.binary_search_by_key(&uid, |record| record.uid).ok()?;
        self.records.get(index)
    }

    #[must_use]
    pub fn uid_of(&self, base: &[u8]) -> Option<Uid> {
        self.by_base.get(base).copied()
    }

    /// Ascending by UID.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The next UID to be given: above the header's and above every record's.
    #[must_use]
    pub fn next_uid(&self) -> u32 {
        self.next_uid
    }

    pub fn raise_next_uid(&mut self, at_least: u32) {
        self.next_uid = self.next_uid.max(at_least);
    }

    /// Whether the file has to be written anew to be right.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damaged
    }

    pub(crate) fn mark_damaged(&mut self) {
        self.damaged = true;
    }

    /// Drops the lines of files that `lives` does not know.
    pub fn retain(&mut self, lives: impl Fn(&Record) -> bool) {
        self.records.retain(&lives);
        let kept: std::collections::HashSet<Uid> =
            self.records.iter().map(|record| record.uid).collect();
        self.by_base.retain(|_, uid| kept.contains(uid));
    }

    /// The whole file.
    #[must_use]
    pub fn print(&self) -> Vec<u8> {
        let mut text = b"3".to_vec();
        if let Some(validity) = self.header.uid_validity {
            text.extend_from_slice(format!(" V{validity}").as_bytes());
        }
        text.extend_from_slice(format!(" N{}", self.next_uid).as_bytes());
        if let Some(guid) = &self.header.guid {
            text.extend_from_slice(format!(" G{guid}").as_bytes());
        }
        for (letter, value) in &self.header.others {
            text.push(b' ');
            text.push(*letter);
            text.extend_from_slice(value);
        }
        text.push(b'\n');
        for record in &self.records {
            text.extend_from_slice(&record.line());
        }
        text
    }
}

fn parse_record(line: &[u8], old: bool) -> Option<Record> {
    if line.len() > LONGEST_LINE {
        return None;
    }
    let space = line.iter().position(|&byte| byte == b' ')?;
    let uid = Uid::new(small_number(&line[..space])?)?;
    let rest = &line[space + 1..];
    let (extensions, name) = if old {
        (&rest[..0], rest)
    } else {
        let colon = rest.iter().position(|&byte| byte == b':')?;
        if colon > 0 && rest[colon - 1] != b' ' {
            return None;
        }
        (&rest[..colon], &rest[colon + 1..])
    };
    let base = file_name::base(name);
    if !file_name::is_message(base) {
        return None;
    }
    let extensions = extensions
        .split(|&byte| byte == b' ')
        .filter(|field| !field.is_empty())
        .map(|field| {
            let (&letter, value) = field.split_first()?;
            letter.is_ascii_uppercase().then(|| (letter, value.to_vec()))
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Record { uid, extensions, base: base.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAPTURED: &[u8] = b"3 V1795295862 N9 G21f2df32760a026b7f02000033337a30\n\
        2 Pcustom-uidl O1 :1795295862.M885153P641.mx1.example.com,S=52,W=57\n\
        6 G1795295684.M699307P448.mx1.example.com,S=199,W=207 :1795295684.M702170P448.mx1.example.com,S=199,W=207\n\
        8 W37 :1795300001.M1P99.otherhost\n";

    fn uid(value: u32) -> Uid {
        Uid::new(value).unwrap()
    }

    #[test]
    fn a_file_of_dovecot_prints_back_byte_for_byte() {
        let list = UidList::parse(CAPTURED);
        assert!(!list.is_damaged());
        assert_eq!(list.print(), CAPTURED);
        assert_eq!(list.record(uid(8)).unwrap().extension(b'W'), Some(&b"37"[..]));
        assert_eq!(list.record(uid(2)).unwrap().extension(b'P'), Some(&b"custom-uidl"[..]));
    }

    #[test]
    fn the_next_uid_is_above_the_last_record() {
        let mut list = UidList::parse(b"3 V5 N1 G21f2df32760a026b7f02000033337a30\n6 :a\n");
        assert_eq!(list.next_uid(), 7);
        assert_eq!(list.assign(b"b"), Some(uid(7)));
        assert_eq!(list.uid_of(b"b"), Some(uid(7)));
        let full = format!("3 V5 N{}\n", u32::MAX - 1);
        let mut list = UidList::parse(full.as_bytes());
        assert!(list.assign(b"a").is_some());
        assert_eq!(list.assign(b"b"), None);
    }

    #[test]
    fn damage_costs_only_the_damaged_line() {
        let good = "3 V5 N4 G21f2df32760a026b7f02000033337a30\n1 :a\n2 :b\n3 :c\n";
        for (text, kept, next) in [
            (
                "3 V5 N4 G21f2df32760a026b7f02000033337a30\n1 :a\n2 :b\n3 :c\n4 :17952",
                vec![1, 2, 3, 4],
                5,
            ),
            ("3 V5 N4 G21f2df32760a026b7f02000033337a30\n1 :a\n!garbage\n3 :c\n", vec![1, 3], 4),
            ("3 V5 N4 G21f2df32760a026b7f02000033337a30\n1 :a\n2 :b\n2 :c\n", vec![1, 2], 4),
            ("3 V5 N4 G21f2df32760a026b7f02000033337a30\n3 :c\n1 :a\n2 :b\n", vec![1, 2, 3], 4),
            ("3 V5 N4 G21f2df32760a026b7f02000033337a30\n1 :a\n2 :b\n3 :a\n", vec![2, 3], 4),
            ("3 V5 N4 G21f2df32760a026b7f02000033337a30\n1 :a\n9", vec![1], 10),
            ("3 V5 N4\n1 :a\n", vec![1], 4),
            (
                "3 V5 N4 G21f2df32760a026b7f02000033337a30\n1 :x/y\n4294967295 :z\n0 :q\n2 :b\n",
                vec![2],
                4,
            ),
        ] {
            let list = UidList::parse(text.as_bytes());
            let uids: Vec<u32> = list.records().iter().map(|record| record.uid.get()).collect();
            assert_eq!((uids, list.next_uid(), list.is_damaged()), (kept, next, true), "{text}");
        }
        assert!(!UidList::parse(good.as_bytes()).is_damaged());
    }

    #[test]
    fn a_tail_is_read_where_it_was_appended() {
        let mut list = UidList::parse(CAPTURED);
        list.append_lines(b"9 :new,S=1\n9 :new,S=1\n");
        assert_eq!(list.uid_of(b"new,S=1"), Some(uid(9)));
        assert!(!list.is_damaged());
        list.append_lines(b"10 :ha");
        assert!(list.is_damaged());
    }

    #[test]
    fn older_writers_are_understood() {
        let list = UidList::parse(b"1 77 9\n3 123.456.host:2,S\n");
        assert_eq!(list.header.uid_validity, UidValidity::new(77));
        assert_eq!(list.uid_of(b"123.456.host"), Some(uid(3)));
        assert_eq!((list.next_uid(), list.is_damaged()), (9, true));
        let list = UidList::parse(b"3 V5 N4 G21f2df32760a026b7f02000033337a30\n1 S12 :a:2,FS\n");
        assert_eq!(list.uid_of(b"a"), Some(uid(1)));
    }

    proptest! {
        #[test]
        fn anything_can_be_read_and_mended(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let list = UidList::parse(&text);
            let again = UidList::parse(&list.print());
            prop_assert_eq!(again.records(), list.records());
            prop_assert!(again.next_uid() == list.next_uid());
        }
    }
}
