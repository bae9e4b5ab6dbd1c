//! Ends that no worker reports: deadline, deletion before publishing, a request that cannot be delivered.

use uuid::Uuid;

use super::{Error, Store};
use crate::domain::execution::{FinishReason, Request};

impl Store {
    /// Ends an execution that cannot be delivered as failed, unless it ended before.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn fail(&self, id: i64, reason: FinishReason, message: &str) -> Result<(), Error> {
        self.write("end an execution as failed", || {
            sqlx::query!(
                "UPDATE sync_executions SET status = 'error', finish_reason = $2, error_message = $3, claimed_until = NULL
                 WHERE id = $1 AND status = 'running'",
                id,
                reason.as_str(),
                message
            )
            .execute(&self.pool)
        })
        .await?;
        Ok(())
    }

    /// Ends executions whose deadline passed as failed; answers their ids. One that a worker holds locked is left for the
    /// next time: the others must not wait for its transaction.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn end_overdue(&self) -> Result<Vec<i64>, Error> {
        self.write("end overdue executions", || {
            sqlx::query_scalar!(
                "UPDATE sync_executions
                 SET status = 'error', finish_reason = $1, claimed_until = NULL,
                     error_message = format('not finished within activeDeadlineSeconds (%s s)',
                                            round(EXTRACT(EPOCH FROM deadline_at - created_at)))
                 WHERE id IN (
                     SELECT id FROM sync_executions WHERE status = 'running' AND deadline_at <= now()
                     FOR UPDATE SKIP LOCKED)
                 RETURNING id",
                FinishReason::DeadlineExceeded.as_str()
            )
            .fetch_all(&self.pool)
        })
        .await
    }

    /// Notes that SyncExecutions were deleted, and ends as cancelled those of their executions that are not published.
    /// One that is just being published is only marked: the relay's outcome decides. Answers the ids that it touched.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn cancel_deleted(&self, uids: &[Uuid]) -> Result<Vec<i64>, Error> {
        self.write("cancel executions of deleted objects", || {
            sqlx::query_scalar!(
                "UPDATE sync_executions
                 SET deleted_at = COALESCE(deleted_at, now()),
                     status = CASE WHEN claimed_until > now() THEN status ELSE 'cancelled' END,
                     finish_reason = CASE WHEN claimed_until > now() THEN finish_reason ELSE $2 END,
                     claimed_until = CASE WHEN claimed_until > now() THEN claimed_until END
                 WHERE request_uid = ANY($1) AND status = 'running' AND published_at IS NULL
                   AND (deleted_at IS NULL OR claimed_until <= now())
                 RETURNING id",
                uids,
                FinishReason::ObjectDeleted.as_str()
            )
            .fetch_all(&self.pool)
        })
        .await
    }

    /// Ends as cancelled what was marked as deleted while a relay had claimed it and that relay never settled.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn cancel_abandoned(&self) -> Result<Vec<i64>, Error> {
        self.write("cancel abandoned executions", || {
            sqlx::query_scalar!(
                "UPDATE sync_executions SET status = 'cancelled', finish_reason = $1, claimed_until = NULL
                 WHERE deleted_at IS NOT NULL AND claimed_until <= now()
                   AND published_at IS NULL AND status = 'running' AND request_uid IS NOT NULL
                 RETURNING id",
                FinishReason::ObjectDeleted.as_str()
            )
            .fetch_all(&self.pool)
        })
        .await
    }

    /// The requests of those namespaces, or of all, that are not published, oldest first: those whose objects could have been
    /// deleted unseen. At most `limit`, after the execution id `after`.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn unpublished_requests(&self, after: i64, limit: i64, namespaces: Option<&[String]>) -> Result<Vec<(i64, Request)>, Error> {
        let rows = self
            .call(
                "list unpublished requests",
                sqlx::query!(
                    r#"SELECT id, request_uid AS "uid!", namespace AS "namespace!", name AS "name!" FROM sync_executions
                       WHERE published_at IS NULL AND status = 'running' AND request_uid IS NOT NULL AND id > $1
                         AND ($3::text[] IS NULL OR namespace = ANY($3))
                       ORDER BY id LIMIT $2"#,
                    after,
                    limit,
                    namespaces as Option<&[String]>,
                )
                .fetch_all(&self.pool),
            )
            .await?;
        Ok(rows.into_iter().map(|row| (row.id, Request { uid: row.uid, namespace: row.namespace, name: row.name })).collect())
    }
}
