//! The broker as the bench speaks to it: the ceiling of publishing, and a look at how much is in the queue.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream::FuturesUnordered};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};

/// The queue of all subjects.
pub const QUEUE: &str = "ingest.pncp";
/// Messages in flight: the same number as the operator's.
pub const WINDOW: usize = 200;

/// A connection with a channel on which the queue exists, declared as the worker declares it.
pub async fn connect(url: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.context("connect to the broker")?;
    let channel = connection.create_channel().await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(QUEUE.into(), durable, FieldTable::default()).await?;
    Ok((connection, channel))
}

/// How many messages wait in the queue; nobody may consume meanwhile.
pub async fn waiting(url: &str) -> Result<u32> {
    let (connection, channel) = connect(url).await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let count = channel.queue_declare(QUEUE.into(), passive, FieldTable::default()).await?.message_count();
    connection.close(200, "done".into()).await?;
    Ok(count)
}

/// Publishes `count` messages like the operator's, persistent and mandatory, [`WINDOW`] unconfirmed at any time, and waits for
/// all confirms. No record, nothing else: the most that a confirming publisher can do on one channel.
pub async fn publish_bare(channel: &Channel, count: usize) -> Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let mut confirms = FuturesUnordered::new();
    for number in 0..count {
        if confirms.len() == WINDOW {
            confirmed(confirms.next().await)?;
        }
        let body = format!(r#"{{"mode":"update","request_id":"{number}"}}"#);
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_message_id(format!("7b0d5c0e-30b9-4d7a-9c62-{number:012}/1").into())
            .with_correlation_id(number.to_string().into())
            .with_type("sync.execution.requested".into())
            .with_app_id("sync-operator".into())
            .with_timestamp(1_752_224_400);
        confirms.push(channel.basic_publish("".into(), QUEUE.into(), options, body.as_bytes(), properties).await?);
    }
    while let Some(confirm) = confirms.next().await {
        confirmed(Some(confirm))?;
    }
    Ok(())
}

fn confirmed(confirm: Option<lapin::Result<Confirmation>>) -> Result<()> {
    let plain = matches!(confirm.context("no confirm")??, Confirmation::Ack(None));
    ensure!(plain, "a message was returned or refused");
    Ok(())
}
