//! The instant worker: takes messages and reports success by SQL, the same for every subject.

use std::{collections::HashSet, time::Duration};

use anyhow::{Context, Result};
use futures::StreamExt;
use lapin::{
    Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use sqlx::PgPool;
use tokio::{task::JoinHandle, time::timeout};

use crate::{broker, place::Place};

/// Messages that are taken before any is acked.
const PREFETCH: u16 = 500;
/// Most executions that one statement reports on.
const BATCH: usize = 100;
/// How long a batch waits for more.
const GATHER: Duration = Duration::from_millis(20);

/// What the worker saw.
#[derive(Debug, Default)]
pub struct Tally {
    /// Messages taken.
    pub messages: u64,
    /// Message ids among them.
    pub ids: HashSet<String>,
    /// Statements it committed.
    pub statements: u32,
}

/// A running worker.
pub struct Worker {
    stop: tokio::sync::oneshot::Sender<()>,
    task: JoinHandle<Result<Tally>>,
}

impl Worker {
    /// Starts taking.
    pub async fn start(place: &Place) -> Result<Self> {
        let pool = place.pool().await?;
        let (connection, channel) = broker::connect(&place.rabbitmq_url).await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let mut consumer =
            channel.basic_consume(broker::QUEUE.into(), "bench".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut tally = Tally::default();
            loop {
                let first = tokio::select! {
                    _ = &mut stopped => break,
                    next = consumer.next() => next.context("the broker ended the worker")??,
                };
                report(&pool, gather(&mut consumer, first).await?, &mut tally).await?;
            }
            pool.close().await;
            connection.close(200, "done".into()).await?;
            Ok(tally)
        });
        Ok(Self { stop, task })
    }

    /// Stops taking.
    pub async fn stop(self) -> Result<Tally> {
        let _ = self.stop.send(());
        self.task.await?
    }
}

async fn gather(consumer: &mut Consumer, first: Delivery) -> Result<Vec<Delivery>> {
    let mut batch = vec![first];
    while batch.len() < BATCH {
        match timeout(GATHER, consumer.next()).await {
            Ok(next) => batch.push(next.context("the broker ended the worker")??),
            Err(_) => break,
        }
    }
    Ok(batch)
}

async fn report(pool: &PgPool, batch: Vec<Delivery>, tally: &mut Tally) -> Result<()> {
    let ids: Vec<i64> = batch.iter().map(|delivery| request(&delivery.data)).collect::<Result<_>>()?;
    loop {
        let reported =
            sqlx::query("UPDATE sync_executions SET status = 'success', records_processed = 7, duration_seconds = 0.1 WHERE id = ANY($1)")
                .bind(&ids)
                .execute(pool)
                .await;
        match reported {
            Ok(_) => break,
            // A subject that marks many rows by one statement may lock them in another order; a worker tries again then.
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("40P01") => {}
            Err(error) => return Err(error.into()),
        }
    }
    tally.statements += 1;
    for delivery in &batch {
        tally.messages += 1;
        tally.ids.extend(delivery.properties.message_id().as_ref().map(ToString::to_string));
    }
    if let Some(last) = batch.last() {
        last.acker.ack(BasicAckOptions { multiple: true }).await?;
    }
    Ok(())
}

/// The execution that a message asks for.
fn request(body: &[u8]) -> Result<i64> {
    let body: serde_json::Value = serde_json::from_slice(body)?;
    body.get("request_id").and_then(serde_json::Value::as_str).context("a message without request_id")?.parse().context("request_id")
}
