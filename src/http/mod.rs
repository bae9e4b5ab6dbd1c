//! The HTTP door: routes, layers, serving. One file per family of endpoints, with its types. Reads go to the record only, so
//! they are answered while Kubernetes or RabbitMQ is away.

pub mod auth;
pub mod error;
mod executions;
mod force;
pub mod health;
mod history;
mod share;
mod status;
mod view;

use std::{future::IntoFuture, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use chrono_tz::Tz;
use kube::Client;
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::set_header::SetResponseHeaderLayer;
use tracing::error;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use self::{auth::Access, error::ApiError, health::Probes, share::Reads};
use crate::{
    metrics::{HttpLabels, Metrics},
    store::Store,
};

/// Deadline of a request. More than the store's own, so that its reason is the one told.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the last answers are given to reach their clients at shutdown.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Largest body of a request.
const BODY_MAX: usize = 128 * 1024;
/// Requests answered at a time; more are turned away at once rather than queued.
const IN_FLIGHT: usize = 256;

/// What handlers work with.
#[derive(Clone)]
pub struct App {
    /// The record.
    pub store: Store,
    /// For `/sync/force`.
    pub client: Client,
    /// Where `/sync/force` creates objects.
    pub namespace: String,
    /// Their `ttlSecondsAfterFinished`.
    pub force_ttl_seconds: Option<i64>,
    /// How long `/sync/force` waits for the confirm.
    pub force_wait: Duration,
    /// The worker's zone.
    pub zone: Tz,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "sync-operator", description = "Force a sync, see how it went, report on it. Times are RFC 3339 in UTC."),
    tags((name = "sync", description = "For people"), (name = "worker", description = "For the ingestion worker")),
    modifiers(&BasicAuth)
)]
struct Document;

struct BasicAuth;

impl Modify for BasicAuth {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let basic = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Basic).build());
        openapi.components.get_or_insert_default().add_security_scheme("basic", basic);
    }
}

fn api() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(status::routes().merge(history::routes()).route_layer(middleware::from_fn_with_state(Reads::default(), share::share)))
        .merge(force::routes())
        .merge(executions::routes())
}

/// The OpenAPI 3.1 document, made from the handlers.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    api().into_openapi()
}

/// All routes of the sidecar.
pub fn router(app: App, access: Access, probes: Probes) -> Router {
    let guard = Guard { permits: Arc::new(Semaphore::new(IN_FLIGHT)), metrics: Arc::clone(&app.metrics) };
    let (sync, document) = api().split_for_parts();
    sync.with_state(app)
        .route_layer(middleware::from_fn_with_state(access, auth::require))
        .route_layer(middleware::from_fn_with_state(guard, guarded))
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .merge(health::routes(probes))
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .fallback(async || ApiError::NotFound("there is nothing at this path; see /docs".to_owned()))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .layer(SetResponseHeaderLayer::if_not_present(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")))
}

#[derive(Clone)]
struct Guard {
    permits: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// Deadline, load limit and metrics of a request. It is worked on in a task of its own: a client that goes away must break off
/// neither a statement nor the opening of a connection, or impatient clients would keep the pool empty for all.
async fn guarded(State(guard): State<Guard>, route: MatchedPath, request: Request, next: Next) -> Response {
    let work = tokio::spawn(async move {
        let started = std::time::Instant::now();
        let method = request.method().to_string();
        let response = match guard.permits.try_acquire() {
            Err(_) => ApiError::Unavailable("too many requests at the moment: try again later".to_owned()).into_response(),
            Ok(_permit) => timeout(REQUEST_TIMEOUT, next.run(request)).await.unwrap_or_else(|_| {
                ApiError::Unavailable(format!("no answer within {} s: try again later", REQUEST_TIMEOUT.as_secs())).into_response()
            }),
        };
        let labels = HttpLabels { method, route: route.as_str().to_owned(), code: response.status().as_u16() };
        guard.metrics.http_requests.get_or_create(&labels).inc();
        guard.metrics.http_seconds.observe(started.elapsed().as_secs_f64());
        response
    });
    work.await.unwrap_or_else(|broken| {
        error!(error = %broken, "answered 500");
        ApiError::Internal("the request broke off; the log of the server says why".to_owned()).into_response()
    })
}

/// Serves until `stop`; requests under way end first. A client that holds a connection and says nothing, or half a request,
/// is not waited for.
///
/// # Errors
/// When accepting connections fails for good.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    let under_way = TaskTracker::new();
    let router = router.layer(middleware::from_fn_with_state(under_way.clone(), tracked));
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned()).into_future();
    let drained = async {
        stop.cancelled().await;
        under_way.close();
        under_way.wait().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        served = served => served,
        () = drained => Ok(()),
    }
}

async fn tracked(State(under_way): State<TaskTracker>, request: Request, next: Next) -> Response {
    under_way.track_future(next.run(request)).await
}
