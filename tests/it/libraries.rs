//! What the AMQP library and the broker do where neither says so: facts that `src/broker` is built on. Nothing of ours runs
//! here but the queue's name.

use std::{collections::HashSet, time::Duration};

use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use tokio::time::{Instant, timeout, timeout_at};

use crate::common::{
    PATIENCE, eventually,
    private::Private,
    proxy::{Mode, Proxy},
    worker::QUEUE,
    world::World,
};

/// Longer than a broker that is well needs for anything, shorter than the heartbeat that would end a connection.
const MOMENT: Duration = Duration::from_secs(3);

async fn connect(url: &str) -> (Connection, Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

async fn declare(channel: &Channel, queue: &str) {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, FieldTable::default()).await.unwrap();
}

/// Ready messages of a queue, as another connection sees them.
async fn ready(channel: &Channel, queue: &str) -> u32 {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap().message_count()
}

/// Publishes a persistent, mandatory message; the promise of its confirm.
async fn publish(channel: &Channel, queue: &str, id: &str) -> lapin::Result<lapin::PublisherConfirm> {
    let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(id.into());
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    channel.basic_publish("".into(), queue.into(), options, b"{}", properties).await
}

#[tokio::test]
async fn a_return_can_come_with_the_confirm_of_another_but_all_returns_come_with_the_confirms_of_their_batch() {
    let world = World::new("library-returns").await;
    let (_connection, channel) = connect(&world.rabbitmq_url).await;
    declare(&channel, QUEUE).await;
    let deadline = Instant::now() + PATIENCE;
    for round in 0.. {
        assert!(
            Instant::now() < deadline,
            "{round} batches: each return came with its own message's confirm; the rule by batch is not needed any more"
        );
        let mut confirms = Vec::new();
        for number in 0..200 {
            let queue = if number % 2 == 0 { QUEUE } else { "missing" };
            let id = format!("{queue}-{number}");
            confirms.push((publish(&channel, queue, &id).await.unwrap(), id));
        }
        let (mut returned, mut astray) = (HashSet::new(), 0);
        for (confirm, id) in confirms {
            let Confirmation::Ack(message) = confirm.await.unwrap() else { panic!("{id} is not acked") };
            let Some(message) = message else { continue };
            let of: ShortString = message.properties.message_id().clone().unwrap();
            astray += usize::from(of.as_str() != id);
            returned.insert(of.to_string());
        }
        let missing: HashSet<String> = (0..200).filter(|number| number % 2 == 1).map(|number| format!("missing-{number}")).collect();
        assert_eq!(returned, missing, "by message id over the batch the returns are right");
        if astray > 0 {
            return;
        }
    }
}

#[tokio::test]
async fn while_the_broker_takes_nothing_a_publishing_connection_is_deaf_to_its_own_acks_and_a_consuming_one_is_not() {
    let private = Private::start("rabbitmq");
    let world = World::with(&private, "library-blocked").await;
    let (consuming, consumer) = connect(&world.rabbitmq_url).await;
    let (both, publisher) = connect(&world.rabbitmq_url).await;
    for (queue, channel) in [("consumed", &consumer), ("both", &publisher)] {
        declare(channel, queue).await;
        publish(&publisher, queue, "before").await.unwrap().await.unwrap();
    }
    let consume = async |channel: &Channel, queue: &str| {
        let deliveries = channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await;
        deliveries.unwrap().next().await.unwrap().unwrap()
    };
    let (one, other) = (consume(&consumer, "consumed").await, consume(&publisher, "both").await);
    private.rabbitmqctl(&["set_vm_memory_high_watermark", "0"]);
    let during = publish(&publisher, "both", "during").await.unwrap();
    eventually("the notice that it is blocked", async || both.status().blocked().then_some(())).await;
    assert!(!consuming.status().blocked(), "only who publishes is told");

    one.ack(BasicAckOptions::default()).await.unwrap();
    let deaf = timeout(MOMENT, other.ack(BasicAckOptions::default())).await;
    assert!(!matches!(deaf, Ok(Ok(_))), "the ack is not written while the connection is blocked");
    assert!(timeout(MOMENT, both.close(200, "".into())).await.is_err(), "nor is the goodbye");
    assert!(both.status().closing() || both.status().connected());
    // Unacked messages come back when their connection is gone.
    consuming.close(200, "".into()).await.unwrap();
    let (_third, looking) = connect(&world.rabbitmq_url).await;
    assert_eq!(ready(&looking, "consumed").await, 0, "the ack of the connection that only consumes was heard");

    private.rabbitmqctl(&["set_vm_memory_high_watermark", "0.4"]);
    let late = timeout(PATIENCE, during).await.expect("an answer to what was published before the notice");
    eventually("what was published to be on the queue", async || (ready(&looking, "both").await >= 1).then_some(())).await;
    drop(late);
}

#[tokio::test]
async fn confirms_that_are_awaited_fail_at_once_when_the_connection_is_reset() {
    let world = World::new("library-reset").await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let (connection, channel) = connect(&url).await;
    declare(&channel, QUEUE).await;
    proxy.set(Mode::SwallowAnswers);
    let mut confirms = Vec::new();
    for number in 0..50 {
        confirms.push(publish(&channel, QUEUE, &number.to_string()).await.unwrap());
    }
    proxy.reset();
    let deadline = Instant::now() + MOMENT;
    for confirm in confirms {
        timeout_at(deadline, confirm).await.expect("no confirm hangs").expect_err("none is taken for an ack");
    }
    assert!(!connection.status().connected());
}

#[tokio::test]
async fn a_confirm_on_a_silent_connection_hangs_until_heartbeats_are_missed() {
    let world = World::new("library-silent").await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let (connection, channel) = connect(&format!("{url}?heartbeat=2")).await;
    declare(&channel, QUEUE).await;
    proxy.set(Mode::SwallowAll);
    let confirm = publish(&channel, QUEUE, "1").await.unwrap();
    tokio::pin!(confirm);
    let asked = Instant::now();
    assert!(timeout(Duration::from_secs(1), &mut confirm).await.is_err(), "the library has no deadline of its own");
    timeout(PATIENCE, confirm).await.expect("missed heartbeats end it").expect_err("it is no ack");
    assert!(asked.elapsed() >= Duration::from_secs(2), "{:?}", asked.elapsed());
    assert!(!connection.status().connected());
}

#[tokio::test]
async fn whoever_publishes_while_the_broker_shuts_down_gets_an_error_and_does_not_hang() {
    let private = Private::start("rabbitmq");
    let world = World::with(&private, "library-shutdown").await;
    let (_connection, channel) = connect(&world.rabbitmq_url).await;
    declare(&channel, QUEUE).await;
    let publishing = async {
        for number in 0.. {
            let published = timeout(PATIENCE, publish(&channel, QUEUE, &number.to_string())).await.expect("a publish hangs");
            let Ok(confirm) = published else { return };
            if timeout(PATIENCE, confirm).await.expect("a confirm hangs").is_err() {
                return;
            }
        }
    };
    let stopping = tokio::task::spawn_blocking(move || {
        private.stop("TERM");
        private
    });
    let ((), private) = tokio::join!(publishing, stopping);
    drop(private);
}
