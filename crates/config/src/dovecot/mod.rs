//! dovecot.conf, in the language of Dovecot 2.3 or in that of 2.4.
//!
//! A file that begins with `dovecot_config_version` is one of 2.4; whoever reads the settings sees no difference.
//!
//! ```
//! # use config::{Problems, files::Memory, dovecot::{self, Config, Connection}};
//! let files = Memory::with([("/d.conf", "mail_plugins = quota\nprotocol imap {\n  mail_plugins = $mail_plugins imap_quota\n}\n")]);
//! let mut problems = Problems::default();
//! let config = Config::read(&files, "/d.conf".as_ref(), &mut problems);
//! let imap = config.filter(&Connection { protocol: Some("imap"), ..Connection::default() });
//! let plugins = imap.get(dovecot::MAIL_PLUGINS, &mut problems);
//! assert_eq!(plugins.iter().map(|word| word.as_str()).collect::<Vec<_>>(), ["quota", "imap_quota"]);
//! ```

mod check;
mod include;
mod inventory;
pub mod kind;
mod legacy;
mod lexer;
mod modern;
pub mod names;
mod parser;
mod plugins;
mod sections;
mod services;
mod tree;
pub mod variables;
mod view;

pub use include::ADOPTED_FILE;
pub use kind::FileValue;
pub use names::*;
pub use sections::{Mailbox, Namespace, Passdb, Userdb};
pub use services::{Listener, ListenerKind, Service};
pub use tree::{Config, Section, Value};
pub use view::{Connection, View};
