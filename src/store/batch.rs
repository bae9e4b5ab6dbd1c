//! Batching of `ensure`: what is asked while one statement runs, or soon after another began, is the next batch. No added
//! latency when idle, no statement per object when busy.

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
/// Least time from the beginning of one batch to that of the next, unless the next is full: a statement costs about as much for
/// twenty requests as for one.
const PACE: Duration = Duration::from_millis(25);

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
            while receiver.recv_many(&mut waiting, BATCH_MAX).await > 0 {
                let begun = Instant::now();
                let full = waiting.len() == BATCH_MAX;
                #[expect(clippy::cast_precision_loss, reason = "at most BATCH_MAX")]
                metrics.ensure_batch_size.observe(waiting.len() as f64);
                answer(&store, &recorded, waiting.drain(..)).await;
                if !full {
                    sleep_until(begun + PACE).await;
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
