//! From the worker's commit to the object: how old is what kubectl shows. At a steady rate far below the limit, each report sent
//! at its time whether or not those before were shown.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use sqlx::PgPool;
use tokio::{task::JoinSet, time};

use super::{Bench, rotated};
use crate::{
    load,
    observer::{Observer, Shown},
    place::Place,
    results::{Record, number},
    subject::{PATIENCE, Subject},
};

/// Reports.
const REPORTS: u32 = 300;
/// Reports a second.
const A_SECOND: u32 = 20;

/// Measures.
pub async fn run(bench: &Bench<'_>) -> Result<()> {
    let all = [Subject::Operator, Subject::GoLifted, Subject::Kopf];
    let subjects: Vec<_> = all.into_iter().filter(|subject| subject.is_built(bench.options)).collect();
    for round in 1..=bench.options.rounds {
        for subject in rotated(&subjects, round) {
            reports(bench, subject, round).await?;
        }
    }
    Ok(())
}

async fn reports(bench: &Bench<'_>, subject: Subject, round: u32) -> Result<()> {
    let count = bench.options.scaled(REPORTS, 40);
    let place = Place::new(&bench.stack, &format!("latency-{}", subject.name())).await?;
    let observer = Observer::start(place.objects.clone()).await?;
    let process = subject.start_warm(bench.options, &bench.stack, &place, &observer).await?;
    let names = load::names("sx", count);
    load::create(&place.objects, &names).await?;
    observer.wait(Shown::Published, count + 1, PATIENCE).await?;
    observer.quiet().await;

    let pool = place.pool().await?;
    let committed = report_all(&pool, names).await?;
    observer.wait(Shown::Succeeded, count, PATIENCE).await?;
    pool.close().await;
    let seen = observer.seen();
    let mut times = Histogram::<u64>::new(3)?;
    for (name, at) in committed {
        let shown = seen.get(&name).and_then(|seen| seen.succeeded).context("an object was not seen")?;
        times.record(u64::try_from(shown.saturating_duration_since(at).as_micros())?)?;
    }
    process.end().await?;
    let milliseconds = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1e3;
    let record = Record::new("latency", &format!("{A_SECOND} reports/s"), subject.name(), round)
        .with("reports", number(count))
        .with("p50_ms", milliseconds(times.value_at_quantile(0.5)))
        .with("p99_ms", milliseconds(times.value_at_quantile(0.99)))
        .with("max_ms", milliseconds(times.max()));
    bench.results.add(&record)?;
    drop(observer);
    place.remove(&bench.stack).await
}

/// Reports success of each by SQL; when each was committed.
async fn report_all(pool: &PgPool, names: Vec<String>) -> Result<HashMap<String, Instant>> {
    let begun = time::Instant::now();
    let mut reports = JoinSet::new();
    for (number, name) in (0_u32..).zip(names) {
        let pool = pool.clone();
        reports.spawn(async move {
            time::sleep_until(begun + Duration::from_secs(number.into()) / A_SECOND).await;
            sqlx::query("UPDATE sync_executions SET status = 'success', records_processed = 7, duration_seconds = 0.1 WHERE name = $1")
                .bind(&name)
                .execute(&pool)
                .await?;
            anyhow::Ok((name, Instant::now()))
        });
    }
    let mut committed = HashMap::new();
    while let Some(report) = reports.join_next().await {
        let (name, at) = report??;
        committed.insert(name, at);
    }
    Ok(committed)
}
