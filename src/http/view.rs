//! An execution as JSON. The first ten fields are those of the existing API, names and types; the rest is ours.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::{Execution, Mode, Phase, Status};

/// One execution. Times are RFC 3339, UTC.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExecutionView {
    /// Id of the record; `request_id` of the message.
    #[schema(example = 42)]
    pub id: i64,
    /// update or backfill.
    pub mode: Mode,
    /// Start of the window: asked for (backfill) or as processed (update).
    pub window_start: Option<DateTime<Utc>>,
    /// End of the window.
    pub window_end: Option<DateTime<Utc>>,
    /// running (from the moment it is recorded), success, error or cancelled.
    pub status: Status,
    /// Records ingested so far.
    pub records_processed: i64,
    /// Run time in seconds.
    pub duration_seconds: Option<f64>,
    /// What went wrong.
    pub error_message: Option<String>,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
    /// How far it got: Pending, Queued, Running, Succeeded, Failed or Cancelled.
    pub phase: Phase,
    /// `metadata.uid` of the SyncExecution; null when the worker started this by itself.
    pub request_uid: Option<Uuid>,
    /// Namespace of the SyncExecution.
    pub namespace: Option<String>,
    /// Name of the SyncExecution.
    pub name: Option<String>,
    /// Who asked, as told.
    pub requested_by: Option<String>,
    /// Why, as told.
    pub reason: Option<String>,
    /// Grows with every change.
    pub revision: i64,
    /// Which try of delivery this is.
    pub attempt: i32,
    /// When it is ended as failed unless it ended before.
    pub deadline_at: Option<DateTime<Utc>>,
    /// Why it is not published yet, if a try failed.
    pub publish_problem: Option<String>,
    /// When the broker had confirmed the message.
    pub published_at: Option<DateTime<Utc>>,
    /// When the worker started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Why it ended, when it was not the worker who ended it.
    pub finish_reason: Option<String>,
}

impl From<Execution> for ExecutionView {
    fn from(execution: Execution) -> Self {
        let phase = Phase::of(&execution);
        let (request_uid, namespace, name) =
            execution.request.map_or((None, None, None), |request| (Some(request.uid), Some(request.namespace), Some(request.name)));
        Self {
            id: execution.id,
            mode: execution.mode,
            window_start: execution.window.map(|window| window.start()),
            window_end: execution.window.map(|window| window.end()),
            status: execution.status,
            records_processed: execution.records_processed,
            duration_seconds: execution.duration_seconds,
            error_message: execution.error_message,
            created_at: execution.created_at,
            updated_at: execution.updated_at,
            phase,
            request_uid,
            namespace,
            name,
            requested_by: execution.requested_by,
            reason: execution.reason,
            revision: execution.revision,
            attempt: execution.attempt,
            deadline_at: execution.deadline_at,
            publish_problem: execution.publish_failure.map(|failure| format!("{}: {}", failure.problem.as_str(), failure.message)),
            published_at: execution.published_at,
            started_at: execution.started_at,
            finished_at: execution.finished_at,
            finish_reason: execution.finish_reason.map(|reason| reason.as_str().to_owned()),
        }
    }
}
