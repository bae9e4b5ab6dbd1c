//! Wall clocks that are wrong: a lease counts by the changes that a replica sees and by its own monotonic clock, so whatever
//! time a machine believes it is, one leads. Two that lead, and one that was frozen, are in `crashes.rs`.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};

use crate::common::{
    eventually,
    faults::Fault,
    invariants::{check, work},
    objects::update,
    program::Settings,
    world::World,
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.client.clone(), &world.name)
}

/// A lease of another replica whose clock is off by that much.
fn of_another(before: Option<Lease>, off: SignedDuration) -> Lease {
    let now = MicroTime(Timestamp::now() + off);
    let spec = LeaseSpec {
        holder_identity: Some("another".to_owned()),
        lease_duration_seconds: Some(8),
        acquire_time: Some(now.clone()),
        renew_time: Some(now),
        ..LeaseSpec::default()
    };
    let metadata = ObjectMeta { name: Some("sync-operator".to_owned()), ..ObjectMeta::default() };
    Lease { spec: Some(spec), metadata: before.map_or(metadata, |lease| lease.metadata) }
}

#[tokio::test]
async fn a_lease_is_neither_taken_early_nor_left_alone_for_the_time_that_is_written_in_it() {
    let world = World::new("leaders-lease").await;
    let leases = leases(&world);
    let mut lease = leases.create(&PostParams::default(), &of_another(None, -HOUR)).await.unwrap();
    let controller = world.settings().start("controller");
    controller.logged("standing by").await;
    // Renewed for more than its duration, each time as of an hour ago.
    let until = Instant::now() + Duration::from_secs(9);
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(500)).await;
        lease = leases.replace("sync-operator", &PostParams::default(), &of_another(Some(lease), -HOUR)).await.unwrap();
    }
    assert!(!controller.log().contains("\"leading\""), "a lease that is renewed is somebody's, however old it looks");
    // Renewed for the last time, as of in an hour.
    leases.replace("sync-operator", &PostParams::default(), &of_another(Some(lease), HOUR)).await.unwrap();
    let left = Instant::now();
    controller.logged("\"leading\"").await;
    Fault {
        row: "L3",
        fault: "another replica's clock an hour behind, then an hour ahead",
        injected: "a Lease of another holder, renewed with such times",
        asserted: "not taken while it is renewed; taken when it was not renewed for its duration of 8 s, and not an hour later",
    }
    .held(&format!("taken {} s after the last renewal", left.elapsed().as_secs()), 0);
}

/// Settings of a program whose wall clock is as the file says; its monotonic clock is the machine's.
fn with_clock(settings: Settings, file: &std::path::Path) -> Settings {
    let library =
        std::fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok).map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    let library = library.into_iter().find(|path| path.exists()).expect("the Debian package libfaketime is installed");
    settings
        .with("LD_PRELOAD", library.display())
        .with("FAKETIME_TIMESTAMP_FILE", file.display())
        .with("FAKETIME_NO_CACHE", 1)
        .with("FAKETIME_DONT_FAKE_MONOTONIC", 1)
        .with("FAKETIME_DONT_RESET", 1)
}

#[tokio::test]
async fn a_wall_clock_that_jumps_or_runs_at_double_speed_costs_the_leader_nothing() {
    let world = World::new("leaders-clock").await;
    let mut worker = world.worker().await;
    let file = |name: &str| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}.clock", world.name));
    let (own, other) = (file("leader"), file("standby"));
    std::fs::write(&own, "+0").unwrap();
    // Ahead, never behind: the servers' certificates are valid from the moment when these servers were first started.
    std::fs::write(&other, "+30m").unwrap();
    // Long, so that a slow machine loses it as little as a wrong clock.
    let settings = world.settings().with("LEASE_DURATION_SECONDS", 15);
    let first = with_clock(settings.clone(), &own).start("controller");
    first.logged("\"leading\"").await;
    let second = with_clock(settings, &other).start("controller");
    second.logged("standing by").await;
    let lease = async || leases(&world).get("sync-operator").await.unwrap();
    let mut seen = Vec::new();
    for (number, clock) in ["+20m", "+10m", "+0 x2"].into_iter().enumerate() {
        std::fs::write(&own, clock).unwrap();
        world.create(&format!("sx-{number}"), update()).await;
        let before = lease().await.metadata.resource_version;
        let renewed = eventually("the lease to be renewed with the new clock", async || {
            let lease = lease().await;
            (lease.metadata.resource_version != before).then_some(lease.spec.unwrap().renew_time.unwrap().0)
        })
        .await;
        seen.push(renewed.duration_since(Timestamp::now()).as_secs());
    }
    assert!(seen[0] > 900 && (300..900).contains(&seen[1]), "the clock did not move: {seen:?}");
    let taken = work(&world, &mut worker, 3).await;
    check(&world, 3, &taken).await;
    assert_eq!(taken.len(), 3, "each once");
    assert!(!first.log().contains("leadership ended"), "the leader lost its lease");
    assert!(!second.log().contains("\"leading\""), "the standby took it");
    Fault {
        row: "L3",
        fault: "wall clock of the leader 20 min ahead, then back by 10 min, then back and at double speed; that of the standby 30 min ahead",
        injected: "libfaketime below the real program, the monotonic clock left alone",
        asserted: "the leader keeps its lease, the standby does not take it, each message once (I1–I5)",
    }
    .held(&format!("renewed at {seen:?} s from now"), 0);
}
