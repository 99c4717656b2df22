//! The `subscriptions` file, versions 1 and 2.

use crate::error::StoreError;

const V2: &[u8] = b"V\t2\n\n";
pub(crate) const LARGEST: u64 = 16 << 20;

/// The names that a file lists, with `separator` between their levels. Version 1 keeps the
/// storage's separator, which is `storage`.
pub(crate) fn parse(text: &[u8], storage: char, separator: char) -> Vec<String> {
    let (version2, lines) = match text.strip_prefix(V2) {
        Some(lines) => (true, lines),
        None => (false, text),
    };
    let mut names = Vec::new();
    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let name = if version2 {
            let levels: Option<Vec<String>> = line.split('\t').map(unescape).collect();
            let Some(levels) = levels else { continue };
            levels.join(separator.encode_utf8(&mut [0; 4]))
        } else {
            line.replace(storage, separator.encode_utf8(&mut [0; 4]))
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The file with `name` added or taken away; `None` when nothing changes. A file of version 1
/// stays one, as with Dovecot.
pub(crate) fn edit(
    text: Option<&[u8]>,
    name: &str,
    subscribe: bool,
    storage: char,
    separator: char,
) -> Result<Option<Vec<u8>>, StoreError> {
    let version1 = text.is_some_and(|text| !text.is_empty() && !text.starts_with(V2));
    let mut names = parse(text.unwrap_or_default(), storage, separator);
    let before = names.len();
    if !subscribe {
        names.retain(|known| known != name);
    } else if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
    if names.len() == before {
        return Ok(None);
    }
    let mut out = if version1 { Vec::new() } else { V2.to_vec() };
    for name in names {
        let line = if version1 {
            name.replace(separator, storage.encode_utf8(&mut [0; 4]))
        } else {
            name.split(separator).map(escape).collect::<Vec<_>>().join("\t")
        };
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    Ok(Some(out))
}

/// Dovecot's tab-escaping: 0x01 and a digit.
fn escape(level: &str) -> String {
    level
        .chars()
        .flat_map(|character| match character {
            '\u{1}' => ['\u{1}', '1'].into_iter().take(2),
            '\t' => ['\u{1}', 't'].into_iter().take(2),
            '\r' => ['\u{1}', 'r'].into_iter().take(2),
            '\n' => ['\u{1}', 'n'].into_iter().take(2),
            other => [other, other].into_iter().take(1),
        })
        .collect()
}

fn unescape(level: &str) -> Option<String> {
    let mut out = String::with_capacity(level.len());
    let mut characters = level.chars();
    while let Some(character) = characters.next() {
        out.push(match character {
            '\u{1}' => match characters.next()? {
                '1' => '\u{1}',
                't' => '\t',
                'r' => '\r',
                'n' => '\n',
                _ => return None,
            },
            other => other,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: Option<&[u8]>, name: &str, subscribe: bool) -> Option<String> {
        edit(text, name, subscribe, '.', '.').unwrap().map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn version_2_is_written_and_read() {
        let first = edited(None, "Work.Sub", true).unwrap();
        assert_eq!(first, "V\t2\n\nWork\tSub\n");
        let second = edited(Some(first.as_bytes()), "&ZeVnLIqe-", true).unwrap();
        assert_eq!(second, "V\t2\n\nWork\tSub\n&ZeVnLIqe-\n");
        assert_eq!(parse(second.as_bytes(), '.', '/'), ["Work/Sub", "&ZeVnLIqe-"]);
        assert_eq!(edited(Some(second.as_bytes()), "Work.Sub", true), None);
        assert_eq!(
            edited(Some(second.as_bytes()), "Work.Sub", false).as_deref(),
            Some("V\t2\n\n&ZeVnLIqe-\n")
        );
    }

    #[test]
    fn version_1_stays_version_1() {
        let text = b"INBOX.Sent\nWork\n";
        assert_eq!(edited(Some(text), "New", true).as_deref(), Some("INBOX.Sent\nWork\nNew\n"));
    }

    #[test]
    fn damaged_lines_are_left_out() {
        assert_eq!(parse(b"V\t2\n\na\n\xff\n\x01\na\n", '.', '.'), ["a"]);
    }
}
