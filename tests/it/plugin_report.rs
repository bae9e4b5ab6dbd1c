//! `kubectl sync report`: all that support needs, nothing that is secret, and what may not be read is no error.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::common::{objects::update, world::World};

const SECRET: &str = "hunter2hunter2";

fn file(world: &World, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}.tar.gz", world.name))
}

/// Files of a report by their path in its folder.
fn files(report: &PathBuf) -> BTreeMap<String, String> {
    let tar = |flags: &[&str]| {
        let output = Command::new("tar").arg("-zf").arg(report).args(flags).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    tar(&["-t"]).lines().map(|path| (path.split_once('/').unwrap().1.to_owned(), tar(&["-x", "-O", path]))).collect()
}

fn apply(world: &World, object: &Value) {
    let applied = world.kubectl(&["apply", "-f", "-"], Some(object));
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
}

#[tokio::test]
async fn a_report_has_what_support_needs_and_no_secret() {
    let world = World::new("plugin-report").await;
    let controller = world.settings().with("LEASE_IDENTITY", "controller-1").start("controller");
    controller.ready().await;
    let mut worker = world.worker().await;
    let reason = format!("see https://ana:{SECRET}@wiki/page");
    world.create("broken", json!({"mode": "update", "reason": reason})).await;
    let id = worker.take().await.execution().to_string();
    let words = format!("cannot connect to postgres://ana:{SECRET}@db/sync, password={SECRET}");
    worker.report(&json!({"request_id": id, "status": "error", "error_message": words})).await;
    world.phase("broken", "Failed").await;
    let labels = json!({"app": "sync-operator"});
    apply(
        &world,
        &json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database"}, "stringData": {"url": format!("postgres://a:{SECRET}@db")}},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"text": SECRET}},
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "sync-operator"}, "spec": {
                "replicas": 0, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [{
                    "name": "controller", "image": "sync-operator",
                    "args": ["controller", "--database-url", format!("postgres://ana:{SECRET}@db/sync"), "--log-level=debug"],
                    "env": [{"name": "ADMIN_PASSWORD", "value": SECRET}, {"name": "PLAIN", "value": SECRET}]}]}}}},
        ]}),
    );
    let report = file(&world, "all");
    let path = report.display().to_string();
    let arguments = ["report", "--output-file", &path, "--operator-namespace", &world.name];
    let said = world.sync(&arguments).await;
    assert!(said.succeeded().starts_with(&path), "{}", said.out);
    let files = files(&report);
    for (path, text) in &files {
        assert!(!text.contains(SECRET), "a secret is in {path}: {text}");
    }
    for (path, part) in [
        ("versions.yaml", env!("CARGO_PKG_VERSION")),
        ("crd.yaml", "syncexecutions.sync.pncp.io"),
        ("syncexecutions.yaml", "cannot connect to postgres://(redacted)@db/sync"),
        ("operator/lease.yaml", "controller-1"),
        ("operator/deployments.yaml", "--log-level=debug"),
        ("operator/events.yaml", "kind: List"),
        ("operator/pods.yaml", "kind: List"),
        ("not-read.txt", "nothing"),
    ] {
        assert!(files.get(path).is_some_and(|text| text.contains(part)), "`{part}` is not in {path}: {files:#?}");
    }
    assert!(!files.keys().any(|path| path.contains("secret") || path.contains("configmap")), "{:?}", files.keys());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&report).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    world.sync(&arguments).await.failed(1, &["cannot be written", "exists"]);
}

#[tokio::test]
async fn who_may_read_little_gets_a_report_that_says_what_is_missing() {
    let world = World::new("plugin-report-user").await;
    world.create("now", update()).await;
    let reader = world.user(&["get", "list"]);
    let report = file(&world, "user");
    let path = report.display().to_string();
    world.sync(&["report", "--output-file", &path, &reader, "--operator-namespace", &world.name]).await.succeeded();
    let files = files(&report);
    assert!(files["syncexecutions.yaml"].contains("name: now"));
    for missing in ["crd.yaml: you may not read the CRD", "operator/lease.yaml: you may not", "operator/pods.yaml: you may not list Pods"] {
        assert!(files["not-read.txt"].contains(missing), "`{missing}` is not in {}", files["not-read.txt"]);
    }
}
