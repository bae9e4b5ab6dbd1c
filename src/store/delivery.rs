//! What the relay needs of the record: claim what is not published, mark what is, note why something is not.

use super::{Error, Store};
use crate::{
    crash,
    domain::{
        Mode, Window,
        execution::{FinishReason, PublishProblem, Request},
        message::Delivery,
        report::storable,
    },
};

/// How long a claim holds if its relay dies: longer than a relay may wait before it publishes the batch, and than publishing it
/// and awaiting its confirms can take.
pub const CLAIM_SECONDS: f64 = 20.0;

/// Longest problem text that is kept, in characters.
const MESSAGE_MAX: usize = 512;

/// A claimed execution.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// What its message says.
    pub delivery: Delivery,
    /// Who asked.
    pub request: Request,
    /// Whether its message may have been sent before: a claim ran out, or a confirm never came.
    pub again: bool,
}

impl Store {
    /// Claims up to `limit` unpublished executions of those namespaces, or of all, oldest first, for [`CLAIM_SECONDS`]. Two
    /// relays never get the same one.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn claim(&self, limit: i64, namespaces: Option<&[String]>) -> Result<Vec<Claimed>, Error> {
        let rows = self
            .write("claim executions", || {
                sqlx::query!(
                    r#"UPDATE sync_executions AS execution SET claimed_until = now() + make_interval(secs => $2)
                       FROM (
                           SELECT id, claimed_until IS NOT NULL AS again FROM sync_executions
                           WHERE published_at IS NULL AND status = 'running' AND request_uid IS NOT NULL
                             AND deleted_at IS NULL AND held_at IS NULL AND (claimed_until IS NULL OR claimed_until < now())
                             AND ($3::text[] IS NULL OR namespace = ANY($3))
                           ORDER BY id LIMIT $1
                           FOR UPDATE SKIP LOCKED) AS free
                       WHERE execution.id = free.id
                       RETURNING execution.id, request_uid AS "request_uid!", namespace AS "namespace!", name AS "name!", attempt, mode,
                                 window_start, window_end, created_at, again AS "again!""#,
                    limit,
                    crash::claim_seconds(CLAIM_SECONDS),
                    namespaces as Option<&[String]>,
                )
                .fetch_all(&self.pool)
            })
            .await?;
        let mut claimed = rows
            .into_iter()
            .map(|row| {
                let mode = Mode::parse(&row.mode).ok_or(Error::UnknownWord { id: row.id, column: "mode", value: row.mode })?;
                let delivery = Delivery {
                    id: row.id,
                    request_uid: row.request_uid,
                    attempt: row.attempt,
                    mode,
                    window: row.window_start.zip(row.window_end).and_then(|(start, end)| Window::new(start, end).ok()),
                    created_at: row.created_at,
                };
                let request = Request { uid: row.request_uid, namespace: row.namespace, name: row.name };
                Ok(Claimed { delivery, request, again: row.again })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        // RETURNING has no order; the queue shall have the order of the requests.
        claimed.sort_unstable_by_key(|claimed| claimed.delivery.id);
        Ok(claimed)
    }

    /// Marks executions as published: the broker confirmed their messages. Marking twice is harmless. Answers those that
    /// are still to be marked because somebody holds them locked: a worker may report in a transaction as long as its run,
    /// and the others of the batch must not wait for that.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn mark_published(&self, ids: &[i64]) -> Result<Vec<i64>, Error> {
        let marked = self
            .write("mark executions as published", || {
                sqlx::query!(
                    "UPDATE sync_executions
                 SET published_at = now(), claimed_until = NULL,
                     publish_problem = NULL, publish_message = NULL, publish_failed_at = NULL
                 WHERE id IN (
                     SELECT id FROM sync_executions WHERE id = ANY($1) AND published_at IS NULL
                     FOR UPDATE SKIP LOCKED)",
                    ids
                )
                .execute(&self.pool)
            })
            .await?;
        if usize::try_from(marked.rows_affected()).is_ok_and(|marked| marked == ids.len()) {
            return Ok(Vec::new());
        }
        self.call(
            "look for executions that are still to be marked",
            sqlx::query_scalar!("SELECT id FROM sync_executions WHERE id = ANY($1) AND published_at IS NULL", ids).fetch_all(&self.pool),
        )
        .await
    }

    /// Gives up the claim on executions that were not published, as far as is known, and notes why. One whose SyncExecution
    /// was deleted meanwhile ends as cancelled. The time of the note stays while the problem stays the same. A message whose
    /// confirm never came may have been sent all the same: a claim that is over, rather than none, says so.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn release(&self, ids: &[i64], problem: PublishProblem, message: &str) -> Result<(), Error> {
        self.write("note a publish problem", || {
            sqlx::query!(
                "UPDATE sync_executions
                 SET claimed_until = CASE WHEN $2 = 'BrokerUnavailable' THEN now() END,
                     publish_failed_at = CASE WHEN publish_problem = $2 THEN publish_failed_at ELSE now() END,
                     publish_message = CASE WHEN publish_problem = $2 THEN publish_message ELSE $3 END,
                     publish_problem = $2,
                     status = CASE WHEN deleted_at IS NULL THEN status ELSE 'cancelled' END,
                     finish_reason = CASE WHEN deleted_at IS NULL THEN finish_reason ELSE $4 END
                 WHERE id = ANY($1) AND published_at IS NULL AND status = 'running' AND claimed_until IS NOT NULL",
                ids,
                problem.as_str(),
                storable(message, MESSAGE_MAX),
                FinishReason::ObjectDeleted.as_str(),
            )
            .execute(&self.pool)
        })
        .await?;
        Ok(())
    }

    /// Puts a claimed execution aside: it is not published by itself any more. One whose SyncExecution was deleted meanwhile
    /// ends as cancelled: no person looks at it there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn hold(&self, id: i64) -> Result<(), Error> {
        self.write("put an execution aside", || {
            sqlx::query!(
                "UPDATE sync_executions
                 SET held_at = now(), claimed_until = NULL,
                     status = CASE WHEN deleted_at IS NULL THEN status ELSE 'cancelled' END,
                     finish_reason = CASE WHEN deleted_at IS NULL THEN finish_reason ELSE $2 END
                 WHERE id = $1 AND held_at IS NULL",
                id,
                FinishReason::ObjectDeleted.as_str(),
            )
            .execute(&self.pool)
        })
        .await?;
        Ok(())
    }

    /// Notes on up to `limit` unpublished, unclaimed executions of those namespaces, or of all, that the broker is away, oldest
    /// first; those that say so already are skipped. Answers how many were told.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn note_broker_unavailable(&self, message: &str, limit: i64, namespaces: Option<&[String]>) -> Result<u64, Error> {
        let done = self
            .write("note that the broker is away", || {
                sqlx::query!(
                    "UPDATE sync_executions SET publish_problem = $1, publish_message = $2, publish_failed_at = now()
                     WHERE id IN (
                         SELECT id FROM sync_executions
                         WHERE published_at IS NULL AND status = 'running' AND request_uid IS NOT NULL
                           AND held_at IS NULL AND publish_problem IS DISTINCT FROM $1 AND (claimed_until IS NULL OR claimed_until < now())
                           AND ($4::text[] IS NULL OR namespace = ANY($4))
                         ORDER BY id LIMIT $3
                         FOR UPDATE SKIP LOCKED)",
                    PublishProblem::BrokerUnavailable.as_str(),
                    storable(message, MESSAGE_MAX),
                    limit,
                    namespaces as Option<&[String]>,
                )
                .execute(&self.pool)
            })
            .await?;
        Ok(done.rows_affected())
    }

    /// How many executions of those namespaces, or of all, wait to be published, and for how many seconds the oldest has.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn unpublished(&self, namespaces: Option<&[String]>) -> Result<(i64, f64), Error> {
        let row = self
            .call(
                "count unpublished executions",
                sqlx::query!(
                    r#"SELECT count(*) AS "waiting!",
                              COALESCE(EXTRACT(EPOCH FROM now() - min(created_at)), 0)::float8 AS "oldest!"
                       FROM sync_executions
                       WHERE published_at IS NULL AND status = 'running' AND request_uid IS NOT NULL AND held_at IS NULL
                         AND ($1::text[] IS NULL OR namespace = ANY($1))"#,
                    namespaces as Option<&[String]>,
                )
                .fetch_one(&self.pool),
            )
            .await?;
        Ok((row.waiting, row.oldest))
    }

    /// How many published executions of those namespaces, or of all, no worker has started, and how many seconds ago the first of
    /// them was published. A message that was lost after its confirm (purged, expired, its disk gone) is seen by nothing else.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn queued(&self, namespaces: Option<&[String]>) -> Result<(i64, f64), Error> {
        let row = self
            .call(
                "count executions that no worker has started",
                sqlx::query!(
                    r#"SELECT count(*) AS "queued!",
                              COALESCE(EXTRACT(EPOCH FROM now() - min(published_at)), 0)::float8 AS "oldest!"
                       FROM sync_executions
                       WHERE started_at IS NULL AND status = 'running' AND request_uid IS NOT NULL AND published_at IS NOT NULL
                         AND ($1::text[] IS NULL OR namespace = ANY($1))"#,
                    namespaces as Option<&[String]>,
                )
                .fetch_one(&self.pool),
            )
            .await?;
        Ok((row.queued, row.oldest))
    }
}
