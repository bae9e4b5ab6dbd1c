//! A worker as it is in production: declares the queue durable without arguments, prefetch 1, takes JSON. It also records
//! what came: every test's evidence of what was on the wire.

use std::collections::BTreeSet;

use futures::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde_json::Value;
use tokio::time::timeout;

use super::PATIENCE;

/// The queue of the contract.
pub const QUEUE: &str = "ingest.pncp";
/// The queue of reports.
pub const STATUS_QUEUE: &str = "ingest.pncp.status";

/// A message that was taken and acked.
#[derive(Debug)]
pub struct Taken {
    /// The body as it came.
    pub text: String,
    /// The body read.
    pub body: Value,
    /// The properties.
    pub properties: BasicProperties,
}

impl Taken {
    /// `request_id` as a number.
    pub fn execution(&self) -> i64 {
        self.body["request_id"].as_str().unwrap().parse().unwrap()
    }

    /// The property `message_id`.
    pub fn message_id(&self) -> String {
        self.properties.message_id().as_ref().unwrap().to_string()
    }
}

/// How many messages came more than once.
pub fn second_copies(taken: &[Taken]) -> usize {
    taken.len() - taken.iter().map(Taken::message_id).collect::<BTreeSet<_>>().len()
}

/// The worker.
pub struct Worker {
    _connection: Connection,
    channel: Channel,
    consumer: Consumer,
}

impl Worker {
    /// Connects and consumes.
    pub async fn connect(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(QUEUE.into(), durable, FieldTable::default()).await.unwrap();
        channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let consumer = channel.basic_consume(QUEUE.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await.unwrap();
        Self { _connection: connection, channel, consumer }
    }

    /// Takes the next message and acks it.
    pub async fn take(&mut self) -> Taken {
        self.take_within(PATIENCE).await.expect("a message on the work queue")
    }

    /// Takes the next message if one comes within that time.
    pub async fn take_within(&mut self, patience: std::time::Duration) -> Option<Taken> {
        let delivery: Delivery = timeout(patience, self.consumer.next()).await.ok()??.unwrap();
        delivery.ack(BasicAckOptions::default()).await.unwrap();
        let text = String::from_utf8(delivery.data).unwrap();
        Some(Taken { body: serde_json::from_str(&text).unwrap(), text, properties: delivery.properties })
    }

    /// Takes what is left, until none comes for a second.
    pub async fn take_rest(&mut self) -> Vec<Taken> {
        let mut taken = Vec::new();
        while let Some(message) = self.take_within(std::time::Duration::from_secs(1)).await {
            taken.push(message);
        }
        taken
    }

    /// Takes `count` messages.
    pub async fn take_many(&mut self, count: usize) -> Vec<Taken> {
        let mut taken = Vec::with_capacity(count);
        for _ in 0..count {
            taken.push(self.take().await);
        }
        taken
    }

    /// Sends a report to the status queue and waits for the confirm.
    pub async fn report(&self, report: &Value) {
        self.publish(STATUS_QUEUE, report.to_string().as_bytes()).await;
    }

    /// Publishes any bytes to a queue and waits for the confirm.
    pub async fn publish(&self, queue: &str, body: &[u8]) {
        self.publish_with(queue, body, FieldTable::default()).await;
    }

    /// The same with headers.
    pub async fn publish_with(&self, queue: &str, body: &[u8], headers: FieldTable) {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.into(), durable, FieldTable::default()).await.unwrap();
        let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
        self.channel.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), body, properties).await.unwrap().await.unwrap();
    }
}
