//! What people read: one execution, the newest, a page of history. By keyset, and each filter by an index that has the page's
//! order: a page costs the same wherever it is, however rare what it shows, however many rows there are. Search by the text of
//! an error is in `search`.

use chrono::{DateTime, Utc};
use tracing::warn;
use uuid::Uuid;

use super::{
    Error, Store,
    row::{Row, select_executions},
};
use crate::domain::{Execution, Mode, Status};

/// Where a page begins: after the execution with this creation time and id, in the order newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// `created_at`, in microseconds since the epoch: what Postgres keeps.
    pub created_at_micros: i64,
    /// `id`, between executions of the same microsecond.
    pub id: i64,
}

impl Position {
    /// The position of the execution with this creation time and id.
    pub(super) const fn of(created_at: DateTime<Utc>, id: i64) -> Self {
        Self { created_at_micros: created_at.timestamp_micros(), id }
    }

    pub(super) const fn created_at(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_micros(self.created_at_micros)
    }
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
    /// Only with all these words in the error message.
    pub error: Option<String>,
}

/// A page, newest first.
#[derive(Debug)]
pub struct Page {
    /// At most as many as were asked for.
    pub executions: Vec<Execution>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Position>,
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
        if let Some(error) = &filter.error {
            return self.search(error, filter, after, limit).await;
        }
        let mut rows = if filter.status.is_none() && filter.mode.is_none() {
            self.newest_of_all(filter, after, i64::from(limit) + 1).await?
        } else {
            self.newest_of_some(filter, after, i64::from(limit) + 1).await?
        };
        let more = rows.len() > usize::from(limit);
        rows.truncate(limit.into());
        let next = rows.last().filter(|_| more).map(|last| Position::of(last.created_at, last.id));
        Ok(Page { executions: readable(rows), next })
    }

    /// The newest, whatever their status and mode.
    async fn newest_of_all(&self, filter: &Filter, after: Option<Position>, limit: i64) -> Result<Vec<Row>, Error> {
        self.call(
            "read the history",
            select_executions!(
                "SELECT",
                "FROM sync_executions
                 WHERE ($1::timestamptz IS NULL OR created_at >= $1)
                   AND ($2::timestamptz IS NULL OR created_at < $2)
                   AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4))
                 ORDER BY created_at DESC, id DESC LIMIT $5",
                filter.from,
                filter.to,
                after.and_then(Position::created_at),
                after.map_or(0, |position| position.id),
                limit,
            )
            .fetch_all(&self.pool),
        )
        .await
    }

    /// The newest of some statuses and modes: of each pair the newest, by the one index that has them in this order, then the
    /// newest of those.
    async fn newest_of_some(&self, filter: &Filter, after: Option<Position>, limit: i64) -> Result<Vec<Row>, Error> {
        let words = |all: &[&str], wanted: Option<&str>| -> Vec<String> {
            all.iter().filter(|word| wanted.is_none_or(|wanted| **word == wanted)).map(|word| (*word).to_owned()).collect()
        };
        let statuses = words(&Status::ALL.map(Status::as_str), filter.status.map(Status::as_str));
        let modes = words(&Mode::ALL.map(Mode::as_str), filter.mode.map(Mode::as_str));
        self.call(
            "read the history",
            select_executions!(
                "SELECT",
                "FROM unnest($1::text[]) AS wanted_status, unnest($2::text[]) AS wanted_mode, LATERAL (
                     SELECT * FROM sync_executions
                     WHERE status = wanted_status AND mode = wanted_mode
                       AND ($3::timestamptz IS NULL OR created_at >= $3)
                       AND ($4::timestamptz IS NULL OR created_at < $4)
                       AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6))
                     ORDER BY created_at DESC, id DESC LIMIT $7) AS newest
                 ORDER BY created_at DESC, id DESC LIMIT $7",
                &statuses,
                &modes,
                filter.from,
                filter.to,
                after.and_then(Position::created_at),
                after.map_or(0, |position| position.id),
                limit,
            )
            .fetch_all(&self.pool),
        )
        .await
    }
}

/// One row that cannot be read, as adopted history may hold, must not hide the others.
pub(super) fn readable(rows: Vec<Row>) -> Vec<Execution> {
    let readable = |row| Execution::try_from(row).inspect_err(|error| warn!(error = %error, "left out of the history")).ok();
    rows.into_iter().filter_map(readable).collect()
}
