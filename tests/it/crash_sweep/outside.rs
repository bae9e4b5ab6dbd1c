//! What must hold after each run, told from SQL, the queue and the objects, never from the program itself. Answers what does not
//! hold, so that a sweep can go on and count.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kube::{ResourceExt, api::ListParams};
use sqlx::Row as _;
use sync_operator::crd::{SyncExecution, SyncExecutionStatus};

use super::history::Versions;
use crate::common::{PATIENCE, invariants::WRONG_COUNTERS, objects::condition, world::World};

/// How long nothing may be written for it to be quiet: longer than status changes are gathered, than a reconcile is put off, and
/// than the relay and the housekeeping rest.
const QUIET: Duration = Duration::from_secs(3);
/// The phases of an end.
const ENDS: [&str; 3] = ["Succeeded", "Failed", "Cancelled"];

/// An invariant, and how it was broken.
pub type Violation = (&'static str, String);

/// A row, as far as others can see it.
struct Row {
    id: i64,
    uid: String,
    name: String,
    attempt: i32,
    status: String,
    revision: i64,
    records: Option<i32>,
    error: Option<String>,
    finish_reason: Option<String>,
    published: bool,
    started: bool,
    held: bool,
}

async fn rows(world: &World) -> Vec<Row> {
    let sql = "SELECT id, request_uid::text AS uid, name, attempt, status, revision, records_processed, error_message, finish_reason,
                      published_at IS NOT NULL AS published, started_at IS NOT NULL AS started, held_at IS NOT NULL AS held
               FROM sync_executions WHERE request_uid IS NOT NULL ORDER BY id";
    let rows = sqlx::query(sql).fetch_all(&world.database).await.unwrap();
    rows.iter()
        .map(|row| Row {
            id: row.get("id"),
            uid: row.get("uid"),
            name: row.get("name"),
            attempt: row.get("attempt"),
            status: row.get("status"),
            revision: row.get("revision"),
            records: row.get("records_processed"),
            error: row.get("error_message"),
            finish_reason: row.get("finish_reason"),
            published: row.get("published"),
            started: row.get("started"),
            held: row.get("held"),
        })
        .collect()
}

async fn objects(world: &World) -> Vec<SyncExecution> {
    world.objects().list(&ListParams::default()).await.unwrap().items
}

/// I5: waits until every object shows its row and what is to be deleted is gone, and then that nothing is written any more.
pub async fn quiet(world: &World) -> Vec<Violation> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let differences = differences(&rows(world).await, &objects(world).await);
        if differences.is_empty() {
            break;
        }
        if tokio::time::Instant::now() > deadline {
            return differences.into_iter().map(|difference| ("I5", difference)).collect();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (before, revisions) = (versions(world).await, revisions(world).await);
    tokio::time::sleep(QUIET).await;
    let mut violations = Vec::new();
    if versions(world).await != before {
        violations.push(("I5", "objects are still written after they show their rows".to_owned()));
    }
    if self::revisions(world).await != revisions {
        violations.push(("I5", "rows are still written after all have ended".to_owned()));
    }
    violations
}

async fn versions(world: &World) -> Vec<(String, String)> {
    objects(world).await.into_iter().map(|object| (object.name_any(), object.resource_version().unwrap())).collect()
}

async fn revisions(world: &World) -> i64 {
    world.number("SELECT COALESCE(sum(revision), 0)::bigint FROM sync_executions").await
}

/// How objects differ from their rows.
fn differences(rows: &[Row], objects: &[SyncExecution]) -> Vec<String> {
    let rows: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.uid.as_str(), row)).collect();
    objects
        .iter()
        .filter_map(|object| {
            let (name, shown) = (object.name_any(), object.status.clone().unwrap_or_default());
            let row = rows.get(object.uid()?.as_str());
            let same = match (name.as_str(), row) {
                ("lost", None) => condition(&shown, "Recorded") == Some(("False", "RecordLost")),
                ("behind", Some(row)) => row.held && condition(&shown, "Recorded") == Some(("False", "RecordBehind")),
                // Its time to live is 0; this one was deleted by us.
                ("sql" | "deleted" | "lost", _) | (_, None) => false,
                (_, Some(row)) => shows(&shown, row),
            };
            (!same).then(|| format!("{name} does not show its row: {}", serde_json::to_string(&shown).unwrap()))
        })
        .collect()
}

/// Whether a status is that of the row.
fn shows(shown: &SyncExecutionStatus, row: &Row) -> bool {
    let phase = match (row.status.as_str(), row.published, row.started) {
        ("success", ..) => "Succeeded",
        ("error", ..) => "Failed",
        ("cancelled", ..) => "Cancelled",
        (_, _, true) => "Running",
        (_, true, _) => "Queued",
        _ => "Pending",
    };
    shown.execution_id == Some(row.id.to_string())
        && shown.revision == Some(row.revision)
        && shown.phase.is_some_and(|shown| shown.as_str() == phase)
        && shown.publish_time.is_some() == row.published
        && shown.completion_time.is_some() == (row.status != "running")
        && shown.records_processed == row.records.map(i64::from)
        && shown.error.is_some() == row.error.is_some()
}

/// I1: one row for each object that was asked for.
pub async fn one_row_each(world: &World, asked: &[String]) -> Vec<Violation> {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows(world).await {
        *count.entry(row.uid).or_default() += 1;
    }
    let wrong = |uid: &String| count.get(uid).copied().unwrap_or_default() != 1;
    asked.iter().filter(|uid| wrong(uid)).map(|uid| ("I1", format!("{uid} has not one row: {:?}", count.get(uid)))).collect()
}

/// I2: every row was published, or ended visibly. I3: its messages have one id for each attempt.
pub async fn published_or_ended(world: &World, seen: &[(String, String)]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut messages: BTreeMap<&str, BTreeSet<(&str, &str)>> = BTreeMap::new();
    for (id, text) in seen {
        let uid = id.split_once('/').map_or(id.as_str(), |(uid, _)| uid);
        messages.entry(uid).or_default().insert((id, text));
    }
    for row in rows(world).await {
        let sent = messages.remove(row.uid.as_str()).unwrap_or_default();
        let ended_by_itself = matches!(row.finish_reason.as_deref(), Some("ObjectDeleted" | "AmbiguousLocalTime" | "DeadlineExceeded"));
        if row.published && sent.is_empty() {
            violations.push(("I2", format!("{} counts as published, and no message of it came", row.name)));
        }
        if sent.is_empty() && !ended_by_itself && !row.held {
            violations.push(("I2", format!("{} is {}: not published, and not ended visibly", row.name, row.status)));
        }
        if row.status == "running" && !row.held {
            violations.push(("I2", format!("{} never ended", row.name)));
        }
        let allowed = usize::try_from(row.attempt).unwrap();
        if sent.len() > allowed || sent.iter().any(|(id, _)| !(1..=row.attempt).any(|attempt| *id == format!("{}/{attempt}", row.uid))) {
            violations.push(("I3", format!("{}: {sent:?} for {} attempts", row.name, row.attempt)));
        }
    }
    violations.extend(messages.keys().map(|uid| ("I1", format!("a message of {uid}, which has no row"))));
    violations
}

/// I4: no end was taken back or changed, in no version of any row or object; no revision went down.
pub async fn no_end_taken_back(world: &World, history: &Versions) -> Vec<Violation> {
    let sql = "SELECT id FROM (
                   SELECT id, status, records, revision, lag(status) OVER w AS status_before, lag(records) OVER w AS records_before,
                          lag(revision) OVER w AS revision_before
                   FROM audit WINDOW w AS (PARTITION BY id ORDER BY number)) AS steps
               WHERE revision < revision_before
                  OR status_before <> 'running' AND (status, records) IS DISTINCT FROM (status_before, records_before)";
    let ids: Vec<i64> = sqlx::query_scalar(sql).fetch_all(&world.database).await.unwrap();
    let mut violations: Vec<Violation> =
        ids.iter().map(|id| ("I4", format!("the end of row {id} changed, or its revision went down"))).collect();
    history.read(|versions| {
        let mut last: BTreeMap<&str, &SyncExecutionStatus> = BTreeMap::new();
        for version in versions {
            if let Some(before) = last.insert(&version.uid, &version.status) {
                let ended = before.phase.filter(|phase| ENDS.contains(&phase.as_str()));
                let after = &version.status;
                if ended.is_some_and(|phase| after.phase != Some(phase))
                    || after.revision < before.revision
                    || after.execution_id < before.execution_id
                {
                    violations.push(("I4", format!("{} went from {before:?} to {after:?}", version.name)));
                }
            }
        }
    });
    violations
}

/// I8.
pub async fn counters_are_right(world: &World) -> Vec<Violation> {
    match world.number(WRONG_COUNTERS).await {
        0 => Vec::new(),
        wrong => vec![("I8", format!("{wrong} statuses whose counters are not count(*)"))],
    }
}
