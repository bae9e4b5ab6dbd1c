//! `POST /sync/force`: creates a SyncExecution, as any other client of the cluster would, and waits a little for the broker's
//! confirm. There is no other way in.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use axum_extra::extract::WithRejection;
use kube::{Api, ResourceExt, api::PostParams};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    App,
    auth::Caller,
    error::{ApiError, Problem},
};
use crate::{
    crash,
    crd::{SyncExecution, SyncExecutionSpec, SyncWindow},
    domain::{Execution, Mode, Window, window::parse_time},
    kubernetes::{describe, never_sent},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(force))
}

/// Deadline of a call to the API server.
const CREATE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the record is looked at while waiting for the confirm.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest `reason`, as the SyncExecution takes it.
const REASON_MAX: usize = 1024;
/// Longest `Idempotency-Key`.
const KEY_MAX: usize = 255;

/// What to sync.
#[derive(Debug, Deserialize, ToSchema)]
struct ForceRequest {
    /// update (the last minutes) or backfill (a window).
    mode: Mode,
    /// Start of a backfill: local time of the worker without offset, or RFC 3339.
    #[schema(example = "2025-07-10T12:00:00")]
    data_ini: Option<String>,
    /// End of a backfill.
    #[schema(example = "2025-07-10T18:00:00")]
    data_fim: Option<String>,
    /// Why, for the record.
    reason: Option<String>,
}

/// The request was taken.
#[derive(Debug, Serialize, ToSchema)]
struct ForceResponse {
    /// Always true.
    success: bool,
    /// What became of it so far.
    #[schema(example = "Sync request published: backfill")]
    message: String,
    /// Id of the execution; the uid of its SyncExecution while it is not recorded yet. `/sync/executions/{…}` takes both.
    #[schema(example = "42")]
    request_id: String,
}

/// Asks for a sync. With an `Idempotency-Key` the same request can be sent again without running twice.
#[utoipa::path(post, path = "/sync/force", tag = "sync", security(("basic" = [])), request_body = ForceRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key with the same body gives the same execution; with another body 409")),
    responses((status = 200, description = "The broker confirmed the message", body = ForceResponse),
              (status = 202, description = "Accepted, not published yet", body = ForceResponse),
              (status = 400, body = Problem), (status = 401, body = Problem),
              (status = 409, description = "The Idempotency-Key was used with another body", body = Problem), (status = 503, body = Problem)))]
async fn force(
    State(app): State<App>,
    Extension(Caller(caller)): Extension<Caller>,
    headers: HeaderMap,
    WithRejection(Json(request), _): WithRejection<Json<ForceRequest>, ApiError>,
) -> Result<Response, ApiError> {
    let window = window(&request, &app)?;
    if request.reason.as_ref().is_some_and(|reason| reason.chars().count() > REASON_MAX) {
        return Err(ApiError::BadRequest(format!("reason is longer than {REASON_MAX} characters: shorten it")));
    }
    let key = idempotency_key(&headers)?;
    let name = match &key {
        Some(key) => format!("force-{}", hex(&Sha256::digest(key)[..12])),
        None => format!("force-{}", &Uuid::new_v4().simple().to_string()[..16]),
    };
    let wanted = Wanted { mode: request.mode, window, reason: request.reason };
    if key.is_some()
        && let Some(known) = app.store.by_name(&app.namespace, &name).await?
    {
        // The object may be gone by now; the record remembers the key.
        wanted.agrees_with_record(&known)?;
        return Ok(answer(wanted.mode, Some(&known), known.request.as_ref().map(|request| request.uid)));
    }
    let object = create(&app, &name, &wanted, caller, key.is_some()).await?;
    let uid: Uuid = object
        .uid()
        .and_then(|uid| uid.parse().ok())
        .ok_or_else(|| ApiError::Internal("the API server gave the SyncExecution no uid".to_owned()))?;
    info!(object.namespace = app.namespace, object.name = name, object.uid = %uid, mode = wanted.mode.as_str(), "sync requested by HTTP");
    let execution = wait_for_confirm(&app, uid).await;
    Ok(answer(wanted.mode, execution.as_ref(), Some(uid)))
}

/// What is asked, in the terms of the record.
struct Wanted {
    mode: Mode,
    window: Option<Window>,
    reason: Option<String>,
}

impl Wanted {
    fn other_body() -> ApiError {
        ApiError::Conflict("this Idempotency-Key was used with another request: use a new key".to_owned())
    }

    fn agrees_with_record(&self, known: &Execution) -> Result<(), ApiError> {
        // An update's recorded window is the worker's.
        let same_window = self.mode == Mode::Update || known.window == self.window;
        if known.mode == self.mode && same_window && known.reason == self.reason { Ok(()) } else { Err(Self::other_body()) }
    }

    fn agrees_with_object(&self, known: &SyncExecutionSpec) -> Result<(), ApiError> {
        let same = known.mode == self.mode && known.window == self.spec_window() && known.reason == self.reason;
        if same { Ok(()) } else { Err(Self::other_body()) }
    }

    fn spec_window(&self) -> Option<SyncWindow> {
        self.window.map(|window| SyncWindow { start: window.start(), end: window.end() })
    }
}

fn window(request: &ForceRequest, app: &App) -> Result<Option<Window>, ApiError> {
    let bad = |detail: String| Err(ApiError::BadRequest(detail));
    match (request.mode, &request.data_ini, &request.data_fim) {
        (Mode::Update, None, None) => Ok(None),
        (Mode::Update, ..) => {
            bad("an update takes no data_ini and data_fim, the worker computes its own window: remove them, or use mode backfill"
                .to_owned())
        }
        (Mode::Backfill, Some(start), Some(end)) => {
            let time =
                |name: &str, text: &str| parse_time(text, app.zone).map_err(|error| ApiError::BadRequest(format!("{name}: {error}")));
            let window =
                Window::new(time("data_ini", start)?, time("data_fim", end)?).map_err(|error| ApiError::BadRequest(error.to_string()))?;
            window.to_local(app.zone).map_err(|error| ApiError::BadRequest(error.to_string()))?;
            Ok(Some(window))
        }
        (Mode::Backfill, ..) => bad("a backfill needs data_ini and data_fim: add both, or use mode update for the last minutes".to_owned()),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.trim().is_empty() && key.len() <= KEY_MAX => Ok(Some(key.trim().to_owned())),
        _ => Err(ApiError::BadRequest(format!("Idempotency-Key: send 1 to {KEY_MAX} ASCII characters"))),
    }
}

async fn create(app: &App, name: &str, wanted: &Wanted, caller: String, keyed: bool) -> Result<SyncExecution, ApiError> {
    let api: Api<SyncExecution> = Api::namespaced(app.client.clone(), &app.namespace);
    let spec = SyncExecutionSpec {
        mode: wanted.mode,
        window: wanted.spec_window(),
        requested_by: Some(caller),
        reason: wanted.reason.clone(),
        active_deadline_seconds: None,
        ttl_seconds_after_finished: app.force_ttl_seconds,
    };
    let object = SyncExecution::new(name, spec);
    let params = PostParams::default();
    match timeout(CREATE_TIMEOUT, crash::effect("create an object", || api.create(&params, &object))).await {
        Ok(Ok(object)) => Ok(object),
        Ok(Err(kube::Error::Api(refusal))) if keyed && refusal.is_already_exists() => {
            let known = match timeout(CREATE_TIMEOUT, api.get(name)).await {
                Ok(known) => known.map_err(|error| refused(app, &error))?,
                Err(_) => return Err(silent()),
            };
            wanted.agrees_with_object(&known.spec)?;
            Ok(known)
        }
        Ok(Err(error)) => Err(refused(app, &error)),
        Err(_) => Err(silent()),
    }
}

fn silent() -> ApiError {
    unknown(&format!("gave no answer within {} s", CREATE_TIMEOUT.as_secs()))
}

/// The object may have been created, or not.
fn unknown(what: &str) -> ApiError {
    ApiError::Unavailable(format!(
        "Kubernetes {what}: the request may have been taken; send it again with the same Idempotency-Key, or look at /sync/history"
    ))
}

fn refused(app: &App, error: &kube::Error) -> ApiError {
    warn!(error = describe(error), object.namespace = app.namespace, "a SyncExecution could not be created");
    match error {
        kube::Error::Api(status) if status.is_invalid() => ApiError::BadRequest(status.message.clone()),
        kube::Error::Api(status) if status.is_not_found() => ApiError::Unavailable(format!(
            "the cluster does not know SyncExecutions, or has no namespace {}: apply crds/, or set --force-namespace",
            app.namespace
        )),
        kube::Error::Api(status) if status.code >= 500 => unknown(&format!("answered {} ({})", status.code, status.message)),
        kube::Error::Api(status) => ApiError::Unavailable(format!("Kubernetes refused the request: {}", status.message)),
        error if never_sent(error) => {
            ApiError::Unavailable("Kubernetes cannot be reached, so the request was not taken: try again later".to_owned())
        }
        _ => unknown("broke off its answer"),
    }
}

/// The execution once it is published or ended, or as it is after the wait; `None` while it is not recorded.
async fn wait_for_confirm(app: &App, uid: Uuid) -> Option<Execution> {
    let until = Instant::now() + app.force_wait;
    loop {
        // A database that is away makes it 202: the object is the request, and is kept.
        let execution = app.store.by_uid(uid).await.ok().flatten();
        let settled = execution.as_ref().is_some_and(|execution| execution.published_at.is_some() || execution.status.is_final());
        if settled || Instant::now() + LOOK_EVERY > until {
            return execution;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn answer(mode: Mode, execution: Option<&Execution>, uid: Option<Uuid>) -> Response {
    let published = execution.is_some_and(|execution| execution.published_at.is_some());
    let request_id = execution.map_or_else(|| uid.unwrap_or_default().to_string(), |execution| execution.id.to_string());
    let (code, word) = if published { (StatusCode::OK, "published") } else { (StatusCode::ACCEPTED, "accepted") };
    let location = format!("/sync/executions/{request_id}");
    let body = ForceResponse { success: true, message: format!("Sync request {word}: {}", mode.as_str()), request_id };
    (code, [(header::LOCATION, location)], Json(body)).into_response()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
