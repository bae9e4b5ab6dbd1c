//! What there is: objects, rows, lease, replicas, queue, reports under way. Plain data, and small questions to it.

use std::{cell::RefCell, collections::HashMap};

use sync_operator::{
    controller::{object, status},
    domain::{Mode, Phase, Status, execution::PublishProblem, message::Delivery},
};
use uuid::Uuid;

use super::row::{Claim, Operation, Row};

/// What the API server says of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Existence {
    ToBeCreated,
    There,
    Gone,
}

/// A SyncExecution. Its number stands for its uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    pub existence: Existence,
    pub shown: Option<Shown>,
    /// Whether a status once went back.
    pub went_back: bool,
    /// Whether it was deleted, unpublished, while nobody led.
    pub deleted_unseen: bool,
}

/// A status, as far as the rules for statuses look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shown {
    pub execution: usize,
    pub revision: i64,
    pub phase: Phase,
    pub published: bool,
}

impl Shown {
    /// The status of a row, as the controller computes it.
    pub fn of(execution: usize, entry: &Entry) -> Self {
        thread_local! {
            // There are few rows and many states, and a status has many words.
            static KNOWN: RefCell<HashMap<(usize, Row), Shown>> = RefCell::default();
        }
        let compute = || {
            let status = status::of(&entry.row.execution(id(execution), uid(entry.object)), Some(1));
            Self {
                execution: status.execution_id.unwrap().parse::<usize>().unwrap() - 1,
                revision: status.revision.unwrap(),
                phase: status.phase.unwrap(),
                published: status.publish_time.is_some(),
            }
        };
        KNOWN.with_borrow_mut(|known| *known.entry((execution, entry.row)).or_insert_with(compute))
    }

    /// Whether it shows more than that row.
    pub fn shows_more_than(self, execution: usize, entry: &Entry) -> bool {
        let shown = object::Shown { phase: Some(self.phase), revision: Some(self.revision), ..object::Shown::default() };
        status::shows_more_than(&shown, &entry.row.execution(id(execution), uid(entry.object)))
    }

    /// Whether `next` takes back what this one showed: what the CRD's rules on a status refuse.
    pub fn is_taken_back_by(self, next: Self) -> bool {
        next.revision < self.revision || (self.phase.is_final() && next.phase != self.phase)
    }
}

/// A row, and what happened to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub object: usize,
    pub row: Row,
    pub attempt: i32,
    /// Copies of its message that reached the queue.
    pub sent: u8,
    /// Reasons for another copy.
    pub excuses: u8,
    /// Whether a worker has taken a copy.
    pub taken: bool,
    first_attempt: i32,
    /// Whether two copies had different ids.
    pub other_id: bool,
    end: Option<Status>,
    /// Whether its end changed.
    pub end_changed: bool,
}

impl Entry {
    pub fn recorded(object: usize) -> Self {
        Self {
            object,
            row: Row::recorded(),
            attempt: 1,
            sent: 0,
            excuses: 0,
            taken: false,
            first_attempt: 1,
            other_id: false,
            end: None,
            end_changed: false,
        }
    }

    pub fn apply(&mut self, operation: Operation) {
        self.row = self.row.after(operation);
        self.note_end();
    }

    pub fn note_end(&mut self) {
        match self.end {
            None => self.end = self.row.status.is_final().then_some(self.row.status),
            Some(end) => self.end_changed |= end != self.row.status,
        }
    }

    pub fn delivery(&self, execution: usize) -> Delivery {
        Delivery {
            id: id(execution),
            request_uid: uid(self.object),
            attempt: self.attempt,
            mode: Mode::Update,
            window: None,
            created_at: chrono::DateTime::UNIX_EPOCH,
        }
    }

    /// Its message reaches the queue.
    pub fn enqueued(&mut self, execution: usize) {
        if self.sent == 0 {
            self.first_attempt = self.attempt;
        }
        self.sent += 1;
        let first = Self { attempt: self.first_attempt, ..*self };
        self.other_id |= self.delivery(execution).message_id() != first.delivery(execution).message_id();
    }

    pub fn is_waiting(&self) -> bool {
        self.row.status == Status::Running && !self.row.published
    }
}

pub fn id(execution: usize) -> i64 {
    i64::try_from(execution).unwrap() + 1
}

pub fn uid(object: usize) -> Uuid {
    Uuid::from_u128(u128::try_from(object).unwrap() + 1)
}

/// The Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    pub holder: Option<usize>,
    /// Thirds of its duration since it last changed, at most three.
    pub age: u8,
}

/// A status write under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    pub object: usize,
    pub shown: Shown,
}

/// What a replica does with the messages that it claimed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Relay {
    #[default]
    Idle,
    Claimed(Vec<usize>),
    /// It asked whether it leads, and publishes.
    Sending(Vec<usize>),
    /// To be marked, and then to be released.
    Answered(Vec<usize>, Vec<(usize, PublishProblem)>),
    Failed(Vec<(usize, PublishProblem)>),
}

impl Relay {
    /// Whether this execution is in its hands.
    pub fn has(&self, execution: usize) -> bool {
        match self {
            Self::Idle => false,
            Self::Claimed(batch) | Self::Sending(batch) => batch.contains(&execution),
            Self::Answered(confirmed, failed) => confirmed.contains(&execution) || failed.iter().any(|(of, _)| *of == execution),
            Self::Failed(failed) => failed.iter().any(|(of, _)| *of == execution),
        }
    }
}

/// What a replica knows of an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Known {
    /// What the cache has of it.
    pub cached: Option<Object>,
    /// Whether the watch told of its deletion, and that is not settled yet.
    pub deleted: bool,
    /// The write under way.
    pub writing: Option<Shown>,
    /// What was written or refused last, until the watch tells of a change.
    pub answered: Option<Shown>,
}

/// One of the processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    pub alive: bool,
    /// Thirds of the lease since its last renewal began, at most three; `None` when it stands by.
    pub term: Option<u8>,
    pub listed: bool,
    pub swept: bool,
    pub known: Vec<Known>,
    pub relay: Relay,
}

impl Replica {
    pub fn standby(objects: usize) -> Self {
        Self { alive: true, term: None, listed: false, swept: false, known: vec![Known::default(); objects], relay: Relay::Idle }
    }

    /// Some order of replicas, so that states which differ only by who is who count once.
    pub fn rank(&self) -> (bool, Option<u8>, bool, bool, usize) {
        let busy = match &self.relay {
            Relay::Idle => 0,
            Relay::Claimed(_) => 1,
            Relay::Sending(_) => 2,
            Relay::Answered(..) => 3,
            Relay::Failed(_) => 4,
        };
        (self.alive, self.term, self.listed, self.swept, busy)
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub objects: Vec<Object>,
    pub entries: Vec<Entry>,
    pub lease: Lease,
    pub replicas: [Replica; 2],
    /// Messages in the queue, by execution, in no order.
    pub queue: Vec<usize>,
    /// Reports under way, in no order.
    pub reports: Vec<(usize, Status)>,
    /// Writes whose senders wait no more: they may still come.
    pub strays: Vec<Write>,
    /// Whether an object was told to be ahead of its row.
    pub false_alarm: bool,
    /// Faults that may still happen.
    pub faults: u8,
}

impl State {
    pub fn entry_of(&self, object: usize) -> Option<(usize, &Entry)> {
        self.entries.iter().enumerate().find(|(_, entry)| entry.object == object)
    }

    /// The executions for which that holds.
    pub fn executions(&self, is: impl Fn(&Entry) -> bool) -> Vec<usize> {
        (0..self.entries.len()).filter(|execution| is(&self.entries[*execution])).collect()
    }

    /// Whether somebody alive has this execution in hand.
    pub fn in_hand(&self, execution: usize) -> bool {
        self.replicas.iter().any(|replica| replica.alive && replica.relay.has(execution))
    }

    /// Whether the claim on an execution is held.
    pub fn claimed(&self, execution: usize) -> bool {
        self.entries[execution].row.claim == Claim::Held
    }

    /// The same, in the one form that all its equals have.
    pub fn canonical(mut self) -> Self {
        self.queue.sort_unstable();
        self.reports.sort_unstable_by_key(|(execution, status)| (*execution, status.as_str()));
        self.strays.sort_unstable_by_key(|write| (write.object, write.shown.execution, write.shown.revision));
        if self.replicas[0].rank() > self.replicas[1].rank() {
            self.replicas.swap(0, 1);
            self.lease.holder = self.lease.holder.map(|holder| 1 - holder);
        }
        self
    }
}
