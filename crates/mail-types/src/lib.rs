//! The field's words as types: addresses, envelopes, status codes, queue ids, UIDs, flags, the MIME tree.
#![forbid(unsafe_code)]
