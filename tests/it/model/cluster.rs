//! What happens to replicas and objects: crashes, time, the lease, the watch, and the ends that no worker reports.

use std::time::{Duration, Instant};

use sync_operator::leader::term::{Term, may_take};

use super::{
    Action, Broken, Protocol,
    row::{Claim, Operation},
    state::{Existence, Known, Lease, Object, Relay, Replica, State, Write},
};

const THIRD: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(15);

impl Replica {
    /// Whether it may begin an effect, as the product decides it.
    pub fn leads(&self) -> bool {
        let began = Instant::now();
        self.alive && self.term.is_some_and(|age| Term::renewed(began, LEASE).window(began + THIRD * age.into()).is_some())
    }
}

impl Protocol {
    pub(super) fn environment(&self, state: &mut State, action: Action) {
        match action {
            Action::Create(object) => {
                let name_is_free = !self.namesakes || state.objects[..object].iter().all(|other| other.existence == Existence::Gone);
                if state.objects[object].existence == Existence::ToBeCreated && name_is_free {
                    state.objects[object].existence = Existence::There;
                }
            }
            Action::Delete(object) if state.objects[object].existence == Existence::There => {
                let nobody_leads = state.replicas.iter().all(|replica| replica.term.is_none());
                let untouched = |execution: usize| state.entries[execution].sent == 0 && state.entries[execution].row.claim == Claim::None;
                let unseen = nobody_leads && state.executions(|entry| entry.object == object).into_iter().all(untouched);
                state.objects[object].existence = Existence::Gone;
                state.objects[object].deleted_unseen = unseen;
            }
            Action::Crash(replica, sent) => crash(state, replica, sent),
            Action::Restart(replica) if !state.replicas[replica].alive => state.replicas[replica].alive = true,
            Action::TimePasses => {
                let ages = state.replicas.iter_mut().filter_map(|replica| replica.term.as_mut());
                for age in ages.chain([&mut state.lease.age]) {
                    *age = (*age + 1).min(3);
                }
            }
            _ => {}
        }
    }

    pub(super) fn leadership(&self, state: &mut State, action: Action) {
        match action {
            Action::TakeLease(replica) => self.take_lease(state, replica),
            Action::EndTerm(replica) => {
                // It waits for what is under way; claims that were not sent are left to run out.
                let idle = matches!(state.replicas[replica].relay, Relay::Idle | Relay::Claimed(_));
                let settled = state.replicas[replica].known.iter().all(|known| known.writing.is_none());
                if !state.replicas[replica].leads() && idle && settled {
                    state.replicas[replica] = Replica::standby(self.objects);
                }
            }
            Action::List(replica) if !state.replicas[replica].listed => {
                state.replicas[replica].listed = true;
                for object in 0..self.objects {
                    state.replicas[replica].known[object] = Known { cached: there(state, object), ..Known::default() };
                }
            }
            Action::Watch(replica, object) if state.replicas[replica].listed => {
                let now = there(state, object);
                let known = &mut state.replicas[replica].known[object];
                if known.cached != now {
                    known.deleted |= now.is_none();
                    (known.cached, known.answered) = (now, None);
                }
            }
            _ => {}
        }
    }

    /// Takes the lease, or renews it.
    fn take_lease(&self, state: &mut State, replica: usize) {
        let name = |number: usize| ["one", "other"][number];
        let holder = state.lease.holder.map_or("", name);
        let free = may_take(name(replica), holder, THIRD * state.lease.age.into(), LEASE) || self.is(Broken::LeaseTakenAtOnce);
        let renews = state.replicas[replica].term.is_some();
        if !free || (renews && (state.lease.holder != Some(replica) || state.lease.age == 0)) {
            return;
        }
        if !renews {
            state.replicas[replica] = Replica::standby(self.objects);
        }
        state.lease = Lease { holder: Some(replica), age: 0 };
        state.replicas[replica].term = Some(0);
    }
}

/// The ends that no worker reports.
pub(super) fn ends(state: &mut State, action: Action) {
    match action {
        Action::CancelDeleted(replica, object) if state.replicas[replica].leads() && state.replicas[replica].known[object].deleted => {
            state.replicas[replica].known[object].deleted = false;
            for execution in state.executions(|entry| entry.object == object) {
                state.entries[execution].apply(Operation::CancelDeleted);
            }
        }
        Action::Sweep(replica) if state.replicas[replica].leads() && state.replicas[replica].listed => {
            for execution in 0..state.entries.len() {
                let object = state.entries[execution].object;
                // What the cache does not know is asked for.
                let gone = state.replicas[replica].known[object].cached.is_none() && there(state, object).is_none();
                if gone && state.entries[execution].is_waiting() {
                    state.entries[execution].apply(Operation::CancelDeleted);
                }
            }
            state.replicas[replica].swept = true;
        }
        Action::CancelAbandoned(replica) if state.replicas[replica].leads() => {
            state.entries.iter_mut().for_each(|entry| entry.apply(Operation::CancelAbandoned));
        }
        Action::DeadlinePasses(replica, execution) if state.replicas[replica].leads() => {
            state.entries[execution].row.overdue = true;
            state.entries[execution].apply(Operation::EndOverdue);
            state.entries[execution].row.overdue = false;
        }
        _ => {}
    }
}

/// What the API server says of an object, if it is there.
fn there(state: &State, object: usize) -> Option<Object> {
    Some(state.objects[object]).filter(|object| object.existence == Existence::There)
}

/// The process dies: what it sent may be out, what it knew is gone.
fn crash(state: &mut State, replica: usize, sent: bool) {
    if state.replicas[replica].term.is_none() {
        return;
    }
    let objects = state.objects.len();
    let dead = std::mem::replace(&mut state.replicas[replica], Replica { alive: false, ..Replica::standby(objects) });
    match dead.relay {
        Relay::Sending(batch) if sent => {
            for execution in batch {
                state.entries[execution].enqueued(execution);
                state.entries[execution].excuses += 1;
                state.queue.push(execution);
            }
        }
        Relay::Answered(confirmed, _) => confirmed.into_iter().for_each(|execution| state.entries[execution].excuses += 1),
        _ => {}
    }
    let writes = dead.known.iter().enumerate().filter_map(|(object, known)| Some(Write { object, shown: known.writing? }));
    state.strays.extend(writes);
}
