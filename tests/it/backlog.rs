//! Many batches that wait: the next is claimed while one is published, and nothing is lost, doubled or left claimed by that.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::common::{
    eventually,
    proxy::{Mode, Proxy},
    worker::{Taken, second_copies},
    world::World,
};

/// Rows of requests at once. Their objects are not there, which is noticed a minute after the start at the soonest.
async fn record(world: &World, count: usize) {
    let sql = format!(
        "INSERT INTO sync_executions (mode, request_uid, namespace, name)
         SELECT 'update', gen_random_uuid(), '{}', 'row-' || n FROM generate_series(1, {count}) AS n",
        world.name
    );
    sqlx::query(AssertSqlSafe(sql)).execute(&world.database).await.unwrap();
}

#[tokio::test]
async fn many_batches_go_out_in_the_order_of_their_requests_and_each_message_once() {
    let world = World::new("backlog-order").await;
    let mut worker = world.worker().await;
    let controller = world.controller().await;
    controller.logged("connected to the broker").await;
    record(&world, 1_100).await;
    let taken: Vec<i64> = worker.take_many(1_100).await.iter().map(Taken::execution).collect();
    let mut ordered = taken.clone();
    ordered.sort_unstable();
    ordered.dedup();
    assert_eq!(taken, ordered);
    assert!(worker.take_within(Duration::from_secs(1)).await.is_none(), "a message came twice");
    eventually("all marked", async || (world.unpublished().await == 0).then_some(())).await;
    assert_eq!(world.claimed().await, 0);
}

#[tokio::test]
async fn asked_to_end_in_the_middle_it_publishes_what_it_claimed_and_leaves_no_claim() {
    let world = World::new("backlog-end").await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    controller.logged("connected to the broker").await;
    // A batch takes a while, so that there is a middle.
    proxy.set(Mode::Delay(Duration::from_millis(100)));
    record(&world, 4_000).await;
    eventually("the first mark", async || (world.unpublished().await < 4_000).then_some(())).await;
    let (status, took) = controller.terminate().await;
    assert!(status.success(), "{status}");
    assert!(took < Duration::from_secs(30), "{took:?}: longer than a Pod is given to end");
    let left = world.unpublished().await;
    assert!(left > 0, "it was not the middle");
    assert_eq!(world.claimed().await, 0, "whoever leads next would have to wait for these claims to run out");
    let taken = world.worker().await.take_rest().await;
    assert_eq!(i64::try_from(taken.len()).unwrap(), 4_000 - left, "each that is marked was published once, and no other");
    assert_eq!(second_copies(&taken), 0);
}

#[tokio::test]
async fn while_the_queue_is_full_nothing_stays_claimed_that_would_be_late_when_there_is_room() {
    let world = World::new("backlog-full").await;
    let full = json!({"pattern": "^ingest\\.pncp$", "apply-to": "queues", "definition": {"max-length": 0, "overflow": "reject-publish"}});
    world.manage(Method::PUT, &format!("policies/{}/full", world.name), Some(full)).await;
    let controller = world.controller().await;
    controller.logged("connected to the broker").await;
    record(&world, 1_000).await;
    eventually("refused, and no claim between two tries", async || {
        let refused = world.number("SELECT count(*) FROM sync_executions WHERE publish_problem = 'Rejected'").await;
        (refused >= 200 && world.claimed().await == 0).then_some(())
    })
    .await;
}
