//! What each subcommand does with its checked settings: builds the parts and runs them.

use std::{io::Write, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use kube::{Client, CustomResourceExt};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tracing::info;
use uuid::Uuid;

use super::{ApiArgs, ControllerArgs, Direction, Failure, MigrateArgs};
use crate::{
    controller::{self, Parts, Settings},
    crd::SyncExecution,
    health::{Dependency, Health},
    http::{
        self, App,
        auth::{Access, Credentials},
        health::Probes,
    },
    leader::LeaseConfig,
    metrics::{Metrics, Role},
    shutdown,
    store::{self, Store, migrate::Migrations},
};

/// How long pools are given to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

async fn kube_config() -> Result<kube::Config, Failure> {
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
    let store = args.store.store()?;
    let broker = args.broker()?;
    let config = kube_config().await?;
    let listener = listen(args.metrics_listen, "metrics-listen").await?;
    let or_default = |text: &str| if text.is_empty() { config.default_namespace.clone() } else { text.to_owned() };
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "sync-operator".to_owned());
    let identity = if args.lease_identity.is_empty() { format!("{host}-{}", Uuid::new_v4()) } else { args.lease_identity.clone() };
    let settings = Settings {
        namespace: Some(args.watch_namespace.clone()).filter(|namespace| !namespace.is_empty()),
        lease: LeaseConfig {
            name: args.lease_name.clone(),
            namespace: or_default(&args.lease_namespace),
            identity,
            server: config.cluster_url.to_string(),
            duration: Duration::from_secs(args.lease_duration_seconds.into()),
        },
        zone: args.zone.worker_timezone,
        gather: args.gather(),
        events: args.events,
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
    info!(version = env!("CARGO_PKG_VERSION"), identity = settings.lease.identity, listen = %listener.local_addr()?, "controller starts");
    let ((), served) =
        tokio::join!(controller::run(parts, settings, stop.clone()), http::serve(listener, http::health::routes(probes), stop.clone()),);
    close(&store).await;
    served.context("serving metrics")?;
    info!("controller ends");
    Ok(())
}

pub(super) async fn api(args: ApiArgs) -> Result<(), Failure> {
    let store = args.store.store()?;
    let access = match (
        args.admin_username.filter(|name| !name.is_empty()),
        args.admin_password.filter(|password| !password.expose_secret().is_empty()),
    ) {
        _ if args.allow_anonymous => Access::Anonymous,
        (Some(username), Some(password)) => Access::Administrator(Arc::new(Credentials { username, password })),
        _ => {
            return Err(Failure::Setting(
                "--admin-username and --admin-password are not both set: set ADMIN_USERNAME and ADMIN_PASSWORD, \
                 or pass --allow-anonymous to serve anybody without authentication"
                    .to_owned(),
            ));
        }
    };
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
    let served = http::serve(listener, http::router(app, access, probes), stop).await;
    close(&store).await;
    served.context("serving the API")?;
    info!("api ends");
    Ok(())
}

async fn close(store: &Store) {
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, store.close()).await;
}

pub(super) async fn migrate(args: MigrateArgs) -> Result<(), Failure> {
    let migrations = Migrations::connect(args.database.url()?, args.zone.worker_timezone).await.map_err(|error| {
        let told = store::explain(&error);
        anyhow!(
            "cannot connect to the database of --database-url (DATABASE_URL): {told}: is it up, and are user, password and database right?"
        )
    })?;
    let before = migrations.status().await?;
    match args.direction {
        Direction::Status => {}
        Direction::Up => migrations.up().await?,
        Direction::Down => {
            let applied = before.iter().filter(|migration| migration.applied).map(|migration| migration.version);
            let target = args.to.unwrap_or_else(|| applied.rev().nth(1).unwrap_or_default());
            migrations.down(target).await?;
        }
    }
    let mut out = std::io::stdout().lock();
    for (migration, before) in migrations.status().await?.iter().zip(before) {
        let state = match (before.applied, migration.applied) {
            (false, true) => "applied now",
            (true, false) => "taken back now",
            (true, true) => "applied",
            (false, false) => "not applied",
        };
        writeln!(out, "{:04}  {:<40} {state}", migration.version, migration.name)?;
    }
    Ok(())
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
