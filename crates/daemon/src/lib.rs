//! What every daemon needs and that knows nothing of mail: supervisor and workers, sockets, TLS identities, privileges, journal, control.
#![forbid(unsafe_code)]
