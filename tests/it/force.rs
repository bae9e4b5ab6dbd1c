//! `POST /sync/force`: what it makes, what it refuses, and that a key makes it safe to send again.

use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};

use crate::common::{
    http::{Answer, fields, shape},
    program::Program,
    proxy::{Mode, Proxy},
    world::World,
};

const TAKEN: &str = "success:bool message:string request_id:string";

fn july() -> Value {
    json!({"mode": "backfill", "data_ini": "2025-07-10T12:00:00", "data_fim": "2025-07-10T18:00:00", "reason": "outage"})
}

async fn force(api: &Program, body: &Value, key: Option<&str>) -> Answer {
    let request = api.request(Method::POST, "/sync/force").await.json(body);
    Answer::to(match key {
        Some(key) => request.header("Idempotency-Key", key),
        None => request,
    })
    .await
}

fn taken(answer: &Answer) -> (u16, String, String) {
    let body = answer.json();
    assert_eq!((shape(&body), &body["success"]), (fields(TAKEN), &json!(true)), "{answer:?}");
    let text = |field: &str| body[field].as_str().unwrap().to_owned();
    assert_eq!(answer.header("location"), format!("/sync/executions/{}", text("request_id")));
    (answer.code, text("message"), text("request_id"))
}

#[tokio::test]
async fn a_forced_sync_is_an_object_of_the_caller_and_is_answered_once_it_is_published() {
    let world = World::new("force").await;
    let (_controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    let (code, message, first) = taken(&force(&api, &json!({"mode": "update", "data_ini": null}), None).await);
    assert_eq!((code, message.as_str(), first.as_str()), (200, "Sync request published: update", "1"));
    assert_eq!(worker.take().await.body, json!({"mode": "update", "request_id": "1"}));
    let (code, message, second) = taken(&force(&api, &july(), None).await);
    assert_eq!((code, message.as_str(), second.as_str()), (200, "Sync request published: backfill", "2"));
    assert_eq!(
        worker.take().await.body,
        json!({"mode": "backfill", "data_ini": "2025-07-10T12:00:00", "data_fim": "2025-07-10T18:00:00", "request_id": "2"})
    );
    let execution = api.get("/sync/executions/2").await;
    assert_eq!((&execution["requested_by"], &execution["reason"]), (&json!("admin"), &json!("outage")));
    let object = world.objects().get(execution["name"].as_str().unwrap()).await.unwrap();
    assert_eq!(execution["request_uid"], json!(object.metadata.uid));
    assert_eq!((object.spec.requested_by.as_deref(), object.spec.reason.as_deref()), (Some("admin"), Some("outage")));
    assert_eq!(object.spec.ttl_seconds_after_finished, Some(86_400));
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_with_what_to_do() {
    let world = World::new("force-refused").await;
    let api = world.api().await;
    let backfill = |start: &str, end: &str| json!({"mode": "backfill", "data_ini": start, "data_fim": end});
    let noon = "2025-07-10T12:00:00";
    for (body, says) in [
        (json!({"mode": "backfill"}), "a backfill needs data_ini and data_fim"),
        (json!({"mode": "backfill", "data_fim": noon}), "a backfill needs data_ini and data_fim"),
        (json!({"mode": "backfill", "data_ini": noon}), "a backfill needs data_ini and data_fim"),
        (json!({"mode": "update", "data_ini": noon}), "an update takes no data_ini and data_fim"),
        (json!({"mode": "full"}), "unknown variant `full`"),
        (json!({}), "missing field `mode`"),
        (json!([]), "Failed to deserialize the JSON body"),
        (backfill(noon, "2025-07-10T11:00:00"), "swap them, or choose a later end"),
        (backfill(noon, noon), "swap them, or choose a later end"),
        (backfill("yesterday", noon), "data_ini: `yesterday` is not a time: write it like"),
        (backfill(noon, "2025-13-10T12:00:00"), "data_fim: `2025-13-10T12:00:00` is not a time"),
        (backfill("-10000-01-01T00:00:00", noon), "data_ini: `-10000-01-01T00:00:00` is not a time"),
        (backfill(noon, "+12025-01-01T00:00:00"), "data_fim: `+12025-01-01T00:00:00` is not a time"),
        (backfill("2019-02-16T23:30:00", noon), "happened twice in America/Cuiaba"),
        (backfill("2019-02-17T02:30:00Z", noon), "choose a bound outside of the repeated hour"),
        (backfill("2018-11-04T00:30:00", noon), "does not exist in America/Cuiaba"),
        (backfill("2025-07-10T11:00:00.5", noon), "remove the decimals"),
        (json!({"mode": "update", "reason": "r".repeat(1025)}), "shorten it"),
        (json!({"mode": "update", "reason": "r".repeat(200 * 1024)}), "length limit exceeded"),
    ] {
        force(&api, &body, None).await.is_problem(400, says);
    }
    let post = async || api.request(Method::POST, "/sync/force").await.header(CONTENT_TYPE, "application/json");
    Answer::to(post().await.body("{\"mode\":")).await.is_problem(400, "JSON");
    Answer::to(post().await.body("")).await.is_problem(400, "JSON");
    Answer::to(api.request(Method::POST, "/sync/force").await.body("mode=update")).await.is_problem(400, "application/json");
    for key in ["", " ", &"k".repeat(256), "ключ"] {
        force(&api, &json!({"mode": "update"}), Some(key)).await.is_problem(400, "Idempotency-Key: send 1 to 255 ASCII characters");
    }
    assert_eq!(world.objects().list(&kube::api::ListParams::default()).await.unwrap().items.len(), 0);
}

#[tokio::test]
async fn the_same_key_gives_the_same_execution_even_after_its_object_is_gone() {
    let world = World::new("force-key").await;
    let (_controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    let first = taken(&force(&api, &july(), Some("july")).await);
    assert_eq!(first.0, 200);
    assert_eq!(taken(&force(&api, &july(), Some("july")).await), first);
    worker.take().await;
    world.sql("UPDATE sync_executions SET status = 'success'").await;
    let name = api.get("/sync/executions/1").await["name"].as_str().unwrap().to_owned();
    world.delete(&name).await;
    assert_eq!(taken(&force(&api, &july(), Some("july")).await), first);
    // The same window in other words is the same request.
    let mut respelled = july();
    respelled["data_ini"] = json!("2025-07-10T16:00:00Z");
    assert_eq!(taken(&force(&api, &respelled, Some("july")).await), first);
    for (field, value) in [("data_fim", json!("2025-07-10T19:00:00")), ("reason", json!("other")), ("reason", Value::Null)] {
        let mut other = july();
        other[field] = value;
        force(&api, &other, Some("july")).await.is_problem(409, "use a new key");
    }
    force(&api, &json!({"mode": "update"}), Some("july")).await.is_problem(409, "use a new key");
    assert_eq!(taken(&force(&api, &july(), Some("july, again")).await).2, "2");
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 2);
}

#[tokio::test]
async fn the_same_key_sent_many_times_at_once_runs_once() {
    let world = World::new("force-at-once").await;
    let (_controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    let body = july();
    let answers = futures::future::join_all((0..8).map(|_| force(&api, &body, Some("once")))).await;
    for answer in &answers {
        assert_eq!(taken(answer), (200, "Sync request published: backfill".to_owned(), "1".to_owned()));
    }
    worker.take().await;
    assert!(worker.take_within(std::time::Duration::from_millis(500)).await.is_none());
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 1);
}

#[tokio::test]
async fn without_a_controller_it_is_accepted_and_the_uid_is_the_name_to_ask_for() {
    let world = World::new("force-accepted").await;
    let api = world.settings().with("FORCE_WAIT_MILLISECONDS", 100).start("api");
    api.ready().await;
    let (code, message, uid) = taken(&force(&api, &july(), Some("k")).await);
    assert_eq!((code, message.as_str()), (202, "Sync request accepted: backfill"));
    assert_eq!(taken(&force(&api, &july(), Some("k")).await).2, uid, "a replay before it is recorded");
    force(&api, &json!({"mode": "update"}), Some("k")).await.is_problem(409, "use a new key");
    api.read(&format!("/sync/executions/{uid}")).await.is_problem(404, &uid);
    let _controller = world.controller().await;
    let mut worker = world.worker().await;
    assert_eq!(worker.take().await.execution(), 1);
    let execution = api.get(&format!("/sync/executions/{uid}")).await;
    assert_eq!((&execution["id"], &execution["request_uid"]), (&json!(1), &json!(uid)));
}

#[tokio::test]
async fn while_the_broker_is_away_it_is_accepted_with_its_execution_id() {
    let world = World::new("force-broker").await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let controller = world.settings().with("RABBITMQ_URL", url).start("controller");
    controller.ready().await;
    let api = world.settings().with("FORCE_WAIT_MILLISECONDS", 1500).start("api");
    api.ready().await;
    proxy.set(Mode::Refuse);
    proxy.cut();
    let (code, message, id) = taken(&force(&api, &json!({"mode": "update"}), None).await);
    assert_eq!((code, message.as_str(), id.as_str()), (202, "Sync request accepted: update", "1"));
    proxy.set(Mode::Pass);
    assert_eq!(world.worker().await.take().await.execution(), 1);
}
