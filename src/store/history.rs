//! What people read: one execution, the newest, a page of history, sums. Keyset pages and kept counters: no reader counts
//! the table or skips over rows.

use chrono::{DateTime, Utc};
use tracing::warn;
use uuid::Uuid;

use super::{Error, Store, row::select_executions};
use crate::domain::{Execution, Mode, Status};

/// Where a page begins: after the execution with this creation time and id, in the order newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// `created_at`, in microseconds since the epoch: what Postgres keeps.
    pub created_at_micros: i64,
    /// `id`, between executions of the same microsecond.
    pub id: i64,
}

/// Which executions a page shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this status.
    pub status: Option<Status>,
    /// Only this mode.
    pub mode: Option<Mode>,
    /// Recorded at or after.
    pub from: Option<DateTime<Utc>>,
    /// Recorded before.
    pub to: Option<DateTime<Utc>>,
}

/// A page, newest first.
#[derive(Debug)]
pub struct Page {
    /// At most as many as were asked for.
    pub executions: Vec<Execution>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Position>,
}

/// Sums over all executions of one status.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// How many.
    pub executions: i64,
    /// How many of them have a duration.
    pub durations: i64,
    /// The sum of those durations, in seconds.
    pub duration_seconds: f64,
}

/// [`Counts`] of every status.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals([Counts; Status::ALL.len()]);

impl Totals {
    /// The counts of one status.
    #[must_use]
    pub fn of(&self, status: Status) -> Counts {
        Status::ALL.iter().position(|known| *known == status).map(|index| self.0[index]).unwrap_or_default()
    }

    /// The counts of all.
    #[must_use]
    pub fn all(&self) -> Counts {
        self.0.iter().fold(Counts::default(), |sum, counts| Counts {
            executions: sum.executions + counts.executions,
            durations: sum.durations + counts.durations,
            duration_seconds: sum.duration_seconds + counts.duration_seconds,
        })
    }
}

impl Store {
    /// The execution with this id.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn by_id(&self, id: i64) -> Result<Option<Execution>, Error> {
        self.call("read an execution", select_executions!("SELECT", "FROM sync_executions WHERE id = $1", id).fetch_optional(&self.pool))
            .await?
            .map(Execution::try_from)
            .transpose()
    }

    /// The execution of this SyncExecution.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn by_uid(&self, uid: Uuid) -> Result<Option<Execution>, Error> {
        Ok(self.by_uids(&[uid]).await?.pop())
    }

    /// The newest execution that a SyncExecution of this name asked for.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn by_name(&self, namespace: &str, name: &str) -> Result<Option<Execution>, Error> {
        self.call(
            "read an execution by name",
            select_executions!(
                "SELECT",
                "FROM sync_executions WHERE namespace = $1 AND name = $2 ORDER BY id DESC LIMIT 1",
                namespace,
                name
            )
            .fetch_optional(&self.pool),
        )
        .await?
        .map(Execution::try_from)
        .transpose()
    }

    /// The newest execution.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn newest(&self) -> Result<Option<Execution>, Error> {
        Ok(self.page(&Filter::default(), None, 1).await?.executions.pop())
    }

    /// A page of at most `limit` executions, newest first.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn page(&self, filter: &Filter, after: Option<Position>, limit: u16) -> Result<Page, Error> {
        let after_time = after.and_then(|position| DateTime::from_timestamp_micros(position.created_at_micros));
        let mut rows = self
            .call(
                "read the history",
                select_executions!(
                    "SELECT",
                    "FROM sync_executions
                     WHERE ($1::text IS NULL OR status = $1)
                       AND ($2::text IS NULL OR mode = $2)
                       AND ($3::timestamptz IS NULL OR created_at >= $3)
                       AND ($4::timestamptz IS NULL OR created_at < $4)
                       AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6))
                     ORDER BY created_at DESC, id DESC LIMIT $7",
                    filter.status.map(Status::as_str),
                    filter.mode.map(Mode::as_str),
                    filter.from,
                    filter.to,
                    after_time,
                    after.map_or(0, |position| position.id),
                    i64::from(limit) + 1,
                )
                .fetch_all(&self.pool),
            )
            .await?;
        let more = rows.len() > usize::from(limit);
        rows.truncate(limit.into());
        let next = rows.last().filter(|_| more).map(|last| Position { created_at_micros: last.created_at.timestamp_micros(), id: last.id });
        // One row that cannot be read, as adopted history may hold, must not hide the others.
        let readable = |row| Execution::try_from(row).inspect_err(|error| warn!(error = %error, "left out of the history")).ok();
        let executions = rows.into_iter().filter_map(readable).collect();
        Ok(Page { executions, next })
    }

    /// The counters.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn totals(&self) -> Result<Totals, Error> {
        let rows = self
            .call(
                "read the counters",
                sqlx::query!(
                    r#"SELECT status, sum(executions)::bigint AS "executions!", sum(durations)::bigint AS "durations!",
                              sum(duration_seconds)::float8 AS "duration_seconds!"
                       FROM sync_execution_counters GROUP BY status"#
                )
                .fetch_all(&self.pool),
            )
            .await?;
        let mut totals = Totals::default();
        for row in rows {
            // Adopted history can hold words of its own; they belong to no sum.
            if let Some(index) = Status::ALL.iter().position(|status| status.as_str() == row.status) {
                totals.0[index] = Counts { executions: row.executions, durations: row.durations, duration_seconds: row.duration_seconds };
            }
        }
        Ok(totals)
    }

    /// How many executions were recorded in the last 24 hours.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn last_24h(&self) -> Result<i64, Error> {
        self.call(
            "count the last 24 hours",
            sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM sync_executions WHERE created_at > now() - interval '24 hours'"#)
                .fetch_one(&self.pool),
        )
        .await
    }
}
