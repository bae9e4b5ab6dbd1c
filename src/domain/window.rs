//! The window of a backfill, and its two spellings: instants everywhere in this program, the worker's wall clock in
//! messages and in the existing REST API. This is the only place that converts between them.

use chrono::{DateTime, Datelike, MappedLocalTime, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;
use thiserror::Error;

/// From when (included) to when (excluded). `start < end` always holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

/// What is wrong with a window, in words for the one who wrote it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WindowError {
    /// The end is not after the start.
    #[error("the window's start {start} is not before its end {end}: swap them, or choose a later end", start = rfc3339(*start), end = rfc3339(*end))]
    EndNotAfterStart {
        /// The start that was given.
        start: DateTime<Utc>,
        /// The end that was given.
        end: DateTime<Utc>,
    },
    /// Neither an RFC 3339 time nor an ISO 8601 local time.
    #[error("`{0}` is not a time: write it like 2025-07-10T12:00:00 (local time of the worker) or 2025-07-10T12:00:00-04:00")]
    NotATime(String),
    /// The clock was set forward over that local time.
    #[error("{local} does not exist in {zone}, the clock was set forward over it: choose an earlier or later time, or add an offset")]
    LocalTimeMissing {
        /// The local time that was given.
        local: NaiveDateTime,
        /// The worker's zone.
        zone: Tz,
    },
    /// The clock was set back: that local time happened twice, and the worker cannot be told which is meant.
    #[error(
        "{local} happened twice in {zone}, at {first} and at {second}, and the worker, which reads local time, cannot be told which is meant: \
         choose a bound outside of the repeated hour",
        first = rfc3339(*first), second = rfc3339(*second)
    )]
    LocalTimeRepeated {
        /// The local time.
        local: NaiveDateTime,
        /// The worker's zone.
        zone: Tz,
        /// The earlier instant of that name.
        first: DateTime<Utc>,
        /// The later one.
        second: DateTime<Utc>,
    },
}

/// A window as the worker reads it: local times without offset, ISO 8601.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalWindow {
    /// `data_ini`.
    pub start: String,
    /// `data_fim`.
    pub end: String,
}

impl Window {
    /// A window of two instants.
    ///
    /// # Errors
    /// [`WindowError::EndNotAfterStart`].
    pub fn new(start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Self, WindowError> {
        if start < end { Ok(Self { start, end }) } else { Err(WindowError::EndNotAfterStart { start, end }) }
    }

    /// The first instant.
    #[must_use]
    pub const fn start(&self) -> DateTime<Utc> {
        self.start
    }

    /// The first instant after it.
    #[must_use]
    pub const fn end(&self) -> DateTime<Utc> {
        self.end
    }

    /// The window in the worker's local time.
    ///
    /// # Errors
    /// [`WindowError::LocalTimeRepeated`] when a bound's local time names two instants in `zone`: a message could not
    /// say which, and the worker might read a window an hour off, or an empty one.
    pub fn to_local(&self, zone: Tz) -> Result<LocalWindow, WindowError> {
        Ok(LocalWindow { start: local_time(self.start, zone)?, end: local_time(self.end, zone)? })
    }
}

fn local_time(instant: DateTime<Utc>, zone: Tz) -> Result<String, WindowError> {
    let local = instant.with_timezone(&zone).naive_local();
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Ambiguous(first, second) => Err(repeated(local, zone, &first, &second)),
        MappedLocalTime::Single(_) | MappedLocalTime::None => Ok(local.format("%Y-%m-%dT%H:%M:%S%.f").to_string()),
    }
}

fn repeated(local: NaiveDateTime, zone: Tz, first: &DateTime<Tz>, second: &DateTime<Tz>) -> WindowError {
    WindowError::LocalTimeRepeated { local, zone, first: first.to_utc(), second: second.to_utc() }
}

/// Reads a time as the existing API writes it: RFC 3339, or ISO 8601 without an offset in the worker's `zone`
/// (seconds, or the time of day, may be left out: `2025-07-10T12:00`, `2025-07-10`).
///
/// # Errors
/// [`WindowError::NotATime`], [`WindowError::LocalTimeMissing`], [`WindowError::LocalTimeRepeated`].
pub fn parse_time(text: &str, zone: Tz) -> Result<DateTime<Utc>, WindowError> {
    let text = text.trim();
    if let Some(time) = DateTime::parse_from_rfc3339(text).ok().filter(|time| time.year() > 0) {
        return Ok(time.to_utc());
    }
    let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
        .into_iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .or_else(|| chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0))
        .ok_or_else(|| WindowError::NotATime(text.chars().take(64).collect()))?;
    // Years of four digits are what RFC 3339 can write and Postgres can store.
    if !(1..=9999).contains(&local.year()) {
        return Err(WindowError::NotATime(text.chars().take(64).collect()));
    }
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(time) => Ok(time.to_utc()),
        MappedLocalTime::Ambiguous(first, second) => Err(repeated(local, zone, &first, &second)),
        MappedLocalTime::None => Err(WindowError::LocalTimeMissing { local, zone }),
    }
}

/// RFC 3339 in UTC with as many decimals as needed: the spelling of every instant that this program writes.
#[must_use]
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use chrono_tz::America::Cuiaba;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_window_is_told_in_the_workers_wall_clock() {
        let window = Window::new(at("2025-07-10T16:00:00Z"), at("2025-07-10T22:00:00Z")).unwrap();
        let local = window.to_local(Cuiaba).unwrap();
        assert_eq!((local.start.as_str(), local.end.as_str()), ("2025-07-10T12:00:00", "2025-07-10T18:00:00"));
    }

    #[test]
    fn daylight_saving_of_past_years_is_known() {
        // Summer time until 16 February 2019: UTC-3, not UTC-4.
        let window = Window::new(at("2019-01-10T15:00:00Z"), at("2019-03-10T16:00:00Z")).unwrap();
        let local = window.to_local(Cuiaba).unwrap();
        assert_eq!((local.start.as_str(), local.end.as_str()), ("2019-01-10T12:00:00", "2019-03-10T12:00:00"));
    }

    #[test]
    fn a_bound_in_the_repeated_hour_is_refused_whichever_of_the_two_is_meant() {
        // On 2019-02-17 at 00:00 Cuiabá went back to 23:00.
        for repeated in ["2019-02-17T02:30:00Z", "2019-02-17T03:30:00Z"] {
            let window = Window::new(at("2019-02-10T00:00:00Z"), at(repeated)).unwrap();
            let error = window.to_local(Cuiaba).unwrap_err();
            assert!(matches!(error, WindowError::LocalTimeRepeated { .. }), "{error}");
            assert!(error.to_string().contains("choose a bound outside of the repeated hour"), "{error}");
        }
        assert!(matches!(parse_time("2019-02-16T23:30:00", Cuiaba), Err(WindowError::LocalTimeRepeated { .. })));
    }

    #[test]
    fn a_local_time_that_the_clock_skipped_is_refused() {
        // On 2018-11-04 at 00:00 Cuiabá went forward to 01:00.
        let error = parse_time("2018-11-04T00:30:00", Cuiaba).unwrap_err();
        assert!(matches!(error, WindowError::LocalTimeMissing { .. }), "{error}");
        assert_eq!(parse_time("2018-11-04T00:30:00-04:00", Cuiaba), Ok(at("2018-11-04T04:30:00Z")));
    }

    #[test]
    fn times_are_read_in_the_spellings_people_use() {
        for text in
            ["2025-07-10T12:00:00", "2025-07-10 12:00:00", "2025-07-10T12:00", "2025-07-10T16:00:00Z", " 2025-07-10T12:00:00-04:00 "]
        {
            assert_eq!(parse_time(text, Cuiaba), Ok(at("2025-07-10T16:00:00Z")), "{text}");
        }
        assert_eq!(parse_time("2025-07-10", Cuiaba), Ok(at("2025-07-10T04:00:00Z")));
        for nonsense in ["yesterday", "-10000-01-01", "+12025-07-10T12:00:00", "0000-07-10T12:00:00Z"] {
            assert_eq!(parse_time(nonsense, Cuiaba), Err(WindowError::NotATime(nonsense.into())));
        }
    }

    #[test]
    fn an_empty_or_reversed_window_is_refused() {
        let noon = at("2025-07-10T12:00:00Z");
        assert!(Window::new(noon, noon).is_err());
        assert!(Window::new(noon, noon - TimeDelta::seconds(1)).is_err());
    }

    proptest! {
        #[test]
        fn what_the_worker_reads_is_the_window_that_was_meant(
            start in 946_684_800_i64..2_000_000_000, length in 1_i64..40_000_000, zone in 0..chrono_tz::TZ_VARIANTS.len(),
        ) {
            let zone = chrono_tz::TZ_VARIANTS[zone];
            let window = Window::new(
                DateTime::from_timestamp(start, 0).unwrap(), DateTime::from_timestamp(start + length, 0).unwrap()).unwrap();
            match window.to_local(zone) {
                Ok(local) => {
                    prop_assert_eq!(parse_time(&local.start, zone), Ok(window.start()));
                    prop_assert_eq!(parse_time(&local.end, zone), Ok(window.end()));
                    // The worker compares local times: their order must be that of the instants.
                    prop_assert!(local.start < local.end, "{} {}", local.start, local.end);
                }
                Err(WindowError::LocalTimeRepeated { first, second, .. }) => {
                    prop_assert!(first < second);
                    prop_assert!([first, second].contains(&window.start()) || [first, second].contains(&window.end()));
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = parse_time(&text, Cuiaba);
        }
    }
}
