//! Rows O1, O2, O3 and O5 of the fault matrix: objects that go at any moment, come again, lose their namespace, or are many and
//! known. More of O1 is in `objects.rs`, O6 in `lost_record.rs`, O7 in `admission.rs`.

use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams, PropagationPolicy},
};
use serde_json::json;
use sync_operator::crd::SyncExecution;

use crate::common::{
    eventually,
    faults::Fault,
    invariants::check,
    objects::{backfill, condition, update},
    proxy::{Mode, Proxy},
    worker::second_copies,
    world::World,
};

#[tokio::test]
async fn deleted_in_any_state_and_by_any_policy_the_record_stays_and_nobody_looks_for_the_object() {
    let world = World::new("o1").await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    controller.ready().await;
    let mut worker = world.worker().await;
    let policies = [PropagationPolicy::Background, PropagationPolicy::Foreground, PropagationPolicy::Orphan];
    let named = |state: &str, policy: usize| format!("{state}-{policy}");
    for state in ["queued", "running", "succeeded", "failed"] {
        for policy in 0..policies.len() {
            world.create(&named(state, policy), update()).await;
        }
    }
    worker.take_many(12).await;
    world.sql("UPDATE sync_executions SET records_processed = 1 WHERE name LIKE 'running-%'").await;
    world.sql("UPDATE sync_executions SET status = 'success' WHERE name LIKE 'succeeded-%'").await;
    world.sql("UPDATE sync_executions SET status = 'error' WHERE name LIKE 'failed-%'").await;
    proxy.set(Mode::Refuse);
    proxy.cut();
    for policy in 0..policies.len() {
        world.create(&named("pending", policy), update()).await;
        world.condition(&named("pending", policy), "Published", "False", "BrokerUnavailable").await;
    }
    let states = ["pending", "queued", "running", "succeeded", "failed"];
    for state in states {
        for (number, policy) in policies.iter().enumerate() {
            let name = named(state, number);
            let phase = format!("{}{}", state[..1].to_uppercase(), &state[1..]);
            world.phase(&name, &phase).await;
            let params = DeleteParams { propagation_policy: Some(policy.clone()), ..DeleteParams::default() };
            world.objects().delete(&name, &params).await.unwrap();
        }
    }
    // With the policies Foreground and Orphan the garbage collector has a word before the object goes.
    eventually("all objects to be gone", async || {
        world.objects().list(&ListParams::default()).await.unwrap().items.is_empty().then_some(())
    })
    .await;
    let cancelled = "SELECT count(*) FROM sync_executions WHERE name LIKE 'pending-%' AND status = 'cancelled'";
    eventually("what was not published to be cancelled", async || (world.number(cancelled).await == 3).then_some(())).await;
    assert_eq!(world.sql("UPDATE sync_executions SET status = 'success' WHERE status = 'running'").await, 6, "late reports are taken");
    proxy.set(Mode::Pass);
    world.create("after", update()).await;
    world.phase("after", "Queued").await;
    assert_eq!(worker.take().await.execution(), world.number("SELECT id FROM sync_executions WHERE name = 'after'").await);
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 16, "the record of all stays");
    assert!(!controller.log().contains("cannot bring an object up to date"), "nobody looks for what is gone");
    Fault {
        row: "O1",
        fault: "deleted while pending, queued, running, succeeded or failed",
        injected: "deletes with the policies Background, Foreground and Orphan",
        asserted: "the record stays; what was not published is cancelled and never goes out; late reports are taken; no error is repeated",
    }
    .held("15 objects deleted in 5 states", 0);
}

#[tokio::test]
async fn a_namesake_made_while_the_operator_was_paused_is_another_request() {
    let world = World::new("o2").await;
    // The term outlives the pause: what it remembers of the old object must not count for the new one.
    let controller = world.settings().with("LEASE_DURATION_SECONDS", 300).start("controller");
    controller.ready().await;
    let mut worker = world.worker().await;
    world.create("x", update()).await;
    let old = worker.take().await.execution();
    world.phase("x", "Queued").await;

    controller.signal("STOP");
    world.delete("x").await;
    world.create("x", backfill()).await;
    sqlx::query("UPDATE sync_executions SET status = 'error', error_message = 'old' WHERE id = $1")
        .bind(old)
        .execute(&world.database)
        .await
        .unwrap();
    controller.signal("CONT");
    let new = worker.take().await.execution();
    assert_ne!(old, new);
    let queued = world.phase("x", "Queued").await;
    assert_eq!((queued.execution_id, queued.error), (Some(new.to_string()), None));
    sqlx::query("UPDATE sync_executions SET status = 'success' WHERE id = $1").bind(new).execute(&world.database).await.unwrap();
    let shown = world.phase("x", "Succeeded").await;
    assert_eq!((shown.execution_id, shown.error), (Some(new.to_string()), None), "the old one's end never lands on it");
    assert_eq!(world.number("SELECT count(DISTINCT request_uid) FROM sync_executions WHERE name = 'x'").await, 2, "I1");
    assert!(!controller.log().contains("leadership ended"), "the same term");
    Fault {
        row: "O2",
        fault: "deleted and created again under the same name, both unseen",
        injected: "SIGSTOP and SIGCONT on the operator",
        asserted: "a row of its own (I1); the old one's end never shows on the new object (I4, I5)",
    }
    .held("two rows, two messages", 0);
}

#[tokio::test]
async fn a_namespace_that_is_deleted_takes_its_objects_and_leaves_their_record() {
    let world = World::new("o3").await;
    let doomed = format!("{}-b", world.name);
    let namespaces = Api::<Namespace>::all(world.client.clone());
    let new = Namespace { metadata: ObjectMeta { name: Some(doomed.clone()), ..ObjectMeta::default() }, ..Namespace::default() };
    namespaces.create(&PostParams::default(), &new).await.unwrap();
    let objects: Api<SyncExecution> = Api::namespaced(world.client.clone(), &doomed);
    let create = async |name: &str| {
        let object = serde_json::from_value(json!({"metadata": {"name": name}, "spec": update()})).unwrap();
        objects.create(&PostParams::default(), &object).await
    };
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let settings = world.settings().with("RABBITMQ_URL", &url).with("WATCH_NAMESPACE", format!("{},{doomed}", world.name));
    let controller = settings.start("controller");
    controller.ready().await;
    let mut worker = world.worker().await;
    create("published").await.unwrap();
    worker.take().await;
    // The worker has it sooner than the relay has its confirm.
    let published = "SELECT count(*) FROM sync_executions WHERE published_at IS NOT NULL";
    eventually("it to be marked", async || (world.number(published).await == 1).then_some(())).await;
    proxy.set(Mode::Refuse);
    proxy.cut();
    create("waiting").await.unwrap();
    eventually("both to be recorded", async || (world.number("SELECT count(*) FROM sync_executions").await == 2).then_some(())).await;

    namespaces.delete(&doomed, &DeleteParams::default()).await.unwrap();
    let refused = eventually("new objects to be refused", async || create("late").await.err()).await;
    assert!(refused.to_string().contains("terminated") || refused.to_string().contains("not found"), "{refused}");
    eventually("the namespace to be gone", async || namespaces.get_opt(&doomed).await.unwrap().is_none().then_some(())).await;
    let cancelled = "SELECT count(*) FROM sync_executions WHERE name = 'waiting' AND status = 'cancelled'";
    eventually("what was not published to be cancelled", async || (world.number(cancelled).await == 1).then_some(())).await;
    let late = "UPDATE sync_executions SET status = 'success' WHERE name = 'published'";
    assert_eq!(world.sql(late).await, 1, "a late report is taken");
    proxy.set(Mode::Pass);
    world.create("elsewhere", update()).await;
    let shown = world.phase("elsewhere", "Queued").await;
    assert_eq!(condition(&shown, "Published"), Some(("True", "Confirmed")), "the other namespace is served");
    assert_eq!(worker.take().await.body["request_id"], json!(shown.execution_id.unwrap()));
    assert!(!controller.log().contains("cannot bring an object up to date"), "nobody looks for what is gone");
    controller.ready().await;
    Fault {
        row: "O3",
        fault: "a watched namespace is deleted",
        injected: "kubectl delete namespace's call; the namespace controller takes the objects",
        asserted: "the record stays; what was not published is cancelled and never goes out; other namespaces are served; no error is repeated",
    }
    .held("one published and one waiting object", 0);
}

#[tokio::test]
async fn of_many_objects_at_the_start_only_those_that_are_not_known_are_published() {
    const HALF: usize = 1000;
    let world = World::new("o5").await;
    let create = async |from: usize| {
        let named = (from..from + HALF).map(|number| format!("sx-{number}"));
        let created = stream::iter(named).map(|name| {
            let world = &world;
            async move { world.create(&name, update()).await }
        });
        created.buffer_unordered(16).count().await
    };
    let mut worker = world.worker().await;
    let controller = world.controller().await;
    create(0).await;
    let known = worker.take_many(HALF).await;
    let unshown = || async {
        let all = world.objects().list(&ListParams::default()).await.unwrap();
        all.items.iter().filter(|object| object.status.as_ref().is_none_or(|status| status.publish_time.is_none())).count()
    };
    eventually("the first half to be shown as published", async || (unshown().await == 0).then_some(())).await;
    controller.terminate().await;
    create(HALF).await;

    let started = Instant::now();
    let _controller = world.controller().await;
    let fresh = worker.take_many(HALF).await;
    let published = started.elapsed();
    eventually("the second half to be shown as published", async || (unshown().await == 0).then_some(())).await;
    let shown = started.elapsed();
    assert!(worker.take_within(Duration::from_secs(1)).await.is_none(), "no known one is published");
    world.sql("UPDATE sync_executions SET status = 'success'").await;
    let taken: Vec<_> = known.into_iter().chain(fresh).collect();
    check(&world, 2 * HALF, &taken).await;
    assert_eq!(second_copies(&taken), 0);
    Fault {
        row: "O5",
        fault: "2,000 objects at the start, half of them known",
        injected: "the operator is ended, 1,000 objects are created, it is started again",
        asserted: "one row per object (I1), one message for each new one and none for a known one (I3), all shown (I5)",
    }
    .held(
        &format!("the new half was published {:.1} s and shown {:.1} s after the start", published.as_secs_f64(), shown.as_secs_f64()),
        0,
    );
}
