//! The kept counters: reading them, comparing them with the table and mending what differs. Writers keep them by the triggers of
//! `migrations/0004` and `0006`; nothing here changes an execution.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use super::{Error, Store, session};
use crate::domain::Status;

/// How long a count of the whole table may take; nobody waits for it.
const COUNT_TIMEOUT: Duration = Duration::from_mins(10);
/// The advisory lock of those who repair.
const REPAIR_LOCK: i64 = 0x7379_6e63_636f_756e;

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

/// Which counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counter {
    /// The sums over all executions of this status, known or not.
    Status(String),
    /// The executions recorded in the minute that begins then, within the last 24 hours.
    Minute(DateTime<Utc>),
}

/// Sums over executions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many.
    pub executions: i64,
    /// How many of them have a duration.
    pub durations: i64,
    /// The sum of those durations, in hundredths of a second.
    pub duration_hundredths: i64,
}

/// A counter that differs from a count of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Which one.
    pub counter: Counter,
    /// What it says.
    pub kept: Sums,
    /// What it should say.
    pub counted: Sums,
}

impl Store {
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

    /// How many executions were recorded in the last 24 hours, counted from the start of the minute in which those began.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn last_24h(&self) -> Result<i64, Error> {
        self.call(
            "read the counters of the last 24 hours",
            sqlx::query_scalar!(
                r#"SELECT COALESCE(sum(executions), 0)::bigint AS "executions!" FROM sync_execution_minutes
                   WHERE minute >= date_trunc('minute', now() - interval '24 hours', 'UTC')"#
            )
            .fetch_one(&self.pool),
        )
        .await
    }

    /// Counts the table and names the counters that say something else. Reads every row: seconds for millions of them.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn counter_drift(&self) -> Result<Vec<Drift>, Error> {
        self.call_within(COUNT_TIMEOUT, "compare the counters with the table", async {
            let mut connection = self.unhurried().await?;
            let drift = drift(&mut connection).await?;
            connection.close().await?;
            Ok(drift)
        })
        .await
    }

    /// Puts right the counters that differ from a count of the table; answers how they differed. Writers go on meanwhile: each
    /// of them changes a row and its counter at once, so the difference between the two is the same at every moment.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn repair_counters(&self) -> Result<Vec<Drift>, Error> {
        self.call_within(COUNT_TIMEOUT, "repair the counters", async {
            let mut connection = self.unhurried().await?;
            // Two repairs at once would put it right twice. The lock goes with the connection.
            sqlx::query("SELECT pg_advisory_lock($1)").bind(REPAIR_LOCK).execute(&mut connection).await?;
            let drift = drift(&mut connection).await?;
            for drift in &drift {
                mend(&mut connection, drift).await?;
            }
            connection.close().await?;
            Ok(drift)
        })
        .await
    }

    /// A connection of its own for statements that read the whole table: those of the pool give up sooner.
    async fn unhurried(&self) -> Result<PgConnection, sqlx::Error> {
        let options = session(self.database.options());
        let unhurried = [("statement_timeout", "10min"), ("lock_timeout", "10min"), ("max_parallel_workers_per_gather", "2")];
        PgConnection::connect_with(&options.options(unhurried)).await
    }
}

async fn drift(connection: &mut PgConnection) -> Result<Vec<Drift>, sqlx::Error> {
    let statuses = sqlx::query!(
        r#"SELECT status AS "status!", COALESCE(kept.executions, 0) AS "kept!", COALESCE(kept.durations, 0) AS "kept_durations!",
                  COALESCE(kept.hundredths, 0) AS "kept_hundredths!", COALESCE(counted.executions, 0) AS "counted!",
                  COALESCE(counted.durations, 0) AS "counted_durations!", COALESCE(counted.hundredths, 0) AS "counted_hundredths!"
           FROM (SELECT status, sum(executions)::bigint AS executions, sum(durations)::bigint AS durations,
                        round(100 * sum(duration_seconds))::bigint AS hundredths
                 FROM sync_execution_counters GROUP BY status) AS kept
           FULL JOIN
                (SELECT status, count(*) AS executions, count(duration_seconds) AS durations,
                        round(100 * sum(duration_seconds))::bigint AS hundredths
                 FROM sync_executions GROUP BY status) AS counted USING (status)
           WHERE (COALESCE(kept.executions, 0), COALESCE(kept.durations, 0), COALESCE(kept.hundredths, 0))
              <> (COALESCE(counted.executions, 0), COALESCE(counted.durations, 0), COALESCE(counted.hundredths, 0))
           ORDER BY status"#
    )
    .fetch_all(&mut *connection)
    .await?;
    let minutes = sqlx::query!(
        r#"SELECT minute AS "minute!", COALESCE(kept.executions, 0) AS "kept!", COALESCE(counted.executions, 0) AS "counted!"
           FROM (SELECT minute, sum(executions)::bigint AS executions FROM sync_execution_minutes
                 WHERE minute >= date_trunc('minute', now() - interval '24 hours', 'UTC') GROUP BY minute) AS kept
           FULL JOIN
                (SELECT date_trunc('minute', created_at, 'UTC') AS minute, count(*) AS executions FROM sync_executions
                 WHERE created_at >= date_trunc('minute', now() - interval '24 hours', 'UTC') GROUP BY 1) AS counted USING (minute)
           WHERE COALESCE(kept.executions, 0) <> COALESCE(counted.executions, 0)
           ORDER BY minute"#
    )
    .fetch_all(&mut *connection)
    .await?;
    let statuses = statuses.into_iter().map(|row| Drift {
        counter: Counter::Status(row.status),
        kept: Sums { executions: row.kept, durations: row.kept_durations, duration_hundredths: row.kept_hundredths },
        counted: Sums { executions: row.counted, durations: row.counted_durations, duration_hundredths: row.counted_hundredths },
    });
    let minutes = minutes.into_iter().map(|row| Drift {
        counter: Counter::Minute(row.minute),
        kept: Sums { executions: row.kept, ..Sums::default() },
        counted: Sums { executions: row.counted, ..Sums::default() },
    });
    Ok(statuses.chain(minutes).collect())
}

/// Adds what is missing, as a writer would.
async fn mend(connection: &mut PgConnection, Drift { counter, kept, counted }: &Drift) -> Result<(), sqlx::Error> {
    let executions = counted.executions - kept.executions;
    match counter {
        Counter::Status(status) => sqlx::query!(
            "INSERT INTO sync_execution_counters (status, executions, durations, duration_seconds)
             VALUES ($1, $2, $3, $4::bigint / 100.0)",
            status,
            executions,
            counted.durations - kept.durations,
            counted.duration_hundredths - kept.duration_hundredths,
        ),
        Counter::Minute(minute) => {
            sqlx::query!("INSERT INTO sync_execution_minutes (minute, executions) VALUES ($1, $2)", minute, executions)
        }
    }
    .execute(connection)
    .await?;
    Ok(())
}
