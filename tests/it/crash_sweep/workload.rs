//! The work that runs while the program dies: it meets every kind of effect, in a few seconds. It goes on whatever dies, as its
//! users would, and judges nothing.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use sync_operator::crd::SyncExecution;

use super::kept::Kept;
use crate::common::{
    eventually,
    objects::{backfill, update},
    proxy::{Mode, Proxy},
    worker::Worker,
    world::World,
};

/// What must be there before the program: a queue that is full, a history to be folded, and what a restore leaves.
pub async fn prepare(world: &World) {
    let full = json!({"pattern": "^ingest\\.pncp$", "apply-to": "queues", "definition": {"max-length": 0, "overflow": "reject-publish"}});
    world.manage(Method::PUT, &policy(world), Some(full)).await;
    // Each statement leaves differences to be folded.
    world
        .sql("DO $$ BEGIN FOR n IN 1..20 LOOP INSERT INTO sync_executions (mode, status) VALUES ('update', 'success'); END LOOP; END $$")
        .await;
    let lost = create(&world.objects(), "lost", update()).await;
    let published = json!({"executionID": "60", "revision": 4, "phase": "Queued", "publishTime": "2025-07-10T12:00:00Z"});
    show(world, &lost, published.clone()).await;
    let behind = create(&world.objects(), "behind", update()).await;
    let insert = "INSERT INTO sync_executions (request_uid, namespace, name, mode) VALUES ($1::uuid, $2, 'behind', 'update') RETURNING id";
    let id: i64 = sqlx::query_scalar(insert).bind(behind.uid()).bind(&world.name).fetch_one(&world.database).await.unwrap();
    let mut shown = published;
    shown["executionID"] = json!(id.to_string());
    show(world, &behind, shown).await;
}

fn policy(world: &World) -> String {
    format!("policies/{}/full", world.name)
}

async fn create(objects: &Api<SyncExecution>, name: &str, spec: Value) -> SyncExecution {
    let object = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
    objects.create(&PostParams::default(), &object).await.unwrap()
}

async fn show(world: &World, object: &SyncExecution, status: Value) {
    let patch = Patch::Merge(json!({"status": status}));
    world.objects().patch_status(&object.name_any(), &PatchParams::default(), &patch).await.unwrap();
}

/// Waits until as many rows with one of these names, and more said of them in SQL, are there.
async fn rows(world: &World, names: &[&str], more: &str) {
    let sql = format!("SELECT count(*) FROM sync_executions WHERE name = ANY($1) AND {more}");
    eventually(&format!("rows {names:?} with {more}"), async || {
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql.clone())).bind(names).fetch_one(&world.database).await.unwrap();
        usize::try_from(count).is_ok_and(|count| count == names.len()).then_some(())
    })
    .await;
}

/// All of it, one kind of effect after the other. Answers the UIDs of all objects that were asked for.
pub async fn everything(world: &World, api: &Kept, proxy: &Proxy) -> Vec<String> {
    let mut asked = Vec::new();
    let with = |mut spec: Value, field: &str, value: i64| {
        spec[field] = json!(value);
        spec
    };
    let ambiguous = json!({"mode": "backfill", "window": {"start": "2019-02-10T00:00:00Z", "end": "2019-02-17T02:30:00Z"}});
    let hurried = json!({"mode": "backfill", "window": {"start": "2025-07-01T12:00:00Z", "end": "2025-07-01T18:00:00Z"}});
    for (name, spec) in [
        ("sql", with(update(), "ttlSecondsAfterFinished", 0)),
        ("http", backfill()),
        ("amqp", update()),
        ("amqp-error", backfill()),
        ("ambiguous", ambiguous),
        ("deleted", update()),
        ("deadline", with(hurried, "activeDeadlineSeconds", 2)),
    ] {
        asked.push(create(&world.objects(), name, spec).await.uid().unwrap());
    }
    // Refused by the broker, and deleted before it is published.
    rows(world, &["deleted"], "publish_problem IS NOT NULL").await;
    world.objects().delete("deleted", &DeleteParams::default()).await.unwrap();
    // What a relay that died leaves when its object is deleted meanwhile.
    world
        .sql(
            "INSERT INTO sync_executions (request_uid, namespace, name, mode, deleted_at, claimed_until)
             VALUES (gen_random_uuid(), 'elsewhere', 'abandoned', 'update', now(), now() - interval '1 minute')",
        )
        .await;
    rows(world, &["deleted", "abandoned"], "status = 'cancelled'").await;
    world.manage(Method::DELETE, &policy(world), None).await;
    rows(world, &["sql", "http", "amqp", "amqp-error", "ambiguous", "deadline"], "status <> 'running'").await;

    proxy.set(Mode::Refuse);
    proxy.cut();
    asked.push(create(&world.objects(), "away", update()).await.uid().unwrap());
    rows(world, &["away"], "publish_problem IS NOT NULL").await;
    // The first may still be tried on the connection that was cut; when this one comes the program knows that there is none.
    asked.push(create(&world.objects(), "still-away", update()).await.uid().unwrap());
    rows(world, &["still-away"], "publish_problem IS NOT NULL").await;
    proxy.set(Mode::Pass);
    rows(world, &["away", "still-away"], "status <> 'running'").await;

    // A request by HTTP, and the run of a worker that did not read its id; then one that nobody asked for.
    let window = json!({"mode": "backfill", "data_ini": "2025-07-02T12:00:00", "data_fim": "2025-07-02T18:00:00"});
    let (code, answer) = api.call(Method::POST, "/sync/force", &[("Idempotency-Key", "sweep")], &window).await;
    assert!(code == 200 || code == 202, "{code} {answer}");
    let forced = eventually("the published row of the forced object", async || {
        let sql = "SELECT name FROM sync_executions WHERE name LIKE 'force-%' AND published_at IS NOT NULL";
        sqlx::query_scalar::<_, String>(sql).fetch_optional(&world.database).await.unwrap()
    })
    .await;
    for day in [2, 3] {
        let (start, end) = (format!("2025-07-0{day}T12:00:00"), format!("2025-07-0{day}T18:00:00"));
        let run = json!({"mode": "backfill", "window_start": start, "window_end": end, "status": "success", "records_processed": day});
        let (code, answer) = api.call(Method::POST, "/sync/executions", &[], &run).await;
        assert!(code == 200 || code == 201, "{code} {answer}");
    }
    rows(world, &[forced.as_str()], "status = 'success'").await;
    asked.push(world.objects().get(&forced).await.unwrap().uid().unwrap());
    asked
}

/// When a burst is interrupted by SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interrupted {
    /// While its objects are recorded.
    Recording,
    /// When the first of its messages has come.
    Publishing,
    /// When the first of its reports was sent.
    Reporting,
}

/// How many objects a burst has.
const BURST: usize = 12;

/// Objects that come at once, and SIGTERM in the middle of their way.
pub async fn burst(world: &World, controller: &Kept, tap: &Tap, moment: Interrupted) -> Vec<String> {
    world.manage(Method::DELETE, &policy(world), None).await;
    eventually("a leader", async || {
        (world.number("SELECT count(*) FROM sync_executions WHERE held_at IS NOT NULL").await == 1).then_some(())
    })
    .await;
    let objects = world.objects();
    let names: Vec<String> = (0..BURST).map(|number| format!("burst-{number}")).collect();
    let creations = futures::future::join_all(names.iter().map(|name| create(&objects, name, backfill())));
    let interrupt = async {
        match moment {
            Interrupted::Recording => tokio::time::sleep(Duration::from_millis(10)).await,
            Interrupted::Publishing => tap.has(|seen| !seen.messages.is_empty()).await,
            Interrupted::Reporting => tap.has(|seen| seen.reports > 0).await,
        }
        controller.terminate();
    };
    let (created, ()) = tokio::join!(creations, interrupt);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    rows(world, &names, "status <> 'running'").await;
    created.into_iter().map(|object| object.uid().unwrap()).collect()
}

/// What was on the wire.
#[derive(Default)]
struct Seen {
    messages: Vec<(String, String)>,
    reports: usize,
}

/// The worker: writes down every message, and reports in the way that the name of its object says.
#[derive(Clone, Default)]
pub struct Tap(Arc<Mutex<Seen>>);

impl Tap {
    /// Message id and body of each message so far, in their order.
    pub fn messages(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap().messages.clone()
    }

    async fn has(&self, wanted: impl Fn(&Seen) -> bool) {
        while !wanted(&self.0.lock().unwrap()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Works for ever.
    pub async fn work(&self, world: &World, mut worker: Worker, api: &Kept) {
        loop {
            let Some(message) = worker.take_within(Duration::from_mins(1)).await else { continue };
            self.0.lock().unwrap().messages.push((message.message_id(), message.text.clone()));
            let id = message.execution();
            let name: String =
                sqlx::query_scalar("SELECT name FROM sync_executions WHERE id = $1").bind(id).fetch_one(&world.database).await.unwrap();
            let end = json!({"request_id": id, "status": "success", "records_processed": id, "duration_seconds": 1.5});
            match name.as_str() {
                "deadline" => {}
                name if name.starts_with("force-") => {}
                "http" => {
                    for report in [json!({"status": "running"}), end] {
                        let (code, answer) = api.call(Method::PATCH, &format!("/sync/executions/{id}"), &[], &report).await;
                        assert!(code == 200 || code == 409, "{code} {answer}");
                    }
                }
                "amqp" => {
                    worker.report(&json!({"request_id": id, "status": "running"})).await;
                    worker.report(&json!({"request_id": id, "records_processed": 1})).await;
                    worker.report(&end).await;
                }
                "amqp-error" => worker.report(&json!({"request_id": id, "status": "error", "error_message": "source is down"})).await,
                name if name.starts_with("burst-") => {
                    worker.report(&end).await;
                    self.0.lock().unwrap().reports += 1;
                }
                _ => {
                    let sql = "UPDATE sync_executions SET status = 'success', records_processed = id WHERE id = $1";
                    sqlx::query(sql).bind(id).execute(&world.database).await.unwrap();
                }
            }
        }
    }
}
