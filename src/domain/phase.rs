//! The phase that people see, derived from the record. Never stored in a row of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Execution, Status};

/// How far an execution got, for people. Programs read the conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, ToSchema)]
pub enum Phase {
    /// Recorded, or about to be; not confirmed by the broker yet.
    Pending,
    /// The broker confirmed the message; no worker has started on it.
    Queued,
    /// A worker started.
    Running,
    /// The worker reported success.
    Succeeded,
    /// The worker reported an error, or the deadline passed, or the request cannot be delivered.
    Failed,
    /// Ended before it was published, or cancelled by the worker.
    Cancelled,
}

impl Phase {
    /// The phase of a record.
    #[must_use]
    pub fn of(execution: &Execution) -> Self {
        match execution.status {
            Status::Success => Self::Succeeded,
            Status::Error => Self::Failed,
            Status::Cancelled => Self::Cancelled,
            Status::Running if execution.started_at.is_some() => Self::Running,
            Status::Running if execution.published_at.is_some() => Self::Queued,
            // The worker itself starts what nobody requested.
            Status::Running if execution.request.is_none() => Self::Running,
            Status::Running => Self::Pending,
        }
    }

    /// Whether nothing may change it any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// The word shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Queued => "Queued",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }
}
