//! Deleted objects: whose message is not published yet is cancelled, also when nobody was watching at the time.
//! There is no finalizer: it would cost two writes per object and block deletes while we are down.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, channel::mpsc, stream};
use kube::{Api, Client, ResourceExt};
use thiserror::Error;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::cache::Cache;
use crate::{
    backoff::{Backoff, jittered},
    crd::SyncExecution,
    domain::execution::Request,
    kubernetes::describe,
    leader::Leadership,
    store::{self, Store},
};

/// Rows looked at by one statement of a sweep.
const SWEEP_BATCH: i64 = 1000;
/// How often to sweep besides after every list: watch events can be missed.
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// UIDs in one statement that cancels.
const CANCEL_BATCH: usize = 1000;
/// Looks at the API server under way at a time.
const LOOKS: usize = 16;
/// Deadline of one look at the API server.
const GET_TIMEOUT: Duration = Duration::from_secs(5);

/// What the watch tells.
#[derive(Debug)]
pub enum Seen {
    /// This object is gone.
    Deleted(Uuid),
    /// The cache was filled anew.
    Listed,
}

/// Why a sweep could not be finished.
#[derive(Debug, Error)]
enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("leadership is in doubt")]
    NotLeading,
    #[error("look for {namespace}/{name}: {}", describe(source))]
    Get { namespace: String, name: String, source: kube::Error },
    #[error("look for {namespace}/{name}: no answer within {} s", GET_TIMEOUT.as_secs())]
    Silent { namespace: String, name: String },
}

/// The task that cancels.
pub struct Deletions {
    /// The record.
    pub store: Store,
    /// For asking the API server itself before cancelling what only seems to be gone.
    pub client: Client,
    /// Where it looks; everywhere without.
    pub namespaces: Option<Vec<String>>,
    /// What the watch knows.
    pub cache: Cache,
    /// Asked before every effect.
    pub leadership: Leadership,
}

impl Deletions {
    /// Runs until `stop`. Says `true` on `swept` once the first sweep after the first list is through: before that nothing
    /// may be published, since its object might have been deleted while nobody watched.
    pub async fn run(self, mut seen: mpsc::UnboundedReceiver<Seen>, swept: Arc<watch::Sender<bool>>, stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut listed = false;
        let mut deleted = Vec::new();
        let mut due = tokio::time::Instant::now();
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return,
                event = seen.next() => match event {
                    None => return,
                    some => some,
                },
                () = tokio::time::sleep_until(due), if listed => None,
            };
            // All that came meanwhile goes into the same statement.
            for event in first.into_iter().chain(std::iter::from_fn(|| seen.try_recv().ok())) {
                match event {
                    Seen::Deleted(uid) => deleted.push(uid),
                    Seen::Listed => {
                        listed = true;
                        due = tokio::time::Instant::now();
                    }
                }
            }
            let sweep = listed && due <= tokio::time::Instant::now();
            match self.settle(&mut deleted, sweep).await {
                Ok(()) => {
                    backoff.reset();
                    if sweep {
                        swept.send_replace(true);
                        due = tokio::time::Instant::now() + jittered(SWEEP_EVERY);
                    }
                }
                Err(error) => {
                    warn!(error = %error, "cannot look after deleted objects yet");
                    let wait = backoff.next_wait();
                    due = tokio::time::Instant::now() + wait;
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(wait) => {}
                    }
                }
            }
        }
    }

    async fn settle(&self, deleted: &mut Vec<Uuid>, sweep: bool) -> Result<(), Error> {
        while !deleted.is_empty() {
            let rest = deleted.len().saturating_sub(CANCEL_BATCH);
            self.cancel(&deleted[rest..]).await?;
            deleted.truncate(rest);
        }
        if sweep { self.sweep().await } else { Ok(()) }
    }

    /// Cancels unpublished executions whose objects are gone.
    async fn sweep(&self) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let requests = self.store.unpublished_requests(after, SWEEP_BATCH, self.namespaces.as_deref()).await?;
            let Some((last, _)) = requests.last() else { return Ok(()) };
            after = *last;
            let missing = requests.into_iter().map(|(_, request)| request).filter(|request| self.cache.of_request(request).is_none());
            let looks =
                stream::iter(missing).map(|request| async move { self.is_gone(&request).await.map(|gone| gone.then_some(request.uid)) });
            let gone: Vec<Option<Uuid>> = looks.buffer_unordered(LOOKS).try_collect().await?;
            self.cancel(&gone.into_iter().flatten().collect::<Vec<_>>()).await?;
        }
    }

    /// Asks the API server: the cache may lag.
    async fn is_gone(&self, request: &Request) -> Result<bool, Error> {
        let (namespace, name) = (request.namespace.clone(), request.name.clone());
        let api: Api<SyncExecution> = Api::namespaced(self.client.clone(), &namespace);
        match timeout(GET_TIMEOUT, api.get_metadata_opt(&name)).await {
            Ok(Ok(found)) => Ok(found.and_then(|object| object.uid()) != Some(request.uid.to_string())),
            // Not ours to see, so not ours to cancel.
            Ok(Err(kube::Error::Api(refusal))) if refusal.is_forbidden() => Ok(false),
            Ok(Err(source)) => Err(Error::Get { namespace, name, source }),
            Err(_) => Err(Error::Silent { namespace, name }),
        }
    }

    async fn cancel(&self, uids: &[Uuid]) -> Result<(), Error> {
        if uids.is_empty() {
            return Ok(());
        }
        if !self.leadership.holds() {
            return Err(Error::NotLeading);
        }
        for id in self.store.cancel_deleted(uids).await? {
            info!(execution.id = id, "object deleted before its message was published: execution cancelled");
        }
        Ok(())
    }
}
