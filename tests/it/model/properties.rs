//! What must hold: in every state, or in those in which nothing but a fault or a deletion can happen any more. And what must come about at
//! all, so that the model is known to reach the places where it matters.

use stateright::Property;

use super::{
    Protocol,
    row::Claim,
    state::{Existence, Shown, State},
};

type Check = Property<Protocol>;

/// I1: each object has at most one row.
pub const ONE_ROW: &str = "I1: one row for each object";
/// I2: published means that the broker has it.
pub const PUBLISHED_IS_OUT: &str = "I2: what is marked as published is out";
/// I2: nothing waits for ever.
pub const NOTHING_STUCK: &str = "I2: in the end every object is recorded, and every row is published or has ended";
/// I3: copies are told by their id.
pub const SAME_ID: &str = "I3: all copies of a message have one id";
/// I3: no copy without need.
pub const NO_COPY_WITHOUT_NEED: &str = "I3: a second copy needs a crash, a lost connection, or a claim that ran out under a relay";
/// I4 in the record.
pub const END_STAYS: &str = "I4: the end of a row never changes";
/// I4 in Kubernetes.
pub const STATUS_STAYS: &str = "I4: a status never goes back";
/// I5.
pub const SHOWN: &str = "I5: in the end every object shows its row";
/// A status is the object's own.
pub const OWN_STATUS: &str = "an object shows its own execution only";
/// The lease.
pub const ONE_LEADER: &str = "of two replicas one at most begins effects";
/// The sweep.
pub const DELETED_UNSEEN: &str = "what was deleted while nobody led is not published";
/// Nobody restored a database here.
pub const NO_FALSE_ALARM: &str = "no row is taken for an older one, and none is put aside";

/// All of them.
pub fn all() -> Vec<Check> {
    always().into_iter().chain(sometimes()).collect()
}

/// What must hold.
pub fn always() -> Vec<Check> {
    vec![
        Check::always(ONE_ROW, |protocol, state| {
            (0..protocol.objects).all(|object| state.executions(|entry| entry.object == object).len() <= 1)
        }),
        Check::always(PUBLISHED_IS_OUT, |_, state| state.entries.iter().all(|entry| !entry.row.published || entry.sent > 0)),
        Check::always(NOTHING_STUCK, |protocol, state| none_waits(state) || !protocol.is_quiet(state)),
        Check::always(SAME_ID, |_, state| state.entries.iter().all(|entry| !entry.other_id)),
        Check::always(NO_COPY_WITHOUT_NEED, |_, state| state.entries.iter().all(|entry| entry.sent <= 1 + entry.excuses)),
        Check::always(END_STAYS, |_, state| state.entries.iter().all(|entry| !entry.end_changed)),
        Check::always(STATUS_STAYS, |_, state| state.objects.iter().all(|object| !object.went_back)),
        Check::always(SHOWN, |protocol, state| all_shown(state) || !protocol.is_quiet(state)),
        Check::always(OWN_STATUS, |_, state| {
            let own = |object: usize| state.objects[object].shown.is_none_or(|shown| state.entries[shown.execution].object == object);
            (0..state.objects.len()).all(own)
        }),
        Check::always(ONE_LEADER, |_, state| !state.replicas.iter().all(super::state::Replica::leads)),
        Check::always(DELETED_UNSEEN, |_, state| {
            state.entries.iter().all(|entry| entry.sent == 0 || !state.objects[entry.object].deleted_unseen)
        }),
        Check::always(NO_FALSE_ALARM, |_, state| !state.false_alarm && state.entries.iter().all(|entry| !entry.row.held)),
    ]
}

fn none_waits(state: &State) -> bool {
    let recorded = |object: usize| state.objects[object].existence != Existence::There || state.entry_of(object).is_some();
    (0..state.objects.len()).all(recorded) && !state.entries.iter().any(super::state::Entry::is_waiting)
}

fn all_shown(state: &State) -> bool {
    let shows_its_row = |object: usize| {
        let row = state.entry_of(object).map(|(execution, entry)| Shown::of(execution, entry));
        state.objects[object].existence != Existence::There || state.objects[object].shown == row
    };
    (0..state.objects.len()).all(shows_its_row)
}

/// What must come about somewhere.
pub fn sometimes() -> Vec<Check> {
    vec![
        Check::sometimes("an end is shown, and all is quiet", |protocol, state| {
            state.objects.iter().all(|object| object.shown.is_some_and(|shown| shown.phase.is_final())) && protocol.is_quiet(state)
        }),
        Check::sometimes("a second copy is out", |_, state| state.entries.iter().any(|entry| entry.sent > 1)),
        Check::sometimes("two replicas are in a term", |_, state| state.replicas.iter().all(|replica| replica.term.is_some())),
        Check::sometimes("two relays are at work", |_, state| {
            (0..state.entries.len()).any(|execution| state.replicas.iter().all(|replica| replica.relay.has(execution)))
        }),
        Check::sometimes("an old status is on its way to an object that shows a newer one", |_, state| {
            state.strays.iter().any(|write| {
                state.objects[write.object].existence == Existence::There
                    && state.objects[write.object].shown.is_some_and(|shown| shown.is_taken_back_by(write.shown))
            })
        }),
        Check::sometimes("a report comes that contradicts the end", |_, state| {
            state.reports.iter().any(|(execution, status)| {
                let end = state.entries[*execution].row.status;
                end.is_final() && status.is_final() && *status != end
            })
        }),
        Check::sometimes("an object is deleted while its message is claimed", |_, state| {
            state.entries.iter().any(|entry| entry.row.deleted && entry.row.claim == Claim::Held)
        }),
    ]
}
