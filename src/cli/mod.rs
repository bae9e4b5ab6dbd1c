//! Subcommands and flags. Every flag reads an environment variable; its doc line is its `--help`. Settings are checked once,
//! here; what is wrong is told with the flag, the variable and the fix, never with a secret in it.

mod counters;
mod migrate;
mod purge;
mod run;
mod source;

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use chrono_tz::Tz;
use clap::{Args, Parser, Subcommand, ValueEnum};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    broker::{Broker, server::Server},
    controller::{events::EventLevel, watches::Namespaces},
    http::auth::{Access, Credentials},
    retention::Policy,
    store::{Store, database::Database},
    telemetry::LogFormat,
};

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
    /// Compare the counters of the record with a count of its rows, and mend them.
    Counters(CountersArgs),
    /// Delete old executions whose SyncExecution is gone, once, by hand.
    #[command(after_help = CLUSTER_HELP)]
    Purge(PurgeArgs),
    /// Print the CustomResourceDefinition as YAML.
    Crd,
    /// Print the OpenAPI document of the REST API as JSON.
    Openapi,
}

/// The record.
#[derive(Args)]
#[expect(clippy::struct_field_names, reason = "they name the flags")]
struct DatabaseArgs {
    /// The database, like postgres://user:password@host:5432/sync
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<SecretString>,
    /// A file with that URL instead. It is read again while the program runs: a rotated Secret needs no restart.
    #[arg(long, env = "DATABASE_URL_FILE")]
    database_url_file: Option<PathBuf>,
    /// A PEM file with the CA of the database server. TLS is required then, and the server's name is verified.
    #[arg(long, env = "DATABASE_CA_FILE")]
    database_ca_file: Option<PathBuf>,
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

/// The broker.
#[derive(Args)]
#[expect(clippy::struct_field_names, reason = "they name the flags")]
struct BrokerArgs {
    /// The broker, like amqp://user:password@host:5672/%2f
    #[arg(long, env = "RABBITMQ_URL", hide_env_values = true)]
    rabbitmq_url: Option<SecretString>,
    /// A file with that URL instead. It is read again for each connection.
    #[arg(long, env = "RABBITMQ_URL_FILE")]
    rabbitmq_url_file: Option<PathBuf>,
    /// A PEM file with the CA of the broker. The URL must be amqps:// then; no other CA is trusted.
    #[arg(long, env = "RABBITMQ_CA_FILE")]
    rabbitmq_ca_file: Option<PathBuf>,
    /// The queue on which the worker listens.
    #[arg(long, env = "RABBITMQ_QUEUE", default_value = "ingest.pncp")]
    rabbitmq_queue: String,
    /// The queue on which workers report.
    #[arg(long, env = "RABBITMQ_STATUS_QUEUE", default_value = "ingest.pncp.status")]
    rabbitmq_status_queue: String,
}

#[derive(Args)]
struct ControllerArgs {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    zone: ZoneArgs,
    #[command(flatten)]
    broker: BrokerArgs,
    /// Only watch these namespaces, separated by commas; all of them if empty.
    #[arg(long, env = "WATCH_NAMESPACE", default_value = "", hide_default_value = true)]
    watch_namespace: Namespaces,
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
    /// Days after its end for which an execution is kept whose SyncExecution is gone: one number for all, like 90, or one for
    /// each status, like success=90,error=365,cancelled=30. For ever if empty.
    #[arg(long, env = "RETENTION_DAYS", default_value = "", hide_default_value = true)]
    retention_days: String,
    /// Seconds between two comparisons of the counters with a count of all rows; 0 is never.
    #[arg(long, env = "COUNTERS_COMPARE_SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u32).range(0..=31_536_000))]
    counters_compare_seconds: u32,
    /// Where to serve /healthz, /readyz and /metrics.
    #[arg(long, env = "METRICS_LISTEN", default_value = "0.0.0.0:8081")]
    metrics_listen: SocketAddr,
}

/// Who may call.
#[derive(Args)]
struct AdminArgs {
    /// Name that callers send by HTTP Basic authentication.
    #[arg(long, env = "ADMIN_USERNAME")]
    admin_username: Option<SecretString>,
    /// A file with that name instead. A change counts from the next request on.
    #[arg(long, env = "ADMIN_USERNAME_FILE")]
    admin_username_file: Option<PathBuf>,
    /// Password that callers send.
    #[arg(long, env = "ADMIN_PASSWORD", hide_env_values = true)]
    admin_password: Option<SecretString>,
    /// A file with that password instead. A change counts from the next request on.
    #[arg(long, env = "ADMIN_PASSWORD_FILE")]
    admin_password_file: Option<PathBuf>,
    /// Serve anybody, without authentication.
    #[arg(long, env = "ALLOW_ANONYMOUS", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    allow_anonymous: bool,
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
    #[command(flatten)]
    admin: AdminArgs,
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
    /// With up: seconds for which to wait for a database that cannot be reached yet.
    #[arg(long = "wait", value_name = "SECONDS", env = "MIGRATE_WAIT_SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    wait_seconds: u32,
}

#[derive(Args)]
struct CountersArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// verify: list the counters that differ from a count of all rows, and fail if there are any.
    #[arg(value_enum)]
    action: CountersAction,
    /// Put them right, too. Writers may go on meanwhile.
    #[arg(long)]
    repair: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum CountersAction {
    Verify,
}

#[derive(Args)]
struct PurgeArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// The namespaces that the controllers watch, separated by commas; all of them if empty.
    #[arg(long, env = "WATCH_NAMESPACE", default_value = "", hide_default_value = true)]
    watch_namespace: Namespaces,
    /// Days after its end for which an execution is kept: one number for all, like 90, or one for each status, like
    /// success=90,error=365,cancelled=30.
    #[arg(long, env = "RETENTION_DAYS", default_value = "", hide_default_value = true)]
    retention_days: String,
    /// Only count what would be deleted.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Direction {
    Up,
    Down,
    Status,
}

impl Cli {
    /// Whether the subcommand is quicker on many threads. The API answers many at once; all others mostly wait, and one thread that
    /// must wake another for each answer uses half as much CPU time again.
    #[must_use]
    pub const fn wants_threads(&self) -> bool {
        matches!(self.command, Command::Api(_))
    }

    /// Runs the subcommand to its end.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn run(self) -> Result<(), Failure> {
        crate::telemetry::start(&self.log_level, self.log_format)
            .map_err(|error| Failure::Setting(format!("--log-level (LOG_LEVEL): {error}: use error, warn, info, debug or trace")))?;
        match self.command {
            Command::Controller(args) => Box::pin(run::controller(args)).await,
            Command::Api(args) => run::api(args).await,
            Command::Migrate(args) => migrate::migrate(args).await,
            Command::Counters(args) => counters::counters(args).await,
            Command::Purge(args) => purge::purge(args).await,
            Command::Crd => run::crd(),
            Command::Openapi => run::openapi(),
        }
    }
}

fn zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| "WORKER_TIMEZONE is an IANA time zone name like America/Cuiaba".to_owned())
}

/// The policy, if there is one.
fn retention(days: &str) -> Result<Option<Policy>, Failure> {
    let policy = (!days.trim().is_empty()).then(|| days.parse()).transpose();
    policy.map_err(|error| Failure::Setting(format!("--retention-days (RETENTION_DAYS): {error}")))
}

impl DatabaseArgs {
    fn database(self) -> Result<Database, Failure> {
        let from_file = self.database_url_file.is_some();
        let url = source::DATABASE.source(self.database_url, self.database_url_file)?;
        Database::new(url, self.database_ca_file).map_err(|wrong| source::DATABASE.refuse(wrong, from_file))
    }
}

impl StoreArgs {
    /// With that many connections kept back for what is beside the pool.
    fn store(self, beside: u32) -> Result<Store, Failure> {
        Ok(Store::new(self.database.database()?, self.database_max_connections - beside))
    }
}

impl BrokerArgs {
    fn broker(self) -> Result<Broker, Failure> {
        let from_file = self.rabbitmq_url_file.is_some();
        let url = source::BROKER.source(self.rabbitmq_url, self.rabbitmq_url_file)?;
        let server = Server::new(url, self.rabbitmq_ca_file).map_err(|wrong| source::BROKER.refuse(wrong, from_file))?;
        Ok(Broker::new(server, self.rabbitmq_queue, self.rabbitmq_status_queue))
    }
}

impl AdminArgs {
    fn access(self) -> Result<Access, Failure> {
        if self.allow_anonymous {
            return Ok(Access::Anonymous);
        }
        let given = |text: Option<SecretString>| text.filter(|text| !text.expose_secret().is_empty());
        let username = source::one(given(self.admin_username), self.admin_username_file, "admin-username", "ADMIN_USERNAME")?;
        let password = source::one(given(self.admin_password), self.admin_password_file, "admin-password", "ADMIN_PASSWORD")?;
        let (Some(username), Some(password)) = (username, password) else {
            return Err(Failure::Setting(
                "--admin-username and --admin-password are not both set: set ADMIN_USERNAME and ADMIN_PASSWORD, \
                 or ADMIN_USERNAME_FILE and ADMIN_PASSWORD_FILE, or pass --allow-anonymous to serve anybody without authentication"
                    .to_owned(),
            ));
        };
        let credentials = Credentials {
            username: source::text(username, "admin-username", "ADMIN_USERNAME")?,
            password: source::text(password, "admin-password", "ADMIN_PASSWORD")?,
        };
        Ok(Access::Administrator(Arc::new(credentials)))
    }
}
