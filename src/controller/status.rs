//! The status that a SyncExecution should show, from its record. Pure: every time in it comes from the record or the object,
//! so equal records give equal statuses and nothing is written twice.

use chrono::{DateTime, SubsecRound, Utc};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use super::object::Shown;
use crate::{
    crd::{ConditionType, Reason, SyncExecution, SyncExecutionStatus, v1alpha1::ProcessedWindow},
    domain::{
        Execution, Phase, Status,
        execution::{FinishReason, PublishProblem},
    },
};

/// Longest `status.error`, in characters.
const ERROR_MAX: usize = 1024;
/// What tools that show nothing but the message of `Stalled` must tell, too.
const NOT_AGAIN: &str = "it is not run again by itself";

/// The status of a recorded execution.
#[must_use]
pub fn of(execution: &Execution, generation: Option<i64>) -> SyncExecutionStatus {
    let begun = execution.started_at.is_some() || execution.status.is_final();
    SyncExecutionStatus {
        observed_generation: generation,
        phase: Some(Phase::of(execution)),
        execution_id: Some(execution.id.to_string()),
        revision: Some(execution.revision),
        window: execution.window.map(|window| ProcessedWindow { start: seconds(window.start()), end: seconds(window.end()) }),
        queued_time: Some(seconds(execution.created_at)),
        publish_time: execution.published_at.map(seconds),
        start_time: execution.started_at.map(seconds),
        completion_time: execution.finished_at.map(seconds),
        duration: execution.duration_seconds.map(|seconds| format!("{seconds:.1}s")),
        records_processed: begun.then_some(execution.records_processed),
        error: execution.error_message.as_deref().map(short),
        conditions: conditions(execution, generation),
    }
}

/// The status of an object, created then, that could not be recorded yet.
#[must_use]
pub fn not_recorded(at: DateTime<Utc>, generation: Option<i64>) -> SyncExecutionStatus {
    let message = "the database does not answer; the request is kept here and recorded as soon as it does";
    SyncExecutionStatus {
        observed_generation: generation,
        phase: Some(Phase::Pending),
        conditions: vec![
            condition(ConditionType::Recorded, false, Reason::DatabaseUnavailable, message, at, generation),
            condition(ConditionType::Finished, false, Reason::Pending, "waiting for the database", at, generation),
            condition(ConditionType::Reconciling, true, Reason::DatabaseUnavailable, message, at, generation),
        ],
        ..SyncExecutionStatus::default()
    }
}

/// Whether a status shows more than the record: a later revision, or an end that is not the record's. Rows do not go back by
/// themselves, so somebody restored an older state.
#[must_use]
pub fn shows_more_than(shown: &Shown, row: &Execution) -> bool {
    let other_end = shown.phase.is_some_and(|phase| phase.is_final() && phase != Phase::of(row));
    other_end || shown.revision.is_some_and(|revision| revision > row.revision)
}

/// The status of an object whose record is gone: what it showed, and that it needs a person. It is not run again.
#[must_use]
pub fn record_lost(object: &SyncExecution) -> SyncExecutionStatus {
    with_record_trouble(
        object,
        Reason::RecordLost,
        "the record of this execution is not in the database any more; it is not run again by itself: create a new SyncExecution if it must be",
    )
}

/// The status of an object that shows a newer state than its record, as after a restore. It is not run again.
#[must_use]
pub fn record_behind(object: &SyncExecution) -> SyncExecutionStatus {
    with_record_trouble(
        object,
        Reason::RecordBehind,
        "the record in the database is older than what this object shows, as after a restore; neither is changed by itself: \
         check what was ingested, and create a new SyncExecution if it must run again",
    )
}

fn with_record_trouble(object: &SyncExecution, reason: Reason, message: &str) -> SyncExecutionStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let at = status.completion_time.or(status.start_time).or(status.publish_time).or(status.queued_time).unwrap_or_else(|| created(object));
    let generation = object.metadata.generation;
    let replaced = [ConditionType::Recorded, ConditionType::Reconciling, ConditionType::Stalled].map(ConditionType::as_str);
    // What is shown holds for this spec, too: nothing is run again, whatever it says.
    status.observed_generation = generation;
    status.conditions.retain(|condition| !replaced.contains(&condition.type_.as_str()));
    status.conditions.insert(0, condition(ConditionType::Recorded, false, reason, message, at, generation));
    status.conditions.push(condition(ConditionType::Stalled, true, reason, message, at, generation));
    status
}

/// Why a recorded execution is where it is: the reason of `Finished`.
#[must_use]
pub fn finished_reason(execution: &Execution) -> Reason {
    match (execution.status, execution.finish_reason) {
        (Status::Running, _) => match Phase::of(execution) {
            Phase::Pending => Reason::Pending,
            Phase::Queued => Reason::Queued,
            _ => Reason::Running,
        },
        (_, Some(FinishReason::DeadlineExceeded)) => Reason::DeadlineExceeded,
        (_, Some(FinishReason::AmbiguousLocalTime)) => Reason::AmbiguousLocalTime,
        (_, Some(FinishReason::ObjectDeleted)) => Reason::ObjectDeleted,
        (Status::Success, None) => Reason::Succeeded,
        (Status::Error, None) => Reason::WorkerError,
        (Status::Cancelled, None) => Reason::Cancelled,
    }
}

fn conditions(execution: &Execution, generation: Option<i64>) -> Vec<Condition> {
    let new = |kind, is, reason, message: &str, at| condition(kind, is, reason, message, at, generation);
    let recorded =
        new(ConditionType::Recorded, true, Reason::RowWritten, &format!("recorded as execution {}", execution.id), execution.created_at);
    let mut conditions = vec![recorded, published(execution, generation)];
    let reason = finished_reason(execution);
    // The last known change stands in for adopted rows whose end nobody noted.
    let ended = execution.finished_at.unwrap_or(execution.updated_at);
    let records = execution.records_processed;
    let error = execution.error_message.as_deref().map_or_else(|| "no error text was reported".to_owned(), short);
    match execution.status {
        Status::Running => {
            let message = match reason {
                Reason::Pending => "waiting for the broker to confirm the message",
                Reason::Queued => "waiting for a worker to start",
                _ => "a worker is on it",
            };
            let since = execution.started_at.or(execution.published_at).unwrap_or(execution.created_at);
            conditions.push(new(ConditionType::Finished, false, reason, message, execution.created_at));
            conditions.push(new(ConditionType::Reconciling, true, reason, message, since));
        }
        Status::Success => {
            let message = format!("{records} records processed");
            conditions.push(new(ConditionType::Finished, true, reason, &message, ended));
            conditions.push(new(ConditionType::Complete, true, reason, &message, ended));
        }
        Status::Error => {
            conditions.push(new(ConditionType::Finished, true, reason, &error, ended));
            conditions.push(new(ConditionType::Failed, true, reason, &error, ended));
            conditions.push(new(ConditionType::Stalled, true, reason, &format!("{error}; {NOT_AGAIN}"), ended));
        }
        Status::Cancelled => {
            let message = match reason {
                Reason::ObjectDeleted => "the object was deleted before its message was published",
                _ => "the worker reported that it was cancelled",
            };
            conditions.push(new(ConditionType::Finished, true, reason, message, ended));
            // To whoever waits for the data, an end without them is no success, whoever wanted it.
            conditions.push(new(ConditionType::Stalled, true, reason, &format!("{message}; {NOT_AGAIN}"), ended));
        }
    }
    conditions
}

fn published(execution: &Execution, generation: Option<i64>) -> Condition {
    let (is, reason, message, at) = match (execution.published_at, &execution.publish_failure) {
        (Some(at), _) => (true, Reason::Confirmed, "the broker confirmed the message".to_owned(), at),
        (None, _) if execution.status.is_final() => (
            false,
            Reason::NeverPublished,
            "it ended before its message was published".to_owned(),
            execution.finished_at.unwrap_or(execution.updated_at),
        ),
        (None, Some(failure)) => {
            let reason = match failure.problem {
                PublishProblem::BrokerUnavailable => Reason::BrokerUnavailable,
                PublishProblem::Unroutable => Reason::Unroutable,
                PublishProblem::Rejected => Reason::Rejected,
            };
            (false, reason, format!("{}; tried again until it works", short(&failure.message)), failure.at)
        }
        (None, None) => (false, Reason::AwaitingConfirm, "to be published".to_owned(), execution.created_at),
    };
    condition(ConditionType::Published, is, reason, &message, at, generation)
}

fn condition(kind: ConditionType, is: bool, reason: Reason, message: &str, at: DateTime<Utc>, generation: Option<i64>) -> Condition {
    Condition {
        type_: kind.as_str().to_owned(),
        status: if is { "True" } else { "False" }.to_owned(),
        reason: reason.as_str().to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(Timestamp::from_second(at.timestamp()).unwrap_or_default()),
        observed_generation: generation,
    }
}

/// `metadata.creationTimestamp`, or the epoch for an object that never was on a server.
fn created(object: &SyncExecution) -> DateTime<Utc> {
    object.metadata.creation_timestamp.as_ref().and_then(|time| DateTime::from_timestamp(time.0.as_second(), 0)).unwrap_or_default()
}

/// Whole seconds, as Kubernetes times are.
fn seconds(time: DateTime<Utc>) -> DateTime<Utc> {
    time.trunc_subsecs(0)
}

fn short(text: &str) -> String {
    if text.chars().count() <= ERROR_MAX {
        return text.to_owned();
    }
    text.chars().take(ERROR_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::domain::execution::{
        PublishFailure,
        example::{at, recorded},
    };

    fn told(status: &SyncExecutionStatus) -> Vec<(String, String, String)> {
        status.conditions.iter().map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone())).collect()
    }

    fn words(conditions: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
        conditions.iter().map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned())).collect()
    }

    #[test]
    fn a_recorded_execution_is_pending_and_reconciling() {
        let status = of(&recorded(), Some(1));
        assert_eq!(status.phase, Some(Phase::Pending));
        assert_eq!(status.records_processed, None);
        assert_eq!(
            told(&status),
            words(&[
                ("Recorded", "True", "RowWritten"),
                ("Published", "False", "AwaitingConfirm"),
                ("Finished", "False", "Pending"),
                ("Reconciling", "True", "Pending"),
            ])
        );
    }

    #[test]
    fn a_publish_problem_is_the_reason_until_the_confirm() {
        let mut execution = recorded();
        execution.publish_failure = Some(PublishFailure { problem: PublishProblem::Rejected, message: "full".into(), at: at(5) });
        assert_eq!(told(&of(&execution, None))[1], words(&[("Published", "False", "Rejected")])[0]);
        execution.publish_failure = None;
        execution.published_at = Some(at(9));
        let status = of(&execution, None);
        assert_eq!(told(&status)[1], words(&[("Published", "True", "Confirmed")])[0]);
        assert_eq!(status.phase, Some(Phase::Queued));
    }

    #[test]
    fn success_is_complete_and_finished_and_no_longer_reconciling() {
        let execution = Execution {
            status: Status::Success,
            published_at: Some(at(1)),
            started_at: Some(at(2)),
            finished_at: Some(at(47)),
            duration_seconds: Some(45.2),
            records_processed: 7,
            ..recorded()
        };
        let status = of(&execution, Some(1));
        assert_eq!(status.duration.as_deref(), Some("45.2s"));
        assert_eq!(status.records_processed, Some(7));
        assert_eq!(told(&status)[2..], words(&[("Finished", "True", "Succeeded"), ("Complete", "True", "Succeeded")]));
    }

    #[test]
    fn a_failure_is_finished_failed_and_stalled_with_its_reason() {
        let mut execution =
            Execution { status: Status::Error, finished_at: Some(at(9)), error_message: Some("x".repeat(3000)), ..recorded() };
        let status = of(&execution, None);
        assert_eq!(status.error.as_ref().unwrap().chars().count(), ERROR_MAX);
        assert_eq!(
            told(&status)[1..],
            words(&[
                ("Published", "False", "NeverPublished"),
                ("Finished", "True", "WorkerError"),
                ("Failed", "True", "WorkerError"),
                ("Stalled", "True", "WorkerError"),
            ])
        );
        execution.finish_reason = Some(FinishReason::DeadlineExceeded);
        assert_eq!(told(&of(&execution, None))[3], words(&[("Failed", "True", "DeadlineExceeded")])[0]);
    }

    #[test]
    fn a_cancelled_execution_is_finished_and_stalled_and_neither_complete_nor_failed() {
        let execution = Execution { status: Status::Cancelled, published_at: Some(at(1)), finished_at: Some(at(9)), ..recorded() };
        assert_eq!(told(&of(&execution, None))[2..], words(&[("Finished", "True", "Cancelled"), ("Stalled", "True", "Cancelled")]));
    }

    #[test]
    fn a_lost_record_keeps_what_was_shown_and_calls_a_person() {
        let mut object: SyncExecution = serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {"mode": "update"}})).unwrap();
        object.status = Some(of(&Execution { published_at: Some(at(1)), revision: 3, ..recorded() }, Some(1)));
        let status = record_lost(&object);
        assert_eq!((status.revision, status.phase), (Some(3), Some(Phase::Queued)));
        assert_eq!(
            told(&status),
            words(&[
                ("Recorded", "False", "RecordLost"),
                ("Published", "True", "Confirmed"),
                ("Finished", "False", "Queued"),
                ("Stalled", "True", "RecordLost"),
            ])
        );
        object.status = Some(status.clone());
        assert_eq!(record_lost(&object), status, "shown once, nothing more is written");
        object.metadata.generation = Some(2);
        assert_eq!(record_lost(&object).observed_generation, Some(2), "a change of the spec is answered all the same");
    }

    #[test]
    fn an_older_row_or_another_end_is_less_than_what_is_shown() {
        let row = Execution { revision: 3, ..recorded() };
        let shown = |phase, revision| Shown { phase: Some(phase), revision: Some(revision), ..Shown::default() };
        assert!(!shows_more_than(&Shown::default(), &row));
        assert!(!shows_more_than(&shown(Phase::Pending, 3), &row));
        assert!(shows_more_than(&shown(Phase::Pending, 4), &row));
        assert!(shows_more_than(&shown(Phase::Succeeded, 2), &row), "an end is final, whatever the revision");
        assert!(!shows_more_than(&shown(Phase::Succeeded, 3), &Execution { status: Status::Success, ..row.clone() }));
    }

    prop_compose! {
        fn any_execution()(
            status in 0..Status::ALL.len(), published in any::<bool>(), started in any::<bool>(), reason in 0..4_usize,
            problem in 0..4_usize, requested in any::<bool>(), error in proptest::option::of(".{0,2000}"), duration in proptest::option::of(0.0..1e8),
        ) -> Execution {
            let status = Status::ALL[status];
            Execution {
                status,
                request: recorded().request.filter(|_| requested),
                published_at: published.then(|| at(1)),
                started_at: started.then(|| at(2)),
                finished_at: status.is_final().then(|| at(3)),
                finish_reason: [None, Some(FinishReason::DeadlineExceeded), Some(FinishReason::ObjectDeleted), Some(FinishReason::AmbiguousLocalTime)][reason]
                    .filter(|_| status.is_final()),
                publish_failure: [None, Some(PublishProblem::Rejected), Some(PublishProblem::Unroutable), Some(PublishProblem::BrokerUnavailable)][problem]
                    .map(|problem| PublishFailure { problem, message: "m".into(), at: at(1) }),
                error_message: error,
                duration_seconds: duration,
                ..recorded()
            }
        }
    }

    proptest! {
        #[test]
        fn every_record_has_one_condition_of_each_type_and_is_finished_exactly_when_final(execution in any_execution()) {
            let status = of(&execution, Some(1));
            let mut kinds: Vec<&str> = status.conditions.iter().map(|c| c.type_.as_str()).collect();
            let all = kinds.len();
            kinds.sort_unstable();
            kinds.dedup();
            prop_assert_eq!(kinds.len(), all);
            let is = |kind: &str| status.conditions.iter().any(|c| c.type_ == kind && c.status == "True");
            prop_assert_eq!(is("Finished"), execution.status.is_final());
            prop_assert_eq!(is("Reconciling"), !execution.status.is_final());
            prop_assert_eq!(is("Stalled"), execution.status.is_final() && !is("Complete"));
            prop_assert!(!(is("Complete") && is("Failed")));
            prop_assert_eq!(is("Published"), execution.published_at.is_some());
            prop_assert!(status.conditions.iter().all(|c| c.message.chars().count() <= 32_768));
        }

        #[test]
        fn a_status_read_back_from_the_server_equals_the_one_written(execution in any_execution()) {
            let status = of(&execution, Some(1));
            let read: SyncExecutionStatus = serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap();
            prop_assert_eq!(read, status);
        }
    }
}
