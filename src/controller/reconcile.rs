//! One object at a time: ensure its row, show its row, delete it when its time is over. Decides; the batcher, the mirror and
//! the status function do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Preconditions},
};
use thiserror::Error;
use tokio::{sync::Semaphore, time::timeout};
use tracing::{debug, info, warn};

use super::{
    cache::Cache,
    events::Events,
    ids::{Ids, never_again},
    mirror::{self, Mirror, Mirrored},
    object::{Key, Known, Trouble},
    status,
};
use crate::{
    backoff::jittered,
    crash,
    crd::{SyncExecution, SyncExecutionStatus},
    domain::{Execution, Mode, Window},
    kubernetes::describe,
    leader::Leadership,
    metrics::{Metrics, Outcome},
    store::{
        NewExecution, Store,
        batch::{Ask, BatchError, Batcher},
    },
};

/// Longest sleep before a time to live is over: it may be changed meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);
/// Wait until ids may be given.
const LIST: Duration = Duration::from_millis(100);
/// Wait after an error. After another one that is of this object alone it is twice as long, and so on, as often as this says.
const RETRY: Duration = Duration::from_secs(3);
const RETRY_DOUBLINGS: u32 = 4;
/// Deadline of reading an object.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Deadline of a delete, unless the lease leaves less.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a reconcile needs.
pub struct Context {
    /// For deletes, and for reading what is not kept.
    pub client: Client,
    /// Calls to the API server under way at a time; shared by all who make them because of an object.
    pub calls: Arc<Semaphore>,
    /// What is known of the objects.
    pub cache: Cache,
    /// How often in a row which object failed.
    pub failures: Mutex<HashMap<Key, u32>>,
    /// For cancelling what is being deleted.
    pub store: Store,
    /// Which ids may be given.
    pub ids: Ids,
    /// The way to the rows.
    pub batcher: Batcher,
    /// The way to the statuses.
    pub mirror: Arc<Mirror>,
    /// For `kubectl describe`.
    pub events: Events,
    /// Asked before every effect.
    pub leadership: Leadership,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The clock; times to live are counted by it.
    pub now: fn() -> DateTime<Utc>,
}

/// Why an object must be looked at again.
#[derive(Debug, Error)]
pub enum Error {
    /// The record.
    #[error(transparent)]
    Record(#[from] BatchError),
    /// The status.
    #[error(transparent)]
    Mirror(#[from] mirror::Error),
    /// Reading the whole object.
    #[error("read: {}", describe(.0))]
    Read(#[source] kube::Error),
    /// No answer to that.
    #[error("read: no answer in time")]
    ReadSilent,
    /// Deleting after the time to live.
    #[error("delete: {}", describe(.0))]
    Delete(#[source] kube::Error),
    /// No answer to that.
    #[error("delete: no answer in time")]
    DeleteSilent,
}

impl Error {
    /// Whether this was logged where it happened, once for all objects that it hit.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Record(BatchError::Store(error)) => error.is_unavailable(),
            Self::Record(BatchError::Closed) => true,
            _ => false,
        }
    }
}

/// After how long to look at an object again; only when something changes without.
type Again = Option<Duration>;

/// Brings the record and the object's status to where the object's spec and the record say. Here errors are logged.
pub async fn reconcile(key: Key, context: &Context) -> Again {
    let Some(object) = context.cache.get(&key) else {
        context.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        return None;
    };
    let started = std::time::Instant::now();
    let result = match &object.unreadable {
        None => step(&object, context).await,
        Some(error) => {
            warn!(
                object.namespace = &*key.namespace,
                object.name = &*key.name,
                error = &**error,
                "object cannot be read: correct or delete it"
            );
            Ok(("invalid", None))
        }
    };
    context.metrics.reconcile_seconds.observe(started.elapsed().as_secs_f64());
    let outcome = result.as_ref().map_or("error", |(outcome, _)| *outcome);
    context.metrics.reconciles.get_or_create(&Outcome { outcome }).inc();
    let mut failures = context.failures.lock().unwrap_or_else(PoisonError::into_inner);
    match result {
        Ok((_, again)) => {
            failures.remove(&key);
            again
        }
        Err(error) if error.is_shared() => {
            debug!(object = %key, error = %error, "waiting");
            // Not all at once.
            Some(jittered(RETRY))
        }
        Err(error) => {
            let before = failures.entry(key.clone()).or_default();
            let wait = RETRY * 2_u32.pow(*before);
            *before = (*before + 1).min(RETRY_DOUBLINGS);
            warn!(object = %key, error = %error, "cannot bring an object up to date yet");
            Some(jittered(wait))
        }
    }
}

async fn step(object: &Known, context: &Context) -> Result<(&'static str, Again), Error> {
    let (uid, shown, deleting) = (object.uid, &object.shown, object.deleting);
    if deleting && context.leadership.holds() {
        // A finalizer of somebody else keeps it; for us it is deleted.
        context.store.cancel_deleted(&[uid]).await.map_err(|error| Error::Record(Arc::new(error).into()))?;
    }
    // What shows an execution id was recorded once, and is never recorded again: if the row is gone, that is shown.
    let may_record = context.ids.may_be_given();
    let ask = if shown.recorded || deleting || !may_record {
        Ask::Lookup(uid)
    } else {
        let Some(new) = new_execution(object) else {
            warn!(
                object.namespace = &*object.key.namespace,
                object.name = &*object.key.name,
                "object asks for no valid window: correct or delete it"
            );
            return Ok(("invalid", None));
        };
        Ask::Ensure(Box::new(new))
    };
    match context.batcher.ask(ask).await {
        Ok(Some(row)) if status::shows_more_than(shown, &row) => show_trouble(object, Trouble::Behind, context).await,
        Ok(Some(row)) => {
            let (outcome, again) = show(object, &status::of(&row, object.generation), context).await?;
            if outcome == "later" || deleting {
                return Ok((outcome, again));
            }
            match next(&row, object.ttl_seconds, (context.now)()) {
                Next::Delete => delete(object, context).await,
                Next::At(wait) => Ok((outcome, Some(wait))),
                Next::Nothing => Ok((outcome, None)),
            }
        }
        Ok(None) if shown.recorded => {
            if let Some(id) = shown.execution_id {
                never_again(&context.store, id).await.map_err(|error| Error::Record(Arc::new(error).into()))?;
            }
            show_trouble(object, Trouble::Lost, context).await
        }
        Ok(None) if !may_record && !deleting => Ok(("later", Some(jittered(LIST)))),
        Ok(None) => Ok(("unchanged", None)),
        Err(error) => {
            if let (BatchError::Store(store), false) = (&error, shown.recorded)
                && store.is_unavailable()
                && !deleting
            {
                show(object, &status::not_recorded(object.created, object.generation), context).await?;
            }
            Err(error.into())
        }
    }
}

/// What an object shows besides its trouble stays, so the whole of it is needed.
async fn show_trouble(object: &Known, trouble: Trouble, context: &Context) -> Result<(&'static str, Again), Error> {
    if object.shown.trouble == Some(trouble) && object.shown.generation == object.generation {
        return Ok(("unchanged", None));
    }
    let Some(whole) = read(object, context).await? else { return Ok(("dropped", None)) };
    let status = match trouble {
        Trouble::Lost => status::record_lost(&whole),
        Trouble::Behind => status::record_behind(&whole),
    };
    show(object, &status, context).await
}

/// The object as the API server has it, unless it is gone.
async fn read(object: &Known, context: &Context) -> Result<Option<SyncExecution>, Error> {
    let api: Api<SyncExecution> = Api::namespaced(context.client.clone(), &object.key.namespace);
    let Ok(_call) = context.calls.acquire().await else { return Ok(None) };
    match timeout(READ_TIMEOUT, api.get_opt(&object.key.name)).await {
        Ok(found) => Ok(found.map_err(Error::Read)?.filter(|found| found.uid() == Some(object.uid.to_string()))),
        Err(_) => Err(Error::ReadSilent),
    }
}

async fn show(object: &Known, status: &SyncExecutionStatus, context: &Context) -> Result<(&'static str, Again), Error> {
    Ok(match context.mirror.show(object, status).await? {
        Mirrored::Unchanged => ("unchanged", None),
        Mirrored::Written => {
            context.events.report(object, status).await;
            ("written", None)
        }
        Mirrored::Later(wait) => ("later", Some(wait)),
        Mirrored::Dropped => ("dropped", None),
    })
}

async fn delete(object: &Known, context: &Context) -> Result<(&'static str, Again), Error> {
    let Ok(_call) = context.calls.acquire().await else { return Ok(("later", Some(RETRY))) };
    let Some(window) = context.leadership.window() else { return Ok(("later", Some(RETRY))) };
    let api: Api<SyncExecution> = Api::namespaced(context.client.clone(), &object.key.namespace);
    let preconditions = Preconditions { uid: Some(object.uid.to_string()), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let name = &object.key.name;
    match timeout(window.min(DELETE_TIMEOUT), crash::effect("delete an object", || api.delete(name, &params))).await {
        Ok(Ok(_)) => {
            info!(
                object.namespace = &*object.key.namespace,
                object.name = &*object.key.name,
                object.uid = %object.uid,
                "deleted: ttlSecondsAfterFinished is over; the record stays"
            );
            Ok(("deleted", None))
        }
        Ok(Err(kube::Error::Api(refusal))) if refusal.is_not_found() || refusal.is_conflict() => Ok(("deleted", None)),
        Ok(Err(error)) => Err(Error::Delete(error)),
        Err(_) => Err(Error::DeleteSilent),
    }
}

/// What the object asks for; `None` when its window is none (which the API server refuses).
fn new_execution(object: &Known) -> Option<NewExecution> {
    let spec = object.spec.as_ref()?;
    let window = match (spec.mode, &spec.window) {
        (Mode::Backfill, Some(window)) => Some(Window::new(window.start, window.end).ok()?),
        (Mode::Update, None) => None,
        _ => return None,
    };
    Some(NewExecution {
        request: object.request(),
        mode: spec.mode,
        window,
        requested_by: spec.requested_by.clone(),
        reason: spec.reason.clone(),
        active_deadline_seconds: spec.active_deadline_seconds,
    })
}

/// When to look at an object again.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Its time to live is over.
    Delete,
    /// After this wait.
    At(Duration),
    /// Only when something changes.
    Nothing,
}

fn next(row: &Execution, ttl_seconds: Option<i64>, now: DateTime<Utc>) -> Next {
    if !row.status.is_final() {
        return Next::Nothing;
    }
    let (Some(ttl), Some(finished)) = (ttl_seconds, row.finished_at) else { return Next::Nothing };
    let left = ttl.saturating_sub((now - finished).num_seconds());
    match u64::try_from(left) {
        Ok(0) | Err(_) => Next::Delete,
        Ok(left) => Next::At(Duration::from_secs(left).min(LONGEST_SLEEP)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{Status, execution::example::recorded};

    fn row(status: Status, finished_at: Option<&str>) -> Execution {
        Execution { status, finished_at: finished_at.map(|text| text.parse().unwrap()), ..recorded() }
    }

    #[test]
    fn the_time_to_live_counts_from_the_end_in_the_record() {
        let now = "2025-07-10T12:00:10Z".parse().unwrap();
        let ended = row(Status::Success, Some("2025-07-10T12:00:00Z"));
        assert_eq!(next(&ended, None, now), Next::Nothing);
        assert_eq!(next(&ended, Some(0), now), Next::Delete);
        assert_eq!(next(&ended, Some(10), now), Next::Delete);
        assert_eq!(next(&ended, Some(25), now), Next::At(Duration::from_secs(15)));
        assert_eq!(next(&row(Status::Running, None), Some(0), now), Next::Nothing);
    }

    #[test]
    fn an_object_without_a_valid_window_asks_for_nothing() {
        let object = |spec: Value| {
            let whole = json!({"metadata": {"name": "x", "namespace": "ns", "uid": uuid::Uuid::nil()}, "spec": spec});
            Known::of(Key::new("ns", "x"), serde_json::from_value(whole).unwrap()).unwrap()
        };
        assert!(new_execution(&object(json!({"mode": "update"}))).is_some());
        for spec in [
            json!({"mode": "backfill"}),
            json!({"mode": "backfill", "window": {"start": "2025-07-10T12:00:00Z", "end": "2025-07-10T12:00:00Z"}}),
        ] {
            assert!(new_execution(&object(spec)).is_none());
        }
    }
}
