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
    let stopped = Instant::now();
    observer.quiet().await;
    // Rows that the dead one had claimed wait until its claims are over.
    observer.wait(Shown::Published, observer.seen().len(), PATIENCE).await?;
    let silence = longest_silence(observer.seen().values(), ended, stopped).context("nothing was published after the end of the leader")?;
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

/// The longest time from `from` to `to` in which no object came to be shown as published, while new ones came all the time. If
/// that took until after `to`, the time until the first.
fn longest_silence<'a>(seen: impl Iterator<Item = &'a Seen>, from: Instant, to: Instant) -> Option<Duration> {
    let mut times: Vec<Instant> = seen.filter_map(|seen| seen.published).filter(|at| *at > from).collect();
    times.sort_unstable();
    let first = *times.first()?;
    let between = times.windows(2).filter(|pair| pair[1] <= to).map(|pair| pair[1].duration_since(pair[0]));
    between.chain([first.duration_since(from)]).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_the_stream_is_no_silence_but_the_first_always_counts() {
        let from = Instant::now();
        let at = |seconds: u64| from + Duration::from_secs(seconds);
        let seen = |seconds: &[u64]| seconds.iter().map(|s| Seen { published: Some(at(*s)), ..Seen::default() }).collect::<Vec<_>>();
        assert_eq!(longest_silence(seen(&[1, 5, 6, 30]).iter(), from, at(10)), Some(Duration::from_secs(4)));
        assert_eq!(longest_silence(seen(&[12, 40]).iter(), from, at(10)), Some(Duration::from_secs(12)));
        assert_eq!(longest_silence(seen(&[]).iter(), from, at(10)), None);
    }
}
