<<<<<<< HEAD
//! The same case against an original and against ours: what both say and do is compared.

mod config;
pub(crate) mod imap;
=======
//! Each case runs unchanged against the original and against ours; replies, log lines and effects are compared.

mod smtpd;
>>>>>>> 52b3d09 (smtpd: 140 dialogues run against Debian's Postfix and ours with the same replies, log lines and queue files)
