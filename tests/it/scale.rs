//! Many objects: those that are known cost next to nothing, none costs more writes than it must, and one that is in trouble
//! holds up no other.

use std::collections::{HashMap, HashSet};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use sync_operator::crd::SyncExecution;
use tokio::net::TcpListener;

use crate::common::{eventually, objects::update, worker::Taken, world::World};

/// Requests of the test under way at a time.
const AT_ONCE: usize = 32;

async fn create(world: &World, names: impl Iterator<Item = String>) {
    futures::stream::iter(names).map(|name| async move { world.create(&name, update()).await }).buffer_unordered(AT_ONCE).count().await;
}

/// Waits until so many show that phase.
async fn all_show(world: &World, phase: &str, count: usize) {
    let wanted = ListParams::default().fields(&format!("status.phase={phase}"));
    eventually(&format!("{count} to be {phase}"), async || {
        (world.objects().list_metadata(&wanted).await.unwrap().items.len() == count).then_some(())
    })
    .await;
}

/// Transactions of this world's database so far. All programs are over: a connection tells of its last ones when it closes.
async fn transactions(world: &World) -> i64 {
    world.number("SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()").await
}

/// Every write of an object that was made after `from`, as the API server tells it to anybody.
async fn writes_since(world: &World, from: &str) -> HashMap<String, usize> {
    let (api, marker) = (world.objects(), "marker");
    world.create(marker, update()).await;
    let mut events = Box::pin(api.watch(&WatchParams::default().timeout(60), from).await.unwrap());
    let mut writes = HashMap::new();
    while let Some(event) = events.try_next().await.unwrap() {
        match event {
            WatchEvent::Added(object) if object.name_any() == marker => return writes,
            WatchEvent::Added(object) | WatchEvent::Modified(object) => *writes.entry(object.name_any()).or_default() += 1,
            other => panic!("{other:?}"),
        }
    }
    panic!("the watch ended before the marker")
}

#[tokio::test]
async fn known_objects_cost_lookups_in_batches_and_new_ones_three_writes_at_most() {
    const EACH: usize = 300;
    let world = World::new("scale").await;
    let mut worker = world.worker().await;
    let first = world.controller().await;
    create(&world, (0..EACH).map(|number| format!("known-{number}"))).await;
    worker.take_many(EACH).await;
    world.sql("UPDATE sync_executions SET status = 'success', records_processed = 1").await;
    all_show(&world, "Succeeded", EACH).await;
    assert!(first.terminate().await.0.success());

    let from = world.objects().list(&ListParams::default().limit(1)).await.unwrap().metadata.resource_version.unwrap();
    let before = transactions(&world).await;
    create(&world, (0..EACH).map(|number| format!("new-{number}"))).await;
    // Long enough that a slow machine still has the confirm within the time in which changes are gathered.
    let second = world.settings().with("STATUS_GATHER_MILLISECONDS", 2000).start("controller");
    let taken: HashSet<i64> = worker.take_many(EACH).await.iter().map(Taken::execution).collect();
    assert_eq!(taken.len(), EACH);
    all_show(&world, "Queued", EACH).await;
    let written = second.metric(r#"sync_operator_status_writes_total{outcome="written"}"#).await;
    assert!(second.terminate().await.0.success());

    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 2 * i64::try_from(EACH).unwrap(), "a known one was published");
    // Far less than one for each object: batches, and what a controller does every second.
    let statements = transactions(&world).await - before;
    assert!(statements < i64::try_from(EACH).unwrap(), "{statements} statements for {} objects", 2 * EACH);
    let writes = writes_since(&world, &from).await;
    assert!(writes.keys().all(|name| name.starts_with("new-")), "a known one was written");
    assert!(writes.values().all(|count| *count <= 3), "more than creation and two statuses");
    let seen = writes.values().sum::<usize>() - EACH;
    assert!((written - f64::from(u32::try_from(seen).unwrap())).abs() < 0.5, "{written} writes, of which {seen} changed something");
}

/// Creates what `json` says, in the cluster.
async fn install<
    K: kube::Resource<Scope = kube::core::ClusterResourceScope, DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
>(
    world: &World,
    json: serde_json::Value,
) -> Api<K> {
    let api: Api<K> = Api::all(world.client.clone());
    api.create(&PostParams::default(), &serde_json::from_value(json).unwrap()).await.unwrap();
    api
}

#[tokio::test]
async fn an_object_whose_status_cannot_be_written_holds_up_no_other() {
    let world = World::new("scale-poison").await;
    let here = json!({"matchLabels": {"kubernetes.io/metadata.name": world.name}});
    let rules =
        json!([{"apiGroups": ["sync.pncp.io"], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": ["syncexecutions/status"]}]);
    let (refused, hanging) = ("object.metadata.name == 'refused'", "object.metadata.name.startsWith('hangs-')");
    let policies: Api<ValidatingAdmissionPolicy> = install(
        &world,
        json!({
            "metadata": {"name": world.name},
            "spec": {
                "matchConstraints": {"namespaceSelector": here, "resourceRules": rules},
                "validations": [{"expression": format!("!({refused})"), "message": "not this one"}],
            },
        }),
    )
    .await;
    let binding = json!({"metadata": {"name": world.name}, "spec": {"policyName": world.name, "validationActions": ["Deny"]}});
    install::<ValidatingAdmissionPolicyBinding>(&world, binding).await;
    // It takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let hooks: Api<ValidatingWebhookConfiguration> = install(
        &world,
        json!({
            "metadata": {"name": world.name},
            "webhooks": [{
                "name": "silent.example.com", "clientConfig": {"url": url}, "rules": rules, "namespaceSelector": here, "timeoutSeconds": 30,
                "matchConditions": [{"name": "some", "expression": hanging}],
                "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
            }],
        }),
    )
    .await;
    world.create("refused", update()).await;
    let status = Patch::Merge(json!({"status": {"recordsProcessed": 1}}));
    eventually("the policy to be in force", async || {
        world.objects().patch_status("refused", &PatchParams::default(), &status).await.is_err().then_some(())
    })
    .await;
    create(&world, (0..5).map(|number| format!("hangs-{number}"))).await;
    let controller = world.controller().await;
    let mut worker = world.worker().await;
    create(&world, (0..40).map(|number| format!("well-{number}"))).await;
    worker.take_many(46).await;
    all_show(&world, "Queued", 40).await;
    world.sql("UPDATE sync_executions SET status = 'success'").await;
    all_show(&world, "Succeeded", 40).await;
    controller.logged("not this one").await;

    policies.delete(&world.name, &DeleteParams::default()).await.unwrap();
    Api::<ValidatingAdmissionPolicyBinding>::all(world.client.clone()).delete(&world.name, &DeleteParams::default()).await.unwrap();
    hooks.delete(&world.name, &DeleteParams::default()).await.unwrap();
    all_show(&world, "Succeeded", 46).await;
}

#[tokio::test]
async fn a_request_that_the_database_refuses_holds_up_no_other() {
    let world = World::new("scale-refused").await;
    for sql in [
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this one'; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON sync_executions FOR EACH ROW WHEN (NEW.name = 'refused') EXECUTE FUNCTION refuse()",
    ] {
        world.sql(sql).await;
    }
    create(&world, ["refused".to_owned()].into_iter().chain((0..40).map(|number| format!("well-{number}")))).await;
    let controller = world.controller().await;
    all_show(&world, "Queued", 40).await;
    controller.logged("not this one").await;
    world.sql("DROP TRIGGER refuse ON sync_executions").await;
    all_show(&world, "Queued", 41).await;
    let shown: Vec<SyncExecution> = world.objects().list(&ListParams::default()).await.unwrap().items;
    assert!(shown.iter().all(|object| object.status.as_ref().is_some_and(|status| status.execution_id.is_some())));
}
