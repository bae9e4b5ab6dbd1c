//! Confirmed publishing: persistent, mandatory, pipelined; a message counts as published only by the broker's plain ack.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::time::{Instant, timeout_at};

use super::{Broker, Error, link::Link};
use crate::{
    crash,
    domain::{
        execution::PublishProblem,
        message::{APP_ID, CONTENT_TYPE, MESSAGE_TYPE, Message},
    },
};

/// Deadline for publishing a batch and getting all its confirms. The client library has none of its own, and a broker
/// short of memory or disk simply does not answer.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest frame. A message has some hundred bytes; a longer one takes several frames.
const FRAME_MAX: u32 = 16 * 1024;
/// No queue has this name: what is published to it is confirmed and gone.
const NOBODY: &str = "sync-operator.nobody";

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The broker has it on its disk.
    Confirmed,
    /// Not published, as far as is known: publish it again, with the same id.
    NotPublished(PublishProblem, String),
}

/// What the client library says of one message, by message id.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Acked,
    Nacked,
    Lost(String),
}

/// A connection of its own, with a channel in confirm mode.
pub struct Publisher {
    link: Link,
    channel: Channel,
    queue: String,
}

impl Publisher {
    /// Connects; the queue is there afterwards, and the broker takes messages.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn connect(broker: &Broker) -> Result<Self, Error> {
        let link = broker.connect("publisher", FRAME_MAX).await?;
        let channel = broker.channel_for(&link, &broker.queue).await?;
        broker.step("turn on confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        broker.step("have a message confirmed (is it out of memory or disk?)", try_out(&channel)).await?;
        Ok(Self { link, channel, queue: broker.queue.clone() })
    }

    /// Whether it can still publish, as far as is known.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.link.connection.status().connected() && self.channel.status().connected()
    }

    /// Publishes all messages, in order, and waits for all their confirms. Answers the fate of each, by message id.
    pub async fn publish(&self, messages: &[Message]) -> HashMap<String, Fate> {
        let deadline = Instant::now() + CONFIRM_TIMEOUT;
        let mut answers = HashMap::new();
        let mut returned = HashSet::new();
        let mut confirms = FuturesUnordered::new();
        for message in messages {
            match timeout_at(deadline, crash::effect("publish a message", || self.send(message))).await {
                Ok(Ok(confirm)) => {
                    let id = message.message_id.clone();
                    confirms.push(async move { (id, confirm.await) });
                }
                Ok(Err(error)) => drop(answers.insert(message.message_id.clone(), Answer::Lost(error.to_string()))),
                // What is left out here, and below, has no answer: it counts as timed out.
                Err(_) => break,
            }
        }
        while let Ok(Some((id, confirmation))) = timeout_at(deadline, confirms.next()).await {
            crash::before("take a confirm");
            let answer = match confirmation {
                Ok(confirmation) => {
                    let acked = confirmation.is_ack();
                    if let Some(message) = match confirmation {
                        Confirmation::Ack(message) | Confirmation::Nack(message) => message,
                        Confirmation::NotRequested => None,
                    } {
                        returned.extend(message.properties.message_id().as_ref().map(ToString::to_string));
                    }
                    if acked { Answer::Acked } else { Answer::Nacked }
                }
                Err(error) => Answer::Lost(error.to_string()),
            };
            answers.insert(id, answer);
            crash::after("take a confirm");
        }
        messages.iter().map(|message| (message.message_id.clone(), fate(&message.message_id, &answers, &returned))).collect()
    }

    async fn send(&self, message: &Message) -> lapin::Result<lapin::PublisherConfirm> {
        let properties = BasicProperties::default()
            .with_content_type(CONTENT_TYPE.into())
            .with_delivery_mode(2)
            .with_message_id(message.message_id.as_str().into())
            .with_correlation_id(message.correlation_id.as_str().into())
            .with_type(MESSAGE_TYPE.into())
            .with_app_id(APP_ID.into())
            .with_timestamp(message.timestamp);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        self.channel.basic_publish("".into(), self.queue.as_str().into(), options, &message.body, properties).await
    }

    /// Says goodbye to the broker.
    pub async fn close(self) {
        Broker::close(self.link).await;
    }
}

/// Has a message for nobody confirmed. A broker short of memory or disk takes connections but no messages, and does not read
/// what it is sent until it is well: then each try of an execution's message would come out, one more copy each. The message
/// has a body, since an empty one is still taken.
async fn try_out(channel: &Channel) -> lapin::Result<()> {
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), NOBODY.into(), options, b"is there room?", BasicProperties::default()).await?.await.map(drop)
}

/// The fate of one message, once all confirms of its batch are in.
///
/// A returned message is acked too (the broker is done with it), and when one ack covers several messages the client
/// library may hand the returned one out with the confirm of another: so returns are told by message id, over the batch.
fn fate(id: &str, answers: &HashMap<String, Answer>, returned: &HashSet<String>) -> Fate {
    let problem = |problem, text: String| Fate::NotPublished(problem, text);
    match answers.get(id) {
        _ if returned.contains(id) => {
            problem(PublishProblem::Unroutable, "the broker returned the message: the queue does not exist".to_owned())
        }
        Some(Answer::Acked) => Fate::Confirmed,
        Some(Answer::Nacked) => {
            problem(PublishProblem::Rejected, "the broker refused the message (basic.nack): is the queue full?".to_owned())
        }
        Some(Answer::Lost(error)) => {
            problem(PublishProblem::BrokerUnavailable, format!("the connection broke before the confirm: {error}"))
        }
        None => problem(
            PublishProblem::BrokerUnavailable,
            format!("no confirm within {} s: is the broker out of memory or disk?", CONFIRM_TIMEOUT.as_secs()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem_of(fate: Fate) -> Option<PublishProblem> {
        match fate {
            Fate::Confirmed => None,
            Fate::NotPublished(problem, _) => Some(problem),
        }
    }

    #[test]
    fn only_a_plain_ack_counts() {
        let answers = HashMap::from([
            ("acked".to_owned(), Answer::Acked),
            ("nacked".to_owned(), Answer::Nacked),
            ("lost".to_owned(), Answer::Lost("reset".into())),
        ]);
        let none = HashSet::new();
        assert_eq!(problem_of(fate("acked", &answers, &none)), None);
        assert_eq!(problem_of(fate("nacked", &answers, &none)), Some(PublishProblem::Rejected));
        assert_eq!(problem_of(fate("lost", &answers, &none)), Some(PublishProblem::BrokerUnavailable));
        assert_eq!(problem_of(fate("silent", &answers, &none)), Some(PublishProblem::BrokerUnavailable));
    }

    #[test]
    fn a_returned_message_is_unroutable_even_if_its_return_came_with_the_ack_of_another() {
        let answers = HashMap::from([("a".to_owned(), Answer::Acked), ("b".to_owned(), Answer::Acked)]);
        let returned = HashSet::from(["b".to_owned()]);
        assert_eq!(problem_of(fate("a", &answers, &returned)), None);
        assert_eq!(problem_of(fate("b", &answers, &returned)), Some(PublishProblem::Unroutable));
    }
}
