//! The one envelope of errors: `application/problem+json` (RFC 9457) with a `detail` that says what to do.

use axum::{
    Json,
    extract::rejection::{JsonRejection, PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tracing::{error, warn};
use utoipa::ToSchema;

use crate::store;

/// The body of every answer with an error.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// The words of the status code.
    #[schema(example = "Bad Request")]
    pub title: String,
    /// The status code.
    #[schema(example = 400)]
    pub status: u16,
    /// What happened and what to do.
    #[schema(example = "a backfill needs data_ini and data_fim")]
    pub detail: String,
}

/// An answer with an error.
#[derive(Debug)]
pub enum ApiError {
    /// 400: the caller can mend it.
    BadRequest(String),
    /// 401.
    Unauthorized,
    /// 404.
    NotFound(String),
    /// 405.
    MethodNotAllowed,
    /// 409: it contradicts what is recorded.
    Conflict(String),
    /// 503: later it may work.
    Unavailable(String),
    /// 500: neither the caller nor time can mend it.
    Internal(String),
}

impl ApiError {
    const fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn detail(self) -> String {
        match self {
            Self::BadRequest(detail)
            | Self::NotFound(detail)
            | Self::Conflict(detail)
            | Self::Unavailable(detail)
            | Self::Internal(detail) => detail,
            Self::Unauthorized => "send the administrator's name and password by HTTP Basic authentication".to_owned(),
            Self::MethodNotAllowed => "this path does not take that method; see /docs".to_owned(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let challenge = matches!(self, Self::Unauthorized);
        let problem =
            Problem { title: status.canonical_reason().unwrap_or_default().to_owned(), status: status.as_u16(), detail: self.detail() };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(r#"Basic realm="sync-operator", charset="UTF-8""#));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

impl From<store::Error> for ApiError {
    fn from(error: store::Error) -> Self {
        if error.is_unavailable() {
            warn!(error = %error, "answered 503");
            return Self::Unavailable(format!("{error}; try again later"));
        }
        error!(error = %error, "answered 500");
        Self::Internal("the record cannot be read; the log of the server says why".to_owned())
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }
}
