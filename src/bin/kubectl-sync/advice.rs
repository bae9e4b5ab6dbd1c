//! What a person can do about an execution, by what its object shows. Pure; the words follow the README's troubleshooting.

use chrono::{DateTime, Utc};
use kube::ResourceExt;
use sync_operator::{
    crd::{ConditionType, Reason, SyncExecution},
    domain::Phase,
};

use crate::{age, outcome::condition};

/// After so many seconds without an answer, or without a worker, something is wrong.
pub const LONG_SECONDS: i64 = 30;

/// What to do next; `None` when all is well or just under way.
#[must_use]
pub fn next(object: &SyncExecution, now: DateTime<Utc>) -> Option<&'static str> {
    let created = object.creation_timestamp().as_ref().and_then(age::time).unwrap_or(now);
    let old = |since: DateTime<Utc>| (now - since).num_seconds() > LONG_SECONDS;
    // A status without phase is the default of the API server.
    let Some(status) = object.status.as_ref().filter(|status| status.phase.is_some()) else {
        return old(created).then_some(
            "no controller has answered: see whether one leads (kubectl sync status), whether it watches this namespace (WATCH_NAMESPACE), and its log",
        );
    };
    if let Some(stalled) = condition(object, ConditionType::Stalled).filter(|condition| condition.status == "True") {
        return stalled_advice(&stalled.reason);
    }
    if let Some(reason) = [ConditionType::Recorded, ConditionType::Published]
        .into_iter()
        .filter_map(|kind| condition(object, kind))
        .find(|condition| condition.status == "False")
        .map(|condition| condition.reason.as_str())
        && status.phase == Some(Phase::Pending)
    {
        return pending_advice(reason, old(status.queued_time.unwrap_or(created)));
    }
    let waits = status.phase == Some(Phase::Queued) && old(status.publish_time.unwrap_or(created));
    waits.then_some("the broker has the message and no worker has started: does the queue have a consumer, and does it report?")
}

fn stalled_advice(reason: &str) -> Option<&'static str> {
    let is = |word: Reason| reason == word.as_str();
    Some(if is(Reason::WorkerError) {
        "mend what the worker complains about, then create another one: kubectl sync force …"
    } else if is(Reason::DeadlineExceeded) {
        "the deadline counts waiting for broker and worker, too: see which was slow; the worker may still be at it. Then create another one"
    } else if is(Reason::AmbiguousLocalTime) {
        "choose a bound outside of the hour that the worker's clock repeats, and create another one"
    } else if is(Reason::Cancelled) {
        "whoever runs the worker stopped it; create another one if the data are needed"
    } else if is(Reason::RecordLost) {
        "its row is gone, or the controller uses another database: check that first. It is not run again: create another one if it must be"
    } else if is(Reason::RecordBehind) {
        "the database was restored to an older state: check what was ingested, and create another one if it must run again"
    } else {
        return None;
    })
}

fn pending_advice(reason: &str, old: bool) -> Option<&'static str> {
    let is = |word: Reason| reason == word.as_str();
    Some(if is(Reason::DatabaseUnavailable) {
        "nothing is lost, it goes on by itself within about 15 s after the database is back: look at the controller's log and /readyz"
    } else if is(Reason::BrokerUnavailable) {
        "it is tried again until it works: see whether RabbitMQ runs, accepts the password, and has no memory or disk alarm"
    } else if is(Reason::Unroutable) {
        "the queue is missing; the controller declares it again: if this lasts, it may not declare queues"
    } else if is(Reason::Rejected) {
        "the broker refuses messages, mostly because the queue is full: make room, or change its policy"
    } else if is(Reason::AwaitingConfirm) && old {
        "the confirm is awaited for long: another leader takes over within about 35 s if the last one was killed"
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::output::tests::object;

    fn at(second: i64) -> DateTime<Utc> {
        "2025-07-10T12:00:00Z".parse::<DateTime<Utc>>().unwrap() + chrono::TimeDelta::seconds(second)
    }

    fn with(phase: &str, kind: &str, is: &str, reason: &str) -> SyncExecution {
        let condition = json!({"type": kind, "status": is, "reason": reason, "message": "m", "lastTransitionTime": "2025-07-10T12:00:00Z"});
        object("x", json!({"phase": phase, "conditions": [condition]}))
    }

    #[test]
    fn an_object_that_nobody_answers_is_noticed_after_a_while() {
        for unanswered in [Value::Null, json!({"observedGeneration": -1})] {
            let silent = object("x", unanswered);
            assert_eq!(next(&silent, at(5)), None);
            assert!(next(&silent, at(60)).unwrap().contains("kubectl sync status"));
        }
    }

    #[test]
    fn every_reason_to_stall_has_advice() {
        for reason in ["WorkerError", "DeadlineExceeded", "AmbiguousLocalTime", "Cancelled", "RecordLost", "RecordBehind"] {
            assert!(next(&with("Failed", "Stalled", "True", reason), at(5)).is_some(), "{reason}");
        }
    }

    #[test]
    fn what_keeps_an_execution_pending_is_explained() {
        assert!(next(&with("Pending", "Recorded", "False", "DatabaseUnavailable"), at(1)).unwrap().contains("database"));
        for reason in ["BrokerUnavailable", "Unroutable", "Rejected"] {
            assert!(next(&with("Pending", "Published", "False", reason), at(1)).is_some(), "{reason}");
        }
        let awaited = with("Pending", "Published", "False", "AwaitingConfirm");
        assert_eq!(next(&awaited, at(1)), None);
        assert!(next(&awaited, at(60)).is_some());
    }

    #[test]
    fn a_queue_without_worker_is_noticed_after_a_while() {
        let queued = with("Queued", "Published", "True", "Confirmed");
        assert_eq!(next(&queued, at(5)), None);
        assert!(next(&queued, at(60)).unwrap().contains("consumer"));
        assert_eq!(next(&with("Running", "Published", "True", "Confirmed"), at(600)), None);
    }
}
