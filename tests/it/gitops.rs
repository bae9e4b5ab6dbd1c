//! What GitOps tools see: objects in every state, as the API server gives them, judged by the library of Flux (kstatus) and by
//! Argo CD's Lua engine with docs/argocd-health.lua. The program that asks both is tests/gitops.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::json;

use crate::common::{
    helm::documents,
    objects::{backfill, update},
    proxy::{Mode, Proxy},
    world::World,
};

const HEALTH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/argocd-health.lua");

/// Where the program is: `hack/gitops` builds it if need be.
fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/gitops");
        let output = Command::new(script).arg("path").stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

/// What a tool says of an object: status and message.
fn ask(arguments: &[&str], object: &str) -> (String, String) {
    let mut child =
        Command::new(program()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(object.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let (status, message) = said.trim_end().split_once(' ').unwrap();
    (status.to_owned(), message.to_owned())
}

/// Asserts what both tools say of the object as it is now: their words for it, and a text that both messages have.
fn judged(world: &World, name: &str, flux: &str, argo: &str, says: &str) {
    let object = world.kubectl_succeeds(&["get", "sx", name, "-o", "json"]);
    let kstatus = ask(&["kstatus"], &object);
    let health = ask(&["argocd", HEALTH], &object);
    assert_eq!((kstatus.0.as_str(), health.0.as_str()), (flux, argo), "{name}: {kstatus:?} {health:?}");
    assert!(kstatus.1.contains(says) && health.1.contains(says), "{name}: {kstatus:?} {health:?}");
}

fn change_spec(world: &World, name: &str) {
    world.kubectl_succeeds(&["patch", "sx", name, "--type=merge", "-p", r#"{"spec":{"ttlSecondsAfterFinished":86400}}"#]);
}

#[test]
fn the_settings_of_argo_cd_have_the_health_script() {
    let settings = documents(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/argocd-cm.yaml"))).remove(0);
    let script = settings["data"]["resource.customizations.health.sync.pncp.io_SyncExecution"].as_str().unwrap();
    assert_eq!(script, std::fs::read_to_string(HEALTH).unwrap());
}

#[tokio::test]
async fn an_object_is_in_progress_from_the_first_moment_until_it_succeeded() {
    let world = World::new("gitops-path").await;
    world.create("x", backfill()).await;
    judged(&world, "x", "InProgress", "Progressing", "");

    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    proxy.set(Mode::Refuse);
    let _controller = world.settings().with("RABBITMQ_URL", &url).start("controller");
    world.condition("x", "Published", "False", "BrokerUnavailable").await;
    judged(&world, "x", "InProgress", "Progressing", "waiting for the broker");
    proxy.set(Mode::Pass);
    let mut worker = world.worker().await;
    worker.take().await;
    world.phase("x", "Queued").await;
    judged(&world, "x", "InProgress", "Progressing", "waiting for a worker");
    world.sql("UPDATE sync_executions SET status = 'running'").await;
    world.phase("x", "Running").await;
    judged(&world, "x", "InProgress", "Progressing", "a worker is on it");
    world.sql("UPDATE sync_executions SET status = 'success', records_processed = 7").await;
    world.phase("x", "Succeeded").await;
    judged(&world, "x", "Current", "Healthy", "");
}

#[tokio::test]
async fn an_object_whose_request_waits_for_the_database_is_in_progress() {
    let world = World::new("gitops-database").await;
    let (proxy, url) = Proxy::for_url(&world.database_url).await;
    proxy.set(Mode::Refuse);
    world.create("x", update()).await;
    let _controller = world.settings().with("DATABASE_URL", &url).start("controller");
    world.condition("x", "Recorded", "False", "DatabaseUnavailable").await;
    judged(&world, "x", "InProgress", "Progressing", "the database does not answer");
}

#[tokio::test]
async fn an_end_that_is_no_success_is_a_failure_that_tells_why() {
    let world = World::new("gitops-ends").await;
    let (_controller, mut worker) = (world.controller().await, world.worker().await);
    for name in ["broken", "stopped"] {
        world.create(name, update()).await;
        worker.take().await;
    }
    world.create("late", json!({"mode": "update", "activeDeadlineSeconds": 1})).await;
    world.sql("UPDATE sync_executions SET status = 'error', error_message = 'portal answered 500' WHERE name = 'broken'").await;
    world.sql("UPDATE sync_executions SET status = 'cancelled' WHERE name = 'stopped'").await;

    world.phase("broken", "Failed").await;
    judged(&world, "broken", "Failed", "Degraded", "portal answered 500");
    world.phase("stopped", "Cancelled").await;
    judged(&world, "stopped", "Failed", "Degraded", "it was cancelled");
    world.phase("late", "Failed").await;
    judged(&world, "late", "Failed", "Degraded", "activeDeadlineSeconds");
}

#[tokio::test]
async fn a_record_that_is_gone_or_behind_is_a_failure_also_after_a_change_of_the_spec() {
    let world = World::new("gitops-record").await;
    let (controller, mut worker) = (world.controller().await, world.worker().await);
    for name in ["lost", "behind"] {
        world.create(name, backfill()).await;
        worker.take().await;
        world.phase(name, "Queued").await;
    }
    world.sql("CREATE TABLE backup AS SELECT * FROM sync_executions WHERE name = 'behind'").await;
    world.sql("UPDATE sync_executions SET status = 'success' WHERE name = 'behind'").await;
    world.phase("behind", "Succeeded").await;
    controller.terminate().await;
    world.sql("DELETE FROM sync_executions").await;
    world.sql("INSERT INTO sync_executions SELECT * FROM backup").await;

    let _controller = world.controller().await;
    world.condition("lost", "Recorded", "False", "RecordLost").await;
    judged(&world, "lost", "Failed", "Degraded", "not in the database any more");
    world.condition("behind", "Recorded", "False", "RecordBehind").await;
    judged(&world, "behind", "Failed", "Degraded", "older than what this object shows");

    for name in ["lost", "behind"] {
        change_spec(&world, name);
        world.status(name, "generation 2", |status| status.observed_generation == Some(2)).await;
        judged(&world, name, "Failed", "Degraded", "");
    }
}

#[tokio::test]
async fn a_change_of_the_spec_that_nobody_has_answered_is_in_progress() {
    let world = World::new("gitops-generation").await;
    let (controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("x", update()).await;
    worker.take().await;
    world.sql("UPDATE sync_executions SET status = 'success'").await;
    world.phase("x", "Succeeded").await;
    controller.terminate().await;
    change_spec(&world, "x");
    judged(&world, "x", "InProgress", "Progressing", "");
    let _controller = world.controller().await;
    world.status("x", "generation 2", |status| status.observed_generation == Some(2)).await;
    judged(&world, "x", "Current", "Healthy", "");
}
