//! `kubectl sync wait`, and what `force --wait` does: follows executions to their end, with a limit.

use std::{pin::pin, time::Duration};

use clap::Args;
use futures::{StreamExt, stream::FuturesUnordered};
use kube::ResourceExt;
use sync_operator::crd::SyncExecution;
use tokio::time::{Instant, timeout_at};

use crate::{
    age,
    cluster::Cluster,
    failure::Failure,
    follow::{Step, Troubles, follow},
    outcome::{self, Outcome},
    output::{KIND, OutputArgs, many, print},
    progress::{Line, Progress},
};

/// How long to wait.
#[derive(Args, Clone, Copy, Debug)]
pub struct TimeoutArgs {
    /// Longest time to wait; 0 waits for ever.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = age::parse)]
    pub timeout: Duration,
}

/// `kubectl sync wait`.
#[derive(Args, Debug)]
pub struct WaitArgs {
    /// The executions to wait for.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    #[command(flatten)]
    limit: TimeoutArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(args: &WaitArgs, cluster: &Cluster) -> Result<(), Failure> {
    let (ended, failures) = all(&args.names, args.limit.timeout, cluster).await?;
    if args.output.output.is_some() {
        print(&many(&ended, args.output, false, sync_operator::clock::now())?)?;
    } else {
        for object in &ended {
            tell(object)?;
        }
    }
    last_of(failures)
}

/// Prints that it ended, if it ended well: what did not is told as an error.
///
/// # Errors
/// That it cannot be written.
pub fn tell(object: &SyncExecution) -> Result<(), Failure> {
    match outcome::of(object) {
        Some(Outcome::Well(words)) => print(&format!("{KIND}/{} succeeded: {words}", object.name_any())),
        _ => Ok(()),
    }
}

/// Tells all failures; the one that ends the program is the last, and a failed execution counts more than one that goes on.
///
/// # Errors
/// The last.
pub fn last_of(mut failures: Vec<Failure>) -> Result<(), Failure> {
    failures.sort_by_key(|failure| matches!(failure, Failure::NotWell(_)));
    let Some(last) = failures.pop() else { return Ok(()) };
    for failure in failures {
        failure.tell();
    }
    Err(last)
}

/// Waits for all: what ended, as it ended, and what did not go well. Ctrl-C ends the waiting only.
///
/// # Errors
/// [`Failure::Interrupted`].
pub async fn all(names: &[String], limit: Duration, cluster: &Cluster) -> Result<(Vec<SyncExecution>, Vec<Failure>), Failure> {
    let deadline = (!limit.is_zero()).then(|| Instant::now() + limit);
    let progress = Progress::new();
    let mut waits: FuturesUnordered<_> = names.iter().map(|name| one(name, limit, deadline, cluster, progress.line(name))).collect();
    let (mut ended, mut failures) = (Vec::new(), Vec::new());
    let interrupt = tokio::signal::ctrl_c();
    let collect = async {
        while let Some(result) = waits.next().await {
            match result {
                Ok(object) => {
                    if let Some(Outcome::NotWell(words)) = outcome::of(&object) {
                        failures.push(Failure::NotWell(words));
                    }
                    ended.push(object);
                }
                Err(failure) => failures.push(failure),
            }
        }
    };
    tokio::select! {
        () = collect => {}
        _ = interrupt => {
            return Err(Failure::Interrupted(format!(
                "no longer waiting; the execution goes on. To look again: kubectl sync wait -n {} {}",
                cluster.namespace,
                names.join(" ")
            )));
        }
    }
    Ok((ended, failures))
}

async fn one(name: &str, limit: Duration, deadline: Option<Instant>, cluster: &Cluster, mut line: Line) -> Result<SyncExecution, Failure> {
    let mut steps = pin!(follow(cluster, false, Some(name)));
    let mut last: Option<SyncExecution> = None;
    let mut troubles = Troubles::default();
    loop {
        let step = match deadline {
            Some(deadline) => timeout_at(deadline, steps.next()).await.map_err(|_| timed_out(name, limit, last.as_ref(), cluster))?,
            None => steps.next().await,
        };
        let Some(step) = step else { return Err(gone(name)) };
        match step? {
            Step::Seen(object) => {
                troubles.over();
                line.show(&outcome::progress(&object));
                if outcome::of(&object).is_some() {
                    return Ok(*object);
                }
                last = Some(*object);
            }
            Step::Deleted(object) if outcome::of(&object).is_some() => return Ok(*object),
            Step::Listed { any: true } => troubles.over(),
            Step::Listed { any: false } if last.is_none() => {
                return Err(Failure::NotWell(format!(
                    "there is no SyncExecution {name} in namespace {}: see kubectl sync history",
                    cluster.namespace
                )));
            }
            Step::Deleted(_) | Step::Listed { any: false } => return Err(gone(name)),
            Step::Trouble(trouble) => {
                if let Some(text) = troubles.line(&trouble, &cluster.server) {
                    line.show(&text);
                }
            }
        }
    }
}

fn gone(name: &str) -> Failure {
    Failure::NotWell(format!(
        "{name} was deleted before it ended: it is cancelled if it was not published, else the worker goes on; the record says which"
    ))
}

fn timed_out(name: &str, limit: Duration, last: Option<&SyncExecution>, cluster: &Cluster) -> Failure {
    let limit = humantime::format_duration(limit);
    let Some(object) = last else {
        return Failure::TimedOut(format!("no answer from {} about {name} within {limit}", cluster.server));
    };
    let next = crate::advice::next(object, sync_operator::clock::now()).map(|advice| format!(". {advice}")).unwrap_or_default();
    Failure::TimedOut(format!(
        "{name} has not ended within {limit}: {}{next}. It goes on; to look again: kubectl sync wait -n {} {name}",
        outcome::progress(object),
        cluster.namespace
    ))
}
