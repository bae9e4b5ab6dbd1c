//! Workers that die, and messages that are lost after the broker confirmed them: nothing is run again by itself, and it shows.
//! What workers report is in `reports.rs`.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{
    eventually,
    faults::Fault,
    http::Answer,
    invariants::WRONG_COUNTERS,
    objects::{condition, update},
    worker::QUEUE,
    world::World,
};

fn update_within(seconds: u32) -> Value {
    json!({"mode": "update", "activeDeadlineSeconds": seconds})
}

#[tokio::test]
async fn a_worker_that_dies_is_noticed_by_the_deadline_and_what_it_reports_afterwards_changes_nothing() {
    let world = World::new("worker-dies").await;
    let (controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    world.create("taken", update_within(4)).await;
    world.create("started", update_within(4)).await;
    let ids = [worker.take().await.execution(), worker.take().await.execution()];
    world.sql("UPDATE sync_executions SET status = 'running', records_processed = 7 WHERE name = 'started'").await;
    for name in ["taken", "started"] {
        let failed = world.phase(name, "Failed").await;
        assert_eq!(condition(&failed, "Stalled"), Some(("True", "DeadlineExceeded")));
    }
    let ended = api.get("/sync/history").await;
    for id in ids {
        let late = json!({"request_id": id, "status": "success", "records_processed": 9});
        worker.report(&late).await;
        let answer = Answer::to(api.request(Method::PATCH, &format!("/sync/executions/{id}")).await.json(&late)).await;
        answer.is_problem(409, "which is final: this report changed nothing");
    }
    assert_eq!(world.sql("UPDATE sync_executions SET status = 'success', records_processed = 9").await, 0);
    eventually("the reports to be counted", async || {
        (controller.metric(r#"sync_operator_reports_total{via="amqp",outcome="contradicts"}"#).await >= 2.0).then_some(())
    })
    .await;
    assert_eq!(api.get("/sync/history").await, ended);
    assert_eq!(world.number(WRONG_COUNTERS).await, 0, "I8");
    assert!(worker.take_within(Duration::from_secs(1)).await.is_none(), "nothing is run again");
    Fault {
        row: "W3",
        fault: "a worker that takes a message, or starts, and is never heard of",
        injected: "the worker acks and reports nothing until the deadline is over, then a success by each way",
        asserted: "Failed with DeadlineExceeded; the late reports are refused (409), counted and change nothing (I4, I8)",
    }
    .held("both ended by the deadline, six late reports refused", 0);
}

#[tokio::test]
async fn a_message_lost_after_its_confirm_is_seen_as_waiting_and_ends_by_its_deadline() {
    let world = World::new("worker-purged").await;
    let controller = world.controller().await;
    // Without a worker the messages stay on the queue.
    world.create("limited", update_within(30)).await;
    world.create("unlimited", update()).await;
    for name in ["limited", "unlimited"] {
        world.phase(name, "Queued").await;
    }
    world.manage(Method::DELETE, &format!("queues/{}/{QUEUE}/contents", world.name), None).await;
    let mut worker = world.worker().await;
    let waiting = eventually("the age of what is published and not started", async || {
        let count = controller.metric("sync_operator_queued_executions").await;
        let age = controller.metric("sync_operator_queued_oldest_seconds").await;
        (count >= 2.0 && age >= 1.0).then_some(age)
    })
    .await;
    assert_eq!(condition(&world.phase("limited", "Failed").await, "Failed"), Some(("True", "DeadlineExceeded")));
    let unlimited = world.phase("unlimited", "Queued").await;
    assert_eq!(condition(&unlimited, "Reconciling"), Some(("True", "Queued")));
    assert!(unlimited.publish_time.is_some());
    eventually("the one that is left to be counted", async || {
        (controller.metric("sync_operator_queued_executions").await <= 1.0).then_some(())
    })
    .await;
    assert!(worker.take_within(Duration::from_secs(1)).await.is_none(), "nothing is published again by itself");
    world.sql("UPDATE sync_executions SET status = 'running'").await;
    eventually("none to be counted once a worker reports", async || {
        (controller.metric("sync_operator_queued_executions").await < 1.0).then_some(())
    })
    .await;
    Fault {
        row: "R6",
        fault: "messages lost at the broker after their confirm",
        injected: "the queue is purged by its administrator",
        asserted: "their number and the age of the oldest are metrics, the objects say Queued since when, a deadline ends them; none is sent again by itself (I3)",
    }
    .held(&format!("the oldest was told as {waiting:.0} s"), 0);
}
