//! A time line: what happened to a message, line by line, over all programs and hosts.

use std::fmt::Write as _;

use crate::command::shown::escaped;

/// One log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Microseconds since the epoch.
    pub at: i64,
    /// Whose log it is: a host, or `journal`.
    pub host: String,
    /// `postfix/smtpd[123]: 4X…: client=…`
    pub text: String,
}

/// The longest part of a line that is shown.
const LONGEST: usize = 2000;

/// The lines in the order of time, each with the time since `began`, or since the first of them. The hosts are named if
/// there are several. With `clock` each line also begins with the time of day.
#[must_use]
pub fn text(mut events: Vec<Event>, began: Option<i64>, clock: bool) -> String {
    events.sort_by_key(|event| event.at);
    let began = began.or_else(|| events.first().map(|event| event.at)).unwrap_or(0);
    let width = events.iter().map(|event| event.host.chars().count()).max().unwrap_or(0).min(24);
    let several =
        events.iter().any(|event| Some(&event.host) != events.first().map(|first| &first.host));
    let mut text = String::new();
    for event in &events {
        if clock {
            let _ = write!(text, "{}  ", message::log_date::show(event.at));
        }
        let _ = write!(text, "{:>12}  ", since(event.at - began));
        if several {
            let _ = write!(text, "{:<width$}  ", escaped(&event.host));
        }
        let shown: String = event.text.chars().take(LONGEST).collect();
        let _ = writeln!(text, "{}", escaped(&shown));
    }
    text
}

/// A duration for people: `12.3 ms`, `4.125 s`, `2 min 3 s`, `3 h 20 min`, `4 d 2 h`.
#[must_use]
pub fn since(microseconds: i64) -> String {
    let sign = if microseconds < 0 { "-" } else { "" };
    let passed = microseconds.unsigned_abs();
    let (seconds, part) = (passed / 1_000_000, passed % 1_000_000);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0 => format!("{sign}{}.{} ms", part / 1000, part % 1000 / 100),
        1..=59 => format!("{sign}{seconds}.{:03} s", part / 1000),
        60..=3599 => format!("{sign}{minutes} min {} s", seconds % 60),
        3600..=86_399 => format!("{sign}{hours} h {} min", minutes % 60),
        _ => format!("{sign}{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stand_in_the_order_of_time() {
        let event = |at, host: &str, text: &str| Event { at, host: host.into(), text: text.into() };
        let events = vec![
            event(2_500_000, "b", "qmgr[2]: X: removed"),
            event(1_000_000, "a", "smtpd[1]: X: client=evil\x1b[2J"),
        ];
        insta::assert_snapshot!(text(events.clone(), None, false), @r"
              0.0 ms  a  smtpd[1]: X: client=evil\x1b[2J
             1.500 s  b  qmgr[2]: X: removed
        ");
        assert_eq!(
            text(events[..1].to_vec(), Some(0), false),
            "     2.500 s  qmgr[2]: X: removed\n"
        );
    }

    #[test]
    fn durations_are_short() {
        for (microseconds, shown) in [
            (1_250, "1.2 ms"),
            (-61_000_000, "-1 min 1 s"),
            (7_380_000_000, "2 h 3 min"),
            (180_000_000_000, "2 d 2 h"),
        ] {
            assert_eq!(since(microseconds), shown);
        }
    }
}
