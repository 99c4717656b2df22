//! What postconf and doveconf make of a configuration, and what we make of it.

mod dovecot;
mod dovecot_2_4;
mod postfix;
