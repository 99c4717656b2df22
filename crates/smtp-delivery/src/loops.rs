//! A message that was here before: `Delivered-To` of its final recipient is in its header already.

use std::fs::File;

use mail_types::unquote_822;
use queue::Content;

/// Longer headers are not searched further.
const MOST_LINES: usize = 10_000;
const LONGEST_LINE: usize = 4096;

/// Whether the message says that it was delivered to `address` before. A damaged file says nothing; reading it for the
/// delivery will tell.
pub fn delivered_to(file: &File, data_offset: u64, address: &str) -> bool {
    let Ok(mut content) = Content::at(file, data_offset) else { return false };
    let address = address.to_lowercase();
    let mut line = Vec::new();
    for _ in 0..MOST_LINES {
        line.clear();
        if !matches!(content.next_line(&mut line, LONGEST_LINE), Ok(true)) || line.is_empty() {
            return false;
        }
        let name = b"delivered-to:";
        if let Some((head, value)) = line.split_at_checked(name.len())
            && head.eq_ignore_ascii_case(name)
            && unquote_822(&String::from_utf8_lossy(value).trim().to_lowercase()) == address
        {
            return true;
        }
    }
    false
}
