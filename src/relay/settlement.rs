//! What follows from the fates of a batch of messages. Pure: the relay does it.

use std::collections::HashMap;

use crate::{
    broker::publisher::Fate,
    domain::{
        execution::PublishProblem,
        message::{Delivery, Message},
    },
};

/// What is to be done about a batch that was published.
#[derive(Debug, PartialEq)]
pub struct Settlement<'a> {
    /// To be marked as published.
    pub confirmed: Vec<&'a Delivery>,
    /// To be released: the execution, and why it is not published, as far as is known.
    pub failed: Vec<(i64, PublishProblem, String)>,
}

impl<'a> Settlement<'a> {
    /// What follows from these fates, by message id. An execution without one keeps its claim until that is over.
    #[must_use]
    pub fn of(batch: &'a [(Delivery, Message)], fates: &HashMap<String, Fate>) -> Self {
        let mut settlement = Self { confirmed: Vec::with_capacity(batch.len()), failed: Vec::new() };
        for (delivery, message) in batch {
            match fates.get(&message.message_id) {
                Some(Fate::Confirmed) => settlement.confirmed.push(delivery),
                Some(Fate::NotPublished(problem, text)) => settlement.failed.push((delivery.id, *problem, text.clone())),
                None => {}
            }
        }
        settlement
    }

    /// Whether to connect anew: a new connection looks at the queue again, and declares it if it is gone. A full queue is no
    /// reason for one.
    #[must_use]
    pub fn wants_new_connection(&self) -> bool {
        self.failed.iter().any(|(_, problem, _)| *problem != PublishProblem::Rejected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Mode, execution::example::at};

    fn batch(size: i64) -> Vec<(Delivery, Message)> {
        let uid = |id: i64| uuid::Uuid::from_u128(id.unsigned_abs().into());
        (1..=size)
            .map(|id| Delivery { id, request_uid: uid(id), attempt: 1, mode: Mode::Update, window: None, created_at: at(0) })
            .map(|delivery| (delivery.clone(), delivery.message(chrono_tz::UTC).unwrap()))
            .collect()
    }

    #[test]
    fn each_execution_follows_the_fate_of_its_message_and_one_without_keeps_its_claim() {
        let batch = batch(3);
        let refused = Fate::NotPublished(PublishProblem::Rejected, "full".into());
        let fates = HashMap::from([(batch[0].1.message_id.clone(), refused), (batch[2].1.message_id.clone(), Fate::Confirmed)]);
        let settlement = Settlement::of(&batch, &fates);
        assert_eq!(settlement.confirmed.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), [3]);
        assert_eq!(settlement.failed, [(1, PublishProblem::Rejected, "full".to_owned())]);
    }

    #[test]
    fn a_new_connection_is_wanted_unless_the_queue_is_only_full() {
        let failed = |problem| Settlement { confirmed: Vec::new(), failed: vec![(1, problem, String::new())] };
        assert!(!failed(PublishProblem::Rejected).wants_new_connection());
        assert!(failed(PublishProblem::Unroutable).wants_new_connection());
        assert!(failed(PublishProblem::BrokerUnavailable).wants_new_connection());
    }
}
