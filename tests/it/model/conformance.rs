//! The rows of the model are those of PostgreSQL: every operation on every row that can come about, by the product's own
//! statements, compared with the reference. Since a row's next state depends on nothing but the row, that covers every sequence.

use std::collections::{HashSet, VecDeque};

use serde_json::{Value, json};
use sync_operator::{
    domain::{
        Status,
        execution::{FinishReason, PublishProblem},
        report::ValidReport,
    },
    store::{Reported, Store},
};
use uuid::Uuid;

use super::row::{Claim, Operation, Row};
use crate::common::world::World;

/// Every row that can come about. What counts is whether the revision moves, not how high it is: it starts at 1 again each time.
fn reachable() -> Vec<Row> {
    let first = [Row::recorded(), Row { overdue: true, ..Row::recorded() }];
    let (mut known, mut next) = (HashSet::from(first), VecDeque::from(first));
    let mut all = Vec::new();
    while let Some(row) = next.pop_front() {
        all.push(row);
        for after in Operation::ALL.map(|operation| Row { revision: 1, ..row.after(operation) }) {
            if known.insert(after) {
                next.push_back(after);
            }
        }
    }
    all
}

#[test]
fn no_row_is_ever_stuck() {
    for row in reachable() {
        let on_its_way = row.status.is_final() || row.published || row.claim == Claim::Held;
        let goes_on = [Operation::Claim, Operation::CancelDeleted].map(|operation| row.matches(operation));
        // What is put aside waits for a person, as its object says.
        assert!(on_its_way || goes_on.contains(&true) || (row.held && !row.deleted), "{row:?}");
    }
}

#[tokio::test]
async fn every_operation_does_to_every_row_what_the_model_says() {
    let world = World::new("model-rows").await;
    let store = world.store(5);
    let rows = reachable();
    assert!(rows.len() > 100, "{} rows: the model has become poor", rows.len());
    for (number, operation) in Operation::ALL.into_iter().enumerate() {
        let namespace = format!("operation-{number}");
        let written = write(&world, &namespace, &rows).await;
        perform(&world, &store, operation, &namespace, &written, &rows).await;
        let results = read(&world, &namespace).await;
        assert_eq!(results.len(), rows.len());
        for (before, after) in rows.iter().zip(results) {
            assert_eq!(after, seen(&before.after(operation)), "{operation:?} on {before:?}");
        }
    }
}

/// Puts those rows into the table; their ids and uids.
async fn write(world: &World, namespace: &str, rows: &[Row]) -> Vec<(i64, Uuid)> {
    let values: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "status": row.status.as_str(), "claim": claim(row), "problem": row.problem.map(PublishProblem::as_str),
                "published": row.published, "started": row.started, "reason": row.reason.map(FinishReason::as_str),
                "deleted": row.deleted, "held": row.held, "overdue": row.overdue,
            })
        })
        .collect();
    // The end is no second change here: the guard looks at updates only.
    sqlx::query_as(
        "INSERT INTO sync_executions (request_uid, namespace, name, mode, status, claimed_until, publish_problem, publish_message,
                                      publish_failed_at, published_at, started_at, finish_reason, deleted_at, held_at, deadline_at)
         SELECT gen_random_uuid(), $1, 'x' || position, 'update', value->>'status',
                CASE value->>'claim' WHEN 'Held' THEN now() + interval '1 h' WHEN 'Over' THEN now() - interval '1 min' END,
                value->>'problem', CASE WHEN value->>'problem' IS NOT NULL THEN 'told' END, CASE WHEN value->>'problem' IS NOT NULL THEN now() END,
                CASE WHEN (value->>'published')::bool THEN now() END, CASE WHEN (value->>'started')::bool THEN now() END,
                value->>'reason', CASE WHEN (value->>'deleted')::bool THEN now() END,
                CASE WHEN (value->>'held')::bool THEN now() END, CASE WHEN (value->>'overdue')::bool THEN now() - interval '1 min' END
         FROM jsonb_array_elements($2::text::jsonb) WITH ORDINALITY AS elements(value, position) ORDER BY position
         RETURNING id, request_uid",
    )
    .bind(namespace)
    .bind(Value::from(values).to_string())
    .fetch_all(&world.database)
    .await
    .unwrap()
}

async fn perform(world: &World, store: &Store, operation: Operation, namespace: &str, written: &[(i64, Uuid)], rows: &[Row]) {
    let (ids, uids): (Vec<i64>, Vec<Uuid>) = written.iter().copied().unzip();
    let namespaces = [namespace.to_owned()];
    match operation {
        Operation::Claim => drop(store.claim(10_000, Some(&namespaces)).await.unwrap()),
        Operation::MarkPublished => assert_eq!(store.mark_published(&ids).await.unwrap(), Vec::<i64>::new()),
        Operation::Release(problem) => store.release(&ids, problem, "told").await.unwrap(),
        Operation::EndOverdue => drop(store.end_overdue().await.unwrap()),
        Operation::CancelDeleted => drop(store.cancel_deleted(&uids).await.unwrap()),
        Operation::CancelAbandoned => drop(store.cancel_abandoned().await.unwrap()),
        Operation::NoteBrokerUnavailable => drop(store.note_broker_unavailable("told", 10_000, Some(&namespaces)).await.unwrap()),
        Operation::ClaimRunsOut => {
            let run_out =
                "UPDATE sync_executions SET claimed_until = now() - interval '1 min' WHERE namespace = $1 AND claimed_until > now()";
            sqlx::query(run_out).bind(namespace).execute(&world.database).await.unwrap();
        }
        Operation::Hold => {
            for id in ids {
                store.hold(id).await.unwrap();
            }
        }
        Operation::Fail => {
            for id in ids {
                store.fail(id, FinishReason::AmbiguousLocalTime, "told").await.unwrap();
            }
        }
        Operation::Report(status) => {
            for (id, row) in ids.iter().zip(rows) {
                let reported = store.report(*id, &ValidReport { status, ..ValidReport::default() }).await.unwrap();
                let repeat = status.unwrap_or(Status::Running) == row.status;
                let expected = !row.status.is_final() || repeat;
                assert_eq!(matches!(reported, Reported::Accepted(_)), expected, "{operation:?} on {row:?}: {reported:?}");
            }
        }
    }
}

/// What is compared, as the table says it, in the order of the ids.
async fn read(world: &World, namespace: &str) -> Vec<Value> {
    let rows: Vec<String> = sqlx::query_scalar(
        "SELECT jsonb_build_object(
             'status', status, 'revision', revision, 'problem', publish_problem, 'reason', finish_reason,
             'claim', CASE WHEN claimed_until IS NULL THEN 'None' WHEN claimed_until > now() THEN 'Held' ELSE 'Over' END,
             'published', published_at IS NOT NULL, 'started', started_at IS NOT NULL, 'finished', finished_at IS NOT NULL,
             'deleted', deleted_at IS NOT NULL, 'held', held_at IS NOT NULL)::text
         FROM sync_executions WHERE namespace = $1 ORDER BY id",
    )
    .bind(namespace)
    .fetch_all(&world.database)
    .await
    .unwrap();
    rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
}

/// What is compared, as the model says it.
fn seen(row: &Row) -> Value {
    json!({
        "status": row.status.as_str(), "revision": row.revision, "problem": row.problem.map(PublishProblem::as_str),
        "reason": row.reason.map(FinishReason::as_str), "claim": claim(row), "published": row.published, "started": row.started,
        "finished": row.status.is_final(), "deleted": row.deleted, "held": row.held,
    })
}

fn claim(row: &Row) -> &'static str {
    match row.claim {
        Claim::None => "None",
        Claim::Held => "Held",
        Claim::Over => "Over",
    }
}
