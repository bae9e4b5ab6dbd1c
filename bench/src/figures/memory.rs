//! Memory with so many known objects, and what a start costs then: nothing may be recorded or published again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::{Bench, rotated};
use crate::{
    api_server::Writes,
    broker, load,
    observer::{Observer, Shown},
    place::Place,
    process,
    results::{Record, number, short},
    subject::Subject,
};

/// Objects, in growing order.
const SIZES: [u32; 3] = [0, 10_000, 100_000];
/// Up to this many all subjects take part; beyond, those that can be expected to live.
const ALL_UP_TO: usize = 10_000;
/// How long a process must use less than a tenth of a core to count as settled.
const SETTLED: Duration = Duration::from_secs(3);
/// How long it may take to settle.
const PATIENCE: Duration = Duration::from_mins(5);
/// Nothing more is created or shown for this long: stuck.
const STUCK: Duration = Duration::from_mins(1);

/// Measures. The objects are made known once, by the operator; then each subject is started with them again and again.
pub async fn run(bench: &Bench<'_>) -> Result<()> {
    let place = Place::new(&bench.stack, "memory").await?;
    let mut known = 0;
    for size in SIZES {
        let size = if size == 0 { 0 } else { bench.options.scaled(size, size / 100) };
        let observer = Observer::start(place.objects.clone()).await?;
        if size > known {
            grow(bench, &place, &observer, known, size).await?;
            known = size;
        }
        drop(observer);
        let mut subjects = vec![Subject::Operator, Subject::GoLifted];
        if size <= ALL_UP_TO {
            subjects.push(Subject::Kopf);
        }
        subjects.retain(|subject| subject.is_built(bench.options));
        for round in 1..=bench.options.rounds {
            for subject in rotated(&subjects, round) {
                start(bench, &place, subject, size, round).await?;
            }
        }
    }
    place.remove(&bench.stack).await
}

/// More objects, recorded, published and shown.
async fn grow(bench: &Bench<'_>, place: &Place, observer: &Observer, from: usize, to: usize) -> Result<()> {
    let operator = Subject::Operator.start(bench.options, &bench.stack, place, &[])?;
    let begun = Instant::now();
    let mut names = load::names("sx", to);
    names.drain(..from);
    load::create(&place.objects, &names).await?;
    observer.wait(Shown::Published, to - from, STUCK).await?;
    observer.quiet().await;
    let memory = process::memory(operator.pid()?);
    println!(
        "{} objects more were recorded, published and shown in {} s; the operator is at {} MB, at most {} MB",
        names.len(),
        begun.elapsed().as_secs(),
        short(memory.resident / 1e6),
        short(memory.peak / 1e6)
    );
    operator.end().await
}

async fn start(bench: &Bench<'_>, place: &Place, subject: Subject, known: usize, round: u32) -> Result<()> {
    let (rows, messages) = (rows(place).await?, broker::waiting(&place.rabbitmq_url).await?);
    let (writes, commits) = (Writes::now(&bench.stack.admin).await?, place.commits().await?);
    let mut running = subject.start(bench.options, &bench.stack, place, &[])?;
    let begun = Instant::now();
    let settled = settled(&running, begun).await.with_context(|| format!("{} with {known} objects", subject.name()))?;
    running.must_run()?;
    let pid = running.pid()?;
    let (memory, cpu) = (process::memory(pid), process::cpu_seconds(pid));
    let written = Writes::now(&bench.stack.admin).await?.since(&writes);
    running.end().await?;
    ensure!(self::rows(place).await? == rows, "{} recorded known objects again", subject.name());
    let published = f64::from(broker::waiting(&place.rabbitmq_url).await?) - f64::from(messages);
    bench.results.add(
        &Record::new("memory", &format!("{known:>6} objects"), subject.name(), round)
            .with("objects", number(known))
            .with("rss_mb", memory.resident / 1e6)
            .with("peak_rss_mb", memory.peak / 1e6)
            .with("start_s", settled.as_secs_f64())
            .with("start_cpu_s", cpu)
            .with("sql_commits", place.commits().await? - commits)
            .with("publishes", published)
            .with("object_writes", written.objects),
    )
}

async fn rows(place: &Place) -> Result<i64> {
    place.number("SELECT count(*) FROM sync_executions").await
}

/// How long after `begun` the process had done what a start takes: from then on it used less than a tenth of a core.
async fn settled(running: &process::Process, begun: Instant) -> Result<Duration> {
    let pid = running.pid()?;
    let mut busy_until = Instant::now();
    let mut before = process::cpu_seconds(pid);
    let step = Duration::from_millis(250);
    loop {
        sleep(step).await;
        let now = process::cpu_seconds(pid);
        if now - before > step.as_secs_f64() / 10.0 {
            busy_until = Instant::now();
        }
        before = now;
        if busy_until.elapsed() > SETTLED {
            return Ok(busy_until.duration_since(begun));
        }
        ensure!(begun.elapsed() < PATIENCE, "not settled after {} s", PATIENCE.as_secs());
    }
}
