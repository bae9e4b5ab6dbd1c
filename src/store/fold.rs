//! Folding: the counters' triggers only insert differences, so somebody has to keep the sums short for those who read them. Needs
//! no leader, and changes no sum.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Error, Store};
use crate::backoff::{Backoff, jittered};

/// How often it is looked whether there is something to fold: every statement that changes rows leaves a few differences, and a
/// thousand of them cost a reader about a quarter of a millisecond.
const EVERY: Duration = Duration::from_secs(2);
/// Longest wait after failures. Nothing but speed depends on folding.
const LONGEST: Duration = Duration::from_mins(1);

impl Store {
    /// Keeps the counters folded until `stop`. Any number of processes may do so at once.
    pub async fn keep_counters_folded(&self, stop: CancellationToken) {
        let mut backoff = Backoff::new(EVERY, LONGEST);
        loop {
            let wait = match self.fold_counters().await {
                Ok(()) => {
                    backoff.reset();
                    jittered(EVERY)
                }
                Err(error) => {
                    warn!(error = %error, "cannot fold the counters yet: they are right, but slower to read");
                    backoff.next_wait()
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Folds the counters' differences into one row per status and one per minute, and forgets minutes that are over. Readers
    /// see the same sums before, during and after.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn fold_counters(&self) -> Result<(), Error> {
        self.write("fold counters", || {
            sqlx::query!(
                "WITH folded AS (
                     DELETE FROM sync_execution_counters
                     WHERE (SELECT count(*) FROM sync_execution_counters) > 16
                     RETURNING status, executions, durations, duration_seconds)
                 INSERT INTO sync_execution_counters (status, executions, durations, duration_seconds)
                 SELECT status, sum(executions), sum(durations), sum(duration_seconds) FROM folded GROUP BY status"
            )
            .execute(&self.pool)
        })
        .await?;
        self.write("fold the counters of the last day", || {
            sqlx::query!(
                "WITH folded AS (
                     DELETE FROM sync_execution_minutes
                     WHERE minute < now() - interval '25 hours'
                        OR minute IN (SELECT minute FROM sync_execution_minutes GROUP BY minute HAVING count(*) > 4)
                     RETURNING minute, executions)
                 INSERT INTO sync_execution_minutes (minute, executions)
                 SELECT minute, sum(executions) FROM folded WHERE minute >= now() - interval '25 hours' GROUP BY minute"
            )
            .execute(&self.pool)
        })
        .await?;
        Ok(())
    }
}
