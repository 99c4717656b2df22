//! Mailbox names: as IMAP writes them, and as directories.
//!
//! A name here is the one a client uses inside its namespace (no prefix), in modified UTF-7, with
//! the namespace's separator. `INBOX` is itself in any case.

use std::path::{Path, PathBuf};

use crate::location::{Layout, Location};
use crate::mutf7;

/// Why a name is refused; Dovecot's words after `Invalid mailbox name: `.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("Name is empty")]
    Empty,
    #[error("Begins with hierarchy separator")]
    LeadingSeparator,
    #[error("Ends with hierarchy separator")]
    TrailingSeparator,
    #[error("Has adjacent hierarchy separators")]
    AdjacentSeparators,
    #[error("Name must not have '{0}' characters")]
    Character(char),
    #[error("Contains control characters")]
    Control,
    #[error("Not valid mUTF-7")]
    NotUtf7,
    #[error("Mailbox name too long")]
    TooLong,
    #[error("Contains '{0}' part")]
    Reserved(&'static str),
    #[error("Can't access mailboxes outside the root")]
    Outside,
}

/// The longest name, and the deepest (Dovecot: 4096 and 16 levels are its own limits).
const LONGEST: usize = 255;
const DEEPEST: usize = 32;

/// The directories of one mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Holds `cur`, `new` and `tmp`.
    pub mail: PathBuf,
    /// Holds `dovecot-uidlist` and `dovecot-keywords`.
    pub control: PathBuf,
}

/// Whether a client means the INBOX.
#[must_use]
pub fn is_inbox(name: &str) -> bool {
    name.eq_ignore_ascii_case("INBOX")
}

/// Splits a name into the spelling that its directories have, level by level.
///
/// # Errors
///
/// [`NameError`], for the client.
pub fn levels(name: &str, separator: char, location: &Location) -> Result<Vec<String>, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.starts_with(separator) {
        return Err(NameError::LeadingSeparator);
    }
    if name.ends_with(separator) {
        return Err(NameError::TrailingSeparator);
    }
    if name.len() > LONGEST {
        return Err(NameError::TooLong);
    }
    let mut levels = Vec::new();
    for level in name.split(separator) {
        check_level(level, separator, location)?;
        levels.push(if location.utf8 {
            mutf7::decode(level).ok_or(NameError::NotUtf7)?
        } else {
            level.to_owned()
        });
    }
    if levels.len() > DEEPEST {
        return Err(NameError::TooLong);
    }
    Ok(levels)
}

fn check_level(level: &str, separator: char, location: &Location) -> Result<(), NameError> {
    let text = mutf7::decode(level).ok_or(NameError::NotUtf7)?;
    if level.is_empty() {
        return Err(NameError::AdjacentSeparators);
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    // The decoded form too: with UTF-8 names it is what reaches the file system.
    for forbidden in ['/', '.'] {
        let harmless =
            forbidden == separator || (forbidden == '.' && location.layout == Layout::Fs);
        if (level.contains(forbidden) && !harmless) || (text.contains('/') && !level.contains('/'))
        {
            return Err(NameError::Character(if text.contains('/') { '/' } else { forbidden }));
        }
    }
    if location.layout == Layout::Fs {
        for reserved in ["cur", "new", "tmp", ".", ".."] {
            if text == reserved {
                return Err(NameError::Reserved(reserved));
            }
        }
    }
    if text.starts_with('~') && location.layout == Layout::Fs {
        return Err(NameError::Outside);
    }
    Ok(())
}

impl Location {
    /// The directories of the mailbox `name`.
    ///
    /// # Errors
    ///
    /// [`NameError`] for a name that no directory may have.
    pub fn place(&self, name: &str, separator: char) -> Result<Place, NameError> {
        if is_inbox(name) {
            let mail = self.inbox.clone().unwrap_or_else(|| self.root.clone());
            let control = match &self.control {
                Some(control) => control.clone(),
                None => mail.clone(),
            };
            return Ok(Place { mail, control });
        }
        let directory = self.directory(&levels(name, separator, self)?);
        let mail = self.root.join(&directory);
        let control = self.control.as_ref().map_or_else(|| mail.clone(), |at| at.join(&directory));
        Ok(Place { mail, control })
    }

    /// A name's directory below the root.
    pub(crate) fn directory(&self, levels: &[String]) -> PathBuf {
        match self.layout {
            Layout::MaildirPlusPlus => PathBuf::from(format!(".{}", levels.join("."))),
            Layout::Fs => levels.iter().collect(),
        }
    }

    /// The name that a level's spelling on disk has for clients; `None` if it can have none.
    pub(crate) fn shown_level(&self, level: &str, separator: char) -> Option<String> {
        let shown = if self.utf8 { mutf7::encode(level) } else { level.to_owned() };
        levels(&shown, separator, self).is_ok_and(|levels| levels.len() == 1).then_some(shown)
    }

    /// Where Dovecot keeps what belongs to all mailboxes: subscriptions and UIDVALIDITY.
    pub(crate) fn control_root(&self) -> &Path {
        self.control.as_deref().unwrap_or(&self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(location: &Location, name: &str, separator: char) -> Result<String, NameError> {
        location.place(name, separator).map(|place| place.mail.display().to_string())
    }

    #[test]
    fn maildir_names() {
        let location = Location::maildir("/m");
        for (name, separator, path) in [
            ("INBOX", '.', Ok("/m")),
            ("inbox", '.', Ok("/m")),
            ("Work.Sub", '.', Ok("/m/.Work.Sub")),
            ("Work/Sub", '/', Ok("/m/.Work.Sub")),
            ("&ZeVnLIqe-", '.', Ok("/m/.&ZeVnLIqe-")),
            ("with space", '.', Ok("/m/.with space")),
            ("a/b", '.', Err(NameError::Character('/'))),
            ("a.b", '/', Err(NameError::Character('.'))),
            (".a", '.', Err(NameError::LeadingSeparator)),
            ("../../etc", '.', Err(NameError::LeadingSeparator)),
            ("a.", '.', Err(NameError::TrailingSeparator)),
            ("a..b", '.', Err(NameError::AdjacentSeparators)),
            ("", '.', Err(NameError::Empty)),
            ("&bad", '.', Err(NameError::NotUtf7)),
            ("a\nb", '.', Err(NameError::NotUtf7)),
        ] {
            assert_eq!(place(&location, name, separator).as_deref(), path.as_deref(), "{name}");
        }
    }

    #[test]
    fn fs_names_stay_below_the_root() {
        let mut location = Location::maildir("/m");
        location.layout = Layout::Fs;
        assert_eq!(place(&location, "A/B", '/').as_deref(), Ok("/m/A/B"));
        assert_eq!(place(&location, "a.b", '/').as_deref(), Ok("/m/a.b"));
        for bad in ["../etc", "A/../../etc", "A/cur", "~root", "/etc", "."] {
            assert!(place(&location, bad, '/').is_err(), "{bad}");
        }
    }

    #[test]
    fn utf8_names_are_decoded_and_cannot_hide_a_slash() {
        let mut location = Location::maildir("/m");
        location.utf8 = true;
        assert_eq!(place(&location, "&ZeVnLIqe-", '.').as_deref(), Ok("/m/.日本語"));
        assert!(place(&location, "&AC8-etc", '.').is_err());
    }
}
