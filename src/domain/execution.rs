//! One execution as it is recorded: the row of `sync_executions` in the types the rest of the program uses.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Window;

/// What is asked of the worker. The same words in Kubernetes, SQL, AMQP and REST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The last minutes, as the worker computes them when it takes the message.
    Update,
    /// A given window.
    Backfill,
}

impl Mode {
    /// All of them, in the order of the column's check.
    pub const ALL: [Self; 2] = [Self::Update, Self::Backfill];

    /// The word in the column `mode`, the message and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Backfill => "backfill",
        }
    }

    /// The mode of a word of [`Mode::as_str`]; anything else is `None`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == word)
    }
}

/// How an execution stands, in the words of the column `status`. Every status but `Running` is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Recorded and not ended: waiting, queued or in the worker's hands.
    Running,
    /// The worker reported success.
    Success,
    /// The worker reported an error, or the execution was ended as failed.
    Error,
    /// Ended before it was published, or cancelled by the worker.
    Cancelled,
}

impl Status {
    /// All of them, in the order of the column's check.
    pub const ALL: [Self; 4] = [Self::Running, Self::Success, Self::Error, Self::Cancelled];

    /// The word in the column `status`, in reports and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Error => "error",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of a word of [`Status::as_str`]; anything else is `None`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether nothing may change it any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Running)
    }
}

/// The SyncExecution that asked for an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `metadata.uid`.
    pub uid: Uuid,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// Why the last try to publish failed. The words are reasons of the condition `Published`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PublishProblem {
    /// No connection, or no confirm in time.
    BrokerUnavailable,
    /// The broker returned the message: the queue is gone.
    Unroutable,
    /// The broker refused the message (`basic.nack`), for instance because the queue is full.
    Rejected,
}

impl PublishProblem {
    /// The word in the column `publish_problem`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BrokerUnavailable => "BrokerUnavailable",
            Self::Unroutable => "Unroutable",
            Self::Rejected => "Rejected",
        }
    }

    /// The problem of a word of [`PublishProblem::as_str`]; anything else is `None`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::BrokerUnavailable, Self::Unroutable, Self::Rejected].into_iter().find(|problem| problem.as_str() == word)
    }
}

/// Why an execution ended when it was not the worker who ended it. The words are reasons of the condition `Finished`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// `activeDeadlineSeconds` passed.
    DeadlineExceeded,
    /// The SyncExecution was deleted before its message was published.
    ObjectDeleted,
    /// A bound of the window cannot be told to the worker in its local time.
    AmbiguousLocalTime,
}

impl FinishReason {
    /// The word in the column `finish_reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::ObjectDeleted => "ObjectDeleted",
            Self::AmbiguousLocalTime => "AmbiguousLocalTime",
        }
    }

    /// The reason of a word of [`FinishReason::as_str`]; anything else is `None`.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::DeadlineExceeded, Self::ObjectDeleted, Self::AmbiguousLocalTime].into_iter().find(|reason| reason.as_str() == word)
    }
}

/// The last failed try to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishFailure {
    /// What kind of failure.
    pub problem: PublishProblem,
    /// What the broker or the connection said.
    pub message: String,
    /// When, by the clock of the database.
    pub at: DateTime<Utc>,
}

/// A row of `sync_executions`. All times are UTC, by the clock of the database.
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    /// The execution id: `request_id` of messages and answers.
    pub id: i64,
    /// Who asked; `None` when the worker started this by itself.
    pub request: Option<Request>,
    /// What was asked.
    pub mode: Mode,
    /// From when to when: as asked for a backfill, as the worker reported it for an update.
    pub window: Option<Window>,
    /// How it stands.
    pub status: Status,
    /// Records ingested so far.
    pub records_processed: i64,
    /// Run time in seconds, two decimals.
    pub duration_seconds: Option<f64>,
    /// What went wrong, in full.
    pub error_message: Option<String>,
    /// Who asked, as told.
    pub requested_by: Option<String>,
    /// Why, as told.
    pub reason: Option<String>,
    /// Grows with every change that a reader can see.
    pub revision: i64,
    /// Which try of delivery this is; part of the message id.
    pub attempt: i32,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
    /// When it last changed visibly.
    pub updated_at: DateTime<Utc>,
    /// When it is ended as failed unless it ended before.
    pub deadline_at: Option<DateTime<Utc>>,
    /// Why the message is not out yet, if a try failed.
    pub publish_failure: Option<PublishFailure>,
    /// When the broker's confirm was marked.
    pub published_at: Option<DateTime<Utc>>,
    /// When the worker started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// Why it ended, when it was not the worker who ended it.
    pub finish_reason: Option<FinishReason>,
}

/// A record for unit tests, to be changed where a test is about something.
#[cfg(test)]
pub(crate) mod example {
    use chrono::{DateTime, Utc};

    use super::{Execution, Mode, Request, Status};

    /// So many seconds, and a quarter, after some moment.
    pub(crate) fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_750_000_000 + second, 250_000_000).unwrap()
    }

    /// An update, recorded at `at(0)`, of which nothing more is known.
    pub(crate) fn recorded() -> Execution {
        Execution {
            id: 42,
            request: Some(Request { uid: uuid::Uuid::nil(), namespace: "ns".into(), name: "x".into() }),
            mode: Mode::Update,
            window: None,
            status: Status::Running,
            records_processed: 0,
            duration_seconds: None,
            error_message: None,
            requested_by: None,
            reason: None,
            revision: 1,
            attempt: 1,
            created_at: at(0),
            updated_at: at(0),
            deadline_at: None,
            publish_failure: None,
            published_at: None,
            started_at: None,
            finished_at: None,
            finish_reason: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_as_what_they_were() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        for mode in [Mode::Update, Mode::Backfill] {
            assert_eq!(Mode::parse(mode.as_str()), Some(mode));
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
        }
        assert_eq!(Status::parse("done"), None);
    }

    #[test]
    fn only_running_is_not_final() {
        assert_eq!(Status::ALL.map(Status::is_final), [false, true, true, true]);
    }
}
