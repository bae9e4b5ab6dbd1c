//! Recording requests by the store itself: each UID once, in order, many per statement, without burning ids.

use std::sync::Arc;

use chrono::{TimeZone, Utc};
use sync_operator::{
    domain::{Mode, Window, execution::Request},
    metrics::{Metrics, Role},
    store::{
        NewExecution,
        batch::{Ask, Batcher},
    },
};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::common::world::World;

fn new(name: &str) -> NewExecution {
    let start = Utc.timestamp_opt(1_752_163_200, 0).unwrap();
    NewExecution {
        request: Request { uid: Uuid::new_v4(), namespace: "ns".into(), name: name.into() },
        mode: Mode::Backfill,
        window: Some(Window::new(start, start + chrono::TimeDelta::hours(6)).unwrap()),
        requested_by: Some("ana".into()),
        reason: None,
        active_deadline_seconds: None,
    }
}

fn many(count: usize) -> Vec<NewExecution> {
    (0..count).map(|n| new(&format!("x{n}"))).collect()
}

/// The id that the next row would get; draws it.
async fn next_id(world: &World) -> i64 {
    world.number("SELECT nextval(pg_get_serial_sequence('sync_executions', 'id'))").await
}

#[tokio::test]
async fn asking_again_burns_no_id_and_changes_nothing() {
    let world = World::new("ensure-repeat").await;
    let store = world.store(5);
    let mut asked = many(3);
    assert_eq!(store.insert(&asked).await.unwrap().len(), 3);
    let uids: Vec<Uuid> = asked.iter().map(|new| new.request.uid).collect();
    let mut first = store.by_uids(&uids).await.unwrap();
    first.sort_by_key(|row| row.id);
    for _ in 0..10 {
        assert_eq!(store.insert(&asked).await.unwrap().len(), 0);
    }
    asked.push(new("x3"));
    assert_eq!(store.insert(&asked).await.unwrap().len(), 1);
    let mut again = store.by_uids(&uids).await.unwrap();
    again.sort_by_key(|row| row.id);
    assert_eq!(again, first);
    assert_eq!((world.number("SELECT max(id) FROM sync_executions").await, next_id(&world).await), (4, 5));
}

#[tokio::test]
async fn five_hundred_are_recorded_by_one_statement_in_the_order_given() {
    let world = World::new("ensure-many").await;
    let store = world.store(5);
    let asked = many(500);
    assert_eq!(store.insert(&asked).await.unwrap().len(), 500);
    assert_eq!(world.number("SELECT count(DISTINCT xmin::text) FROM sync_executions").await, 1);
    let names: Vec<String> = sqlx::query_scalar("SELECT name FROM sync_executions ORDER BY id").fetch_all(&world.database).await.unwrap();
    assert_eq!(names, asked.iter().map(|new| new.request.name.clone()).collect::<Vec<_>>());
    let row = store.by_uid(asked[7].request.uid).await.unwrap().unwrap();
    assert_eq!((row.id, row.mode, row.window, row.requested_by.as_deref()), (8, Mode::Backfill, asked[7].window, Some("ana")));
}

#[tokio::test]
async fn two_replicas_that_record_the_same_requests_at_once_make_one_row_each() {
    let world = World::new("ensure-race").await;
    let (one, other) = (world.store(5), world.store(5));
    for round in 1..=10 {
        let asked = many(100);
        let (first, second) = futures::future::try_join(one.insert(&asked), other.insert(&asked)).await.unwrap();
        assert_eq!(first.len() + second.len(), 100);
        assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 100 * round);
        assert_eq!(world.number("SELECT count(DISTINCT request_uid) FROM sync_executions").await, 100 * round);
    }
}

#[tokio::test]
async fn two_replicas_with_the_same_requests_in_another_order_make_one_row_each_or_are_told_to_try_again() {
    let world = World::new("ensure-order").await;
    let (one, other) = (world.store(5), world.store(5));
    let asked = many(500);
    let reversed: Vec<NewExecution> = asked.iter().rev().cloned().collect();
    let (first, second) = tokio::join!(one.insert(&asked), other.insert(&reversed));
    for outcome in [&first, &second] {
        assert!(outcome.as_ref().err().is_none_or(sync_operator::store::Error::is_unavailable), "{outcome:?}");
    }
    assert_eq!(first.unwrap_or_default().len() + second.unwrap_or_default().len(), 500, "at least one of them is through");
    assert_eq!(world.number("SELECT count(DISTINCT request_uid) FROM sync_executions").await, 500);
}

#[tokio::test]
async fn a_text_that_postgres_cannot_store_loses_only_those_characters() {
    let world = World::new("ensure-nul").await;
    let store = world.store(5);
    let asked = NewExecution { requested_by: Some("a\0na".into()), reason: Some("\0".into()), ..new("x") };
    assert_eq!(store.insert(std::slice::from_ref(&asked)).await.unwrap().len(), 1);
    let row = store.by_uid(asked.request.uid).await.unwrap().unwrap();
    assert_eq!((row.requested_by.as_deref(), row.reason.as_deref()), (Some("ana"), Some("")));
}

#[tokio::test]
async fn those_who_ask_at_the_same_time_share_a_statement_and_each_gets_its_own_row() {
    let world = World::new("ensure-batch").await;
    let (store, metrics, recorded) = (world.store(5), Arc::new(Metrics::new(Role::Controller)), Arc::new(Notify::new()));
    let batcher = Batcher::start(store.clone(), Arc::clone(&recorded), Arc::clone(&metrics));
    let asked = many(300);
    let answers = futures::future::join_all(asked.iter().map(|new| batcher.ask(Ask::Ensure(Box::new(new.clone()))))).await;
    for (new, answer) in asked.iter().zip(answers) {
        assert_eq!(answer.unwrap().unwrap().request.unwrap(), new.request);
    }
    let statements = world.number("SELECT count(DISTINCT xmin::text) FROM sync_executions").await;
    assert!((1..=3).contains(&statements), "{statements} statements for 300 requests");
    tokio::time::timeout(crate::common::PATIENCE, recorded.notified()).await.expect("the relay is told");

    let (known, unknown) = (asked[5].request.uid, Uuid::new_v4());
    let (first, second, none) =
        tokio::join!(batcher.ask(Ask::Lookup(known)), batcher.ask(Ask::Lookup(known)), batcher.ask(Ask::Lookup(unknown)));
    assert_eq!(first.unwrap().unwrap().id, second.unwrap().unwrap().id);
    assert!(none.unwrap().is_none());
    let text = metrics.encode().unwrap();
    let count = text.lines().find_map(|line| line.strip_prefix("sync_operator_ensure_batch_size_count ")).unwrap();
    assert!(count.parse::<u32>().unwrap() <= 5, "{count} batches");
}

#[tokio::test]
async fn a_request_that_cannot_be_recorded_does_not_hold_up_those_in_its_batch() {
    let world = World::new("ensure-bad").await;
    let batcher = Batcher::start(world.store(5), Arc::new(Notify::new()), Arc::new(Metrics::new(Role::Controller)));
    let mut asked = many(20);
    asked[10].active_deadline_seconds = Some(i64::MAX);
    let answers = futures::future::join_all(asked.iter().map(|new| batcher.ask(Ask::Ensure(Box::new(new.clone()))))).await;
    for (position, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.is_err(), position == 10, "{position}: {answer:?}");
    }
    assert_eq!(world.number("SELECT count(*) FROM sync_executions").await, 19);
}
