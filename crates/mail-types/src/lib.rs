//! The field's words as types: addresses, envelopes, status codes, queue ids, UIDs, flags, the MIME tree.
#![forbid(unsafe_code)]

pub mod mailbox;
pub mod mime;

pub use mailbox::{Flag, Flags, Uid, UidValidity};
mod address;
mod clock;
mod dsn;
mod entropy;
mod envelope;
mod queue_id;
mod quoting;
mod status;

pub use address::{Address, BadAddress, Domain};
pub use clock::{Clock, SystemClock, Timestamp};
pub use dsn::{Notify, Ret};
pub use entropy::{Entropy, SystemEntropy};
pub use envelope::{Body, Envelope, ForwardPath, Recipient, ReversePath};
pub use queue_id::{BadQueueId, QueueId};
pub use quoting::{quote_822, unquote_822};
pub use status::{BadStatus, Class, EnhancedStatus};
