//! The counters that REST sums up: always equal to what counting the table would give, and nobody waits for them.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::timeout;

use crate::common::{eventually, invariants::WRONG_COUNTERS, world::World};

/// One writer's random statements: many rows of its own at a time, single rows of anybody.
async fn scribble(url: &str, writer: u64) {
    let mut random = StdRng::seed_from_u64(writer);
    let mut connection = PgConnection::connect(url).await.unwrap();
    let words = ["running", "success", "error", "cancelled"];
    for _ in 0..60 {
        let word = words[random.random_range(0..words.len())];
        let (count, part) = (random.random_range(0..20), random.random_range(2..6));
        let duration = if random.random_bool(0.5) {
            format!("{}.{}", random.random_range(0..500), random.random_range(0..100))
        } else {
            "NULL".to_owned()
        };
        let sql = match random.random_range(0..6) {
            0 | 1 => format!(
                "INSERT INTO sync_executions (mode, status, duration_seconds, requested_by)
                 SELECT 'update', CASE WHEN n % 2 = 0 THEN '{word}' ELSE 'running' END, {duration}, '{writer}' FROM generate_series(1, {count}) AS n"
            ),
            2 => format!("UPDATE sync_executions SET status = '{word}', duration_seconds = {duration} WHERE requested_by = '{writer}' AND id % {part} = 0"),
            3 => format!("UPDATE sync_executions SET records_processed = records_processed + 1 WHERE requested_by = '{writer}' AND id % {part} = 0"),
            4 => format!(
                "UPDATE sync_executions SET status = '{word}' WHERE id = (SELECT id FROM sync_executions WHERE id % {part} = 0 ORDER BY id DESC LIMIT 1)"
            ),
            _ => format!("DELETE FROM sync_executions WHERE requested_by = '{writer}' AND id % {part} = 0"),
        };
        sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
}

#[tokio::test]
async fn they_equal_a_count_at_every_moment_while_several_write_and_one_folds() {
    let world = World::new("counters-random").await;
    let store = world.store(5);
    let writers = futures::future::join_all((0..4).map(|writer| scribble(&world.database_url, writer)));
    tokio::pin!(writers);
    let mut looks = 0;
    loop {
        tokio::select! {
            biased;
            _ = &mut writers => break,
            wrong = world.number(WRONG_COUNTERS) => {
                assert_eq!(wrong, 0, "statuses with wrong counters");
                store.fold_counters().await.unwrap();
                looks += 1;
            }
        }
    }
    assert!(looks > 0 && world.number("SELECT count(*) FROM sync_executions").await > 0);
    assert_eq!(world.number(WRONG_COUNTERS).await, 0);
    world.sql("INSERT INTO sync_executions (mode) SELECT 'update' FROM generate_series(1, 3)").await;
    for _ in 0..20 {
        world.sql("UPDATE sync_executions SET duration_seconds = COALESCE(duration_seconds, 0) + 1 WHERE status = 'running'").await;
    }
    store.fold_counters().await.unwrap();
    assert_eq!(world.number(WRONG_COUNTERS).await, 0);
    assert!(world.number("SELECT count(*) FROM sync_execution_counters").await <= 4, "folded to one row per status");
    world.sql("TRUNCATE sync_executions").await;
    assert_eq!(world.number("SELECT COALESCE(sum(executions), 0)::bigint FROM sync_execution_counters").await, 0);
    assert_eq!(store.totals().await.unwrap().all().executions, 0);
}

#[tokio::test]
async fn two_that_fold_at_once_lose_nothing() {
    let world = World::new("counters-fold").await;
    let (one, other) = (world.store(5), world.store(5));
    for _ in 0..10 {
        for _ in 0..20 {
            world.sql("INSERT INTO sync_executions (mode, duration_seconds) VALUES ('update', 0.1)").await;
        }
        futures::future::try_join(one.fold_counters(), other.fold_counters()).await.unwrap();
        assert_eq!(world.number(WRONG_COUNTERS).await, 0);
    }
}

#[tokio::test]
async fn the_api_keeps_them_folded_while_there_is_no_leader() {
    let world = World::new("counters-leaderless").await;
    let _api = world.api().await;
    for _ in 0..40 {
        world.sql("INSERT INTO sync_executions (mode, status, duration_seconds) VALUES ('update', 'success', 0.1)").await;
    }
    eventually("few rows to add up", || async { (world.number("SELECT count(*) FROM sync_execution_counters").await <= 16).then_some(()) })
        .await;
    assert_eq!(world.number(WRONG_COUNTERS).await, 0);
}

#[tokio::test]
async fn a_worker_in_an_open_transaction_holds_up_neither_other_writers_nor_the_relay() {
    let world = World::new("counters-open").await;
    let store = world.store(5);
    world
        .sql(
            "INSERT INTO sync_executions (request_uid, namespace, name, mode, deadline_at)
             SELECT gen_random_uuid(), 'ns', n::text, 'update', now() FROM generate_series(1, 4) AS n",
        )
        .await;
    let first = store.claim(1, None).await.unwrap()[0].delivery.id;
    let mut worker = world.database.begin().await.unwrap();
    sqlx::query("UPDATE sync_executions SET status = 'success' WHERE id = $1").bind(first).execute(&mut *worker).await.unwrap();
    timeout(Duration::from_secs(4), async {
        let mut ids: Vec<i64> = store.claim(10, None).await.unwrap().iter().map(|delivery| delivery.delivery.id).collect();
        assert_eq!(ids.len(), 3);
        ids.insert(0, first);
        assert_eq!(store.mark_published(&ids).await.unwrap(), [first], "all but the one that the worker holds");
        let sql = "UPDATE sync_executions SET status = 'success', duration_seconds = 1 WHERE id = $1";
        assert_eq!(sqlx::query(sql).bind(ids[1]).execute(&world.database).await.unwrap().rows_affected(), 1);
        let mut overdue = store.end_overdue().await.unwrap();
        overdue.sort_unstable();
        assert_eq!(overdue, ids[2..]);
        world.sql("INSERT INTO sync_executions (mode, status) SELECT 'update', 'success' FROM generate_series(1, 30)").await;
        store.fold_counters().await.unwrap();
        assert_eq!(store.totals().await.unwrap().all().executions, 34);
    })
    .await
    .expect("nobody waits for the open transaction");
    worker.commit().await.unwrap();
    assert_eq!(store.mark_published(&[first]).await.unwrap(), [0_i64; 0], "its report was the proof");
    assert_eq!(world.number(WRONG_COUNTERS).await, 0);
    assert_eq!(world.number("SELECT sum(executions)::bigint FROM sync_execution_counters WHERE status = 'success'").await, 32);
}

/// Rows that the counters know nothing of, and counters of rows that are gone.
async fn make_drift(world: &World) {
    for sql in [
        "INSERT INTO sync_executions (mode, status, duration_seconds) VALUES ('update', 'success', 1.5), ('update', 'cancelled', NULL)",
        "ALTER TABLE sync_executions DISABLE TRIGGER USER",
        "INSERT INTO sync_executions (mode, status, duration_seconds) SELECT 'update', 'success', 0.25 FROM generate_series(1, 3)",
        "DELETE FROM sync_executions WHERE status = 'cancelled'",
        "ALTER TABLE sync_executions ENABLE TRIGGER USER",
    ] {
        world.sql(sql).await;
    }
}

#[tokio::test]
async fn the_command_fails_on_counters_that_differ_and_puts_them_right() {
    let world = World::new("counters-verify").await;
    let settings = world.settings();
    assert_eq!(settings.succeed(&["counters", "verify"]).await, "all counters equal a count of the rows\n");
    make_drift(&world).await;
    let found = settings.run(&["counters", "verify"]).await;
    assert!(found.code == Some(1) && found.err.contains("put them right by --repair"), "{found:?}");
    let lines: Vec<Vec<&str>> = found.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["COUNTER", "KEPT", "COUNTED", "KEPT", "SECONDS", "COUNTED", "SECONDS"]);
    assert_eq!(lines[1..3], [vec!["cancelled", "1", "0", "0.00", "0.00"], vec!["success", "1", "4", "1.50", "2.25"]]);
    assert!(lines[3..].iter().all(|line| line[3..] == ["-", "-"]) && lines.len() > 3, "minutes of the last day differ too: {found:?}");
    assert!(world.number(WRONG_COUNTERS).await > 0, "looking changes nothing");

    let repaired = settings.succeed(&["counters", "verify", "--repair"]).await;
    assert!(repaired.contains("put right: "), "{repaired}");
    assert_eq!(world.number(WRONG_COUNTERS).await, 0);
    settings.succeed(&["counters", "verify"]).await;
    let store = world.store(5);
    assert_eq!((store.totals().await.unwrap().all().executions, store.last_24h().await.unwrap()), (4, 4));
}

#[tokio::test]
async fn a_repair_beside_writers_is_right_and_two_of_them_are_no_more_than_one() {
    let world = World::new("counters-repair").await;
    make_drift(&world).await;
    let (one, other) = (world.store(5), world.store(5));
    let repairs = async {
        for _ in 0..5 {
            let (first, second) = Box::pin(futures::future::try_join(one.repair_counters(), other.repair_counters())).await.unwrap();
            assert!(first.is_empty() || second.is_empty(), "put right twice: {first:?} {second:?}");
            one.fold_counters().await.unwrap();
        }
    };
    tokio::join!(repairs, futures::future::join_all((0..4).map(|writer| scribble(&world.database_url, writer))));
    assert_eq!(world.number(WRONG_COUNTERS).await, 0);
    assert_eq!(one.counter_drift().await.unwrap(), []);
}

#[tokio::test]
async fn the_leader_tells_of_counters_that_differ() {
    let world = World::new("counters-metric").await;
    make_drift(&world).await;
    let controller = world.settings().with("COUNTERS_COMPARE_SECONDS", 1).start("controller");
    controller.ready().await;
    controller.logged("counters differ from the table").await;
    assert!(controller.metric("sync_operator_counters_wrong").await > 1.0);
    assert!(controller.metric("sync_operator_counters_compared_timestamp_seconds").await > 1.0);
    world.store(5).repair_counters().await.unwrap();
    eventually("the metric to fall", async || (controller.metric("sync_operator_counters_wrong").await < 0.5).then_some(())).await;
}
