//! Finding ended executions that are old, and deleting executions. Which may go is not decided here.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Error, Position, Store};
use crate::domain::{Mode, Status};

/// An execution that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Creation time and id.
    pub position: Position,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// The SyncExecution that asked for it.
    pub request_uid: Option<Uuid>,
    /// Its namespace.
    pub namespace: Option<String>,
}

impl Store {
    /// What the clock of the database says.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn now(&self) -> Result<DateTime<Utc>, Error> {
        self.call("ask for the time", sqlx::query_scalar!(r#"SELECT now() AS "now!""#).fetch_one(&self.pool)).await
    }

    /// Executions of that status that were recorded before that time, and so may have ended before it; oldest first, at most
    /// `limit`, after that position.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn ended_before(
        &self,
        status: Status,
        before: DateTime<Utc>,
        after: Option<Position>,
        limit: i64,
    ) -> Result<Vec<Ended>, Error> {
        let rows = self
            .call(
                "look for old executions",
                sqlx::query!(
                    r#"SELECT id, created_at, COALESCE(finished_at, updated_at) AS "at!", request_uid, namespace
                       FROM unnest($2::text[]) AS wanted_mode, LATERAL (
                           SELECT * FROM sync_executions
                           WHERE status = $1 AND mode = wanted_mode AND created_at < $3
                             AND ($4::timestamptz IS NULL OR (created_at, id) > ($4, $5))
                           ORDER BY created_at, id LIMIT $6) AS oldest
                       ORDER BY created_at, id LIMIT $6"#,
                    status.as_str(),
                    &Mode::ALL.map(|mode| mode.as_str().to_owned()),
                    before,
                    after.and_then(Position::created_at),
                    after.map_or(0, |position| position.id),
                    limit,
                )
                .fetch_all(&self.pool),
            )
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| Ended {
                position: Position::of(row.created_at, row.id),
                at: row.at,
                request_uid: row.request_uid,
                namespace: row.namespace,
            })
            .collect())
    }

    /// Deletes those of these executions that have ended; how many. What somebody holds locked is left for the next time.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_ended(&self, ids: &[i64]) -> Result<u64, Error> {
        let deleted = self.write("delete old executions", || {
            sqlx::query!(
                "DELETE FROM sync_executions
             WHERE id IN (SELECT id FROM sync_executions WHERE id = ANY($1) AND status <> 'running' FOR UPDATE SKIP LOCKED)",
                ids
            )
            .execute(&self.pool)
        });
        Ok(deleted.await?.rows_affected())
    }
}
