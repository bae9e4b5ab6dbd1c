//! Messages a second: a bare confirming publisher against the operator, which claims rows, publishes, and marks them in the record.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sqlx::AssertSqlSafe;
use tokio::time::sleep;

use super::{Bench, rotated};
use crate::{
    broker,
    observer::Observer,
    place::Place,
    results::{Record, number},
    subject::Subject,
};

/// Messages.
const MESSAGES: u32 = 20_000;
/// How long the operator may take.
const PATIENCE: Duration = Duration::from_secs(50);

/// Measures.
pub async fn run(bench: &Bench<'_>) -> Result<()> {
    for round in 1..=bench.options.rounds {
        for operator in rotated(&[false, true], round) {
            let count = bench.options.scaled(MESSAGES, 1_000);
            let place = Place::new(&bench.stack, "publisher").await?;
            let rate = if operator { drained(bench, &place, count).await? } else { bare(&place, count).await? };
            let subject = if operator { "operator" } else { "ceiling" };
            bench.results.add(&Record::new("publisher", "drain", subject, round).with("messages_per_s", rate))?;
            place.remove(&bench.stack).await?;
        }
    }
    Ok(())
}

async fn bare(place: &Place, count: usize) -> Result<f64> {
    let (connection, channel) = broker::connect(&place.rabbitmq_url).await?;
    let begun = Instant::now();
    broker::publish_bare(&channel, count).await?;
    let rate = number(count) / begun.elapsed().as_secs_f64();
    connection.close(200, "done".into()).await?;
    ensure!(usize::try_from(broker::waiting(&place.rabbitmq_url).await?)? == count, "not all messages are in the queue");
    Ok(rate)
}

/// All rows appear at once, by SQL, in front of an operator that leads and has nothing else to do. They have no objects: the
/// sweep, once a minute, would cancel those that are not published by then, and the run would fail.
async fn drained(bench: &Bench<'_>, place: &Place, count: usize) -> Result<f64> {
    let observer = Observer::start(place.objects.clone()).await?;
    let process = Subject::Operator.start_warm(bench.options, &bench.stack, place, &observer).await?;
    let pool = place.pool().await?;
    sqlx::query(AssertSqlSafe(format!(
        "INSERT INTO sync_executions (mode, status, created_at, updated_at, request_uid, namespace, name)
         SELECT 'update', 'running', now(), now(), gen_random_uuid(), '{}', 'row-' || n FROM generate_series(1, {count}) AS n",
        place.name
    )))
    .execute(&pool)
    .await?;
    let begun = Instant::now();
    loop {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM sync_executions WHERE published_at IS NULL AND status = 'running'")
            .fetch_one(&pool)
            .await?;
        if left == 0 {
            break;
        }
        ensure!(begun.elapsed() < PATIENCE, "{left} of {count} rows are not published after {} s", PATIENCE.as_secs());
        sleep(Duration::from_millis(250)).await;
    }
    // From the first mark to the last, by the server's clock: how long it took to notice is no part of it.
    let (published, seconds): (i64, f64) = sqlx::query_as(
        "SELECT count(*), EXTRACT(EPOCH FROM max(published_at) - min(published_at))::float8
         FROM sync_executions WHERE name LIKE 'row-%' AND published_at IS NOT NULL",
    )
    .fetch_one(&pool)
    .await?;
    ensure!(usize::try_from(published)? == count, "{published} of {count} rows were published");
    // The first batch was claimed and published before the first mark.
    let batch: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sync_executions WHERE published_at = (SELECT min(published_at) FROM sync_executions WHERE name LIKE 'row-%')",
    )
    .fetch_one(&pool)
    .await?;
    pool.close().await;
    process.end().await?;
    let waiting = usize::try_from(broker::waiting(&place.rabbitmq_url).await?)?;
    ensure!(waiting == count + 1, "{waiting} messages for {count} rows and one object");
    Ok((number(count) - number(usize::try_from(batch)?)) / seconds)
}
