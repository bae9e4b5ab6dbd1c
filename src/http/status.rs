//! `GET /sync/status` and `GET /sync/dashboard`: how it stands, from the record alone.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    error::{ApiError, Problem},
};
use crate::{
    domain::{Execution, Mode, Phase, Status},
    store::Totals,
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(dashboard))
}

/// The newest execution.
#[derive(Debug, Serialize, ToSchema)]
struct StatusResponse {
    /// When the newest execution was recorded; null when there is none.
    last_execution: Option<DateTime<Utc>>,
    /// running, success, error or cancelled: of the newest execution; idle when there is none.
    #[schema(example = "success")]
    status: &'static str,
    /// Its mode.
    mode: Option<Mode>,
    /// Start of its window.
    window_start: Option<DateTime<Utc>>,
    /// End of its window.
    window_end: Option<DateTime<Utc>>,
    /// Records it ingested so far.
    records_processed: i64,
    /// Its run time in seconds.
    duration_seconds: Option<f64>,
    /// What went wrong with it.
    error_message: Option<String>,
    /// When it last changed.
    last_updated: Option<DateTime<Utc>>,
    /// Its id.
    id: Option<i64>,
    /// How far it got.
    phase: Option<Phase>,
    /// Namespace of its SyncExecution.
    namespace: Option<String>,
    /// Name of its SyncExecution.
    name: Option<String>,
}

fn status_word(newest: Option<&Execution>) -> &'static str {
    newest.map_or("idle", |execution| execution.status.as_str())
}

/// How the newest execution stands.
#[utoipa::path(get, path = "/sync/status", tag = "sync", security(("basic" = [])),
    responses((status = 200, body = StatusResponse), (status = 401, body = Problem), (status = 503, body = Problem)))]
async fn status(State(app): State<App>) -> Result<Json<StatusResponse>, ApiError> {
    let newest = app.store.newest().await?;
    let status = status_word(newest.as_ref());
    let Some(execution) = newest else {
        return Ok(Json(StatusResponse {
            last_execution: None,
            status,
            mode: None,
            window_start: None,
            window_end: None,
            records_processed: 0,
            duration_seconds: None,
            error_message: None,
            last_updated: None,
            id: None,
            phase: None,
            namespace: None,
            name: None,
        }));
    };
    let phase = Some(Phase::of(&execution));
    let (namespace, name) = execution.request.map_or((None, None), |request| (Some(request.namespace), Some(request.name)));
    Ok(Json(StatusResponse {
        last_execution: Some(execution.created_at),
        status,
        mode: Some(execution.mode),
        window_start: execution.window.map(|window| window.start()),
        window_end: execution.window.map(|window| window.end()),
        records_processed: execution.records_processed,
        duration_seconds: execution.duration_seconds,
        error_message: execution.error_message,
        last_updated: Some(execution.updated_at),
        id: Some(execution.id),
        phase,
        namespace,
        name,
    }))
}

/// Sums over all executions.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct DashboardResponse {
    /// All executions.
    total_executions: i64,
    /// Successes among those that ended as success or error.
    #[schema(example = "97.5%")]
    success_rate: String,
    /// Mean run time of all that have one.
    #[schema(example = "12.3")]
    avg_duration_seconds: String,
    /// Recorded in the last 24 hours.
    last_24h_executions: i64,
    /// The `status` of `/sync/status`.
    #[schema(example = "idle")]
    current_status: &'static str,
    /// How many succeeded.
    success_count: i64,
    /// How many failed.
    error_count: i64,
    /// How many are not ended.
    running_count: i64,
    /// How many were cancelled.
    cancelled_count: i64,
}

fn summarize(totals: &Totals, last_24h: i64, current_status: &'static str) -> DashboardResponse {
    let count = |status| totals.of(status).executions;
    let (success, error) = (count(Status::Success), count(Status::Error));
    let all = totals.all();
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let ratio = |part: f64, whole: i64| if whole > 0 { part / whole as f64 } else { 0.0 };
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let success_rate = format!("{:.1}%", 100.0 * ratio(success as f64, success + error));
    DashboardResponse {
        total_executions: all.executions,
        success_rate,
        avg_duration_seconds: format!("{:.1}", ratio(all.duration_seconds, all.durations)),
        last_24h_executions: last_24h,
        current_status,
        success_count: success,
        error_count: error,
        running_count: count(Status::Running),
        cancelled_count: count(Status::Cancelled),
    }
}

/// Sums over all executions.
#[utoipa::path(get, path = "/sync/dashboard", tag = "sync", security(("basic" = [])),
    responses((status = 200, body = DashboardResponse), (status = 401, body = Problem), (status = 503, body = Problem)))]
async fn dashboard(State(app): State<App>) -> Result<Json<DashboardResponse>, ApiError> {
    let (totals, last_24h, newest) = tokio::try_join!(app.store.totals(), app.store.last_24h(), app.store.newest())?;
    Ok(Json(summarize(&totals, last_24h, status_word(newest.as_ref()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_executions_nothing_is_divided_by_zero() {
        let empty = summarize(&Totals::default(), 0, "idle");
        assert_eq!((empty.success_rate.as_str(), empty.avg_duration_seconds.as_str()), ("0.0%", "0.0"));
    }
}
