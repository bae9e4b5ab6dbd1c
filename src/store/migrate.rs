//! Migrations: up, down, status. Run by the subcommand `migrate` only; controller and api just check the version.

use std::sync::LazyLock;

use chrono_tz::Tz;
use sqlx::{
    migrate::{MigrateError, Migrator},
    postgres::{PgPool, PgPoolOptions},
};
use thiserror::Error;

use super::{ACQUIRE_TIMEOUT, database::Database};

static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!();
    // After a rollback of the program the schema of the newer release stays: an older release can work on it.
    migrator.set_ignore_missing(true);
    migrator
});

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
        let options = database.options().options([("sync_operator.worker_timezone", worker_timezone.name()), ("lock_timeout", "30s")]);
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT).connect_with(options).await?;
        Ok(Self(pool))
    }

    /// Applies what is not applied; what a newer release applied stays. Safe to run from several places at once: one does it,
    /// the others wait.
    ///
    /// # Errors
    /// [`MigrateError`]; the migration that failed is rolled back.
    pub async fn up(&self) -> Result<(), MigrateError> {
        MIGRATOR.run(&self.0).await
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

/// The newest migration of this release.
#[must_use]
pub fn newest() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default()
}
