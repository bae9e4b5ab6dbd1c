//! The rules of one row, said once more in plain Rust: what each statement of the store and the guard trigger make of it.
//! The model runs on this; `conformance.rs` holds it against PostgreSQL, so that the two cannot part.

use chrono::{DateTime, Utc};
use sync_operator::domain::{
    Execution, Mode, Status,
    execution::{FinishReason, PublishFailure, PublishProblem, Request},
};
use uuid::Uuid;

/// What `claimed_until` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// Nobody is publishing.
    None,
    /// A relay is.
    Held,
    /// A relay was: the message may be out.
    Over,
}

/// A row, as far as the rules look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "each stands for a column that is null or not")]
pub struct Row {
    pub status: Status,
    pub revision: i64,
    pub claim: Claim,
    pub problem: Option<PublishProblem>,
    pub published: bool,
    pub started: bool,
    pub reason: Option<FinishReason>,
    pub deleted: bool,
    pub held: bool,
    /// Its deadline passed.
    pub overdue: bool,
}

/// What is done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Claim,
    MarkPublished,
    Release(PublishProblem),
    Hold,
    Fail,
    EndOverdue,
    CancelDeleted,
    CancelAbandoned,
    NoteBrokerUnavailable,
    /// A worker's report, by whichever way.
    Report(Option<Status>),
    /// Nobody does this: time does.
    ClaimRunsOut,
}

impl Operation {
    /// Each of them.
    pub const ALL: [Self; 17] = [
        Self::Claim,
        Self::MarkPublished,
        Self::Release(PublishProblem::BrokerUnavailable),
        Self::Release(PublishProblem::Unroutable),
        Self::Release(PublishProblem::Rejected),
        Self::Hold,
        Self::Fail,
        Self::EndOverdue,
        Self::CancelDeleted,
        Self::CancelAbandoned,
        Self::NoteBrokerUnavailable,
        Self::Report(None),
        Self::Report(Some(Status::Running)),
        Self::Report(Some(Status::Success)),
        Self::Report(Some(Status::Error)),
        Self::Report(Some(Status::Cancelled)),
        Self::ClaimRunsOut,
    ];
}

impl Row {
    /// A row that was just recorded.
    pub fn recorded() -> Self {
        Self {
            status: Status::Running,
            revision: 1,
            claim: Claim::None,
            problem: None,
            published: false,
            started: false,
            reason: None,
            deleted: false,
            held: false,
            overdue: false,
        }
    }

    /// Whether the statement's WHERE finds it.
    pub fn matches(&self, operation: Operation) -> bool {
        let running = self.status == Status::Running;
        let waiting = running && !self.published;
        match operation {
            Operation::Claim => waiting && !self.deleted && !self.held && self.claim != Claim::Held,
            Operation::MarkPublished => !self.published,
            Operation::Release(_) => waiting && self.claim != Claim::None,
            Operation::Hold => !self.held,
            Operation::Fail => running,
            Operation::EndOverdue => running && self.overdue,
            Operation::CancelDeleted => waiting && (!self.deleted || self.claim == Claim::Over),
            Operation::CancelAbandoned => waiting && self.deleted && self.claim == Claim::Over,
            Operation::NoteBrokerUnavailable => {
                waiting && !self.held && self.problem != Some(PublishProblem::BrokerUnavailable) && self.claim != Claim::Held
            }
            Operation::Report(_) => true,
            Operation::ClaimRunsOut => self.claim == Claim::Held,
        }
    }

    /// The row after that: the statement's SET, and then the guard.
    pub fn after(self, operation: Operation) -> Self {
        if !self.matches(operation) {
            return self;
        }
        let mut new = self;
        match operation {
            Operation::Claim => new.claim = Claim::Held,
            Operation::MarkPublished => (new.published, new.claim, new.problem) = (true, Claim::None, None),
            Operation::Release(problem) => {
                let sent_perhaps = problem == PublishProblem::BrokerUnavailable;
                (new.claim, new.problem) = (if sent_perhaps { Claim::Over } else { Claim::None }, Some(problem));
                new.cancel_if(self.deleted);
            }
            Operation::Hold => {
                (new.held, new.claim) = (true, Claim::None);
                new.cancel_if(self.deleted);
            }
            Operation::Fail => new.end(Status::Error, FinishReason::AmbiguousLocalTime),
            Operation::EndOverdue => new.end(Status::Error, FinishReason::DeadlineExceeded),
            Operation::CancelDeleted => {
                new.deleted = true;
                if self.claim != Claim::Held {
                    new.end(Status::Cancelled, FinishReason::ObjectDeleted);
                }
            }
            Operation::CancelAbandoned => new.end(Status::Cancelled, FinishReason::ObjectDeleted),
            Operation::NoteBrokerUnavailable => new.problem = Some(PublishProblem::BrokerUnavailable),
            Operation::Report(status) => {
                new.status = status.unwrap_or(self.status);
                // Whoever reports has the message.
                (new.started, new.published, new.claim, new.problem) = (true, true, Claim::None, None);
            }
            Operation::ClaimRunsOut => new.claim = Claim::Over,
        }
        self.guarded(new, matches!(operation, Operation::Report(_)))
    }

    fn end(&mut self, status: Status, reason: FinishReason) {
        (self.status, self.reason, self.claim) = (status, Some(reason), Claim::None);
    }

    fn cancel_if(&mut self, deleted: bool) {
        if deleted {
            (self.status, self.reason) = (Status::Cancelled, Some(FinishReason::ObjectDeleted));
        }
    }

    /// What the trigger lets through: nothing changes an end, and what a reader can see moves the revision.
    fn guarded(self, mut new: Self, report: bool) -> Self {
        if self.status.is_final() {
            if report {
                return self;
            }
            (new.status, new.started, new.reason) = (self.status, self.started, self.reason);
        }
        if new.visible() != self.visible() {
            new.revision += 1;
        }
        new
    }

    fn visible(&self) -> (Status, Option<PublishProblem>, bool, bool, Option<FinishReason>) {
        (self.status, self.problem, self.published, self.started, self.reason)
    }

    /// The row as the program reads it.
    pub fn execution(&self, id: i64, uid: Uuid) -> Execution {
        let at = |reached: bool, second| reached.then(|| time(second));
        Execution {
            id,
            request: Some(Request { uid, namespace: "ns".into(), name: "x".into() }),
            mode: Mode::Update,
            window: None,
            status: self.status,
            records_processed: 0,
            duration_seconds: None,
            error_message: None,
            requested_by: None,
            reason: None,
            revision: self.revision,
            attempt: 1,
            created_at: time(0),
            updated_at: time(self.revision),
            deadline_at: None,
            publish_failure: self.problem.map(|problem| PublishFailure { problem, message: String::new(), at: time(1) }),
            published_at: at(self.published, 2),
            started_at: at(self.started, 3),
            finished_at: at(self.status.is_final(), 4),
            finish_reason: self.reason,
        }
    }
}

fn time(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_750_000_000 + second, 0).unwrap()
}
