//! Durations: as kubectl prints ages, and as people type them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The time between the two as kubectl prints it: two units at most, fewer the longer it is.
#[must_use]
pub fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    let seconds = (to - from).num_seconds();
    let two = |big: i64, unit: &str, small: i64, smaller: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{smaller}") }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..=-2 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        1..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ if days < 2920 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// The age of something that was created then.
#[must_use]
pub fn age(created: Option<&Time>, now: DateTime<Utc>) -> String {
    created.and_then(time).map_or_else(|| "<unknown>".to_owned(), |created| between(created, now))
}

/// A Kubernetes time in the terms of the rest of the program.
#[must_use]
pub fn time(time: &Time) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.0.as_second(), 0)
}

/// Reads `90s`, `1h30m`, `7d`, or a number of seconds.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}: write it like 90s, 1h30m, 7d, or as a number of seconds"))
}

/// Reads a duration of at least a second.
///
/// # Errors
/// What is wrong with it.
pub fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        duration if duration < Duration::from_secs(1) => Err("at least one second is needed".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(seconds: i64) -> String {
        let from = DateTime::from_timestamp(0, 0).unwrap();
        between(from, DateTime::from_timestamp(seconds, 0).unwrap())
    }

    #[test]
    fn ages_are_those_of_kubectl() {
        for (seconds, text) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (729 * 86_400, "729d"),
            (731 * 86_400, "2y1d"),
            (2920 * 86_400, "8y"),
        ] {
            assert_eq!(told(seconds), text, "{seconds}");
        }
        assert_eq!(age(None, DateTime::from_timestamp(0, 0).unwrap()), "<unknown>");
    }

    #[test]
    fn durations_are_read_as_people_type_them() {
        for (text, seconds) in [("90s", 90), ("90", 90), ("1h30m", 5400), ("7d", 604_800), ("0", 0)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert!(parse("soon").unwrap_err().contains("write it like 90s"));
        assert!(parse_positive("0").is_err());
        assert!(parse_positive("200ms").is_err());
    }
}
