//! What has to happen without anybody asking: deadlines, abandoned cancellations, gauges.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    backoff::{Backoff, jittered},
    domain::Status,
    leader::Leadership,
    metrics::{Metrics, StatusLabel},
    store::{self, Store},
};

/// How late a deadline may be noticed.
const EVERY: Duration = Duration::from_secs(1);
/// Every how many of those the slower things are done.
const SLOW: u32 = 10;

/// The task.
pub struct Housekeeping {
    /// The record.
    pub store: Store,
    /// Whose executions the gauges of what waits are about; all without.
    pub namespaces: Option<Vec<String>>,
    /// Asked before every effect.
    pub leadership: Leadership,
    /// Gauges.
    pub metrics: Arc<Metrics>,
}

impl Housekeeping {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::new(EVERY, Duration::from_secs(15));
        let mut rounds = 0_u32;
        loop {
            let wait = match self.round(rounds).await {
                Ok(()) => {
                    backoff.reset();
                    rounds = rounds.wrapping_add(1);
                    jittered(EVERY)
                }
                Err(error) => {
                    warn!(error = %error, "housekeeping waits for the database");
                    backoff.next_wait()
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn round(&self, rounds: u32) -> Result<(), store::Error> {
        if !self.leadership.holds() {
            return Ok(());
        }
        for id in self.store.end_overdue().await? {
            self.metrics.deadlines_exceeded.inc();
            info!(execution.id = id, "deadline exceeded: execution failed");
        }
        for id in self.store.cancel_abandoned().await? {
            info!(execution.id = id, "object deleted and its relay gone: execution cancelled");
        }
        if rounds.is_multiple_of(SLOW) {
            let (waiting, oldest) = self.store.unpublished(self.namespaces.as_deref()).await?;
            self.metrics.unpublished.set(waiting);
            self.metrics.unpublished_oldest_seconds.set(oldest);
            let (queued, oldest) = self.store.queued(self.namespaces.as_deref()).await?;
            self.metrics.queued.set(queued);
            self.metrics.queued_oldest_seconds.set(oldest);
            let totals = self.store.totals().await?;
            for status in Status::ALL {
                self.metrics.executions.get_or_create(&StatusLabel { status: status.as_str() }).set(totals.of(status).executions);
            }
        }
        Ok(())
    }
}
