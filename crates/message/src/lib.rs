//! A raw message: header fields, content transforms, a bounded MIME scanner. Never rewrites what it was not asked to.
#![forbid(unsafe_code)]
