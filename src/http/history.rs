//! `GET /sync/history`: pages of executions, newest first, by keyset cursor.

use axum::{
    Json,
    extract::{Query, State},
};
use axum_extra::extract::WithRejection;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    App,
    error::{ApiError, Problem},
    view::ExecutionView,
};
use crate::{
    domain::{Mode, Status, window::parse_time},
    store::{Filter, Position},
};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(history))
}

/// Executions of a page when none are asked for.
const LIMIT_DEFAULT: i64 = 50;
/// Most executions of a page; more are cut to this.
const LIMIT_MAX: i64 = 200;
/// Longest text to look for, in characters.
const WORDS_MAX: usize = 256;

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// At most so many executions: 1 to 200, more are cut to 200.
    #[param(default = 50, minimum = 1)]
    limit: Option<i64>,
    /// Only this status.
    status: Option<Status>,
    /// Only this mode.
    mode: Option<Mode>,
    /// Recorded at or after: RFC 3339, or local time of the worker without offset.
    from: Option<String>,
    /// Recorded before: RFC 3339, or local time of the worker without offset.
    to: Option<String>,
    /// Only with all these words in the error message: whole words, in any order, whatever the case. Its first 4096 characters
    /// count. A page of a search can show less than `limit` although `next` says that more may follow.
    error: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// A page of history.
#[derive(Debug, Serialize, ToSchema)]
struct HistoryResponse {
    /// Newest first.
    executions: Vec<ExecutionView>,
    /// Of all executions, whatever the filter.
    total_count: i64,
    /// Of all executions.
    success_count: i64,
    /// Of all executions.
    error_count: i64,
    /// Of all executions.
    running_count: i64,
    /// Of all executions.
    cancelled_count: i64,
    /// Send it as `cursor` for the next page; null on the last one.
    next: Option<String>,
}

/// Text to look for, if there is a word in it.
fn words(text: String) -> Result<String, ApiError> {
    if !text.chars().any(char::is_alphanumeric) || text.contains('\0') || text.chars().count() > WORDS_MAX {
        return Err(ApiError::BadRequest(format!("error is no text to look for: send words, at most {WORDS_MAX} characters")));
    }
    Ok(text)
}

fn cursor(position: Position) -> String {
    URL_SAFE_NO_PAD.encode(format!("{},{}", position.created_at_micros, position.id))
}

fn position(cursor: &str) -> Option<Position> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (micros, id) = text.split_once(',')?;
    let created_at_micros = micros.parse().ok()?;
    // Times outside of Postgres' calendar would fail there, as if it were our fault.
    DateTime::<Utc>::from_timestamp_micros(created_at_micros).filter(|time| (1..=9999).contains(&time.year()))?;
    Some(Position { created_at_micros, id: id.parse().ok()? })
}

/// A page of executions, newest first.
#[utoipa::path(get, path = "/sync/history", tag = "sync", security(("basic" = [])), params(HistoryQuery),
    responses((status = 200, body = HistoryResponse), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem)))]
async fn history(
    State(app): State<App>,
    WithRejection(Query(query), _): WithRejection<Query<HistoryQuery>, ApiError>,
) -> Result<Json<HistoryResponse>, ApiError> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if limit < 1 {
        return Err(ApiError::BadRequest(format!("limit is {limit}: ask for 1 to {LIMIT_MAX} executions")));
    }
    let limit = u16::try_from(limit.min(LIMIT_MAX)).unwrap_or_default();
    let after = match query.cursor {
        None => None,
        Some(text) => {
            let unknown = || ApiError::BadRequest("cursor is none of ours: send `next` of the page before as it is".to_owned());
            Some(position(&text).ok_or_else(unknown)?)
        }
    };
    let time = |name: &str, text: Option<String>| {
        text.map(|text| parse_time(&text, app.zone).map_err(|error| ApiError::BadRequest(format!("{name}: {error}")))).transpose()
    };
    let filter = Filter {
        status: query.status,
        mode: query.mode,
        from: time("from", query.from)?,
        to: time("to", query.to)?,
        error: query.error.map(words).transpose()?,
    };
    let (page, totals) = tokio::try_join!(app.store.page(&filter, after, limit), app.store.totals())?;
    Ok(Json(HistoryResponse {
        executions: page.executions.into_iter().map(ExecutionView::from).collect(),
        total_count: totals.all().executions,
        success_count: totals.of(Status::Success).executions,
        error_count: totals.of(Status::Error).executions,
        running_count: totals.of(Status::Running).executions,
        cancelled_count: totals.of(Status::Cancelled).executions,
        next: page.next.map(cursor),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back(micros in 0_i64..4_000_000_000_000_000, id in any::<i64>()) {
            let wanted = Position { created_at_micros: micros, id };
            prop_assert_eq!(position(&cursor(wanted)), Some(wanted));
        }

        #[test]
        fn no_text_makes_a_cursor_panic(text in ".{0,60}") {
            let _ = position(&text);
        }
    }
}
