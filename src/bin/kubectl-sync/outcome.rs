//! How an execution stands, read from its object: whether there is anything left to wait for, and in which words.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use sync_operator::{
    crd::{ConditionType, SyncExecution},
    domain::Phase,
};

use crate::output::plain;

/// There is nothing left to wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ended well; in words.
    Well(String),
    /// It failed, was cancelled, or does not go on by itself; in words.
    NotWell(String),
}

/// A condition of the object.
#[must_use]
pub fn condition(object: &SyncExecution, kind: ConditionType) -> Option<&Condition> {
    object.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

/// The outcome, once there is one.
#[must_use]
pub fn of(object: &SyncExecution) -> Option<Outcome> {
    let status = object.status.as_ref()?;
    let name = object.name_any();
    let why = |kind| condition(object, kind).map(|c| (c.reason.clone(), plain(&c.message))).unwrap_or_default();
    match status.phase {
        Some(Phase::Succeeded) => {
            let took = status.duration.as_ref().map(|duration| format!(" in {duration}")).unwrap_or_default();
            Some(Outcome::Well(format!("{} records{took}", status.records_processed.unwrap_or_default())))
        }
        Some(Phase::Failed) => {
            let (reason, message) = why(ConditionType::Failed);
            let words = status.error.as_deref().map_or(message, plain);
            Some(Outcome::NotWell(format!("{name} failed: {words} ({reason})")))
        }
        Some(Phase::Cancelled) => Some(Outcome::NotWell(format!("{name} was cancelled: {}", why(ConditionType::Finished).1))),
        _ => {
            let stalled = condition(object, ConditionType::Stalled).filter(|condition| condition.status == "True")?;
            Some(Outcome::NotWell(format!("{name} does not go on by itself: {} ({})", plain(&stalled.message), stalled.reason)))
        }
    }
}

/// Phase, records, and what is waited for, on one line.
#[must_use]
pub fn progress(object: &SyncExecution) -> String {
    // A status without phase is the default of the API server.
    let Some((status, phase)) = object.status.as_ref().and_then(|status| Some((status, status.phase?))) else {
        return "not taken by the operator yet".to_owned();
    };
    let phase = phase.as_str();
    let records = status.records_processed.map(|records| format!(", {records} records")).unwrap_or_default();
    if matches!(status.phase, Some(Phase::Pending)) {
        let trouble = [ConditionType::Recorded, ConditionType::Published].into_iter().filter_map(|kind| condition(object, kind));
        if let Some(trouble) = trouble.into_iter().find(|condition| condition.status == "False") {
            return format!("{phase}{records}: {}: {}", trouble.reason, plain(&trouble.message));
        }
    }
    format!("{phase}{records}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::output::tests::object;

    fn with(phase: &str, conditions: &Value) -> SyncExecution {
        object("x", json!({"phase": phase, "recordsProcessed": 5, "duration": "1.5s", "conditions": conditions}))
    }

    fn is(kind: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2025-07-10T12:00:00Z"})
    }

    #[test]
    fn what_is_under_way_has_no_outcome() {
        assert_eq!(of(&object("x", Value::Null)), None);
        for phase in ["Pending", "Queued", "Running"] {
            assert_eq!(of(&with(phase, &json!([]))), None, "{phase}");
        }
    }

    #[test]
    fn an_end_is_told_in_the_words_of_who_ended_it() {
        assert_eq!(of(&with("Succeeded", &json!([]))), Some(Outcome::Well("5 records in 1.5s".into())));
        let failed = with("Failed", &json!([is("Failed", "True", "WorkerError", "portal answered 500")]));
        assert_eq!(of(&failed), Some(Outcome::NotWell("x failed: portal answered 500 (WorkerError)".into())));
        let cancelled = with("Cancelled", &json!([is("Finished", "True", "Cancelled", "by the worker")]));
        assert_eq!(of(&cancelled), Some(Outcome::NotWell("x was cancelled: by the worker".into())));
    }

    #[test]
    fn a_lost_record_is_not_waited_for() {
        let lost = with("Queued", &json!([is("Stalled", "True", "RecordLost", "gone")]));
        assert_eq!(of(&lost), Some(Outcome::NotWell("x does not go on by itself: gone (RecordLost)".into())));
    }

    #[test]
    fn progress_says_what_is_in_the_way() {
        for unanswered in [Value::Null, json!({"observedGeneration": -1})] {
            assert_eq!(progress(&object("x", unanswered)), "not taken by the operator yet");
        }
        assert_eq!(progress(&with("Running", &json!([]))), "Running, 5 records");
        let pending = json!({"phase": "Pending", "conditions":
            [is("Recorded", "True", "RowWritten", "m"), is("Published", "False", "BrokerUnavailable", "refused")]});
        assert_eq!(progress(&object("x", pending)), "Pending: BrokerUnavailable: refused");
    }
}
