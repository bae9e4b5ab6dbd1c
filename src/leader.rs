//! Leadership by a coordination.k8s.io/v1 Lease. Whether it holds is asked at the moment of each effect and answered by a
//! monotonic clock: it ends on this side before the lease can pass to another replica. The database stays the real guard.

pub mod term;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::term::{Term, may_take, trust};
use crate::{
    backoff::jittered,
    crash,
    health::{Dependency, Health},
    kubernetes::describe,
    metrics::Metrics,
};

/// Longest wait of a standby between two looks at the lease: one that was released is taken up within it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Whether this replica leads. Cheap to clone and to ask.
#[derive(Clone, Debug, Default)]
pub struct Leadership(Arc<Mutex<Option<Term>>>);

impl Leadership {
    /// Whether an effect may begin now.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.window().is_some()
    }

    /// How long an effect that begins now may take, so that it is over before the lease can pass; `None` when none may begin.
    #[must_use]
    pub fn window(&self) -> Option<Duration> {
        let term = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        term.window(Instant::now())
    }

    fn set(&self, term: Option<Term>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = term;
    }
}

/// Which lease, and for how long it is held without a renewal.
#[derive(Clone, Debug)]
pub struct LeaseConfig {
    /// `metadata.name` of the Lease.
    pub name: String,
    /// `metadata.namespace` of the Lease.
    pub namespace: String,
    /// This replica.
    pub identity: String,
    /// The API server's address, for messages.
    pub server: String,
    /// `leaseDurationSeconds`.
    pub duration: Duration,
}

/// What this replica saw of the lease: another's lease is over when it was not renewed for its duration by *our* clock.
struct Seen {
    resource_version: Option<String>,
    at: Instant,
}

/// Takes part in the election.
pub struct Elector {
    leases: Api<Lease>,
    config: LeaseConfig,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

/// What an attempt came to.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    /// We hold the lease.
    Held,
    /// Somebody else does.
    HeldBy(String),
}

impl Elector {
    /// An elector for that lease.
    #[must_use]
    pub fn new(client: Client, config: LeaseConfig, metrics: Arc<Metrics>, health: Arc<Health>) -> Self {
        let leases = Api::namespaced(client, &config.namespace);
        Self { leases, config, leadership: Leadership::default(), metrics, health }
    }

    /// The answer to "do we lead", to be handed to whatever has effects.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Runs `lead` whenever this replica leads, until `stop`. `lead` gets a token that is cancelled when leadership ends
    /// and must return soon after.
    pub async fn run<Term: Future<Output = ()>>(&self, stop: &CancellationToken, lead: impl Fn(CancellationToken) -> Term) {
        let mut seen = Seen { resource_version: None, at: Instant::now() };
        let mut holder = String::new();
        while !stop.is_cancelled() {
            match self.attempt(&mut seen).await {
                Ok(Attempt::Held) => {
                    info!(lease = self.config.name, identity = self.config.identity, "leading");
                    self.metrics.leader.set(1);
                    let term = stop.child_token();
                    tokio::join!(lead(term.clone()), self.keep(&mut seen, &term));
                    self.metrics.leader.set(0);
                    holder.clear();
                    if stop.is_cancelled() {
                        self.release().await;
                        return;
                    }
                }
                Ok(Attempt::HeldBy(other)) => {
                    if other != holder {
                        info!(lease = self.config.name, leader = other, "standing by");
                        holder = other;
                    }
                }
                Err(error) => warn!(lease = self.config.name, error, "cannot take part in the election; trying again"),
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(jittered((self.config.duration / 10).min(LOOK_EVERY))) => {}
            }
        }
    }

    /// Renews until the term ends, or ends it when renewing fails for too long.
    async fn keep(&self, seen: &mut Seen, term: &CancellationToken) {
        loop {
            tokio::select! {
                () = term.cancelled() => return,
                () = tokio::time::sleep(jittered(self.config.duration / 6)) => {}
            }
            match self.attempt(seen).await {
                Ok(Attempt::Held) => {}
                Ok(Attempt::HeldBy(other)) => {
                    warn!(lease = self.config.name, leader = other, "the lease passed to another replica");
                    self.leadership.set(None);
                }
                Err(error) => warn!(lease = self.config.name, error, "cannot renew the lease; trying again"),
            }
            if !self.leadership.holds() {
                warn!(lease = self.config.name, "leadership ended");
                term.cancel();
                return;
            }
        }
    }

    async fn attempt(&self, seen: &mut Seen) -> Result<Attempt, String> {
        let began = Instant::now();
        // No call may outlast the trust that it is to extend.
        let attempt = match timeout(trust(self.config.duration) / 2, self.try_take(seen, began)).await {
            Ok(attempt) => attempt.map_err(|error| format!("{}: {}", self.config.server, describe(&error))),
            Err(_) => Err(format!("{}: no answer in time", self.config.server)),
        };
        match &attempt {
            Ok(_) => self.health.works(Dependency::Kubernetes),
            Err(error) => self.health.fails(Dependency::Kubernetes, error),
        }
        if attempt == Ok(Attempt::Held) {
            self.leadership.set(Some(Term::renewed(began, self.config.duration)));
        }
        attempt
    }

    async fn try_take(&self, seen: &mut Seen, now: Instant) -> Result<Attempt, kube::Error> {
        let lease = self.leases.get_opt(&self.config.name).await?;
        let (lease, transitions, ours) = match lease {
            None => {
                (Lease { metadata: ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() }, spec: None }, 0, false)
            }
            Some(lease) => {
                if lease.metadata.resource_version != seen.resource_version {
                    *seen = Seen { resource_version: lease.metadata.resource_version.clone(), at: now };
                }
                let spec = lease.spec.clone().unwrap_or_default();
                let holder = spec.holder_identity.unwrap_or_default();
                let duration = Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or_default()).unwrap_or_default());
                let ours = holder == self.config.identity;
                if !may_take(&self.config.identity, &holder, now.duration_since(seen.at), duration) {
                    return Ok(Attempt::HeldBy(holder));
                }
                (lease, spec.lease_transitions.unwrap_or_default() + i32::from(!ours), ours)
            }
        };
        let fresh = lease.metadata.resource_version.is_none();
        let taken = Lease { spec: Some(self.spec(&lease, &self.config.identity, transitions)), ..lease };
        let params = PostParams::default();
        let write = async || {
            if fresh {
                self.leases.create(&params, &taken).await
            } else {
                // The resourceVersion in it makes two takers exclude each other: one gets 409.
                self.leases.replace(&self.config.name, &params, &taken).await
            }
        };
        match crash::effect(if ours { "renew the lease" } else { "take the lease" }, write).await {
            Ok(lease) => {
                *seen = Seen { resource_version: lease.metadata.resource_version, at: now };
                Ok(Attempt::Held)
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(Attempt::HeldBy("another replica, just now".to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    fn spec(&self, lease: &Lease, holder: &str, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let before = lease.spec.as_ref();
        let same = before.and_then(|spec| spec.holder_identity.as_deref()) == Some(holder);
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(i32::try_from(self.config.duration.as_secs()).unwrap_or(i32::MAX)),
            acquire_time: if same { before.and_then(|spec| spec.acquire_time.clone()) } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Gives the lease up, so that a standby need not wait for it to end. All effects are over by now.
    async fn release(&self) {
        self.leadership.set(None);
        let give_up = async {
            let mut lease = self.leases.get(&self.config.name).await?;
            let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
            if spec.holder_identity.as_deref() != Some(&self.config.identity) {
                return Ok(());
            }
            // As client-go does it: an empty holder is free at once.
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            let params = PostParams::default();
            crash::effect("release the lease", || self.leases.replace(&self.config.name, &params, &lease)).await.map(drop)
        };
        match timeout(trust(self.config.duration) / 2, give_up).await {
            Ok(Ok(())) => info!(lease = self.config.name, "lease released"),
            Ok(Err(error)) => warn!(lease = self.config.name, error = describe(&error), "cannot release the lease; it ends by itself"),
            Err(_) => warn!(lease = self.config.name, "cannot release the lease in time; it ends by itself"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_leads_before_the_first_renewal_nor_after_the_end() {
        let leadership = Leadership::default();
        assert!(!leadership.holds());
        leadership.set(Some(Term::renewed(Instant::now(), Duration::from_hours(1))));
        assert!(leadership.holds());
        leadership.set(None);
        assert_eq!(leadership.window(), None);
    }
}
