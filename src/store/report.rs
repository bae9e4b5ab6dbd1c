//! Writing what workers report. The trigger in the database guards it: what comes late or contradicts changes nothing.

use super::{
    Error, Store,
    row::{executions, select_executions},
};
use crate::domain::{Execution, Mode, Status, report::ValidReport};

/// What became of a report.
#[derive(Debug, PartialEq)]
pub enum Reported {
    /// Written, or a repeat of what is recorded.
    Accepted(Box<Execution>),
    /// The execution had ended, and the report says otherwise: nothing changed.
    Contradicts(Box<Execution>),
    /// There is no such execution.
    Unknown,
}

/// A run that a worker started without a request, or with a request whose id it did not read.
#[derive(Debug, PartialEq)]
pub enum Opened {
    /// A row of its own was written.
    Created(Box<Execution>),
    /// It is the oldest published, unstarted execution of that mode and window.
    Matched(Box<Execution>),
}

impl Store {
    /// Writes a report on the execution `id`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn report(&self, id: i64, report: &ValidReport) -> Result<Reported, Error> {
        let written = self
            .write("write a report", || {
                select_executions!(
                    "UPDATE sync_executions
                     SET status = COALESCE($2, status),
                         records_processed = COALESCE($3, records_processed),
                         duration_seconds = COALESCE($4::bigint / 100.0, duration_seconds),
                         error_message = COALESCE($5, error_message),
                         window_start = COALESCE($6, window_start),
                         window_end = COALESCE($7, window_end)
                     WHERE id = $1
                     RETURNING",
                    "",
                    id,
                    report.status.map(Status::as_str),
                    report.records_processed,
                    report.duration_hundredths,
                    report.error_message,
                    report.window.map(|window| window.start()),
                    report.window.map(|window| window.end()),
                )
                .fetch_optional(&self.pool)
            })
            .await?;
        if let Some(row) = written {
            return Ok(Reported::Accepted(Box::new(row.try_into()?)));
        }
        // Nothing was written: no such row, or it had ended and the trigger kept it as it was.
        Ok(match self.by_id(id).await? {
            None => Reported::Unknown,
            Some(finished) if report.agrees_with(&finished) => Reported::Accepted(Box::new(finished)),
            Some(finished) => Reported::Contradicts(Box::new(finished)),
        })
    }

    /// Opens the record of a run that is under way: the oldest published, unstarted execution of that mode and window, or else
    /// a new row. One that is just being published counts: its message can arrive before the mark. An update has no window
    /// before the worker computed one, so any of them matches.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn open(&self, mode: Mode, report: &ValidReport) -> Result<Opened, Error> {
        let (start, end) = (report.window.map(|window| window.start()), report.window.map(|window| window.end()));
        let mut matched = self.match_run(mode, report).await?;
        if matched.is_none() && self.skipped(mode, report).await? {
            matched = self.match_run(mode, report).await?;
        }
        if let Some(execution) = matched {
            return Ok(Opened::Matched(Box::new(execution)));
        }
        let status = report.status.unwrap_or(Status::Running);
        let created = self
            .write("record a run of the worker", || {
                select_executions!(
                    "INSERT INTO sync_executions
                         (mode, window_start, window_end, status, records_processed, duration_seconds, error_message)
                     VALUES ($1, $2, $3, $4, COALESCE($5, 0), $6::bigint / 100.0, $7)
                     RETURNING",
                    "",
                    mode.as_str(),
                    start,
                    end,
                    status.as_str(),
                    report.records_processed,
                    report.duration_hundredths,
                    report.error_message,
                )
                .fetch_all(&self.pool)
            })
            .await?;
        executions(created)?.pop().map(|row| Opened::Created(Box::new(row))).ok_or_else(|| Error::Failed {
            operation: "record a run of the worker",
            address: self.address(),
            source: sqlx::Error::RowNotFound,
        })
    }

    /// Starts the oldest execution that is out, not started, and asked for in these words. Rows that somebody else is
    /// writing are left to them.
    async fn match_run(&self, mode: Mode, report: &ValidReport) -> Result<Option<Execution>, Error> {
        let (start, end) = (report.window.map(|window| window.start()), report.window.map(|window| window.end()));
        self.write("match a run of the worker", || {
            select_executions!(
                "UPDATE sync_executions
                     SET status = COALESCE($4, status),
                         records_processed = COALESCE($5, records_processed),
                         duration_seconds = COALESCE($6::bigint / 100.0, duration_seconds),
                         error_message = COALESCE($7, error_message),
                         window_start = COALESCE($2, window_start),
                         window_end = COALESCE($3, window_end)
                     WHERE id = (
                         SELECT id FROM sync_executions
                         WHERE mode = $1 AND status = 'running' AND started_at IS NULL AND request_uid IS NOT NULL
                           AND (published_at IS NOT NULL OR claimed_until IS NOT NULL)
                           AND (mode = 'update' OR (window_start IS NOT DISTINCT FROM $2 AND window_end IS NOT DISTINCT FROM $3))
                         ORDER BY id LIMIT 1
                         FOR UPDATE SKIP LOCKED)
                     RETURNING",
                "",
                mode.as_str(),
                start,
                end,
                report.status.map(Status::as_str),
                report.records_processed,
                report.duration_hundredths,
                report.error_message,
            )
            .fetch_optional(&self.pool)
        })
        .await?
        .map(Execution::try_from)
        .transpose()
    }

    /// Whether there is something to match all the same, that was skipped because it was locked. The relay locks a row for
    /// the moment of its mark, just when the worker has its message: that moment is waited for. A worker's lock is not.
    async fn skipped(&self, mode: Mode, report: &ValidReport) -> Result<bool, Error> {
        let (start, end) = (report.window.map(|window| window.start()), report.window.map(|window| window.end()));
        let candidate = sqlx::query!(
            r#"SELECT id, published_at IS NULL AS "unmarked!" FROM sync_executions
               WHERE mode = $1 AND status = 'running' AND started_at IS NULL AND request_uid IS NOT NULL
                 AND (published_at IS NOT NULL OR claimed_until IS NOT NULL)
                 AND (mode = 'update' OR (window_start IS NOT DISTINCT FROM $2 AND window_end IS NOT DISTINCT FROM $3))
               ORDER BY published_at IS NOT NULL, id LIMIT 1"#,
            mode.as_str(),
            start,
            end,
        );
        let Some(candidate) = self.call("look for a run that is being published", candidate.fetch_optional(&self.pool)).await? else {
            return Ok(false);
        };
        if candidate.unmarked {
            let mark = sqlx::query_scalar!("SELECT id FROM sync_executions WHERE id = $1 FOR SHARE", candidate.id);
            self.call("wait for a run that is being published", mark.fetch_optional(&self.pool)).await?;
        }
        Ok(true)
    }
}
