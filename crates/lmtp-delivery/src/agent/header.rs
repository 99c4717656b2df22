//! The header lines that Postfix's agents put before a message, and the loops they reveal.

use std::collections::HashSet;
use std::fs::File;

use mail_types::{quote_822, unquote_822};
use protocol::postfix::Recipient;
use queue::{Content, ReadError};

/// Longer headers are not searched further for `Delivered-To`.
const MOST_LINES: usize = 10_000;
const LONGEST_LINE: usize = 4096;

/// `Return-Path`, `X-Original-To`, `Delivered-To`.
pub fn prefix(sender: &str, recipient: &Recipient) -> String {
    let original = if recipient.original.is_empty() {
        String::new()
    } else {
        format!("X-Original-To: {}\n", quote_822(&recipient.original))
    };
    let (sender, to) = (quote_822(sender), quote_822(&recipient.address));
    let sender = if sender == "\"\"" { String::new() } else { sender };
    format!("Return-Path: <{sender}>\n{original}Delivered-To: {to}\n")
}

/// Every address, in lower case, that this message says it was delivered to before.
pub fn delivered_to(file: &File, data_offset: u64) -> Result<HashSet<String>, ReadError> {
    let mut content = Content::at(file, data_offset)?;
    let mut found = HashSet::new();
    let mut line = Vec::new();
    for _ in 0..MOST_LINES {
        line.clear();
        if !content.next_line(&mut line, LONGEST_LINE)? || line.is_empty() {
            break;
        }
        let name = b"Delivered-To:";
        if line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name) {
            let value = String::from_utf8_lossy(&line[name.len()..]).trim().to_lowercase();
            found.insert(unquote_822(&value));
        }
    }
    Ok(found)
}

/// Whether the message has been delivered to `address` before.
pub fn loops(delivered_to: &HashSet<String>, address: &str) -> bool {
    delivered_to.contains(&address.to_lowercase())
}
