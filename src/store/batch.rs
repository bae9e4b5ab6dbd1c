//! Batching of `ensure`: what is asked while one statement runs, or before another may begin, is the next batch. No added latency
//! when few ask, no statement per object when many do.

use std::{collections::HashMap, sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};
use uuid::Uuid;

use super::{Error, NewExecution, Store};
use crate::{domain::Execution, metrics::Metrics};

/// Most requests in one statement.
const BATCH_MAX: usize = 500;
/// Time from the beginning of one batch to that of the next, on average, unless they are full: a statement costs about as much
/// for twenty requests as for one.
const PACE: Duration = Duration::from_millis(25);
/// How many batches may follow each other at once after a quieter while.
const BURST: u32 = 8;

/// What is asked of the batcher.
pub enum Ask {
    /// The row of this request, recorded now if it is not yet.
    Ensure(Box<NewExecution>),
    /// The row of this UID, if there is one.
    Lookup(Uuid),
}

impl Ask {
    const fn uid(&self) -> Uuid {
        match self {
            Self::Ensure(new) => new.request.uid,
            Self::Lookup(uid) => *uid,
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, Error)]
pub enum BatchError {
    /// The statement of the batch failed; shared by all who were in it.
    #[error(transparent)]
    Store(#[from] Arc<Error>),
    /// The process is shutting down.
    #[error("shutting down")]
    Closed,
}

type Answer = Result<Option<Execution>, BatchError>;
type Waiting = (Ask, oneshot::Sender<Answer>);

/// The handle callers use. Cheap to clone; the task ends when the last one is dropped.
#[derive(Clone)]
pub struct Batcher(mpsc::Sender<Waiting>);

impl Batcher {
    /// Starts the task. `recorded` is notified whenever new rows were recorded.
    #[must_use]
    pub fn start(store: Store, recorded: Arc<Notify>, metrics: Arc<Metrics>) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Waiting>(BATCH_MAX * 4);
        tokio::spawn(async move {
            let mut waiting = Vec::with_capacity(BATCH_MAX);
            let mut pace = Pace::new(Instant::now());
            while receiver.recv_many(&mut waiting, BATCH_MAX).await > 0 {
                let next = pace.next(Instant::now());
                let full = waiting.len() == BATCH_MAX;
                #[expect(clippy::cast_precision_loss, reason = "at most BATCH_MAX")]
                metrics.ensure_batch_size.observe(waiting.len() as f64);
                answer(&store, &recorded, waiting.drain(..)).await;
                if !full {
                    sleep_until(next).await;
                }
            }
        });
        Self(sender)
    }

    /// Asks, and waits for the batch that the question gets into.
    ///
    /// # Errors
    /// [`BatchError`].
    pub async fn ask(&self, ask: Ask) -> Answer {
        let (sender, receiver) = oneshot::channel();
        self.0.send((ask, sender)).await.map_err(|_| BatchError::Closed)?;
        receiver.await.map_err(|_| BatchError::Closed)?
    }
}

/// When batches may begin: the generic cell rate algorithm (ITU-T I.371) with an increment of [`PACE`] and room for [`BURST`].
struct Pace {
    /// When the next one would begin if each kept to the pace.
    due: Instant,
}

impl Pace {
    const fn new(now: Instant) -> Self {
        Self { due: now }
    }

    /// A batch begins now: when the next one may.
    fn next(&mut self, now: Instant) -> Instant {
        self.due = self.due.max(now) + PACE;
        self.due.checked_sub(PACE * (BURST - 1)).unwrap_or(now).max(now)
    }
}

async fn answer(store: &Store, recorded: &Notify, batch: impl Iterator<Item = Waiting>) {
    let (asks, senders): (Vec<Ask>, Vec<_>) = batch.unzip();
    let uids: Vec<Uuid> = asks.iter().map(Ask::uid).collect();
    let new: Vec<NewExecution> = asks.into_iter().filter_map(|ask| if let Ask::Ensure(new) = ask { Some(*new) } else { None }).collect();
    let mut rows = match record_and_read(store, recorded, &new, &uids).await {
        // What one request breaks must not hold up the others: each on its own then.
        Err(error) if !error.is_unavailable() && uids.len() > 1 => {
            for (uid, sender) in uids.into_iter().zip(senders) {
                let alone: Vec<NewExecution> = new.iter().filter(|new| new.request.uid == uid).take(1).cloned().collect();
                let answer = record_and_read(store, recorded, &alone, &[uid]).await;
                let _ = sender.send(answer.map(|mut rows| rows.remove(&uid)).map_err(|error| Arc::new(error).into()));
            }
            return;
        }
        Err(error) => {
            warn!(error = %error, executions = uids.len(), "cannot record or look up executions yet");
            let error = Arc::new(error);
            for sender in senders {
                let _ = sender.send(Err(Arc::clone(&error).into()));
            }
            return;
        }
        Ok(rows) => rows,
    };
    let mut remaining: HashMap<Uuid, usize> = HashMap::new();
    for uid in &uids {
        *remaining.entry(*uid).or_default() += 1;
    }
    for (uid, sender) in uids.into_iter().zip(senders) {
        let last = remaining.get_mut(&uid).is_none_or(|left| {
            *left -= 1;
            *left == 0
        });
        let row = if last { rows.remove(&uid) } else { rows.get(&uid).cloned() };
        let _ = sender.send(Ok(row));
    }
}

async fn record_and_read(store: &Store, recorded: &Notify, new: &[NewExecution], uids: &[Uuid]) -> Result<HashMap<Uuid, Execution>, Error> {
    if !new.is_empty() {
        let ids = store.insert(new).await?;
        if !ids.is_empty() {
            recorded.notify_one();
        }
        for (id, uid) in ids {
            info!(execution.id = id, object.uid = %uid, "execution recorded");
        }
    }
    let rows = store.by_uids(uids).await?;
    Ok(rows.into_iter().filter_map(|row| Some((row.request.as_ref()?.uid, row))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of so many batches begins, if there is always one waiting.
    fn beginnings(pace: &mut Pace, mut now: Instant, batches: usize) -> Vec<Instant> {
        let begin = || {
            let begun = now;
            now = pace.next(begun);
            begun
        };
        std::iter::repeat_with(begin).take(batches).collect()
    }

    #[test]
    fn a_few_batches_follow_each_other_at_once_and_many_keep_the_pace() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let began = beginnings(&mut pace, start, 50);
        assert_eq!(began.iter().filter(|begin| **begin == start).count(), BURST as usize);
        assert_eq!(*began.last().unwrap(), start + PACE * (50 - BURST));
        let later = start + PACE * 50;
        let again = beginnings(&mut pace, later, 20);
        assert_eq!(
            again.iter().filter(|begin| **begin == later).count(),
            BURST as usize,
            "a while without is what pays for it, and no more"
        );
    }

    #[test]
    fn who_asks_less_often_than_the_pace_never_waits() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for batch in 0..100 {
            let now = start + PACE * batch;
            assert_eq!(pace.next(now), now);
        }
    }
}
