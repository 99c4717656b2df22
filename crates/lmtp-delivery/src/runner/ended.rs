//! How a command ended, and what that means for the message.

use serde::{Deserialize, Serialize};

use crate::task::Failure;

/// EX__BASE of sysexits.h.
const FIRST: i32 = 64;
const TEMPORARY: i32 = 75;
/// What sysexits.h calls them, from 64 on, with their statuses.
const MEANINGS: [(&str, &str); 15] = [
    ("5.3.0", "command line usage error"),
    ("5.6.0", "data format error"),
    ("5.3.0", "cannot open input"),
    ("5.1.1", "user unknown"),
    ("5.1.2", "host name unknown"),
    ("5.3.0", "service unavailable"),
    ("5.3.0", "internal software error"),
    ("4.3.0", "system resource problem"),
    ("5.3.0", "critical OS file missing"),
    ("5.2.0", "can't create user output file"),
    ("5.3.0", "input/output error"),
    ("4.3.0", "temporary failure"),
    ("5.5.0", "remote error in protocol"),
    ("5.7.0", "permission denied"),
    ("5.3.5", "local configuration error"),
];

/// The end of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Exit status; nothing if a signal ended it.
    pub status: Option<i32>,
    pub signal: Option<i32>,
    pub timed_out: bool,
    /// The beginning of what it wrote.
    pub output: Vec<u8>,
    /// Why it could not be given all of the message.
    pub unwritten: Option<String>,
}

impl Ended {
    /// As a child of Postfix ends when it cannot become the command.
    pub fn not_started(why: &str) -> Self {
        Self { status: Some(TEMPORARY), output: format!("{why}\n").into_bytes(), ..Self::default() }
    }

    /// The output as it may stand in a log: one line, printable.
    fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.output);
        let printable = |c: char| match c {
            '\t' | '\n' => ' ',
            c if c.is_control() || c == char::REPLACEMENT_CHARACTER => '_',
            c => c,
        };
        text.chars().map(printable).collect()
    }

    /// The output of a command that did its work, or what to report of one that did not.
    ///
    /// # Errors
    ///
    /// The failure, in Postfix's words.
    pub fn verdict(&self, command: &str) -> Result<String, Failure> {
        let output = self.shown();
        let failed = |status: &str, text: String, unknown: &str| {
            let diagnostic = if output.is_empty() { unknown } else { &output };
            let with_output =
                if output.is_empty() { text } else { format!("{text}. Command output: {output}") };
            Err(Failure::new(status, with_output).with_diagnostic(diagnostic))
        };
        if self.timed_out {
            let text = format!("Command time limit exceeded: \"{command}\"");
            return failed("5.3.0", text, "internal software error");
        }
        if let Some(signal) = self.signal {
            let text = format!("Command died with signal {signal}: \"{command}\"");
            return failed("4.3.0", text, "internal software error");
        }
        let status = self.status.unwrap_or(TEMPORARY);
        if status == 0 {
            return match &self.unwritten {
                Some(why) => {
                    let text =
                        format!("Command failed: error writing message: {why}: \"{command}\"");
                    Err(Failure::new("5.3.0", text).with_diagnostic("input/output error"))
                }
                None => Ok(output.trim_end().to_owned()),
            };
        }
        if let Some((code, text)) = enhanced(&output) {
            return Err(Failure::new(code, text).with_diagnostic(text));
        }
        let meaning = usize::try_from(status - FIRST).ok().and_then(|index| MEANINGS.get(index));
        match meaning {
            Some((code, text)) => failed(code, (*text).to_owned(), text),
            None => {
                let text = format!("Command died with status {status}: \"{command}\"");
                failed("5.3.0", text, &format!("unknown mail system error {status}"))
            }
        }
    }
}

/// `5.1.1 text`: a status that the command gives itself.
fn enhanced(output: &str) -> Option<(&str, &str)> {
    let (code, text) = output.split_once(' ').unwrap_or((output, ""));
    let mut parts = code.split('.');
    let class = parts.next().filter(|class| ["2", "4", "5"].contains(class));
    let number = |part: Option<&str>| {
        part.is_some_and(|part| {
            (1..=3).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_digit())
        })
    };
    let valid = class.is_some() && number(parts.next()) && number(parts.next());
    (valid && parts.next().is_none()).then(|| (code, text.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: i32, output: &str) -> Ended {
        Ended { status: Some(status), output: output.into(), ..Ended::default() }
    }

    fn told(ended: &Ended) -> String {
        match ended.verdict("cmd x") {
            Ok(output) => format!("ok {output}"),
            Err(failure) => format!("{} {}", failure.status, failure.text),
        }
    }

    #[test]
    fn ends_are_told_in_postfix_words() {
        for (ended, text) in [
            (ended(0, "fine\n"), "ok fine"),
            (ended(1, ""), "5.3.0 Command died with status 1: \"cmd x\""),
            (
                ended(2, "a\tb\u{7}\n"),
                "5.3.0 Command died with status 2: \"cmd x\". Command output: a b_ ",
            ),
            (ended(67, ""), "5.1.1 user unknown"),
            (ended(75, "later\n"), "4.3.0 temporary failure. Command output: later "),
            (ended(79, ""), "5.3.0 Command died with status 79: \"cmd x\""),
            (ended(1, "5.7.1 not you\n"), "5.7.1 not you "),
            (ended(1, "4.2.2 full"), "4.2.2 full"),
            (
                ended(1, "5.7 x"),
                "5.3.0 Command died with status 1: \"cmd x\". Command output: 5.7 x",
            ),
            (
                Ended { signal: Some(9), ..Ended::default() },
                "4.3.0 Command died with signal 9: \"cmd x\"",
            ),
            (
                Ended { timed_out: true, signal: Some(9), ..Ended::default() },
                "5.3.0 Command time limit exceeded: \"cmd x\"",
            ),
        ] {
            assert_eq!(told(&ended), text);
        }
    }
}
