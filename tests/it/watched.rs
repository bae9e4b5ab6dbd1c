//! Which namespaces are watched: those of the list, as one.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use serde_json::json;
use sync_operator::crd::SyncExecution;

use crate::common::{account::Account, eventually, objects::update, world::World};

/// A SyncExecution in a namespace beside the world's own.
async fn create(world: &World, namespace: &str, name: &str) -> Api<SyncExecution> {
    let new = Namespace { metadata: ObjectMeta { name: Some(namespace.to_owned()), ..ObjectMeta::default() }, ..Namespace::default() };
    let namespaces = Api::<Namespace>::all(world.client.clone());
    if namespaces.get_opt(namespace).await.unwrap().is_none() {
        namespaces.create(&PostParams::default(), &new).await.unwrap();
    }
    let api: Api<SyncExecution> = Api::namespaced(world.client.clone(), namespace);
    let object = serde_json::from_value(json!({"metadata": {"name": name}, "spec": update()})).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
    api
}

async fn published(api: &Api<SyncExecution>, name: &str) {
    eventually(&format!("{name} to be published"), async || {
        api.get(name).await.unwrap().status.and_then(|status| status.publish_time).map(drop)
    })
    .await;
}

#[tokio::test]
async fn every_namespace_of_the_list_is_served_and_no_other() {
    let world = World::new("watched-list").await;
    let (second, foreign) = (format!("{}-b", world.name), format!("{}-c", world.name));
    let unwatched = create(&world, &foreign, "x").await;
    let watched = create(&world, &second, "x").await;
    let list = format!("{}, {second}", world.name);
    let controller = world.settings().with("WATCH_NAMESPACE", list).start("controller");
    controller.ready().await;
    // The same name in both: two requests.
    world.create("x", update()).await;
    world.phase("x", "Queued").await;
    published(&watched, "x").await;
    // Objects come and go in one without a trace in the other.
    watched.delete("x", &DeleteParams::default()).await.unwrap();
    create(&world, &second, "y").await;
    published(&watched, "y").await;
    world.sql("UPDATE sync_executions SET status = 'success'").await;
    world.phase("x", "Succeeded").await;
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 3);
    let status = unwatched.get("x").await.unwrap().status.unwrap();
    assert_eq!((status.observed_generation, status.phase), (Some(-1), None), "nobody has answered it");
}

#[tokio::test]
async fn nothing_is_published_before_every_namespace_of_the_list_is_listed() {
    let world = World::new("watched-rights").await;
    let locked = format!("{}-b", world.name);
    let late = create(&world, &locked, "late").await;
    // What is there of other namespaces is not this controller's: neither does it ask for it, nor publish it.
    world
        .sql(
            "INSERT INTO sync_executions (mode, status, request_uid, namespace, name)
             VALUES ('update', 'running', gen_random_uuid(), 'foreign', 'x')",
        )
        .await;
    let account = Account::new(&world);
    account.may_serve(&world.name);
    let settings = world.settings().with("KUBECONFIG", account.kubeconfig());
    let controller = settings.with("WATCH_NAMESPACE", format!("{},{locked}", world.name)).start("controller");
    let mut worker = world.worker().await;
    world.create("early", update()).await;
    world.phase("early", "Pending").await;
    let missing = eventually("readiness to name the namespace", async || {
        let text = reqwest::get(format!("http://{}/readyz", controller.address().await)).await.ok()?.text().await.ok()?;
        text.contains(&format!("namespace {locked}")).then_some(text)
    })
    .await;
    assert!(missing.contains("forbidden"), "{missing}");
    assert!(worker.take_within(std::time::Duration::from_secs(1)).await.is_none(), "published before all were listed");

    account.may_serve(&locked);
    published(&late, "late").await;
    world.phase("early", "Queued").await;
    controller.ready().await;
    worker.take_many(2).await;
    assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE published_at IS NULL AND namespace = 'foreign'").await, 1);
}
