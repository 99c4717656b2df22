//! Where a user's mail lies: Dovecot's `mail_location`, its %-variables already expanded.

use std::path::{Path, PathBuf};

/// How folders lie under the root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// `.Work.Sub` beside `cur`: Maildir++.
    #[default]
    MaildirPlusPlus,
    /// `Work/Sub` as directories (`LAYOUT=fs`).
    Fs,
}

/// One mail location.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    pub root: PathBuf,
    /// INBOX, where it is not the root itself (`INBOX=`).
    pub inbox: Option<PathBuf>,
    /// UID lists, keywords and subscriptions, where they are not in the Maildir (`CONTROL=`).
    pub control: Option<PathBuf>,
    /// Where Dovecot keeps its index files (`INDEX=`); ours lie beside them.
    pub index: Index,
    pub layout: Layout,
    /// Names on disk are UTF-8, not modified UTF-7.
    pub utf8: bool,
    /// The subscription file's name (`SUBSCRIPTIONS=`).
    pub subscriptions: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Index {
    #[default]
    Beside,
    In(PathBuf),
    Memory,
}

/// A `mail_location` that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    #[error("mail_location is empty and there is no {}", .0.display())]
    NotFound(PathBuf),
    #[error("mail storage {0:?} is not supported, only maildir")]
    Driver(String),
    #[error("mail_location option {0} is not supported")]
    Option(String),
    #[error("mail_location needs an absolute path, not {0:?}")]
    Relative(String),
}

impl Location {
    /// A plain Maildir++ at `root`.
    #[must_use]
    pub fn maildir(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            inbox: None,
            control: None,
            index: Index::Beside,
            layout: Layout::MaildirPlusPlus,
            utf8: false,
            subscriptions: "subscriptions".to_owned(),
        }
    }

    /// Reads `maildir:~/Maildir:INBOX=...:LAYOUT=fs`. An empty text finds `~/Maildir`, as Dovecot does.
    ///
    /// # Errors
    ///
    /// [`LocationError`], worded for the operator.
    pub fn parse(text: &str, home: &Path) -> Result<Self, LocationError> {
        if text.is_empty() {
            let root = home.join("Maildir");
            let found = root.join("cur").is_dir();
            return if found {
                Ok(Self::maildir(root))
            } else {
                Err(LocationError::NotFound(root))
            };
        }
        let (driver, rest) = match text.split_once(':') {
            Some(parts) => parts,
            None => ("maildir", text),
        };
        if driver != "maildir" {
            return Err(LocationError::Driver(driver.to_owned()));
        }
        let mut fields = rest.split(':');
        let root = fields.next().unwrap_or_default();
        let mut location = Self::maildir(absolute(root, home)?);
        for field in fields {
            location.option(field, home)?;
        }
        Ok(location)
    }

    /// Whether a location of this form can be opened at all, whoever the user is: %-variables may still stand in it.
    ///
    /// # Errors
    ///
    /// [`LocationError`] for a driver or an option that is not supported.
    pub fn check(text: &str) -> Result<(), LocationError> {
        let Some((driver, rest)) = text.split_once(':') else { return Ok(()) };
        if driver != "maildir" {
            return Err(LocationError::Driver(driver.to_owned()));
        }
        let root = Path::new("/");
        rest.split(':').skip(1).try_for_each(|field| {
            match Self::maildir(root).option(field, root) {
                Err(LocationError::Relative(_)) => Ok(()),
                checked => checked,
            }
        })
    }

    fn option(&mut self, field: &str, home: &Path) -> Result<(), LocationError> {
        match field.split_once('=') {
            None if field == "UTF-8" => self.utf8 = true,
            Some(("INBOX", path)) => self.inbox = Some(absolute(path, home)?),
            Some(("CONTROL", path)) => self.control = Some(absolute(path, home)?),
            Some(("INDEX", "MEMORY")) => self.index = Index::Memory,
            Some(("INDEX", path)) => self.index = Index::In(absolute(path, home)?),
            Some(("LAYOUT", "fs" | "FS")) => self.layout = Layout::Fs,
            Some(("LAYOUT", "Maildir++" | "maildir++")) => self.layout = Layout::MaildirPlusPlus,
            Some(("SUBSCRIPTIONS", name)) if !name.is_empty() && !name.contains('/') => {
                name.clone_into(&mut self.subscriptions);
            }
            // Only about files of Dovecot's own.
            Some(("VOLATILEDIR" | "INDEXCACHE", _)) => {}
            None if field == "ITERINDEX" => {}
            _ => return Err(LocationError::Option(field.to_owned())),
        }
        Ok(())
    }

    /// The separator that Dovecot takes when the namespace names none.
    #[must_use]
    pub fn default_separator(&self) -> char {
        match self.layout {
            Layout::MaildirPlusPlus => '.',
            Layout::Fs => '/',
        }
    }
}

fn absolute(text: &str, home: &Path) -> Result<PathBuf, LocationError> {
    let path = match text.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(text),
    };
    if path.is_absolute() { Ok(path) } else { Err(LocationError::Relative(text.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_as_hosts_write_them() {
        let home = Path::new("/home/info");
        let parse = |text| Location::parse(text, home);
        assert_eq!(parse("maildir:~/Maildir"), Ok(Location::maildir("/home/info/Maildir")));
        let full =
            parse("maildir:~/Mail:INBOX=/var/mail/x:LAYOUT=fs:CONTROL=/c:INDEX=/i:UTF-8").unwrap();
        assert_eq!(full.inbox.as_deref(), Some(Path::new("/var/mail/x")));
        assert_eq!(full.control.as_deref(), Some(Path::new("/c")));
        assert_eq!(full.index, Index::In("/i".into()));
        assert!(full.utf8 && full.layout == Layout::Fs);
        assert_eq!(full.default_separator(), '/');
        for (text, error) in [
            ("mbox:~/mail:INBOX=/var/mail/x", LocationError::Driver("mbox".into())),
            ("maildir:Maildir", LocationError::Relative("Maildir".into())),
            ("maildir:~/M:LAYOUT=index", LocationError::Option("LAYOUT=index".into())),
            ("maildir:~/M:BROKENCHAR=_", LocationError::Option("BROKENCHAR=_".into())),
            ("maildir:~/M:UTF-9", LocationError::Option("UTF-9".into())),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
