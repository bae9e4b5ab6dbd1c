//! `kubectl sync wait` and `watch`: to the end, across lost connections, and with the exit code of what was followed.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::common::{
    objects::update,
    plugin::{ended, kubectl},
    proxy::Mode,
    world::World,
};

#[tokio::test]
async fn several_are_waited_for_and_one_failure_is_the_exit_code() {
    let world = World::new("plugin-wait").await;
    let (_controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("good", update()).await;
    let good = worker.take().await.execution().to_string();
    world.create("bad", update()).await;
    let bad = worker.take().await.execution().to_string();
    let waiting = world.sync_start(&["wait", "good", "bad", "absent"]);
    worker.report(&json!({"request_id": bad, "status": "error", "error_message": "portal answered 500"})).await;
    worker.report(&json!({"request_id": good, "status": "success", "records_processed": 7, "duration_seconds": 1})).await;
    let done = ended(waiting).await;
    done.failed(1, &["bad failed: portal answered 500 (WorkerError)", "there is no SyncExecution absent in namespace"]);
    assert_eq!(done.out, "syncexecution.sync.pncp.io/good succeeded: 7 records in 1.0s\n");
    let names = world.sync(&["wait", "good", "-o", "name"]).await;
    assert_eq!(names.succeeded(), "syncexecution.sync.pncp.io/good\n", "what has ended is not waited for");
}

#[tokio::test]
async fn an_object_that_is_deleted_while_it_is_waited_for_ends_the_waiting() {
    let world = World::new("plugin-deleted").await;
    world.create("now", update()).await;
    let mut waiting = world.sync_start(&["wait", "now"]);
    let mut said = BufReader::new(waiting.stderr.take().unwrap()).lines();
    assert_eq!(said.next_line().await.unwrap().unwrap(), "now: not taken by the operator yet");
    world.delete("now").await;
    assert_eq!(said.next_line().await.unwrap().unwrap().split(':').next(), Some("error"));
    assert_eq!(ended(waiting).await.code, Some(1));
}

#[tokio::test]
async fn a_watch_tells_each_change_and_ends_with_what_it_watches() {
    let world = World::new("plugin-watch").await;
    let (_controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("now", update()).await;
    let mut watching = world.sync_start(&["watch", "now"]);
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut told = async |what: &str| loop {
        let line = lines.next_line().await.unwrap().unwrap_or_else(|| panic!("it ended before it told {what}"));
        assert!(line.contains("  now  ") && line.as_bytes()[10] == b'T', "{line}");
        if line.contains(what) {
            break;
        }
    };
    let id = worker.take().await.execution().to_string();
    told("Queued").await;
    worker.report(&json!({"request_id": id, "status": "running", "records_processed": 1})).await;
    told("Running; 1 records").await;
    worker.report(&json!({"request_id": id, "status": "running", "records_processed": 2})).await;
    told("  2 records").await;
    worker.report(&json!({"request_id": id, "status": "error", "error_message": "portal answered 500"})).await;
    told("Failed; Finished=True WorkerError; Failed=True WorkerError: portal answered 500").await;
    ended(watching).await.failed(1, &["now failed: portal answered 500 (WorkerError)"]);
}

#[tokio::test]
async fn a_watch_goes_on_after_the_connection_was_lost() {
    let world = World::new("plugin-cut").await;
    let (proxy, kubeconfig) = world.kubeconfig_by_proxy().await;
    let arguments = ["sync", "watch", "-n", &world.name, "--timeout", "50s"];
    let mut watching = kubectl(&world.path, &kubeconfig, &arguments).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut said = BufReader::new(watching.stderr.take().unwrap()).lines();
    // Created again and again until the watch is there to see one.
    let mut number = 0;
    loop {
        world.create(&format!("before-{number}"), update()).await;
        number += 1;
        if let Ok(line) = tokio::time::timeout(Duration::from_millis(500), lines.next_line()).await {
            assert!(line.unwrap().unwrap().ends_with("created"));
            break;
        }
    }
    proxy.set(Mode::Refuse);
    proxy.cut();
    let trouble = said.next_line().await.unwrap().unwrap();
    assert!(trouble.contains("is lost, trying again"), "{trouble}");
    world.create("meanwhile", update()).await;
    proxy.set(Mode::Pass);
    while !lines.next_line().await.unwrap().expect("the watch goes on").contains("  meanwhile  created") {}
}

#[tokio::test]
async fn a_watch_for_programs_prints_an_object_a_line() {
    let world = World::new("plugin-watch-json").await;
    world.create("now", update()).await;
    let late = world.sync(&["watch", "now", "-o", "json", "--timeout", "2s"]).await;
    late.failed(124, &["watched for 2s"]);
    let object: serde_json::Value = serde_json::from_str(late.out.trim()).unwrap();
    assert_eq!(object["metadata"]["name"], "now");
    assert_eq!(object["metadata"].get("managedFields"), None);
}
