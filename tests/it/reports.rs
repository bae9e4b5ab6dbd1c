//! Reports of workers by SQL, HTTP and AMQP alike: repeated, late, contradicting, at once, nonsense, and while the database
//! is away.

use lapin::{
    Connection, ConnectionProperties,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable, ShortString},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{
    eventually,
    faults::Fault,
    http::Answer,
    invariants::WRONG_COUNTERS,
    objects::{backfill, update},
    program::Program,
    proxy::{Mode, Proxy},
    worker::STATUS_QUEUE,
    world::World,
};

/// Waits until that many reports by AMQP came to that outcome.
async fn counted(controller: &Program, outcome: &str, count: f64) {
    let name = format!(r#"sync_operator_reports_total{{via="amqp",outcome="{outcome}"}}"#);
    eventually(&format!("{count} reports {outcome}"), async || {
        let is = controller.metric(&name).await;
        assert!(is <= count, "{is} reports {outcome} instead of {count}");
        (is >= count).then_some(())
    })
    .await;
}

/// Ends the controller; how many reports are left on the queue, unacked ones included.
async fn left_on_the_queue(world: &World, controller: Program) -> u32 {
    controller.terminate().await;
    let connection = Connection::connect(&world.rabbitmq_url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(ShortString::from(STATUS_QUEUE), passive, FieldTable::default()).await.unwrap().message_count()
}

async fn patch(api: &Program, id: impl std::fmt::Display, report: &Value) -> Answer {
    Answer::to(api.request(Method::PATCH, &format!("/sync/executions/{id}")).await.json(report)).await
}

#[tokio::test]
async fn a_repeat_is_taken_and_a_contradiction_changes_nothing_by_any_way() {
    let world = World::new("reports-late").await;
    let (controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    world.create("x", update()).await;
    let id = worker.take().await.execution();
    // The end first, then the start that was overtaken by it.
    let end = json!({"request_id": id, "status": "success", "records_processed": 4, "duration_seconds": 2.5});
    worker.report(&end).await;
    counted(&controller, "accepted", 1.0).await;
    let ended = api.get("/sync/executions/1").await;
    worker.report(&end).await;
    counted(&controller, "accepted", 2.0).await;
    assert_eq!(
        (patch(&api, id, &end).await.code, world.sql("UPDATE sync_executions SET status = 'success', records_processed = 4").await),
        (200, 0)
    );

    let late = [
        json!({"status": "running"}),
        json!({"records_processed": 4}),
        json!({"status": "error", "error_message": "late"}),
        json!({"status": "success", "records_processed": 5}),
        json!({"status": "success", "duration_seconds": 2.51}),
        json!({"status": "cancelled"}),
    ];
    for (number, report) in (1_u32..).zip(&late) {
        patch(&api, id, report).await.is_problem(409, "execution 1 ended as success, which is final: this report changed nothing");
        let mut message = report.clone();
        message["request_id"] = json!(id.to_string());
        worker.report(&message).await;
        counted(&controller, "contradicts", number.into()).await;
    }
    assert_eq!(world.sql("UPDATE sync_executions SET status = 'error', error_message = 'late'").await, 0);
    assert_eq!(api.get("/sync/executions/1").await, ended);
    assert_eq!(left_on_the_queue(&world, controller).await, 0);
    Fault {
        row: "W1",
        fault: "reports repeated, out of order, late and contradicting",
        injected: "by SQL, HTTP and AMQP on an execution that has ended",
        asserted: "repeats are taken, contradictions get 409 or are dropped and counted, the row stays as it ended (I4)",
    }
    .held("6 contradictions by each way refused", 0);
}

#[tokio::test]
async fn the_same_end_by_three_ways_at_once_is_one_transition() {
    let world = World::new("reports-at-once").await;
    let (controller, api, worker) = (world.controller().await, world.api().await, world.worker().await);
    world
        .sql(
            "INSERT INTO sync_executions (request_uid, namespace, name, mode, published_at)
             SELECT gen_random_uuid(), 'elsewhere', n::text, 'update', now() FROM generate_series(1, 20) AS n",
        )
        .await;
    for id in 1..=20 {
        let report = json!({"request_id": id, "status": "success", "records_processed": 5, "duration_seconds": 1});
        let sql = "UPDATE sync_executions SET status = 'success', records_processed = 5, duration_seconds = 1 WHERE id = $1";
        let ((), http, sql) =
            tokio::join!(worker.report(&report), patch(&api, id, &report), sqlx::query(sql).bind(id).execute(&world.database));
        assert_eq!(http.code, 200, "{http:?}");
        assert!(sql.unwrap().rows_affected() <= 1);
    }
    counted(&controller, "accepted", 20.0).await;
    assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE revision = 2 AND status = 'success'").await, 20);
    let dashboard = api.get("/sync/dashboard").await;
    assert_eq!(
        (&dashboard["success_count"], &dashboard["running_count"], &dashboard["avg_duration_seconds"]),
        (&json!(20), &json!(0), &json!("1.0"))
    );
    assert_eq!(world.number(WRONG_COUNTERS).await, 0, "I8");
    Fault {
        row: "W2",
        fault: "the same end by SQL, AMQP and HTTP at once",
        injected: "three channels at the same moment, for each of 20 executions",
        asserted: "one transition each (revision 2), all three are content, the counters equal a count (I4, I8)",
    }
    .held("20 executions, 20 transitions", 0);
}

#[tokio::test]
async fn contradicting_ends_at_once_leave_one_and_refuse_the_others() {
    let world = World::new("reports-race").await;
    let api = world.api().await;
    for id in 1..=10 {
        world.sql("INSERT INTO sync_executions (mode) VALUES ('update')").await;
        let reports = ["success", "error", "cancelled", "success"].map(|status| json!({"status": status}));
        let answers = futures::future::join_all(reports.iter().map(|report| patch(&api, id, report))).await;
        let end = api.get(&format!("/sync/executions/{id}")).await;
        for (report, answer) in reports.iter().zip(answers) {
            assert_eq!(answer.code, if report["status"] == end["status"] { 200 } else { 409 }, "{report} on {end}");
        }
        assert_eq!(end["revision"], json!(2), "one transition");
    }
}

#[tokio::test]
async fn an_execution_is_named_by_number_by_text_or_by_uid() {
    let world = World::new("reports-id").await;
    let (controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    world.create("x", update()).await;
    let id = worker.take().await.execution();
    for (number, id) in (1_u32..).zip([json!(id), json!(id.to_string())]) {
        worker.report(&json!({"request_id": id, "records_processed": number})).await;
        world.status("x", "the records", |status| status.records_processed == Some(number.into())).await;
    }
    let uid = world.objects().get("x").await.unwrap().metadata.uid.unwrap();
    assert_eq!(patch(&api, &uid, &json!({"records_processed": 3})).await.json()["records_processed"], json!(3));
    assert_eq!(patch(&api, id, &json!({"records_processed": 2})).await.json()["records_processed"], json!(2), "progress may be corrected");
    counted(&controller, "accepted", 2.0).await;
}

#[tokio::test]
async fn a_report_on_no_execution_is_refused_or_dropped_and_counted() {
    let world = World::new("reports-unknown").await;
    let (controller, api, worker) = (world.controller().await, world.api().await, world.worker().await);
    let report = json!({"request_id": "77", "status": "success"});
    worker.report(&report).await;
    counted(&controller, "unknown", 1.0).await;
    patch(&api, 77, &report).await.is_problem(404, "there is no execution 77");
    patch(&api, "6f1ed002-ab59-4c50-8d43-4c5f2f1a9d11", &report).await.is_problem(404, "there is no execution 6f1ed002");
    patch(&api, "x", &report).await.is_problem(400, "by its id (a number) or by the uid");
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 0);
    assert_eq!(left_on_the_queue(&world, controller).await, 0);
    Fault {
        row: "W1",
        fault: "reports on an unknown id or UID",
        injected: "by AMQP and HTTP",
        asserted: "404, or dropped and counted; no row is made",
    }
    .held("all refused", 0);
}

#[tokio::test]
async fn nonsense_is_refused_or_dropped_and_what_follows_gets_through() {
    let world = World::new("reports-nonsense").await;
    let (controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    world.create("x", update()).await;
    let id = worker.take().await.execution();
    let large = format!(r#"{{"request_id": {id}, "error_message": "{}"}}"#, "x".repeat(1024 * 1024));
    let nonsense = [
        &b"\xff\xfe{}"[..],
        b"",
        b"[]",
        b"[1, 2]",
        b"null",
        b"success",
        b"{}",
        br#"{"status": "success"}"#,
        br#"{"request_id": "one", "status": "success"}"#,
        br#"{"request_id": 1, "status": "done"}"#,
        br#"{"request_id": 1, "records_processed": -1}"#,
        br#"{"request_id": 1, "records_processed": 1e99}"#,
        br#"{"request_id": 1, "duration_seconds": "long"}"#,
        br#"{"request_id": 1, "window_start": "2025-07-10T12:00:00"}"#,
        br#"{"request_id": 1, "window_start": "-10000-01-01T00:00:00", "window_end": "2025-07-10T12:00:00"}"#,
        large.as_bytes(),
    ];
    for (number, body) in (1_u32..).zip(nonsense) {
        worker.publish(STATUS_QUEUE, body).await;
        counted(&controller, "invalid", number.into()).await;
    }
    for (report, says) in [
        (json!({"status": "done"}), "unknown variant `done`"),
        (json!({"records_processed": -1}), "`records_processed` is -1: send 0 or more"),
        (json!({"duration_seconds": -1}), "`duration_seconds` is -1"),
        (json!({"window_end": "2025-07-10T12:00:00"}), "send both or none"),
        (json!({"window_start": "-10000-01-01T00:00:00", "window_end": "2025-07-10T12:00:00"}), "is not a time"),
    ] {
        patch(&api, id, &report).await.is_problem(400, says);
    }
    let untouched = api.get("/sync/executions/1").await;
    assert_eq!((&untouched["started_at"], &untouched["status"]), (&Value::Null, &json!("running")));
    worker.report(&json!({"request_id": id, "status": "error", "error_message": "a\u{0}b", "unknown": {"to": "us"}})).await;
    counted(&controller, "accepted", 1.0).await;
    assert_eq!(api.get("/sync/executions/1").await["error_message"], json!("ab"));
    assert_eq!(left_on_the_queue(&world, controller).await, 0);
    Fault {
        row: "W1",
        fault: "reports that are none: invalid UTF-8, 1 MiB of text, wrong types, negative numbers, half a window",
        injected: "by AMQP and HTTP, a good one after them",
        asserted: "each is refused (400) or dropped and counted, none changes the row, the good one gets through (I4, I7)",
    }
    .held("16 by AMQP, 5 by HTTP refused", 0);
}

#[tokio::test]
async fn a_report_with_headers_that_fill_a_frame_of_the_broker_s_size_is_taken() {
    let world = World::new("reports-headers").await;
    let (controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("x", update()).await;
    let report = json!({"request_id": worker.take().await.execution(), "status": "success"});
    let mut headers = FieldTable::default();
    headers.insert("trace".into(), AMQPValue::LongString("x".repeat(130_000).into()));
    worker.publish_with(STATUS_QUEUE, report.to_string().as_bytes(), headers).await;
    counted(&controller, "accepted", 1.0).await;
    assert_eq!(left_on_the_queue(&world, controller).await, 0);
}

#[tokio::test]
async fn reports_that_come_while_the_database_is_away_are_taken_when_it_is_back() {
    let world = World::new("reports-away").await;
    let (proxy, url) = Proxy::for_url(&world.database_url).await;
    let controller = world.settings().with("DATABASE_URL", url).start("controller");
    controller.ready().await;
    let mut worker = world.worker().await;
    world.create("x", backfill()).await;
    let id = worker.take().await.execution();
    world.phase("x", "Queued").await;
    proxy.set(Mode::Refuse);
    proxy.cut();
    for report in [json!({"status": "running"}), json!({"records_processed": 3}), json!({"status": "success", "records_processed": 6})] {
        let mut message = report;
        message["request_id"] = json!(id);
        worker.report(&message).await;
    }
    controller.logged("cannot record a report yet").await;
    assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE started_at IS NOT NULL").await, 0);
    proxy.set(Mode::Pass);
    let done = world.phase("x", "Succeeded").await;
    assert_eq!(done.records_processed, Some(6));
    counted(&controller, "accepted", 3.0).await;
    assert_eq!(left_on_the_queue(&world, controller).await, 0);
}
