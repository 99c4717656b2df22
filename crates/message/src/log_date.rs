//! The stamps of log lines: syslog's old one, which has neither year nor zone, RFC 3339's, and ours for people.

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

const MONTHS: [&[u8]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];
const DAY: i64 = 24 * 60 * 60;

/// Reads `Apr  1 09:30:00`, 15 octets, in the machine's time zone. The year is the last one in which that is not after
/// `newest`, seconds since the epoch, but for a day: clocks of hosts differ. Microseconds since the epoch.
#[must_use]
pub fn read_traditional(line: &[u8], newest: i64) -> Option<i64> {
    let stamp = line.get(..15)?;
    let month = MONTHS.iter().position(|name| *name == &stamp[..3])?;
    let (day, rest) = (number(stamp.get(4..6)?)?, stamp.get(6..)?);
    let [b' ', h1, h2, b':', m1, m2, b':', s1, s2] = *rest else { return None };
    let (hour, minute, second) = (number(&[h1, h2])?, number(&[m1, m2])?, number(&[s1, s2])?);
    let zone = TimeZone::system();
    let now = Timestamp::from_second(newest).ok()?.to_zoned(zone.clone());
    let month = i8::try_from(month + 1).ok()?;
    (0..2).find_map(|years| {
        // A leap second and the 29th of February of another year are no moments.
        let moment =
            civil::DateTime::new(now.year() - years, month, day, hour, minute, second.min(59), 0)
                .ok()?;
        let seconds = moment.to_zoned(zone.clone()).ok()?.timestamp().as_second();
        (seconds <= newest + DAY).then_some(seconds * 1_000_000)
    })
}

/// Reads `2026-04-10T09:30:00.123456+09:00`. Microseconds since the epoch.
#[must_use]
pub fn read_rfc3339(stamp: &str) -> Option<i64> {
    stamp.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

/// `2026-04-10 09:30:00.123`, in the machine's time zone.
#[must_use]
pub fn show(microseconds: i64) -> String {
    let moment = Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::UNIX_EPOCH);
    moment.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

fn number(digits: &[u8]) -> Option<i8> {
    let text = std::str::from_utf8(digits).ok()?.trim_start_matches(' ');
    text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22 06:00:00 UTC
    const NEWEST: i64 = 1_795_327_200;

    #[test]
    fn a_stamp_without_a_year_is_not_of_the_future() {
        let read = |text: &str| read_traditional(text.as_bytes(), NEWEST).map(show);
        assert_eq!(read("Apr  1 09:30:00 host x").as_deref(), Some("2026-04-01 09:30:00.000"));
        assert_eq!(read("Dec 31 23:59:60 host x").as_deref(), Some("2025-12-31 23:59:59.000"));
        for wrong in [
            "",
            "Foo  1 09:30:00",
            "Apr 31 09:30:00",
            "Apr  1 9:30:00 x",
            "Apr -1 09:30:00",
            "Feb 29 00:00:00",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_stamp_of_rfc_3339_is_a_moment() {
        assert_eq!(read_rfc3339("2026-04-10T09:30:00.123456+09:00"), Some(1_775_781_000_123_456));
        assert_eq!(read_rfc3339("2026-04-10T00:30:00Z"), Some(1_775_781_000_000_000));
        assert_eq!(read_rfc3339("2026-04-10"), None);
        assert!(show(i64::MAX).starts_with("1970-01-01"));
    }
}
