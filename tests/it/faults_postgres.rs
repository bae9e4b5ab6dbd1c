//! Rows P1, P4, P5, P8 and P9 of the fault matrix: sessions ended, statements refused, tables locked, clients that go away in the
//! middle, notifications that are lost. Row P7 is in `outages.rs`.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::common::{
    eventually,
    faults::Fault,
    http::Answer,
    invariants::{check, work},
    objects::{backfill, update},
    program::Program,
    proxy::{Mode, Proxy},
    worker::second_copies,
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

/// I6: no more sessions than the pools may have, and none of them in a transaction that nobody ends.
async fn sessions_are_well(world: &World, most: i64) {
    eventually("no session to be left in a transaction", async || {
        let idle = sqlx::AssertSqlSafe(format!("SELECT count(*) {OURS} AND state LIKE 'idle in transaction%'"));
        let all = sqlx::AssertSqlSafe(format!("SELECT count(*) {OURS}"));
        let idle: i64 = sqlx::query_scalar(idle).fetch_one(&world.database).await.unwrap();
        let all: i64 = sqlx::query_scalar(all).fetch_one(&world.database).await.unwrap();
        (idle == 0 && all <= most).then_some(())
    })
    .await;
}

#[tokio::test]
async fn sessions_that_are_ended_five_times_a_second_lose_and_double_nothing() {
    let world = World::new("p1").await;
    let (_controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    let all_created = AtomicBool::new(false);
    let feed = async {
        for number in 0..40 {
            let spec = if number % 2 == 0 { update() } else { backfill() };
            world.create(&format!("sx-{number}"), spec).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        all_created.store(true, Ordering::Relaxed);
    };
    let terminate = async {
        let mut count = 0;
        while !all_created.load(Ordering::Relaxed) || count < 20 {
            let sql = sqlx::AssertSqlSafe(format!("SELECT count(pg_terminate_backend(pid)) {OURS}"));
            count += sqlx::query_scalar::<_, i64>(sql).fetch_one(&world.database).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        count
    };
    let ((), count, taken) = tokio::join!(feed, terminate, work(&world, &mut worker, 40));
    check(&world, 40, &taken).await;
    counted(&world, &api).await;
    sessions_are_well(&world, 20).await;
    Fault {
        row: "P1",
        fault: "every session is ended every 200 ms",
        injected: "pg_terminate_backend while 40 requests come in and are worked on",
        asserted: "one row and one message id per object (I1–I3), every end shown (I5), no session lost (I6), counters right (I8)",
    }
    .held(&format!("{count} sessions were ended"), second_copies(&taken));
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

/// Resets its connection after that time. Whether there was an answer before.
async fn ask_and_leave(address: &str, (method, path, body): (&str, &str, &str), patience: Duration) -> bool {
    let credentials = BASE64_STANDARD.encode("admin:s3cret");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Basic {credentials}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let answered = tokio::time::timeout(patience, client.read_u8()).await.is_ok();
    client.set_zero_linger().unwrap();
    answered
}

#[tokio::test]
async fn a_session_that_is_being_opened_for_a_client_that_goes_away_is_not_thrown_away() {
    let world = World::new("p8-opening").await;
    let (proxy, url) = Proxy::for_url(&world.database_url).await;
    // To open a session takes several answers of the server.
    proxy.set(Mode::Delay(Duration::from_millis(50)));
    let api = world.settings().with("DATABASE_URL", &url).start("api");
    api.ready().await;
    let address = api.address().await;
    let clients = Cell::new(0);
    eventually("all ten sessions of the pool", async || {
        // Each another page: the same would be read once for all.
        let pages: Vec<String> = (1..=20).map(|limit| format!("/sync/history?limit={limit}")).collect();
        futures::future::join_all(pages.iter().map(|page| ask_and_leave(&address, ("GET", page, ""), Duration::from_millis(20)))).await;
        clients.set(clients.get() + 20);
        let all = sqlx::AssertSqlSafe(format!("SELECT count(*) {OURS}"));
        let all: i64 = sqlx::query_scalar(all).fetch_one(&world.database).await.unwrap();
        (all == 10).then_some(())
    })
    .await;
    Fault {
        row: "P8",
        fault: "HTTP clients go away while a session is opened for them",
        injected: "reset of each connection after 20 ms, each byte from and to PostgreSQL 50 ms late",
        asserted: "what was begun for them is there for others: the pool fills (I6)",
    }
    .held(&format!("ten sessions were open after {} clients that left", clients.get()), 0);
}

#[tokio::test]
async fn clients_that_go_away_in_the_middle_leave_no_session_lost_or_in_a_transaction() {
    const CLIENTS: usize = 4000;
    let world = World::new("p8").await;
    let api = world.api().await;
    // Long enough that a client can leave in the middle of a statement.
    world.sql("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.003); RETURN NULL; END $$").await;
    world.sql("CREATE TRIGGER slow BEFORE UPDATE ON sync_executions FOR EACH STATEMENT EXECUTE FUNCTION slow()").await;
    let (_, opened) = api.call(Method::POST, "/sync/executions", Some(json!({"mode": "update"}))).await;
    let address = api.address().await;
    let (address, id) = (&address, &opened["id"]);
    let leave = |number: usize| async move {
        let report = json!({"records_processed": number}).to_string();
        let (method, path, body) = match number % 4 {
            0 => ("GET", "/sync/history".to_owned(), String::new()),
            1 => ("GET", "/sync/dashboard".to_owned(), String::new()),
            _ => ("PATCH", format!("/sync/executions/{id}"), report),
        };
        // Moments spread over waiting for a session, the statement and the answer.
        let patience = Duration::from_micros(u64::try_from(number * 7919 % 12_000).unwrap());
        ask_and_leave(address, (method, &path, &body), patience).await
    };
    let requests = stream::iter((0..CLIENTS).map(leave)).buffer_unordered(48);
    let answered = requests.filter(|answered| std::future::ready(*answered)).count().await;
    assert!(CLIENTS - answered > 1000, "{answered} of {CLIENTS} were answered before they left");

    // What was abandoned is still worked off, and counts as load until then; nothing else may be in the way of ten at a time.
    eventually("ten answers at a time", async || {
        let answers = futures::future::join_all((0..10).map(|_| api.read("/sync/history"))).await;
        let shed = answers.iter().filter(|answer| answer.code != 200);
        shed.map(|answer| answer.is_problem(503, "too many requests at the moment")).count().eq(&0).then_some(())
    })
    .await;
    sessions_are_well(&world, 10).await;
    // Ten statements at a time need all ten sessions of the pool.
    world
        .sql("CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(5); RETURN NULL; END $$")
        .await;
    world.sql("INSERT INTO sync_executions (mode, status) SELECT 'update', 'running' FROM generate_series(1, 10)").await;
    let ids: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM sync_executions ORDER BY id DESC LIMIT 10").fetch_all(&world.database).await.unwrap();
    let reports = ids.iter().map(|id| {
        let (path, api) = (format!("/sync/executions/{id}"), &api);
        async move {
            for _ in 0..1000 {
                api.call(Method::PATCH, &path, Some(json!({"records_processed": 1}))).await;
            }
        }
    });
    let all_busy = eventually("ten statements at a time", async || {
        let asleep = sqlx::AssertSqlSafe(format!("SELECT count(*) {OURS} AND wait_event = 'PgSleep'"));
        let asleep: i64 = sqlx::query_scalar(asleep).fetch_one(&world.database).await.unwrap();
        (asleep == 10).then_some(())
    });
    tokio::select! {
        _ = futures::future::join_all(reports) => panic!("never ten at a time"),
        () = all_busy => {}
    }
    world.sql("DROP TRIGGER slow ON sync_executions").await;
    eventually("an answer", async || (api.read("/sync/history").await.code == 200).then_some(())).await;
    counted(&world, &api).await;
    Fault {
        row: "P8",
        fault: "HTTP clients go away in the middle of a request",
        injected: "reset of 4,000 connections at moments spread over the request",
        asserted: "no session is left in a transaction or lost, the API answers by its whole pool (I6, I7), counters are right (I8)",
    }
    .held(&format!("{} of {CLIENTS} left before the answer", CLIENTS - answered), 0);
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
