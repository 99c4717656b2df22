//! Mail that Postfix let pass while no filter listened: with `milter_default_action = accept` it goes on unsigned.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::process::Address;

const LONGEST: u64 = 16 << 20;
/// More than these are counted, not named.
const NAMED: usize = 50;

/// A place in Postfix's log.
#[derive(Clone, Debug)]
pub struct Mark {
    log: PathBuf,
    offset: u64,
}

impl Mark {
    /// The end of the log, now.
    pub fn here(log: &Path) -> Self {
        let offset = std::fs::metadata(log).map_or(0, |facts| facts.len());
        Self { log: log.to_owned(), offset }
    }

    /// What has passed the filter by since, for the operator.
    pub fn unfiltered(&self, at: &Address) -> Vec<String> {
        let mut text = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.take(LONGEST).read_to_end(&mut text)
        });
        if let Err(error) = read {
            return vec![format!(
                "{}: {error}: cannot tell what passed unsigned",
                self.log.display()
            )];
        }
        let ids = queue_ids(&String::from_utf8_lossy(&text));
        if ids.is_empty() {
            return vec![format!("{at}: no message passed it by")];
        }
        let named = ids.iter().take(NAMED).cloned().collect::<Vec<_>>().join(" ");
        vec![format!(
            "{at}: {} messages had no filter, and are unsigned if they went out: {named}",
            ids.len()
        )]
    }
}

/// Queue ids of the processes that could not reach their filter, from that line on until the client went. A message that
/// was refused has none.
fn queue_ids(log: &str) -> Vec<String> {
    let mut without: BTreeMap<&str, ()> = BTreeMap::new();
    let mut found: Vec<String> = Vec::new();
    for line in log.lines() {
        let Some((tag, said)) = tagged(line) else { continue };
        if said.starts_with("warning: connect to Milter service ") {
            without.insert(tag, ());
        } else if said.starts_with("disconnect from ") || said.starts_with("connect from ") {
            without.remove(tag);
        } else if without.contains_key(tag)
            && let Some((id, rest)) = said.split_once(": ")
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && (rest.starts_with("client=") || rest.starts_with("message-id="))
        {
            if rest.starts_with("message-id=") {
                without.remove(tag); // cleanup connects anew for each message
            }
            if !found.iter().any(|known| known == id) {
                found.push(id.to_owned());
            }
        }
    }
    found
}

/// `… postfix/smtpd[123]: text`.
fn tagged(line: &str) -> Option<(&str, &str)> {
    let (head, said) = line.split_once("]: ")?;
    let start = head.rfind(' ').map_or(0, |space| space + 1);
    Some((head.get(start..)?, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_without_a_filter_are_named() {
        let log = "\
Nov 22 07:00:00 mail postfix/smtpd[1]: connect from a[192.0.2.1]
Nov 22 07:00:00 mail postfix/smtpd[1]: warning: connect to Milter service unix:/x: No such file or directory
Nov 22 07:00:00 mail postfix/smtpd[2]: 4AAA: client=b[192.0.2.2]
Nov 22 07:00:00 mail postfix/smtpd[1]: 4BBB: client=a[192.0.2.1]
Nov 22 07:00:00 mail postfix/cleanup[3]: 4BBB: message-id=<1@a>
Nov 22 07:00:00 mail postfix/smtpd[1]: 4CCC: client=a[192.0.2.1]
Nov 22 07:00:00 mail postfix/smtpd[1]: disconnect from a[192.0.2.1] ehlo=1
Nov 22 07:00:00 mail postfix/smtpd[1]: 4DDD: client=c[192.0.2.3]
Nov 22 07:00:00 mail postfix/cleanup[4]: warning: connect to Milter service inet:127.0.0.1:8891: Connection refused
Nov 22 07:00:00 mail postfix/cleanup[4]: 4EEE: message-id=<2@a>
Nov 22 07:00:00 mail postfix/cleanup[4]: 4FFF: message-id=<3@a>
";
        assert_eq!(queue_ids(log), ["4BBB", "4CCC", "4EEE"]);
    }
}
