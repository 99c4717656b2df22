//! The `Date` field, also in the shapes that old and broken mailers give it (RFC 5322 section 4.3).

use jiff::Timestamp;
use jiff::civil;
use jiff::tz::{Offset, TimeZone};

use crate::parameters::Scanner;

/// A date as it was written: the day on the sender's calendar, and the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    pub year: i16,
    pub month: i8,
    pub day: i8,
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Minutes east of Greenwich.
    pub offset: i16,
}

const MONTHS: [&[u8]; 12] = [
    b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec",
];

impl Date {
    /// Reads a `Date` value; `None` for what is no date.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let words = words(value);
        let mut rest = words.as_slice();
        // `Sat,` or `Sat`, missing or in any language: a first word without digits is passed over.
        if rest.first()?.iter().all(|octet| !octet.is_ascii_digit()) {
            rest = &rest[1..];
        }
        let (day, month, year) = match rest {
            [day, month, year, ..] if day[0].is_ascii_digit() => (day, month, year),
            _ => return None,
        };
        let day: i8 = number(day)?.try_into().ok()?;
        let name = month.get(..3)?.to_ascii_lowercase();
        let month = i8::try_from(MONTHS.iter().position(|known| *known == name)? + 1).ok()?;
        let year = full_year(number(year)?, year.len());
        let (hour, minute, second) = clock(rest.get(3).map_or(&b"0:0"[..], Vec::as_slice))?;
        let offset = rest.get(4).map_or(0, |zone| zone_minutes(zone));
        let civil = civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
        let zone = TimeZone::fixed(Offset::from_seconds(i32::from(offset) * 60).ok()?);
        let seconds = civil.to_zoned(zone).ok()?.timestamp().as_second();
        Some(Self { year, month, day, seconds, offset })
    }
}

fn words(value: &[u8]) -> Vec<Vec<u8>> {
    let mut scanner = Scanner::new(value);
    let mut words = Vec::new();
    while !scanner.is_at_end() && words.len() < 8 {
        scanner.skip_blank();
        let word =
            scanner.run(|octet| octet > b' ' && !b",()\"-".contains(&octet) || octet >= 0x80);
        // A minus separates `01-Jan-2022` but belongs to `-0700`.
        if word.is_empty() {
            let minus = scanner.peek() == Some(b'-');
            scanner.skip();
            if minus && words.len() >= 4 {
                words.push([b"-", scanner.run(|octet| octet.is_ascii_digit())].concat());
            }
        } else {
            words.push(word.to_vec());
        }
    }
    words
}

fn number(word: &[u8]) -> Option<i16> {
    let right = !word.is_empty() && word.len() <= 4 && word.iter().all(u8::is_ascii_digit);
    right.then(|| word.iter().fold(0, |value, digit| value * 10 + i16::from(digit - b'0')))
}

/// RFC 5322 section 4.3: two digits below 50 are 20xx, three digits count from 1900.
fn full_year(year: i16, digits: usize) -> i16 {
    match digits {
        1 | 2 if year < 50 => year + 2000,
        1..=3 => year + 1900,
        _ => year,
    }
}

fn clock(word: &[u8]) -> Option<(i8, i8, i8)> {
    let mut fields = word.split(|&octet| octet == b':' || octet == b'.').map(number);
    let mut next = || fields.next().unwrap_or(Some(0));
    let (hour, minute, second) = (next()?, next()?, next()?);
    // A leap second is the one before it.
    Some((hour.try_into().ok()?, minute.try_into().ok()?, second.min(59).try_into().ok()?))
}

/// Unknown zones are Greenwich, as RFC 5322 has it.
fn zone_minutes(zone: &[u8]) -> i16 {
    let (sign, digits) = match zone.split_first() {
        Some((b'+', digits)) => (1, digits),
        Some((b'-', digits)) => (-1, digits),
        _ => {
            return match zone.to_ascii_uppercase().as_slice() {
                b"EDT" => -4 * 60,
                b"EST" | b"CDT" => -5 * 60,
                b"CST" | b"MDT" => -6 * 60,
                b"MST" | b"PDT" => -7 * 60,
                b"PST" => -8 * 60,
                _ => 0,
            };
        }
    };
    let offset = number(digits).filter(|_| digits.len() == 4).unwrap_or(0);
    let minutes = offset / 100 * 60 + offset % 100;
    if minutes < 24 * 60 { sign * minutes } else { 0 }
}

/// A moment as RFC 5322 writes it, in the machine's time zone: `Sun, 22 Nov 2026 06:14:12 +0900`.
#[must_use]
pub fn format(seconds: i64) -> String {
    let zone = TimeZone::system();
    let moment = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone);
    moment.strftime("%a, %d %b %Y %H:%M:%S %z").to_string()
}

/// A moment as Postfix writes it into Received headers, with the zone's name: `Sun, 22 Nov 2026 06:14:12 +0900 (JST)`.
#[must_use]
pub fn format_with_zone(seconds: i64) -> String {
    let zone = TimeZone::system();
    let moment = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone);
    moment.strftime("%a, %e %b %Y %H:%M:%S %z (%Z)").to_string()
}

/// `20261122061412`, in UTC: the time in a Message-Id.
#[must_use]
pub fn format_utc_digits(seconds: i64) -> String {
    let moment = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    moment.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%S").to_string()
}

/// A moment as the first line of an mbox message has it: `Sun Nov 22 06:14:12 2026`.
#[must_use]
pub fn format_ctime(seconds: i64) -> String {
    let zone = TimeZone::system();
    let moment = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone);
    moment.strftime("%a %b %e %H:%M:%S %Y").to_string()
}

/// A moment as Dovecot's internal errors have it: `2026-11-22 06:39:09`.
#[must_use]
pub fn format_stamp(seconds: i64) -> String {
    let zone = TimeZone::system();
    let moment = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone);
    moment.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A moment in a form of strftime(3), in the machine's time zone; `None` for a form that is none.
#[must_use]
pub fn format_as(form: &str, seconds: i64) -> Option<String> {
    let zone = TimeZone::system();
    let moment = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone);
    jiff::fmt::strtime::format(form, &moment).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dates_as_mailers_write_them() {
        for (value, seconds, day, offset) in [
            ("Sun, 22 Nov 2026 06:14:12 +0900", 1_795_295_652, 22, 540),
            ("22 Nov 2026 06:14 +0900", 1_795_295_640, 22, 540),
            ("Sat,  1 Jan 22 00:00:00 GMT", 1_640_995_200, 1, 0),
            ("Sat, 01 Jan 2022 00:00:00 -0330 (NDT)", 1_641_007_800, 1, -210),
            ("Fri, 31-Dec-1999 23:59:60 EST", 946_702_799, 31, -300),
            ("1 jan 1970 0:0 XYZ", 0, 1, 0),
            ("Thu, 1 Jan 2015 12:00:00", 1_420_113_600, 1, 0),
            ("Thu,1 Jan 115 12:00:00 +0000", 1_420_113_600, 1, 0),
        ] {
            let date = Date::parse(value.as_bytes()).unwrap_or_else(|| panic!("{value}"));
            assert_eq!((date.seconds, date.day, date.offset), (seconds, day, offset), "{value}");
        }
        for bad in
            ["", "yesterday", "32 Jan 2022 00:00", "1 Foo 2022", "1 Jan", "1 Jan 2022 25:00", ","]
        {
            assert_eq!(Date::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_moment_is_written_so_that_it_can_be_read() {
        let date = Date::parse(format(1_795_295_652).as_bytes()).unwrap();
        assert_eq!(date.seconds, 1_795_295_652);
        assert_eq!(format_ctime(1_795_295_652).len(), 24);
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(value in "[0-9 ,:+-a-cJjNn()]{0,40}") {
            let _ = Date::parse(value.as_bytes());
        }
    }
}
