//! PostgreSQL, RabbitMQ and the API server all in trouble, by a schedule that a seed makes; then quiet. Afterwards all is as if
//! nothing had been, and the operator holds no more than before.
//!
//! `SYNC_STORM_SEED` repeats a schedule, `SYNC_STORM_SECONDS` makes it longer.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use reqwest::Method;
use serde_json::json;

use crate::common::{
    eventually,
    faults::Fault,
    invariants::{WRONG_COUNTERS, check},
    objects::{backfill, update},
    program::{Holds, Program},
    proxy::{Mode, Proxy},
    worker::{Taken, Worker, second_copies},
    world::World,
};

/// Objects before the storm, so that pools and caches are as large as they get.
const WARM_UP: usize = 40;
/// How long all may take to end once the storm is over.
const AFTERWARDS: Duration = Duration::from_mins(2);
/// Connections to the database that the operator may have, besides the one that listens.
const POOL: i64 = 5;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Breaks one proxy after the other, or two at once, until the time is over; how many faults there were.
async fn storm(proxies: &[Proxy], seed: u64, length: Duration) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let until = Instant::now() + length;
    let mut faults = 0;
    while Instant::now() < until {
        let first = random.random_range(0..proxies.len());
        let second = random.random_range(0..proxies.len());
        for proxy in [first, second].map(|number| &proxies[number]) {
            faults += 1;
            match random.random_range(0..6) {
                0 => proxy.cut(),
                1 => proxy.reset(),
                2 => {
                    proxy.set(Mode::Refuse);
                    proxy.cut();
                }
                3 => proxy.set(Mode::SwallowAll),
                4 => proxy.set(Mode::SwallowAnswers),
                _ => proxy.set(Mode::Delay(Duration::from_millis(random.random_range(10..300)))),
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(200..3000))).await;
        for proxy in [first, second].map(|number| &proxies[number]) {
            proxy.set(Mode::Pass);
            // A stream that lost bytes is no use to anybody.
            proxy.reset();
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..2000))).await;
    }
    faults
}

/// Takes messages and reports on them by SQL and AMQP in turn, until all of `count` rows have ended.
async fn work_both_ways(world: &World, worker: &mut Worker, patience: Duration, count: impl Fn() -> Option<i64>) -> Vec<Taken> {
    let deadline = Instant::now() + patience;
    let mut taken: Vec<Taken> = Vec::new();
    let ended = "SELECT count(*) FROM sync_executions WHERE status = 'success'";
    while count().is_none() || world.number(ended).await < count().unwrap() {
        assert!(Instant::now() < deadline, "I2: not all executions ended");
        let Some(message) = worker.take_within(Duration::from_millis(200)).await else { continue };
        let id = message.execution();
        if taken.len().is_multiple_of(2) {
            let end = "UPDATE sync_executions SET status = 'success', records_processed = 1 WHERE id = $1";
            sqlx::query(end).bind(id).execute(&world.database).await.unwrap();
        } else {
            worker.report(&json!({"request_id": id, "status": "success", "records_processed": 1})).await;
        }
        taken.push(message);
    }
    taken
}

/// Asks REST again and again until told to stop; how many answers said 503. None may be another error, or missing.
async fn ask(api: &Program, stop: &AtomicBool) -> usize {
    let mut unavailable = 0;
    while !stop.load(Ordering::Relaxed) {
        let (code, answer) = api.call(Method::GET, "/sync/status", None).await;
        assert!(code == 200 || (code == 503 && answer["detail"].is_string()), "I7: {code} {answer}");
        unavailable += usize::from(code == 503);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    unavailable
}

/// Sessions at the database that are not the test's own.
async fn sessions(world: &World) -> i64 {
    let all = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'sync-operator%'";
    world.number(all).await
}

#[tokio::test]
async fn after_a_storm_over_everything_nothing_is_lost_doubled_stuck_or_leaked() {
    let (seed, length) = (setting("SYNC_STORM_SEED", rand::random()), Duration::from_secs(setting("SYNC_STORM_SECONDS", 45)));
    println!("SYNC_STORM_SEED={seed} SYNC_STORM_SECONDS={}", length.as_secs());
    let world = World::new("storm").await;
    let (database, database_url) = Proxy::for_url(&world.database_url).await;
    let (broker, broker_url) = Proxy::for_url(&world.rabbitmq_url).await;
    let (kubernetes, kubeconfig) = world.kubeconfig_by_proxy().await;
    let settings = world
        .settings()
        .with("DATABASE_URL", database_url)
        .with("DATABASE_MAX_CONNECTIONS", POOL)
        .with("RABBITMQ_URL", broker_url)
        .with("KUBECONFIG", kubeconfig.display());
    let (controller, api) = (settings.start("controller"), settings.start("api"));
    controller.ready().await;
    api.ready().await;
    let mut worker = world.worker().await;
    for number in 0..WARM_UP {
        world.create(&format!("sx-{number}"), backfill()).await;
    }
    let mut taken = work_both_ways(&world, &mut worker, AFTERWARDS, || Some(i64::try_from(WARM_UP).unwrap())).await;
    check(&world, WARM_UP, &taken).await;
    let before = controller.holds();

    let (over, made) = (AtomicBool::new(false), std::sync::Mutex::new(None));
    let proxies = [database, broker, kubernetes];
    let storm = async {
        let faults = storm(&proxies, seed, length).await;
        over.store(true, Ordering::Relaxed);
        faults
    };
    let feed = async {
        let mut number = WARM_UP;
        while !over.load(Ordering::Relaxed) {
            world.create(&format!("sx-{number}"), if number.is_multiple_of(2) { update() } else { backfill() }).await;
            number += 1;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
        *made.lock().unwrap() = Some(i64::try_from(number).unwrap());
        number
    };
    let working = work_both_ways(&world, &mut worker, length + AFTERWARDS, || *made.lock().unwrap());
    let (faults, count, more, unavailable) = tokio::join!(storm, feed, working, ask(&api, &over));
    taken.extend(more);
    let quiet = Instant::now();
    while let Some(message) = worker.take_within(Duration::from_secs(1)).await {
        taken.push(message);
    }
    check(&world, count, &taken).await;
    let shown = quiet.elapsed();
    assert_eq!(world.number(WRONG_COUNTERS).await, 0, "I8");

    let after = eventually("what the operator holds to be as before", async || {
        let now = controller.holds();
        as_before(before, now).then_some(now)
    })
    .await;
    let open = sessions(&world).await;
    assert!(open <= 2 * (POOL + 1), "I6: {open} sessions of two processes with a pool of {POOL} each");
    let versions = async || {
        let list = world.objects().list(&kube::api::ListParams::default()).await.unwrap();
        list.items.into_iter().map(|object| (object.metadata.name, object.metadata.resource_version)).collect::<Vec<_>>()
    };
    let still = versions().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(versions().await, still, "I5: no more writes once all is shown");
    Fault {
        row: "F1",
        fault: "PostgreSQL, RabbitMQ and the API server flapping, one or two at a time",
        injected: "proxies cut, reset, refuse, swallow and delay by a seeded schedule",
        asserted: "I1–I5 for each object, counters equal a count (I8), REST answers 200 or 503 (I7), descriptors, threads, memory and sessions as before (I6), then no more writes",
    }
    .held(
        &format!(
            "seed {seed}: {faults} faults in {} s, {count} objects, {unavailable} answers 503; all shown {} s after; {} descriptors, {} threads, {} MiB before, {}, {}, {} after",
            length.as_secs(),
            shown.as_secs(),
            before.descriptors,
            before.threads,
            before.memory_kib / 1024,
            after.descriptors,
            after.threads,
            after.memory_kib / 1024,
        ),
        second_copies(&taken),
    );
}

/// Within what pools of connections come and go by. A leak of one for each fault would be many times that.
fn as_before(before: Holds, now: Holds) -> bool {
    now.descriptors <= before.descriptors + 8 && now.threads <= before.threads + 3 && now.memory_kib <= before.memory_kib * 3 / 2
}
