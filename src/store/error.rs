//! What can go wrong at the Postgres door, and whether waiting helps.

use thiserror::Error;

/// A failed call to the store. The text names the database by address, never by its URL.
#[derive(Debug, Error)]
pub enum Error {
    /// The statement, or getting a connection for it, failed.
    #[error("database {address}: {operation}: {}", explain(source))]
    Failed {
        /// Which call.
        operation: &'static str,
        /// `host:port/database`.
        address: String,
        /// What sqlx said.
        source: sqlx::Error,
    },
    /// No answer within the deadline.
    #[error("database {address}: {operation}: no answer within {seconds} s")]
    Silent {
        /// Which call.
        operation: &'static str,
        /// `host:port/database`.
        address: String,
        /// The deadline.
        seconds: u64,
    },
    /// The schema is older than this release needs.
    #[error("database {address}: schema version {found}, this release needs {needed}: run `sync-operator migrate up`")]
    SchemaBehind {
        /// Newest migration that ran.
        found: i64,
        /// Newest migration of this release.
        needed: i64,
        /// `host:port/database`.
        address: String,
    },
    /// A row holds a word that this release does not know.
    #[error(
        "sync_executions row {id}: column {column} holds `{value}`, which this release does not know: run a newer one, or mend the row"
    )]
    UnknownWord {
        /// The row.
        id: i64,
        /// The column.
        column: &'static str,
        /// What it holds.
        value: String,
    },
}

/// What sqlx says, in words that help; without the position in the server's sources that it appends.
#[must_use]
pub fn explain(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::PoolTimedOut => "no connection in time: is it up, and are there connections left?".to_owned(),
        sqlx::Error::Database(database) if database.code().as_deref() == Some("42P01") => {
            format!("{}: run `sync-operator migrate up`", database.message())
        }
        sqlx::Error::Database(database) => database.message().to_owned(),
        sqlx::Error::Io(io) => crate::tls::explain(io).unwrap_or_else(|| error.to_string()),
        other => other.to_string(),
    }
}

impl Error {
    /// Whether the same call can succeed later with nothing changed but the state of the database server.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Silent { .. } | Self::SchemaBehind { .. } => true,
            Self::UnknownWord { .. } => false,
            Self::Failed { source, .. } => match source {
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed => true,
                // Connection (08), authorization (28), transaction rollback (40), resources (53), limits (55), intervention (57),
                // system (58), read-only (25006), schema not there yet (42P01, 3D000): PostgreSQL appendix A.
                sqlx::Error::Database(database) => database.code().is_some_and(|code| {
                    ["08", "28", "40", "53", "55", "57", "58"].contains(&code.get(..2).unwrap_or_default())
                        || ["25006", "42P01", "3D000"].contains(&code.as_ref())
                }),
                _ => false,
            },
        }
    }
}
