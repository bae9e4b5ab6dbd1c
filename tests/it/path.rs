//! The whole path: apply, record, message, report by each way, status, REST.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::common::{
    objects::{backfill, condition, update},
    world::World,
};

#[tokio::test]
async fn an_update_goes_from_apply_to_succeeded_by_reports_over_sql() {
    let world = World::new("path-update").await;
    let (_controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("now", update()).await;

    let message = worker.take().await;
    let id = message.execution();
    assert_eq!(message.text, format!(r#"{{"mode":"update","request_id":"{id}"}}"#));
    let uid = world.objects().get("now").await.unwrap().metadata.uid.unwrap();
    let properties = &message.properties;
    assert_eq!(message.message_id(), format!("{uid}/1"));
    assert_eq!(properties.correlation_id().as_ref().unwrap().as_str(), id.to_string());
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(properties.delivery_mode(), &Some(2));
    assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "sync-operator");
    assert!(properties.timestamp().is_some() && properties.kind().is_some());

    let queued = world.phase("now", "Queued").await;
    assert_eq!(condition(&queued, "Published"), Some(("True", "Confirmed")));
    world.sql("UPDATE sync_executions SET status = 'running'").await;
    world.phase("now", "Running").await;
    world.sql("UPDATE sync_executions SET records_processed = 7").await;
    world.status("now", "7 records", |status| status.records_processed == Some(7)).await;
    world
        .sql(
            "UPDATE sync_executions SET status = 'success', records_processed = 12, duration_seconds = 45.2,
                    window_start = '2025-07-10T16:00Z', window_end = '2025-07-10T16:15Z'",
        )
        .await;
    let done = world.phase("now", "Succeeded").await;
    assert_eq!((done.records_processed, done.duration.as_deref()), (Some(12), Some("45.2s")));
    assert_eq!(done.execution_id, Some(id.to_string()));
    assert_eq!(done.window.unwrap().start.to_rfc3339(), "2025-07-10T16:00:00+00:00");
}

#[tokio::test]
async fn a_backfill_goes_from_apply_to_succeeded_by_reports_over_http() {
    let world = World::new("path-backfill").await;
    let (_controller, api, mut worker) = (world.controller().await, world.api().await, world.worker().await);
    world.create("july", backfill()).await;

    let message = worker.take().await;
    let id = message.execution();
    assert_eq!(
        message.text,
        format!(r#"{{"mode":"backfill","data_ini":"2025-07-10T12:00:00","data_fim":"2025-07-10T18:00:00","request_id":"{id}"}}"#)
    );
    let path = format!("/sync/executions/{id}");
    let (code, _) = api.call(Method::PATCH, &path, Some(json!({"status": "running", "records_processed": 3}))).await;
    assert_eq!(code, 200);
    world.status("july", "3 records", |status| status.records_processed == Some(3)).await;
    let (code, body) =
        api.call(Method::PATCH, &path, Some(json!({"status": "success", "records_processed": 59, "duration_seconds": 1.5}))).await;
    assert_eq!((code, &body["phase"]), (200, &json!("Succeeded")));
    let done = world.phase("july", "Succeeded").await;
    assert_eq!(condition(&done, "Complete"), Some(("True", "Succeeded")));
    let status = api.get("/sync/status").await;
    assert_eq!((&status["status"], &status["records_processed"]), (&json!("success"), &json!(59)));
}

#[tokio::test]
async fn a_failure_reported_over_amqp_is_shown_with_its_text_and_ends_kubectl_wait() {
    let world = World::new("path-amqp").await;
    let (_controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("broken", backfill()).await;
    let id = worker.take().await.execution();
    worker.report(&json!({"request_id": id.to_string(), "status": "running"})).await;
    world.phase("broken", "Running").await;
    worker
        .report(&json!({"request_id": id.to_string(), "status": "error", "error_message": "portal answered 500", "duration_seconds": 2}))
        .await;

    let waited = world.kubectl(&["wait", "--for=condition=Finished", "sx/broken", "--timeout=60s"], None);
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    let failed = world.phase("broken", "Failed").await;
    assert_eq!(failed.error.as_deref(), Some("portal answered 500"));
    assert_eq!(condition(&failed, "Failed"), Some(("True", "WorkerError")));
    assert_eq!(condition(&failed, "Complete"), None);
    let described = world.kubectl(&["describe", "sx", "broken"], None);
    assert!(String::from_utf8_lossy(&described.stdout).contains("portal answered 500"));
}

#[tokio::test]
async fn once_all_is_shown_nothing_more_is_written() {
    let world = World::new("path-quiet").await;
    let (controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("now", update()).await;
    worker.take().await;
    world.sql("UPDATE sync_executions SET status = 'success'").await;
    world.phase("now", "Succeeded").await;
    let version = world.resource_version("now").await;
    let writes = controller.metric(r#"sync_operator_status_writes_total{outcome="written"}"#).await;
    assert!((1.0..=3.0).contains(&writes), "{writes} status writes for one execution");
    // Repeats and heartbeats wake nobody; a restart looks at everything and finds nothing to do.
    world.sql("UPDATE sync_executions SET status = 'success'").await;
    controller.terminate().await;
    let controller = world.controller().await;
    controller.logged("listening for changes").await;
    crate::common::eventually("a reconcile after the restart", async || {
        (controller.metric(r#"sync_operator_reconciles_total{outcome="unchanged"}"#).await > 0.0).then_some(())
    })
    .await;
    assert_eq!(world.resource_version("now").await, version);
    assert!(worker.take_within(Duration::from_millis(500)).await.is_none(), "nothing is published again");
}
