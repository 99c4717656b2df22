//! The Postfix queue directory and queue file format, with its defer, bounce and trace logs.
//!
//! Synchronous: callers that serve many peers use a pool of blocking threads. Queue files are
//! written by other programs too and may be damaged, so every reader is bounded and answers
//! damage with [`Damage`]. A file is taken out of the way with [`QueueDirectory::set_aside`].
#![forbid(unsafe_code)]

mod content;
mod directory;
pub mod edit;
mod envelope;
mod listing;
mod log;
mod marks;
mod new_file;
mod records;
mod scan;
mod size;
mod state;

pub use content::{Content, LineEnd};
pub use directory::{Access, Queue, QueueDirectory};
pub use envelope::{Attribute, Envelope, EnvelopeReader, QueuedRecipient, RecipientState};
pub use listing::ListingOptions;
pub use log::{LogEntry, LogKind};
pub use marks::{Lock, QueueFile};
pub use new_file::NewFile;
pub use records::{Damage, Follow, Located, ReadAt, ReadError, Records};
pub use scan::Scan;
pub use size::SizeRecord;
pub use state::FileState;
