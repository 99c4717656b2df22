//! One user's mailboxes: create, delete, rename, list, subscribe.
//!
//! Nothing is remembered between calls; each looks at the disk, which other processes change too.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::control_files;
use crate::error::{At, StoreError, present};
use crate::host;
use crate::location::{Layout, Location};
use crate::mailbox::{Access, Mailbox};
use crate::name::{self, Place};
use crate::permissions::Inherited;
use crate::quota::Quota;
use crate::subscriptions;
use crate::trash;

/// How a store behaves; the settings of dovecot.conf that concern it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Between the levels of names at this API: the namespace's separator.
    pub separator: char,
    /// This machine's name in file names and lock files.
    pub hostname: String,
    /// How long to wait for another process's lock (`mail_max_lock_timeout`; Dovecot: 122 s).
    pub lock_timeout: Duration,
    /// Sync what is saved to the disk (`mail_fsync`, anything but `never`).
    pub fsync: bool,
    /// Do not believe `S=` and `W=` in file names (`maildir_broken_filename_sizes`).
    pub ignore_stated_sizes: bool,
    /// Copies are hard links (`maildir_copy_with_hardlinks`).
    pub hard_links: bool,
    pub quota: Option<Quota>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            separator: '.',
            hostname: host::hostname(),
            lock_timeout: Duration::from_secs(122),
            fsync: true,
            ignore_stated_sizes: false,
            hard_links: true,
            quota: None,
        }
    }
}

/// One namespace of one user. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    location: Location,
    options: Options,
}

/// A mailbox or a level above one, as [`Store::list`] finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    pub name: String,
    /// It exists; otherwise it is only the parent of one that does (`\Noselect`).
    pub selectable: bool,
    pub has_children: bool,
}

impl Store {
    /// Describes a store; touches nothing.
    #[must_use]
    pub fn new(location: Location, options: Options) -> Self {
        Self { inner: Arc::new(Inner { location, options }) }
    }

    #[must_use]
    pub fn location(&self) -> &Location {
        &self.inner.location
    }

    #[must_use]
    pub fn options(&self) -> &Options {
        &self.inner.options
    }

    pub(crate) fn place(&self, name: &str) -> Result<Place, StoreError> {
        Ok(self.location().place(name, self.options().separator)?)
    }

    /// Whether a client could select `name`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Name`], or what keeps us from looking.
    pub fn exists(&self, name: &str) -> Result<bool, StoreError> {
        let place = self.place(name)?;
        if !is_directory(&place.mail)? {
            return Ok(false);
        }
        // A Maildir++ folder without cur is mended when it is opened; a directory of LAYOUT=fs
        // or the root itself is a mailbox only with it.
        let folder = self.location().layout == Layout::MaildirPlusPlus && !name::is_inbox(name);
        Ok(folder || is_directory(&place.mail.join("cur"))?)
    }

    /// Opens a mailbox and reads it. INBOX is created when it is missing.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoMailbox`], a bad name, or the system's error.
    pub fn open(&self, name: &str, access: Access) -> Result<Mailbox, StoreError> {
        if name::is_inbox(name) {
            self.ensure_inbox()?;
        } else if !self.exists(name)? {
            return Err(StoreError::NoMailbox(name.to_owned()));
        }
        Mailbox::open(self.clone(), name, access)
    }

    /// Makes the root and INBOX, if they are not there.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn ensure_inbox(&self) -> Result<(), StoreError> {
        let place = self.place("INBOX")?;
        let root = &self.location().root;
        make_root(root)?;
        if let Some(control) = &self.location().control {
            make_root(control)?;
        }
        if place.mail != *root {
            make_root(&place.mail)?;
        }
        let inherited = Inherited::from(&place.mail);
        for directory in ["cur", "new", "tmp"].map(|name| place.mail.join(name)) {
            if !is_directory(&directory)? {
                inherited.create_directory(&directory).at("mkdir", &directory)?;
            }
        }
        Ok(())
    }

    /// Creates a mailbox with its UID list.
    ///
    /// # Errors
    ///
    /// [`StoreError::Exists`], a bad name, or the system's error.
    pub fn create(&self, name: &str) -> Result<(), StoreError> {
        if name::is_inbox(name) {
            return Err(StoreError::Exists);
        }
        let place = self.place(name)?;
        self.ensure_inbox()?;
        let root = &self.location().root;
        let inherited = Inherited::from(root);
        if self.location().layout == Layout::Fs {
            self.create_parents(&place, inherited)?;
        }
        // Dovecot fills a folder's directory as soon as it sees one, so it is never taken away again.
        match inherited.create_new_directory(&place.mail) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if is_directory(&place.mail.join("cur"))? {
                    return Err(StoreError::Exists);
                }
            }
            Err(error) => return Err(error).at("mkdir", &place.mail),
        }
        self.complete(&place, inherited)?;
        // Gives the mailbox its UIDVALIDITY and GUID.
        Mailbox::open(self.clone(), name, Access::Peek)?;
        Ok(())
    }

    fn create_parents(&self, place: &Place, inherited: Inherited) -> Result<(), StoreError> {
        let root = &self.location().root;
        let below = place.mail.strip_prefix(root).unwrap_or(Path::new(""));
        let mut path = root.clone();
        for level in below.parent().unwrap_or(Path::new("")).components() {
            path.push(level);
            inherited.create_directory(&path).at("mkdir", &path)?;
        }
        Ok(())
    }

    /// Makes what a folder's directory lacks.
    pub(crate) fn complete(&self, place: &Place, inherited: Inherited) -> Result<(), StoreError> {
        for directory in ["cur", "new", "tmp"].map(|name| place.mail.join(name)) {
            inherited.create_directory(&directory).at("mkdir", &directory)?;
        }
        let root = &self.location().root;
        if self.location().layout == Layout::MaildirPlusPlus && place.mail != *root {
            for name in ["maildirfolder", "dovecot-shared"] {
                let wanted = name == "maildirfolder" || root.join(name).exists();
                let path = place.mail.join(name);
                if wanted && !path.exists() {
                    inherited.create_file(&path).at("open", &path)?;
                }
            }
        }
        if place.control != place.mail && !is_directory(&place.control)? {
            fs::create_dir_all(&place.control).at("mkdir", &place.control)?;
        }
        Ok(())
    }

    /// Deletes a mailbox with its mail. Its children stay.
    ///
    /// # Errors
    ///
    /// [`StoreError::DeleteInbox`], [`StoreError::NoMailbox`], or the system's error.
    pub fn delete(&self, name: &str) -> Result<(), StoreError> {
        if name::is_inbox(name) {
            return Err(StoreError::DeleteInbox);
        }
        if !self.exists(name)? {
            return Err(StoreError::NoMailbox(name.to_owned()));
        }
        let place = self.place(name)?;
        if self.location().layout == Layout::Fs {
            delete_fs(&place)?;
        } else {
            let thrown =
                trash::throw_away(&self.location().root, &place.mail, &self.options().hostname);
            thrown.map_err(|error| match error {
                error if error.is_missing() => StoreError::NoMailbox(name.to_owned()),
                error => error,
            })?;
        }
        if place.control != place.mail {
            remove_tree(&place.control)?;
        }
        Ok(())
    }

    /// Renames a mailbox and its children.
    ///
    /// # Errors
    ///
    /// [`StoreError::RenameInbox`], [`StoreError::NoMailbox`], [`StoreError::Exists`], or the
    /// system's error.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), StoreError> {
        if name::is_inbox(from) {
            return Err(StoreError::RenameInbox);
        }
        if name::is_inbox(to) || self.exists(to)? {
            return Err(StoreError::Exists);
        }
        let (source, target) = (self.place(from)?, self.place(to)?);
        if self.location().layout == Layout::Fs {
            if !is_directory(&source.mail)? {
                return Err(StoreError::NoMailbox(from.to_owned()));
            }
            self.create_parents(&target, Inherited::from(&self.location().root))?;
            return rename_place(&source, &target);
        }
        let separator = self.options().separator;
        let below = format!("{from}{separator}");
        let mut moves = Vec::new();
        for folder in self.list()? {
            if !folder.selectable {
                continue;
            }
            if folder.name == from {
                moves.push((source.clone(), target.clone()));
            } else if let Some(rest) = folder.name.strip_prefix(&below) {
                let renamed = format!("{to}{separator}{rest}");
                if self.exists(&renamed)? {
                    return Err(StoreError::Exists);
                }
                moves.push((self.place(&folder.name)?, self.place(&renamed)?));
            }
        }
        if moves.is_empty() {
            return Err(StoreError::NoMailbox(from.to_owned()));
        }
        moves.iter().try_for_each(|(from, to)| rename_place(from, to))
    }

    /// Whether mail waits in the mailbox's `new` directory (`\Marked`).
    ///
    /// # Errors
    ///
    /// A bad name, or the system's error.
    pub fn has_new_mail(&self, name: &str) -> Result<bool, StoreError> {
        let path = self.place(name)?.mail.join("new");
        let entries = present(fs::read_dir(&path)).at("opendir", &path)?;
        Ok(entries.into_iter().flatten().flatten().any(|entry| {
            !std::os::unix::ffi::OsStrExt::as_bytes(entry.file_name().as_os_str()).starts_with(b".")
        }))
    }

    fn subscription_file(&self) -> std::path::PathBuf {
        self.location().control_root().join(&self.location().subscriptions)
    }

    /// The names that are subscribed, whether they exist or not, in the file's order.
    ///
    /// # Errors
    ///
    /// What keeps us from reading the file.
    pub fn subscriptions(&self) -> Result<Vec<String>, StoreError> {
        let text = control_files::read(&self.subscription_file(), subscriptions::LARGEST)?;
        let text = text.map(|(text, _)| text).unwrap_or_default();
        let storage = self.location().default_separator();
        Ok(subscriptions::parse(&text, storage, self.options().separator))
    }

    /// Subscribes to a name or, with `subscribe` false, ends it.
    ///
    /// # Errors
    ///
    /// A bad name, or the system's error.
    pub fn set_subscribed(&self, name: &str, subscribe: bool) -> Result<(), StoreError> {
        let name = if name::is_inbox(name) { "INBOX" } else { name };
        if subscribe {
            self.place(name)?;
            make_root(self.location().control_root())?;
        } else if !self.location().control_root().is_dir() {
            return Ok(());
        }
        let path = self.subscription_file();
        let (storage, separator) = (self.location().default_separator(), self.options().separator);
        control_files::change(
            &path,
            &self.options().hostname,
            Inherited::from(self.location().control_root()),
            self.options().lock_timeout,
            |text| {
                let edited = subscriptions::edit(text, name, subscribe, storage, separator)?;
                Ok(edited.map(|text| (text, ())))
            },
            subscriptions::LARGEST,
        )?;
        Ok(())
    }
}

pub(crate) fn is_directory(path: &Path) -> Result<bool, StoreError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.is_dir()),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(false)
        }
        Err(error) => Err(error).at("stat", path),
    }
}

/// A root is private when we make it; what is there keeps its mode.
fn make_root(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    if is_directory(path)? {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).at("mkdir", path)
}

pub(crate) fn remove_tree(path: &Path) -> Result<(), StoreError> {
    present(fs::symlink_metadata(path)).at("lstat", path)?.map_or(Ok(()), |metadata| {
        let removed =
            if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        present(removed).map(|_| ()).at("unlink", path)
    })
}

/// `LAYOUT=fs`: the directory may hold children, so only the mailbox's own entries go.
fn delete_fs(place: &Place) -> Result<(), StoreError> {
    for directory in ["cur", "new", "tmp"] {
        remove_tree(&place.mail.join(directory))?;
    }
    let entries = fs::read_dir(&place.mail).at("opendir", &place.mail)?;
    for entry in entries {
        let entry = entry.at("readdir", &place.mail)?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("dovecot") {
            remove_tree(&entry.path())?;
        }
    }
    let _ = fs::remove_dir(&place.mail);
    Ok(())
}

fn rename_place(from: &Place, to: &Place) -> Result<(), StoreError> {
    fs::rename(&from.mail, &to.mail).at("rename", &from.mail)?;
    if from.control != from.mail {
        present(fs::rename(&from.control, &to.control)).at("rename", &from.control)?;
    }
    Ok(())
}
