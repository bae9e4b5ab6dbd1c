//! Executions whose messages are out, until the record says so. They are marked while the next ones are published. Publishes
//! nothing.

use std::{collections::HashSet, sync::Arc};

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::Relay;

/// Confirmed executions that are still to be marked.
#[derive(Default)]
pub(super) struct Marks {
    /// All of them. If their claims run out before they are marked, they are claimed again, but not published again.
    confirmed: HashSet<i64>,
    /// Batches on their way; each ends with those of its ids that are still to be marked.
    under_way: JoinSet<(Vec<i64>, Vec<i64>)>,
    /// Those that somebody held locked.
    locked: Vec<i64>,
}

impl Marks {
    /// Whether this one is confirmed, and still to be marked.
    pub(super) fn holds(&self, id: i64) -> bool {
        self.confirmed.contains(&id)
    }

    /// Has those marked that somebody held locked the last time.
    pub(super) fn again(&mut self, relay: &Arc<Relay>, stop: &CancellationToken) {
        let locked = std::mem::take(&mut self.locked);
        self.add(relay, locked, stop);
    }

    /// Has those marked while others are published.
    pub(super) fn add(&mut self, relay: &Arc<Relay>, ids: Vec<i64>, stop: &CancellationToken) {
        if ids.is_empty() {
            return;
        }
        self.confirmed.extend(&ids);
        let (relay, stop) = (Arc::clone(relay), stop.clone());
        self.under_way.spawn(async move {
            let left = relay.mark(&ids, &stop).await;
            (ids, left)
        });
    }

    /// Waits until at most so many batches are under way.
    pub(super) async fn wait(&mut self, most: usize) {
        while self.under_way.len() > most
            && let Some(ended) = self.under_way.join_next().await
        {
            self.end(ended);
        }
        while let Some(ended) = self.under_way.try_join_next() {
            self.end(ended);
        }
    }

    fn end(&mut self, ended: Result<(Vec<i64>, Vec<i64>), JoinError>) {
        match ended {
            Ok((ids, left)) => {
                for id in ids.iter().filter(|id| !left.contains(id)) {
                    self.confirmed.remove(id);
                }
                self.locked.extend(left);
            }
            Err(broken) => {
                error!(error = %broken, "marking executions as published broke off: they will be published again, with the same message ids");
                self.confirmed.clear();
            }
        }
    }
}
