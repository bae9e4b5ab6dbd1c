//! Kubernetes Events, for `kubectl describe`: warnings always, the happy path only when asked for, since each costs the API
//! server a write. Best effort: an event that cannot be written changes nothing.

use std::time::Duration;

use clap::ValueEnum;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::time::timeout;
use tracing::debug;

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
    recorder: Recorder,
    level: EventLevel,
}

impl Events {
    /// Events of this controller instance.
    #[must_use]
    pub fn new(client: Client, instance: String, level: EventLevel) -> Self {
        let reporter = Reporter { controller: "sync.pncp.io/sync-operator".to_owned(), instance: Some(instance) };
        Self { recorder: Recorder::new(client, reporter), level }
    }

    /// Writes the event for the change from what `object` shows to `status`, if there is one to write.
    pub async fn report(&self, object: &SyncExecution, status: &SyncExecutionStatus) {
        let Some(event) = event(object.status.as_ref(), status, self.level) else { return };
        let about = object.object_ref(&());
        match timeout(EVENT_TIMEOUT, crash::effect("write an event", || self.recorder.publish(&event, &about))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(error = %error, "event not written"),
            Err(_) => debug!("event not written: no answer in time"),
        }
    }
}

fn event(before: Option<&SyncExecutionStatus>, after: &SyncExecutionStatus, level: EventLevel) -> Option<Event> {
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
        && before.and_then(stalled).is_none()
    {
        return Some(new(EventType::Warning, reason, after.error.clone().unwrap_or(message)));
    }
    let phase = after.phase.filter(|phase| level == EventLevel::All && before.and_then(|before| before.phase) != Some(*phase))?;
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
        assert!(event(Some(&queued), &done, EventLevel::Warnings).is_none());
        assert_eq!(event(Some(&queued), &done, EventLevel::All).unwrap().reason, "Succeeded");
    }

    #[test]
    fn a_failure_is_told_once_as_a_warning() {
        let (queued, failed) = (status(Phase::Queued, false), status(Phase::Failed, true));
        assert_eq!(event(Some(&queued), &failed, EventLevel::Warnings).unwrap().reason, "WorkerError");
        assert!(event(Some(&failed), &failed, EventLevel::All).is_none());
        assert!(event(Some(&queued), &failed, EventLevel::None).is_none());
    }
}
