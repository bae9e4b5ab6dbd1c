//! A model of the protocol, checked exhaustively: record, claim, publish, confirm, mark, release, mirror and deletion, by two
//! replicas that crash, stall and lose what they send, with a queue and a worker that lose, repeat and reorder. Every interleaving
//! within some bounds is looked at (`checks.rs`); with one rule broken, the property that the rule is for must fail within the same
//! bounds (`mutations.rs`). Decisions are the product's own functions wherever they are pure; rows follow `row.rs`, which
//! `conformance.rs` holds against PostgreSQL.
//!
//! Faults are counted, and nothing else goes round in circles (`checks.rs` shows that every path ends). So "in the end" is said
//! of states in which nothing can happen any more but another fault or a deletion: wherever faults stop, the way leads there.
//! The checker's own "eventually" is not used; by its own tests it can miss a path that joins another.

mod checks;
mod cluster;
mod conformance;
mod delivery;
mod mirror;
mod mutations;
mod properties;
mod row;
mod state;

use stateright::{Model, Property};

use self::state::{Existence, Lease, Object, Replica, State};

/// One of the rules, left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The relay of a new leader does not wait for the first sweep.
    RelayBeforeSweep,
    /// Executions are marked as published when their messages are sent.
    MarkBeforeConfirm,
    /// The API server takes any status.
    AnyStatusTaken,
    /// A claim leaves no trace.
    NoClaim,
    /// A claim is never over.
    EndlessClaim,
    /// An object without an execution id is recorded without looking.
    InsertTwice,
    /// The guard lets reports through to finished rows.
    EndNotFinal,
    /// A lease is taken without waiting.
    LeaseTakenAtOnce,
    /// A status counts as shown when it is sent.
    StatusNotAwaited,
    /// What was deleted while it was claimed is released as if it were not.
    ReleaseForgetsDeletion,
    /// A status write does not test the uid.
    NoUidTest,
    /// Each claim is another attempt.
    AttemptPerClaim,
    /// A status shows a message as published while the relay still has it in hand.
    ShownBeforeMarked,
}

/// What is checked: how much of everything, and which rule is broken.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// How many SyncExecutions.
    pub objects: usize,
    /// Whether the second has the name of the first, and is created when that one is gone.
    pub namesakes: bool,
    /// How many of them, from the first on, may be deleted, whenever they are there.
    pub deletions: usize,
    /// Whether workers take messages.
    pub workers: bool,
    /// How many faults may happen; a passed deadline counts, too.
    pub faults: u8,
    /// The rule left out.
    pub broken: Option<Broken>,
}

/// A step. Replicas, objects and executions are numbered, queue and reports by their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Create(usize),
    Delete(usize),
    /// A replica dies. What it is sending has reached the broker, or not.
    Crash(usize, bool),
    Restart(usize),
    /// A third of the lease's duration passes.
    TimePasses,
    TakeLease(usize),
    EndTerm(usize),
    List(usize),
    Watch(usize, usize),
    CancelDeleted(usize, usize),
    Sweep(usize),
    CancelAbandoned(usize),
    DeadlinePasses(usize, usize),
    Reconcile(usize, usize),
    WriteLands(usize, usize),
    WriteGivenUp(usize, usize),
    StrayLands(usize),
    StrayLost(usize),
    Claim(usize),
    Send(usize),
    Answer(usize, delivery::Answer),
    Mark(usize),
    Release(usize),
    ClaimRunsOut(usize),
    /// A worker takes a message, which may come again.
    Take(usize, bool),
    LoseMessage(usize),
    /// A report arrives, and may come again.
    Report(usize, bool),
    LoseReport(usize),
}

impl Protocol {
    fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    /// What a step does; nothing when it is not its time.
    fn step(&self, state: &mut State, action: Action) {
        match action {
            Action::Create(_) | Action::Delete(_) | Action::Crash(..) | Action::Restart(_) | Action::TimePasses => {
                self.environment(state, action);
            }
            Action::TakeLease(_) | Action::EndTerm(_) | Action::List(_) | Action::Watch(..) => self.leadership(state, action),
            Action::CancelDeleted(..) | Action::Sweep(_) | Action::CancelAbandoned(_) | Action::DeadlinePasses(..) => {
                cluster::ends(state, action);
            }
            Action::Reconcile(replica, object) => self.reconcile(state, replica, object),
            Action::WriteLands(..) | Action::WriteGivenUp(..) | Action::StrayLands(_) | Action::StrayLost(_) => self.write(state, action),
            Action::Claim(_) | Action::Send(_) | Action::Answer(..) | Action::Mark(_) | Action::Release(_) | Action::ClaimRunsOut(_) => {
                self.relay(state, action);
            }
            Action::Take(..) | Action::LoseMessage(_) | Action::Report(..) | Action::LoseReport(_) => self.worker(state, action),
        }
    }

    /// How many faults a step is.
    fn cost(state: &State, action: Action) -> u8 {
        let fault = match action {
            Action::Crash(..) | Action::DeadlinePasses(..) | Action::WriteGivenUp(..) | Action::LoseMessage(_) | Action::LoseReport(_) => {
                true
            }
            Action::Take(_, again) | Action::Report(_, again) => again,
            Action::Answer(_, answer) => answer != delivery::Answer::AllConfirmed,
            // A leader begins to stall. Then it may go on for as long as it wants.
            Action::TimePasses => state.lease.age == 0 && state.lease.holder.is_some_and(|holder| state.replicas[holder].term.is_some()),
            // Unless nobody is on it any more, or a relay that stalls.
            Action::ClaimRunsOut(execution) => state.replicas.iter().any(|replica| replica.leads() && replica.relay.has(execution)),
            _ => false,
        };
        u8::from(fault)
    }

    /// Whether nothing but a fault or a deletion can happen.
    fn is_quiet(&self, state: &State) -> bool {
        let mut actions = Vec::new();
        self.actions(state, &mut actions);
        let must_happen = |action| Self::cost(state, action) == 0 && !matches!(action, Action::Delete(_));
        !actions.into_iter().any(|action| must_happen(action) && self.next_state(state, action).is_some())
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let object = |existence| Object { existence, shown: None, went_back: false, deleted_unseen: false };
        let mut objects = vec![object(Existence::There)];
        objects.resize(self.objects, object(Existence::ToBeCreated));
        vec![State {
            objects,
            entries: Vec::new(),
            lease: Lease { holder: None, age: 3 },
            replicas: [Replica::standby(self.objects), Replica::standby(self.objects)],
            queue: Vec::new(),
            reports: Vec::new(),
            strays: Vec::new(),
            false_alarm: false,
            faults: self.faults,
        }]
    }

    /// All that might be done. What is not its time, or changes nothing, leads nowhere.
    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let each = |count: usize, of: &dyn Fn(usize) -> Action| (0..count).map(of).collect::<Vec<_>>();
        for replica in 0..2 {
            if !state.replicas[replica].alive {
                actions.push(Action::Restart(replica));
                continue;
            }
            actions.push(Action::TakeLease(replica));
            if state.replicas[replica].term.is_none() {
                continue;
            }
            actions.extend([Action::EndTerm(replica), Action::List(replica), Action::Sweep(replica), Action::CancelAbandoned(replica)]);
            actions.extend([Action::Claim(replica), Action::Send(replica), Action::Mark(replica), Action::Release(replica)]);
            actions.extend(delivery::answers(&state.replicas[replica].relay).into_iter().map(|answer| Action::Answer(replica, answer)));
            for object in 0..self.objects {
                actions.extend([Action::Watch(replica, object), Action::CancelDeleted(replica, object)]);
                actions.extend([Action::Reconcile(replica, object), Action::WriteLands(replica, object)]);
                actions.push(Action::WriteGivenUp(replica, object));
            }
            actions.extend(each(state.entries.len(), &|execution| Action::DeadlinePasses(replica, execution)));
            actions.extend([false, true].map(|sent| Action::Crash(replica, sent)));
        }
        actions.extend(each(self.objects, &Action::Create));
        actions.extend(each(self.deletions, &Action::Delete));
        actions.push(Action::TimePasses);
        actions.extend(each(state.entries.len(), &Action::ClaimRunsOut));
        actions.extend(each(state.strays.len(), &Action::StrayLands));
        actions.extend(each(state.strays.len(), &Action::StrayLost));
        let in_reach = if self.workers { state.queue.len() } else { 0 };
        for again in [false, true] {
            actions.extend(each(in_reach, &|place| Action::Take(place, again)));
            actions.extend(each(state.reports.len(), &|place| Action::Report(place, again)));
        }
        actions.extend(each(in_reach, &Action::LoseMessage));
        actions.extend(each(state.reports.len(), &Action::LoseReport));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        next.faults = last.faults.checked_sub(Self::cost(last, action))?;
        let faults = std::mem::replace(&mut next.faults, last.faults);
        self.step(&mut next, action);
        if next == *last {
            return None;
        }
        next.faults = faults;
        Some(next.canonical())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
