//! Mailboxes as Dovecot keeps them: Maildir++ with its UID list, keywords, subscriptions and quota.
//!
//! Every file here is shared with Dovecot and other processes of ours, at any moment. So every call
//! looks at the disk, every change is made under Dovecot's own lock, and what is durable is durable
//! when the call returns. Calls block; an asynchronous caller runs them on a thread for that.
#![forbid(unsafe_code)]

mod change;
mod control_files;
mod copy;
mod dotlock;
mod dovecot_index;
mod error;
pub mod file_name;
pub mod host;
mod keywords;
mod list;
mod location;
mod mailbox;
pub mod mutf7;
mod name;
mod permissions;
pub mod quota;
mod save;
mod scan;
mod status;
mod store;
mod subscriptions;
mod sync;
mod trash;
mod uidlist;
mod uidlist_file;
mod uidvalidity;
mod watch;

pub use change::How;
pub use dotlock::DotLock;
pub use error::StoreError;
pub use location::{Index, Layout, Location, LocationError};
pub use mailbox::{Access, Changes, Mailbox, Message};
pub use name::NameError;
pub use save::{Attributes, Incoming, Written};
pub use status::Status;
pub use store::{Folder, Options, Store};
pub use watch::Watch;

#[cfg(test)]
mod tests;
