//! Each seam between daemons, with one side ours and the other side the original's.

mod attempts;
mod auth;
mod dkim;
mod imap;
mod lmtp;
mod milters;
mod originals;
mod outbound;
mod queue;
mod sandbox;
mod scheduler;
mod smtpd;
mod transports;
