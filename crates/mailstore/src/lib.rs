//! Maildir++ as Dovecot keeps it: UID list, keywords, subscriptions, quota; safe for several processes at once.
#![forbid(unsafe_code)]
