//! Rows P4, P5 and P9 of the fault matrix: statements refused, tables locked, notifications that are lost. Rows P1 and P7 are in
//! `outages.rs`.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::common::{
    eventually,
    faults::{Fault, second_copies},
    http::Answer,
    invariants::check,
    objects::update,
    program::Program,
    world::World,
};

/// The program's sessions in the world's database, not those of the test.
const OURS: &str = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sync-operator'";

/// I8: what `/sync/history` counts is what is there.
async fn counted(world: &World, api: &Program) {
    let history = api.get("/sync/history").await;
    assert_eq!(history["total_count"], world.number("SELECT count(*) FROM sync_executions").await, "I8");
    let successes = world.number("SELECT count(*) FROM sync_executions WHERE status = 'success'").await;
    assert_eq!(history["success_count"], successes, "I8");
}

#[tokio::test]
async fn statements_refused_as_deadlocks_and_serialization_failures_are_tried_again() {
    let world = World::new("p4").await;
    for sql in [
        "CREATE SEQUENCE statements",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         DECLARE number bigint;
         BEGIN
             IF current_setting('application_name') <> 'sync-operator' THEN RETURN NULL; END IF;
             number := nextval('statements');
             IF number % 4 = 0 THEN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END IF;
             IF number % 4 = 2 THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF;
             RETURN NULL;
         END $$",
        "CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON sync_executions FOR EACH STATEMENT EXECUTE FUNCTION refuse()",
    ] {
        world.sql(sql).await;
    }
    let serializable = format!("ALTER DATABASE \"{}\" SET default_transaction_isolation = 'serializable'", world.name);
    sqlx::query(sqlx::AssertSqlSafe(serializable)).execute(&world.database).await.unwrap();
    let (controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    for number in 0..30 {
        world.create(&format!("sx-{number}"), update()).await;
    }
    let taken = worker.take_many(30).await;
    let refused = Cell::new(0);
    for message in &taken {
        let path = format!("/sync/executions/{}", message.execution());
        eventually("the report to be taken", async || {
            let report = json!({"status": "success", "records_processed": 1});
            let (code, answer) = api.call(Method::PATCH, &path, Some(report)).await;
            refused.set(refused.get() + u32::from(code == 503));
            assert!([200, 503].contains(&code), "{answer}");
            (code == 200).then_some(())
        })
        .await;
    }
    check(&world, 30, &taken).await;
    assert_eq!(second_copies(&taken), 0);
    counted(&world, &api).await;
    let refused = refused.get();
    assert!(refused > 0 && controller.log().contains("deadlock detected"), "no statement was refused");
    let statements = world.number("SELECT last_value FROM statements").await;
    Fault {
        row: "P4",
        fault: "serialization failures and deadlocks (40001, 40P01)",
        injected: "a trigger refuses every second statement of ours; transactions are serializable by default",
        asserted: "one row and one message per object (I1–I3), every end shown (I5), counters right (I8); a report is answered 200 or 503",
    }
    .held(&format!("{refused} of {} reports were answered 503; {statements} statements, of which half were refused", 30 + refused), 0);
}

#[tokio::test]
async fn a_locked_table_and_a_long_transaction_are_waited_out_and_said() {
    let world = World::new("p5").await;
    let (controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    // It keeps every old version of a row from being cleaned up, all the while.
    let mut long = PgConnection::connect(&world.database_url).await.unwrap();
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM sync_executions").execute(&mut long).await.unwrap();
    world.create("before", update()).await;
    let mut taken = vec![worker.take().await];
    world.phase("before", "Queued").await;
    // The long transaction has read the table, so who locks it would wait for it.
    sqlx::raw_sql("COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current()").execute(&mut long).await.unwrap();

    let mut holder = PgConnection::connect(&world.database_url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE sync_executions IN ACCESS EXCLUSIVE MODE").execute(&mut holder).await.unwrap();
    let locked = Instant::now();
    for number in 0..5 {
        world.create(&format!("sx-{number}"), update()).await;
    }
    let answer = api.read("/sync/status").await;
    let waited = locked.elapsed();
    answer.is_problem(503, "lock timeout");
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    assert_eq!(Answer::to(api.anonymous(Method::GET, "/healthz").await).await.code, 200, "its own health is another thing");
    world.condition("sx-4", "Recorded", "False", "DatabaseUnavailable").await;
    // Another shape of the table, as a migration brings it, before anybody reads again.
    sqlx::raw_sql("ALTER TABLE sync_executions ADD COLUMN extra text; COMMIT").execute(&mut holder).await.unwrap();

    taken.extend(worker.take_many(5).await);
    world.sql("UPDATE sync_executions SET status = 'success'").await;
    world.sql("ALTER TABLE sync_executions DROP COLUMN extra").await;
    check(&world, 6, &taken).await;
    counted(&world, &api).await;
    controller.ready().await;
    sqlx::raw_sql("ROLLBACK").execute(&mut long).await.unwrap();
    Fault {
        row: "P5",
        fault: "the table is locked, changed, and an old snapshot is held",
        injected: "LOCK TABLE, ALTER TABLE, a transaction that stays open",
        asserted: "REST says 503 with the reason in time (I7), requests wait with the reason and are published once afterwards (I2, I3, I5)",
    }
    .held(&format!("503 after {} s", waited.as_secs()), second_copies(&taken));
}

#[tokio::test]
async fn a_listener_whose_session_is_ended_hears_of_what_it_missed() {
    let world = World::new("p9-ended").await;
    let (controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("x", update()).await;
    worker.take().await;
    world.phase("x", "Queued").await;
    let listening = "(query LIKE 'LISTEN %' OR query LIKE 'SELECT pg_notify(%')";
    let listener = sqlx::AssertSqlSafe(format!("SELECT count(pg_terminate_backend(pid)) {OURS} AND {listening}"));
    let ended: i64 = sqlx::query_scalar(listener).fetch_one(&world.database).await.unwrap();
    assert_eq!(ended, 1, "the listener's session");
    world.sql("UPDATE sync_executions SET status = 'success', records_processed = 3").await;
    let reported = Instant::now();
    assert_eq!(world.phase("x", "Succeeded").await.records_processed, Some(3));
    controller.logged("listening for changes stopped").await;
    Fault {
        row: "P9",
        fault: "the listener's session is ended, and a report comes before the next",
        injected: "pg_terminate_backend",
        asserted: "what was reported meanwhile is shown (I5)",
    }
    .held(&format!("shown after {} ms", reported.elapsed().as_millis()), 0);
}

#[tokio::test]
async fn notifications_that_are_lost_without_an_error_are_missed_by_the_heartbeat() {
    let world = World::new("p9-lost").await;
    let lost = Arc::new(AtomicBool::new(false));
    let url = without_notifications(&world, Arc::clone(&lost)).await;
    let controller = world.settings().with("DATABASE_URL", url).start("controller");
    controller.ready().await;
    let mut worker = world.worker().await;
    world.create("x", update()).await;
    worker.take().await;
    world.phase("x", "Queued").await;
    lost.store(true, Ordering::Relaxed);
    world.sql("UPDATE sync_executions SET status = 'success', records_processed = 3").await;
    let reported = Instant::now();
    assert_eq!(world.phase("x", "Succeeded").await.records_processed, Some(3));
    let shown = reported.elapsed();
    controller.logged("notifications do not arrive").await;
    // As long as they are lost, everything is looked at again and again.
    world.create("y", update()).await;
    worker.take().await;
    world.sql("UPDATE sync_executions SET status = 'success' WHERE name = 'y'").await;
    world.phase("y", "Succeeded").await;
    Fault {
        row: "P9",
        fault: "notifications are lost, all else works, as behind a pooler that works by transaction",
        injected: "a proxy that drops the protocol's NotificationResponse",
        asserted: "the heartbeat that the listener sends itself is missed within 15 s; all is looked at (I5), and the log says why",
    }
    .held(&format!("shown after {} s", shown.as_secs()), 0);
}

/// The URL of a proxy that passes everything but notifications while they are to be lost.
async fn without_notifications(world: &World, lost: Arc<AtomicBool>) -> String {
    let mut url = url::Url::parse(&world.database_url).unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    // Without TLS every message of the server begins with its type.
    url.set_query(Some("sslmode=disable"));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (server, lost) = (TcpStream::connect(&server).await.unwrap(), Arc::clone(&lost));
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let answers = async {
                    loop {
                        let kind = from_server.read_u8().await?;
                        let length = from_server.read_u32().await?;
                        let mut message = vec![0; length as usize - 4];
                        from_server.read_exact(&mut message).await?;
                        if kind != b'A' || !lost.load(Ordering::Relaxed) {
                            to_client.write_u8(kind).await?;
                            to_client.write_u32(length).await?;
                            to_client.write_all(&message).await?;
                        }
                    }
                };
                let _: std::io::Result<()> = tokio::select! {
                    ended = answers => ended,
                    ended = tokio::io::copy(&mut from_client, &mut to_server) => ended.map(drop),
                };
            });
        }
    });
    url.into()
}
