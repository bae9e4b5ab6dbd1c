//! The release before this one and this one: beside each other on one database, and one after the other by Helm, with executions
//! in flight all the time.

use std::{path::Path, time::Duration};

use crate::common::{
    helm::CHART,
    invariants::{check, work},
    node::Images,
    objects::{backfill, update},
    previous,
    release::Release,
    world::World,
};

/// Requests made while Helm replaces one release by another, and back.
const COUNT: i64 = 120;

#[tokio::test]
async fn beside_the_previous_release_on_one_database_nothing_is_lost_or_doubled() {
    let old = previous::program();
    let world = World::with_empty_database("side-by-side").await;
    let settings = world.settings();
    let migrated = settings.run_of(&old, &["migrate", "up"]).await;
    assert_eq!(migrated.code, Some(0), "{}", migrated.err);
    let (before, api_before) = (settings.start_of(&old, "controller"), settings.start_of(&old, "api"));
    before.ready().await;
    let mut worker = world.worker().await;
    for number in 0..10 {
        world.create(&format!("before-{number}"), backfill()).await;
    }

    settings.succeed(&["migrate", "up"]).await;
    let (after, api_after) = (world.controller().await, world.api().await);
    for number in 0..10 {
        world.create(&format!("both-{number}"), update()).await;
    }
    // The old one leads; its end hands over to the new one.
    assert!(before.terminate().await.0.success());
    for number in 0..10 {
        world.create(&format!("after-{number}"), backfill()).await;
    }
    let mut taken = work(&world, &mut worker, 30).await;
    for api in [&api_before, &api_after] {
        let history = api.get("/sync/history?limit=1").await;
        assert_eq!((history["total_count"].as_i64(), history["success_count"].as_i64()), (Some(30), Some(30)), "{history}");
    }

    // And back: the old one's migrations are content, and it leads again.
    after.kill().await;
    let migrated = settings.run_of(&old, &["migrate", "up"]).await;
    assert_eq!(migrated.code, Some(0), "{}", migrated.err);
    let back = settings.start_of(&old, "controller");
    back.ready().await;
    world.create("back", update()).await;
    taken.extend(work(&world, &mut worker, 31).await);
    check(&world, 31, &taken).await;
}

#[tokio::test]
async fn upgraded_rolled_back_and_upgraded_again_with_executions_in_flight_it_loses_none() {
    let images = Images::from([("sync-operator:previous".to_owned(), previous::program())]);
    let release = Release::place("upgrade", images).await;
    let world = &release.world;
    let with_tag = |tag: &str| [Release::values(), vec![format!("image.tag={tag}")]].concat();
    release.deploy("install", &previous::chart(), &with_tag("previous")).await.unwrap();
    let mut worker = world.worker().await;

    let feed = async {
        for number in 0..COUNT {
            world.create(&format!("sx-{number}"), if number % 2 == 0 { update() } else { backfill() }).await;
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    };
    let changes = async {
        release.deploy("upgrade", Path::new(CHART), &Release::values()).await.unwrap();
        release.helm(&["rollback", "sync-operator", "1", "--wait", "--timeout", "90s"]).await.unwrap();
        release.deploy("upgrade", Path::new(CHART), &Release::values()).await.unwrap();
    };
    let ((), (), taken) = tokio::join!(feed, changes, work(world, &mut worker, COUNT));
    check(world, usize::try_from(COUNT).unwrap(), &taken).await;
    for pod in release.node.all() {
        assert_eq!(pod.restarts(), 0, "{} {}", pod.name, pod.log("controller"));
    }
}
