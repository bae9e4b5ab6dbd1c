//! The REST contract of what is read: names and JSON types of all fields, pages of history, single executions.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{
    http::{fields, shape},
    program::Program,
    world::World,
};

/// An execution of which everything is known.
const EXECUTION: &str = "id:number mode:string window_start:string window_end:string status:string records_processed:number
    duration_seconds:number error_message:string created_at:string updated_at:string phase:string request_uid:string namespace:string
    name:string requested_by:string reason:string revision:number attempt:number deadline_at:string publish_problem:string
    published_at:string started_at:string finished_at:string finish_reason:string";
/// One that a worker opened, with nothing but its mode.
const BARE_EXECUTION: &str = "id:number mode:string window_start:null window_end:null status:string records_processed:number
    duration_seconds:null error_message:null created_at:string updated_at:string phase:string request_uid:null namespace:null
    name:null requested_by:null reason:null revision:number attempt:number deadline_at:null publish_problem:null
    published_at:null started_at:string finished_at:null finish_reason:null";
const STATUS: &str = "last_execution:string status:string mode:string window_start:string window_end:string records_processed:number
    duration_seconds:number error_message:string last_updated:string id:number phase:string namespace:string name:string";
const IDLE_STATUS: &str = "last_execution:null status:string mode:null window_start:null window_end:null records_processed:number
    duration_seconds:null error_message:null last_updated:null id:null phase:null namespace:null name:null";
const HISTORY: &str = "executions:array total_count:number success_count:number error_count:number running_count:number
    cancelled_count:number next:null";
const DASHBOARD: &str = "total_executions:number success_rate:string avg_duration_seconds:string last_24h_executions:number
    current_status:string success_count:number error_count:number running_count:number cancelled_count:number";

/// The record of a failed backfill of which everything is known.
const KNOWN: &str = "
    INSERT INTO sync_executions
        (request_uid, namespace, name, mode, window_start, window_end, status, records_processed, duration_seconds, error_message,
         requested_by, reason, deadline_at, publish_problem, publish_message, publish_failed_at, published_at, started_at, finished_at,
         finish_reason, created_at)
    VALUES
        ('6f1ed002-ab59-4c50-8d43-4c5f2f1a9d11', 'ns', 'july', 'backfill', '2025-07-10T16:00Z', '2025-07-10T22:00Z', 'error', 7, 45.25, 'boom',
         'ana', 'outage', now(), 'Rejected', 'full', now(), now(), now(), now(),
         'DeadlineExceeded', '2025-07-11T12:00Z')";

#[tokio::test]
async fn an_empty_record_is_idle() {
    let world = World::new("rest-idle").await;
    let api = world.api().await;
    let status = api.get("/sync/status").await;
    assert_eq!((shape(&status), &status["status"]), (fields(IDLE_STATUS), &json!("idle")));
    let history = api.get("/sync/history").await;
    assert_eq!(shape(&history), fields(HISTORY));
    assert_eq!((&history["executions"], &history["total_count"]), (&json!([]), &json!(0)));
    let dashboard = api.get("/sync/dashboard").await;
    assert_eq!(shape(&dashboard), fields(DASHBOARD));
    assert_eq!(
        (&dashboard["success_rate"], &dashboard["avg_duration_seconds"], &dashboard["current_status"]),
        (&json!("0.0%"), &json!("0.0"), &json!("idle"))
    );
}

#[tokio::test]
async fn every_answer_has_the_fields_and_types_of_the_contract() {
    let world = World::new("rest-fields").await;
    let api = world.api().await;
    world.sql("INSERT INTO sync_executions (mode, created_at) VALUES ('update', '2025-07-10T12:00Z')").await;
    world.sql(KNOWN).await;
    let status = api.get("/sync/status").await;
    assert_eq!(shape(&status), fields(STATUS));
    assert_eq!(
        (&status["last_execution"], &status["status"], &status["window_start"], &status["duration_seconds"]),
        (&json!("2025-07-11T12:00:00Z"), &json!("error"), &json!("2025-07-10T16:00:00Z"), &json!(45.25))
    );
    let history = api.get("/sync/history").await;
    assert_eq!(shape(&history), fields(HISTORY));
    let shown = history["executions"].as_array().unwrap();
    assert_eq!((shape(&shown[0]), shape(&shown[1])), (fields(EXECUTION), fields(BARE_EXECUTION)));
    assert_eq!((&shown[0]["publish_problem"], &shown[0]["phase"]), (&json!("Rejected: full"), &json!("Failed")));
    let dashboard = api.get("/sync/dashboard").await;
    assert_eq!(shape(&dashboard), fields(DASHBOARD));
    assert_eq!(
        (&dashboard["total_executions"], &dashboard["avg_duration_seconds"], &dashboard["last_24h_executions"]),
        (&json!(2), &json!("45.2"), &json!(0))
    );
    assert_eq!(&api.get("/sync/executions/2").await, &shown[0]);
}

#[tokio::test]
async fn an_execution_is_found_by_id_and_by_uid_and_nothing_else_is() {
    let world = World::new("rest-one").await;
    let api = world.api().await;
    world.sql(KNOWN).await;
    let by_id = api.get("/sync/executions/1").await;
    assert_eq!(by_id, api.get("/sync/executions/6f1ed002-ab59-4c50-8d43-4c5f2f1a9d11").await);
    assert_eq!(by_id, api.get("/sync/executions/6F1ED002-AB59-4C50-8D43-4C5F2F1A9D11").await);
    for (path, code, says) in [
        ("/sync/executions/2", 404, "there is no execution 2"),
        ("/sync/executions/-1", 404, "there is no execution -1"),
        ("/sync/executions/6f1ed002-ab59-4c50-8d43-4c5f2f1a9d12", 404, "6f1ed002-ab59-4c50-8d43-4c5f2f1a9d12"),
        ("/sync/executions/july", 400, "by its id (a number) or by the uid"),
        ("/sync/executions/99999999999999999999", 400, "by its id (a number) or by the uid"),
        ("/sync/executions/%ff", 400, "UTF-8"),
    ] {
        api.read(path).await.is_problem(code, says);
    }
}

fn ids(history: &Value) -> Vec<i64> {
    history["executions"].as_array().unwrap().iter().map(|execution| execution["id"].as_i64().unwrap()).collect()
}

/// Follows `next` from `path` to the last page; the ids in the order they came. Something is recorded between pages.
async fn walk(world: &World, api: &Program, path: &str) -> Vec<i64> {
    let mut all = Vec::new();
    let mut page = api.get(path).await;
    loop {
        all.extend(ids(&page));
        let Some(next) = page["next"].as_str() else { return all };
        world.sql("INSERT INTO sync_executions (mode) SELECT 'update' FROM generate_series(1, 3)").await;
        page = api.get(&format!("{path}&cursor={next}")).await;
    }
}

#[tokio::test]
async fn pages_show_each_execution_once_newest_first_while_more_are_recorded() {
    let world = World::new("rest-pages").await;
    let api = world.api().await;
    // Tens of the same microsecond, and creation times that do not follow the ids.
    world
        .sql(
            "INSERT INTO sync_executions (mode, status, created_at)
             SELECT CASE WHEN n % 3 = 0 THEN 'backfill' ELSE 'update' END, CASE WHEN n % 2 = 0 THEN 'success' ELSE 'error' END,
                    '2025-07-10T12:00Z'::timestamptz + (n * 7 % 25) * interval '1 microsecond'
             FROM generate_series(1, 250) AS n",
        )
        .await;
    let order: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM sync_executions ORDER BY created_at DESC, id DESC").fetch_all(&world.database).await.unwrap();
    assert_eq!(walk(&world, &api, "/sync/history?limit=40").await, order);
    for (filter, kept) in [
        ("status=success", "status = 'success'"),
        ("mode=backfill", "mode = 'backfill'"),
        ("status=error&mode=backfill", "status = 'error' AND mode = 'backfill'"),
    ] {
        let sql = format!("SELECT id FROM sync_executions WHERE {kept} AND id <= 250 ORDER BY created_at DESC, id DESC");
        let order: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&world.database).await.unwrap();
        let walked = walk(&world, &api, &format!("/sync/history?limit=30&{filter}")).await;
        assert_eq!(walked, order, "{filter}");
        assert_eq!(walked.iter().collect::<BTreeSet<_>>().len(), walked.len());
    }
}

#[tokio::test]
async fn a_page_has_as_many_as_asked_for_and_counts_of_all() {
    let world = World::new("rest-limit").await;
    let api = world.api().await;
    world
        .sql(
            "INSERT INTO sync_executions (mode, status)
             SELECT 'update', (ARRAY['success', 'error', 'cancelled', 'running'])[1 + n % 4] FROM generate_series(1, 250) AS n",
        )
        .await;
    for (query, count) in [("", 50), ("?limit=1", 1), ("?limit=200", 200), ("?limit=201", 200), ("?limit=9000000000", 200)] {
        let page = api.get(&format!("/sync/history{query}")).await;
        assert_eq!(ids(&page).len(), count, "{query}");
        assert_eq!(
            ["total_count", "success_count", "error_count", "cancelled_count", "running_count"].map(|name| page[name].as_i64().unwrap()),
            [250, 62, 63, 63, 62],
            "{query}"
        );
    }
}

#[tokio::test]
async fn history_is_cut_by_time_in_any_spelling() {
    let world = World::new("rest-times").await;
    let api = world.api().await;
    world
        .sql(
            "INSERT INTO sync_executions (mode, created_at)
             SELECT 'update', '2025-07-10T12:00Z'::timestamptz + n * interval '1 hour' FROM generate_series(1, 5) AS n",
        )
        .await;
    for (query, shown) in [
        ("from=2025-07-10T15:00:00Z", &[5, 4, 3][..]),
        ("from=2025-07-10T11:00:00", &[5, 4, 3]),
        ("from=2025-07-10T11:00:00-04:00&to=2025-07-10T17:00:00Z", &[4, 3]),
        ("to=2025-07-10", &[]),
        ("from=2025-07-11", &[]),
    ] {
        assert_eq!(ids(&api.get(&format!("/sync/history?{query}")).await), shown, "{query}");
    }
}

#[tokio::test]
async fn a_query_that_means_nothing_is_refused_with_its_name() {
    let world = World::new("rest-query").await;
    let api = world.api().await;
    for (query, says) in [
        ("limit=0", "limit is 0: ask for 1 to 200"),
        ("limit=-1", "limit is -1"),
        ("limit=many", "limit"),
        ("status=done", "unknown variant `done`"),
        ("mode=full", "unknown variant `full`"),
        ("page=2", "unknown field `page`"),
        ("from=yesterday", "from: `yesterday` is not a time"),
        ("to=2018-11-04T00:30:00", "to: 2018-11-04 00:30:00 does not exist in America/Cuiaba"),
        ("from=-10000-01-01", "from: `-10000-01-01` is not a time"),
        ("cursor=x", "cursor is none of ours"),
        ("cursor=", "cursor is none of ours"),
        // The right form, but a time that no database knows.
        ("cursor=LTkyMjMzNzIwMzY4NTQ3NzU4MDgsMQ", "cursor is none of ours"),
        ("cursor=LTIwMDAwMDAwMDAwMDAwMDAwMCwx", "cursor is none of ours"),
    ] {
        api.read(&format!("/sync/history?{query}")).await.is_problem(400, says);
    }
    let (code, _) = api.call(Method::GET, "/sync/history?limit=2", None).await;
    assert_eq!(code, 200);
}
