//! Kubernetes Events, for `kubectl describe`: warnings always, the happy path only when asked for, since each costs the API
//! server a write. Best effort: an event that cannot be written changes nothing.

use std::{sync::Arc, time::Duration};

use clap::ValueEnum;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::{sync::Semaphore, time::timeout};
use tracing::debug;

use super::object::{Known, Shown};
use crate::{
    crash,
    crd::{ConditionType, SyncExecution, SyncExecutionStatus},
};

/// Deadline of one event.
const EVENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Which events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EventLevel {
    /// None.
    None,
    /// Failed executions and lost records.
    Warnings,
    /// Also every change of phase.
    All,
}

/// The writer of events.
pub struct Events {
    client: Client,
    reporter: Reporter,
    level: EventLevel,
    calls: Arc<Semaphore>,
}

impl Events {
    /// Events of this controller instance; they share `calls` with whoever else calls the API server.
    #[must_use]
    pub fn new(client: Client, instance: String, level: EventLevel, calls: Arc<Semaphore>) -> Self {
        let reporter = Reporter { controller: "sync.pncp.io/sync-operator".to_owned(), instance: Some(instance) };
        Self { client, reporter, level, calls }
    }

    /// Writes the event for the change from what `object` shows to `status`, if there is one to write.
    pub async fn report(&self, object: &Known, status: &SyncExecutionStatus) {
        let Some(event) = event(&object.shown, status, self.level) else { return };
        let about = ObjectReference {
            api_version: Some(SyncExecution::api_version(&()).into_owned()),
            kind: Some(SyncExecution::kind(&()).into_owned()),
            namespace: Some(object.key.namespace.to_string()),
            name: Some(object.key.name.to_string()),
            uid: Some(object.uid.to_string()),
            ..ObjectReference::default()
        };
        let Ok(_call) = self.calls.acquire().await else { return };
        // A recorder remembers its events for minutes, to count repeats; of ours there are none.
        let recorder = Recorder::new(self.client.clone(), self.reporter.clone());
        match timeout(EVENT_TIMEOUT, crash::effect("write an event", || recorder.publish(&event, &about))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(error = %error, "event not written"),
            Err(_) => debug!("event not written: no answer in time"),
        }
    }
}

fn event(before: &Shown, after: &SyncExecutionStatus, level: EventLevel) -> Option<Event> {
    let stalled = |status: &SyncExecutionStatus| {
        status.conditions.iter().find(|c| c.type_ == ConditionType::Stalled.as_str()).map(|c| (c.reason.clone(), c.message.clone()))
    };
    let new = |type_, reason: String, note: String| Event {
        type_,
        reason,
        note: Some(note.chars().take(1000).collect()),
        action: "Sync".to_owned(),
        secondary: None,
    };
    if level == EventLevel::None {
        return None;
    }
    if let Some((reason, message)) = stalled(after)
        && !before.stalled
    {
        return Some(new(EventType::Warning, reason, after.error.clone().unwrap_or(message)));
    }
    let phase = after.phase.filter(|phase| level == EventLevel::All && before.phase != Some(*phase))?;
    let id = after.execution_id.as_deref().unwrap_or("not recorded yet");
    Some(new(
        EventType::Normal,
        phase.as_str().to_owned(),
        format!("execution {id}: {} records", after.records_processed.unwrap_or_default()),
    ))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

    use super::*;
    use crate::domain::Phase;

    fn status(phase: Phase, stalled: bool) -> SyncExecutionStatus {
        let condition = Condition {
            type_: "Stalled".into(),
            status: "True".into(),
            reason: "WorkerError".into(),
            message: "m".into(),
            last_transition_time: Time(k8s_openapi::jiff::Timestamp::default()),
            observed_generation: None,
        };
        SyncExecutionStatus {
            phase: Some(phase),
            conditions: if stalled { vec![condition] } else { Vec::new() },
            ..SyncExecutionStatus::default()
        }
    }

    #[test]
    fn the_happy_path_writes_no_event_unless_asked() {
        let (queued, done) = (status(Phase::Queued, false), status(Phase::Succeeded, false));
        assert!(event(&Shown::of(&queued), &done, EventLevel::Warnings).is_none());
        assert_eq!(event(&Shown::of(&queued), &done, EventLevel::All).unwrap().reason, "Succeeded");
    }

    #[test]
    fn a_failure_is_told_once_as_a_warning() {
        let (queued, failed) = (status(Phase::Queued, false), status(Phase::Failed, true));
        assert_eq!(event(&Shown::of(&queued), &failed, EventLevel::Warnings).unwrap().reason, "WorkerError");
        assert!(event(&Shown::of(&failed), &failed, EventLevel::All).is_none());
        assert!(event(&Shown::of(&queued), &failed, EventLevel::None).is_none());
    }
}
