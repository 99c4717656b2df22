//! `dovecot-keywords`: which letter of a file name stands for which keyword in this mailbox.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::control_files::{self, Stamp};
use crate::error::StoreError;
use crate::file_name::{KeywordBits, number};
use crate::permissions::Inherited;

/// `a` to `z`.
pub const LIMIT: usize = 26;
const LARGEST: u64 = 64 * 1024;
/// Dovecot's `mail_max_keyword_length`.
const LONGEST: usize = 50;

#[derive(Clone, Debug, Default)]
pub(crate) struct Keywords {
    path: PathBuf,
    names: Vec<Option<String>>,
    read: Option<Stamp>,
}

impl Keywords {
    pub(crate) fn new(control: &Path) -> Self {
        Self { path: control.join("dovecot-keywords"), ..Self::default() }
    }

    /// Reads the file again if it has changed; says whether it had.
    pub(crate) fn refresh(&mut self) -> Result<bool, StoreError> {
        let now = Stamp::at(&self.path)?;
        if now == self.read {
            return Ok(false);
        }
        match control_files::read(&self.path, LARGEST)? {
            Some((text, stamp)) => {
                self.names = parse(&text);
                self.read = Some(stamp);
            }
            None => {
                self.names.clear();
                self.read = None;
            }
        }
        Ok(true)
    }

    /// The name of a letter; `unknown-N` for one that the file does not name, as in Dovecot.
    pub(crate) fn name(&self, index: usize) -> String {
        match self.names.get(index) {
            Some(Some(name)) => name.clone(),
            _ => format!("unknown-{index}"),
        }
    }

    /// The names of all letters that the file knows.
    pub(crate) fn known(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flatten().map(String::as_str)
    }

    /// The letters that have a name.
    pub(crate) fn named(&self) -> KeywordBits {
        let indexes = self.names.iter().enumerate().filter(|(_, name)| name.is_some());
        indexes.fold(0, |bits, (index, _)| bits | (1 << index))
    }

    pub(crate) fn names_of(&self, bits: KeywordBits) -> Vec<String> {
        (0..LIMIT).filter(|index| bits & (1 << index) != 0).map(|index| self.name(index)).collect()
    }

    fn find(&self, name: &str) -> Option<usize> {
        let named = self
            .names
            .iter()
            .position(|known| known.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(name)));
        named.or_else(|| {
            let index = number(name.strip_prefix("unknown-")?.as_bytes())?;
            usize::try_from(index)
                .ok()
                .filter(|&index| index < LIMIT && self.names.get(index).is_none_or(Option::is_none))
        })
    }

    /// The bits of those names that are known here.
    pub(crate) fn bits_of(&self, names: &[String]) -> KeywordBits {
        names.iter().filter_map(|name| self.find(name)).fold(0, |bits, index| bits | (1 << index))
    }

    /// The bits of `names`, giving letters to new ones. Only under the UID list's lock. `used` are
    /// letters that file names carry: one without a name is not given away.
    pub(crate) fn assign(
        &mut self,
        names: &[String],
        used: KeywordBits,
        host: &str,
        inherited: Inherited,
        patience: Duration,
    ) -> Result<KeywordBits, StoreError> {
        self.refresh()?;
        if let Some(bits) = self.all_known(names) {
            return Ok(bits);
        }
        for name in names {
            check(name)?;
        }
        let path = self.path.clone();
        control_files::change(
            &path,
            host,
            inherited,
            patience,
            |text| {
                self.names = parse(text.unwrap_or_default());
                self.add(names, used)?;
                Ok(Some((self.print(), ())))
            },
            LARGEST,
        )?;
        self.read = Stamp::at(&self.path)?;
        Ok(self.bits_of(names))
    }

    fn all_known(&self, names: &[String]) -> Option<KeywordBits> {
        names.iter().all(|name| self.find(name).is_some()).then(|| self.bits_of(names))
    }

    fn add(&mut self, names: &[String], used: KeywordBits) -> Result<(), StoreError> {
        for index in (0..LIMIT).filter(|index| used & (1 << index) != 0) {
            if self.names.get(index).is_none_or(Option::is_none) {
                let name = format!("unknown-{index}");
                self.set(index, name);
            }
        }
        for name in names {
            if self.find(name).is_none() {
                let free = |index: &usize| self.names.get(*index).is_none_or(Option::is_none);
                let index = (0..LIMIT).find(free).ok_or(StoreError::TooManyKeywords)?;
                self.set(index, name.clone());
            }
        }
        Ok(())
    }

    fn set(&mut self, index: usize, name: String) {
        if self.names.len() <= index {
            self.names.resize(index + 1, None);
        }
        self.names[index] = Some(name);
    }

    fn print(&self) -> Vec<u8> {
        let lines = self.names.iter().enumerate();
        lines
            .filter_map(|(index, name)| name.as_ref().map(|name| format!("{index} {name}\n")))
            .collect::<String>()
            .into_bytes()
    }
}

/// Lines that make no sense are left out; of two names for a letter, or two letters for a name,
/// the first counts.
fn parse(text: &[u8]) -> Vec<Option<String>> {
    let mut names: Vec<Option<String>> = Vec::new();
    for line in text.split(|&byte| byte == b'\n') {
        let Some(space) = line.iter().position(|&byte| byte == b' ') else { continue };
        let Some(index) = number(&line[..space]).and_then(|index| usize::try_from(index).ok())
        else {
            continue;
        };
        let Ok(name) = std::str::from_utf8(&line[space + 1..]) else { continue };
        let taken = names.iter().flatten().any(|known| known.eq_ignore_ascii_case(name));
        if index >= LIMIT || check(name).is_err() || taken {
            continue;
        }
        if names.len() <= index {
            names.resize(index + 1, None);
        }
        names[index].get_or_insert_with(|| name.to_owned());
    }
    names
}

/// An atom of IMAP, without `\`.
fn check(name: &str) -> Result<(), StoreError> {
    let atom = name.bytes().all(|byte| byte.is_ascii_graphic() && !b"(){%*\"\\]".contains(&byte));
    let right = atom && !name.is_empty() && name.len() <= LONGEST;
    if right { Ok(()) } else { Err(StoreError::InvalidKeyword) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn assign(keywords: &mut Keywords, names: &[&str], used: u32) -> Result<u32, StoreError> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        keywords.assign(&names, used, "h", Inherited::PRIVATE, Duration::ZERO)
    }

    #[test]
    fn letters_are_given_once_and_kept() {
        let root = tempfile::tempdir().unwrap();
        let mut keywords = Keywords::new(root.path());
        assert_eq!(assign(&mut keywords, &["$Forwarded", "work"], 0).unwrap(), 0b11);
        assert_eq!(assign(&mut keywords, &["WORK"], 0).unwrap(), 0b10);
        let text = fs::read_to_string(root.path().join("dovecot-keywords")).unwrap();
        assert_eq!(text, "0 $Forwarded\n1 work\n");
        // Another process adds one; a file carries the letter `d` that nobody named.
        fs::write(root.path().join("dovecot-keywords"), "0 $Forwarded\n1 work\n2 theirs\n")
            .unwrap();
        assert_eq!(assign(&mut keywords, &["theirs", "mine"], 0b1000).unwrap(), 0b1_0100);
        assert_eq!(keywords.names_of(0b1_1000), ["unknown-3", "mine"]);
        assert!(!root.path().join("dovecot-keywords.lock").exists());
        // Dovecot looks at whole seconds only.
        let second = || {
            let changed = fs::metadata(root.path().join("dovecot-keywords")).unwrap();
            std::os::unix::fs::MetadataExt::mtime(&changed)
        };
        let before = second();
        assign(&mut keywords, &["another"], 0).unwrap();
        assert!(second() > before);
    }

    #[test]
    fn there_is_room_for_26() {
        let root = tempfile::tempdir().unwrap();
        let mut keywords = Keywords::new(root.path());
        let names: Vec<String> = (0..26).map(|index| format!("k{index}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(assign(&mut keywords, &names, 0).unwrap(), (1 << 26) - 1);
        assert!(matches!(
            assign(&mut keywords, &["one-more"], 0),
            Err(StoreError::TooManyKeywords)
        ));
        for bad in ["", "a b", "a\nb", "\\Seen", "a*"] {
            assert!(matches!(assign(&mut keywords, &[bad], 0), Err(StoreError::InvalidKeyword)));
        }
    }

    #[test]
    fn a_damaged_file_gives_what_it_has() {
        let names = parse(b"0 a\nx\n99 b\n1 a\n2 c\n2 d\n3 \xff\n4");
        assert_eq!(names, [Some("a".into()), None, Some("c".into())]);
    }
}
