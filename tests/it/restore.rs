//! The database is put back to a backup by PostgreSQL's own tools, while the objects in Kubernetes and the messages in RabbitMQ
//! go on from where they were: nothing is run again by itself, and nothing new is taken for something old.

use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::json;

use crate::common::{
    eventually,
    http::Answer,
    objects::{backfill, condition, update},
    world::World,
};

/// Runs a program of PostgreSQL; what it printed.
fn postgres(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = command.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
    let output = command.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn back_up(world: &World) -> Vec<u8> {
    postgres("pg_dump", &[&world.database_url], b"")
}

/// As one restores: the database is dropped, made anew, and filled from the backup.
fn restore(world: &World, backup: &[u8]) {
    let server = world.database_url.replace(&format!("/{}", world.name), "/postgres");
    for sql in [format!("DROP DATABASE \"{}\" WITH (FORCE)", world.name), format!("CREATE DATABASE \"{}\"", world.name)] {
        postgres("psql", &[&server, "-v", "ON_ERROR_STOP=1", "-qc", &sql], b"");
    }
    postgres("psql", &[&world.database_url, "-v", "ON_ERROR_STOP=1", "-q", "--single-transaction"], backup);
}

#[tokio::test]
async fn after_a_restore_nothing_is_run_again_and_nothing_new_gets_the_id_of_something_lost() {
    let world = World::new("restore").await;
    let (controller, mut worker) = (world.controller().await, world.worker().await);
    world.create("ended", update()).await;
    assert_eq!(worker.take().await.execution(), 1);
    world.sql("UPDATE sync_executions SET status = 'success', records_processed = 3 WHERE id = 1").await;
    let ended = world.phase("ended", "Succeeded").await;
    world.create("behind", backfill()).await;
    assert_eq!(worker.take().await.execution(), 2);
    world.phase("behind", "Queued").await;

    let backup = back_up(&world);
    world.sql("UPDATE sync_executions SET status = 'success', records_processed = 9 WHERE id = 2").await;
    world.phase("behind", "Succeeded").await;
    world.create("lost", backfill()).await;
    let held = worker.take().await;
    assert_eq!(held.execution(), 3);
    world.phase("lost", "Queued").await;
    controller.terminate().await;
    restore(&world, &backup);
    // Asked for while nobody listens: by its name it comes before the lost one.
    world.create("fresh", update()).await;

    let (_controller, api) = (world.controller().await, world.api().await);
    world.condition("lost", "Recorded", "False", "RecordLost").await;
    let behind = world.condition("behind", "Recorded", "False", "RecordBehind").await;
    assert_eq!((behind.phase.unwrap().as_str(), behind.records_processed), ("Succeeded", Some(9)), "what was shown stays");
    let fresh = world.phase("fresh", "Queued").await;
    let taken = worker.take().await;
    assert_eq!((fresh.execution_id.as_deref(), taken.execution()), (Some("4"), 4), "3 is taken, though the database does not know it");

    // The worker ends what it has in hand, and tells by each way.
    let late = json!({"status": "error", "error_message": "of the lost one"});
    let answer = Answer::to(api.request(Method::PATCH, "/sync/executions/3").await.json(&late)).await;
    answer.is_problem(404, "3");
    worker.report(&json!({"request_id": "3", "status": "error", "error_message": "of the lost one"})).await;
    assert_eq!(world.sql("UPDATE sync_executions SET status = 'error' WHERE id = 3").await, 0);
    worker.report(&json!({"request_id": "4", "status": "success", "records_processed": 5})).await;
    let fresh = world.phase("fresh", "Succeeded").await;
    assert_eq!((fresh.records_processed, fresh.error.as_deref()), (Some(5), None));

    assert_eq!(world.status("ended", "its end", |_| true).await, ended, "what the backup knows is as it was");
    assert!(worker.take_within(std::time::Duration::from_secs(3)).await.is_none(), "nothing is published again");
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 3);
    assert_eq!(condition(&world.status("lost", "its conditions", |_| true).await, "Stalled"), Some(("True", "RecordLost")));
}

#[tokio::test]
async fn restored_under_a_running_controller_it_goes_on_with_ids_that_no_object_shows() {
    let world = World::new("restore-live").await;
    let (_controller, mut worker) = (world.controller().await, world.worker().await);
    let backup = back_up(&world);
    for number in 1..=3 {
        world.create(&format!("lost-{number}"), update()).await;
        worker.take().await;
        world.phase(&format!("lost-{number}"), "Queued").await;
    }
    restore(&world, &backup);
    for number in 1..=3 {
        world.condition(&format!("lost-{number}"), "Recorded", "False", "RecordLost").await;
    }
    world.create("fresh", update()).await;
    assert_eq!(worker.take().await.execution(), 4);
    eventually("the fresh one to be shown", async || {
        let status = world.objects().get("fresh").await.unwrap().status?;
        (status.execution_id.as_deref() == Some("4")).then_some(())
    })
    .await;
}
