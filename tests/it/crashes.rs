//! kill -9 and two replicas: whatever dies when, every request has one row, every row one message id, every object its row's
//! end.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::{
    eventually,
    faults::Fault,
    invariants::{check, work, work_within},
    objects::{backfill, update},
    program::Settings,
    proxy::{Mode, Proxy},
    worker::second_copies,
    world::World,
};

#[tokio::test]
async fn killed_between_record_and_publish_it_publishes_once_after_the_restart() {
    let world = World::new("crash-record").await;
    let mut worker = world.worker().await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    controller.ready().await;
    proxy.set(Mode::Refuse);
    proxy.cut();
    for number in 0..5 {
        world.create(&format!("sx-{number}"), backfill()).await;
    }
    eventually("five rows", async || (world.number("SELECT count(*) FROM sync_executions").await == 5).then_some(())).await;
    controller.kill().await;
    assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE published_at IS NULL").await, 5);

    let _controller = world.controller().await;
    let taken = work(&world, &mut worker, 5).await;
    assert_eq!(taken.len(), 5, "each message once");
    check(&world, 5, &taken).await;
}

/// Kills the controller after each of these lifetimes, in milliseconds, while `count` objects come in at a steady rate.
async fn crash_loop(world: World, settings: Settings, count: usize, every: Duration, lifetimes: &[u64], injected: &str) {
    let mut worker = world.worker().await;
    let feed = async {
        let mut tick = tokio::time::interval(every);
        for number in 0..count {
            tick.tick().await;
            let spec = if number % 2 == 0 { update() } else { backfill() };
            world.create(&format!("sx-{number}"), spec).await;
        }
    };
    let kill = async {
        for lifetime in lifetimes {
            let controller = settings.start("controller");
            tokio::time::sleep(Duration::from_millis(*lifetime)).await;
            controller.kill().await;
        }
        settings.start("controller")
    };
    let patience = every * u32::try_from(count).unwrap() * 4 + Duration::from_mins(2);
    let work = work_within(patience, &world, &mut worker, i64::try_from(count).unwrap());
    let ((), _controller, taken) = tokio::join!(feed, kill, work);
    check(&world, count, &taken).await;
    let copies = second_copies(&taken);
    Fault {
        row: "C3",
        fault: "crash loop under load",
        injected,
        asserted: "one row and one message id for each object, every object shows its row's end (I1–I5)",
    }
    .held(&format!("{count} objects"), copies);
}

/// Moments spread over start-up, election and steady work.
const LIFETIMES: [u64; 10] = [300, 900, 2000, 450, 3500, 1500, 250, 2500, 700, 1100];

#[tokio::test]
async fn killed_again_and_again_while_requests_come_in_it_loses_and_doubles_nothing() {
    let injected = "10 times SIGKILL after 0.25 to 3.5 s, at 20 objects a second";
    let world = World::new("crash-loop").await;
    let settings = world.settings().with("LEASE_DURATION_SECONDS", 3);
    crash_loop(world, settings, 200, Duration::from_millis(50), &LIFETIMES, injected).await;
}

#[tokio::test]
#[ignore = "takes more than ten minutes: name it to run it"]
async fn killed_a_hundred_and_fifty_times_at_a_hundred_requests_a_second_it_loses_and_doubles_nothing() {
    let lifetimes: Vec<u64> = LIFETIMES.iter().cycle().take(150).map(|lifetime| lifetime * 3 / 2).collect();
    let injected = "150 times SIGKILL after 0.4 to 5.3 s, 30 a minute for 5 minutes, at 100 objects a second";
    let world = World::new("crash-storm").await;
    // One name for all, as a Pod of a StatefulSet has: none waits for the lease of the one before.
    let settings = world.settings().with("LEASE_IDENTITY", "storm");
    crash_loop(world, settings, 30_000, Duration::from_millis(10), &lifetimes, injected).await;
}

#[tokio::test]
async fn two_replicas_share_the_work_of_one_and_the_second_takes_over_when_the_leader_is_killed() {
    let world = World::new("crash-leader").await;
    let mut worker = world.worker().await;
    let first = world.controller().await;
    first.logged("leading").await;
    let second = world.controller().await;
    second.logged("standing by").await;
    for number in 0..10 {
        world.create(&format!("sx-{number}"), update()).await;
    }
    first.kill().await;
    for number in 10..20 {
        world.create(&format!("sx-{number}"), update()).await;
    }
    let taken = work(&world, &mut worker, 20).await;
    second.logged("\"leading\"").await;
    check(&world, 20, &taken).await;
}

#[tokio::test]
async fn a_leader_that_was_frozen_past_its_lease_does_no_harm_when_it_wakes() {
    let world = World::new("crash-frozen").await;
    let mut worker = world.worker().await;
    let first = world.settings().with("LEASE_DURATION_SECONDS", 3).start("controller");
    first.logged("leading").await;
    let second = world.settings().with("LEASE_DURATION_SECONDS", 3).start("controller");
    second.logged("standing by").await;
    world.create("sx-0", update()).await;
    world.phase("sx-0", "Queued").await;
    first.signal("STOP");
    world.create("sx-1", backfill()).await;
    second.logged("\"leading\"").await;
    let taken = work(&world, &mut worker, 2).await;
    for name in ["sx-0", "sx-1"] {
        world.phase(name, "Succeeded").await;
    }
    let versions = [world.resource_version("sx-0").await, world.resource_version("sx-1").await];
    first.signal("CONT");
    first.logged("leadership ended").await;
    // What was under way is ended first.
    eventually("it to lead no more", async || (first.metric("sync_operator_leader").await < 1.0).then_some(())).await;
    check(&world, 2, &taken).await;
    assert_eq!([world.resource_version("sx-0").await, world.resource_version("sx-1").await], versions);
    Fault {
        row: "L2",
        fault: "leader frozen past its lease, awake again when another leads",
        injected: "SIGSTOP of the leader until the standby has done its work, then SIGCONT",
        asserted: "the old one stops leading and writes nothing: objects keep their resourceVersion (I1–I5)",
    }
    .held("both objects untouched by the old leader", second_copies(&taken));
}

#[tokio::test]
async fn a_planned_end_hands_over_at_once_and_finishes_what_is_under_way() {
    let world = World::new("crash-handover").await;
    let mut worker = world.worker().await;
    let first = world.controller().await;
    first.logged("leading").await;
    let second = world.controller().await;
    second.logged("standing by").await;
    for number in 0..30 {
        world.create(&format!("sx-{number}"), update()).await;
    }
    let (status, _) = first.terminate().await;
    assert!(status.success(), "{status}");
    let released = Instant::now();
    second.logged("\"leading\"").await;
    assert!(released.elapsed() < Duration::from_secs(3), "half a lease: {:?}", released.elapsed());
    let taken = work(&world, &mut worker, 30).await;
    assert_eq!(taken.len(), 30, "a drained leader leaves no message to be sent again");
    check(&world, 30, &taken).await;
}

#[tokio::test]
async fn two_leaders_at_once_are_kept_apart_by_the_database() {
    let world = World::new("crash-two-leaders").await;
    let mut worker = world.worker().await;
    // Two leases: both lead, as if the election had failed.
    let first = world.settings().with("LEASE_NAME", "one").start("controller");
    let second = world.settings().with("LEASE_NAME", "two").start("controller");
    first.logged("\"leading\"").await;
    second.logged("\"leading\"").await;
    for number in 0..40 {
        let object = json!({"mode": "update", "reason": format!("{number}")});
        world.create(&format!("sx-{number}"), object).await;
    }
    let taken = work(&world, &mut worker, 40).await;
    assert_eq!(taken.len(), 40, "no message twice without a crash");
    check(&world, 40, &taken).await;
    Fault {
        row: "L1",
        fault: "two replicas that both lead",
        injected: "a lease of its own for each",
        asserted: "one row for each object, each message once, every object shows its row's end (I1–I5)",
    }
    .held("40 objects, 40 messages", 0);
}
