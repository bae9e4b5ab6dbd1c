//! `kubectl sync history`, `status`, `describe` and `version`: what they show and in which formats.

use kube::api::ListParams;
use serde_json::{Value, json};

use crate::common::{
    objects::{backfill, update},
    world::World,
};

/// Objects with a status that no controller wrote: quicker than to run them.
async fn with_status(world: &World, name: &str, spec: Value, status: Value) {
    world.create(name, spec).await;
    let patch = kube::api::Patch::Merge(json!({"status": status}));
    world.objects().patch_status(name, &kube::api::PatchParams::default(), &patch).await.unwrap();
}

fn failed(message: &str) -> Value {
    let condition = |kind: &str, message: &str| json!({"type": kind, "status": "True", "reason": "WorkerError", "message": message, "lastTransitionTime": "2025-07-10T12:00:00Z"});
    json!({"phase": "Failed", "executionID": "7", "revision": 1, "recordsProcessed": 10, "duration": "1.7s", "error": message,
        "conditions": [condition("Finished", message), condition("Failed", message), condition("Stalled", "it is not run again")]})
}

#[tokio::test]
async fn the_history_is_shown_as_kubectl_shows_things() {
    let world = World::new("plugin-history").await;
    with_status(&world, "broken", backfill(), failed("bad row")).await;
    world.create("waiting", update()).await;
    let table = world.sync(&["history"]).await;
    let lines: Vec<Vec<&str>> = table.succeeded().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "MODE", "PHASE", "RECORDS", "DURATION", "AGE"]);
    assert!(lines.iter().any(|line| line[..5] == ["broken", "backfill", "Failed", "10", "1.7s"]), "{lines:?}");
    let wide = world.sync(&["history", "-o", "wide", "--no-headers", "--phase", "Failed"]).await;
    assert!(wide.succeeded().starts_with("broken") && wide.out.trim_end().ends_with("bad row"), "{}", wide.out);
    let everywhere = world.sync(&["history", "-A", "--limit", "0", "--phase", "Failed"]).await;
    assert!(everywhere.succeeded().lines().any(|line| line.starts_with(&world.name) && line.contains("broken")), "{}", everywhere.out);
    let list = world.sync(&["history", "-o", "json"]).await.json();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("List"), 2));
    assert!(!list.to_string().contains("managedFields"), "{list}");
    let yaml: Value = serde_yaml_ng::from_str(world.sync(&["history", "-o", "yaml"]).await.succeeded()).unwrap();
    assert_eq!(yaml, list);
    let none = world.sync(&["history", "--phase", "Running"]).await;
    assert_eq!((none.succeeded(), none.err.as_str()), ("", format!("No SyncExecutions found in namespace {}.\n", world.name).as_str()));
}

#[tokio::test]
async fn the_history_of_more_than_a_page_is_the_newest_of_all_pages() {
    let world = World::new("plugin-pages").await;
    // Names are in the opposite order of their ages: a page is by name.
    for batch in 0..12 {
        let many = (0..50).map(|number| 600 - batch * 50 - number);
        futures::future::join_all(many.map(async |number| world.create(&format!("x-{number:04}"), update()).await)).await;
    }
    let newest = async |limit: &str| world.sync(&["history", "-o", "name", "--limit", limit]).await.succeeded().lines().count();
    assert_eq!(newest("0").await, 600);
    assert_eq!(newest("550").await, 550);
    // Ages are whole seconds: the last one is of a later second than all others, which were not made in order.
    let others = world.objects().list(&ListParams::default()).await.unwrap();
    let others = others.into_iter().filter_map(|object| object.metadata.creation_timestamp).max().unwrap();
    crate::common::eventually("the next second", async || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        (i64::try_from(now).unwrap() > others.0.as_second()).then_some(())
    })
    .await;
    world.create("zz-last-by-name", update()).await;
    let first = world.sync(&["history", "-o", "name", "--limit", "1"]).await;
    assert_eq!(first.succeeded(), "syncexecution.sync.pncp.io/zz-last-by-name\n");
    assert_eq!(world.sync(&["history", "--since", "1h", "--limit", "0", "--no-headers"]).await.succeeded().lines().count(), 601);
}

#[tokio::test]
async fn the_status_tells_who_leads_what_is_under_way_and_what_failed() {
    let world = World::new("plugin-status").await;
    let unknown = world.sync(&["status", "--operator-namespace", &world.name]).await;
    assert!(unknown.succeeded().contains("it cannot be told whether it runs"), "{}", unknown.out);
    with_status(&world, "broken", backfill(), failed("bad row")).await;
    let controller = world.settings().with("LEASE_IDENTITY", "controller-1").start("controller");
    controller.ready().await;
    world.create("now", update()).await;
    world.phase("now", "Queued").await;
    let arguments = ["status", "--operator-namespace", &world.name];
    let shown = world.sync(&arguments).await;
    let lease = format!("controller-1 leads, Lease sync-operator in namespace {} was renewed", world.name);
    for part in [lease.as_str(), "0 running, 1 queued, 0 pending", "0 succeeded, 1 failed, 0 cancelled", "Newest of each mode:", "Failed:"]
    {
        assert!(shown.succeeded().contains(part), "`{part}` is not in {}", shown.out);
    }
    let document = world.sync(&[&arguments[..], &["-o", "json"]].concat()).await.json();
    assert_eq!((&document["operator"]["state"], &document["now"]["queued"]), (&json!("leads"), &json!(1)));
    assert_eq!(document["failed"][0]["metadata"]["name"], "broken");
}

#[tokio::test]
async fn the_status_of_one_tells_what_to_do_next() {
    let world = World::new("plugin-status-one").await;
    with_status(&world, "broken", backfill(), failed("bad row")).await;
    let one = world.sync(&["status", "broken"]).await;
    assert!(one.succeeded().contains("Next: mend what the worker complains about"), "{}", one.out);
    assert_eq!(world.sync(&["status", "broken", "-o", "json"]).await.json()["kind"], "SyncExecution");
    world.sync(&["status", "absent"]).await.failed(1, &["cannot read SyncExecution absent", "\"absent\" not found"]);
}

#[tokio::test]
async fn a_description_shows_conditions_events_and_what_to_do_next() {
    let world = World::new("plugin-describe").await;
    let (_controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("broken", backfill()).await;
    let id = worker.take().await.execution().to_string();
    worker.report(&json!({"request_id": id, "status": "error", "error_message": "portal answered 500"})).await;
    world.phase("broken", "Failed").await;
    let described = crate::common::eventually("the event", async || {
        let described = world.sync(&["describe", "broken"]).await;
        described.succeeded().contains("  Warning").then_some(described.out)
    })
    .await;
    for part in ["Window:      2025-07-10T16:00:00Z to 2025-07-10T22:00:00Z", "Phase:       Failed", "Error:       portal answered 500"] {
        assert!(described.contains(part), "`{part}` is not in {described}");
    }
    for words in [["Stalled", "True", "WorkerError"], ["Published", "True", "Confirmed"], ["Warning", "WorkerError", ""]] {
        let line = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(described.lines().any(line), "no line has {words:?} in {described}");
    }
    assert!(described.contains("Next: mend what the worker complains about"), "{described}");
    let reader = world.user(&["get"]);
    let without = world.sync(&["describe", "broken", &reader]).await;
    assert!(without.succeeded().contains("Events: not shown: you may not read events"), "{}", without.out);
}

#[tokio::test]
async fn versions_of_client_and_server_are_told() {
    let world = World::new("plugin-version").await;
    let version = world.sync(&["version"]).await;
    let client = concat!("Client:  v", env!("CARGO_PKG_VERSION"), ", speaks sync.pncp.io/v1alpha1\nServer:  v1.");
    assert!(version.succeeded().starts_with(client), "{}", version.out);
    assert!(version.out.ends_with(", serves sync.pncp.io/v1alpha1\n"), "{}", version.out);
    assert_eq!(world.sync(&["version", "-o", "json"]).await.json()["server"]["apis"], json!(["sync.pncp.io/v1alpha1"]));
}
