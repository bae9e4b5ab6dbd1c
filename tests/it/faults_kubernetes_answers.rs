//! Row K2 of the fault matrix: an API server that falls silent without an end.

use std::time::{Duration, Instant};

use reqwest::Method;

use crate::common::{
    faults::Fault,
    objects::update,
    stand_in::{Answer, StandIn},
    world::World,
};

/// How long a silent watch or list may go unnoticed, with the work that follows; on a slow machine.
const NOTICED: Duration = Duration::from_secs(75);

/// Waits until the object has a record.
async fn recorded(world: &World, within: Duration) {
    let deadline = Instant::now() + within;
    while world.number("SELECT count(*) FROM sync_executions WHERE name = 'unseen'").await < 1 {
        assert!(Instant::now() < deadline, "not recorded within {within:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_watch_that_falls_silent_is_noticed_and_begun_anew_by_a_leader_that_stays() {
    let world = World::new("k2-watch").await;
    let stand_in = StandIn::before(&world).await;
    // All else is answered, so it is not the election that brings a new watch.
    let settings = world.settings().with("KUBECONFIG", stand_in.kubeconfig.display()).with("LEASE_DURATION_SECONDS", 60);
    let controller = settings.start("controller");
    controller.ready().await;
    world.create("seen", update()).await;
    world.phase("seen", "Queued").await;
    stand_in.mute();
    world.create("unseen", update()).await;
    let silent = Instant::now();
    recorded(&world, NOTICED).await;
    let noticed = silent.elapsed();
    world.phase("unseen", "Queued").await;
    assert!(!controller.log().contains("leadership ended"), "the same term noticed it");
    Fault {
        row: "K2",
        fault: "half-open watch: it falls silent, nothing is closed",
        injected: "a stand-in before the API server holds back all that open answers still bring",
        asserted: "the watch is begun anew within its timeout of 30 s and a margin, in the same term, and what it missed is served (I2, I5)",
    }
    .held(&format!("served {} s after the silence began", noticed.as_secs()), 0);
}

#[tokio::test]
async fn a_list_that_is_never_answered_is_asked_for_again() {
    let world = World::new("k2-list").await;
    world.create("unseen", update()).await;
    let stand_in = StandIn::before(&world).await;
    let mut lists = 0;
    stand_in.answers(move |method, uri| {
        let list = method == Method::GET && uri.path().ends_with("/syncexecutions") && !uri.query().unwrap_or_default().contains("watch=");
        lists += u32::from(list);
        if list && lists == 1 { Answer::Silence } else { Answer::True }
    });
    let controller =
        world.settings().with("KUBECONFIG", stand_in.kubeconfig.display()).with("LEASE_DURATION_SECONDS", 60).start("controller");
    controller.logged("\"leading\"").await;
    let silent = Instant::now();
    recorded(&world, NOTICED).await;
    let noticed = silent.elapsed();
    world.phase("unseen", "Queued").await;
    assert!(!controller.log().contains("leadership ended"), "the same term noticed it");
    Fault {
        row: "K2",
        fault: "half-open connection under the list of all objects",
        injected: "a stand-in before the API server never answers the first list",
        asserted: "it is asked for again within 40 s and a margin, in the same term, and all is served (I2, I5)",
    }
    .held(&format!("served {} s after the silence began", noticed.as_secs()), 0);
}
