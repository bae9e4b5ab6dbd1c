//! The chart as people install it, on a real API server with its built-in controllers: the Pods that come of it run their own
//! commands with their own tokens, so a missing right, a wrong flag or a wrong path fails here.

use std::{collections::BTreeSet, path::Path};

use serde_json::json;

use crate::common::{
    eventually,
    helm::CHART,
    node::Images,
    objects::{backfill, update},
    release::Release,
};

/// Calls the API of one Pod.
async fn call(
    address: &str,
    method: reqwest::Method,
    path: &str,
    password: &str,
    body: Option<serde_json::Value>,
) -> (u16, serde_json::Value) {
    let request = reqwest::Client::new().request(method, format!("http://{address}:8080{path}")).basic_auth("admin", Some(password));
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    let response = request.timeout(crate::common::PATIENCE).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

#[tokio::test]
async fn installed_as_the_readme_says_it_brings_executions_to_their_end() {
    let release = Release::place("install", Images::new()).await;
    let (world, node) = (&release.world, &release.node);
    let notes = release.deploy("install", Path::new(CHART), &Release::values()).await.unwrap();
    assert!(notes.contains("kubectl"), "the notes say what to type next: {notes}");
    let pods = node.running();
    assert_eq!(pods.len(), 2, "two replicas");
    let mut worker = world.worker().await;

    world.create("afternoon", backfill()).await;
    let id = worker.take().await.execution();
    let report = json!({"status": "success", "records_processed": 7});
    let (code, body) = call(&pods[0].address, reqwest::Method::PATCH, &format!("/sync/executions/{id}"), "s3cret", Some(report)).await;
    assert_eq!(code, 200, "{body}");
    world.phase("afternoon", "Succeeded").await;

    let (code, forced) = call(&pods[1].address, reqwest::Method::POST, "/sync/force", "s3cret", Some(json!({"mode": "update"}))).await;
    assert_eq!((code, forced["success"].as_bool()), (200, Some(true)), "{forced}");
    assert_eq!(worker.take().await.execution().to_string(), forced["request_id"].as_str().unwrap());

    // A finished object is deleted when its time is over: a right that is used late.
    let mut spec = update();
    spec["ttlSecondsAfterFinished"] = json!(0);
    world.create("short", spec).await;
    let taken = worker.take().await.execution();
    worker.report(&json!({"request_id": taken.to_string(), "status": "success"})).await;
    eventually("the object to be deleted by its time to live", async || {
        world.objects().get_opt("short").await.unwrap().is_none().then_some(())
    })
    .await;

    for pod in node.all() {
        assert_eq!(pod.restarts(), 0, "{}", pod.log("controller"));
        for container in ["migrate", "controller", "api"] {
            let log = pod.log(container);
            assert!(!log.contains("forbidden"), "a right is missing: {log}");
            assert!(!log.contains("s3cret"), "a secret is logged: {log}");
        }
    }
}

#[tokio::test]
async fn a_rotated_secret_counts_without_a_restart() {
    let release = Release::place("rotate", Images::new()).await;
    let (world, node) = (&release.world, &release.node);
    world.set_secret("sync-operator-database", "url", &world.owner_url("before").await);
    release.deploy("install", Path::new(CHART), &Release::values()).await.unwrap();

    world.set_secret("sync-operator-database", "url", &world.owner_url("after").await);
    world.set_secret("sync-operator-admin", "password", "another");
    let address = node.running()[0].address.clone();
    eventually("the new password to be taken", async || {
        (call(&address, reqwest::Method::GET, "/sync/status", "another", None).await.0 == 200).then_some(())
    })
    .await;
    assert_eq!(call(&address, reqwest::Method::GET, "/sync/status", "s3cret", None).await.0, 401, "the old one is over");
    // Every session is ended, so that each must come again with the new password.
    world.end_owner_sessions().await;
    world.create("later", update()).await;
    let mut worker = world.worker().await;
    let taken = worker.take().await.execution();
    worker.report(&json!({"request_id": taken.to_string(), "status": "success"})).await;
    world.phase("later", "Succeeded").await;
    assert!(node.all().iter().all(|pod| pod.restarts() == 0), "nothing was restarted");
    assert_eq!(node.all().len(), 2, "no Pod was replaced");
}

#[tokio::test]
async fn uninstalled_it_leaves_the_crd_the_objects_and_the_rows() {
    let release = Release::place("uninstall", Images::new()).await;
    let (world, node) = (&release.world, &release.node);
    let values = [Release::values(), vec!["replicas=1".to_owned()]].concat();
    release.deploy("install", Path::new(CHART), &values).await.unwrap();
    world.create("kept", update()).await;
    world.phase("kept", "Queued").await;
    release.helm(&["uninstall", "sync-operator", "--wait"]).await.unwrap();
    eventually("the Pods to be gone", async || node.running().is_empty().then_some(())).await;
    assert!(world.objects().get_opt("kept").await.unwrap().is_some(), "the object and so the CRD stay");
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 1, "the row stays");
    let left = world.kubectl_succeeds(&["get", "all,secrets,configmaps,roles,rolebindings,networkpolicies,leases", "-o", "name"]);
    let left: BTreeSet<_> = left.lines().collect();
    let ours = [
        "configmap/kube-root-ca.crt",
        "lease.coordination.k8s.io/sync-operator",
        "secret/sync-operator-admin",
        "secret/sync-operator-database",
        "secret/sync-operator-rabbitmq",
    ];
    assert_eq!(left, BTreeSet::from(ours), "nothing of the chart is left; the Lease was made by the program");
    for kind in ["clusterroles", "clusterrolebindings", "flowschemas"] {
        let all = world.kubectl_succeeds(&["get", kind, "-o", "name"]);
        assert!(!all.contains("sync-operator"), "{all}");
    }

    release.deploy("install", Path::new(CHART), &values).await.unwrap();
    let status = world.phase("kept", "Queued").await;
    assert_eq!(status.execution_id.as_deref(), Some("1"), "installed again, it goes on where it was");
}

#[tokio::test]
async fn the_running_program_needs_no_table_of_its_own() {
    let release = Release::place("owner", Images::new()).await;
    let world = &release.world;
    let owner = world.owner_url("owns").await;
    let program = world.plain_role_url("works").await;
    world.kubectl_succeeds(&["create", "secret", "generic", "owner", &format!("--from-literal=url={owner}")]);
    world.set_secret("sync-operator-database", "url", &program);
    let values = [Release::values(), vec!["replicas=1".to_owned(), "migrate.database.existingSecret.name=owner".to_owned()]].concat();
    release.deploy("install", Path::new(CHART), &values).await.unwrap();
    world.create("plain", update()).await;
    let mut worker = world.worker().await;
    let taken = worker.take().await.execution();
    worker.report(&json!({"request_id": taken.to_string(), "status": "success"})).await;
    world.phase("plain", "Succeeded").await;
    let address = release.node.running()[0].address.clone();
    let (code, history) = call(&address, reqwest::Method::GET, "/sync/history", "s3cret", None).await;
    assert_eq!((code, history["success_count"].as_i64()), (200, Some(1)), "{history}");
    let log = release.node.all()[0].log("controller");
    assert!(!log.contains("permission denied"), "{log}");
}
