//! Pages of history in a record of many rows: complete, in order, and each at a cost that does not grow with the rows.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use sync_operator::{
    clock,
    domain::{Mode, Status},
    store::{Filter, Position, Store},
};

use crate::common::{eventually, world::World};

/// Rows of the last year, 10 of them cancelled, one in 40 failed, one in 500 a backfill, no backfill failed; two share a moment.
/// Every failure but the oldest has the word "page" in its message.
const ROWS: &str = "
    INSERT INTO sync_executions (mode, status, error_message, created_at)
    SELECT CASE WHEN n % 500 = 250 THEN 'backfill' ELSE 'update' END,
           CASE WHEN n % (COUNT / 10) = COUNT / 20 THEN 'cancelled' WHEN n % 40 = 7 THEN 'error' ELSE 'success' END,
           CASE WHEN n = 7 THEN 'disk full' WHEN n % 40 = 7 THEN 'page ' || n || ': https://source.example/v1 answered 503' END,
           date_trunc('second', now()) - make_interval(secs => (COUNT - n) / 2 * 63000000.0 / COUNT)
    FROM generate_series(1, COUNT) AS n";

/// Fills the record, and leaves nothing to do for autovacuum.
async fn fill(world: &World, count: u32) {
    let mut connection = PgConnection::connect(&world.database_url).await.unwrap();
    for sql in [
        "ALTER TABLE sync_executions SET (autovacuum_enabled = false)",
        &ROWS.replace("COUNT", &count.to_string()),
        "VACUUM (ANALYZE) sync_executions",
    ] {
        sqlx::query(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}

/// Blocks of tables and indexes that `ask` makes the server read, found in memory or not. What a session read is told by it at
/// its end at the latest.
async fn blocks<T>(world: &World, ask: impl AsyncFnOnce(&Store) -> T) -> (i64, T) {
    let sum = async || {
        eventually("sessions to end", async || {
            let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                          AND backend_type = 'client backend' AND (application_name = 'sync-operator' OR query LIKE 'VACUUM%')";
            (world.number(others).await == 0).then_some(())
        })
        .await;
        world
            .number(
                "SELECT sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint
                 FROM pg_statio_user_tables WHERE relname LIKE 'sync\\_execution%'",
            )
            .await
    };
    let before = sum().await;
    let store = world.store(5);
    let answer = ask(&store).await;
    store.close().await;
    (sum().await - before, answer)
}

fn days_ago(days: i64) -> DateTime<Utc> {
    clock::now() - TimeDelta::days(days)
}

fn search(words: &str) -> Filter {
    Filter { error: Some(words.to_owned()), ..Filter::default() }
}

/// Pages of 50, where they begin, how many executions they show when there are many rows, and the most blocks they may read.
fn pages() -> Vec<(&'static str, Filter, Option<Position>, usize, i64)> {
    let deep = Some(Position { created_at_micros: days_ago(300).timestamp_micros(), id: 0 });
    let status = |status| Filter { status: Some(status), ..Filter::default() };
    let mode = |mode| Filter { mode: Some(mode), ..Filter::default() };
    let day = Filter { from: Some(days_ago(300)), to: Some(days_ago(299)), ..Filter::default() };
    vec![
        ("first", Filter::default(), None, 50, 40),
        ("deep", Filter::default(), deep, 50, 40),
        ("of a day", day.clone(), None, 50, 40),
        ("success", status(Status::Success), None, 50, 200),
        ("error", status(Status::Error), None, 50, 200),
        ("error, deep", status(Status::Error), deep, 50, 200),
        ("cancelled, of which there are ten", status(Status::Cancelled), None, 10, 60),
        ("running, of which there is none", status(Status::Running), None, 0, 60),
        ("update", mode(Mode::Update), None, 50, 300),
        ("backfill", mode(Mode::Backfill), None, 50, 300),
        ("failed backfills, of which there is none", Filter { status: Some(Status::Error), ..mode(Mode::Backfill) }, None, 0, 60),
        ("cancelled of a day", Filter { status: Some(Status::Cancelled), ..day.clone() }, None, 0, 60),
        ("words that none has", search("nonsense"), None, 0, 60),
        ("words that the oldest has", search("full disk"), None, 1, 60),
        ("words that all have", search("page answered"), None, 50, 2500),
        ("words that all have, deep", search("page answered"), deep, 50, 2500),
        ("words that all have, of backfills", Filter { mode: Some(Mode::Backfill), ..search("503") }, None, 0, 2500),
        ("words that all have, of a day", Filter { error: Some("503".to_owned()), ..day }, None, 6, 2500),
    ]
}

#[tokio::test]
async fn a_page_reads_as_much_of_a_hundred_thousand_rows_as_of_a_few() {
    let (few, many) = (World::new("history-few").await, World::new("history-many").await);
    tokio::join!(fill(&few, 2000), fill(&many, 100_000));
    for (what, filter, after, shown, most) in pages() {
        for world in [&few, &many] {
            let (blocks, page) = blocks(world, async |store| store.page(&filter, after, 50).await.unwrap()).await;
            assert!(blocks <= most, "{what}: {blocks} blocks, at most {most}");
            let found = page.executions.len();
            assert!(found <= 50 && (world.name == few.name || found >= shown), "{what}: shows {found}");
        }
    }
    for (what, most) in [("totals", 20), ("the last 24 hours", 60)] {
        let (blocks, ()) = blocks(&many, async |store| {
            if what == "totals" {
                assert_eq!(store.totals().await.unwrap().all().executions, 100_000);
            } else {
                // Two each 630 s; a slow machine may have lost a moment since.
                assert!((274..=276).contains(&store.last_24h().await.unwrap()));
            }
        })
        .await;
        assert!(blocks <= most, "{what}: {blocks} blocks, at most {most}");
    }
    // Without the index that has this order it is another figure: the bound means something.
    many.sql("DROP INDEX idx_sync_executions_status").await;
    let filter = Filter { status: Some(Status::Error), mode: Some(Mode::Backfill), ..Filter::default() };
    let (without, _) = blocks(&many, async |store| store.page(&filter, None, 50).await.unwrap()).await;
    assert!(without > 1000, "{without} blocks");
}

/// All ids of all pages.
async fn walk(store: &Store, filter: &Filter, limit: u16) -> Vec<i64> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = store.page(filter, after, limit).await.unwrap();
        assert!(page.executions.len() <= limit.into());
        ids.extend(page.executions.iter().map(|execution| execution.id));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
}

#[tokio::test]
async fn all_pages_together_are_what_was_asked_for_newest_first_and_once() {
    let world = World::new("history-walk").await;
    fill(&world, 60_000).await;
    let store = world.store(5);
    for (what, filter, limit) in [
        ("status = 'cancelled'", Filter { status: Some(Status::Cancelled), ..Filter::default() }, 3),
        ("mode = 'backfill'", Filter { mode: Some(Mode::Backfill), ..Filter::default() }, 7),
        (
            "status = 'success' AND mode = 'backfill'",
            Filter { status: Some(Status::Success), mode: Some(Mode::Backfill), ..Filter::default() },
            200,
        ),
        ("status = 'error'", Filter { status: Some(Status::Error), ..Filter::default() }, 200),
        ("error_message LIKE '%answered 503%'", search("503 ANSWERED"), 200),
        ("error_message LIKE '%answered 503%' AND mode = 'backfill'", Filter { mode: Some(Mode::Backfill), ..search("answered") }, 200),
        ("error_message LIKE 'page 47:%'", search("https://source.example/v1 page: 47"), 200),
        ("error_message LIKE 'disk%'", search("disk"), 1),
    ] {
        let wanted = format!("SELECT id FROM sync_executions WHERE {what} ORDER BY created_at DESC, id DESC");
        let wanted: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(wanted)).fetch_all(&world.database).await.unwrap();
        assert_eq!(walk(&store, &filter, limit).await, wanted, "{what}");
    }
}

#[tokio::test]
async fn rest_finds_executions_by_the_words_of_their_error() {
    let world = World::new("history-words").await;
    let api = world.api().await;
    world
        .sql(
            "INSERT INTO sync_executions (mode, status, error_message, created_at)
             VALUES ('update', 'error', 'page 3: the source answered 503 (try 2/5)', '2025-07-10'),
                    ('update', 'error', 'certificate of db-1.example:5432 expired', '2025-07-11'),
                    ('backfill', 'error', 'the source answered 429', '2025-07-12'),
                    ('update', 'error', repeat('word ', 2000000) || ' beyond', '2025-07-13'),
                    ('update', 'success', NULL, '2025-07-14')",
        )
        .await;
    for (query, wanted) in [
        ("error=answered", vec![3, 1]),
        ("error=SOURCE%20answered%20503", vec![1]),
        ("error=answered&mode=update", vec![1]),
        ("error=answered&from=2025-07-11T00:00:00Z", vec![3]),
        ("error=db-1.example", vec![2]),
        ("error=5432", vec![2]),
        ("error=certificate%20503", vec![]),
        ("error=answer", vec![]),
        ("error=word", vec![4]),
        ("error=beyond", vec![]),
        ("error=answered&status=success", vec![]),
    ] {
        let history = api.get(&format!("/sync/history?{query}")).await;
        let ids: Vec<i64> = history["executions"].as_array().unwrap().iter().map(|shown| shown["id"].as_i64().unwrap()).collect();
        assert_eq!(ids, wanted, "{query}");
    }
    let first = api.get("/sync/history?error=answered&limit=1").await;
    let rest = api.get(&format!("/sync/history?error=answered&limit=1&cursor={}", first["next"].as_str().unwrap())).await;
    assert_eq!((&first["executions"][0]["id"], &rest["executions"][0]["id"]), (&3.into(), &1.into()));
    for wrong in ["error=", "error=%2F%20!", &format!("error={}", "a".repeat(257))] {
        api.read(&format!("/sync/history?{wrong}")).await.is_problem(400, "send words, at most 256 characters");
    }
}

#[tokio::test]
async fn the_last_24_hours_end_and_are_forgotten() {
    let world = World::new("history-day").await;
    let store = world.store(5);
    world
        .sql(
            "INSERT INTO sync_executions (mode, created_at)
             SELECT 'update', now() - ago FROM unnest('{0, 1 h, 23 h 58 min, 24 h 2 min, 24 h 58 min, 26 h}'::interval[]) AS ago",
        )
        .await;
    assert_eq!(store.last_24h().await.unwrap(), 3);
    world.sql("DELETE FROM sync_executions WHERE created_at BETWEEN now() - interval '2 h' AND now() - interval '30 min'").await;
    assert_eq!(store.last_24h().await.unwrap(), 2);
    for _ in 0..9 {
        world.sql("INSERT INTO sync_executions (mode) VALUES ('update')").await;
    }
    world.sql("INSERT INTO sync_execution_minutes (minute, executions) VALUES (now() - interval '26 h', 7)").await;
    let (one, other) = (store.clone(), store);
    futures::future::try_join(one.fold_counters(), other.fold_counters()).await.unwrap();
    assert_eq!(other.last_24h().await.unwrap(), 11);
    assert_eq!(world.number("SELECT count(*) FROM sync_execution_minutes WHERE minute < now() - interval '25 h'").await, 0);
    let folded = "SELECT count(*) FROM (SELECT FROM sync_execution_minutes GROUP BY minute HAVING count(*) > 4) AS unfolded";
    assert_eq!(world.number(folded).await, 0);
    world.sql("TRUNCATE sync_executions").await;
    assert_eq!(other.last_24h().await.unwrap(), 0);
}

#[tokio::test]
async fn indexes_are_built_while_others_write_and_again_after_an_attempt_that_was_broken_off() {
    let world = World::new("history-migrate").await;
    let settings = world.settings();
    settings.succeed(&["migrate", "down", "--to", "4"]).await;
    fill(&world, 2000).await;
    let valid = "SELECT count(*) FROM pg_index WHERE indrelid = 'sync_executions'::regclass AND indexrelid::regclass::text
                 IN ('idx_sync_executions_status', 'sync_executions_errors', 'sync_executions_error_words') AND indisvalid AND indnatts > 0";
    // A worker that keeps its transaction open is waited for.
    let mut worker = world.database.begin().await.unwrap();
    sqlx::query("UPDATE sync_executions SET records_processed = 1 WHERE id = 1").execute(&mut *worker).await.unwrap();
    for round in 0..2 {
        let migration = tokio::spawn({
            let settings = settings.clone();
            async move { settings.run(&["migrate", "up"]).await }
        });
        eventually("an index that is being built", async || {
            let building = "SELECT count(*) FROM pg_index WHERE indrelid = 'sync_executions'::regclass AND NOT indisvalid";
            (world.number(building).await > 0).then_some(())
        })
        .await;
        // Nobody else is.
        tokio::time::timeout(Duration::from_secs(20), async {
            world.sql("INSERT INTO sync_executions (mode) VALUES ('update')").await;
            world.sql("UPDATE sync_executions SET records_processed = 2 WHERE id = 2").await;
        })
        .await
        .expect("a writer waits for the index");
        if round == 0 {
            migration.abort();
            let _ = migration.await;
            eventually("the broken off migration to be gone", async || {
                let sessions = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                                WHERE datname = current_database() AND query LIKE 'CREATE INDEX CONCURRENTLY%'";
                (world.number(sessions).await == 0).then_some(())
            })
            .await;
        } else {
            worker.commit().await.unwrap();
            let ended = migration.await.unwrap();
            assert_eq!(ended.code, Some(0), "{}", ended.err);
            break;
        }
    }
    assert_eq!(world.number(valid).await, 3);
    assert_eq!(world.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid").await, 0);
}
