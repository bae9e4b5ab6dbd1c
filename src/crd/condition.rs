//! The words of `status.conditions`: types and reasons, each with what it tells. They are API: never rename one.

/// Types of conditions on a SyncExecution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionType {
    /// The execution is in the database.
    Recorded,
    /// The broker confirmed the message.
    Published,
    /// It ended, well or not: the one thing to wait for.
    Finished,
    /// As batch/v1 Job: it ended well. Only present when true.
    Complete,
    /// As batch/v1 Job: it failed. Only present when true.
    Failed,
    /// kstatus: it is under way. Only present when true.
    Reconciling,
    /// kstatus: it will not go on by itself, a person must look. Only present when true.
    Stalled,
}

impl ConditionType {
    /// The word in `type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "Recorded",
            Self::Published => "Published",
            Self::Finished => "Finished",
            Self::Complete => "Complete",
            Self::Failed => "Failed",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

/// Reasons of conditions on a SyncExecution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Recorded: the row is there.
    RowWritten,
    /// Recorded=False: the database does not answer; tried again until it does.
    DatabaseUnavailable,
    /// Recorded=False, Stalled: the object shows an execution id whose row is gone. Not run again by itself.
    RecordLost,
    /// Recorded=False, Stalled: the row is older than what the object shows, as after a restore. Not run again by itself.
    RecordBehind,
    /// Published: the broker confirmed.
    Confirmed,
    /// Published=False: not tried yet, or the confirm is awaited.
    AwaitingConfirm,
    /// Published=False: no connection to the broker, or no confirm in time; tried again until it works.
    BrokerUnavailable,
    /// Published=False: the broker returned the message, the queue is missing; tried again until it works.
    Unroutable,
    /// Published=False: the broker refused the message, for instance because the queue is full; tried again until it works.
    Rejected,
    /// Published=False: it ended before it was published.
    NeverPublished,
    /// Finished=False, Reconciling: waiting for the broker.
    Pending,
    /// Finished=False, Reconciling: waiting for a worker.
    Queued,
    /// Finished=False, Reconciling: a worker is on it.
    Running,
    /// Finished, Complete: the worker reported success.
    Succeeded,
    /// Finished, Failed, Stalled: the worker reported an error.
    WorkerError,
    /// Finished, Failed, Stalled: `activeDeadlineSeconds` passed.
    DeadlineExceeded,
    /// Finished, Failed, Stalled: a bound of the window falls into a repeated hour of the worker's clock.
    AmbiguousLocalTime,
    /// Finished, Stalled: the worker reported that it was cancelled.
    Cancelled,
    /// Finished, Stalled: the object was deleted before its message was published.
    ObjectDeleted,
}

impl Reason {
    /// The word in `reason`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RowWritten => "RowWritten",
            Self::DatabaseUnavailable => "DatabaseUnavailable",
            Self::RecordLost => "RecordLost",
            Self::RecordBehind => "RecordBehind",
            Self::Confirmed => "Confirmed",
            Self::AwaitingConfirm => "AwaitingConfirm",
            Self::BrokerUnavailable => "BrokerUnavailable",
            Self::Unroutable => "Unroutable",
            Self::Rejected => "Rejected",
            Self::NeverPublished => "NeverPublished",
            Self::Pending => "Pending",
            Self::Queued => "Queued",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::WorkerError => "WorkerError",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::AmbiguousLocalTime => "AmbiguousLocalTime",
            Self::Cancelled => "Cancelled",
            Self::ObjectDeleted => "ObjectDeleted",
        }
    }
}
