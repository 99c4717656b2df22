//! The content of one table, and how it answers.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use routing::Key;

use crate::cidr::Cidr;
use crate::fixed::{Fixed, fold};
use crate::open::Opened;
use crate::pattern::Patterns;
use crate::users::Users;

/// Why a table has no answer, in words for the log.
pub type Trouble = String;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    User,
    Group,
}

pub enum Content {
    Fixed(Fixed),
    Static(String),
    Cidr(Cidr),
    Patterns(Patterns),
    /// `unionmap:`: every table's answer, joined with commas.
    Union(Vec<Arc<Opened>>),
    /// `pipemap:`: the answer of one is the question to the next.
    Pipe(Vec<Arc<Opened>>),
    Random(Vec<String>),
    Accounts(Account, Arc<dyn Users>),
    /// `fail:`, or a table that could not be opened.
    Fails(Trouble),
}

impl Content {
    /// Whether answering may wait for the name service.
    pub fn waits(&self) -> bool {
        match self {
            Self::Accounts(..) => true,
            Self::Union(parts) | Self::Pipe(parts) => {
                parts.iter().any(|part| part.current().waits())
            }
            _ => false,
        }
    }

    /// Whether the table is asked with whole subjects only.
    fn is_pattern(&self) -> bool {
        match self {
            Self::Cidr(_) | Self::Patterns(_) | Self::Random(_) => true,
            Self::Union(parts) | Self::Pipe(parts) => {
                parts.iter().any(|part| part.current().is_pattern())
            }
            Self::Fixed(_) | Self::Static(_) | Self::Accounts(..) | Self::Fails(_) => false,
        }
    }

    pub fn find(&self, key: &[u8], part: Key) -> Result<Option<Vec<u8>>, Trouble> {
        if part == Key::Part && self.is_pattern() {
            return Ok(None);
        }
        let text = || std::str::from_utf8(key).ok();
        Ok(match self {
            Self::Fixed(table) => text().and_then(|key| table.get(&fold(key))).map(bytes),
            Self::Static(answer) => Some(bytes(answer)),
            Self::Cidr(table) => text().and_then(|key| table.find(key)).map(bytes),
            Self::Patterns(table) => table.find(key)?,
            Self::Union(parts) => union(parts, key, part)?,
            Self::Pipe(parts) => pipe(parts, key, part)?,
            Self::Random(answers) => pick(answers).map(bytes),
            Self::Accounts(kind, users) => match (text().map(fold), kind) {
                (None, _) => None,
                (Some(name), Account::User) => users.passwd(&name)?.map(String::into_bytes),
                (Some(name), Account::Group) => users.group(&name)?.map(String::into_bytes),
            },
            Self::Fails(why) => return Err(why.clone()),
        })
    }
}

fn bytes<T: AsRef<str> + ?Sized>(answer: &T) -> Vec<u8> {
    answer.as_ref().as_bytes().to_vec()
}

fn union(parts: &[Arc<Opened>], key: &[u8], part: Key) -> Result<Option<Vec<u8>>, Trouble> {
    let mut answers = Vec::new();
    for table in parts {
        answers.extend(table.current().find(key, part)?);
    }
    Ok((!answers.is_empty()).then(|| answers.join(&b',')))
}

fn pipe(parts: &[Arc<Opened>], key: &[u8], part: Key) -> Result<Option<Vec<u8>>, Trouble> {
    let mut question = key.to_vec();
    for table in parts {
        match table.current().find(&question, part)? {
            Some(answer) => question = answer,
            None => return Ok(None),
        }
    }
    Ok(Some(question))
}

fn pick(answers: &[String]) -> Option<&String> {
    let random = RandomState::new().build_hasher().finish();
    let count = u64::try_from(answers.len()).ok()?;
    answers.get(usize::try_from(random.checked_rem(count)?).ok()?)
}
