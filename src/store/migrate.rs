//! Migrations: up, down, status. Run by the subcommand `migrate` only; controller and api just check the version.

use chrono_tz::Tz;
use secrecy::SecretString;
use sqlx::{
    migrate::{MigrateError, Migrator},
    postgres::{PgPool, PgPoolOptions},
};

use super::{ACQUIRE_TIMEOUT, connect_options};

static MIGRATOR: Migrator = sqlx::migrate!();

/// One migration and whether it ran.
#[derive(Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its number.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// Whether it is applied.
    pub applied: bool,
}

/// A connection for migrations: no statement deadline, and the worker's zone for adopting an existing table.
pub struct Migrations(PgPool);

impl Migrations {
    /// Connects.
    ///
    /// # Errors
    /// What sqlx says: wrong URL, no answer, wrong password.
    pub async fn connect(url: &SecretString, worker_timezone: Tz) -> Result<Self, sqlx::Error> {
        let options = connect_options(url)?.options([("sync_operator.worker_timezone", worker_timezone.name()), ("lock_timeout", "30s")]);
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_TIMEOUT).connect_with(options).await?;
        Ok(Self(pool))
    }

    /// Applies what is not applied. Safe to run from several places at once: one does it, the others wait.
    ///
    /// # Errors
    /// [`MigrateError`]; the migration that failed is rolled back.
    pub async fn up(&self) -> Result<(), MigrateError> {
        MIGRATOR.run(&self.0).await
    }

    /// Takes back every migration after `target`.
    ///
    /// # Errors
    /// [`MigrateError`].
    pub async fn down(&self, target: i64) -> Result<(), MigrateError> {
        MIGRATOR.undo(&self.0, target).await
    }

    /// Every migration of this release and whether it is applied.
    ///
    /// # Errors
    /// What sqlx says.
    pub async fn status(&self) -> Result<Vec<Migration>, sqlx::Error> {
        let table: Option<String> = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations')::text").fetch_one(&self.0).await?;
        let applied: Vec<i64> = match table {
            None => Vec::new(),
            Some(_) => sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(&self.0).await?,
        };
        Ok(MIGRATOR
            .iter()
            .filter(|migration| migration.migration_type.is_up_migration())
            .map(|migration| Migration {
                version: migration.version,
                name: migration.description.to_string(),
                applied: applied.contains(&migration.version),
            })
            .collect())
    }
}

/// The newest migration of this release.
#[must_use]
pub fn newest() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default()
}
