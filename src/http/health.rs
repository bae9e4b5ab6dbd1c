//! `/healthz`, `/readyz`, `/metrics`: for kubelets and Prometheus, without authentication. Liveness asks nobody.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use serde_json::json;

use super::error::ApiError;
use crate::{health::Health, metrics::Metrics, store::Store};

/// What the three answer from.
#[derive(Clone)]
pub struct Probes {
    /// The record.
    pub store: Store,
    /// What is known of the other dependencies.
    pub health: Arc<Health>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
}

/// The three routes.
pub fn routes(probes: Probes) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(probes)
}

async fn ready(State(probes): State<Probes>) -> impl IntoResponse {
    let mut missing = probes.health.missing();
    if let Err(error) = probes.store.ready().await {
        missing.insert(0, error.to_string());
    }
    let code = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({"ready": missing.is_empty(), "missing": missing})))
}

async fn metrics(State(probes): State<Probes>) -> Result<impl IntoResponse, ApiError> {
    let text = probes.metrics.encode().map_err(|error| ApiError::Internal(format!("metrics cannot be written: {error}")))?;
    Ok(([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}
