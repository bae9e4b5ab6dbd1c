//! Recording requests: many at a time, each UID once for ever.

use uuid::Uuid;

use super::{
    Error, Store,
    row::{executions, select_executions},
};
use crate::domain::{Execution, Mode, Window, execution::Request, report::storable};

/// A request to be recorded.
#[derive(Clone, Debug)]
pub struct NewExecution {
    /// Who asks: the key.
    pub request: Request,
    /// What is asked.
    pub mode: Mode,
    /// The window of a backfill.
    pub window: Option<Window>,
    /// For the record.
    pub requested_by: Option<String>,
    /// For the record.
    pub reason: Option<String>,
    /// From recording to the end as failed.
    pub active_deadline_seconds: Option<i64>,
}

/// Longest text that is recorded, in characters; the API server refuses longer ones anyway.
const TEXT_MAX: usize = 4096;

/// Most ids that one statement draws.
const DRAW_MAX: i64 = 100_000;

impl Store {
    /// Records those requests that are not recorded yet, in the order given; answers the new ids with their UIDs.
    ///
    /// Repeats are skipped before an id is drawn for them; only two writers at the very same moment burn one.
    ///
    /// # Errors
    /// [`Error`]; none or all of them are recorded then.
    pub async fn insert(&self, requests: &[NewExecution]) -> Result<Vec<(i64, Uuid)>, Error> {
        let text = |text: &Option<String>| text.as_deref().map(|text| storable(text, TEXT_MAX));
        let uids: Vec<Uuid> = requests.iter().map(|new| new.request.uid).collect();
        let namespaces: Vec<String> = requests.iter().map(|new| new.request.namespace.clone()).collect();
        let names: Vec<String> = requests.iter().map(|new| new.request.name.clone()).collect();
        let modes: Vec<String> = requests.iter().map(|new| new.mode.as_str().to_owned()).collect();
        let starts: Vec<_> = requests.iter().map(|new| new.window.map(|window| window.start())).collect();
        let ends: Vec<_> = requests.iter().map(|new| new.window.map(|window| window.end())).collect();
        let requesters: Vec<Option<String>> = requests.iter().map(|new| text(&new.requested_by)).collect();
        let reasons: Vec<Option<String>> = requests.iter().map(|new| text(&new.reason)).collect();
        let deadlines: Vec<Option<i64>> = requests.iter().map(|new| new.active_deadline_seconds).collect();
        let recorded = self
            .write(
                "record executions",
                || sqlx::query!(
                    "INSERT INTO sync_executions
                         (request_uid, namespace, name, mode, window_start, window_end, requested_by, reason, deadline_at)
                     SELECT uid, namespace, name, mode, window_start, window_end, requested_by, reason,
                            now() + make_interval(secs => deadline::double precision)
                     FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[],
                                 $7::text[], $8::text[], $9::bigint[])
                          WITH ORDINALITY AS new(uid, namespace, name, mode, window_start, window_end, requested_by, reason, deadline, position)
                     WHERE NOT EXISTS (SELECT FROM sync_executions WHERE request_uid = uid)
                     ORDER BY position
                     ON CONFLICT (request_uid) DO NOTHING
                     RETURNING id, request_uid AS \"uid!\"",
                    &uids,
                    &namespaces,
                    &names,
                    &modes,
                    &starts as _,
                    &ends as _,
                    &requesters as _,
                    &reasons as _,
                    &deadlines as _,
                )
                .fetch_all(&self.pool),
            )
            .await?;
        Ok(recorded.into_iter().map(|row| (row.id, row.uid)).collect())
    }

    /// Draws ids up to that one, so that none of them is given any more; answers how many it drew.
    ///
    /// By drawing and not by setting the sequence: that could take back what another one draws at the same moment.
    ///
    /// # Errors
    /// [`Error`]; what was drawn stays drawn.
    pub async fn skip_ids_up_to(&self, id: i64) -> Result<i64, Error> {
        let mut skipped = 0;
        loop {
            let drawn = self
                .write("skip ids", || {
                    sqlx::query_scalar!(
                        "SELECT count(nextval(sequence::regclass)) AS \"drawn!\"
                         FROM pg_get_serial_sequence('sync_executions', 'id') AS sequence,
                              generate_series(1, LEAST($1 - COALESCE(pg_sequence_last_value(sequence::regclass), 0), $2))",
                        id,
                        DRAW_MAX
                    )
                    .fetch_one(&self.pool)
                })
                .await?;
            skipped += drawn;
            if drawn < DRAW_MAX {
                return Ok(skipped);
            }
        }
    }

    /// The executions of those UIDs that are recorded, in no order.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn by_uids(&self, uids: &[Uuid]) -> Result<Vec<Execution>, Error> {
        executions(
            self.call(
                "look up executions",
                select_executions!("SELECT", "FROM sync_executions WHERE request_uid = ANY($1)", uids).fetch_all(&self.pool),
            )
            .await?,
        )
    }
}
