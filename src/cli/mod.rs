//! Subcommands and flags. Every flag reads an environment variable; its doc line is its `--help`. Settings are checked once,
//! here; what is wrong is told with the flag, the variable and the fix, never with a secret in it.

mod run;

use std::{net::SocketAddr, time::Duration};

use chrono_tz::Tz;
use clap::{Args, Parser, Subcommand, ValueEnum};
use secrecy::{ExposeSecret, SecretString};

use crate::{broker::Broker, controller::events::EventLevel, store::Store, telemetry::LogFormat};

/// Why the program ends with an error.
#[derive(Debug)]
pub enum Failure {
    /// A missing or wrong setting: exit code 2.
    Setting(String),
    /// Anything else: exit code 1.
    Run(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Run(error.into())
    }
}

/// Records, delivers and mirrors data-sync executions.
#[derive(Parser)]
#[command(version, about, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// How much to log: error, warn, info, debug or trace, or a filter like info,sync_operator=debug.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", global = true)]
    log_level: String,
    /// How a log line looks.
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "text", global = true)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// The one setting that is no flag: it is read as by every other client of Kubernetes.
const CLUSTER_HELP: &str = "The cluster is that of the kubeconfig file named by KUBECONFIG, else of ~/.kube/config, else of the pod.";

#[derive(Subcommand)]
enum Command {
    /// Watch SyncExecutions: record, publish, mirror back. Takes part in leader election.
    #[command(after_help = CLUSTER_HELP)]
    Controller(ControllerArgs),
    /// Serve the REST API.
    #[command(after_help = CLUSTER_HELP)]
    Api(ApiArgs),
    /// Bring the database to this release, or back.
    Migrate(MigrateArgs),
    /// Print the CustomResourceDefinition as YAML.
    Crd,
    /// Print the OpenAPI document of the REST API as JSON.
    Openapi,
}

/// The record.
#[derive(Args)]
struct DatabaseArgs {
    /// The database, like postgres://user:password@host:5432/sync
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<SecretString>,
}

/// The record, for a process that stays.
#[derive(Args)]
struct StoreArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Most connections to the database.
    #[arg(long, env = "DATABASE_MAX_CONNECTIONS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(3..=1000))]
    database_max_connections: u32,
}

/// The worker's wall clock.
#[derive(Args)]
struct ZoneArgs {
    /// Time zone in which the worker reads and writes local times (IANA name).
    #[arg(long, env = "WORKER_TIMEZONE", default_value = "America/Cuiaba", value_parser = zone)]
    worker_timezone: Tz,
}

#[derive(Args)]
struct ControllerArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    zone: ZoneArgs,
    /// The broker, like amqp://user:password@host:5672/%2f
    #[arg(long, env = "RABBITMQ_URL", hide_env_values = true)]
    rabbitmq_url: Option<SecretString>,
    /// The queue on which the worker listens.
    #[arg(long, env = "RABBITMQ_QUEUE", default_value = "ingest.pncp")]
    rabbitmq_queue: String,
    /// The queue on which workers report.
    #[arg(long, env = "RABBITMQ_STATUS_QUEUE", default_value = "ingest.pncp.status")]
    rabbitmq_status_queue: String,
    /// Only watch this namespace; all of them if empty.
    #[arg(long, env = "WATCH_NAMESPACE", default_value = "")]
    watch_namespace: String,
    /// Name of the leader election Lease.
    #[arg(long, env = "LEASE_NAME", default_value = "sync-operator")]
    lease_name: String,
    /// Namespace of the Lease; that of the pod or kubeconfig if empty.
    #[arg(long, env = "LEASE_NAMESPACE", default_value = "")]
    lease_namespace: String,
    /// Seconds for which a lease holds without renewal.
    #[arg(long, env = "LEASE_DURATION_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(3..=300))]
    lease_duration_seconds: u16,
    /// This replica's name in the Lease; the host name and a random part if empty.
    #[arg(long, env = "LEASE_IDENTITY", default_value = "")]
    lease_identity: String,
    /// Milliseconds for which small status changes are gathered into one write; an end is written at once.
    #[arg(long, env = "STATUS_GATHER_MILLISECONDS", default_value_t = 250, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    status_gather_milliseconds: u16,
    /// Which Kubernetes Events to write; each costs the API server a write.
    #[arg(long, env = "EVENTS", value_enum, default_value = "warnings")]
    events: EventLevel,
    /// Where to serve /healthz, /readyz and /metrics.
    #[arg(long, env = "METRICS_LISTEN", default_value = "0.0.0.0:8081")]
    metrics_listen: SocketAddr,
}

#[derive(Args)]
struct ApiArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    zone: ZoneArgs,
    /// Where to serve.
    #[arg(long, env = "API_LISTEN", default_value = "0.0.0.0:8080")]
    api_listen: SocketAddr,
    /// Name that callers send by HTTP Basic authentication.
    #[arg(long, env = "ADMIN_USERNAME")]
    admin_username: Option<String>,
    /// Password that callers send.
    #[arg(long, env = "ADMIN_PASSWORD", hide_env_values = true)]
    admin_password: Option<SecretString>,
    /// Serve anybody, without authentication.
    #[arg(long, env = "ALLOW_ANONYMOUS", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_anonymous: bool,
    /// Namespace in which POST /sync/force creates SyncExecutions; that of the pod or kubeconfig if empty.
    #[arg(long, env = "FORCE_NAMESPACE", default_value = "")]
    force_namespace: String,
    /// Seconds after their end for which those SyncExecutions are kept; the records are kept in any case.
    #[arg(long, env = "FORCE_TTL_SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u32).range(0..=i64::from(i32::MAX)))]
    force_ttl_seconds: u32,
    /// Milliseconds for which POST /sync/force waits for the broker's confirm before it answers 202.
    #[arg(long, env = "FORCE_WAIT_MILLISECONDS", default_value_t = 2000, value_parser = clap::value_parser!(u16).range(0..=15_000))]
    force_wait_milliseconds: u16,
}

#[derive(Args)]
struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    zone: ZoneArgs,
    /// up: apply what is missing. down: take back the last one, or all after --to. status: list them.
    #[arg(value_enum)]
    direction: Direction,
    /// With down: the version to go back to; 0 takes all back.
    #[arg(long)]
    to: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Direction {
    Up,
    Down,
    Status,
}

impl Cli {
    /// Runs the subcommand to its end.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn run(self) -> Result<(), Failure> {
        crate::telemetry::start(&self.log_level, self.log_format)
            .map_err(|error| Failure::Setting(format!("--log-level (LOG_LEVEL): {error}: use error, warn, info, debug or trace")))?;
        match self.command {
            Command::Controller(args) => run::controller(args).await,
            Command::Api(args) => run::api(args).await,
            Command::Migrate(args) => run::migrate(args).await,
            Command::Crd => run::crd(),
            Command::Openapi => run::openapi(),
        }
    }
}

fn zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| "WORKER_TIMEZONE is an IANA time zone name like America/Cuiaba".to_owned())
}

fn given<T>(value: Option<T>, flag: &str, variable: &str, example: &str) -> Result<T, Failure> {
    value.ok_or_else(|| Failure::Setting(format!("--{flag} is not set: pass it, or set {variable}, like {example}")))
}

impl DatabaseArgs {
    fn url(&self) -> Result<&SecretString, Failure> {
        let url = given(self.database_url.as_ref(), "database-url", "DATABASE_URL", DATABASE_EXAMPLE)?;
        let text = url.expose_secret();
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Ok(url)
        } else {
            Err(wrong("database-url", "DATABASE_URL", "it does not begin with postgres://", DATABASE_EXAMPLE))
        }
    }
}

impl StoreArgs {
    fn store(&self) -> Result<Store, Failure> {
        Store::new(self.database.url()?, self.database_max_connections)
            .map_err(|error| wrong("database-url", "DATABASE_URL", error, DATABASE_EXAMPLE))
    }
}

const DATABASE_EXAMPLE: &str = "postgres://user:password@host:5432/sync";
const BROKER_EXAMPLE: &str = "amqp://user:password@host:5672/%2f";

fn wrong(flag: &str, variable: &str, why: impl std::fmt::Display, example: &str) -> Failure {
    Failure::Setting(format!(
        "--{flag} ({variable}) cannot be used: {why}; write it like {example}, with special characters percent-encoded"
    ))
}

impl ControllerArgs {
    fn broker(&self) -> Result<Broker, Failure> {
        let url = given(self.rabbitmq_url.as_ref(), "rabbitmq-url", "RABBITMQ_URL", BROKER_EXAMPLE)?;
        Broker::new(url, self.rabbitmq_queue.clone(), self.rabbitmq_status_queue.clone())
            .map_err(|error| wrong("rabbitmq-url", "RABBITMQ_URL", error, BROKER_EXAMPLE))
    }

    fn gather(&self) -> Duration {
        Duration::from_millis(self.status_gather_milliseconds.into())
    }
}
