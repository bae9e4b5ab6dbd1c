//! Writing status: fenced by uid, only when it differs, small changes gathered for a moment, the end at once.
//! Nothing else in the program writes a SyncExecution.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use json_patch::{AddOperation, Patch as JsonPatch, PatchOperation, TestOperation, jsonptr::PointerBuf};
use kube::{
    Client, Resource,
    api::{Patch, PatchParams},
    core::Request,
};
use serde::de::IgnoredAny;
use thiserror::Error;
use tokio::{sync::Semaphore, time::timeout};
use tracing::info;
use uuid::Uuid;

use super::{
    cache::Cache,
    object::{Known, digest},
};
use crate::{
    crash,
    crd::{ConditionType, Reason, SyncExecution, SyncExecutionStatus},
    domain::Phase,
    kubernetes::describe,
    leader::Leadership,
    metrics::{Metrics, Outcome},
};

/// Deadline of one write, unless the lease leaves less.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a write may take to come back by the watch; if it has not by then, somebody changed the status since.
const WATCH_LAG: Duration = Duration::from_secs(30);
/// Wait while leadership is in doubt: the term ends, or goes on with the next renewal.
const IN_DOUBT: Duration = Duration::from_secs(1);

/// A write that did not happen.
#[derive(Debug, Error)]
pub enum Error {
    /// The API server refused it, or could not be reached.
    #[error("status write: {}", describe(.0))]
    Failed(#[source] kube::Error),
    /// No answer within the deadline.
    #[error("status write: no answer in time")]
    Silent,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// The object shows it already.
    Unchanged,
    /// Written now.
    Written,
    /// To be written after this wait, together with what comes until then.
    Later(Duration),
    /// The object is gone: nothing to do.
    Dropped,
}

/// What is remembered of an object until its watch event shows it.
#[derive(Default)]
struct Memory {
    /// When a small change was first seen that is not written yet.
    changed: Option<Instant>,
    /// The digest of what was written last, and when.
    written: Option<(u64, Instant)>,
}

/// The writer. One per process.
pub struct Mirror {
    client: Client,
    cache: Cache,
    leadership: Leadership,
    gather: Duration,
    calls: Arc<Semaphore>,
    memory: Mutex<HashMap<Uuid, Memory>>,
    metrics: Arc<Metrics>,
}

impl Mirror {
    /// A mirror that gathers small changes for `gather`; it shares `calls` with whoever else calls the API server.
    #[must_use]
    pub fn new(
        client: Client,
        cache: Cache,
        leadership: Leadership,
        gather: Duration,
        calls: Arc<Semaphore>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { client, cache, leadership, gather, calls, memory: Mutex::default(), metrics }
    }

    /// Makes an object show `status`.
    ///
    /// # Errors
    /// [`Error`]; try again later.
    pub async fn show(&self, object: &Known, status: &SyncExecutionStatus) -> Result<Mirrored, Error> {
        let digest = digest(status);
        if object.shown.digest == digest {
            self.forget(object.uid);
            return Ok(Mirrored::Unchanged);
        }
        if let Some(wait) = self.wait(object.uid, digest, status) {
            return Ok(wait);
        }
        let Ok(_call) = self.calls.acquire().await else { return Ok(Mirrored::Dropped) };
        // What was remembered may have come back by the watch since this look began. The watch puts an object into the cache
        // before it has it forgotten, so what is not remembered any more is seen there.
        if self.cache.get(&object.key).is_some_and(|now| now.uid == object.uid && now.shown.digest == digest) {
            return Ok(Mirrored::Unchanged);
        }
        let Some(window) = self.leadership.window() else { return Ok(Mirrored::Later(IN_DOUBT)) };
        let mirrored = self.write(object, status, window.min(WRITE_TIMEOUT)).await?;
        if mirrored == Mirrored::Written {
            self.remember(object.uid, |memory| *memory = Memory { changed: None, written: Some((digest, Instant::now())) });
            log(object, status);
        }
        Ok(mirrored)
    }

    /// Drops what is remembered of an object.
    pub fn forget(&self, uid: Uuid) {
        self.memory().remove(&uid);
    }

    /// Whether this is what was written last, come back by the watch; it does so once.
    #[must_use]
    pub fn is_echo(&self, uid: Uuid, digest: u64) -> bool {
        let mut memory = self.memory();
        let Some(of_object) = memory.get_mut(&uid) else { return false };
        if of_object.written.take_if(|(written, _)| *written == digest).is_none() {
            return false;
        }
        if of_object.changed.is_none() {
            memory.remove(&uid);
        }
        true
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<Uuid, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember<T>(&self, uid: Uuid, change: impl FnOnce(&mut Memory) -> T) -> T {
        change(self.memory().entry(uid).or_default())
    }

    /// Why not to write now: it is written already and the watch lags behind, or there may be more to write in a moment.
    fn wait(&self, uid: Uuid, digest: u64, status: &SyncExecutionStatus) -> Option<Mirrored> {
        self.remember(uid, |memory| {
            if memory.written.is_some_and(|(written, at)| written == digest && at.elapsed() < WATCH_LAG) {
                return Some(Mirrored::Unchanged);
            }
            let gather = self.gather * patience(status);
            let since = memory.changed.get_or_insert_with(Instant::now).elapsed();
            (since < gather).then(|| Mirrored::Later(gather.saturating_sub(since)))
        })
    }

    async fn write(&self, object: &Known, status: &SyncExecutionStatus, within: Duration) -> Result<Mirrored, Error> {
        let (uid, name) = (object.uid, &*object.key.name);
        let patch = Patch::Json::<()>(fenced(uid, status));
        let request = Request::new(SyncExecution::url_path(&(), Some(&object.key.namespace)))
            .patch_subresource("status", name, &PatchParams::default(), &patch)
            .map_err(|error| Error::Failed(kube::Error::BuildRequest(error)))?;
        // The answer is the whole object, and the watch brings it, too: here it is not even read.
        match timeout(within, crash::effect("write a status", || self.client.request::<IgnoredAny>(request.clone()))).await {
            Ok(Ok(_)) => {
                self.count("written");
                Ok(Mirrored::Written)
            }
            Ok(Err(kube::Error::Api(refusal))) if refusal.is_not_found() => {
                self.count("gone");
                self.forget(uid);
                Ok(Mirrored::Dropped)
            }
            // The object was replaced or shows a newer revision, and the watch is about to say so; or a policy forbids it.
            Ok(Err(kube::Error::Api(refusal))) if refusal.is_invalid() => {
                self.count("refused");
                self.forget(uid);
                Err(Error::Failed(kube::Error::Api(refusal)))
            }
            Ok(Err(error)) => {
                self.count("error");
                Err(Error::Failed(error))
            }
            Err(_) => {
                self.count("error");
                Err(Error::Silent)
            }
        }
    }

    fn count(&self, outcome: &'static str) {
        self.metrics.status_writes.get_or_create(&Outcome { outcome }).inc();
    }
}

/// How many times the usual moment a status may wait. The end waits for nothing. What is about to be published waits longer,
/// since the confirm is on its way, and one write for both saves a third of all writes.
fn patience(status: &SyncExecutionStatus) -> u32 {
    let to_be_published =
        || status.conditions.iter().any(|c| c.type_ == ConditionType::Published.as_str() && c.reason == Reason::AwaitingConfirm.as_str());
    match status.phase {
        Some(phase) if phase.is_final() => 0,
        // Asking the database has taken its time already.
        Some(Phase::Pending) if status.execution_id.is_none() => 0,
        Some(Phase::Pending) if to_be_published() => 4,
        _ => 1,
    }
}

/// A patch that puts `status` on the object with this uid, and on no other: a namesake created since fails the test, and the
/// server refuses the whole patch (422).
fn fenced(uid: Uuid, status: &SyncExecutionStatus) -> JsonPatch {
    JsonPatch(vec![
        PatchOperation::Test(TestOperation { path: PointerBuf::from_tokens(["metadata", "uid"]), value: uid.to_string().into() }),
        PatchOperation::Add(AddOperation {
            path: PointerBuf::from_tokens(["status"]),
            value: serde_json::to_value(status).unwrap_or_default(),
        }),
    ])
}

fn log(object: &Known, status: &SyncExecutionStatus) {
    let (Some(phase), true) = (status.phase, object.shown.phase != status.phase) else { return };
    info!(
        execution.id = status.execution_id.as_deref(),
        object.namespace = &*object.key.namespace,
        object.name = &*object.key.name,
        object.uid = %object.uid,
        phase = phase.as_str(),
        records = status.records_processed,
        error = status.error.as_deref(),
        "phase changed"
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_written_only_under_the_uid_it_was_computed_for() {
        let status = SyncExecutionStatus { revision: Some(3), ..SyncExecutionStatus::default() };
        assert_eq!(
            serde_json::to_value(fenced(Uuid::nil(), &status)).unwrap(),
            json!([
                {"op": "test", "path": "/metadata/uid", "value": "00000000-0000-0000-0000-000000000000"},
                {"op": "add", "path": "/status", "value": {"revision": 3}},
            ])
        );
    }

    #[test]
    fn the_end_waits_for_nothing_and_what_is_about_to_be_published_waits_longest() {
        let shown =
            |phase: Phase| SyncExecutionStatus { phase: Some(phase), execution_id: Some("1".into()), ..SyncExecutionStatus::default() };
        assert_eq!([Phase::Succeeded, Phase::Failed, Phase::Cancelled].map(|phase| patience(&shown(phase))), [0, 0, 0]);
        assert_eq!([Phase::Queued, Phase::Running].map(|phase| patience(&shown(phase))), [1, 1]);
        let mut pending = shown(Phase::Pending);
        assert_eq!(patience(&pending), 1, "a problem is shown soon");
        pending.conditions = serde_json::from_value(json!([{
            "type": "Published", "status": "False", "reason": "AwaitingConfirm", "message": "", "lastTransitionTime": "2025-07-10T12:00:00Z",
        }]))
        .unwrap();
        assert_eq!(patience(&pending), 4);
        pending.execution_id = None;
        assert_eq!(patience(&pending), 0, "a database that is away has made it wait long enough");
    }
}
