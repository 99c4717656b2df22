//! Dates as IMAP writes them: `date-time` and `date` (RFC 3501 section 9).

use std::fmt;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds of a day.
pub const DAY: i64 = 86_400;

/// A moment with the zone in which it is shown: `" 1-Jan-2020 10:11:12 +0100"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// Seconds since 1970 in UTC.
    pub seconds: i64,
    /// Minutes east of UTC.
    pub zone: i32,
}

/// A day of the calendar, counted from 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub i64);

/// Days since 1970-01-01 of a date in the Gregorian calendar (Howard Hinnant's algorithm).
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month (1 to 12) and day of a day count.
fn calendar(days: i64) -> (i64, usize, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, usize::try_from(month).unwrap_or(1), day)
}

fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let sound = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if sound { text.parse().ok() } else { None }
}

impl Day {
    /// Reads `1-Jan-2020`, one or two digits for the day.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut parts = str::from_utf8(text).ok()?.splitn(3, '-');
        let day = number(parts.next()?, 1..=2)?;
        let name = parts.next()?;
        let month = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name))? + 1;
        let year = number(parts.next()?, 4..=4)?;
        let found = days(year, i64::try_from(month).ok()?, day);
        (calendar(found) == (year, month, day)).then_some(Self(found))
    }
}

impl DateTime {
    /// Reads `01-Jan-2020 10:11:12 +0100`; the day may be padded with a blank.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?.trim_start_matches(' ');
        let mut words = text.split(' ');
        let Day(day) = Day::parse(words.next()?.as_bytes())?;
        let mut clock = words.next()?.split(':').map(|part| number(part, 2..=2));
        let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
        let zone = words.next()?;
        let (sign, digits) = match zone.as_bytes().first()? {
            b'+' => (1, zone.get(1..)?),
            b'-' => (-1, zone.get(1..)?),
            _ => return None,
        };
        let zone = number(digits, 4..=4)?;
        let minutes = sign * (zone / 100 * 60 + zone % 100);
        let in_bounds = hour < 24 && minute < 60 && second <= 60 && zone % 100 < 60;
        if !in_bounds || clock.next().is_some() || words.next().is_some() {
            return None;
        }
        let seconds = day * DAY + hour * 3600 + minute * 60 + second - minutes * 60;
        Some(Self { seconds, zone: i32::try_from(minutes).ok()? })
    }

    /// The calendar day at its own place.
    #[must_use]
    pub fn day(self) -> Day {
        Day((self.seconds + i64::from(self.zone) * 60).div_euclid(DAY))
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.seconds + i64::from(self.zone) * 60;
        let (year, month, day) = calendar(local.div_euclid(DAY));
        let month = MONTHS.get(month - 1).unwrap_or(&MONTHS[0]);
        let clock = local.rem_euclid(DAY);
        let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
        let sign = if self.zone < 0 { '-' } else { '+' };
        let zone = self.zone.abs();
        write!(
            f,
            "{day:02}-{month}-{year:04} {hour:02}:{minute:02}:{second:02} {sign}{:02}{:02}",
            zone / 60,
            zone % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_read_and_written() {
        for (text, seconds) in [
            ("01-Jan-1970 00:00:00 +0000", Some(0)),
            ("01-Jan-2020 10:11:12 +0100", Some(1_577_869_872)),
            (" 1-Jan-2020 10:11:12 +0100", Some(1_577_869_872)),
            ("29-Feb-2024 00:00:00 -0530", Some(1_709_184_600)),
            ("29-Feb-2023 00:00:00 +0000", None),
            ("01-Foo-2020 10:11:12 +0100", None),
            ("01-Jan-2020 25:11:12 +0100", None),
            ("01-Jan-2020 10:11:12", None),
            ("01-Jan-2020 10:11:12 0100", None),
            ("01-Jan-2020 10:11:12 +0100 x", None),
        ] {
            let read = DateTime::parse(text.as_bytes());
            assert_eq!(read.map(|date| date.seconds), seconds, "{text}");
        }
        let date = DateTime { seconds: 1_709_184_600, zone: -330 };
        assert_eq!(date.to_string(), "29-Feb-2024 00:00:00 -0530");
    }

    proptest! {
        #[test]
        fn a_written_date_is_read_back(seconds in -60_000_000_000_i64..250_000_000_000, zone in -720..840_i32) {
            let date = DateTime { seconds, zone };
            prop_assert_eq!(DateTime::parse(date.to_string().as_bytes()), Some(date));
        }
    }
}
