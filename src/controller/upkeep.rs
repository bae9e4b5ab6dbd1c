//! What the leader does for the record every hour or day: deleting old executions, comparing the counters with the table. Not in
//! the round of `housekeeping`: each takes as long as it takes, and nothing waits for it.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    backoff::jittered,
    clock,
    leader::Leadership,
    metrics::{Metrics, StatusLabel},
    retention::Retention,
    store::Store,
};

/// From the begin of a term to the first look for old executions, which must not be in the way of what is urgent then.
const FIRST: Duration = Duration::from_secs(5);
/// How often they are looked for.
const RETENTION_EVERY: Duration = Duration::from_hours(1);

/// Deletes old executions until `stop`.
pub async fn retain(retention: Retention, leadership: Leadership, metrics: Arc<Metrics>, stop: CancellationToken) {
    let mut wait = FIRST;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(jittered(wait)) => {}
        }
        wait = RETENTION_EVERY;
        let may = || leadership.holds() && !stop.is_cancelled();
        if !may() {
            continue;
        }
        let applied = tokio::select! {
            () = stop.cancelled() => return,
            applied = retention.apply(may) => applied,
        };
        match applied {
            Ok(outcomes) => {
                for outcome in outcomes.into_iter().filter(|outcome| outcome.deleted > 0) {
                    let status = outcome.status.as_str();
                    metrics.deleted_executions.get_or_create(&StatusLabel { status }).inc_by(outcome.deleted);
                    info!(status, days = outcome.days, deleted = outcome.deleted, kept = outcome.kept, "old executions deleted");
                }
            }
            Err(error) => warn!(error = %error, "cannot delete old executions now; trying again in an hour"),
        }
    }
}

/// Compares the counters with the table once in each `every`, at any time in the first, until `stop`.
pub async fn compare(store: Store, every: Duration, leadership: Leadership, metrics: Arc<Metrics>, stop: CancellationToken) {
    let mut wait = every.mul_f64(rand::random_range(0.0..1.0));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = jittered(every);
        if !leadership.holds() {
            continue;
        }
        let compared = tokio::select! {
            () = stop.cancelled() => return,
            compared = store.counter_drift() => compared,
        };
        match compared {
            Ok(drift) => {
                metrics.counters_wrong.set(i64::try_from(drift.len()).unwrap_or(i64::MAX));
                metrics.counters_compared.set(clock::now().timestamp());
                if !drift.is_empty() {
                    warn!(
                        counters = drift.len(),
                        "counters differ from the table: see `sync-operator counters verify`, mend with --repair"
                    );
                }
            }
            Err(error) => warn!(error = %error, "cannot compare the counters with the table now"),
        }
    }
}
