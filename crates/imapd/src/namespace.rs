//! A user's namespaces: which store holds a mailbox that a client names.

use std::path::Path;
use std::time::Duration;

use config::dovecot::variables::VariableError;
use login::arrival::Passenger;
use mailstore::{Location, LocationError, Options, Store, quota};

use crate::settings::{Auto, Kind, MailboxBlock, Settings};

/// The namespaces of one user, in the order of the configuration.
#[derive(Debug)]
pub struct Namespaces(Vec<Namespace>);

/// One namespace and its mail.
#[derive(Debug)]
pub struct Namespace {
    pub prefix: String,
    pub separator: char,
    pub inbox: bool,
    pub hidden: bool,
    pub list: bool,
    pub kind: Kind,
    pub mailboxes: Vec<MailboxBlock>,
    pub store: Store,
}

/// Why a user's mail cannot be served; for the log.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("mail_location: {0}")]
    Location(#[from] LocationError),
    #[error("mail_location: {0}")]
    Variable(#[from] VariableError),
    #[error("quota: {0}")]
    Quota(#[from] quota::QuotaError),
    #[error("No namespace has inbox=yes")]
    NoInbox,
}

impl Namespaces {
    /// Opens nothing; says where everything is.
    ///
    /// # Errors
    ///
    /// [`NamespaceError`] for locations that cannot be used.
    pub fn of(settings: &Settings, user: &Passenger) -> Result<Self, NamespaceError> {
        let quota = settings.quota.as_ref().map(|quota| quota.of(user)).transpose()?;
        let mut namespaces = Vec::new();
        for block in &settings.namespaces {
            let text = match &block.location {
                Some(own) if !own.is_empty() => own,
                _ => user.field("mail").unwrap_or(&settings.location),
            };
            let location = Location::parse(&user.expanded(text, "imap")?, Path::new(&user.home))?;
            let separator = block.separator.unwrap_or(location.default_separator());
            let mut options = Options {
                separator,
                fsync: settings.fsync,
                ignore_stated_sizes: settings.ignore_stated_sizes,
                hard_links: settings.hard_links,
                quota: quota.clone().filter(|_| block.kind == Kind::Private),
                ..Options::default()
            };
            if settings.lock_timeout > Duration::ZERO {
                options.lock_timeout = options.lock_timeout.min(settings.lock_timeout);
            }
            namespaces.push(Namespace {
                prefix: block.prefix.clone(),
                separator,
                inbox: block.inbox,
                hidden: block.hidden,
                list: block.list,
                kind: block.kind,
                mailboxes: block.mailboxes.clone(),
                store: Store::new(location, options),
            });
        }
        if !namespaces.iter().any(|namespace| namespace.inbox) {
            return Err(NamespaceError::NoInbox);
        }
        Ok(Self(namespaces))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.0.iter()
    }

    /// The namespace of INBOX.
    #[must_use]
    pub fn inbox(&self) -> Option<&Namespace> {
        self.0.iter().find(|namespace| namespace.inbox)
    }

    /// The namespace of a name, and the name inside it. The longest prefix wins.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(&Namespace, String)> {
        if name.eq_ignore_ascii_case("INBOX") {
            return self.inbox().map(|namespace| (namespace, "INBOX".to_owned()));
        }
        let mut best: Option<(&Namespace, &str)> = None;
        for namespace in &self.0 {
            let Some(rest) = namespace.strip(name) else { continue };
            if best.is_none_or(|(found, _)| found.prefix.len() < namespace.prefix.len()) {
                best = Some((namespace, rest));
            }
        }
        best.map(|(namespace, rest)| (namespace, rest.to_owned()))
    }

    #[must_use]
    pub fn has_special_use(&self) -> bool {
        let mut blocks = self.0.iter().flat_map(|namespace| &namespace.mailboxes);
        blocks.any(|block| !block.special_use.is_empty())
    }
}

impl Namespace {
    /// The name without the prefix; `inbox.x` is `INBOX.x`.
    fn strip<'a>(&self, name: &'a str) -> Option<&'a str> {
        if let Some(rest) = name.strip_prefix(&self.prefix) {
            return Some(rest);
        }
        let (start, rest) = name.split_at_checked(self.prefix.len())?;
        let inbox = start.get(..5).is_some_and(|five| five.eq_ignore_ascii_case("INBOX"));
        (inbox && start.eq_ignore_ascii_case(&self.prefix)).then_some(rest)
    }

    /// The name as clients see it.
    #[must_use]
    pub fn shown(&self, name: &str) -> String {
        if name == "INBOX" && self.inbox {
            name.to_owned()
        } else {
            format!("{}{name}", self.prefix)
        }
    }

    /// The configured block of a mailbox.
    #[must_use]
    pub fn block(&self, name: &str) -> Option<&MailboxBlock> {
        self.mailboxes.iter().find(|block| block.name == name)
    }

    /// The mailbox will exist as soon as somebody needs it.
    #[must_use]
    pub fn is_automatic(&self, name: &str) -> bool {
        self.block(name).is_some_and(|block| block.auto != Auto::No)
    }
}

#[cfg(test)]
pub mod tests {
    use login::facts::{Facts, Security};

    use super::*;
    use crate::settings;

    /// A user with this home.
    #[must_use]
    pub fn passenger(home: &Path) -> Passenger {
        Passenger {
            user: "alice@example.com".into(),
            home: home.display().to_string(),
            fields: vec![],
            facts: Facts {
                session: "5F3Ers9gaL5/AAAB".into(),
                remote: "127.0.0.1:9".parse().unwrap(),
                local: "127.0.0.1:143".parse().unwrap(),
                security: Security::Trusted,
                server_name: None,
            },
        }
    }

    #[test]
    fn prefixes_lead_to_stores() {
        let inbox = settings::Namespace {
            prefix: "INBOX.".into(),
            inbox: true,
            list: true,
            ..settings::Namespace::default()
        };
        let other = settings::Namespace {
            prefix: "Old.".into(),
            location: Some("maildir:/srv/old/%d/%n".into()),
            list: true,
            ..settings::Namespace::default()
        };
        let settings = Settings {
            location: "maildir:~/Maildir".into(),
            namespaces: vec![inbox, other],
            ..Settings::default()
        };
        let namespaces = Namespaces::of(&settings, &passenger(Path::new("/home/a"))).unwrap();
        let found = |name| namespaces.find(name).map(|(space, name)| (space.prefix.clone(), name));
        assert_eq!(found("inbox"), Some(("INBOX.".into(), "INBOX".into())));
        assert_eq!(found("Inbox.Sent"), Some(("INBOX.".into(), "Sent".into())));
        assert_eq!(found("Old.x"), Some(("Old.".into(), "x".into())));
        assert_eq!(found("Sent"), None);
        let old = namespaces.iter().nth(1).unwrap();
        assert_eq!(old.store.location().root, Path::new("/srv/old/example.com/alice"));
    }
}
