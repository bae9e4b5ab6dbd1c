//! `/sync/executions`: one execution, and the reports of workers on it.

use axum::{
    Json,
    extract::{Path, State},
    http::{StatusCode, header},
    response::IntoResponse,
};
use axum_extra::extract::WithRejection;
use serde::Deserialize;
use tracing::{info, warn};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    App,
    error::{ApiError, Problem},
    view::ExecutionView,
};
use crate::{
    domain::{Execution, Mode, Report},
    metrics::ReportLabels,
    store::{Opened, Reported},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read, report)).routes(routes!(open))
}

fn unknown(id: &str) -> ApiError {
    ApiError::NotFound(format!("there is no execution {id}: see /sync/history for those that are"))
}

async fn find(app: &App, id: &str) -> Result<Option<Execution>, ApiError> {
    if let Ok(id) = id.parse::<i64>() {
        return Ok(app.store.by_id(id).await?);
    }
    match id.parse::<Uuid>() {
        Ok(uid) => Ok(app.store.by_uid(uid).await?),
        Err(_) => Err(ApiError::BadRequest("an execution is named by its id (a number) or by the uid of its SyncExecution".to_owned())),
    }
}

/// One execution, by its id or by the uid of its SyncExecution.
#[utoipa::path(get, path = "/sync/executions/{id}", tag = "sync", security(("basic" = [])),
    params(("id" = String, Path, description = "Id of the execution, or metadata.uid of its SyncExecution", example = "42")),
    responses((status = 200, body = ExecutionView), (status = 400, body = Problem), (status = 401, body = Problem),
              (status = 404, body = Problem), (status = 503, body = Problem)))]
async fn read(
    State(app): State<App>,
    WithRejection(Path(id), _): WithRejection<Path<String>, ApiError>,
) -> Result<Json<ExecutionView>, ApiError> {
    Ok(Json(find(&app, &id).await?.ok_or_else(|| unknown(&id))?.into()))
}

/// A worker's report: started, progress, or the end. Repeats are harmless; an end is final.
#[utoipa::path(patch, path = "/sync/executions/{id}", tag = "worker", security(("basic" = [])), request_body = Report,
    params(("id" = String, Path, description = "`request_id` of the message, or metadata.uid of the SyncExecution", example = "42")),
    responses((status = 200, body = ExecutionView), (status = 400, body = Problem), (status = 401, body = Problem), (status = 404, body = Problem),
              (status = 409, description = "The execution ended before, and otherwise: nothing was changed", body = Problem),
              (status = 503, body = Problem)))]
async fn report(
    State(app): State<App>,
    WithRejection(Path(id), _): WithRejection<Path<String>, ApiError>,
    WithRejection(Json(report), _): WithRejection<Json<Report>, ApiError>,
) -> Result<Json<ExecutionView>, ApiError> {
    let report = report.validate(app.zone).map_err(|error| {
        app.count_report("invalid");
        ApiError::BadRequest(error.to_string())
    })?;
    let row_id = match id.parse::<i64>() {
        Ok(id) => id,
        Err(_) => find(&app, &id).await?.ok_or_else(|| unknown(&id))?.id,
    };
    match app.store.report(row_id, &report).await? {
        Reported::Accepted(execution) => {
            app.count_report("accepted");
            info!(
                execution.id = row_id,
                status = execution.status.as_str(),
                records = execution.records_processed,
                via = "http",
                "report accepted"
            );
            Ok(Json((*execution).into()))
        }
        Reported::Contradicts(execution) => {
            app.count_report("contradicts");
            let status = execution.status.as_str();
            warn!(execution.id = row_id, status, via = "http", "report contradicts a finished execution: refused");
            Err(ApiError::Conflict(format!(
                "execution {row_id} ended as {status}, which is final: this report changed nothing, do not send it again"
            )))
        }
        Reported::Unknown => {
            app.count_report("unknown");
            Err(unknown(&id))
        }
    }
}

/// A run that a worker starts by itself, or whose id it did not read.
#[derive(Debug, Deserialize, ToSchema)]
struct OpenRequest {
    /// update or backfill.
    mode: Mode,
    #[serde(flatten)]
    report: Report,
}

/// Opens the record of a run: the oldest published, unstarted execution of that mode and window (200), or else a new one (201).
#[utoipa::path(post, path = "/sync/executions", tag = "worker", security(("basic" = [])), request_body = OpenRequest,
    responses((status = 200, description = "It is an execution that was asked for", body = ExecutionView),
              (status = 201, description = "A new execution was recorded", body = ExecutionView),
              (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem)))]
async fn open(
    State(app): State<App>,
    WithRejection(Json(request), _): WithRejection<Json<OpenRequest>, ApiError>,
) -> Result<impl IntoResponse, ApiError> {
    let report = request.report.validate(app.zone).map_err(|error| ApiError::BadRequest(error.to_string()))?;
    if request.mode == Mode::Backfill && report.window.is_none() {
        return Err(ApiError::BadRequest("a backfill has a window: send window_start and window_end".to_owned()));
    }
    let (code, execution) = match app.store.open(request.mode, &report).await? {
        Opened::Matched(execution) => (StatusCode::OK, execution),
        Opened::Created(execution) => (StatusCode::CREATED, execution),
    };
    app.count_report("accepted");
    info!(
        execution.id = execution.id,
        mode = execution.mode.as_str(),
        new = code == StatusCode::CREATED,
        via = "http",
        "run opened by a worker"
    );
    let location = format!("/sync/executions/{}", execution.id);
    Ok((code, [(header::LOCATION, location)], Json(ExecutionView::from(*execution))))
}

impl App {
    fn count_report(&self, outcome: &'static str) {
        self.metrics.reports.get_or_create(&ReportLabels { via: "http", outcome }).inc();
    }
}
