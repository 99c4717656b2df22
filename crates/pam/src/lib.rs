//! PAM conversations: the one crate that may hold `unsafe`.
