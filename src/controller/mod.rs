//! The Kubernetes door: wires watch, triggers and tasks together. While it leads: reconcile, relay, deletions, housekeeping.
//! Always: the election, and taking reports (the database settles those, whoever takes them).

mod deletions;
pub mod events;
mod housekeeping;
mod ids;
mod mirror;
mod reconcile;
pub mod status;
mod upkeep;
pub mod watches;

use std::{sync::Arc, time::Duration};

use chrono_tz::Tz;
use futures::{StreamExt, channel::mpsc};
use kube::{
    Client, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        Controller,
        controller::{self, Config},
        reflector::{self, ObjectRef},
        watcher,
    },
};
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, warn};

use self::{
    deletions::Deletions,
    events::{EventLevel, Events},
    housekeeping::Housekeeping,
    ids::Ids,
    mirror::Mirror,
    reconcile::Context,
    watches::{Namespaces, Told},
};
use crate::{
    broker::{Broker, intake::Intake},
    clock,
    crd::SyncExecution,
    domain::execution::Request,
    health::{Dependency, Health},
    leader::{Elector, Leadership, LeaseConfig},
    metrics::Metrics,
    relay::{Relay, ShownAsPublished},
    retention::{Policy, Retention},
    store::{Store, batch::Batcher, listen::Change},
};

/// Reconciles under way at a time: enough to fill a batch while the one before is on its way.
const CONCURRENCY: u16 = 512;

type Guarded = DeserializeGuard<SyncExecution>;

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
    tokio::join!(intake.run(stop.clone()), elector.run(&stop, |term| lead(parts.clone(), settings.clone(), leadership.clone(), term)),);
}

/// One term of leadership.
async fn lead(parts: Parts, settings: Settings, leadership: Leadership, term: CancellationToken) {
    let Parts { client, lease_client: _, store, broker, metrics, health } = parts;
    let tasks = TaskTracker::new();
    let recorded = Arc::new(Notify::new());
    let (highest_sender, highest) = watch::channel(None);
    let (ids, ids_settle) = Ids::new(store.clone(), highest, term.clone());
    tasks.spawn(ids_settle);
    let context = Arc::new(Context {
        ids,
        client: client.clone(),
        store: store.clone(),
        batcher: Batcher::start(store.clone(), Arc::clone(&recorded), Arc::clone(&metrics)),
        mirror: Arc::new(Mirror::new(client.clone(), leadership.clone(), settings.gather, Arc::clone(&metrics))),
        events: Events::new(client.clone(), settings.lease.identity.clone(), settings.events),
        leadership: leadership.clone(),
        metrics: Arc::clone(&metrics),
        now: clock::now,
    });

    let (cache, writer) = reflector::store::<Guarded>();
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

    let (everything, objects) = triggers(changes);
    let told = Told { seen, highest: highest_sender, mirror: Arc::clone(&context.mirror), health: Arc::clone(&health) };
    let watched = watches::watch(client, &settings.namespaces, writer, told);
    Controller::for_stream(watched, cache)
        .with_config(Config::default().concurrency(CONCURRENCY))
        .reconcile_on(objects)
        .reconcile_all_on(everything)
        .graceful_shutdown_on(term.clone().cancelled_owned())
        .run(reconcile::reconcile, reconcile::error_policy, context)
        .for_each(report)
        .await;
    if !term.is_cancelled() {
        // The streams above never end by themselves; if they do, a new term begins with new ones.
        error!("the controller's streams ended; starting anew");
        term.cancel();
    }
    tasks.close();
    tasks.wait().await;
    // A standby watches nothing, and misses nothing by that.
    health.works(Dependency::Watch);
}

/// Splits what was heard from the record into "this object" and "all objects".
fn triggers(changes: mpsc::Receiver<Change>) -> (impl futures::Stream<Item = ()>, impl futures::Stream<Item = ObjectRef<Guarded>>) {
    let (mut all_sender, everything) = mpsc::channel(1);
    let objects = changes.filter_map(move |change| {
        std::future::ready(match change {
            Change::Object { namespace, name } => Some(ObjectRef::new(&name).within(&namespace)),
            Change::Anything => {
                // Full means that a look at everything is about to begin anyway.
                let _ = all_sender.try_send(());
                None
            }
        })
    });
    (everything, objects)
}

/// What the watch knows of an object's message.
fn shown_as_published(cache: reflector::Store<Guarded>) -> ShownAsPublished {
    Box::new(move |request| {
        let object = cached(&cache, request);
        let status = object.as_ref().and_then(|object| object.0.as_ref().ok()?.status.as_ref());
        status.is_some_and(|status| status.publish_time.is_some())
    })
}

/// The object of a request, if the watch knows it; a namesake is not it.
fn cached(cache: &reflector::Store<Guarded>, request: &Request) -> Option<Arc<Guarded>> {
    let object = cache.get(&ObjectRef::new(&request.name).within(&request.namespace))?;
    is_of(object.as_ref(), request).then_some(object)
}

/// Whether this is the very object that asked, and not another one of its name.
fn is_of(object: &Guarded, request: &Request) -> bool {
    object.uid().as_deref() == Some(&request.uid.to_string())
}

/// The one place where errors of reconciles are logged.
async fn report(result: Result<(ObjectRef<Guarded>, controller::Action), controller::Error<reconcile::Error, watcher::Error>>) {
    match result {
        Ok(_) => {}
        Err(controller::Error::ObjectNotFound(object)) => debug!(object = %object, "object is gone"),
        Err(controller::Error::ReconcilerFailed(error, object)) if error.is_shared() => debug!(object = %object, error = %error, "waiting"),
        Err(controller::Error::ReconcilerFailed(error, object)) => {
            warn!(object = %object, error = %error, "cannot bring an object up to date yet");
        }
        Err(controller::Error::QueueError(error)) => warn!(error = %error, "watching SyncExecutions failed; trying again"),
        Err(controller::Error::RunnerError(error)) => warn!(error = %error, "the controller's queue failed"),
    }
}
