//! What people may write for a point of the log, and what they may not.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use momentlog_audit::{Edge, NoPoint, read_point};
use momentlog_engine::Point;
use momentlog_store::Seq;

/// Clocks of central Europe, without the machine's own tables: they are put on at 02:00 on the last Sunday of March, and
/// back at 03:00 on the last Sunday of October.
fn berlin() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn at(text: &str) -> ZonedDateTime {
    let time: Timestamp = text.parse().unwrap();
    time.to_zoned_datetime(berlin())
}

/// Thursday, 2026-11-19, 10:30 in central Europe.
const NOW: &str = "2026-11-19T09:30:00Z";

fn read(text: &str, edge: Edge) -> Result<Point, NoPoint> {
    read_point(text, edge, &at(NOW))
}

#[test]
fn times_mean_what_a_calendar_says() {
    // The text, and the time in UTC.
    let table = [
        // With an offset.
        ("2026-11-17T09:00:00+01:00", "2026-11-17T08:00:00Z"),
        ("2026-11-17T09:00:00Z", "2026-11-17T09:00:00Z"),
        ("2026-11-17t09:00:00z", "2026-11-17T09:00:00Z"),
        ("2026-11-17 09:00:00+01", "2026-11-17T08:00:00Z"),
        ("2026-11-17 09:00:00.25+01", "2026-11-17T08:00:00.25Z"),
        ("2026-11-17T09:00-05:30", "2026-11-17T14:30:00Z"),
        (
            "2026-11-17T23:59:59.999999-01:00",
            "2026-11-18T00:59:59.999999Z",
        ),
        // Here, in winter and in summer.
        ("2026-11-17 09:00", "2026-11-17T08:00:00Z"),
        ("2026-11-17T09:00", "2026-11-17T08:00:00Z"),
        ("2026-11-17 09:00:30", "2026-11-17T08:00:30Z"),
        ("2026-11-17 09:00:30.123456", "2026-11-17T08:00:30.123456Z"),
        ("2026-07-01 09:00", "2026-07-01T07:00:00Z"),
        // Around the hours that are skipped, and that come twice.
        ("2026-03-29 01:59:59", "2026-03-29T00:59:59Z"),
        ("2026-03-29 03:00", "2026-03-29T01:00:00Z"),
        ("2026-10-25 01:59", "2026-10-24T23:59:00Z"),
        ("2026-10-25 03:00", "2026-10-25T02:00:00Z"),
        ("2026-10-25 02:30+02:00", "2026-10-25T00:30:00Z"),
        ("2026-10-25 02:30+01:00", "2026-10-25T01:30:00Z"),
        ("2028-02-29 12:00", "2028-02-29T11:00:00Z"),
        // Days, up to their last microsecond: also one of 25 hours, and one of 23.
        ("2026-11-17", "2026-11-17T22:59:59.999999Z"),
        ("2026-10-25", "2026-10-25T22:59:59.999999Z"),
        ("2026-03-29", "2026-03-29T21:59:59.999999Z"),
        ("2028-02-29", "2028-02-29T22:59:59.999999Z"),
        ("2026-12-31", "2026-12-31T22:59:59.999999Z"),
        ("today", "2026-11-19T22:59:59.999999Z"),
        ("yesterday", "2026-11-18T22:59:59.999999Z"),
        ("tuesday", "2026-11-17T22:59:59.999999Z"),
        ("thursday", "2026-11-19T22:59:59.999999Z"),
        ("friday", "2026-11-13T22:59:59.999999Z"),
        // Times of days.
        ("09:00", "2026-11-19T08:00:00Z"),
        ("23:00", "2026-11-19T22:00:00Z"),
        ("00:00", "2026-11-18T23:00:00Z"),
        ("today 09:00", "2026-11-19T08:00:00Z"),
        ("yesterday 09:00", "2026-11-18T08:00:00Z"),
        ("tuesday 09:00", "2026-11-17T08:00:00Z"),
        ("thursday 23:00", "2026-11-19T22:00:00Z"),
        ("sunday 22:15:30.5", "2026-11-15T21:15:30.5Z"),
        // Back from now.
        ("1 minute ago", "2026-11-19T09:29:00Z"),
        ("90 minutes ago", "2026-11-19T08:00:00Z"),
        ("2 hours ago", "2026-11-19T07:30:00Z"),
        ("2h ago", "2026-11-19T07:30:00Z"),
        ("5m ago", "2026-11-19T09:25:00Z"),
        ("2d ago", "2026-11-17T09:30:00Z"),
        ("1w ago", "2026-11-12T09:30:00Z"),
        // The same time of day, although a clock was put back meanwhile.
        ("30 days ago", "2026-10-20T08:30:00Z"),
        ("4 weeks ago", "2026-10-22T08:30:00Z"),
        ("0 minutes ago", "2026-11-19T09:30:00Z"),
        ("  2026-11-17 09:00  ", "2026-11-17T08:00:00Z"),
    ];
    for (text, expected) in table {
        let expected: Timestamp = expected.parse().unwrap();
        let expected = Ok(Point::Time(expected.as_microsecond()));
        assert_eq!(read(text, Edge::End), expected, "{text}");
    }
}

#[test]
fn a_day_begins_where_it_is_asked_for_from() {
    let table = [
        ("2026-11-17", "2026-11-16T23:00:00Z"),
        ("2026-03-30", "2026-03-29T22:00:00Z"),
        ("today", "2026-11-18T23:00:00Z"),
        ("yesterday", "2026-11-17T23:00:00Z"),
        ("tuesday", "2026-11-16T23:00:00Z"),
        ("tuesday 09:00", "2026-11-17T08:00:00Z"),
    ];
    for (text, expected) in table {
        let expected: Timestamp = expected.parse().unwrap();
        let expected = Ok(Point::Time(expected.as_microsecond()));
        assert_eq!(read(text, Edge::Start), expected, "{text}");
    }
}

#[test]
fn records_and_receipts_come_first() {
    let seq = |number| Ok(Point::Seq(Seq::new(number).unwrap()));
    assert_eq!(read("7", Edge::End), seq(7));
    assert_eq!(read("2026", Edge::End), seq(2026));
    assert_eq!(read("99999999999999999999999", Edge::End), seq(u64::MAX));
    assert_eq!(read("now", Edge::End), Ok(Point::Now));
    let digest = "ab".repeat(32);
    let text = format!("momentlog1 1e0ef359cb0a00fcf8eecf8784051833 24 {digest}");
    assert_eq!(
        read(&text, Edge::End),
        Ok(Point::Receipt(text.parse().unwrap()))
    );
}

#[test]
fn nothing_is_guessed() {
    for text in [
        "",
        " ",
        "then",
        "noon",
        "Tuesday",
        "tues",
        "17.11.2026",
        "11/17/2026",
        "2026-11",
        "2026-1-7",
        "2026-11-17 9:00",
        "2026-11-17 09",
        "2026-11-17 09:00:0",
        "2026-11-17 09:00:00.1234567",
        "2026-11-17  later",
        "9:00",
        "25",
        "-1",
        "+5",
        "1.5 hours ago",
        "2 years ago",
        "2 ago",
        "ago",
        "hours ago",
        "in 2 hours",
        "2026-11-17T09:00:00+1",
        "2026-11-17T09:00:00+0100",
        "today noon",
        "momentlog1 abc",
        "20261117",
        "1e3",
    ] {
        match text {
            // Digits are a record's number, whatever they look like.
            "25" | "20261117" => assert!(matches!(read(text, Edge::End), Ok(Point::Seq(_)))),
            _ => assert_eq!(
                read(text, Edge::End),
                Err(NoPoint::Form(text.trim().to_owned())),
                "{text}"
            ),
        }
    }
    assert_eq!(read("0", Edge::End), Err(NoPoint::Zero));
}

#[test]
fn what_no_calendar_has_is_refused() {
    for text in [
        "2026-02-29",
        "2026-13-01",
        "2026-00-10",
        "2026-11-31 09:00",
        "2026-11-17 24:00",
        "25:00",
        "09:60",
        "2026-11-17 23:59:60",
        "99999999 weeks ago",
        "9223372036854775807 days ago",
    ] {
        assert_eq!(
            read(text, Edge::End),
            Err(NoPoint::Calendar(text.to_owned())),
            "{text}"
        );
    }
}

#[test]
fn an_hour_that_is_skipped_or_comes_twice_is_refused_with_both_offsets() {
    let skipped = read("2026-03-29 02:30", Edge::End).unwrap_err();
    assert_eq!(
        skipped.to_string(),
        "'2026-03-29 02:30' did not happen here: the clocks were put on from +01:00 to +02:00"
    );
    let twice = read("2026-10-25 02:30", Edge::End).unwrap_err();
    assert_eq!(
        twice.to_string(),
        "'2026-10-25 02:30' came twice here: write '2026-10-25T02:30:00+02:00' or \
         '2026-10-25T02:30:00+01:00'"
    );
    // What it says can be written.
    assert!(read("2026-10-25T02:30:00+02:00", Edge::End).is_ok());
}
