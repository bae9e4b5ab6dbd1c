//! The way of a message: claimed, sent, answered, marked or released by a relay; taken by a worker, who reports.

use std::collections::HashMap;

use sync_operator::{
    broker::publisher::Fate,
    domain::{
        Status,
        execution::PublishProblem,
        message::{Delivery, Message},
    },
    relay::settlement::Settlement,
};

use super::{
    Action, Broken, Protocol,
    row::{Claim, Operation},
    state::{Relay, State},
};

/// What the broker says of a batch. Faults name the first message that they hit, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    AllConfirmed,
    Rejected(usize),
    Unroutable(usize),
    /// The connection breaks before that confirm; that message had arrived, or not.
    Lost(usize, bool),
}

/// All answers that there can be.
pub fn answers(relay: &Relay) -> Vec<Answer> {
    let Relay::Sending(batch) = relay else { return Vec::new() };
    let faults = |place| [Answer::Rejected(place), Answer::Unroutable(place), Answer::Lost(place, true), Answer::Lost(place, false)];
    std::iter::once(Answer::AllConfirmed).chain((0..batch.len()).flat_map(faults)).collect()
}

impl Answer {
    /// Whether the message at that place is in the queue, and what the relay learns of it.
    fn on(self, place: usize) -> (bool, Fate) {
        let not_published = |problem| Fate::NotPublished(problem, String::new());
        match self {
            Self::Rejected(hit) if hit == place => (false, not_published(PublishProblem::Rejected)),
            Self::Unroutable(hit) if hit == place => (false, not_published(PublishProblem::Unroutable)),
            Self::Lost(hit, arrived) if hit <= place => (arrived && hit == place, not_published(PublishProblem::BrokerUnavailable)),
            _ => (true, Fate::Confirmed),
        }
    }
}

impl Protocol {
    pub(super) fn relay(&self, state: &mut State, action: Action) {
        match action {
            Action::Claim(replica) => self.claim(state, replica),
            Action::Send(replica) => self.send(state, replica),
            Action::Answer(replica, answer) => answered(state, replica, answer),
            Action::Mark(replica) => {
                let Relay::Answered(confirmed, failed) = state.replicas[replica].relay.clone() else { return };
                for execution in confirmed {
                    state.entries[execution].apply(Operation::MarkPublished);
                }
                state.replicas[replica].relay = if failed.is_empty() { Relay::Idle } else { Relay::Failed(failed) };
            }
            Action::Release(replica) => {
                let Relay::Failed(failed) = state.replicas[replica].relay.clone() else { return };
                for (execution, problem) in failed {
                    self.release(state, execution, problem);
                }
                state.replicas[replica].relay = Relay::Idle;
            }
            Action::ClaimRunsOut(execution) if state.claimed(execution) && !self.is(Broken::EndlessClaim) => {
                state.entries[execution].excuses += u8::from(state.in_hand(execution));
                state.entries[execution].apply(Operation::ClaimRunsOut);
            }
            _ => {}
        }
    }

    fn claim(&self, state: &mut State, replica: usize) {
        let at_work = state.replicas[replica].relay != Relay::Idle;
        let may_publish = state.replicas[replica].swept || self.is(Broken::RelayBeforeSweep);
        if at_work || !may_publish || !state.replicas[replica].leads() {
            return;
        }
        let mut batch = state.executions(|entry| entry.row.matches(Operation::Claim));
        for execution in &batch {
            let entry = &mut state.entries[*execution];
            entry.apply(Operation::Claim);
            if self.is(Broken::NoClaim) {
                entry.row.claim = Claim::None;
            }
            entry.attempt += i32::from(self.is(Broken::AttemptPerClaim));
        }
        // What its object shows as published is put aside.
        batch.retain(|execution| {
            let object = state.entries[*execution].object;
            let aside = state.replicas[replica].known[object].cached.and_then(|object| object.shown).is_some_and(|shown| shown.published);
            if aside {
                state.entries[*execution].apply(Operation::Hold);
            }
            !aside
        });
        if !batch.is_empty() {
            state.replicas[replica].relay = Relay::Claimed(batch);
        }
    }

    fn send(&self, state: &mut State, replica: usize) {
        let leads = state.replicas[replica].leads();
        let relay = &mut state.replicas[replica].relay;
        let Relay::Claimed(batch) = relay else { return };
        let batch = std::mem::take(batch);
        if self.is(Broken::MarkBeforeConfirm) {
            for execution in &batch {
                state.entries[*execution].apply(Operation::MarkPublished);
            }
        }
        // Leadership may have passed: then the claims are left to run out.
        *relay = if leads { Relay::Sending(batch) } else { Relay::Idle };
    }

    fn release(&self, state: &mut State, execution: usize, problem: PublishProblem) {
        let entry = &mut state.entries[execution];
        let deleted = entry.row.deleted;
        if self.is(Broken::ReleaseForgetsDeletion) {
            entry.row.deleted = false;
        }
        entry.apply(Operation::Release(problem));
        entry.row.deleted = deleted;
    }

    pub(super) fn worker(&self, state: &mut State, action: Action) {
        match action {
            Action::Take(place, again) => {
                let execution = if again { state.queue[place] } else { state.queue.remove(place) };
                // The second time it comes out differently.
                let end = if state.entries[execution].taken { Status::Error } else { Status::Success };
                state.entries[execution].taken = true;
                state.reports.extend([(execution, Status::Running), (execution, end)]);
            }
            Action::LoseMessage(place) => drop(state.queue.remove(place)),
            Action::Report(place, again) => {
                let (execution, status) = if again { state.reports[place] } else { state.reports.remove(place) };
                let entry = &mut state.entries[execution];
                entry.apply(Operation::Report(Some(status)));
                if self.is(Broken::EndNotFinal) && entry.row.status != status {
                    (entry.row.status, entry.row.revision) = (status, entry.row.revision + 1);
                    entry.note_end();
                }
            }
            Action::LoseReport(place) => drop(state.reports.remove(place)),
            _ => {}
        }
    }
}

/// The broker's answers come in, and the relay decides what follows.
fn answered(state: &mut State, replica: usize, answer: Answer) {
    let Relay::Sending(batch) = state.replicas[replica].relay.clone() else { return };
    let messages: Vec<(Delivery, Message)> = batch
        .iter()
        .map(|execution| state.entries[*execution].delivery(*execution))
        .map(|delivery| (delivery.clone(), delivery.message(chrono_tz::UTC).unwrap()))
        .collect();
    let mut fates = HashMap::new();
    for (place, execution) in batch.iter().enumerate() {
        let (arrived, fate) = answer.on(place);
        let entry = &mut state.entries[*execution];
        if arrived {
            entry.enqueued(*execution);
            entry.excuses += u8::from(fate != Fate::Confirmed);
            state.queue.push(*execution);
        }
        fates.insert(messages[place].1.message_id.clone(), fate);
    }
    let settlement = Settlement::of(&messages, &fates);
    let number = |id: i64| usize::try_from(id).unwrap() - 1;
    let confirmed = settlement.confirmed.iter().map(|delivery| number(delivery.id)).collect();
    let failed = settlement.failed.iter().map(|(id, problem, _)| (number(*id), *problem)).collect();
    state.replicas[replica].relay = Relay::Answered(confirmed, failed);
}
