//! The same conversations with an original and with ours: what both say and do is compared.

pub(crate) mod imap;
