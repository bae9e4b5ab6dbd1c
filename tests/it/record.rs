//! The guard of the record by plain SQL, as a worker would write it: what counts as a change, what is final, who is told.

use std::time::Duration;

use serde_json::Value;
use sqlx::{
    Connection, PgConnection,
    postgres::{PgDatabaseError, PgListener, PgQueryResult},
};
use tokio::time::timeout;

use crate::common::world::World;

/// Records a request, claimed by the relay and not yet marked as published; its execution id.
async fn recorded(world: &World, name: &str) -> i64 {
    sqlx::query_scalar(
        "INSERT INTO sync_executions (request_uid, namespace, name, mode, claimed_until)
         VALUES (gen_random_uuid(), 'ns', $1, 'update', now() + interval '30 s') RETURNING id",
    )
    .bind(name)
    .fetch_one(&world.database)
    .await
    .unwrap()
}

/// The whole row.
async fn row(world: &World, id: i64) -> Value {
    let text: String = sqlx::query_scalar("SELECT to_jsonb(e)::text FROM sync_executions e WHERE id = $1")
        .bind(id)
        .fetch_one(&world.database)
        .await
        .unwrap();
    serde_json::from_str(&text).unwrap()
}

async fn revision(world: &World, id: i64) -> i64 {
    row(world, id).await["revision"].as_i64().unwrap()
}

#[tokio::test]
async fn revision_and_time_of_change_move_with_what_readers_see_and_with_nothing_else() {
    let world = World::new("record-revision").await;
    let id = recorded(&world, "x").await;
    for (grows, sql) in [
        (
            1,
            "UPDATE sync_executions SET publish_problem = 'Rejected', publish_message = 'full', publish_failed_at = now(), claimed_until = NULL",
        ),
        (0, "UPDATE sync_executions SET claimed_until = now() + interval '30 s'"),
        (0, "UPDATE sync_executions SET claimed_until = NULL"),
        (1, "UPDATE sync_executions SET published_at = now(), publish_problem = NULL, publish_message = NULL, publish_failed_at = NULL"),
        (1, "UPDATE sync_executions SET status = 'running'"),
        (0, "UPDATE sync_executions SET status = 'running'"),
        (0, "UPDATE sync_executions SET heartbeat_at = now()"),
        (0, "UPDATE sync_executions SET revision = 100, updated_at = '1999-01-01'"),
        (1, "UPDATE sync_executions SET records_processed = 5, updated_at = '1999-01-01'"),
        (0, "UPDATE sync_executions SET records_processed = 5"),
        (1, "UPDATE sync_executions SET window_start = '2025-07-10T16:00Z', window_end = '2025-07-10T17:00Z'"),
        (1, "UPDATE sync_executions SET status = 'success', records_processed = 6, duration_seconds = 1.5"),
        (0, "UPDATE sync_executions SET status = 'success', records_processed = 6, duration_seconds = 1.5"),
    ] {
        let before = row(&world, id).await;
        world.sql(sql).await;
        let after = row(&world, id).await;
        assert_eq!(after["revision"].as_i64().unwrap() - before["revision"].as_i64().unwrap(), grows, "{sql}");
        let (was, is) = (before["updated_at"].as_str().unwrap(), after["updated_at"].as_str().unwrap());
        assert!(if grows == 1 { is > was } else { is == was }, "{sql}: updated_at went from {was} to {is}");
    }
}

#[tokio::test]
async fn the_time_of_change_never_goes_back_even_if_the_clock_does() {
    let world = World::new("record-clock").await;
    let id = recorded(&world, "x").await;
    let mut connection = PgConnection::connect(&world.database_url).await.unwrap();
    // Without triggers: the row as a server whose clock was ahead left it.
    sqlx::raw_sql("SET session_replication_role = replica; UPDATE sync_executions SET updated_at = now() + interval '1 day'")
        .execute(&mut connection)
        .await
        .unwrap();
    let before = row(&world, id).await;
    world.sql("UPDATE sync_executions SET records_processed = 1").await;
    let after = row(&world, id).await;
    assert_eq!((&after["updated_at"], &after["records_processed"]), (&before["updated_at"], &Value::from(1)));
}

#[tokio::test]
async fn a_finished_row_stays_as_it_is_whatever_is_set() {
    let world = World::new("record-final").await;
    for end in ["success", "error", "cancelled"] {
        let id = recorded(&world, end).await;
        let finish = "UPDATE sync_executions SET status = $2, records_processed = 3, duration_seconds = 2 WHERE id = $1";
        assert_eq!(sqlx::query(finish).bind(id).bind(end).execute(&world.database).await.unwrap().rows_affected(), 1);
        let before = row(&world, id).await;
        for change in [
            "status = 'running'",
            "status = CASE status WHEN 'success' THEN 'error' ELSE 'success' END",
            "records_processed = 4",
            "records_processed = NULL",
            "duration_seconds = 3",
            "error_message = 'late'",
            "window_start = '2025-07-10T16:00Z'",
            "window_end = '2025-07-10T16:00Z'",
            "started_at = now()",
            "finished_at = now()",
            "finished_at = NULL",
            "heartbeat_at = now()",
            "finish_reason = 'DeadlineExceeded'",
            "deadline_at = now()",
            "updated_at = now()",
            "revision = revision + 1",
            "status = 'running', records_processed = 0, duration_seconds = NULL, error_message = 'x', finished_at = NULL",
        ] {
            let sql = sqlx::AssertSqlSafe(format!("UPDATE sync_executions SET {change} WHERE id = $1"));
            let touched = sqlx::query(sql).bind(id).execute(&world.database).await.unwrap().rows_affected();
            assert_eq!((touched, row(&world, id).await), (0, before.clone()), "{end}: {change}");
        }
    }
}

#[tokio::test]
async fn of_several_writers_that_end_the_same_row_at_once_one_does() {
    let world = World::new("record-race").await;
    let mut connections = Vec::new();
    for _ in 0..6 {
        connections.push(PgConnection::connect(&world.database_url).await.unwrap());
    }
    for round in 0..20 {
        let id = recorded(&world, &format!("x{round}")).await;
        let before = revision(&world, id).await;
        let ends = ["success", "error", "cancelled"].into_iter().cycle();
        let racing = connections.iter_mut().zip(ends).enumerate().map(|(records, (connection, end))| {
            let sql = "UPDATE sync_executions SET status = $2, records_processed = $3 WHERE id = $1";
            sqlx::query(sql).bind(id).bind(end).bind(i32::try_from(records).unwrap()).execute(connection)
        });
        let touched: Vec<u64> = futures::future::try_join_all(racing).await.unwrap().iter().map(PgQueryResult::rows_affected).collect();
        assert_eq!(touched.iter().sum::<u64>(), 1, "{touched:?}");
        let winner = touched.iter().position(|touched| *touched == 1).unwrap();
        let row = row(&world, id).await;
        assert_eq!(
            (row["records_processed"].as_u64(), row["status"].as_str()),
            (Some(winner as u64), Some(["success", "error", "cancelled"][winner % 3]))
        );
        assert_eq!(revision(&world, id).await, before + 1);
    }
}

#[tokio::test]
async fn an_update_that_sets_nothing_new_means_started() {
    let world = World::new("record-started").await;
    let id = recorded(&world, "x").await;
    assert_eq!(world.sql("UPDATE sync_executions SET status = 'running'").await, 1);
    let row = row(&world, id).await;
    assert!(row["started_at"].is_string() && row["finished_at"].is_null() && row["status"] == "running", "{row}");
}

#[tokio::test]
async fn a_worker_that_reports_before_the_mark_proves_that_the_message_is_out() {
    let world = World::new("record-fast").await;
    let id = recorded(&world, "x").await;
    world.sql("UPDATE sync_executions SET status = 'success', duration_seconds = 0.25").await;
    let ended = row(&world, id).await;
    assert!(ended["published_at"].is_string() && ended["claimed_until"].is_null(), "{ended}");
    assert!(ended["started_at"].as_str() < ended["finished_at"].as_str(), "{ended}");
    let mark = "UPDATE sync_executions SET published_at = now(), claimed_until = NULL WHERE published_at IS NULL";
    assert_eq!((world.sql(mark).await, row(&world, id).await), (0, ended));
}

#[tokio::test]
async fn what_the_relay_writes_is_no_report_of_a_worker() {
    let world = World::new("record-relay").await;
    let id = recorded(&world, "x").await;
    world.sql("UPDATE sync_executions SET claimed_until = now() + interval '1 min'").await;
    world.sql("UPDATE sync_executions SET published_at = now(), claimed_until = NULL").await;
    let row = row(&world, id).await;
    assert!(row["started_at"].is_null() && row["heartbeat_at"].is_null(), "{row}");
}

#[tokio::test]
async fn what_makes_an_execution_that_execution_cannot_be_changed() {
    let world = World::new("record-identity").await;
    let id = recorded(&world, "x").await;
    let before = row(&world, id).await;
    for change in [
        "id = id + 1",
        "mode = 'backfill'",
        "created_at = created_at + interval '1 s'",
        "request_uid = gen_random_uuid()",
        "request_uid = NULL",
        "namespace = 'other'",
        "name = 'other'",
    ] {
        let sql = sqlx::AssertSqlSafe(format!("UPDATE sync_executions SET {change}"));
        let error = sqlx::query(sql).execute(&world.database).await.unwrap_err();
        let error = error.as_database_error().unwrap().downcast_ref::<PgDatabaseError>();
        assert_eq!((error.code(), error.hint()), ("23000", Some("Create a new execution instead.")), "{change}");
        assert_eq!(error.message(), format!("execution {id}: id, mode, created_at, request_uid, namespace and name never change"));
        assert_eq!(row(&world, id).await, before, "{change}");
    }
}

#[tokio::test]
async fn words_and_numbers_outside_of_the_contract_are_refused() {
    let world = World::new("record-words").await;
    recorded(&world, "x").await;
    for (sql, constraint) in [
        ("UPDATE sync_executions SET status = 'done'", "sync_executions_status_known"),
        ("UPDATE sync_executions SET status = 'Success'", "sync_executions_status_known"),
        ("UPDATE sync_executions SET records_processed = -1", "sync_executions_records_not_negative"),
        ("UPDATE sync_executions SET duration_seconds = -1", "sync_executions_duration_not_negative"),
        ("INSERT INTO sync_executions (mode) VALUES ('full')", "sync_executions_mode_known"),
        ("INSERT INTO sync_executions (mode, request_uid) VALUES ('update', gen_random_uuid())", "sync_executions_request_named"),
    ] {
        let error = sqlx::query(sql).execute(&world.database).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().constraint(), Some(constraint), "{sql}");
    }
}

/// Everything notified so far: a sentinel is sent and waited for.
async fn heard(world: &World, listener: &mut PgListener) -> Vec<String> {
    world.sql("SELECT pg_notify('sync_executions', 'sentinel')").await;
    let mut heard = Vec::new();
    loop {
        let notification = timeout(Duration::from_secs(10), listener.recv()).await.expect("the sentinel").unwrap();
        if notification.payload() == "sentinel" {
            heard.sort_unstable();
            return heard;
        }
        heard.push(notification.payload().to_owned());
    }
}

#[tokio::test]
async fn listeners_hear_of_each_changed_object_once_per_statement_and_of_nothing_else() {
    let world = World::new("record-notify").await;
    for name in ["a", "b", "c"] {
        recorded(&world, name).await;
    }
    world.sql("INSERT INTO sync_executions (mode) VALUES ('update')").await;
    let mut listener = PgListener::connect(&world.database_url).await.unwrap();
    listener.listen("sync_executions").await.unwrap();
    for (sql, told) in [
        ("UPDATE sync_executions SET status = 'running'", &["ns/a", "ns/b", "ns/c"][..]),
        ("UPDATE sync_executions SET status = 'running'", &[]),
        ("UPDATE sync_executions SET records_processed = 2 WHERE name IN ('a', 'c')", &["ns/a", "ns/c"]),
        ("UPDATE sync_executions SET claimed_until = now()", &[]),
        ("UPDATE sync_executions SET records_processed = 9 WHERE request_uid IS NULL", &[]),
        ("UPDATE sync_executions SET records_processed = 9 WHERE false", &[]),
        ("UPDATE sync_executions SET status = 'success' WHERE name = 'b'", &["ns/b"]),
        ("UPDATE sync_executions SET status = 'error' WHERE name = 'b'", &[]),
        ("UPDATE sync_executions SET status = 'error' WHERE name IN ('a', 'b')", &["ns/a"]),
    ] {
        world.sql(sql).await;
        assert_eq!(heard(&world, &mut listener).await, told, "{sql}");
    }
    let mut transaction = world.database.begin().await.unwrap();
    for sql in ["UPDATE sync_executions SET records_processed = 10", "UPDATE sync_executions SET records_processed = 11"] {
        sqlx::query(sql).execute(&mut *transaction).await.unwrap();
    }
    assert!(heard(&world, &mut listener).await.is_empty(), "nothing is told before the commit");
    transaction.commit().await.unwrap();
    assert_eq!(heard(&world, &mut listener).await, ["ns/c"], "one transaction tells of an object once");
}
