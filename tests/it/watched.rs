//! Which namespaces are watched: those of the list, as one.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use serde_json::json;
use sync_operator::crd::SyncExecution;

use crate::common::{eventually, objects::update, world::World};

/// A SyncExecution in a namespace beside the world's own.
async fn create(world: &World, namespace: &str, name: &str) -> Api<SyncExecution> {
    let labels = Namespace { metadata: ObjectMeta { name: Some(namespace.to_owned()), ..ObjectMeta::default() }, ..Namespace::default() };
    let namespaces = Api::<Namespace>::all(world.client.clone());
    if namespaces.get_opt(namespace).await.unwrap().is_none() {
        namespaces.create(&PostParams::default(), &labels).await.unwrap();
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
