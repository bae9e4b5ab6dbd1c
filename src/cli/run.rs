//! What each subcommand but `migrate` does with its checked settings: builds the parts and runs them.

use std::{io::Write, sync::Arc, time::Duration};

use anyhow::Context;
use kube::{Client, CustomResourceExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use super::{ApiArgs, ControllerArgs, Failure};
use crate::{
    controller::{self, Parts, Settings},
    crd::SyncExecution,
    health::{Dependency, Health},
    http::{self, App, auth::Access, health::Probes},
    leader::LeaseConfig,
    metrics::{Metrics, Role},
    shutdown,
    store::Store,
};

/// How long pools are given to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn kube_config() -> Result<kube::Config, Failure> {
    crate::kubernetes::config().await.map_err(|error| {
        let file = std::env::var("KUBECONFIG").map_or_else(|_| "not set".to_owned(), |file| format!("now {file}"));
        Failure::Setting(format!(
            "no Kubernetes cluster is configured: set KUBECONFIG to a kubeconfig file that can be read ({file}), or run in a pod; {error}"
        ))
    })
}

async fn listen(address: std::net::SocketAddr, flag: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::Setting(format!("--{flag}: cannot listen on {address}: {error}: choose another address")))
}

pub(super) async fn controller(args: ControllerArgs) -> Result<(), Failure> {
    // The listener has one.
    let store = args.store.store(1)?;
    let broker = args.broker.broker()?;
    let config = kube_config().await?;
    let listener = listen(args.metrics_listen, "metrics-listen").await?;
    let or_default = |text: &str| if text.is_empty() { config.default_namespace.clone() } else { text.to_owned() };
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "sync-operator".to_owned());
    let identity = if args.lease_identity.is_empty() { format!("{host}-{}", Uuid::new_v4()) } else { args.lease_identity.clone() };
    let settings = Settings {
        namespaces: args.watch_namespace,
        lease: LeaseConfig {
            name: args.lease_name.clone(),
            namespace: or_default(&args.lease_namespace),
            identity,
            server: config.cluster_url.to_string(),
            duration: Duration::from_secs(args.lease_duration_seconds.into()),
        },
        zone: args.zone.worker_timezone,
        gather: Duration::from_millis(args.status_gather_milliseconds.into()),
        events: args.events,
        retention: super::retention(&args.retention_days)?,
        compare_counters: Duration::from_secs(args.counters_compare_seconds.into()),
    };
    let metrics = Arc::new(Metrics::new(Role::Controller));
    let health = Arc::new(Health::expecting(&[Dependency::Broker, Dependency::Kubernetes]));
    let probes = Probes { store: store.clone(), health: Arc::clone(&health), metrics: Arc::clone(&metrics) };
    let parts = Parts {
        client: Client::try_from(config.clone()).context("Kubernetes client")?,
        lease_client: Client::try_from(config).context("Kubernetes client")?,
        store: store.clone(),
        broker,
        metrics,
        health,
    };
    let stop = shutdown::on_signal().context("signal handlers")?;
    info!(version = env!("CARGO_PKG_VERSION"), identity = settings.lease.identity, namespaces = %settings.namespaces, listen = %listener.local_addr()?, "controller starts");
    look_after(&store, &stop);
    let ((), served) =
        tokio::join!(controller::run(parts, settings, stop.clone()), http::serve(listener, http::health::routes(probes), stop.clone()),);
    close(&store).await;
    served.context("serving metrics")?;
    info!("controller ends");
    Ok(())
}

pub(super) async fn api(args: ApiArgs) -> Result<(), Failure> {
    let store = args.store.store(0)?;
    let access = args.admin.access()?;
    let config = kube_config().await?;
    let listener = listen(args.api_listen, "api-listen").await?;
    let namespace = if args.force_namespace.is_empty() { config.default_namespace.clone() } else { args.force_namespace };
    let metrics = Arc::new(Metrics::new(Role::Api));
    let probes = Probes { store: store.clone(), health: Arc::default(), metrics: Arc::clone(&metrics) };
    let app = App {
        store: store.clone(),
        client: Client::try_from(config).context("Kubernetes client")?,
        namespace,
        force_ttl_seconds: Some(args.force_ttl_seconds.into()),
        force_wait: Duration::from_millis(args.force_wait_milliseconds.into()),
        zone: args.zone.worker_timezone,
        metrics,
    };
    let stop = shutdown::on_signal().context("signal handlers")?;
    info!(version = env!("CARGO_PKG_VERSION"), listen = %listener.local_addr()?, authentication = !matches!(access, Access::Anonymous), "api starts");
    look_after(&store, &stop);
    let served = http::serve(listener, http::router(app, access, probes), stop).await;
    close(&store).await;
    served.context("serving the API")?;
    info!("api ends");
    Ok(())
}

/// What every process does for the database beside everything else: takes up changed settings, keeps the counters folded.
fn look_after(store: &Store, stop: &CancellationToken) {
    let (follower, folder) = (store.clone(), store.clone());
    let (follow, fold) = (stop.clone(), stop.clone());
    tokio::spawn(async move { follower.follow(follow).await });
    tokio::spawn(async move { folder.keep_counters_folded(fold).await });
}

pub(super) async fn close(store: &Store) {
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, store.close()).await;
}

pub(super) fn crd() -> Result<(), Failure> {
    let yaml = serde_yaml_ng::to_string(&SyncExecution::crd())?;
    write!(std::io::stdout().lock(), "# Generated by `make generate` from src/crd; do not edit.\n{yaml}")?;
    Ok(())
}

pub(super) fn openapi() -> Result<(), Failure> {
    writeln!(std::io::stdout().lock(), "{}", http::openapi().to_pretty_json()?)?;
    Ok(())
}
