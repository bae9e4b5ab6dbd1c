//! `kubectl sync force`: from what a user types to the end of the execution, and every way to be refused.

use serde_json::{Value, json};

use crate::common::{
    objects::{backfill, update},
    plugin::ended,
    world::World,
};

#[tokio::test]
async fn a_forced_update_is_waited_for_until_the_worker_succeeds() {
    let world = World::new("plugin-update").await;
    let (_controller, mut worker) = (world.controller().await, world.worker().await);
    let waiting = world.sync_start(&["force", "update", "--name", "now", "--reason", "portal is back", "--wait"]);
    let id = worker.take().await.execution().to_string();
    worker.report(&json!({"request_id": id, "status": "running", "records_processed": 3})).await;
    world.status("now", "3 records", |status| status.records_processed == Some(3)).await;
    worker.report(&json!({"request_id": id, "status": "success", "records_processed": 59, "duration_seconds": 6.2})).await;
    let done = ended(waiting).await;
    assert_eq!(done.succeeded(), "syncexecution.sync.pncp.io/now created\nsyncexecution.sync.pncp.io/now succeeded: 59 records in 6.2s\n");
    assert!(done.err.contains("now: Running, 3 records\n") && done.err.contains("now: Succeeded, 59 records\n"), "{}", done.err);
    assert!(!done.err.contains('\u{1b}'), "no terminal, no control codes: {}", done.err);
    let spec = world.objects().get("now").await.unwrap().spec;
    assert_eq!((spec.reason.as_deref(), spec.requested_by.as_deref()), (Some("portal is back"), Some("admin")));
}

#[tokio::test]
async fn a_forced_backfill_that_fails_ends_with_1_and_the_workers_words() {
    let world = World::new("plugin-backfill").await;
    let (_controller, mut worker) = (world.controller().await, world.worker().await);
    let window = ["force", "backfill", "--from", "2025-07-10T12:00", "--to", "2025-07-11", "--wait", "-o", "json", "--name", "july"];
    let waiting = world.sync_start(&window);
    let message = worker.take().await;
    assert_eq!((&message.body["data_ini"], &message.body["data_fim"]), (&json!("2025-07-10T12:00:00"), &json!("2025-07-11T00:00:00")));
    let id = message.execution().to_string();
    worker.report(&json!({"request_id": id, "status": "error", "error_message": "portal answered\n500 \u{1b}[31m"})).await;
    let failed = ended(waiting).await;
    failed.failed(1, &["error: july failed: portal answered 500 [31m (WorkerError)"]);
    let object: Value = serde_json::from_str(&failed.out).unwrap();
    assert_eq!((&object["metadata"]["name"], &object["status"]["phase"]), (&json!("july"), &json!("Failed")));
}

#[tokio::test]
async fn what_does_not_end_in_time_ends_the_waiting_with_124_and_goes_on() {
    let world = World::new("plugin-timeout").await;
    let object = "force update --name slow --wait --timeout 2s";
    let late = world.sync(&object.split(' ').collect::<Vec<_>>()).await;
    late.failed(124, &["slow has not ended within 2s: not taken by the operator yet", "It goes on", "kubectl sync wait -n", " slow"]);
    assert!(world.objects().get_opt("slow").await.unwrap().is_some());
}

#[tokio::test]
async fn ctrl_c_ends_the_waiting_with_130_and_says_how_to_look_again() {
    let world = World::new("plugin-ctrl-c").await;
    let waiting = world.sync_start(&["force", "update", "--name", "now", "--wait", "--timeout", "0"]);
    crate::common::eventually("the object", async || world.objects().get_opt("now").await.unwrap()).await;
    // kubectl has become the plugin by then. The signal is heard once the waiting has begun, or ends it at once before.
    let pid = waiting.id().unwrap().to_string();
    let output = std::path::PathBuf::from(format!("/proc/{pid}/status"));
    crate::common::eventually("the plugin to listen for Ctrl-C", async || {
        let status = std::fs::read_to_string(&output).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim();
        (u64::from_str_radix(caught, 16).unwrap() & 0b10 != 0).then_some(())
    })
    .await;
    assert!(std::process::Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    ended(waiting).await.failed(130, &["the execution goes on", &format!("kubectl sync wait -n {} now", world.name)]);
}

#[tokio::test]
async fn a_dry_run_keeps_nothing_and_shows_what_would_be_sent() {
    let world = World::new("plugin-dry").await;
    let backfill = ["force", "backfill", "--from", "2025-07-10", "--to", "2025-07-11T00:00:00-04:00", "--ttl", "7d", "--deadline", "1h30m"];
    for place in ["client", "server"] {
        let shown = world.sync(&[&backfill[..], &["--dry-run", place, "-o", "json"]].concat()).await.json();
        assert_eq!(shown["spec"]["window"], json!({"start": "2025-07-10T04:00:00Z", "end": "2025-07-11T04:00:00Z"}));
        assert_eq!((&shown["spec"]["ttlSecondsAfterFinished"], &shown["spec"]["activeDeadlineSeconds"]), (&json!(604_800), &json!(5400)));
        assert_eq!(shown["kind"], "SyncExecution");
        assert_eq!(shown["metadata"]["namespace"], json!(world.name));
    }
    assert!(world.sync(&["history", "-o", "name"]).await.succeeded().trim().is_empty());
}

#[tokio::test]
async fn wrong_usage_ends_with_2_and_says_how_to_write_it() {
    let world = World::new("plugin-usage").await;
    let force = async |from: &str, to: &str| world.sync(&["force", "backfill", "--from", from, "--to", to]).await;
    force("yesterday", "2025-07-11").await.failed(2, &["--from: `yesterday` is not a time: write it like 2025-07-10T12:00:00"]);
    force("2025-07-11", "2025-07-10").await.failed(2, &["is not before its end", "swap them"]);
    force("2018-11-04T00:30", "2018-11-05").await.failed(2, &["does not exist in America/Cuiaba"]);
    force("2019-02-10", "2019-02-16T23:30").await.failed(2, &["happened twice in America/Cuiaba"]);
    world.sync(&["force", "backfill"]).await.failed(2, &["--from <TIME>", "Usage: kubectl sync force backfill"]);
    world.sync(&["force", "update", "--deadline", "soon"]).await.failed(2, &["write it like 90s, 1h30m, 7d"]);
    world.sync(&["history", "--phase", "Done"]).await.failed(2, &["[possible values: Pending, Queued"]);
    world.sync(&["forse"]).await.failed(2, &["a similar subcommand exists: 'force'"]);
}

#[tokio::test]
async fn what_the_api_server_refuses_is_told_in_its_words_with_the_remedy() {
    let world = World::new("plugin-refused").await;
    let decimals = ["force", "backfill", "--from", "2025-07-10T12:00:00.5", "--to", "2025-07-11"];
    world.sync(&decimals).await.failed(1, &["window.start and window.end are whole seconds: remove the decimals"]);
    let long = "r".repeat(1025);
    world.sync(&["force", "update", "--reason", &long]).await.failed(1, &["spec.reason is longer than 1024 characters: shorten it"]);
    world.create("taken", update()).await;
    world.sync(&["force", "update", "--name", "taken"]).await.failed(1, &["already exists: choose another --name"]);
    let reader = world.user(&["get", "list", "watch"]);
    world.sync(&["force", "update", &reader]).await.failed(1, &["you may not create the SyncExecution", "cannot create resource"]);
    assert_eq!(world.sync(&["history", "-o", "name", &reader]).await.succeeded(), "syncexecution.sync.pncp.io/taken\n");
    world.create("other", backfill()).await;
    assert_eq!(world.sync(&["history", "-o", "name", "--mode", "update"]).await.succeeded(), "syncexecution.sync.pncp.io/taken\n");
}
