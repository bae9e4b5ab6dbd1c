//! One run: a world of its own, the work, the crash, the restart, quiet, and what is seen from outside then.

use std::{
    collections::BTreeSet,
    fmt::Write,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
};

use futures::FutureExt;

use super::{
    history,
    kept::Kept,
    outside::{self, Violation},
    workload::{self, Interrupted, Tap},
};
use crate::common::{
    crash_points::{Plan, Trace},
    program::Settings,
    proxy::Proxy,
    world::World,
};

/// Which process follows the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    /// The controller.
    Controller,
    /// The REST API.
    Api,
}

/// What is run.
#[derive(Clone, Debug)]
pub struct Job {
    /// Who follows the plan.
    pub process: Process,
    /// Where it dies, or what it does twice; then where the one started after it dies …
    pub plans: Vec<Plan>,
    /// A burst that is interrupted, instead of the whole work.
    pub interrupted: Option<Interrupted>,
}

/// What came of it.
pub struct Outcome {
    /// How many of the planned points were met.
    pub met: u64,
    /// The effects that the planned process had.
    pub effects: Vec<String>,
    /// What does not hold.
    pub violations: Vec<Violation>,
    /// How many messages came more than once.
    pub duplicates: usize,
}

/// What was seen of it.
struct Seen {
    deaths: u64,
    violations: Vec<Violation>,
    messages: Vec<(String, String)>,
}

/// Runs it. What goes wrong in it is a violation like others: a sweep goes on.
pub async fn run(job: Job) -> Outcome {
    let world = World::new("sweep").await;
    let name = world.name.clone();
    let trace = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("crash").join(format!("{name}.trace"));
    std::fs::create_dir_all(trace.parent().unwrap()).unwrap();
    let _ = std::fs::remove_file(&trace);
    let outcome = AssertUnwindSafe(in_world(&world, &job, &trace)).catch_unwind().await;
    let passed = Trace::read(&trace);
    let effects = passed.effects().into_iter().map(str::to_owned).collect();
    let seen = outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Seen { deaths: 1, violations: vec![("stuck", text.unwrap_or_default())], messages: Vec::new() }
    });
    let Seen { deaths, mut violations, messages } = seen;
    let ids: BTreeSet<&str> = messages.iter().map(|(id, _)| id.as_str()).collect();
    let duplicates = messages.len() - ids.len();
    let expected = passed.died_between_publish_and_mark() || passed.did_twice("publish a message");
    if duplicates > 0 && !expected {
        violations.push(("I3", format!("{duplicates} second copies, and nothing fell between publish and mark")));
    }
    for (_, text) in &mut violations {
        let _ = write!(text, " [{name}: {job:?}; {passed}]");
    }
    let twice = job.plans.iter().filter_map(|plan| plan.effect).any(|effect| passed.did_twice(effect));
    let met = deaths + u64::from(twice);
    if violations.is_empty() {
        std::fs::remove_file(&trace).unwrap();
    }
    world.remove().await;
    Outcome { met, effects, violations, duplicates }
}

/// Settings that make a run short: a restarted process takes its own lease at once, and claims of the dead one end soon.
fn settings(world: &World, rabbitmq_url: &str) -> Settings {
    world
        .settings()
        .with("RABBITMQ_URL", rabbitmq_url)
        .with("LEASE_IDENTITY", "swept")
        .with("SYNC_CRASH_CLAIM_SECONDS", 1)
        .with("STATUS_GATHER_MILLISECONDS", 50)
        .with("DATABASE_MAX_CONNECTIONS", 4)
        .with("EVENTS", "all")
}

async fn in_world(world: &World, job: &Job, trace: &Path) -> Seen {
    let (history, _watch) = history::begin(world).await;
    workload::prepare(world).await;
    let worker = world.worker().await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let start = |process, subcommand| {
        let clean = settings(world, &url);
        let with = |plan| clean.clone().with_crash(plan, trace);
        let planned = match job.plans.as_slice() {
            _ if job.process != process => Vec::new(),
            [] => vec![with(None)],
            plans => plans.iter().map(|plan| with(Some(*plan))).collect(),
        };
        Kept::start(subcommand, planned, clean)
    };
    let (controller, api) = (start(Process::Controller, "controller"), start(Process::Api, "api"));
    let planned = match job.process {
        Process::Controller => &controller,
        Process::Api => &api,
    };
    let tap = Tap::default();
    let whole = async {
        let asked = match job.interrupted {
            None => workload::everything(world, &api, &proxy).await,
            Some(moment) => workload::burst(world, &controller, &tap, moment).await,
        };
        // Its end is an effect too; then comes one that has no plan.
        planned.terminate();
        let deaths = planned.restarted().await;
        let mut violations = outside::quiet(world).await;
        violations.extend(outside::one_row_each(world, &asked).await);
        violations.extend(outside::published_or_ended(world, &tap.messages()).await);
        violations.extend(outside::no_end_taken_back(world, &history).await);
        violations.extend(outside::counters_are_right(world).await);
        Seen { deaths, violations, messages: tap.messages() }
    };
    tokio::select! {
        seen = whole => seen,
        () = tap.work(world, worker, &api) => unreachable!("it works for ever"),
    }
}
