//! The ceiling of the API server: the same objects created and their status patched by nobody but the bench, with no record, no
//! message and no thought. Whoever writes as often cannot be faster than this.

use std::sync::Arc;

use anyhow::{Context, Result};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use crate::load::{self, IN_FLIGHT, SyncExecution};

/// Creates all, and patches each `writes` times (1 or 2), as many under way as with the operator: [`IN_FLIGHT`] creations, and
/// as many patches beside.
pub async fn run(objects: &Api<SyncExecution>, names: &[String], writes: u32) -> Result<()> {
    let (created, next) = mpsc::unbounded_channel::<(String, String)>();
    let next = Arc::new(Mutex::new(next));
    let mut patchers = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (objects, next) = (objects.clone(), Arc::clone(&next));
        patchers.spawn(async move {
            loop {
                let Some((name, uid)) = next.lock().await.recv().await else { return anyhow::Ok(()) };
                for number in 1..=writes {
                    patch(&objects, &name, &uid, number == writes && writes > 1).await?;
                }
            }
        });
    }
    let mut creators = JoinSet::new();
    let names = Arc::new(names.to_vec());
    for first in 0..IN_FLIGHT {
        let (objects, names, created) = (objects.clone(), Arc::clone(&names), created.clone());
        creators.spawn(async move {
            for name in names.iter().skip(first).step_by(IN_FLIGHT) {
                let uid = load::create_one(&objects, name).await?;
                created.send((name.clone(), uid)).context("the patchers ended")?;
            }
            anyhow::Ok(())
        });
    }
    drop(created);
    while let Some(ended) = creators.join_next().await {
        ended??;
    }
    while let Some(ended) = patchers.join_next().await {
        ended??;
    }
    Ok(())
}

/// One status write as the operator does it: fenced by the uid, the whole status.
async fn patch(objects: &Api<SyncExecution>, name: &str, uid: &str, ended: bool) -> Result<()> {
    let operations = json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "add", "path": "/status", "value": status(ended)},
    ]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(operations)?);
    objects.patch_status(name, &PatchParams::default(), &patch).await.with_context(|| format!("patch {name}"))?;
    Ok(())
}

/// What the operator shows of a published execution, and of one that succeeded.
fn status(ended: bool) -> Value {
    let at = "2025-07-11T09:00:00Z";
    let condition = |name: &str, status: &str, reason: &str, message: &str| json!({"type": name, "status": status, "reason": reason, "message": message, "lastTransitionTime": at, "observedGeneration": 1});
    let recorded = condition("Recorded", "True", "RowWritten", "recorded as execution 1234");
    let published = condition("Published", "True", "Confirmed", "the broker confirmed the message");
    if ended {
        json!({
            "observedGeneration": 1, "phase": "Succeeded", "executionID": "1234", "revision": 3, "queuedTime": at, "publishTime": at,
            "startTime": at, "completionTime": at, "duration": "0.1s", "recordsProcessed": 7,
            "conditions": [recorded, published,
                condition("Finished", "True", "Succeeded", "7 records processed"),
                condition("Complete", "True", "Succeeded", "7 records processed")],
        })
    } else {
        json!({
            "observedGeneration": 1, "phase": "Queued", "executionID": "1234", "revision": 2, "queuedTime": at, "publishTime": at,
            "conditions": [recorded, published,
                condition("Finished", "False", "Queued", "waiting for a worker to start"),
                condition("Reconciling", "True", "Queued", "waiting for a worker to start")],
        })
    }
}
