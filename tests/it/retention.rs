//! Old executions go by policy: ended ones, whose object is gone, and no others. What is gone is never asked of the worker again.

use std::time::Duration;

use crate::common::{
    eventually,
    objects::{condition, update},
    world::World,
};

/// Makes every row so old. Nothing in the product does that, and the table's own rules forbid it.
async fn age(world: &World, days: i32) {
    world.sql("ALTER TABLE sync_executions DISABLE TRIGGER USER").await;
    let sql = "UPDATE sync_executions SET created_at = created_at - make_interval(days => $1), finished_at = finished_at - make_interval(days => $1)";
    sqlx::query(sql).bind(days).execute(&world.database).await.unwrap();
    world.sql("ALTER TABLE sync_executions ENABLE TRIGGER USER").await;
}

async fn names(world: &World) -> Vec<String> {
    sqlx::query_scalar("SELECT name FROM sync_executions ORDER BY id").fetch_all(&world.database).await.unwrap()
}

#[tokio::test]
async fn a_row_whose_object_exists_stays_and_one_whose_object_is_gone_goes() {
    let world = World::new("retention-object").await;
    let (controller, mut worker) = (world.controller().await, world.worker().await);
    for name in ["here", "gone", "runs"] {
        world.create(name, update()).await;
        worker.take().await;
    }
    world.sql("UPDATE sync_executions SET status = 'success' WHERE name <> 'runs'").await;
    for name in ["here", "gone"] {
        world.phase(name, "Succeeded").await;
    }
    for name in ["gone", "runs"] {
        world.delete(name).await;
    }
    age(&world, 2).await;
    controller.terminate().await;

    let controller = world.settings().with("RETENTION_DAYS", "success=1").start("controller");
    controller.logged("old executions deleted").await;
    assert_eq!(names(&world).await, ["here", "runs"]);
    assert!((controller.metric(r#"sync_operator_deleted_executions_total{status="success"}"#).await - 1.0).abs() < 0.5);

    // Listed again, the object is as it was, and nothing is published.
    let version = world.resource_version("here").await;
    controller.terminate().await;
    let controller = world.controller().await;
    eventually("the object to be looked at", async || {
        (controller.metric(r#"sync_operator_reconciles_total{outcome="unchanged"}"#).await > 0.5).then_some(())
    })
    .await;
    assert_eq!(world.resource_version("here").await, version);
    let status = world.phase("here", "Succeeded").await;
    assert_eq!(condition(&status, "Recorded"), Some(("True", "RowWritten")));
    assert!(worker.take_within(Duration::from_secs(3)).await.is_none(), "published again");
}

#[tokio::test]
async fn an_object_that_never_showed_its_old_execution_keeps_it_and_is_not_published_twice() {
    let world = World::new("retention-unshown").await;
    let object = world.create("unshown", update()).await;
    let recorded = "INSERT INTO sync_executions (request_uid, namespace, name, mode, status, published_at)
                    VALUES ($1::uuid, $2, 'unshown', 'update', 'success', now())";
    sqlx::query(recorded).bind(object.metadata.uid).bind(&world.name).execute(&world.database).await.unwrap();
    age(&world, 400).await;
    let purged = world.settings().with("RETENTION_DAYS", 1).succeed(&["purge"]).await;
    assert!(purged.lines().any(|line| line.split_whitespace().eq(["success", "1", "0", "1"])), "{purged}");
    let mut worker = world.worker().await;
    let controller = world.settings().with("RETENTION_DAYS", 1).start("controller");
    controller.ready().await;
    assert_eq!(world.phase("unshown", "Succeeded").await.execution_id.as_deref(), Some("1"));
    assert!(worker.take_within(Duration::from_secs(3)).await.is_none(), "published again");
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 1);
}

#[tokio::test]
async fn by_hand_it_is_rehearsed_first_and_each_status_has_its_days() {
    let world = World::new("retention-hand").await;
    let settings = world.settings().with("RETENTION_DAYS", "success=30,error=300,cancelled=3");
    world
        .sql(
            "INSERT INTO sync_executions (mode, status, duration_seconds, created_at, finished_at, request_uid, namespace, name)
             SELECT CASE WHEN n % 3 = 0 THEN 'backfill' ELSE 'update' END, status, 2, now() - make_interval(days => days),
                    now() - make_interval(days => days), CASE WHEN n % 2 = 0 THEN gen_random_uuid() END, current_database(), 'x-' || n
             FROM unnest('{running,success,error,cancelled}'::text[]) AS status, unnest('{1,10,100,1000}'::int[]) AS days,
                  generate_series(1, 600) AS n",
        )
        .await;
    // Recorded long ago, ended just now; and of a namespace that is not ours.
    world
        .sql(
            "INSERT INTO sync_executions (mode, status, created_at, finished_at, request_uid, namespace, name)
             VALUES ('update', 'success', now() - interval '90 days', now(), gen_random_uuid(), current_database(), 'long'),
                    ('update', 'success', now() - interval '90 days', now() - interval '90 days', gen_random_uuid(), 'other', 'other')",
        )
        .await;
    let rows = |printed: &str| -> Vec<Vec<String>> {
        printed.lines().skip(1).map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let wanted = [["success", "30", "1200", "0"], ["error", "300", "600", "0"], ["cancelled", "3", "1800", "0"]];
    let rehearsed = settings.succeed(&["purge", "--dry-run"]).await;
    assert!(rehearsed.contains("WOULD DELETE") && rows(&rehearsed) == wanted, "{rehearsed}");
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 9602, "a rehearsal deletes nothing");
    let purged = settings.succeed(&["purge"]).await;
    assert!(purged.contains(" DELETED") && rows(&purged) == wanted, "{purged}");
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 6002);
    assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE status = 'running'").await, 2400);
    assert_eq!(world.number("SELECT count(*) FROM sync_executions WHERE name IN ('long', 'other')").await, 2);
    settings.succeed(&["counters", "verify"]).await;
    assert_eq!(
        rows(&settings.succeed(&["purge"]).await),
        [["success", "30", "0", "0"], ["error", "300", "0", "0"], ["cancelled", "3", "0", "0"]]
    );
}

#[tokio::test]
async fn without_knowing_which_objects_exist_nothing_is_deleted() {
    let world = World::new("retention-blind").await;
    world
        .sql("INSERT INTO sync_executions (mode, status, created_at, finished_at) VALUES ('update', 'success', '2020-01-01', '2020-01-01')")
        .await;
    let (proxy, kubeconfig) = world.kubeconfig_by_proxy().await;
    proxy.set(crate::common::proxy::Mode::Refuse);
    let settings = world.settings().with("RETENTION_DAYS", 1).with("KUBECONFIG", kubeconfig.display());
    let ended = settings.run(&["purge"]).await;
    assert!(ended.code == Some(1) && ended.err.contains("list SyncExecutions"), "{ended:?}");
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 1);
    let unset = world.settings().run(&["purge"]).await;
    assert!(unset.code == Some(2) && unset.err.contains("set RETENTION_DAYS, like 90"), "{unset:?}");
    let wrong = world.settings().with("RETENTION_DAYS", "ninety").run(&["controller"]).await;
    assert!(wrong.code == Some(2) && wrong.err.contains("--retention-days (RETENTION_DAYS): `ninety`"), "{wrong:?}");
}
