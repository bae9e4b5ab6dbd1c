//! `kubectl sync describe`: one execution with all that is known of it, and what to do next.

use chrono::{DateTime, Utc};
use clap::Args;
use k8s_openapi::api::core::v1::Event;
use kube::{Api, ResourceExt, api::ListParams};
use sync_operator::{clock, crd::SyncExecution, domain::window::rfc3339};

use crate::{
    advice, age,
    cluster::Cluster,
    failure::Failure,
    output::{plain, print},
    table,
};

/// `kubectl sync describe`.
#[derive(Args, Debug)]
pub struct DescribeArgs {
    /// The execution.
    pub name: String,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(args: &DescribeArgs, cluster: &Cluster) -> Result<(), Failure> {
    let object = cluster.get(&args.name).await?;
    let api: Api<Event> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let of = ListParams::default().fields(&format!("involvedObject.uid={}", object.uid().unwrap_or_default())).limit(50);
    let events = cluster.call("read events", api.list(&of)).await.map(|list| list.items);
    print(&text(&object, &events.map_err(|failure| failure.to_string()), clock::now()))
}

/// All of it. Events that cannot be read are no error: the reason stands in their place.
fn text(object: &SyncExecution, events: &Result<Vec<Event>, String>, now: DateTime<Utc>) -> String {
    let mut blocks = vec![table::lines(&[], &facts(object, now))];
    if let Some(status) = object.status.as_ref().filter(|status| !status.conditions.is_empty()) {
        let rows: Vec<Vec<String>> = status
            .conditions
            .iter()
            .map(|c| {
                let since = age::age(Some(&c.last_transition_time), now);
                vec![format!("  {}", c.type_), c.status.clone(), c.reason.clone(), since, plain(&c.message)]
            })
            .collect();
        blocks.push(format!("Conditions:\n{}", table::lines(&["  TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"], &rows)));
    }
    blocks.push(match events {
        Err(reason) => format!("Events: not shown: {}", plain(reason)),
        Ok(events) if events.is_empty() => "Events: none".to_owned(),
        Ok(events) => {
            let rows: Vec<Vec<String>> = events.iter().map(|event| event_row(event, now)).collect();
            format!("Events:\n{}", table::lines(&["  TYPE", "REASON", "AGE", "MESSAGE"], &rows))
        }
    });
    if let Some(advice) = advice::next(object, now) {
        blocks.push(format!("Next: {advice}"));
    }
    blocks.join("\n\n")
}

fn facts(object: &SyncExecution, now: DateTime<Utc>) -> Vec<Vec<String>> {
    let (spec, status) = (&object.spec, object.status.clone().unwrap_or_default());
    let when = |time: Option<DateTime<Utc>>| time.map(|time| format!("{} ({} ago)", rfc3339(time), age::between(time, now)));
    let window = |start, end| format!("{} to {}", rfc3339(start), rfc3339(end));
    let seconds = |seconds: i64| humantime::format_duration(std::time::Duration::from_secs(seconds.unsigned_abs())).to_string();
    let created = object.metadata.creation_timestamp.as_ref().and_then(age::time);
    let lines = [
        ("Name", Some(object.name_any())),
        ("Namespace", object.namespace()),
        ("Uid", object.uid()),
        ("Mode", Some(spec.mode.as_str().to_owned())),
        ("Window", spec.window.as_ref().map(|w| window(w.start, w.end))),
        ("Requested by", spec.requested_by.as_deref().map(plain)),
        ("Reason", spec.reason.as_deref().map(plain)),
        ("Deadline", spec.active_deadline_seconds.map(seconds)),
        ("Kept for", spec.ttl_seconds_after_finished.map(seconds)),
        ("Phase", Some(status.phase.map_or("none: not taken by the operator yet", |phase| phase.as_str()).to_owned())),
        ("Execution", status.execution_id),
        ("Processed", status.window.as_ref().map(|w| window(w.start, w.end))),
        ("Records", status.records_processed.map(|records| records.to_string())),
        ("Duration", status.duration),
        ("Error", status.error.as_deref().map(plain)),
        ("Created", when(created)),
        ("Recorded", when(status.queued_time)),
        ("Published", when(status.publish_time)),
        ("Started", when(status.start_time)),
        ("Ended", when(status.completion_time)),
    ];
    lines.into_iter().filter_map(|(name, value)| Some(vec![format!("{name}:"), value?])).collect()
}

fn event_row(event: &Event, now: DateTime<Utc>) -> Vec<String> {
    let text = |text: &Option<String>| plain(text.as_deref().unwrap_or_default());
    let at = event.event_time.as_ref().and_then(|time| DateTime::from_timestamp(time.0.as_second(), 0));
    let at = at.or_else(|| event.last_timestamp.as_ref().and_then(age::time));
    let age = at.map_or_else(|| "<unknown>".to_owned(), |at| age::between(at, now));
    vec![format!("  {}", text(&event.type_)), text(&event.reason), age, text(&event.message)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::output::tests;

    #[test]
    fn it_shows_facts_conditions_events_and_the_next_step() {
        let object = tests::object(
            "x",
            json!({"phase": "Failed", "error": "portal answered 500", "conditions": [
                {"type": "Stalled", "status": "True", "reason": "WorkerError", "message": "it failed", "lastTransitionTime": "2025-07-10T12:00:30Z"}]}),
        );
        let told = text(&object, &Err("you may not read events".to_owned()), "2025-07-10T12:01:00Z".parse().unwrap());
        for part in [
            "Phase:       Failed",
            "Error:       portal answered 500",
            "  Stalled   True     WorkerError   30s     it failed",
            "Events: not shown: you may not read events",
            "Next: mend what the worker complains about",
        ] {
            assert!(told.contains(part), "`{part}` is not in\n{told}");
        }
    }
}
