//! Rows K2 and K8 of the fault matrix: an API server that falls silent without an end, or whose answers are not what it did.

use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

use kube::api::ListParams;
use reqwest::Method;
use serde_json::json;

use crate::common::{
    eventually,
    faults::Fault,
    http,
    invariants::{check, work},
    objects::{backfill, update},
    program::Program,
    stand_in::{Answer, StandIn},
    worker::second_copies,
    world::World,
};

/// How long a silent watch or list may go unnoticed, with the work that follows; on a slow machine.
const NOTICED: Duration = Duration::from_secs(75);

/// How long it takes from now on until the unseen object has a record; it is served in the same term.
async fn served(world: &World, controller: &Program) -> Duration {
    let silent = Instant::now();
    while world.number("SELECT count(*) FROM sync_executions WHERE name = 'unseen'").await < 1 {
        assert!(silent.elapsed() < NOTICED, "not recorded within {NOTICED:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let noticed = silent.elapsed();
    world.phase("unseen", "Queued").await;
    assert!(!controller.log().contains("leadership ended"), "the same term noticed it");
    noticed
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
    let noticed = served(&world, &controller).await;
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
    let noticed = served(&world, &controller).await;
    Fault {
        row: "K2",
        fault: "half-open connection under the list of all objects",
        injected: "a stand-in before the API server never answers the first list",
        asserted: "it is asked for again within 40 s and a margin, in the same term, and all is served (I2, I5)",
    }
    .held(&format!("served {} s after the silence began", noticed.as_secs()), 0);
}

#[tokio::test]
async fn answers_that_are_not_what_the_server_did_double_nothing_and_lose_nothing() {
    let world = World::new("k8").await;
    let stand_in = StandIn::before(&world).await;
    let settings = world.settings().with("KUBECONFIG", stand_in.kubeconfig.display());
    let (controller, api, mut worker) = (settings.start("controller"), settings.start("api"), world.worker().await);
    controller.ready().await;
    api.ready().await;
    let mut calls = 0_usize;
    stand_in.answers(move |_, uri| {
        if uri.query().unwrap_or_default().contains("watch=") {
            return Answer::True;
        }
        calls += 1;
        let wrong = [Answer::Refused(504), Answer::Refused(500), Answer::Refused(503), Answer::Half, Answer::Page];
        // The lease is told the truth three times of four: who cannot renew it for long has to give it up.
        let every = if uri.path().contains("/leases") { 4 } else { 2 };
        if calls.is_multiple_of(every) { wrong[calls / every % wrong.len()] } else { Answer::True }
    });

    for number in 0..20 {
        world.create(&format!("sx-{number}"), backfill()).await;
    }
    let answered = RefCell::new(Vec::new());
    for key in 0..10 {
        // As a client does that was not told yes: the same again.
        eventually("a yes", async || {
            let request = api.request(Method::POST, "/sync/force").await.header("Idempotency-Key", format!("key-{key}"));
            let answer = http::Answer::to(request.json(&json!({"mode": "update"}))).await;
            answered.borrow_mut().push(answer.code);
            if answer.code == 503 {
                assert!(!answer.text.contains("was not taken"), "nobody knows whether it was: {answer:?}");
            }
            [200, 202].contains(&answer.code).then_some(())
        })
        .await;
    }
    let taken = work(&world, &mut worker, 30).await;
    assert_eq!(world.objects().list(&ListParams::default()).await.unwrap().items.len(), 30, "a repeated request made no second object");
    stand_in.answers(|_, _| Answer::True);
    check(&world, 30, &taken).await;
    assert_eq!(second_copies(&taken), 0, "no fault was between publish and mark");
    let answered = answered.into_inner();
    let refused = answered.iter().filter(|code| **code == 503).count();
    assert!(refused > 0, "no request was answered falsely: {answered:?}");
    Fault {
        row: "K8",
        fault: "504, 500 and 503 after the commit, half an answer, a page of a load balancer",
        injected: "a stand-in before the API server passes each call on and then answers every second one wrongly (of the lease every fourth)",
        asserted: "one object per Idempotency-Key, no 503 that says that it was not taken; one row and one message per object (I1–I3); every end is shown (I5)",
    }
    .held(&format!("of {} requests to /sync/force {refused} were answered 503", answered.len()), 0);
}
