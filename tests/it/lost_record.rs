//! An object whose record is gone, or older than what the object shows: it says so, and nothing is run again by itself.

use std::time::Duration;

use crate::common::{
    eventually,
    faults::Fault,
    objects::{backfill, condition, update},
    program::Program,
    proxy::{Mode, Proxy},
    worker::Worker,
    world::World,
};

/// A new controller that has looked at all `count` objects.
async fn restarted(world: &World, controller: Program, count: f64) -> Program {
    controller.terminate().await;
    let controller = world.controller().await;
    looked(&controller, count).await;
    controller
}

/// Waits until `count` looks at objects came to anything.
async fn looked(controller: &Program, count: f64) {
    eventually("every object to be looked at", async || {
        let mut looks = 0.0;
        for outcome in ["written", "unchanged"] {
            looks += controller.metric(&format!(r#"sync_operator_reconciles_total{{outcome="{outcome}"}}"#)).await;
        }
        (looks >= count).then_some(())
    })
    .await;
}

async fn nothing_runs(worker: &mut Worker) {
    let taken = worker.take_within(Duration::from_secs(3)).await;
    assert!(taken.is_none(), "published again: {taken:?}");
}

/// A look by a new controller that finds nothing to write.
async fn stays_as_it_is(world: &World, controller: Program, names: &[&str]) {
    let mut versions = Vec::new();
    for name in names {
        versions.push(world.resource_version(name).await);
    }
    let controller = restarted(world, controller, f64::from(u32::try_from(names.len()).unwrap())).await;
    assert!(controller.metric(r#"sync_operator_status_writes_total{outcome="written"}"#).await < 0.5, "nothing is written again");
    for (name, version) in names.iter().zip(versions) {
        assert_eq!(world.resource_version(name).await, version, "{name}");
    }
}

#[tokio::test]
async fn a_lost_record_is_shown_on_its_object_and_not_made_again() {
    let world = World::new("lost").await;
    let (controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("queued", backfill()).await;
    worker.take().await;
    world.phase("queued", "Queued").await;
    world.create("done", update()).await;
    worker.take().await;
    world.sql("UPDATE sync_executions SET status = 'success', records_processed = 4 WHERE name = 'done'").await;
    let done = world.phase("done", "Succeeded").await;

    assert_eq!(world.sql("DELETE FROM sync_executions").await, 2);
    let controller = restarted(&world, controller, 2.0).await;
    let queued = world.condition("queued", "Recorded", "False", "RecordLost").await;
    assert_eq!(condition(&queued, "Stalled"), Some(("True", "RecordLost")));
    assert_eq!(condition(&queued, "Published"), Some(("True", "Confirmed")));
    assert_eq!(condition(&queued, "Reconciling"), None);
    assert_eq!((queued.phase.unwrap().as_str(), queued.execution_id.as_deref()), ("Queued", Some("1")));
    let lost = world.condition("done", "Recorded", "False", "RecordLost").await;
    assert_eq!((lost.phase, lost.records_processed, lost.completion_time), (done.phase, Some(4), done.completion_time));
    assert_eq!(condition(&lost, "Complete"), Some(("True", "Succeeded")));
    let warned = world.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"], None);
    assert!(String::from_utf8_lossy(&warned.stdout).contains("RecordLost"), "{warned:?}");

    stays_as_it_is(&world, controller, &["queued", "done"]).await;
    nothing_runs(&mut worker).await;
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 0);
    Fault {
        row: "O6",
        fault: "rows are deleted while their objects are there, then all objects are listed anew",
        injected: "DELETE, restart of the operator",
        asserted: "not recorded and not published again (I1); the objects say RecordLost once and keep what they showed (I4, I5)",
    }
    .held("two objects", 0);
}

#[tokio::test]
async fn an_object_that_never_showed_an_execution_is_recorded_however_old_it_is() {
    let world = World::new("lost-never").await;
    world.create("early", update()).await;
    let (_controller, mut worker) = (world.controller().await, world.worker().await);
    assert_eq!(worker.take().await.execution(), 1);
    world.phase("early", "Queued").await;
}

#[tokio::test]
async fn a_record_put_back_to_an_older_state_changes_only_the_conditions_of_its_object() {
    let world = World::new("behind").await;
    let (controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("restored", backfill()).await;
    worker.take().await;
    world.phase("restored", "Queued").await;
    world.sql("CREATE TABLE backup AS SELECT * FROM sync_executions").await;
    world.sql("UPDATE sync_executions SET records_processed = 9").await;
    world.sql("UPDATE sync_executions SET status = 'success', duration_seconds = 3").await;
    let shown = world.phase("restored", "Succeeded").await;

    controller.terminate().await;
    world.sql("DELETE FROM sync_executions").await;
    world.sql("INSERT INTO sync_executions SELECT * FROM backup").await;
    let controller = world.controller().await;
    let behind = world.condition("restored", "Recorded", "False", "RecordBehind").await;
    assert_eq!(condition(&behind, "Stalled"), Some(("True", "RecordBehind")));
    let mut without = behind.clone();
    without.conditions.clone_from(&shown.conditions);
    assert_eq!(without, shown, "only the conditions differ");
    for kind in ["Published", "Finished", "Complete"] {
        assert_eq!(condition(&behind, kind), condition(&shown, kind), "{kind}");
    }

    stays_as_it_is(&world, controller, &["restored"]).await;
    nothing_runs(&mut worker).await;
    assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE status = 'running'").await, 1, "the record is left alone, too");
}

#[tokio::test]
async fn a_record_put_back_to_before_it_was_published_is_not_published_again_and_no_end_is_taken_back() {
    let world = World::new("behind-unpublished").await;
    let mut worker = world.worker().await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    proxy.set(Mode::Refuse);
    let controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    world.create("restored", update()).await;
    world.condition("restored", "Published", "False", "BrokerUnavailable").await;
    world.sql("CREATE TABLE backup AS SELECT * FROM sync_executions").await;
    proxy.set(Mode::Pass);
    worker.take().await;
    world.sql("UPDATE sync_executions SET status = 'success', records_processed = 4").await;
    let shown = world.phase("restored", "Succeeded").await;

    controller.kill().await;
    world.sql("DELETE FROM sync_executions").await;
    world.sql("INSERT INTO sync_executions SELECT * FROM backup").await;
    let controller = world.controller().await;
    let behind = world.condition("restored", "Recorded", "False", "RecordBehind").await;
    assert_eq!((behind.phase, behind.records_processed), (shown.phase, Some(4)));
    eventually("the row to be put aside", async || {
        (world.number("SELECT count(*) FROM sync_executions WHERE held_at IS NOT NULL").await == 1).then_some(())
    })
    .await;
    nothing_runs(&mut worker).await;

    // Whatever becomes of the row then, the end that was shown stays.
    for _ in 0..5 {
        world.sql("UPDATE sync_executions SET records_processed = records_processed + 1").await;
    }
    world.sql("UPDATE sync_executions SET status = 'error'").await;
    stays_as_it_is(&world, controller, &["restored"]).await;
    assert_eq!(world.phase("restored", "Succeeded").await.completion_time, shown.completion_time);
}
