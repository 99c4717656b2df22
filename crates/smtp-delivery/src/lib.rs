//! Carries mail to other hosts as Postfix smtp(8) and lmtp(8) do, on their delivery request sockets.
#![forbid(unsafe_code)]
