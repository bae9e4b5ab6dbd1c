//! PostgreSQL and the API server away, cut off or silent: requests wait with the reason, REST says so, all drains after.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::common::{
    eventually,
    faults::Fault,
    objects::{condition, update},
    private::Private,
    proxy::{Mode, Proxy},
    worker::second_copies,
    world::World,
};

#[tokio::test]
async fn while_postgres_is_down_requests_wait_with_the_reason_and_then_all_go_out() {
    let private = Private::start("postgres");
    let world = World::with(&private, "postgres-down").await;
    let (controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    world.create("before", update()).await;
    worker.take().await;
    world.phase("before", "Queued").await;

    private.stop("KILL");
    for number in 0..5 {
        world.create(&format!("sx-{number}"), update()).await;
    }
    let waiting = world.condition("sx-4", "Recorded", "False", "DatabaseUnavailable").await;
    assert_eq!((waiting.phase.unwrap().as_str(), waiting.execution_id), ("Pending", None));
    let asked = Instant::now();
    let (code, problem) = api.call(Method::GET, "/sync/status", None).await;
    assert_eq!(code, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("database 127.0.0.1"), "{problem}");
    assert!(asked.elapsed() < Duration::from_secs(10));
    let (code, answer) = api.call(Method::POST, "/sync/force", Some(json!({"mode": "update"}))).await;
    assert_eq!(code, 202, "the object is the request, and is kept: {answer}");

    private.again();
    let taken = worker.take_many(6).await;
    let recorded = world.phase("sx-4", "Queued").await;
    assert_eq!(condition(&recorded, "Recorded"), Some(("True", "RowWritten")));
    assert_eq!(api.get("/sync/history").await["total_count"], 7);
    controller.ready().await;
    Fault {
        row: "P1",
        fault: "PostgreSQL is killed and started again",
        injected: "SIGKILL",
        asserted: "requests wait with the reason, REST says 503 in time (I7), all are recorded once and published afterwards (I1, I2), counters right (I8)",
    }
    .held("one request before, six while it was down", second_copies(&taken));
}

#[tokio::test]
async fn what_was_reported_while_nobody_could_listen_is_shown_afterwards() {
    let world = World::new("postgres-cut").await;
    let (proxy, url) = Proxy::for_url(&world.database_url).await;
    let controller = world.settings().with("DATABASE_URL", &url).start("controller");
    controller.ready().await;
    let mut worker = world.worker().await;
    world.create("x", update()).await;
    worker.take().await;
    world.phase("x", "Queued").await;
    proxy.set(Mode::Refuse);
    proxy.cut();
    world.sql("UPDATE sync_executions SET status = 'success', records_processed = 9").await;
    proxy.set(Mode::Pass);
    assert_eq!(world.phase("x", "Succeeded").await.records_processed, Some(9));
    Fault {
        row: "P9",
        fault: "the listener is cut off, and a report comes before it can listen again",
        injected: "the proxy cuts all connections and refuses new ones",
        asserted: "what was reported meanwhile is shown (I5)",
    }
    .held("shown after the next look at everything", 0);
}

#[tokio::test]
async fn a_half_open_connection_to_postgres_is_noticed_and_replaced() {
    let world = World::new("postgres-silent").await;
    let (proxy, url) = Proxy::for_url(&world.database_url).await;
    let settings = world.settings().with("DATABASE_URL", &url);
    let (controller, api) = (settings.start("controller"), settings.with("DATABASE_MAX_CONNECTIONS", 3).start("api"));
    controller.ready().await;
    api.ready().await;
    let mut worker = world.worker().await;
    world.create("x", update()).await;
    worker.take().await;
    world.phase("x", "Queued").await;
    // Every connection of the API's pool is in the middle of a statement when the path falls silent: bytes vanish both ways,
    // nothing is closed.
    let mut locker = PgConnection::connect(&world.database_url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE sync_executions IN ACCESS EXCLUSIVE MODE").execute(&mut locker).await.unwrap();
    // Each another page: the same would be read once for all.
    let pages = [1, 2, 3].map(|limit| format!("/sync/history?limit={limit}"));
    let reads = futures::future::join_all(pages.iter().map(|page| api.call(Method::GET, page, None)));
    let silence = async {
        eventually("three reads to wait", async || {
            let reads = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                         AND query LIKE 'SELECT%'";
            (world.number(reads).await >= 3).then_some(())
        })
        .await;
        proxy.set(Mode::SwallowAll);
        sqlx::raw_sql("COMMIT").execute(&mut locker).await.unwrap();
        world.sql("UPDATE sync_executions SET status = 'success'").await;
        Instant::now()
    };
    let (answers, silent) = tokio::join!(reads, silence);
    for (code, problem) in answers {
        assert_eq!(code, 503, "{problem}");
    }
    let said = silent.elapsed();
    assert!(said < Duration::from_secs(25), "{said:?}");
    controller.logged("listening for changes stopped").await;
    let noticed = silent.elapsed();
    proxy.set(Mode::Pass);
    world.phase("x", "Succeeded").await;
    eventually("an answer by a connection of the pool", async || {
        let (code, answer) = api.call(Method::GET, "/sync/status", None).await;
        (code == 200 && answer["status"] == "success").then_some(())
    })
    .await;
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sync-operator'";
    eventually("no more sessions than the pools may have", async || (world.number(sessions).await <= 13).then_some(())).await;
    Fault {
        row: "P7",
        fault: "half-open connections to PostgreSQL",
        injected: "the proxy swallows all bytes both ways, nothing is closed",
        asserted: "REST says 503 in time (I7), the silence is noticed, connections are replaced (I6), what was reported is shown (I5)",
    }
    .held(&format!("503 after {} s, noticed after {} s", said.as_secs(), noticed.as_secs()), 0);
}

#[tokio::test]
async fn while_the_api_server_is_down_reports_are_taken_and_shown_afterwards() {
    let private = Private::start("apiserver");
    let world = World::with(&private, "apiserver-down").await;
    let (controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    world.create("x", update()).await;
    let id = worker.take().await.execution();
    world.phase("x", "Queued").await;

    private.stop("KILL");
    let (code, problem) = api.call(Method::POST, "/sync/force", Some(json!({"mode": "update"}))).await;
    assert_eq!(code, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("Kubernetes"), "{problem}");
    worker.report(&json!({"request_id": id, "status": "success", "records_processed": 5})).await;
    eventually("the record to have the report", async || {
        let execution = api.get(&format!("/sync/executions/{id}")).await;
        (execution["status"] == "success").then_some(())
    })
    .await;
    assert_eq!(api.get("/sync/status").await["records_processed"], 5);

    private.again();
    let back = Instant::now();
    assert_eq!(world.phase("x", "Succeeded").await.records_processed, Some(5));
    controller.ready().await;
    Fault {
        row: "K1",
        fault: "API server killed and started again",
        injected: "SIGKILL on kube-apiserver",
        asserted: "/sync/force says 503, reports are taken and read meanwhile (I7), all is shown afterwards (I5)",
    }
    .held(&format!("shown {} s after it was back", back.elapsed().as_secs()), 0);
}

#[tokio::test]
async fn a_silent_api_server_ends_leadership_and_all_is_shown_afterwards() {
    let world = World::new("apiserver-rights").await;
    let (proxy, kubeconfig) = world.kubeconfig_by_proxy().await;
    let controller = world.settings().with("KUBECONFIG", kubeconfig.display()).start("controller");
    controller.ready().await;
    let mut worker = world.worker().await;
    world.create("x", update()).await;
    worker.take().await;
    world.phase("x", "Queued").await;
    // The API server cannot be reached for longer than a lease lasts; the watch is dead without being closed.
    proxy.set(Mode::SwallowAll);
    world.sql("UPDATE sync_executions SET status = 'success', records_processed = 2").await;
    controller.logged("leadership ended").await;
    proxy.set(Mode::Pass);
    proxy.cut();
    assert_eq!(world.phase("x", "Succeeded").await.records_processed, Some(2));
}

#[tokio::test]
async fn a_watch_that_broke_goes_on_and_is_not_called_missing() {
    let world = World::new("apiserver-watch").await;
    let (proxy, kubeconfig) = world.kubeconfig_by_proxy().await;
    let controller = world.settings().with("KUBECONFIG", kubeconfig.display()).start("controller");
    let mut worker = world.worker().await;
    world.create("x", update()).await;
    worker.take().await;
    world.phase("x", "Queued").await;
    proxy.set(Mode::Refuse);
    proxy.cut();
    controller.logged("watching SyncExecutions failed").await;
    proxy.set(Mode::Pass);
    // No object changes meanwhile: nothing but the watch itself says that it is well.
    controller.ready().await;
    world.create("y", update()).await;
    worker.take().await;
}
