//! The life of an object: deleted before and after publishing, re-created under the same name, deadline, time to live.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::common::{
    eventually,
    faults::Fault,
    objects::{backfill, condition, update},
    proxy::{Mode, Proxy},
    world::World,
};

fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

/// A world whose controller reaches the broker through a proxy that refuses: requests are recorded, none is published.
async fn world_without_broker(test: &str) -> (World, Proxy, crate::common::program::Program) {
    let world = World::new(test).await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    proxy.set(Mode::Refuse);
    let controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    controller.logged("leading").await;
    (world, proxy, controller)
}

#[tokio::test]
async fn deleted_before_it_is_published_it_is_cancelled_and_never_published() {
    let (world, proxy, _controller) = world_without_broker("objects-deleted").await;
    world.create("x", update()).await;
    world.condition("x", "Published", "False", "BrokerUnavailable").await;
    world.delete("x").await;
    eventually("the row to be cancelled", async || {
        (world.number("SELECT count(*) FROM sync_executions WHERE status = 'cancelled' AND finish_reason = 'ObjectDeleted'").await == 1)
            .then_some(())
    })
    .await;
    proxy.set(Mode::Pass);
    world.create("y", update()).await;
    let mut worker = world.worker().await;
    assert_eq!(worker.take().await.execution(), world.number("SELECT id FROM sync_executions WHERE name = 'y'").await);
    assert!(worker.take_within(Duration::from_millis(300)).await.is_none());
}

#[tokio::test]
async fn deleted_while_the_operator_was_down_it_is_cancelled_before_anything_is_published() {
    let (world, _proxy, controller) = world_without_broker("objects-deleted-down").await;
    for name in ["gone", "kept", "replaced"] {
        world.create(name, update()).await;
        world.condition(name, "Published", "False", "BrokerUnavailable").await;
    }
    controller.kill().await;
    world.delete("gone").await;
    world.delete("replaced").await;
    world.create("replaced", update()).await;

    let _controller = world.controller().await;
    world.phase("replaced", "Queued").await;
    world.phase("kept", "Queued").await;
    assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE status = 'cancelled'").await, 2);
    let mut worker = world.worker().await;
    let taken = worker.take_many(2).await;
    assert_eq!(taken.len(), 2);
    assert!(worker.take_within(Duration::from_millis(300)).await.is_none(), "the deleted ones are never published");
    Fault {
        row: "O1",
        fault: "deleted, or replaced by a namesake, while no operator runs",
        injected: "kill -9 on the operator, then deletes",
        asserted: "the rows of what is gone are cancelled before anything is published",
    }
    .held("two of three waiting objects deleted, one of them made anew", 0);
}

#[tokio::test]
async fn deleted_after_it_was_published_the_record_lives_on_and_takes_the_report() {
    let world = World::new("objects-deleted-late").await;
    let (controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("x", update()).await;
    worker.take().await;
    world.phase("x", "Queued").await;
    world.delete("x").await;
    world.create("after", update()).await;
    world.phase("after", "Queued").await;
    assert_eq!(world.sql("UPDATE sync_executions SET status = 'success', records_processed = 3 WHERE name = 'x'").await, 1);
    assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE name = 'x' AND status = 'success'").await, 1);
    assert!(!controller.log().contains("cannot bring an object up to date"));
}

#[tokio::test]
async fn an_object_kept_by_a_foreign_finalizer_counts_as_deleted() {
    let (world, proxy, _controller) = world_without_broker("objects-finalizer").await;
    world.create("x", update()).await;
    world.condition("x", "Published", "False", "BrokerUnavailable").await;
    let finalizers = |list: Value| Patch::Merge(json!({"metadata": {"finalizers": list}}));
    world.objects().patch("x", &PatchParams::default(), &finalizers(json!(["example.com/hold"]))).await.unwrap();
    world.objects().delete("x", &kube::api::DeleteParams::default()).await.unwrap();
    let shown = world.phase("x", "Cancelled").await;
    assert_eq!(condition(&shown, "Finished"), Some(("True", "ObjectDeleted")));
    proxy.set(Mode::Pass);
    world.objects().patch("x", &PatchParams::default(), &finalizers(Value::Null)).await.unwrap();
    world.create("y", update()).await;
    world.phase("y", "Queued").await;
    assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE published_at IS NOT NULL").await, 1);
    Fault {
        row: "O1",
        fault: "deleted, but kept by a finalizer of somebody else",
        injected: "a finalizer",
        asserted: "it counts as deleted: cancelled, shown so, never published",
    }
    .held("one object", 0);
}

#[tokio::test]
async fn a_namesake_is_another_request_and_never_shows_the_old_ones_status() {
    let world = World::new("objects-namesake").await;
    let (_controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("x", update()).await;
    let old = worker.take().await.execution();
    world.phase("x", "Queued").await;
    world.delete("x").await;
    world.create("x", backfill()).await;
    let new = worker.take().await.execution();
    assert_ne!(old, new);
    sqlx::query("UPDATE sync_executions SET status = 'error', error_message = 'old' WHERE id = $1")
        .bind(old)
        .execute(&world.database)
        .await
        .unwrap();
    sqlx::query("UPDATE sync_executions SET status = 'success' WHERE id = $1").bind(new).execute(&world.database).await.unwrap();
    let shown = world.phase("x", "Succeeded").await;
    assert_eq!((shown.execution_id, shown.error), (Some(new.to_string()), None));
    assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE name = 'x'").await, 2);
}

#[tokio::test]
async fn past_its_deadline_it_fails_whether_it_waits_for_the_broker_or_for_the_worker() {
    let (world, _proxy, _controller) = world_without_broker("objects-deadline").await;
    world.create("waits-for-broker", with(update(), "activeDeadlineSeconds", json!(2))).await;
    let failed = world.phase("waits-for-broker", "Failed").await;
    assert_eq!(condition(&failed, "Failed"), Some(("True", "DeadlineExceeded")));
    assert!(failed.error.unwrap().contains("activeDeadlineSeconds (2 s)"));

    let world = World::new("objects-deadline-run").await;
    let (_controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    world.create("runs", with(update(), "activeDeadlineSeconds", json!(2))).await;
    let id = worker.take().await.execution();
    world.sql("UPDATE sync_executions SET records_processed = 4").await;
    let failed = world.phase("runs", "Failed").await;
    assert_eq!(failed.records_processed, Some(4));
    let (code, _) = api.call(reqwest::Method::PATCH, &format!("/sync/executions/{id}"), Some(json!({"status": "success"}))).await;
    assert_eq!(code, 409, "the end is final");
}

#[tokio::test]
async fn after_its_time_to_live_the_object_goes_and_the_record_stays() {
    let world = World::new("objects-ttl").await;
    let (_controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("short", with(update(), "ttlSecondsAfterFinished", json!(1))).await;
    world.create("long", with(update(), "ttlSecondsAfterFinished", json!(3600))).await;
    world.create("endless", update()).await;
    worker.take_many(3).await;
    world.sql("UPDATE sync_executions SET status = 'success'").await;
    let gone = async |name: &str| {
        eventually(&format!("{name} to be deleted"), async || world.objects().get_opt(name).await.unwrap().is_none().then_some(())).await;
    };
    gone("short").await;
    world.phase("long", "Succeeded").await;
    let shorter = Patch::Merge(json!({"spec": {"ttlSecondsAfterFinished": 0}}));
    world.objects().patch("long", &PatchParams::default(), &shorter).await.unwrap();
    gone("long").await;
    world.phase("endless", "Succeeded").await;
    assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE status = 'success'").await, 3);
}

#[tokio::test]
async fn a_window_that_the_workers_clock_repeats_fails_with_the_remedy_and_is_never_published() {
    let world = World::new("objects-ambiguous").await;
    let _controller = world.controller().await;
    let window = json!({"start": "2019-02-10T00:00:00Z", "end": "2019-02-17T02:30:00Z"});
    world.create("x", json!({"mode": "backfill", "window": window})).await;
    let failed = world.phase("x", "Failed").await;
    assert_eq!(condition(&failed, "Failed"), Some(("True", "AmbiguousLocalTime")));
    assert_eq!(condition(&failed, "Published"), Some(("False", "NeverPublished")));
    assert!(failed.error.unwrap().contains("choose a bound outside of the repeated hour"));
}

#[tokio::test]
async fn a_burst_is_recorded_in_batches_and_costs_at_most_three_writes_an_object() {
    let world = World::new("objects-burst").await;
    // Long enough that a slow machine still has the confirm within the time in which changes are gathered.
    let controller = world.settings().with("STATUS_GATHER_MILLISECONDS", 2000).start("controller");
    let mut worker = world.worker().await;
    controller.logged("leading").await;
    let created = (0..300).map(|number| {
        let world = &world;
        async move { world.create(&format!("sx-{number}"), update()).await }
    });
    futures::future::join_all(created).await;
    worker.take_many(300).await;
    world.sql("UPDATE sync_executions SET status = 'success'").await;
    eventually("all to be shown", async || {
        let list = world.objects().list(&kube::api::ListParams::default().fields("status.phase=Succeeded")).await.unwrap();
        (list.items.len() == 300).then_some(())
    })
    .await;
    let writes = controller.metric(r#"sync_operator_status_writes_total{outcome="written"}"#).await;
    assert!((300.0..=600.0).contains(&writes), "{writes} status writes for 300 objects");
    let asked = controller.metric("sync_operator_ensure_batch_size_sum").await;
    let batches = controller.metric("sync_operator_ensure_batch_size_count").await;
    assert!(asked >= 300.0 && batches < asked, "{asked} questions in {batches} batches");
    let burnt = "SELECT max(id) - count(*) FROM sync_executions";
    assert_eq!(world.number(burnt).await, 0, "no id is burnt");
}
