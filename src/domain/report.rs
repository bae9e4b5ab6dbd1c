//! A worker's report, the same by HTTP and AMQP: reading it, refusing nonsense, and telling a repeat from a contradiction.

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

use super::{
    Execution, Status, Window,
    window::{WindowError, parse_time},
};

/// What a worker sends. Every field may be left out; what is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// How the execution stands: running, success, error or cancelled. Left out: running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Records ingested so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub records_processed: Option<i32>,
    /// Run time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub duration_seconds: Option<f64>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 65536)]
    pub error_message: Option<String>,
    /// Start of the window as processed: RFC 3339, or local time of the worker without offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_start: Option<String>,
    /// End of the window as processed; given together with its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_end: Option<String>,
}

/// A report that can be written: numbers in range, window parsed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ValidReport {
    /// See [`Report::status`].
    pub status: Option<Status>,
    /// See [`Report::records_processed`].
    pub records_processed: Option<i32>,
    /// Hundredths of a second, as the column keeps them.
    pub duration_hundredths: Option<i64>,
    /// Without NUL, which Postgres does not store.
    pub error_message: Option<String>,
    /// The window as processed.
    pub window: Option<Window>,
}

/// Longest `error_message`, in characters.
pub const ERROR_MESSAGE_MAX: usize = 65_536;
/// Longest `duration_seconds`: numeric(10,2) ends there.
const DURATION_MAX: f64 = 99_999_999.0;

/// Why a report is refused, in words for the one who sends it.
#[derive(Debug, Error, PartialEq)]
pub enum ReportError {
    /// A count below zero.
    #[error("`records_processed` is {0}: send 0 or more")]
    RecordsNegative(i32),
    /// Not a duration.
    #[error("`duration_seconds` is {0}: send seconds from 0 to {DURATION_MAX}")]
    DurationOutOfRange(f64),
    /// Half a window.
    #[error("`window_start` and `window_end` go together: send both or none")]
    HalfWindow,
    /// A window that is none.
    #[error("`window_start` and `window_end`: {0}")]
    Window(#[from] WindowError),
}

impl Report {
    /// Checks the report. Local times are read in `zone`.
    ///
    /// # Errors
    /// [`ReportError`], naming the field and what to send instead.
    pub fn validate(self, zone: Tz) -> Result<ValidReport, ReportError> {
        if let Some(records) = self.records_processed.filter(|records| *records < 0) {
            return Err(ReportError::RecordsNegative(records));
        }
        let duration_hundredths = match self.duration_seconds {
            Some(seconds) if !(0.0..=DURATION_MAX).contains(&seconds) => return Err(ReportError::DurationOutOfRange(seconds)),
            #[expect(clippy::cast_possible_truncation, reason = "checked to be at most ten digits")]
            seconds => seconds.map(|seconds| (seconds * 100.0).round() as i64),
        };
        let window = match (self.window_start, self.window_end) {
            (None, None) => None,
            (Some(start), Some(end)) => Some(Window::new(parse_time(&start, zone)?, parse_time(&end, zone)?)?),
            _ => return Err(ReportError::HalfWindow),
        };
        Ok(ValidReport {
            status: self.status,
            records_processed: self.records_processed,
            duration_hundredths,
            error_message: self.error_message.map(|text| storable(&text, ERROR_MESSAGE_MAX)),
            window,
        })
    }
}

impl ValidReport {
    /// Whether a finished execution already says all that this report says: then it is a repeat, else a contradiction.
    #[must_use]
    pub fn agrees_with(&self, finished: &Execution) -> bool {
        fn same<T: PartialEq>(told: Option<&T>, known: Option<&T>) -> bool {
            told.is_none() || told == known
        }
        #[expect(clippy::cast_possible_truncation, reason = "the column holds at most ten digits")]
        let known_hundredths = finished.duration_seconds.map(|seconds| (seconds * 100.0).round() as i64);
        self.status.unwrap_or(Status::Running) == finished.status
            && same(self.records_processed.map(i64::from).as_ref(), Some(&finished.records_processed))
            && same(self.duration_hundredths.as_ref(), known_hundredths.as_ref())
            && same(self.error_message.as_ref(), finished.error_message.as_ref())
            && same(self.window.as_ref(), finished.window.as_ref())
    }
}

/// Text that Postgres stores: no NUL, at most `max` characters.
#[must_use]
pub fn storable(text: &str, max: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(max).collect()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use chrono_tz::America::Cuiaba;
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Result<ValidReport, ReportError> {
        serde_json::from_str::<Report>(json).unwrap().validate(Cuiaba)
    }

    #[test]
    fn a_full_report_is_read() {
        let report = read(
            r#"{"status":"success","records_processed":12,"duration_seconds":45.219,"window_start":"2025-07-10T12:00:00","window_end":"2025-07-10T22:00:00Z","more":1}"#,
        )
        .unwrap();
        assert_eq!(report.status, Some(Status::Success));
        assert_eq!(report.duration_hundredths, Some(4522));
        assert_eq!(report.window.unwrap().start(), "2025-07-10T16:00:00Z".parse::<DateTime<Utc>>().unwrap());
    }

    #[test]
    fn nonsense_is_refused_with_the_field_and_the_remedy() {
        for (json, says) in [
            (r#"{"records_processed":-1}"#, "`records_processed` is -1"),
            (r#"{"duration_seconds":-0.5}"#, "`duration_seconds` is -0.5"),
            (r#"{"duration_seconds":1e300}"#, "`duration_seconds`"),
            (r#"{"window_start":"2025-07-10T12:00:00"}"#, "send both or none"),
            (r#"{"window_start":"2025-07-10T12:00:00","window_end":"2025-07-10T12:00:00"}"#, "choose a later end"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(says), "{json}: {error}");
        }
        assert!(serde_json::from_str::<Report>(r#"{"status":"done"}"#).is_err());
    }

    #[test]
    fn error_text_loses_what_postgres_cannot_store() {
        assert_eq!(read(r#"{"error_message":"a\u0000b"}"#).unwrap().error_message.as_deref(), Some("ab"));
    }

    proptest! {
        #[test]
        fn any_finite_duration_is_kept_to_the_hundredth_or_refused(seconds in proptest::num::f64::ANY) {
            let report = Report { duration_seconds: Some(seconds), ..Report::default() };
            if let Ok(valid) = report.validate(Cuiaba) {
                #[expect(clippy::cast_precision_loss, reason = "at most ten digits")]
                let kept = valid.duration_hundredths.unwrap() as f64 / 100.0;
                prop_assert!((kept - seconds).abs() <= 0.005_000_1);
            }
        }
    }
}
