//! Objects a second from creation to published, and with an instant worker to succeeded; and what an object costs each process.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::{Bench, rotated};
use crate::{
    api_server::Writes,
    broker, ceiling, load,
    observer::{Observer, Shown},
    place::Place,
    process::{self, Process},
    results::{Record, number},
    stack::SERVERS,
    subject::Subject,
    worker::Worker,
};

/// Objects of a burst.
const OBJECTS: u32 = 3_000;
/// Objects of a burst for those that need a second for twenty of them; what is told is per object.
const FEW: u32 = 300;
/// How long nothing may happen before a burst counts as stuck.
const STUCK: Duration = Duration::from_secs(30);

/// Who takes part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Runner {
    /// Create and one patch, or two.
    Ceiling,
    Subject(Subject),
}

impl Runner {
    fn name(self) -> &'static str {
        match self {
            Self::Ceiling => "ceiling",
            Self::Subject(subject) => subject.name(),
        }
    }

    fn is_slow(self) -> bool {
        matches!(self, Self::Subject(Subject::GoDefault | Subject::Kopf))
    }
}

/// Measures.
pub async fn run(bench: &Bench<'_>) -> Result<()> {
    let mut runners = vec![Runner::Ceiling];
    runners.extend(Subject::ALL.into_iter().filter(|subject| subject.is_built(bench.options)).map(Runner::Subject));
    for round in 1..=bench.options.rounds {
        for what in [Shown::Published, Shown::Succeeded] {
            for runner in rotated(&runners, round) {
                burst(bench, runner, what, round).await?;
            }
        }
    }
    Ok(())
}

/// What was counted at one moment.
struct Counts {
    writes: Writes,
    changes: u64,
    cpu: Vec<(&'static str, f64)>,
}

impl Counts {
    async fn now(bench: &Bench<'_>, observer: &Observer, process: Option<&Process>) -> Result<Self> {
        let mut cpu = vec![("bench", process::cpu_seconds(std::process::id()))];
        if let Some(process) = process {
            cpu.push(("subject", process::cpu_seconds(process.pid()?)));
            // The subject is our child: what is counted for us with descendants has it in it.
            let (subject, own) = (cpu[1].1, &mut cpu[0].1);
            *own -= subject;
        }
        for part in SERVERS {
            cpu.push((part, process::cpu_seconds(bench.stack.pid(part)?)));
        }
        Ok(Self { writes: Writes::now(&bench.stack.admin).await?, changes: observer.changes(), cpu })
    }
}

async fn burst(bench: &Bench<'_>, runner: Runner, what: Shown, round: u32) -> Result<()> {
    let count = bench.options.scaled(if runner.is_slow() { FEW } else { OBJECTS }, 40);
    let case = if what == Shown::Published { "published" } else { "succeeded" };
    let place = Place::new(&bench.stack, &format!("objects-{}", runner.name())).await?;
    let observer = Observer::start(place.objects.clone()).await?;
    let names = load::names("sx", count);
    let mut record = Record::new("objects", case, runner.name(), round).with("objects", number(count));

    let (process, before, begun, done);
    let mut tally = None;
    match runner {
        Runner::Ceiling => {
            process = None;
            before = Counts::now(bench, &observer, None).await?;
            begun = Instant::now();
            ceiling::run(&place.objects, &names, if what == Shown::Published { 1 } else { 2 }).await?;
            done = observer.wait(what, count, STUCK).await?;
        }
        Runner::Subject(subject) => {
            let running = subject.start_warm(bench.options, &bench.stack, &place, &observer).await?;
            let worker = if what == Shown::Succeeded { Some(Worker::start(&place).await?) } else { None };
            if worker.is_some() {
                observer.wait(Shown::Succeeded, 1, STUCK).await?;
                observer.quiet().await;
            }
            before = Counts::now(bench, &observer, Some(&running)).await?;
            begun = Instant::now();
            load::create(&place.objects, &names).await?;
            // The warm one is among them.
            done = observer.wait(what, count + 1, STUCK).await?;
            process = Some(running);
            observer.quiet().await;
            if let Some(worker) = worker {
                tally = Some(worker.stop().await?);
            }
        }
    }
    observer.quiet().await;
    let after = Counts::now(bench, &observer, process.as_ref()).await?;
    record = record.with("objects_per_s", number(count) / done.duration_since(begun).as_secs_f64());
    record = costs(record, &before, &after, count);
    if let Some(process) = process {
        let memory = process::memory(process.pid()?);
        record = record.with("rss_mb", memory.resident / 1e6).with("peak_rss_mb", memory.peak / 1e6);
        process.end().await?;
        record = deliveries(record, &place, tally, count).await?;
    }
    bench.results.add(&record)?;
    drop(observer);
    place.remove(&bench.stack).await
}

fn costs(mut record: Record, before: &Counts, after: &Counts, count: usize) -> Record {
    let written = after.writes.since(&before.writes);
    let changes = number(usize::try_from(after.changes - before.changes).unwrap_or_default());
    record = record
        .with("api_writes_per_object", written.objects / number(count))
        .with("other_api_writes_per_object", written.others / number(count))
        .with("refused_writes", written.refused)
        .with("noop_patches", (written.changes - changes).max(0.0));
    for ((part, before), (_, after)) in before.cpu.iter().zip(&after.cpu) {
        record = record.with(&format!("cpu_s_per_1000_{part}"), (after - before) * 1000.0 / number(count));
    }
    record
}

/// What reached the queue, and what that took of the database. Fails when something was lost: a rate of those that arrived would
/// be no rate of the job.
async fn deliveries(mut record: Record, place: &Place, tally: Option<crate::worker::Tally>, count: usize) -> Result<Record> {
    let objects = count + 1;
    let (messages, reports) = match tally {
        Some(tally) => {
            ensure!(tally.ids.len() == objects, "{} message ids for {objects} objects", tally.ids.len());
            (number(usize::try_from(tally.messages)?), f64::from(tally.statements))
        }
        None => (f64::from(broker::waiting(&place.rabbitmq_url).await?), 0.0),
    };
    ensure!(messages >= number(objects), "{messages} messages for {objects} objects");
    let rows = place.number("SELECT count(*) FROM sync_executions WHERE published_at IS NOT NULL").await?;
    ensure!(usize::try_from(rows)? == objects, "{rows} published rows for {objects} objects");
    let commits = place.commits().await? - reports;
    record = record.with("publishes_per_object", messages / number(objects)).with("sql_commits_per_object", commits / number(objects));
    Ok(record)
}
