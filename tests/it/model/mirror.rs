//! One object at a time: record it, compute its status, write that. And the API server, which takes or refuses what arrives.

use super::{
    Action, Broken, Protocol,
    state::{Entry, Existence, Shown, State, Write},
};

impl Protocol {
    pub(super) fn reconcile(&self, state: &mut State, replica: usize, object: usize) {
        let known = state.replicas[replica].known[object];
        let Some(cached) = known.cached.map(|object| object.shown) else { return };
        if known.writing.is_some() {
            return;
        }
        if cached.is_none() {
            let recorded = state.executions(|entry| entry.object == object).len();
            // Two rows show what the broken rule does; it would go on for ever.
            if recorded == 0 || (self.is(Broken::InsertTwice) && recorded == 1) {
                state.entries.push(Entry::recorded(object));
            }
        }
        let Some((execution, entry)) = state.entry_of(object) else {
            // It shows an execution that is not there.
            state.false_alarm = true;
            return;
        };
        if cached.is_some_and(|shown| shown.shows_more_than(execution, entry)) {
            state.false_alarm = true;
            return;
        }
        let mut wanted = Shown::of(execution, entry);
        wanted.published |= self.is(Broken::ShownBeforeMarked) && state.in_hand(execution);
        if cached == Some(wanted) || known.answered == Some(wanted) || !state.replicas[replica].leads() {
            return;
        }
        let known = &mut state.replicas[replica].known[object];
        known.writing = Some(wanted);
        if self.is(Broken::StatusNotAwaited) {
            known.answered = Some(wanted);
        }
    }

    pub(super) fn write(&self, state: &mut State, action: Action) {
        match action {
            Action::WriteLands(replica, object) => {
                if let Some(shown) = state.replicas[replica].known[object].writing.take() {
                    self.arrives(state, Write { object, shown });
                    state.replicas[replica].known[object].answered = Some(shown);
                }
            }
            // No answer in time: tried again, and the first may still arrive.
            Action::WriteGivenUp(replica, object) => {
                let given_up = state.replicas[replica].known[object].writing.take().map(|shown| Write { object, shown });
                state.strays.extend(given_up);
            }
            Action::StrayLands(place) => {
                let write = state.strays.remove(place);
                self.arrives(state, write);
            }
            Action::StrayLost(place) => drop(state.strays.remove(place)),
            _ => {}
        }
    }

    /// The API server's part: the test of the uid, and the CRD's rules on a status.
    fn arrives(&self, state: &mut State, write: Write) {
        let meant = |object: usize| object == write.object || self.is(Broken::NoUidTest);
        let there = |object: usize| state.objects[object].existence == Existence::There;
        let Some(target) = (0..self.objects).find(|object| meant(*object) && there(*object)) else { return };
        let object = &mut state.objects[target];
        let taken_back = object.shown.is_some_and(|shown| shown.is_taken_back_by(write.shown));
        if taken_back && !self.is(Broken::AnyStatusTaken) {
            return;
        }
        object.went_back |= taken_back;
        object.shown = Some(write.shown);
    }
}
