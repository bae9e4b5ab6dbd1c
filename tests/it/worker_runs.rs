//! Runs that workers start by themselves, or whose id they did not read: `POST /sync/executions`.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{eventually, http::Answer, program::Program, world::World};

async fn open(api: &Program, run: &Value) -> Answer {
    Answer::to(api.request(Method::POST, "/sync/executions").await.json(run)).await
}

async fn patch(api: &Program, id: i64, report: &Value) -> Answer {
    Answer::to(api.request(Method::PATCH, &format!("/sync/executions/{id}")).await.json(report)).await
}

#[tokio::test]
async fn a_run_that_nobody_asked_for_gets_a_record_of_its_own() {
    let world = World::new("reports-own").await;
    let api = world.api().await;
    let started = open(&api, &json!({"mode": "update"})).await;
    assert_eq!((started.code, started.header("location")), (201, "/sync/executions/1"));
    assert_eq!((&started.json()["phase"], &started.json()["request_uid"]), (&json!("Running"), &Value::Null));
    let window = json!({"mode": "backfill", "window_start": "2025-07-10T12:00:00", "window_end": "2025-07-10T18:00:00",
        "status": "success", "records_processed": 3, "duration_seconds": 1.5});
    let whole = open(&api, &window).await;
    assert_eq!(
        (whole.code, &whole.json()["window_start"], &whole.json()["phase"]),
        (201, &json!("2025-07-10T16:00:00Z"), &json!("Succeeded"))
    );
    assert!(whole.json()["finished_at"].is_string() && whole.json()["started_at"].as_str() < whole.json()["finished_at"].as_str());
    assert_eq!(patch(&api, 1, &json!({"status": "success", "records_processed": 9})).await.json()["records_processed"], json!(9));
    open(&api, &json!({"mode": "backfill"})).await.is_problem(400, "a backfill has a window: send window_start and window_end");
    open(&api, &json!({"status": "running"})).await.is_problem(400, "missing field `mode`");
    open(&api, &json!({"mode": "full"})).await.is_problem(400, "unknown variant `full`");
    let _controller = world.controller().await;
    let taken = world.worker().await.take_within(Duration::from_secs(3)).await;
    assert!(taken.is_none(), "a run of the worker was published: {taken:?}");
}

/// Requests as the relay left them: two backfills of the same window, one of another, one not published, two updates.
const ASKED: &str = "
    INSERT INTO sync_executions (request_uid, namespace, name, mode, window_start, window_end, published_at)
    SELECT gen_random_uuid(), 'ns', n::text, mode, start::timestamptz, start::timestamptz + interval '6 hours', published::timestamptz
    FROM (VALUES (1, 'backfill', '2025-07-10T16:00Z', NULL),
                 (2, 'backfill', '2025-07-09T16:00Z', '2025-07-11T00:00Z'),
                 (3, 'backfill', '2025-07-10T16:00Z', '2025-07-11T00:00Z'),
                 (4, 'backfill', '2025-07-10T16:00Z', '2025-07-11T00:00Z'),
                 (5, 'update', NULL, '2025-07-11T00:00Z'),
                 (6, 'update', NULL, '2025-07-11T00:00Z')) AS asked (n, mode, start, published) ORDER BY n";

#[tokio::test]
async fn a_run_whose_id_was_not_read_is_the_oldest_that_was_asked_for_in_the_same_words() {
    let world = World::new("reports-match").await;
    let api = world.api().await;
    world.sql(ASKED).await;
    let july = json!({"mode": "backfill", "window_start": "2025-07-10T12:00:00", "window_end": "2025-07-10T22:00:00Z"});
    let mut got = Vec::new();
    for run in [&july, &july, &july, &json!({"mode": "update"})] {
        let answer = open(&api, run).await;
        got.push((answer.code, answer.json()["id"].as_i64().unwrap()));
        assert_eq!(answer.json()["phase"], json!("Running"));
    }
    assert_eq!(got, [(200, 3), (200, 4), (201, 7), (200, 5)]);
}

#[tokio::test]
async fn workers_that_open_at_once_get_a_run_each() {
    let world = World::new("reports-open").await;
    let api = world.api().await;
    world.sql(ASKED).await;
    let run = json!({"mode": "update"});
    let answers = futures::future::join_all((0..4).map(|_| open(&api, &run))).await;
    let mut got: Vec<(u16, i64)> = answers.iter().map(|answer| (answer.code, answer.json()["id"].as_i64().unwrap())).collect();
    got.sort_unstable();
    assert_eq!(got, [(200, 5), (200, 6), (201, 7), (201, 8)]);
}

#[tokio::test]
async fn a_run_that_is_opened_while_its_request_is_being_marked_is_that_request() {
    let world = World::new("reports-mark").await;
    let api = world.api().await;
    world
        .sql(
            "INSERT INTO sync_executions (request_uid, namespace, name, mode, claimed_until)
             VALUES (gen_random_uuid(), 'ns', 'x', 'update', now() + interval '30 s')",
        )
        .await;
    let mut mark = world.database.begin().await.unwrap();
    sqlx::query("UPDATE sync_executions SET published_at = now(), claimed_until = NULL").execute(&mut *mark).await.unwrap();
    let run = json!({"mode": "update"});
    let opening = open(&api, &run);
    let marking = async {
        eventually("the worker's call to wait for the mark", async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
            (world.number(waiting).await > 0).then_some(())
        })
        .await;
        mark.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(opening, marking);
    assert_eq!((answer.code, &answer.json()["id"], &answer.json()["phase"]), (200, &json!(1), &json!("Running")));
}
