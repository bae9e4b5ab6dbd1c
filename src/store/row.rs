//! A row as Postgres gives it, and its reading as an [`Execution`].

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Error;
use crate::domain::{
    Execution, Mode, Status, Window,
    execution::{FinishReason, PublishFailure, PublishProblem, Request},
};

/// The columns of [`select_executions!`], in its order.
pub(super) struct Row {
    pub id: i64,
    pub request_uid: Option<Uuid>,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub mode: String,
    pub window_start: Option<DateTime<Utc>>,
    pub window_end: Option<DateTime<Utc>>,
    pub status: String,
    pub records_processed: Option<i32>,
    pub duration_seconds: Option<f64>,
    pub error_message: Option<String>,
    pub requested_by: Option<String>,
    pub reason: Option<String>,
    pub revision: i64,
    pub attempt: i32,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub deadline_at: Option<DateTime<Utc>>,
    pub publish_problem: Option<String>,
    pub publish_message: Option<String>,
    pub publish_failed_at: Option<DateTime<Utc>>,
    pub published_at: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub finish_reason: Option<String>,
}

/// A checked query that gives [`Row`]s: text before the columns, text after them, values.
macro_rules! select_executions {
    ($before:literal, $after:literal $(, $value:expr)* $(,)?) => {
        sqlx::query_as!(
            crate::store::row::Row,
            $before
                + " id, request_uid, namespace, name, mode, window_start, window_end, status, records_processed,
                    duration_seconds::float8 AS duration_seconds, error_message, requested_by, reason, revision, attempt,
                    created_at, updated_at, deadline_at, publish_problem, publish_message, publish_failed_at,
                    published_at, started_at, finished_at, finish_reason "
                + $after,
            $($value),*
        )
    };
}
pub(super) use select_executions;

impl TryFrom<Row> for Execution {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let id = row.id;
        let unknown = |column, value: &str| Error::UnknownWord { id, column, value: value.to_owned() };
        let request = match (row.request_uid, row.namespace, row.name) {
            (Some(uid), Some(namespace), Some(name)) => Some(Request { uid, namespace, name }),
            _ => None,
        };
        let publish_failure = match (row.publish_problem, row.publish_failed_at) {
            (Some(word), Some(at)) => Some(PublishFailure {
                problem: PublishProblem::parse(&word).ok_or_else(|| unknown("publish_problem", &word))?,
                message: row.publish_message.unwrap_or_default(),
                at,
            }),
            _ => None,
        };
        Ok(Self {
            id,
            request,
            mode: Mode::parse(&row.mode).ok_or_else(|| unknown("mode", &row.mode))?,
            window: row.window_start.zip(row.window_end).and_then(|(start, end)| Window::new(start, end).ok()),
            status: Status::parse(&row.status).ok_or_else(|| unknown("status", &row.status))?,
            records_processed: row.records_processed.unwrap_or_default().into(),
            duration_seconds: row.duration_seconds,
            error_message: row.error_message,
            requested_by: row.requested_by,
            reason: row.reason,
            revision: row.revision,
            attempt: row.attempt,
            created_at: row.created_at,
            updated_at: row.updated_at,
            deadline_at: row.deadline_at,
            publish_failure,
            published_at: row.published_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            finish_reason: row
                .finish_reason
                .map(|word| FinishReason::parse(&word).ok_or_else(|| unknown("finish_reason", &word)))
                .transpose()?,
        })
    }
}

/// Reads all rows, or says which one cannot be read.
pub(super) fn executions(rows: Vec<Row>) -> Result<Vec<Execution>, Error> {
    rows.into_iter().map(Execution::try_from).collect()
}
