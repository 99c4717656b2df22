//! Signs and verifies mail as OpenDKIM does, over the milter protocol.
#![forbid(unsafe_code)]
