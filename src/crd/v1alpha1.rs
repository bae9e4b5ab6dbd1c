//! `sync.pncp.io/v1alpha1`, kind SyncExecution: fields, docs, validation and columns. Nothing here reads a clock or a record.
//!
//! Rules that the schema can state are stated by the schema; the CEL rules exist for what it cannot,
//! and for messages that say what to do.

#![expect(clippy::duplicated_attributes, reason = "printer columns repeat their keys by nature")]

use chrono::{DateTime, Utc};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::domain::{Mode, Phase};

/// What to sync. Fields cannot be changed once the object exists, except where noted.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "sync.pncp.io",
    version = "v1alpha1",
    kind = "SyncExecution",
    namespaced,
    status = "SyncExecutionStatus",
    shortname = "sx",
    category = "sync",
    derive = "PartialEq",
    cel,
    doc = "A SyncExecution asks the ingestion worker for one sync, now: of the last minutes (update) or of a time window (backfill). \
           It runs once; to run again, create another one. The record of it in the database outlives the object.",
    selectable = ".spec.mode",
    selectable = ".status.phase",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", description = "update or backfill"),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Pending, Queued, Running, Succeeded, Failed or Cancelled"
    ),
    printcolumn(name = "Records", type_ = "integer", json_path = ".status.recordsProcessed", description = "Records ingested so far"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.duration", description = "Run time, as the worker reported it"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Execution",
        type_ = "string",
        json_path = ".status.executionID",
        description = "Id of the record, request_id of the message",
        priority = 1
    ),
    printcolumn(
        name = "Window-Start",
        type_ = "string",
        json_path = ".status.window.start",
        description = "Start of the window as processed",
        priority = 1
    ),
    printcolumn(
        name = "Window-End",
        type_ = "string",
        json_path = ".status.window.end",
        description = "End of the window as processed",
        priority = 1
    ),
    printcolumn(name = "Error", type_ = "string", json_path = ".status.error", description = "What went wrong", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mode != 'backfill' || has(self.window)")
        .message("a backfill needs spec.window: add window.start and window.end, or use mode: update for the last minutes"),
    validation = Rule::new("self.mode != 'update' || !has(self.window)")
        .message("an update takes no spec.window, the worker computes its own: remove it, or use mode: backfill"),
    validation = Rule::new("self.mode == oldSelf.mode")
        .message("spec.mode cannot be changed: create a new SyncExecution"),
    validation = Rule::new("has(self.window) == has(oldSelf.window) && (!has(self.window) || self.window == oldSelf.window)")
        .message("spec.window cannot be changed: create a new SyncExecution"),
    validation = Rule::new("has(self.requestedBy) == has(oldSelf.requestedBy) && (!has(self.requestedBy) || self.requestedBy == oldSelf.requestedBy)")
        .message("spec.requestedBy cannot be changed: create a new SyncExecution"),
    validation = Rule::new("has(self.reason) == has(oldSelf.reason) && (!has(self.reason) || self.reason == oldSelf.reason)")
        .message("spec.reason cannot be changed: create a new SyncExecution"),
    validation = Rule::new(
        "has(self.activeDeadlineSeconds) == has(oldSelf.activeDeadlineSeconds) && (!has(self.activeDeadlineSeconds) || self.activeDeadlineSeconds == oldSelf.activeDeadlineSeconds)",
    )
    .message("spec.activeDeadlineSeconds cannot be changed: create a new SyncExecution")
)]
pub struct SyncExecutionSpec {
    /// What to sync: `update` (the last minutes, as the worker computes them) or `backfill` (the time window in `window`).
    pub mode: Mode,

    /// The time window of a backfill. Required for a backfill, refused for an update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<SyncWindow>,

    /// Who asks, for the record. At most 253 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    #[x_kube(validation = Rule::new("size(self) <= 253").message("spec.requestedBy is longer than 253 characters: shorten it"))]
    pub requested_by: Option<String>,

    /// Why, for the record. At most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16384))]
    #[x_kube(validation = Rule::new("size(self) <= 1024").message("spec.reason is longer than 1024 characters: shorten it"))]
    pub reason: Option<String>,

    /// Seconds from when the execution is recorded to when it is ended as Failed, reason DeadlineExceeded, unless it ended before.
    /// Waiting for the broker and for the worker counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647_i64))]
    pub active_deadline_seconds: Option<i64>,

    /// Seconds from the end of the execution to the deletion of this object; 0 deletes it at once. Without it the object stays.
    /// The record in the database stays either way. May be changed at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647_i64))]
    pub ttl_seconds_after_finished: Option<i64>,
}

/// A time window, from `start` (included) to `end` (excluded).
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("self.start < self.end")
        .message("window.start must be before window.end: swap them, or choose a later end"),
    validation = Rule::new("self.start.getMilliseconds() == 0 && self.end.getMilliseconds() == 0")
        .message("window.start and window.end are whole seconds: remove the decimals")
)]
pub struct SyncWindow {
    /// RFC 3339, for example `2025-07-10T12:00:00-04:00`.
    pub start: DateTime<Utc>,
    /// RFC 3339, after `start`.
    pub end: DateTime<Utc>,
}

/// How the execution stands. Written by the controller only, from the record in the database.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
// What the API server shows until the controller answers. Without it, kstatus takes an object without status for done.
#[schemars(extend("default" = serde_json::json!({"observedGeneration": -1})))]
#[x_kube(
    validation = Rule::new("!has(oldSelf.revision) || (has(self.revision) && self.revision >= oldSelf.revision)")
        .message("status.revision never decreases: an outdated writer was refused"),
    validation = Rule::new("!has(oldSelf.phase) || !(oldSelf.phase in ['Succeeded', 'Failed', 'Cancelled']) || (has(self.phase) && self.phase == oldSelf.phase)")
        .message("status.phase never leaves Succeeded, Failed or Cancelled: a contradicting writer was refused")
)]
pub struct SyncExecutionStatus {
    /// `metadata.generation` of the spec that this status speaks of; -1 until the controller has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it got, for people: Pending, Queued, Running, then Succeeded, Failed or Cancelled. Programs read the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Id of the record in the database; the message's `request_id`.
    #[serde(default, rename = "executionID", skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<String>,
    /// Revision of the record that this status shows. Never decreases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// The window as processed: for a backfill the one asked for, for an update the one that the worker reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<ProcessedWindow>,
    /// When it was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued_time: Option<DateTime<Utc>>,
    /// When the broker had confirmed the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_time: Option<DateTime<Utc>>,
    /// When the worker started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<DateTime<Utc>>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<DateTime<Utc>>,
    /// Run time in seconds, like `45.2s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Records ingested so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records_processed: Option<i64>,
    /// What went wrong, cut to 1024 characters; the record has it in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub error: Option<String>,
    /// For programs: Recorded, Published, Finished (True on any end), Complete, Failed, and while they apply Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A window in a status.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
pub struct ProcessedWindow {
    /// RFC 3339, UTC.
    pub start: DateTime<Utc>,
    /// RFC 3339, UTC.
    pub end: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;
    use serde_json::json;

    use super::*;

    fn object(spec: serde_json::Value) -> SyncExecution {
        serde_json::from_value(json!({
            "apiVersion": "sync.pncp.io/v1alpha1", "kind": "SyncExecution", "metadata": {"name": "x"}, "spec": spec,
        }))
        .unwrap()
    }

    fn backfill(start: &str, end: &str) -> serde_json::Value {
        json!({"mode": "backfill", "window": {"start": start, "end": end}})
    }

    fn refused(spec: serde_json::Value, says: &str) {
        let errors = object(spec.clone()).validate_cel().expect_err(&spec.to_string()).to_string();
        assert!(errors.contains(says), "{spec}: {errors}");
    }

    #[test]
    fn good_requests_pass_the_rules() {
        for spec in [
            json!({"mode": "update"}),
            backfill("2025-07-10T12:00:00-04:00", "2025-07-10T18:00:00-04:00"),
            json!({"mode": "update", "requestedBy": "ana", "reason": "outage", "activeDeadlineSeconds": 60, "ttlSecondsAfterFinished": 0}),
        ] {
            object(spec.clone()).validate_cel().unwrap_or_else(|errors| panic!("{spec}: {errors:?}"));
        }
    }

    #[test]
    fn what_a_mode_does_not_take_is_refused_with_the_remedy() {
        refused(json!({"mode": "backfill"}), "add window.start and window.end");
        let mut update = backfill("2025-07-10T12:00:00Z", "2025-07-10T18:00:00Z");
        update["mode"] = "update".into();
        refused(update, "remove it, or use mode: backfill");
    }

    #[test]
    fn windows_that_are_none_are_refused_with_the_remedy() {
        refused(backfill("2025-07-10T18:00:00Z", "2025-07-10T12:00:00Z"), "swap them, or choose a later end");
        refused(backfill("2025-07-10T12:00:00Z", "2025-07-10T12:00:00Z"), "swap them, or choose a later end");
        refused(backfill("2025-07-10T12:00:00.5Z", "2025-07-10T18:00:00Z"), "remove the decimals");
    }

    #[test]
    fn over_long_texts_are_refused_with_the_remedy() {
        refused(json!({"mode": "update", "reason": "r".repeat(1025)}), "shorten it");
        refused(json!({"mode": "update", "requestedBy": "r".repeat(254)}), "shorten it");
    }

    #[test]
    fn only_the_time_to_live_may_change() {
        let before = object(json!({"mode": "update", "reason": "a"}));
        object(json!({"mode": "update", "reason": "a", "ttlSecondsAfterFinished": 5})).validate_cel_update(&before).unwrap();
        for (after, field) in [
            (json!({"mode": "update", "reason": "b"}), "spec.reason"),
            (json!({"mode": "update"}), "spec.reason"),
            (json!({"mode": "update", "reason": "a", "requestedBy": "ana"}), "spec.requestedBy"),
            (json!({"mode": "update", "reason": "a", "activeDeadlineSeconds": 5}), "spec.activeDeadlineSeconds"),
            (backfill("2025-07-10T12:00:00Z", "2025-07-10T18:00:00Z"), "spec.window"),
            (backfill("2025-07-10T12:00:00Z", "2025-07-10T18:00:00Z"), "spec.mode"),
        ] {
            let errors = object(after).validate_cel_update(&before).unwrap_err().to_string();
            assert!(errors.contains(&format!("{field} cannot be changed")), "{errors}");
        }
    }

    #[test]
    fn the_names_are_those_people_type() {
        let names = SyncExecution::crd().spec.names;
        assert_eq!(names.plural, "syncexecutions");
        assert_eq!(names.short_names, Some(vec!["sx".to_owned()]));
        assert_eq!(names.categories, Some(vec!["sync".to_owned()]));
    }
}
