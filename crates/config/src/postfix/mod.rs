//! main.cf and master.cf: what a Postfix host is told to do.
//!
//! ```
//! # use config::{Problems, files::Memory, postfix::{self, Host}};
//! let files = Memory::with([("/p/main.cf", "mydomain = example.com\n"), ("/p/master.cf", "smtp inet n - n - - smtpd\n  -o smtpd_timeout=10m\n")]);
//! let mut problems = Problems::default();
//! let host = Host::read(&files, "/p".as_ref(), &mut problems);
//! assert_eq!(host.main().get(postfix::MYORIGIN, &mut problems), "host.example.com");
//! let smtpd = host.services().next().unwrap();
//! assert_eq!(host.view(smtpd).get(postfix::SMTPD_TIMEOUT, &mut problems).as_secs(), 600);
//! ```

pub mod expand;
mod host;
mod inventory;
pub mod kind;
mod lines;
pub mod listen;
mod main_cf;
mod master_cf;
pub mod names;
mod network;
mod table_files;
mod unknown;
mod view;
mod words;

pub use host::Host;
pub use master_cf::{ADOPTED, Argument, Private, STAYS_LIVE, Service, ServiceType, Wakeup};
pub use names::*;
pub use network::Network;
pub use table_files::TableFile;
pub use view::View;
pub use words::{Match, Pattern, Table, foreign_table_type, with_files, without_braces, words};
