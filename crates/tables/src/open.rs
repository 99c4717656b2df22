//! An open table: its present content, and when to read it again.
//!
//! `hash:` and its kin are served from their text, and the indexed file (`.db`) is the commit signal:
//! like Postfix, a running daemon sees edited text when postmap has renewed the index.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use routing::TableName;

use crate::content::Content;
use crate::spec::{Commit, Form};

/// Tables are held in memory; a file above this size is refused.
const LARGEST_FILE: u64 = 512 << 20;
/// A file this young may still be waiting for its postmap; Postfix does not complain yet.
const STALE_AFTER: Duration = Duration::from_secs(100);

/// Something in or about a table that the operator should mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub table: TableName,
    pub file: Option<PathBuf>,
    pub line: Option<usize>,
    pub text: String,
    /// The table cannot answer at all; otherwise a line of it was skipped, or it only looks odd.
    pub unusable: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: {}", file.display(), self.text),
            (None, Some(line)) => write!(f, "{}: rule {line}: {}", self.table, self.text),
            _ => write!(f, "{}: {}", self.table, self.text),
        }
    }
}

/// Enough of a file's status to see that it was written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    inode: u64,
    size: u64,
}

impl From<&Metadata> for Stamp {
    fn from(status: &Metadata) -> Self {
        Self {
            modified: (status.mtime(), status.mtime_nsec()),
            inode: status.ino(),
            size: status.len(),
        }
    }
}

/// Whose a table is, and so as whom commands in it are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Its file is root's, or it has none.
    Root,
    User(u32),
}

/// Files that somebody else opens for this process: those that its user or its sandbox keeps from it.
pub trait Passed: Send + Sync {
    /// The file of this path as it was last passed; `None` if it has to be opened here.
    fn file(&self, path: &Path) -> Option<Arc<File>>;
}

/// Nobody passes anything.
pub struct NonePassed;

impl Passed for NonePassed {
    fn file(&self, _: &Path) -> Option<Arc<File>> {
        None
    }
}

pub struct Source {
    pub path: PathBuf,
    pub form: Form,
    pub commit: Commit,
    pub passed: Arc<dyn Passed>,
}

/// What tells that it is time to read again: the index or the text, and which file was passed.
type Signal = (Option<Stamp>, Option<u64>);

struct Seen {
    /// Of the index, or of the text where there is none.
    signal: Signal,
    text: Option<Stamp>,
    looked: Instant,
}

pub struct Opened {
    name: TableName,
    source: Option<Source>,
    content: RwLock<(Arc<Content>, Owner)>,
    seen: Mutex<Seen>,
}

impl Opened {
    pub fn fixed(name: TableName, content: Content) -> Self {
        let seen = Seen { signal: (None, None), text: None, looked: Instant::now() };
        let content = RwLock::new((Arc::new(content), Owner::Root));
        Self { name, source: None, content, seen: Mutex::new(seen) }
    }

    /// Reads the file. An unreadable one gives a table that fails until the file is there.
    pub fn file(name: TableName, source: Source) -> (Self, Vec<Problem>) {
        let signal = source.signal();
        let mut problems = Vec::new();
        let (content, text) = match source.read() {
            Ok((bytes, text)) => {
                let (content, notes) = source.form.read(&bytes);
                problems.extend(notes.into_iter().map(|note| Problem {
                    table: name.clone(),
                    file: Some(source.path.clone()),
                    line: (note.line > 0).then_some(note.line),
                    text: note.text,
                    unusable: false,
                }));
                (content, Some(text))
            }
            Err(error) => {
                let text = source.open_error(&error);
                problems.push(Problem {
                    table: name.clone(),
                    file: Some(source.path.clone()),
                    line: None,
                    text: text.clone(),
                    unusable: true,
                });
                (Content::Fails(text), None)
            }
        };
        problems.extend(source.stale().map(|text| Problem {
            table: name.clone(),
            file: Some(source.path.clone()),
            line: None,
            text,
            unusable: false,
        }));
        let seen = Seen { signal, text, looked: Instant::now() };
        let content = RwLock::new((Arc::new(content), source.owner()));
        (Self { name, source: Some(source), content, seen: Mutex::new(seen) }, problems)
    }

    pub fn current(&self) -> Arc<Content> {
        Arc::clone(&self.content.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Whose the present content is.
    pub fn owner(&self) -> Owner {
        self.content.read().unwrap_or_else(PoisonError::into_inner).1
    }

    pub fn path(&self) -> Option<&Path> {
        self.source.as_ref().map(|source| source.path.as_path())
    }

    /// Looks whether the file changed, at most once in `interval`, and takes its new content.
    /// Returns what the log should say. New content with errors is not taken.
    pub fn refresh(&self, interval: Duration) -> Vec<String> {
        let Some(source) = &self.source else { return Vec::new() };
        let mut seen = match self.seen.try_lock() {
            Ok(seen) => seen,
            Err(std::sync::TryLockError::Poisoned(seen)) => seen.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return Vec::new(), // another lookup does it
        };
        if seen.looked.elapsed() < interval {
            return Vec::new();
        }
        seen.looked = Instant::now();
        let signal = source.signal();
        if signal == seen.signal {
            return source.uncommitted(&mut seen);
        }
        match source.read() {
            Ok((bytes, text)) => {
                seen.signal = signal;
                seen.text = Some(text);
                self.take(source, &bytes)
            }
            // The file is gone or unreadable: the old content stays until it is back.
            Err(error) => {
                seen.signal = signal;
                vec![format!(
                    "{}: keeping the old content: {}",
                    self.name,
                    source.open_error(&error)
                )]
            }
        }
    }

    fn take(&self, source: &Source, bytes: &[u8]) -> Vec<String> {
        let (content, notes) = source.form.read(bytes);
        let mut reports: Vec<String> =
            notes.iter().map(|note| format!("{}, {note}", source.path.display())).collect();
        let working = !matches!(*self.current(), Content::Fails(_));
        if working && notes.iter().any(|note| note.skipped) {
            reports.push(format!("{}: keeping the old content until these are mended", self.name));
        } else {
            let new = (Arc::new(content), source.owner());
            *self.content.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        reports
    }
}

/// A passed file is shared, so its offset is left alone.
fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 256 * 1024]);
    loop {
        let count = file.read_at(&mut piece, bytes.len() as u64)?;
        if count == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(io::Error::other("file too large"));
        }
    }
}

impl Source {
    fn signal(&self) -> Signal {
        let passed = self.passed.file(&self.path).and_then(|file| file.metadata().ok());
        let inode = passed.as_ref().map(MetadataExt::ino);
        if let Commit::Index(index) = &self.commit
            && let Ok(status) = fs::metadata(index)
        {
            return (Some(Stamp::from(&status)), inode);
        }
        let text = passed.or_else(|| fs::metadata(&self.path).ok());
        (text.map(|status| Stamp::from(&status)), inode)
    }

    /// Postfix looks at the index; postmap gives it to the owner of the text.
    fn owner(&self) -> Owner {
        let index = match &self.commit {
            Commit::Index(index) => fs::metadata(index).ok(),
            Commit::Text => None,
        };
        let passed = || self.passed.file(&self.path).and_then(|file| file.metadata().ok());
        let facts = index.or_else(passed).or_else(|| fs::metadata(&self.path).ok());
        match facts.map_or(0, |facts| facts.uid()) {
            0 => Owner::Root,
            uid => Owner::User(uid),
        }
    }

    fn read(&self) -> io::Result<(Vec<u8>, Stamp)> {
        let file = match self.passed.file(&self.path) {
            Some(passed) => passed,
            None => Arc::new(File::open(&self.path)?),
        };
        let before = file.metadata()?;
        if !before.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let bytes = read_all(&file)?;
        let after = Stamp::from(&file.metadata()?);
        if after != Stamp::from(&before) {
            return Err(io::Error::other("file changed while it was read"));
        }
        Ok((bytes, after))
    }

    fn open_error(&self, error: &io::Error) -> String {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "No such file or directory".to_owned(),
            io::ErrorKind::PermissionDenied => "Permission denied".to_owned(),
            _ => error.to_string(),
        };
        format!("open database {}: {why}", self.path.display())
    }

    /// Postfix's warning when the index is older than its text.
    fn stale(&self) -> Option<String> {
        let Commit::Index(index) = &self.commit else { return None };
        let index_time = fs::metadata(index).ok()?.modified().ok()?;
        let text_time = fs::metadata(&self.path).ok()?.modified().ok()?;
        let age = SystemTime::now().duration_since(text_time).ok()?;
        (text_time > index_time && age > STALE_AFTER).then(|| {
            format!(
                "database {} is older than source file {}",
                index.display(),
                self.path.display()
            )
        })
    }

    /// The text changed without its index: said once for each change.
    fn uncommitted(&self, seen: &mut Seen) -> Vec<String> {
        let text = fs::metadata(&self.path).ok().map(|status| Stamp::from(&status));
        if text.is_none() || text == seen.text {
            return Vec::new();
        }
        let warning = self.stale();
        if warning.is_some() {
            seen.text = text;
        }
        warning.into_iter().collect()
    }
}
