//! The migrations: on the table of an existing deployment, with its rows, both ways; on an empty database; in any order.

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::common::{objects::update, world::World};

/// The table as Alembic left it.
const ALEMBIC: &str = "
    CREATE TABLE sync_executions (
        id SERIAL PRIMARY KEY,
        mode VARCHAR(10) NOT NULL,
        window_start TIMESTAMP,
        window_end TIMESTAMP,
        status VARCHAR(10) NOT NULL,
        records_processed INTEGER DEFAULT 0,
        duration_seconds NUMERIC(10,2),
        error_message TEXT,
        created_at TIMESTAMP DEFAULT now() NOT NULL,
        updated_at TIMESTAMP DEFAULT now() NOT NULL);
    CREATE INDEX idx_sync_executions_status ON sync_executions (status);
    CREATE INDEX idx_sync_executions_created_at ON sync_executions (created_at);";

/// Windows by the worker's clock (that of 2018 in summer time, UTC-3), stamps in UTC.
const ROWS: &str = "
    INSERT INTO sync_executions
        (mode, window_start, window_end, status, records_processed, duration_seconds, error_message, created_at, updated_at)
    VALUES
        ('backfill', '2018-12-10 12:00:00', '2018-12-10 18:00:00', 'success', 59, 45.20, NULL, '2018-12-10 22:00:00', '2018-12-10 22:00:45.2'),
        ('update', '2025-07-10 11:45:00', '2025-07-10 12:00:00', 'error', 3, 1.50, 'portal answered 500', '2025-07-10 16:00:00', '2025-07-10 16:00:01.5'),
        ('update', NULL, NULL, 'running', NULL, NULL, NULL, '2025-07-10 16:15:00', '2025-07-10 16:15:00');";

/// The columns that the existing deployment knows.
const COLUMNS: &str =
    "id, mode, window_start, window_end, status, records_processed, duration_seconds, error_message, created_at, updated_at";

async fn existing(test: &str, table: &'static str) -> World {
    let world = World::with_empty_database(test).await;
    for sql in [table, ROWS] {
        sqlx::raw_sql(sql).execute(&world.database).await.unwrap();
    }
    world
}

async fn migrate(world: &World, arguments: &[&str]) -> String {
    world.settings().succeed(&[&["migrate"], arguments].concat()).await
}

/// All rows, the columns of the existing deployment only.
async fn rows(world: &World) -> Vec<Value> {
    let sql = AssertSqlSafe(format!("SELECT to_jsonb(r)::text FROM (SELECT {COLUMNS} FROM sync_executions ORDER BY id) AS r"));
    let mut connection = world.database.acquire().await.unwrap();
    sqlx::query("SET TIME ZONE 'UTC'").execute(&mut *connection).await.unwrap();
    let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *connection).await.unwrap();
    rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
}

/// Names, types, defaults and nullability of the columns, and the indexes.
async fn shape(world: &World) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
                || COALESCE(' DEFAULT ' || pg_get_expr(adbin, adrelid), '')
         FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = to_regclass('sync_executions') AND attnum > 0 AND NOT attisdropped
         UNION ALL
         SELECT indexdef FROM pg_indexes WHERE tablename = 'sync_executions' AND schemaname = current_schema() ORDER BY 1",
    )
    .fetch_all(&world.database)
    .await
    .unwrap()
}

#[tokio::test]
async fn the_rows_of_an_existing_deployment_keep_ids_and_values_and_get_the_right_instants() {
    let world = existing("adopt", ALEMBIC).await;
    let printed = migrate(&world, &["up"]).await;
    assert_eq!(printed.lines().filter(|line| line.ends_with("applied now")).count(), printed.lines().count(), "{printed}");
    let row = |values: Value| {
        let names = COLUMNS.split(", ").map(str::to_owned);
        Value::Object(names.zip(values.as_array().unwrap().clone()).collect())
    };
    assert_eq!(
        rows(&world).await,
        [
            row(json!([
                1,
                "backfill",
                "2018-12-10T15:00:00+00:00",
                "2018-12-10T21:00:00+00:00",
                "success",
                59,
                45.2,
                null,
                "2018-12-10T22:00:00+00:00",
                "2018-12-10T22:00:45.2+00:00"
            ])),
            row(json!([
                2,
                "update",
                "2025-07-10T15:45:00+00:00",
                "2025-07-10T16:00:00+00:00",
                "error",
                3,
                1.5,
                "portal answered 500",
                "2025-07-10T16:00:00+00:00",
                "2025-07-10T16:00:01.5+00:00"
            ])),
            row(json!([3, "update", null, null, "running", null, null, null, "2025-07-10T16:15:00+00:00", "2025-07-10T16:15:00+00:00"])),
        ]
    );
    assert_eq!(world.number("INSERT INTO sync_executions (mode) VALUES ('update') RETURNING id::bigint").await, 4);
    assert_eq!(world.number("SELECT sum(executions)::bigint FROM sync_execution_counters").await, 4);
}

#[tokio::test]
async fn what_was_adopted_is_shown_by_rest_and_never_published() {
    let world = existing("adopt-rest", ALEMBIC).await;
    migrate(&world, &["up"]).await;
    let (_controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    let status = api.get("/sync/status").await;
    assert_eq!((&status["id"], &status["status"], &status["phase"]), (&json!(3), &json!("running"), &json!("Running")));
    let history = api.get("/sync/history").await;
    let shown = history["executions"].as_array().unwrap();
    assert_eq!(shown.iter().map(|execution| execution["id"].as_i64().unwrap()).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!((&shown[2]["window_start"], &shown[2]["records_processed"]), (&json!("2018-12-10T15:00:00Z"), &json!(59)));
    assert_eq!((&shown[1]["finished_at"], &shown[1]["error_message"]), (&json!("2025-07-10T16:00:01.500Z"), &json!("portal answered 500")));
    assert_eq!((&history["total_count"], &history["running_count"]), (&json!(3), &json!(1)));
    let dashboard = api.get("/sync/dashboard").await;
    assert_eq!((&dashboard["success_rate"], &dashboard["avg_duration_seconds"]), (&json!("50.0%"), &json!("23.4")));

    // What is published after the adopted rows had their chance is the new one alone.
    world.create("new", update()).await;
    assert_eq!(worker.take().await.execution(), 4);
    // The old worker ends its run as it always did.
    world.sql("UPDATE sync_executions SET status = 'success', records_processed = 8, duration_seconds = 2 WHERE id = 3").await;
    assert_eq!(api.get("/sync/executions/3").await["phase"], json!("Succeeded"));
    assert!(worker.take_within(std::time::Duration::from_secs(3)).await.is_none(), "an adopted row was published");
}

#[tokio::test]
async fn the_way_back_gives_the_old_table_with_all_rows_and_the_way_forth_works_again() {
    let world = existing("adopt-back", ALEMBIC).await;
    let (shape_before, rows_before) = (shape(&world).await, rows(&world).await);
    migrate(&world, &["up"]).await;
    let shape_after = shape(&world).await;
    world
        .sql(
            "INSERT INTO sync_executions (mode, window_start, window_end, created_at)
             VALUES ('backfill', '2025-07-10T12:00-04:00', '2025-07-10T18:00-04:00', '2025-07-10T23:00Z')",
        )
        .await;
    let printed = migrate(&world, &["down", "--to", "0"]).await;
    assert!(printed.lines().all(|line| line.ends_with("taken back now")), "{printed}");
    assert_eq!(shape(&world).await, shape_before);
    let rows_back = rows(&world).await;
    assert_eq!(rows_back[..3], rows_before);
    let made = &rows_back[3];
    assert_eq!(
        (&made["id"], &made["window_start"], &made["created_at"]),
        (&json!(4), &json!("2025-07-10T12:00:00"), &json!("2025-07-10T23:00:00"))
    );
    assert_eq!(world.number("INSERT INTO sync_executions (mode, status) VALUES ('update', 'running') RETURNING id::bigint").await, 5);
    migrate(&world, &["up"]).await;
    assert_eq!(shape(&world).await, shape_after);
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 5);
    assert_eq!(world.number("INSERT INTO sync_executions (mode) VALUES ('update') RETURNING id::bigint").await, 6);
}

#[tokio::test]
async fn tables_that_differ_a_little_are_adopted_and_given_back_too() {
    for (test, table) in [
        (
            "adopt-bare",
            "CREATE TABLE sync_executions (id SERIAL PRIMARY KEY, mode VARCHAR(10) NOT NULL, window_start TIMESTAMP, window_end TIMESTAMP,
                 status VARCHAR(10) NOT NULL, records_processed INTEGER, duration_seconds NUMERIC(10,2), error_message TEXT,
                 created_at TIMESTAMP, updated_at TIMESTAMP)",
        ),
        (
            "adopt-zoned",
            "CREATE TABLE sync_executions (id BIGSERIAL PRIMARY KEY, mode VARCHAR(10) NOT NULL, window_start TIMESTAMPTZ, window_end TIMESTAMPTZ,
                 status VARCHAR(10) NOT NULL, records_processed INTEGER, duration_seconds NUMERIC(10,2), error_message TEXT,
                 created_at TIMESTAMPTZ DEFAULT now() NOT NULL, updated_at TIMESTAMPTZ DEFAULT now() NOT NULL)",
        ),
    ] {
        let world = existing(test, table).await;
        world.sql("INSERT INTO sync_executions (mode, status, created_at, updated_at) VALUES ('update', 'success', '2025-07-11', '2025-07-11')").await;
        if test == "adopt-bare" {
            world.sql("UPDATE sync_executions SET updated_at = NULL WHERE id IN (1, 3)").await;
            world.sql("UPDATE sync_executions SET created_at = NULL WHERE id IN (2, 3)").await;
        }
        let (shape_before, rows_before) = (shape(&world).await, rows(&world).await);
        migrate(&world, &["up"]).await;
        assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE updated_at >= created_at").await, 4, "{test}");
        assert_eq!(world.number("INSERT INTO sync_executions (mode) VALUES ('update') RETURNING id::bigint").await, 5, "{test}");
        migrate(&world, &["down", "--to", "0"]).await;
        assert!(shape_before.iter().all(|line| !line.starts_with("CREATE") || line.contains("pkey")));
        let back: Vec<String> = shape(&world).await.into_iter().filter(|line| !line.starts_with("CREATE INDEX")).collect();
        assert_eq!(back, shape_before, "{test}");
        if test == "adopt-zoned" {
            assert_eq!(rows(&world).await[..4], rows_before);
        }
        migrate(&world, &["up"]).await;
        assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 5, "{test}");
    }
}

#[tokio::test]
async fn an_empty_database_goes_up_down_and_up_again() {
    let world = World::with_empty_database("migrate-empty").await;
    let status = migrate(&world, &["status"]).await;
    assert!(!status.is_empty() && status.lines().all(|line| line.ends_with(" not applied")), "{status}");
    assert!(status.starts_with("0001  create or adopt sync executions "), "{status}");
    migrate(&world, &["up"]).await;
    let (shape_up, first) = (shape(&world).await, migrate(&world, &["status"]).await);
    assert!(first.lines().all(|line| line.ends_with(" applied")), "{first}");
    assert_eq!(migrate(&world, &["up"]).await, first, "up again is harmless");
    migrate(&world, &["down"]).await;
    let stepped = migrate(&world, &["status"]).await;
    assert_eq!(stepped.lines().filter(|line| line.ends_with(" not applied")).count(), 1, "one step back: {stepped}");
    migrate(&world, &["down", "--to", "0"]).await;
    assert!(shape(&world).await.is_empty(), "what was created is gone");
    assert_eq!(migrate(&world, &["down", "--to", "0"]).await, status, "down again is harmless");
    migrate(&world, &["up"]).await;
    assert_eq!(shape(&world).await, shape_up);
}

#[tokio::test]
async fn several_that_migrate_at_once_do_it_once() {
    let world = existing("migrate-race", ALEMBIC).await;
    let settings = world.settings();
    let ups = futures::future::join_all((0..4).map(|_| settings.succeed(&["migrate", "up"]))).await;
    assert!(ups.iter().all(|printed| !printed.contains("not applied")), "{ups:?}");
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 3);
}

#[tokio::test]
async fn a_table_in_a_schema_of_its_own_is_found_by_the_search_path() {
    let world = World::with_empty_database("adopt-schema").await;
    sqlx::raw_sql("CREATE SCHEMA ingest").execute(&world.database).await.unwrap();
    let url = format!("{}?options=-csearch_path%3Dingest", world.database_url);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for sql in [ALEMBIC, ROWS] {
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }
    let settings = world.settings().with("DATABASE_URL", &url);
    settings.succeed(&["migrate", "up"]).await;
    assert_eq!(world.number("SELECT count(*) FROM ingest.sync_executions WHERE revision = 1").await, 3);
    // A session without that path: the trigger functions find their tables all the same.
    world.sql("UPDATE ingest.sync_executions SET status = 'success' WHERE id = 3").await;
    assert_eq!(world.number("SELECT sum(executions)::bigint FROM ingest.sync_execution_counters WHERE status = 'success'").await, 2);
    settings.succeed(&["migrate", "down", "--to", "0"]).await;
    assert_eq!(world.number("SELECT count(*) FROM ingest.sync_executions").await, 3);
}
