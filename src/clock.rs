//! The one place that reads the wall clock. Whoever needs the time is given this function, or takes it from the record.

use chrono::{DateTime, Utc};

/// Now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock that callers are given")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}
