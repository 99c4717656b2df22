//! What the originals' logs may hold though it complains: exact lines, each with its reason, and where the reason is a
//! swap, only behind its begin, and so often.

use std::io::Write as _;
use std::path::Path;

/// A line that is no fault. `line` is the whole text behind the time, the host and the pid, where `*` stands for anything.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    pub line: &'static str,
    pub when: When,
    /// Why it is no fault.
    pub why: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// A fact of the machine.
    Ever,
    /// From the first swap on, at most so often for each: a process that was busy in it complains when it asks again.
    InASwap(usize),
}

/// In a log: a swap begins here.
pub const BEGINS: &str = "test: a swap begins";

/// Notes in a log of the originals that a swap begins here; they append to it too.
pub fn swap_begins(log: &Path) {
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).open(log) {
        let _ = file.write_all(
            format!(
                "{BEGINS}
"
            )
            .as_bytes(),
        );
    }
}

/// The lines that complain and may not: first words as Postfix, Dovecot and OpenDKIM write them.
pub fn complaints(log: &str, allowed: &[Allowed]) -> Vec<String> {
    let words = ["warning:", "error:", "fatal:", "panic:", "throttl"];
    let mut bad = Vec::new();
    let (mut swapping, mut seen) = (false, vec![0; allowed.len()]);
    for line in log.lines() {
        match line {
            BEGINS => {
                swapping = true;
                seen.fill(0);
            }
            _ => {
                let lower = line.to_ascii_lowercase();
                if !words.iter().any(|word| lower.contains(word)) {
                    continue;
                }
                let text = without_place(line);
                let fits = |known: &(usize, &Allowed)| {
                    is_like(&text, known.1.line)
                        && match known.1.when {
                            When::Ever => true,
                            When::InASwap(most) => swapping && seen[known.0] < most,
                        }
                };
                match allowed.iter().enumerate().find(fits) {
                    Some((index, _)) => seen[index] += 1,
                    None => bad.push(told(line, &text, allowed)),
                }
            }
        }
    }
    bad
}

/// A line that is one too many, or before any swap, is told with its bound.
fn told(line: &str, text: &str, allowed: &[Allowed]) -> String {
    match allowed.iter().find(|known| is_like(text, known.line)) {
        Some(known) => format!("{line} ({:?}: {})", known.when, known.why),
        None => line.to_owned(),
    }
}

/// Without time, host and process ids: `Nov 22 07:00:00 mail postfix/smtpd[123]: text`, `Nov 22 07:00:00 auth: text`.
fn without_place(line: &str) -> String {
    let rest = line.get(16..).unwrap_or(line);
    // Postfix's lines have the host in front.
    let rest = match rest.split_once(' ') {
        Some((_, rest)) if rest.starts_with("postfix") => rest,
        _ => rest,
    };
    let mut text = String::new();
    let mut left = rest;
    while let Some(at) = left.find(['[', '<']) {
        let (before, behind) = left.split_at(at);
        text.push_str(before);
        let close = if behind.starts_with('[') { ']' } else { '>' };
        let inner = behind.get(1..).and_then(|inner| inner.split_once(close));
        match inner {
            Some((digits, rest))
                if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                left = rest;
            }
            _ => {
                text.push_str(&behind[..1]);
                left = &behind[1..];
            }
        }
    }
    text.push_str(left);
    text
}

/// `pattern` stands for the whole text; `*` is anything.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut open = false;
    for piece in pieces {
        open = piece.is_empty();
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    open || left.is_empty()
}

#[test]
fn only_the_line_itself_is_allowed_and_only_in_its_swap() {
    let allowed = [Allowed {
        line: "postfix/smtpd: warning: problem talking to service *: Success",
        when: When::InASwap(1),
        why: "",
    }];
    let line = "Nov 22 07:00:00 mail postfix/smtpd[12]: warning: problem talking to service rewrite: Success";
    let other = "Nov 22 07:00:00 mail postfix/smtpd[12]: warning: problem talking to service rewrite: Broken";
    let log = format!("{line}\n{BEGINS}\n{line}\n{line}\n{other}\n{BEGINS}\n{line}\n");
    let bad = complaints(&log, &allowed);
    let told = |line: &str| bad.iter().filter(|bad| bad.starts_with(line)).count();
    assert_eq!((bad.len(), told(line), told(other)), (3, 2, 1), "{bad:#?}");
    assert!(complaints("Nov 22 07:00:00 mail postfix/smtpd[12]: connect from a\n", &[]).is_empty());
    let dovecot = "Nov 22 07:00:00 imap-login: Error: master(imap): Auth request timed out";
    assert_eq!(without_place(dovecot), "imap-login: Error: master(imap): Auth request timed out");
    assert_eq!(complaints(dovecot, &[]).len(), 1);
    assert!(is_like("a b c", "a * c") && is_like("a b", "a *") && !is_like("a b c", "a *b"));
}
