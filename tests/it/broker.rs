//! RabbitMQ away, full, emptied of its queue, or silent: nothing is lost, nothing counts as published that is not.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::common::{
    eventually,
    faults::Fault,
    objects::{condition, update},
    private::Private,
    proxy::{Mode, Proxy},
    worker::{QUEUE, Worker},
    world::World,
};

#[tokio::test]
async fn while_the_broker_is_down_requests_wait_with_the_reason_and_then_go_out_in_order() {
    let private = Private::start("rabbitmq");
    let world = World::with(&private, "broker-down").await;
    let (controller, api) = (world.controller().await, world.api().await);
    private.stop("KILL");
    for number in 0..10 {
        world.create(&format!("sx-{number}"), update()).await;
    }
    let waiting = world.condition("sx-9", "Published", "False", "BrokerUnavailable").await;
    assert_eq!(waiting.phase.unwrap().as_str(), "Pending");
    assert_eq!(condition(&waiting, "Recorded"), Some(("True", "RowWritten")));
    assert_eq!(api.get("/sync/history").await["total_count"], 10);
    let (code, answer) = api.call(Method::POST, "/sync/force", Some(json!({"mode": "update"}))).await;
    assert_eq!((code, &answer["message"]), (202, &json!("Sync request accepted: update")));

    private.again();
    let mut worker = Worker::connect(&world.rabbitmq_url).await;
    let executions: Vec<i64> = worker.take_many(11).await.iter().map(crate::common::worker::Taken::execution).collect();
    let mut ordered = executions.clone();
    ordered.sort_unstable();
    ordered.dedup();
    assert_eq!(executions, ordered, "each once, in the order of the requests");
    let queued = world.phase("sx-9", "Queued").await;
    assert_eq!(condition(&queued, "Published"), Some(("True", "Confirmed")));
    controller.ready().await;
}

#[tokio::test]
async fn a_message_whose_confirm_was_lost_goes_out_again_with_the_same_id_and_one_row() {
    let world = World::new("broker-confirm-lost").await;
    let mut worker = world.worker().await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    controller.ready().await;
    controller.logged("connected to the broker").await;
    proxy.set(Mode::SwallowAnswers);
    world.create("x", update()).await;
    let first = worker.take().await;
    // Published, not marked: die here.
    assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE published_at IS NULL").await, 1);
    controller.kill().await;

    let _controller = world.controller().await;
    let second = worker.take().await;
    assert_eq!((second.message_id(), &second.text), (first.message_id(), &first.text));
    world.phase("x", "Queued").await;
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 1);
}

#[tokio::test]
async fn a_report_on_a_message_whose_confirm_was_lost_stops_the_second_copy() {
    let world = World::new("broker-report-marks").await;
    let mut worker = world.worker().await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    controller.logged("connected to the broker").await;
    proxy.set(Mode::SwallowAnswers);
    world.create("x", update()).await;
    worker.take().await;
    controller.kill().await;
    world.sql("UPDATE sync_executions SET status = 'running'").await;

    let _controller = world.controller().await;
    world.phase("x", "Running").await;
    world.sql("UPDATE sync_executions SET status = 'success', claimed_until = now() - interval '1 minute'").await;
    world.phase("x", "Succeeded").await;
    assert!(worker.take_within(Duration::from_secs(1)).await.is_none(), "who reports has the message");
}

#[tokio::test]
async fn a_confirm_that_never_comes_is_not_waited_for_for_ever() {
    let world = World::new("broker-silent").await;
    let mut worker = world.worker().await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    controller.ready().await;
    controller.logged("connected to the broker").await;
    proxy.set(Mode::SwallowAll);
    world.create("x", update()).await;
    world.condition("x", "Published", "False", "BrokerUnavailable").await;
    proxy.set(Mode::Pass);
    proxy.cut();
    worker.take().await;
    world.phase("x", "Queued").await;
}

#[tokio::test]
async fn a_returned_message_is_not_published_and_goes_out_once_the_queue_is_back() {
    let world = World::new("broker-unroutable").await;
    let controller = world.controller().await;
    controller.logged("connected to the broker").await;
    world.manage(Method::DELETE, &format!("queues/{}/{QUEUE}", world.name), None).await;
    for number in 0..20 {
        world.create(&format!("sx-{number}"), update()).await;
    }
    eventually("returned messages", async || {
        (controller.metric(r#"sync_operator_publishes_total{outcome="Unroutable"}"#).await >= 1.0).then_some(())
    })
    .await;
    // The relay declares the queue again by itself; whoever is returned comes again.
    let mut worker = world.worker().await;
    let mut ids: Vec<String> = worker.take_many(20).await.iter().map(crate::common::worker::Taken::message_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    world.phase("sx-19", "Queued").await;
}

#[tokio::test]
async fn a_refused_message_says_so_and_goes_out_when_there_is_room() {
    let world = World::new("broker-rejected").await;
    let controller = world.controller().await;
    controller.logged("connected to the broker").await;
    let policy = format!("policies/{}/full", world.name);
    let full = json!({"pattern": "^ingest\\.pncp$", "apply-to": "queues", "definition": {"max-length": 1, "overflow": "reject-publish"}});
    world.manage(Method::PUT, &policy, Some(full)).await;
    eventually("the policy on the queue", async || {
        let queue = world.manage(Method::GET, &format!("queues/{}/{QUEUE}", world.name), None).await;
        queue.contains("reject-publish").then_some(())
    })
    .await;
    world.create("first", update()).await;
    world.phase("first", "Queued").await;
    world.create("second", update()).await;
    let refused = world.condition("second", "Published", "False", "Rejected").await;
    assert_eq!(refused.phase.unwrap().as_str(), "Pending");
    world.manage(Method::DELETE, &policy, None).await;
    world.phase("second", "Queued").await;
    world.worker().await.take_many(2).await;
    Fault {
        row: "R5",
        fault: "queue full: the broker refuses (basic.nack)",
        injected: "a policy with max-length 1 and overflow reject-publish, taken away later",
        asserted: "the reason Rejected is on the object; it goes out once there is room (I2)",
    }
    .held("refused, then published", 0);
}

#[tokio::test]
async fn a_queue_that_an_administrator_made_with_arguments_is_used_as_it_is() {
    let world = World::new("broker-arguments").await;
    let queue = format!("queues/{}/{QUEUE}", world.name);
    world.manage(Method::PUT, &queue, Some(json!({"durable": true, "arguments": {"x-max-priority": 3}}))).await;
    let _controller = world.controller().await;
    world.create("x", update()).await;
    world.phase("x", "Queued").await;
}

#[tokio::test]
async fn the_worker_declares_its_queue_before_us_or_after_us() {
    let world = World::new("broker-declare").await;
    let before = world.worker().await;
    let _controller = world.controller().await;
    let mut after = world.worker().await;
    drop(before);
    world.create("x", update()).await;
    after.take().await;
    Fault {
        row: "R8",
        fault: "the worker declares the queue before us, or after us",
        injected: "two workers, one connected before the first start of the operator, one after",
        asserted: "no 406 PRECONDITION_FAILED on either side, the message comes",
    }
    .held("both declared it", 0);
}
