//! The Postgres door: every statement of this program is in this folder. One statement per call, never a transaction held
//! open, every call with a deadline. What a row means is decided in `domain`; what must hold for every writer, in `migrations/`.

pub mod batch;
pub mod counters;
pub mod database;
mod delivery;
mod ensure;
mod error;
mod fold;
mod follow;
mod history;
mod lifecycle;
pub mod listen;
pub mod migrate;
mod pool;
mod report;
mod retention;
mod row;
mod search;

use std::{sync::Arc, time::Duration};

use sqlx::postgres::PgConnectOptions;

use self::{database::Database, pool::Pool};
use crate::crash;

pub use counters::{Counts, Totals};
pub use delivery::{CLAIM_SECONDS, Claimed};
pub use ensure::NewExecution;
pub use error::{Error, explain};
pub use history::{Filter, Page, Position};
pub use report::{Opened, Reported};
pub use retention::Ended;

/// How long a call waits for a connection of the pool. One that is being opened is given up then, so a server under load needs
/// enough time for it: else every try adds to the load and none succeeds.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long the server works on a statement.
const STATEMENT_TIMEOUT: &str = "10s";
/// How long this side waits for a statement, in case the server is silent; more than both of the above.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// The record of all executions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: Pool,
    database: Arc<Database>,
}

impl Store {
    /// A store for that database, with a pool of so many connections; [`Store::listen`] has one of its own beside it. Connects
    /// when first used, so it can be made while the database is down.
    #[must_use]
    pub fn new(database: Database, max_connections: u32) -> Self {
        let pool = Pool::new(session(database.options()), max_connections);
        Self { pool, database: Arc::new(database) }
    }

    /// `host:port/database`, for messages.
    fn address(&self) -> String {
        self.database.address()
    }

    /// Runs one statement under the deadline, naming the operation in whatever goes wrong.
    async fn call<T>(&self, operation: &'static str, statement: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Error> {
        self.call_within(CALL_TIMEOUT, operation, statement).await
    }

    /// The same under another deadline.
    async fn call_within<T>(
        &self,
        deadline: Duration,
        operation: &'static str,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(deadline, statement).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(Error::Failed { operation, address: self.address(), source }),
            Err(_) => Err(Error::Silent { operation, address: self.address(), seconds: deadline.as_secs() }),
        }
    }

    /// Runs one statement that writes: a side effect.
    async fn write<T, F>(&self, operation: &'static str, statement: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        crash::effect(operation, || self.call(operation, statement())).await
    }

    /// Whether the database answers and its schema is the one this release needs.
    ///
    /// # Errors
    /// [`Error`], saying what is missing.
    pub async fn ready(&self) -> Result<(), Error> {
        let found: i64 = self
            // Not a checked query: the table is the migrator's, not a migration's.
            .call("ready", sqlx::query_scalar("SELECT COALESCE(max(version), 0) FROM _sqlx_migrations WHERE success").fetch_one(&self.pool))
            .await?;
        let needed = migrate::newest();
        if found < needed {
            return Err(Error::SchemaBehind { found, needed, address: self.address() });
        }
        Ok(())
    }

    /// Closes all connections that are not in use; those of calls under way are closed after them.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// What every connection of a store says at its start.
fn session(options: PgConnectOptions) -> PgConnectOptions {
    options.options([
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "10s"),
        // Filters that are not given fold away only when a statement is planned with its values.
        ("plan_cache_mode", "force_custom_plan"),
        // Every statement reads little: starting other processes would cost more than they save.
        ("max_parallel_workers_per_gather", "0"),
    ])
}
