//! What the API server accepts and refuses by the shipped CRD alone, and how kubectl shows it.

use serde_json::{Value, json};

use crate::common::{
    faults::Fault,
    objects::{backfill, update},
    world::World,
};

fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

fn window(start: &str, end: &str) -> Value {
    json!({"mode": "backfill", "window": {"start": start, "end": end}})
}

#[tokio::test]
async fn wrong_requests_are_refused_with_a_sentence_that_says_what_to_do() {
    let world = World::new("admission-refused").await;
    for (spec, says) in [
        (json!({"mode": "full"}), r#"supported values: "update", "backfill""#),
        (json!({}), "spec.mode: Required value"),
        (json!({"mode": "backfill"}), "add window.start and window.end, or use mode: update"),
        (with(backfill(), "mode", json!("update")), "remove it, or use mode: backfill"),
        (window("2025-07-10T18:00:00Z", "2025-07-10T12:00:00Z"), "swap them, or choose a later end"),
        (window("2025-07-10T12:00:00Z", "2025-07-10T12:00:00Z"), "swap them, or choose a later end"),
        (window("2025-07-10T12:00:00.5Z", "2025-07-10T13:00:00Z"), "remove the decimals"),
        (window("yesterday", "2025-07-10T12:00:00Z"), "must be of type date-time"),
        (json!({"mode": "backfill", "window": {"start": "2025-07-10T12:00:00Z"}}), "spec.window.end: Required value"),
        (with(update(), "reason", json!("r".repeat(1025))), "spec.reason is longer than 1024 characters: shorten it"),
        (with(update(), "requestedBy", json!("r".repeat(254))), "spec.requestedBy is longer than 253 characters: shorten it"),
        (with(update(), "activeDeadlineSeconds", json!(0)), "should be greater than or equal to 1"),
        (with(update(), "ttlSecondsAfterFinished", json!(-1)), "should be greater than or equal to 0"),
    ] {
        let (accepted, said) = world.apply("refused", spec.clone());
        assert!(!accepted && said.contains(says), "{spec}: {said}");
    }
}

#[tokio::test]
async fn a_spec_cannot_be_changed_but_for_the_time_to_live() {
    let world = World::new("admission-immutable").await;
    let spec = with(backfill(), "reason", json!("outage"));
    assert!(world.apply("x", spec.clone()).0);
    for (changed, field) in [
        (with(update(), "reason", json!("outage")), "spec.mode"),
        (with(window("2025-07-10T12:00:00Z", "2025-07-10T13:00:00Z"), "reason", json!("outage")), "spec.window"),
        (with(spec.clone(), "reason", json!("other")), "spec.reason"),
        (backfill(), "spec.reason"),
        (with(spec.clone(), "requestedBy", json!("ana")), "spec.requestedBy"),
        (with(spec.clone(), "activeDeadlineSeconds", json!(5)), "spec.activeDeadlineSeconds"),
    ] {
        let (accepted, said) = world.apply("x", changed.clone());
        assert!(!accepted && said.contains(&format!("{field} cannot be changed: create a new SyncExecution")), "{changed}: {said}");
    }
    let (accepted, said) = world.apply("x", with(spec, "ttlSecondsAfterFinished", json!(60)));
    assert!(accepted, "{said}");
    Fault {
        row: "O7",
        fault: "the spec is changed after it was admitted",
        injected: "kubectl apply",
        asserted: "the API server refuses by the CRD alone, with what to do; only the time to live may change",
    }
    .held("six changes refused", 0);
}

#[tokio::test]
async fn the_server_refuses_a_status_with_a_lower_revision() {
    let world = World::new("admission-revision").await;
    world.create("x", update()).await;
    let patch = |revision: i64| {
        let patch = json!({"status": {"revision": revision}}).to_string();
        world.kubectl(&["patch", "sx", "x", "--subresource=status", "--type=merge", "-p", &patch], None)
    };
    assert!(patch(3).status.success() && patch(3).status.success() && patch(4).status.success());
    let refused = patch(2);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("status.revision never decreases"));
}

#[tokio::test]
async fn the_server_refuses_to_take_an_end_back() {
    let world = World::new("admission-end").await;
    world.create("x", update()).await;
    let patch = |phase: &str| {
        let patch = json!({"status": {"phase": phase}}).to_string();
        world.kubectl(&["patch", "sx", "x", "--subresource=status", "--type=merge", "-p", &patch], None)
    };
    for phase in ["Pending", "Running", "Queued", "Failed", "Failed"] {
        assert!(patch(phase).status.success(), "{phase}");
    }
    for phase in ["Running", "Succeeded"] {
        let refused = patch(phase);
        assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("status.phase never leaves"), "{phase}");
    }
}

#[tokio::test]
async fn a_status_patch_that_tests_for_another_uid_is_refused() {
    let world = World::new("admission-uid").await;
    let uid = world.create("x", update()).await.metadata.uid.unwrap();
    let patch = |uid: &str| {
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": {"phase": "Running"}},
        ]);
        world.kubectl(&["patch", "sx", "x", "--subresource=status", "--type=json", "-p", &patch.to_string()], None)
    };
    assert!(!patch("00000000-0000-0000-0000-000000000000").status.success());
    assert_eq!(world.objects().get("x").await.unwrap().status.unwrap_or_default().phase, None);
    assert!(patch(&uid).status.success());
    world.phase("x", "Running").await;
}

#[tokio::test]
async fn kubectl_shows_explains_selects_and_waits() {
    let world = World::new("admission-kubectl").await;
    let (_controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("july", backfill()).await;
    worker.take().await;
    world.sql("UPDATE sync_executions SET records_processed = 5").await;
    world.phase("july", "Running").await;
    world.create("later", update()).await;
    world.phase("later", "Queued").await;

    let text = |arguments: &[&str]| String::from_utf8(world.kubectl(arguments, None).stdout).unwrap();
    let table = text(&["get", "sx"]);
    let columns: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(columns, ["NAME", "MODE", "PHASE", "RECORDS", "DURATION", "AGE"]);
    let wide = text(&["get", "syncexecutions", "-o", "wide"]);
    for column in ["EXECUTION", "WINDOW-START", "WINDOW-END", "ERROR", "2025-07-10T16:00:00Z"] {
        assert!(wide.contains(column), "{column}: {wide}");
    }
    assert_eq!(text(&["get", "sx", "--field-selector", "status.phase=Running", "-o", "name"]), "syncexecution.sync.pncp.io/july\n");
    assert_eq!(text(&["get", "sync", "--field-selector", "spec.mode=update", "-o", "name"]), "syncexecution.sync.pncp.io/later\n");
    let explained = text(&["explain", "sx.spec"]);
    for word in ["activeDeadlineSeconds", "ttlSecondsAfterFinished", "The time window of a backfill"] {
        assert!(explained.contains(word), "{word}: {explained}");
    }
    world.sql("UPDATE sync_executions SET status = 'success'").await;
    for name in ["sx/july", "sx/later"] {
        assert!(world.kubectl(&["wait", "--for=condition=Finished", name, "--timeout=60s"], None).status.success());
    }
}
