//! Peers, a stand-in for the service manager, certificates and clients, for the suites and the demo.
//!
//! Every part works in a private directory below [`Scratch`], on ports that [`ports::free`] hands out, and ends
//! only what it started. Nothing here touches the machine's own configuration.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken harness must stop its test at the place that is broken"
)]

pub mod binaries;
pub mod certificates;
pub mod client;
pub mod daemon;
pub mod dkim;
pub mod dns;
pub mod dovecot;
pub mod handover;
pub mod inside;
pub mod log;
pub mod modern_dovecot;
pub mod originals;
pub mod ports;
pub mod postfix;
pub mod private_host;
pub mod proof;
pub mod remote;
pub mod scram;
pub mod scratch;
pub mod services;
pub mod sink;
pub mod site;
pub mod skip;
pub mod strace;
pub mod swap;

pub use daemon::Daemon;
pub use log::Log;
pub use private_host::PrivateHost;
pub use scratch::Scratch;
