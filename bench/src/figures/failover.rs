//! How long nothing is published when the leader of two replicas is killed, and when it is asked to end.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use tokio::time::sleep;

use super::Bench;
use crate::{
    load,
    observer::{Observer, Seen, Shown},
    place::Place,
    results::Record,
    subject::{PATIENCE, Subject},
};

/// Creations a second meanwhile.
const A_SECOND: u32 = 20;
/// Seconds for which a lease holds: the default, when not scaled.
const LEASE_SECONDS: u32 = 15;
/// The least that the operator takes.
const LEASE_SECONDS_MIN: u32 = 3;
/// How long the stream goes on before the leader ends.
const BEFORE: Duration = Duration::from_secs(3);
/// How long it is watched after a planned end; a kill is watched for the lease more.
const AFTER: Duration = Duration::from_secs(6);

/// Measures.
pub async fn run(bench: &Bench<'_>) -> Result<()> {
    for round in 1..=bench.options.rounds {
        for killed in [true, false] {
            gap(bench, killed, round).await?;
        }
    }
    Ok(())
}

async fn gap(bench: &Bench<'_>, killed: bool, round: u32) -> Result<()> {
    let lease = u32::try_from(bench.options.scaled(LEASE_SECONDS, LEASE_SECONDS_MIN))?;
    let place = Place::new(&bench.stack, "failover").await?;
    let observer = Observer::start(place.objects.clone()).await?;
    let start = |identity: &str| {
        let more = [("LEASE_IDENTITY", identity.to_owned()), ("LEASE_DURATION_SECONDS", lease.to_string())];
        Subject::Operator.start(bench.options, &bench.stack, &place, &more)
    };
    let (first, second) = (start("first")?, start("second")?);
    let leases: Api<Lease> = Api::namespaced(bench.stack.client.clone(), &place.name);
    let (leader, standby) = match holder(&leases).await?.as_str() {
        "first" => (first, second),
        _ => (second, first),
    };
    load::create_one(&place.objects, "warm").await?;
    observer.wait(Shown::Published, 1, PATIENCE).await?;

    let stream = load::stream(place.objects.clone(), "sx", A_SECOND);
    sleep(BEFORE).await;
    let ended = Instant::now();
    if killed {
        leader.signal("KILL")?;
        sleep(Duration::from_secs(lease.into()) + AFTER).await;
    } else {
        leader.end().await?;
        sleep(AFTER).await;
    }
    stream.abort();
    observer.quiet().await;
    let seen = observer.seen();
    let unpublished = seen.values().filter(|seen| seen.published.is_none()).count();
    if unpublished > 0 {
        bail!("{unpublished} of {} objects were never published", seen.len());
    }
    let silence = longest_silence(seen.values(), ended).context("nothing was published after the end of the leader")?;
    let case = if killed { "kill -9" } else { "SIGTERM" };
    bench
        .results
        .add(&Record::new("failover", case, "operator", round).with("gap_s", silence.as_secs_f64()).with("lease_s", lease.into()))?;
    standby.end().await?;
    drop(observer);
    place.remove(&bench.stack).await
}

async fn holder(leases: &Api<Lease>) -> Result<String> {
    let begun = Instant::now();
    loop {
        let lease = leases.get_opt("sync-operator").await?;
        if let Some(holder) = lease.and_then(|lease| lease.spec?.holder_identity).filter(|holder| !holder.is_empty()) {
            return Ok(holder);
        }
        if begun.elapsed() > PATIENCE {
            bail!("nobody leads");
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The longest time after `from` in which no object came to be shown as published, while new ones came all the time.
fn longest_silence<'a>(seen: impl Iterator<Item = &'a Seen>, from: Instant) -> Option<Duration> {
    let mut times: Vec<Instant> = seen.filter_map(|seen| seen.published).filter(|at| *at > from).collect();
    times.sort_unstable();
    let starts = std::iter::once(from).chain(times.iter().copied());
    starts.zip(&times).map(|(before, at)| at.duration_since(before)).max()
}
