//! Migrations: up, down, status. Run by the subcommand `migrate` only; controller and api just check the version.

use std::{sync::LazyLock, time::Duration};

use chrono_tz::Tz;
use sqlx::{
    AssertSqlSafe, Executor,
    migrate::{MigrateError, Migrator},
    postgres::{PgPool, PgPoolOptions},
};
use thiserror::Error;
use tracing::info;

use super::{ACQUIRE_TIMEOUT, database::Database};
use crate::backoff::jittered;

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!();
    // After a rollback of the program the schema of the newer release stays: an older release can work on it.
    migrator.set_ignore_missing(true);
    migrator
});

/// How long a migration waits for a lock on the table. All writers wait behind it meanwhile.
const LOCK_TIMEOUT: &str = "30s";
/// The advisory lock of those who migrate.
const LOCK: i64 = 0x7379_6e63_6d69_6772;
/// How often to ask for it.
const LOCK_EVERY: Duration = Duration::from_millis(500);
/// How an index begins that can be built beforehand: on columns that are there, in a migration after the one that made them.
const INDEX: &str = "CREATE INDEX IF NOT EXISTS ";

/// One migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// Whether it ran.
    pub state: State,
}

/// Whether a migration ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It did not.
    NotApplied,
    /// It did.
    Applied,
    /// It did, and this release does not have it.
    AppliedByNewer,
}

/// Why migrations are not taken back.
#[derive(Debug, Error)]
pub enum DownError {
    /// Only the release that has a migration can take it back.
    #[error("migration {newest} was applied by a newer release than this one: run `migrate down --to {ours}` of that release first")]
    NewerApplied {
        /// The newest that ran.
        newest: i64,
        /// The newest of this release.
        ours: i64,
    },
    /// Looking for those failed.
    #[error(transparent)]
    Status(#[from] sqlx::Error),
    /// Taking back failed; that migration is as before.
    #[error(transparent)]
    Failed(#[from] MigrateError),
}

/// A connection for migrations: no statement deadline, and the worker's zone for adopting an existing table.
pub struct Migrations(PgPool);

impl Migrations {
    /// Connects.
    ///
    /// # Errors
    /// What sqlx says: wrong URL, no answer, wrong password.
    pub async fn connect(database: &Database, worker_timezone: Tz) -> Result<Self, sqlx::Error> {
        let options =
            database.options().options([("sync_operator.worker_timezone", worker_timezone.name()), ("lock_timeout", LOCK_TIMEOUT)]);
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT).connect_with(options).await?;
        Ok(Self(pool))
    }

    /// Applies what is not applied; what a newer release applied stays. Safe to run from several places at once: one does it,
    /// the others wait.
    ///
    /// # Errors
    /// [`MigrateError`]; the migration that failed is rolled back.
    pub async fn up(&self) -> Result<(), MigrateError> {
        self.lock().await?;
        for version in
            self.status().await?.iter().filter(|migration| migration.state == State::NotApplied).map(|migration| migration.version)
        {
            self.build_indexes(version).await?;
            MIGRATOR.run_to(version, &self.0).await?;
        }
        // Also with nothing to apply: what is applied must be what this release has.
        MIGRATOR.run(&self.0).await?;
        sqlx::query("SELECT pg_advisory_unlock($1)").bind(LOCK).execute(&self.0).await?;
        Ok(())
    }

    /// Waits until nobody else migrates, by asking again and again: a statement that waits for a lock would hold up the
    /// building of an index, which waits for all statements.
    async fn lock(&self) -> Result<(), sqlx::Error> {
        while !sqlx::query_scalar::<_, bool>("SELECT pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&self.0).await? {
            tokio::time::sleep(jittered(LOCK_EVERY)).await;
        }
        Ok(())
    }

    /// Builds the indexes of a migration before it, without locking out writers. It finds them there already. One that is not
    /// valid is of an attempt that was broken off.
    async fn build_indexes(&self, version: i64) -> Result<(), sqlx::Error> {
        let table: Option<String> = sqlx::query_scalar("SELECT to_regclass('sync_executions')::text").fetch_one(&self.0).await?;
        let migration = MIGRATOR.iter().find(|migration| migration.version == version && migration.migration_type.is_up_migration());
        let (Some(_), Some(migration)) = (table, migration) else { return Ok(()) };
        for (name, rest) in indexes(migration.sql.as_str()) {
            let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)";
            let valid: Option<bool> = sqlx::query_scalar(valid).bind(name).fetch_optional(&self.0).await?;
            if valid == Some(true) {
                continue;
            }
            info!(index = name, "building an index; nobody is locked out");
            // It waits for transactions that are older, a worker's too, and holds up nobody meanwhile.
            for sql in [
                "SET lock_timeout = 0".to_owned(),
                format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"),
                format!("CREATE INDEX CONCURRENTLY {name} {rest}"),
                format!("SET lock_timeout = '{LOCK_TIMEOUT}'"),
            ] {
                // Nothing in it comes from outside of the program.
                self.0.execute(AssertSqlSafe(sql)).await?;
            }
        }
        Ok(())
    }

    /// Takes back every migration after `target`.
    ///
    /// # Errors
    /// [`DownError`].
    pub async fn down(&self, target: i64) -> Result<(), DownError> {
        let newer = self.status().await?.into_iter().rfind(|migration| migration.state == State::AppliedByNewer);
        if let Some(newer) = newer {
            return Err(DownError::NewerApplied { newest: newer.version, ours: newest() });
        }
        Ok(MIGRATOR.undo(&self.0, target).await?)
    }

    /// Every migration of this release, and those that a newer one applied, in order.
    ///
    /// # Errors
    /// What sqlx says.
    pub async fn status(&self) -> Result<Vec<Migration>, sqlx::Error> {
        let table: Option<String> = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations')::text").fetch_one(&self.0).await?;
        let applied: Vec<(i64, String)> = match table {
            None => Vec::new(),
            Some(_) => {
                sqlx::query_as("SELECT version, description FROM _sqlx_migrations WHERE success ORDER BY version")
                    .fetch_all(&self.0)
                    .await?
            }
        };
        let ours = MIGRATOR.iter().filter(|migration| migration.migration_type.is_up_migration()).map(|migration| Migration {
            version: migration.version,
            name: migration.description.to_string(),
            state: if applied.iter().any(|(version, _)| *version == migration.version) { State::Applied } else { State::NotApplied },
        });
        let newer = applied.iter().filter(|(version, _)| !MIGRATOR.version_exists(*version)).map(|(version, name)| Migration {
            version: *version,
            name: name.clone(),
            state: State::AppliedByNewer,
        });
        let mut all: Vec<Migration> = ours.chain(newer).collect();
        all.sort_unstable_by_key(|migration| migration.version);
        Ok(all)
    }
}

/// Name and the rest of each index that a migration makes if it is missing.
fn indexes(sql: &str) -> impl Iterator<Item = (&str, &str)> {
    sql.split(';').filter_map(|statement| statement.find(INDEX).map(|at| &statement[at + INDEX.len()..])?.split_once(' '))
}

/// The newest migration of this release.
#[must_use]
pub fn newest() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default()
}
