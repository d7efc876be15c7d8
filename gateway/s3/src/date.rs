//! Dates as HTTP, XML and SigV4 write them, without locale and time zone data: everything is UTC.
//!
//! In and out: `Timestamp` and text. A date before 1970 reads as 1970 and one that a timestamp can't
//! hold reads as the last one that it can, which is right for every comparison that S3 makes.

use std::fmt::Write as _;

use model::time::Timestamp;

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A point in time taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Civil {
    year: i64,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    weekday: usize,
}

impl Civil {
    fn of(time: Timestamp) -> Civil {
        let seconds = time.as_seconds();
        let (days, rest) = (seconds / 86_400, (seconds % 86_400) as u32);
        // Howard Hinnant's civil_from_days, for days since 1970-01-01 that are never negative here.
        let shifted = days.cast_signed() + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Civil {
            year,
            month,
            day,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: ((days + 4) % 7) as usize,
        }
    }

    fn timestamp(self) -> Option<Timestamp> {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let month_days = match self.month {
            2 => 28 + u32::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let valid = (1..=month_days).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second <= 60
            && (0..=9999).contains(&self.year);
        if !valid {
            return None;
        }
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month = i64::from(self.month);
        let shifted_month = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = (153 * shifted_month + 2) / 5 + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let of_day = i64::from(self.hour * 3600 + self.minute * 60 + self.second);
        let seconds = u64::try_from(days * 86_400 + of_day).unwrap_or(0);
        Some(Timestamp::from_seconds(seconds))
    }
}

/// An IMF-fixdate, as in `Last-Modified: Fri, 24 May 2013 00:00:00 GMT`.
pub fn http(time: Timestamp) -> String {
    let Civil { year, month, day, hour, minute, second, weekday } = Civil::of(time);
    let (weekday, month) = (DAYS[weekday], MONTHS[month as usize - 1]);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// ISO 8601 with milliseconds, as in `<LastModified>2013-05-24T00:00:00.000Z</LastModified>`.
pub fn iso8601(time: Timestamp) -> String {
    let Civil { year, month, day, hour, minute, second, weekday: _ } = Civil::of(time);
    let millis = time.as_millis() % 1000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// ISO 8601 in its basic form, as in `x-amz-date: 20130524T000000Z`.
pub fn basic(time: Timestamp) -> String {
    let Civil { year, month, day, hour, minute, second, weekday: _ } = Civil::of(time);
    let mut out = String::with_capacity(16);
    let _infallible = write!(out, "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z");
    out
}

/// Reads the basic form, exactly.
pub fn parse_basic(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| digits(bytes.get(from..to)?);
    Civil {
        year: i64::from(number(0, 4)?),
        month: number(4, 6)?,
        day: number(6, 8)?,
        hour: number(9, 11)?,
        minute: number(11, 13)?,
        second: number(13, 15)?,
        weekday: 0,
    }
    .timestamp()
}

/// Reads ISO 8601 in its extended form, with or without a fraction, in UTC.
pub fn parse_iso8601(text: &str) -> Option<Timestamp> {
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (text, ""),
    };
    let bytes = whole.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if bytes.len() != 19 || separators.iter().any(|(at, separator)| bytes[*at] != *separator) {
        return None;
    }
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |from: usize, to: usize| digits(bytes.get(from..to)?);
    let seconds = Civil {
        year: i64::from(number(0, 4)?),
        month: number(5, 7)?,
        day: number(8, 10)?,
        hour: number(11, 13)?,
        minute: number(14, 16)?,
        second: number(17, 19)?,
        weekday: 0,
    }
    .timestamp()?;
    let nanos: u64 = format!("{fraction:0<9}").parse().ok()?;
    Some(seconds.plus_nanos(nanos))
}

/// Reads the three date formats that RFC 9110 §5.6.7 obliges a server to take.
pub fn parse_http(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let words: Vec<&str> = text.split([' ', '-', ',']).filter(|word| !word.is_empty()).collect();
    let (day, month, year, time) = match words.as_slice() {
        // asctime: Sun Nov  6 08:49:37 1994
        [_, month, day, time, year] if year.len() == 4 => (*day, *month, *year, *time),
        // IMF-fixdate: Sun, 06 Nov 1994 08:49:37 GMT, and RFC 850: Sunday, 06-Nov-94 08:49:37 GMT
        [_, day, month, year, time, "GMT" | "UTC" | "+0000"] => (*day, *month, *year, *time),
        _ => return None,
    };
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))? as u32 + 1;
    let century = match year.len() {
        4 => 0,
        // RFC 850 dates have two digits; nothing in S3 is older than 1970.
        2 if digits(year.as_bytes())? >= 70 => 1900,
        2 => 2000,
        _ => return None,
    };
    let mut clock = time.split(':');
    let mut part = || clock.next().filter(|part| part.len() == 2);
    let (hour, minute, second) = (part()?, part()?, part()?);
    if clock.next().is_some() {
        return None;
    }
    Civil {
        year: century + i64::from(digits(year.as_bytes())?),
        month,
        day: digits(day.as_bytes())?,
        hour: digits(hour.as_bytes())?,
        minute: digits(minute.as_bytes())?,
        second: digits(second.as_bytes())?,
        weekday: 0,
    }
    .timestamp()
}

fn digits(bytes: &[u8]) -> Option<u32> {
    if bytes.is_empty() || bytes.len() > 4 {
        return None;
    }
    bytes.iter().try_fold(0u32, |sum, byte| {
        byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_reads_every_form() {
        let check = |seconds: u64, http_form: &str, basic_form: &str, iso: &str| {
            let time = Timestamp::from_seconds(seconds);
            assert_eq!(http(time), http_form);
            assert_eq!(basic(time), basic_form);
            assert_eq!(iso8601(time), iso);
            assert_eq!(parse_http(http_form), Some(time));
            assert_eq!(parse_basic(basic_form), Some(time));
            assert_eq!(parse_iso8601(iso), Some(time));
        };
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT", "19700101T000000Z", "1970-01-01T00:00:00.000Z");
        check(
            784_111_777,
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "19941106T084937Z",
            "1994-11-06T08:49:37.000Z",
        );
        check(
            951_782_400,
            "Tue, 29 Feb 2000 00:00:00 GMT",
            "20000229T000000Z",
            "2000-02-29T00:00:00.000Z",
        );
        check(
            1_369_353_600,
            "Fri, 24 May 2013 00:00:00 GMT",
            "20130524T000000Z",
            "2013-05-24T00:00:00.000Z",
        );
        check(
            4_107_542_399,
            "Sun, 28 Feb 2100 23:59:59 GMT",
            "21000228T235959Z",
            "2100-02-28T23:59:59.000Z",
        );
        check(
            4_107_542_400,
            "Mon, 01 Mar 2100 00:00:00 GMT",
            "21000301T000000Z",
            "2100-03-01T00:00:00.000Z",
        );
    }

    #[test]
    fn reads_the_old_http_forms_and_fractions() {
        let time = Some(Timestamp::from_seconds(784_111_777));
        assert_eq!(parse_http("Sunday, 06-Nov-94 08:49:37 GMT"), time);
        assert_eq!(parse_http("Sun Nov  6 08:49:37 1994"), time);
        assert_eq!(parse_http("Wed, 31 Dec 1969 23:59:59 GMT"), Some(Timestamp(0)));
        assert_eq!(parse_iso8601("1970-01-01T00:00:01.5Z"), Some(Timestamp(1_500_000_000)));
        assert_eq!(parse_iso8601("1970-01-01T00:00:01Z"), Some(Timestamp(1_000_000_000)));
    }

    #[test]
    fn refuses_what_is_no_date() {
        for text in [
            "",
            "20130524",
            "20130524T000000",
            "20131324T000000Z",
            "20130532T000000Z",
            "20130230T000000Z",
            "20130524T240000Z",
            "2013052xT000000Z",
            "+0130524T000000Z",
            "ä0130524T00000Z",
        ] {
            assert_eq!(parse_basic(text), None, "{text}");
        }
        for text in [
            "",
            "now",
            "Fri, 24 May 2013",
            "Fri, 24 Mai 2013 00:00:00 GMT",
            "Fri, 24 May 2013 00:00:00 CET",
            "Fri, 24 May 2013 00:00 GMT",
        ] {
            assert_eq!(parse_http(text), None, "{text}");
        }
        for text in [
            "",
            "2013-05-24",
            "2013-05-24 00:00:00Z",
            "2013-05-24T00:00:00.x1Z",
            "2013-05-24T00:00:00",
        ] {
            assert_eq!(parse_iso8601(text), None, "{text}");
        }
    }
}
