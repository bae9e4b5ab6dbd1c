//! The Kubernetes door: wires watch, triggers and tasks together. While it leads: reconcile, relay, deletions, housekeeping.
//! Always: the election, and taking reports (the database settles those, whoever takes them).

mod cache;
mod deletions;
pub mod events;
mod housekeeping;
mod ids;
mod mirror;
pub mod object;
mod queue;
mod reconcile;
pub mod status;
mod upkeep;
pub mod watches;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono_tz::Tz;
use futures::{StreamExt, channel::mpsc};
use kube::Client;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    cache::Cache,
    deletions::Deletions,
    events::{EventLevel, Events},
    housekeeping::Housekeeping,
    ids::Ids,
    mirror::Mirror,
    object::Key,
    queue::Queue,
    reconcile::Context,
    watches::{Namespaces, Told},
};
use crate::{
    backoff::jittered,
    broker::{Broker, intake::Intake},
    clock,
    health::{Dependency, Health},
    leader::{Elector, Leadership, LeaseConfig},
    metrics::Metrics,
    relay::{Relay, ShownAsPublished},
    retention::{Policy, Retention},
    store::{Store, batch::Batcher, listen::Change},
};

/// Calls to the API server under way at a time: it takes them no faster with more.
const CALLS: usize = 32;
/// How often an unfinished execution is looked at without any notification.
const RECHECK: Duration = Duration::from_mins(5);
/// In how many parts, one after another.
const RECHECK_PARTS: u32 = 20;

/// All that the controller is made of.
#[derive(Clone)]
pub struct Parts {
    /// The API server.
    pub client: Client,
    /// The API server, by connections of their own: renewing the lease must not wait behind status writes.
    pub lease_client: Client,
    /// The record.
    pub store: Store,
    /// RabbitMQ.
    pub broker: Broker,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What is missing.
    pub health: Arc<Health>,
}

/// How it behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it looks.
    pub namespaces: Namespaces,
    /// The lease.
    pub lease: LeaseConfig,
    /// The worker's zone.
    pub zone: Tz,
    /// How long small status changes are gathered.
    pub gather: Duration,
    /// Which events are written.
    pub events: EventLevel,
    /// After how long executions are deleted; never without.
    pub retention: Option<Policy>,
    /// How often the counters are compared with the table; never if zero.
    pub compare_counters: Duration,
}

/// Runs until `stop`, then drains: nothing new is begun, what is under way ends, the lease is released.
pub async fn run(parts: Parts, settings: Settings, stop: CancellationToken) {
    let elector = Elector::new(parts.lease_client.clone(), settings.lease.clone(), Arc::clone(&parts.metrics), Arc::clone(&parts.health));
    let leadership = elector.leadership();
    let intake = Intake {
        broker: parts.broker.clone(),
        store: parts.store.clone(),
        zone: settings.zone,
        metrics: Arc::clone(&parts.metrics),
        health: Arc::clone(&parts.health),
    };
    tokio::join!(
        intake.run(stop.clone()),
        elector.run(&stop, |term| Box::pin(lead(parts.clone(), settings.clone(), leadership.clone(), term)))
    );
}

/// One term of leadership.
async fn lead(parts: Parts, settings: Settings, leadership: Leadership, term: CancellationToken) {
    let Parts { client, lease_client: _, store, broker, metrics, health } = parts;
    let tasks = TaskTracker::new();
    let recorded = Arc::new(Notify::new());
    let (highest_sender, highest) = watch::channel(None);
    let (ids, ids_settle) = Ids::new(store.clone(), highest, term.clone());
    tasks.spawn(ids_settle);
    let cache = Cache::default();
    let calls = Arc::new(Semaphore::new(CALLS));
    let mirror =
        Arc::new(Mirror::new(client.clone(), cache.clone(), leadership.clone(), settings.gather, Arc::clone(&calls), Arc::clone(&metrics)));
    let context = Context {
        ids,
        cache: cache.clone(),
        failures: Mutex::default(),
        client: client.clone(),
        store: store.clone(),
        batcher: Batcher::start(store.clone(), Arc::clone(&recorded), Arc::clone(&metrics)),
        mirror: Arc::clone(&mirror),
        events: Events::new(client.clone(), settings.lease.identity.clone(), settings.events, Arc::clone(&calls)),
        calls,
        leadership: leadership.clone(),
        metrics: Arc::clone(&metrics),
        now: clock::now,
    };

    let queue = Queue::default();
    let (seen, seen_by_deletions) = mpsc::unbounded();
    let (change_sender, changes) = mpsc::channel(1024);
    let swept = Arc::new(watch::Sender::new(false));

    let namespaces = settings.namespaces.names();
    let deletions = Deletions {
        store: store.clone(),
        client: client.clone(),
        namespaces: namespaces.clone(),
        cache: cache.clone(),
        leadership: leadership.clone(),
    };
    tasks.spawn(deletions.run(seen_by_deletions, Arc::clone(&swept), term.clone()));
    let housekeeping = Housekeeping {
        store: store.clone(),
        namespaces: namespaces.clone(),
        leadership: leadership.clone(),
        metrics: Arc::clone(&metrics),
    };
    tasks.spawn(housekeeping.run(term.clone()));
    if let Some(policy) = settings.retention {
        let retention = Retention { store: store.clone(), client: client.clone(), namespaces: namespaces.clone(), policy };
        tasks.spawn(upkeep::retain(retention, leadership.clone(), Arc::clone(&metrics), term.clone()));
    }
    if !settings.compare_counters.is_zero() {
        let every = settings.compare_counters;
        tasks.spawn(upkeep::compare(store.clone(), every, leadership.clone(), Arc::clone(&metrics), term.clone()));
    }
    tasks.spawn({
        let (store, term) = (store.clone(), term.clone());
        async move { store.listen(change_sender, term).await }
    });
    tasks.spawn({
        let relay = Relay {
            store,
            broker,
            zone: settings.zone,
            namespaces,
            recorded,
            leadership,
            shown_as_published: shown_as_published(cache.clone()),
            metrics,
        };
        let (mut swept, term) = (swept.subscribe(), term.clone());
        async move {
            let may_publish = tokio::select! {
                () = term.cancelled() => false,
                swept = swept.wait_for(|swept| *swept) => swept.is_ok(),
            };
            if may_publish {
                relay.run(term).await;
            }
        }
    });

    let told = Told { queue: queue.clone(), seen, highest: highest_sender, mirror, health: Arc::clone(&health) };
    tasks.spawn(watches::watch(client, settings.namespaces, cache.clone(), told, term.clone()));
    tasks.spawn(look_at_what_changes(changes, cache.clone(), queue.clone(), term.clone()));
    tasks.spawn(look_again(cache, queue.clone(), term.clone()));
    queue::run(queue, |key| reconcile::reconcile(key, &context), term).await;
    tasks.close();
    tasks.wait().await;
    // A standby watches nothing, and misses nothing by that.
    health.works(Dependency::Watch);
}

/// Has the objects looked at whose records changed, until `term` ends.
async fn look_at_what_changes(mut changes: mpsc::Receiver<Change>, cache: Cache, queue: Queue, term: CancellationToken) {
    loop {
        let change = tokio::select! {
            () = term.cancelled() => return,
            Some(change) = changes.next() => change,
        };
        match change {
            Change::Object { namespace, name } => queue.soon(Key::new(&namespace, &name)),
            Change::Anything => cache.keys().into_iter().for_each(|key| queue.soon(key)),
        }
    }
}

/// Has everything looked at that is under way, part by part, until `term` ends: a notification can be lost.
async fn look_again(cache: Cache, queue: Queue, term: CancellationToken) {
    for part in 0_u64.. {
        tokio::select! {
            () = term.cancelled() => return,
            () = tokio::time::sleep(jittered(RECHECK / RECHECK_PARTS)) => {}
        }
        cache.under_way(part, RECHECK_PARTS.into()).into_iter().for_each(|key| queue.soon(key));
    }
}

/// What the watch knows of an object's message.
fn shown_as_published(cache: Cache) -> ShownAsPublished {
    Box::new(move |request| cache.of_request(request).is_some_and(|object| object.shown.published))
}
