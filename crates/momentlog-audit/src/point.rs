//! Points as people write them.

use std::fmt::{self, Write as _};

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, Offset, TimeZone};
use jiff::{Span, Timestamp, ZonedDateTime};
use momentlog_engine::Point;
use momentlog_store::Seq;

/// Which end of a day a day without a time means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Its first microsecond: for what begins there.
    Start,
    /// Its last microsecond: for what ends there, and for a point.
    End,
}

/// Why a text is no point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPoint {
    /// It has none of the forms.
    #[error(
        "'{0}' is no point of the log: write a record's number, a receipt or its file, now, 2026-11-17T09:00:00+01:00, \
         \"2026-11-17 09:00\", 2026-11-17, 09:00, today, yesterday, tuesday (each with a time behind it, as in \
         \"yesterday 09:00\"), or \"2 hours ago\" (minutes, hours, days, weeks; also 2h ago)"
    )]
    Form(String),
    /// It is a day or a time that no calendar has.
    #[error("'{0}' is no time of the calendar")]
    Calendar(String),
    /// The clocks were put on past it.
    #[error("'{0}' did not happen here: the clocks were put on from {1} to {2}")]
    Skipped(String, Zone, Zone),
    /// The clocks were put back, and it came twice.
    #[error("'{0}' came twice here: write '{1}' or '{2}'")]
    Twice(String, String, String),
    /// Records are numbered from 1.
    #[error("there is no record 0: the first one is 1")]
    Zero,
}

/// The offset of a time zone from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(Offset);

/// As `+01:00`.
impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.seconds();
        let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// Reads a point, as of `now` in a time zone. Forms are tried in this order: a receipt; digits, which are a record's
/// number; `now`; a time with an offset; a day and a time here; a day; a time of today, `today`, `yesterday`, a day of the
/// week (the last one that has begun), each of these three also with a time; `N minutes|hours|days|weeks ago`.
///
/// # Errors
///
/// [`NoPoint`].
pub fn read_point(text: &str, edge: Edge, now: &ZonedDateTime) -> Result<Point, NoPoint> {
    let text = text.trim();
    if let Ok(receipt) = text.parse() {
        return Ok(Point::Receipt(receipt));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large lies behind the end as well.
        let number = text.parse().unwrap_or(u64::MAX);
        return Seq::new(number).map(Point::Seq).ok_or(NoPoint::Zero);
    }
    if text == "now" {
        return Ok(Point::Now);
    }
    let reader = Reader { text, edge, now };
    reader.time().map(Point::Time)
}

struct Reader<'a> {
    text: &'a str,
    edge: Edge,
    now: &'a ZonedDateTime,
}

impl Reader<'_> {
    /// Microseconds since 1970.
    fn time(&self) -> Result<i64, NoPoint> {
        let (first, rest) = match self.text.split_once([' ', 'T', 't']) {
            Some((day, rest)) if is_date(day) => (day, Some(rest)),
            _ => match self.text.split_once(' ') {
                Some((first, rest)) => (first, Some(rest.trim_start())),
                None => (self.text, None),
            },
        };
        if is_date(first) {
            let date: Date = first.parse().map_err(|_| self.calendar())?;
            return match rest {
                None => self.day(date),
                Some(rest) => self.at(date, rest),
            };
        }
        let today = self.now.date();
        if rest.is_none() && is_time(first) {
            return self.here(today.to_datetime(self.clock(first)?));
        }
        if let Some(micros) = self.ago()? {
            return Ok(micros);
        }
        let date = match first {
            "today" => today,
            "yesterday" => today.yesterday().map_err(|_| self.calendar())?,
            word => {
                let weekday = weekday(word).ok_or_else(|| self.form())?;
                let back = i64::from(weekday.until(today.weekday()));
                let day = today.checked_sub(Span::new().days(back));
                day.map_err(|_| self.calendar())?
            }
        };
        match rest {
            None => self.day(date),
            Some(rest) if is_time(rest) => self.here(date.to_datetime(self.clock(rest)?)),
            Some(_) => Err(self.form()),
        }
    }

    /// A day and what follows it: a time, and an offset if there is one.
    fn at(&self, date: Date, rest: &str) -> Result<i64, NoPoint> {
        let end = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
        let (time, offset) = rest.split_at(end);
        if !is_time(time) {
            return Err(self.form());
        }
        let at = date.to_datetime(self.clock(time)?);
        if offset.is_empty() {
            return self.here(at);
        }
        let offset = self.offset(offset)?;
        let timestamp = offset.to_timestamp(at).map_err(|_| self.calendar())?;
        Ok(timestamp.as_microsecond())
    }

    /// `Z`, `+01:00` or `+01`.
    fn offset(&self, text: &str) -> Result<Offset, NoPoint> {
        if text.eq_ignore_ascii_case("z") {
            return Ok(Offset::UTC);
        }
        let (sign, digits) = text.split_at(1);
        let sign = if sign == "-" { -1 } else { 1 };
        let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "00"));
        let number = |digits: &str, most: i32| -> Result<i32, NoPoint> {
            let is = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            let number = digits.parse().ok().filter(|number| *number <= most);
            number.filter(|_| is).ok_or_else(|| self.form())
        };
        let seconds = number(hours, 24)? * 3600 + number(minutes, 59)? * 60;
        Offset::from_seconds(sign * seconds).map_err(|_| self.form())
    }

    fn clock(&self, text: &str) -> Result<Time, NoPoint> {
        let time: Time = text.parse().map_err(|_| self.calendar())?;
        // A leap second is none here.
        let second = text.split(':').nth(2).and_then(|second| second.get(..2));
        if second == Some("60") {
            return Err(self.calendar());
        }
        Ok(time)
    }

    /// A whole day: its first microsecond or its last.
    fn day(&self, date: Date) -> Result<i64, NoPoint> {
        let zone = self.now.time_zone();
        let start = |date: Date| {
            let start = date.to_zoned_datetime(zone.clone());
            let start = start.map_err(|_| self.calendar())?;
            Ok(start.timestamp().as_microsecond())
        };
        match self.edge {
            Edge::Start => start(date),
            Edge::End => Ok(start(date.tomorrow().map_err(|_| self.calendar())?)? - 1),
        }
    }

    /// A time as the clocks here show it.
    fn here(&self, at: DateTime) -> Result<i64, NoPoint> {
        let zone: &TimeZone = self.now.time_zone();
        let ambiguous = zone.to_ambiguous_timestamp(at);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => {
                let timestamp = ambiguous.compatible().map_err(|_| self.calendar())?;
                Ok(timestamp.as_microsecond())
            }
            AmbiguousOffset::Gap { before, after } => {
                let text = self.text.to_owned();
                Err(NoPoint::Skipped(text, Zone(before), Zone(after)))
            }
            AmbiguousOffset::Fold { before, after } => {
                let with = |offset: Offset| format!("{at}{}", Zone(offset));
                let text = self.text.to_owned();
                Err(NoPoint::Twice(text, with(before), with(after)))
            }
        }
    }

    /// `N minutes ago` and the like; `None` if it is something else.
    fn ago(&self) -> Result<Option<i64>, NoPoint> {
        let Some(rest) = self.text.strip_suffix(" ago") else {
            return Ok(None);
        };
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = rest.split_at(digits);
        let number: i64 = number.parse().map_err(|_| self.form())?;
        let span = Span::new();
        let span = match unit.trim_start() {
            "m" | "minute" | "minutes" => span.try_minutes(number),
            "h" | "hour" | "hours" => span.try_hours(number),
            "d" | "day" | "days" => span.try_days(number),
            "w" | "week" | "weeks" => span.try_weeks(number),
            _ => return Err(self.form()),
        };
        let then = span.and_then(|span| self.now.checked_sub(span));
        let then = then.map_err(|_| self.calendar())?;
        Ok(Some(then.timestamp().as_microsecond()))
    }

    fn form(&self) -> NoPoint {
        NoPoint::Form(self.text.to_owned())
    }

    fn calendar(&self) -> NoPoint {
        NoPoint::Calendar(self.text.to_owned())
    }
}

/// Whether a text has the form of a date, `2026-11-17`.
fn is_date(text: &str) -> bool {
    has_form(text, "0000-00-00")
}

/// Whether a text has the form of a time: `09:00`, `09:00:30` or `09:00:30.25`, with at most six digits behind the dot.
fn is_time(text: &str) -> bool {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_fraction =
        (1..=6).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    has_form(clock, "00:00:00") && is_fraction || has_form(text, "00:00")
}

/// Whether a text has a digit where the form has one, and else what the form has.
fn has_form(text: &str, form: &str) -> bool {
    let fits = |(byte, form): (u8, u8)| match form {
        b'0' => byte.is_ascii_digit(),
        _ => byte == form,
    };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
}

fn weekday(word: &str) -> Option<Weekday> {
    Some(match word {
        "monday" => Weekday::Monday,
        "tuesday" => Weekday::Tuesday,
        "wednesday" => Weekday::Wednesday,
        "thursday" => Weekday::Thursday,
        "friday" => Weekday::Friday,
        "saturday" => Weekday::Saturday,
        "sunday" => Weekday::Sunday,
        _ => return None,
    })
}

/// Returns a recorded time as people here read it: `2026-11-17 22:00:00+01`, with six digits of the second if `exact`.
pub fn local_time(micros: i64, zone: &TimeZone, exact: bool) -> String {
    let Ok(time) = Timestamp::from_microsecond(micros) else {
        return format!("{micros} microseconds since 1970");
    };
    let offset = zone.to_offset(time);
    let local = offset.to_datetime(time);
    let (year, month, day) = (local.year(), local.month(), local.day());
    let (hour, minute, second) = (local.hour(), local.minute(), local.second());
    // As strftime has it, the sign of a year before 0 counts as one of four characters.
    let mut text = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
    if exact {
        let micros = local.subsec_nanosecond() / 1000;
        let _ = write!(text, ".{micros:06}");
    }
    push_offset(&mut text, offset.seconds());
    text
}

/// Writes an offset from UTC, as short as it can be: `+01`, `-03:30`.
fn push_offset(text: &mut String, seconds: i32) {
    let sign = if seconds < 0 { '-' } else { '+' };
    let seconds = seconds.unsigned_abs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let _ = write!(text, "{sign}{hours:02}");
    if minutes > 0 || seconds > 0 {
        let _ = write!(text, ":{minutes:02}");
    }
    if seconds > 0 {
        let _ = write!(text, ":{seconds:02}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_by_strftime() {
        let rules = [
            "UTC0",
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "NST3:30NDT,M3.2.0,M11.1.0",
            "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45",
            "MMT0:44:30",
        ];
        for rule in rules {
            let zone = TimeZone::posix(rule).unwrap();
            // From before there were zones, then about every four months, so that all hours and days come.
            let early =
                (-90_000_000_000_000_000..-3_000_000_000_000_000_i64).step_by(912_345_678_901_234);
            let late = (-3_000_000_000_000_000..9_000_000_000_000_000).step_by(10_812_345_678_901);
            for micros in early.chain(late) {
                for (exact, format) in [
                    (false, "%Y-%m-%d %H:%M:%S%:::z"),
                    (true, "%Y-%m-%d %H:%M:%S%.6f%:::z"),
                ] {
                    let time = Timestamp::from_microsecond(micros).unwrap();
                    let local = time.to_zoned_datetime(zone.clone());
                    let wanted = local.strftime(format).to_string();
                    assert_eq!(local_time(micros, &zone, exact), wanted);
                }
            }
        }
    }
}
