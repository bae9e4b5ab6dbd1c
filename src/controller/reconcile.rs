//! One object at a time: ensure its row, show its row, delete it when its time is over. Decides; the batcher, the mirror and
//! the status function do.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Preconditions},
    core::DeserializeGuard,
    runtime::controller::Action,
};
use thiserror::Error;
use tokio::time::timeout;
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    events::Events,
    ids::{Ids, never_again},
    mirror::{self, Mirror, Mirrored},
    status,
};
use crate::{
    backoff::jittered,
    crash,
    crd::{SyncExecution, SyncExecutionStatus},
    domain::{Execution, Window, execution::Request},
    kubernetes::describe,
    leader::Leadership,
    metrics::{Metrics, Outcome},
    store::{
        NewExecution, Store,
        batch::{Ask, BatchError, Batcher},
    },
};

/// How often an unfinished execution is looked at without any notification.
const RECHECK: Duration = Duration::from_mins(5);
/// Wait for the list of all objects to be complete.
const LIST: Duration = Duration::from_millis(100);
/// Wait after an error.
const RETRY: Duration = Duration::from_secs(3);
/// Deadline of a delete, unless the lease leaves less.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a reconcile needs.
pub struct Context {
    /// For deletes.
    pub client: Client,
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
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Record(_))
    }
}

/// Brings the record and the object's status to where the object's spec and the record say.
///
/// # Errors
/// [`Error`]; the object is looked at again.
pub async fn reconcile(object: Arc<DeserializeGuard<SyncExecution>>, context: Arc<Context>) -> Result<Action, Error> {
    let started = std::time::Instant::now();
    let result = match &object.0 {
        Ok(object) => step(object, &context).await,
        Err(invalid) => {
            warn!(
                object.namespace = invalid.metadata.namespace,
                object.name = invalid.metadata.name,
                error = %invalid.error,
                "object cannot be read: correct or delete it"
            );
            Ok(("invalid", Action::await_change()))
        }
    };
    context.metrics.reconcile_seconds.observe(started.elapsed().as_secs_f64());
    let outcome = result.as_ref().map_or("error", |(outcome, _)| *outcome);
    context.metrics.reconciles.get_or_create(&Outcome { outcome }).inc();
    result.map(|(_, action)| action)
}

/// What to do after an error: try again, not all at once.
#[must_use]
pub fn error_policy(_: Arc<DeserializeGuard<SyncExecution>>, _: &Error, _: Arc<Context>) -> Action {
    Action::requeue(jittered(RETRY))
}

async fn step(object: &SyncExecution, context: &Context) -> Result<(&'static str, Action), Error> {
    let Some(request) = request(object) else { return Ok(("invalid", Action::await_change())) };
    let uid = request.uid;
    let shown = object.status.clone().unwrap_or_default();
    let deleting = object.metadata.deletion_timestamp.is_some();
    if deleting && context.leadership.holds() {
        // A finalizer of somebody else keeps it; for us it is deleted.
        context.store.cancel_deleted(&[uid]).await.map_err(|error| Error::Record(Arc::new(error).into()))?;
    }
    // What shows an execution id was recorded once, and is never recorded again: if the row is gone, that is shown.
    let may_record = context.ids.may_be_given();
    let ask = if shown.execution_id.is_some() || deleting || !may_record {
        Ask::Lookup(uid)
    } else {
        let Some(new) = new_execution(object, request) else {
            warn!(
                object.namespace = object.namespace(),
                object.name = object.name_any(),
                "object asks for no valid window: correct or delete it"
            );
            return Ok(("invalid", Action::await_change()));
        };
        Ask::Ensure(Box::new(new))
    };
    match context.batcher.ask(ask).await {
        Ok(Some(row)) if status::shows_more_than(&shown, &row) => show(object, &status::record_behind(object), context).await,
        Ok(Some(row)) => {
            let (outcome, action) = show(object, &status::of(&row, object.metadata.generation), context).await?;
            if outcome == "later" || deleting {
                return Ok((outcome, action));
            }
            match next(&row, object.spec.ttl_seconds_after_finished, (context.now)()) {
                Next::Delete => delete(object, context).await,
                Next::At(wait) => Ok((outcome, Action::requeue(wait))),
                Next::Nothing => Ok((outcome, Action::await_change())),
            }
        }
        Ok(None) if shown.execution_id.is_some() => {
            if let Some(id) = execution_id(object) {
                never_again(&context.store, id).await.map_err(|error| Error::Record(Arc::new(error).into()))?;
            }
            show(object, &status::record_lost(object), context).await
        }
        Ok(None) if !may_record && !deleting => Ok(("later", Action::requeue(jittered(LIST)))),
        Ok(None) => Ok(("unchanged", Action::await_change())),
        Err(error) => {
            if let (BatchError::Store(store), None) = (&error, &shown.execution_id)
                && store.is_unavailable()
                && !deleting
            {
                show(object, &status::not_recorded(object), context).await?;
            }
            Err(error.into())
        }
    }
}

async fn show(object: &SyncExecution, status: &SyncExecutionStatus, context: &Context) -> Result<(&'static str, Action), Error> {
    Ok(match context.mirror.show(object, status).await? {
        Mirrored::Unchanged => ("unchanged", Action::await_change()),
        Mirrored::Written => {
            context.events.report(object, status).await;
            ("written", Action::await_change())
        }
        Mirrored::Later(wait) => ("later", Action::requeue(wait)),
        Mirrored::Dropped => ("dropped", Action::await_change()),
    })
}

async fn delete(object: &SyncExecution, context: &Context) -> Result<(&'static str, Action), Error> {
    let Some(window) = context.leadership.window() else { return Ok(("later", Action::requeue(RETRY))) };
    let api: Api<SyncExecution> = Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let preconditions = Preconditions { uid: object.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let name = object.name_any();
    match timeout(window.min(DELETE_TIMEOUT), crash::effect("delete an object", || api.delete(&name, &params))).await {
        Ok(Ok(_)) => {
            info!(
                object.namespace = object.namespace(),
                object.name = object.name_any(),
                object.uid = object.uid(),
                "deleted: ttlSecondsAfterFinished is over; the record stays"
            );
            Ok(("deleted", Action::await_change()))
        }
        Ok(Err(kube::Error::Api(refusal))) if refusal.is_not_found() || refusal.is_conflict() => Ok(("deleted", Action::await_change())),
        Ok(Err(error)) => Err(Error::Delete(error)),
        Err(_) => Err(Error::DeleteSilent),
    }
}

/// The object's identity, if it has one.
fn request(object: &SyncExecution) -> Option<Request> {
    Some(Request { uid: Uuid::parse_str(&object.uid()?).ok()?, namespace: object.namespace()?, name: object.name_any() })
}

/// The execution that the object shows.
pub(super) fn execution_id(object: &SyncExecution) -> Option<i64> {
    object.status.as_ref()?.execution_id.as_ref()?.parse().ok()
}

/// What the object asks for; `None` when its window is none (which the API server refuses).
fn new_execution(object: &SyncExecution, request: Request) -> Option<NewExecution> {
    let spec = &object.spec;
    let window = match (spec.mode, &spec.window) {
        (crate::domain::Mode::Backfill, Some(window)) => Some(Window::new(window.start, window.end).ok()?),
        (crate::domain::Mode::Update, None) => None,
        _ => return None,
    };
    Some(NewExecution {
        request,
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
        return Next::At(jittered(RECHECK));
    }
    let (Some(ttl), Some(finished)) = (ttl_seconds, row.finished_at) else { return Next::Nothing };
    let left = ttl.saturating_sub((now - finished).num_seconds());
    match u64::try_from(left) {
        Ok(0) | Err(_) => Next::Delete,
        // A long sleep is cut: the time to live may be changed meanwhile, and timers are kept in memory.
        Ok(left) => Next::At(Duration::from_secs(left.min(RECHECK.as_secs() * 12))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
        assert!(matches!(next(&row(Status::Running, None), Some(0), now), Next::At(_)));
    }

    #[test]
    fn an_object_without_a_valid_window_asks_for_nothing() {
        let request = || Request { uid: Uuid::nil(), namespace: "ns".into(), name: "x".into() };
        for spec in [
            json!({"mode": "backfill"}),
            json!({"mode": "backfill", "window": {"start": "2025-07-10T12:00:00Z", "end": "2025-07-10T12:00:00Z"}}),
        ] {
            let object: SyncExecution = serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec})).unwrap();
            assert!(new_execution(&object, request()).is_none());
        }
    }
}
