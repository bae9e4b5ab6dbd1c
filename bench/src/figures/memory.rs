//! Memory with so many objects, and what a start costs: nothing that is known may be recorded or published again, and everything
//! that is new must be, once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::{Bench, rotated};
use crate::{
    api_server::Writes,
    broker, load,
    observer::{Observer, Shown},
    place::Place,
    process::{self, Process},
    results::{Record, number},
    subject::Subject,
};

/// Objects, in growing order.
const SIZES: [u32; 3] = [0, 10_000, 100_000];
/// Up to this many all subjects take part; beyond, those that can be expected to live.
const ALL_UP_TO: u32 = 10_000;
/// How long a process must use less than a tenth of a core to count as settled.
const SETTLED: Duration = Duration::from_secs(3);
/// How long it may take to settle.
const PATIENCE: Duration = Duration::from_mins(5);
/// Nothing more is shown for this long: stuck.
const STUCK: Duration = Duration::from_mins(1);

/// Measures. The objects are made known by starts of the operator that finds some, or none, of them known; then each subject is
/// started with all of them known, again and again.
pub async fn run(bench: &Bench<'_>) -> Result<()> {
    let mut subjects = vec![Subject::Operator, Subject::GoLifted, Subject::Kopf];
    subjects.retain(|subject| subject.is_built(bench.options));
    let place = Place::new(&bench.stack, "memory").await?;
    for size in SIZES {
        let size = scaled(bench, size);
        if size > 0 {
            // Half of the most is known when the other half is found; none of the fewer ones.
            let half = if size > scaled(bench, ALL_UP_TO) { size / 2 } else { size };
            grow(bench, &place, half).await?;
            grow(bench, &place, size).await?;
        }
        for round in 1..=bench.options.rounds {
            for subject in rotated(&subjects, round) {
                if subject != Subject::Kopf || size <= scaled(bench, ALL_UP_TO) {
                    start_with_known(bench, &place, subject, size, round).await?;
                }
            }
        }
    }
    place.remove(&bench.stack).await?;
    let place = Place::new(&bench.stack, "memory-new").await?;
    grow(bench, &place, scaled(bench, SIZES[2])).await?;
    place.remove(&bench.stack).await
}

fn scaled(bench: &Bench<'_>, size: u32) -> usize {
    if size == 0 { 0 } else { bench.options.scaled(size, size / 100) }
}

/// So many objects in all: what is missing is created while nobody runs, and then the operator is started. Measured until the last
/// of them shows that it is published.
async fn grow(bench: &Bench<'_>, place: &Place, size: usize) -> Result<()> {
    let known = usize::try_from(rows(place).await?)?;
    if known >= size {
        return Ok(());
    }
    let mut names = load::names("sx", size);
    load::create(&place.objects, &names.split_off(known)).await?;
    let observer = Observer::start(place.objects.clone()).await?;
    let before = Before::now(bench, place).await?;
    let operator = Subject::Operator.start(bench.options, &bench.stack, place, &[])?;
    let begun = Instant::now();
    let done = observer.wait(Shown::Published, size - known, STUCK).await?;
    observer.quiet().await;
    let case = format!("{size:>6} objects, {known} known");
    let record = before.since(bench, place, Record::new("memory", &case, Subject::Operator.name(), 1), operator).await?;
    ensure!(usize::try_from(rows(place).await?)? == size, "{case}: not one row for each object");
    ensure!(record.values.get("publishes").copied() == Some(number(size - known)), "{case}: not one message for each new object");
    bench.results.add(&record.with("objects", number(size)).with("start_s", done.duration_since(begun).as_secs_f64()))
}

/// What was counted before a start.
struct Before {
    messages: u32,
    writes: Writes,
    commits: f64,
}

impl Before {
    async fn now(bench: &Bench<'_>, place: &Place) -> Result<Self> {
        Ok(Self {
            messages: broker::waiting(&place.rabbitmq_url).await?,
            writes: Writes::now(&bench.stack.admin).await?,
            commits: place.commits().await?,
        })
    }

    /// Adds what it came to, and ends the process.
    async fn since(self, bench: &Bench<'_>, place: &Place, record: Record, running: Process) -> Result<Record> {
        let (memory, cpu) = (process::memory(running.pid()?), process::cpu_seconds(running.pid()?));
        let written = Writes::now(&bench.stack.admin).await?.since(&self.writes);
        running.end().await?;
        let published = f64::from(broker::waiting(&place.rabbitmq_url).await?) - f64::from(self.messages);
        Ok(record
            .with("rss_mb", memory.resident / 1e6)
            .with("peak_rss_mb", memory.peak / 1e6)
            .with("start_cpu_s", cpu)
            .with("sql_commits", place.commits().await? - self.commits)
            .with("publishes", published)
            .with("object_writes", written.objects))
    }
}

async fn start_with_known(bench: &Bench<'_>, place: &Place, subject: Subject, known: usize, round: u32) -> Result<()> {
    let rows = rows(place).await?;
    let before = Before::now(bench, place).await?;
    let mut running = subject.start(bench.options, &bench.stack, place, &[])?;
    let begun = Instant::now();
    let settled = settled(&running, begun).await.with_context(|| format!("{} with {known} objects", subject.name()))?;
    running.must_run()?;
    let record = Record::new("memory", &format!("{known:>6} objects"), subject.name(), round);
    let record = before.since(bench, place, record, running).await?;
    ensure!(self::rows(place).await? == rows, "{} recorded known objects again", subject.name());
    bench.results.add(&record.with("objects", number(known)).with("start_s", settled.as_secs_f64()))
}

async fn rows(place: &Place) -> Result<i64> {
    place.number("SELECT count(*) FROM sync_executions").await
}

/// How long after `begun` the process had done what a start takes: from then on it used less than a tenth of a core.
async fn settled(running: &Process, begun: Instant) -> Result<Duration> {
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
