//! The pool of connections to PostgreSQL: what is lent again, and what is given up.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use sync_operator::{
    domain::{Status, execution::FinishReason},
    store::Store,
};
use tokio::time::timeout;

use crate::common::{eventually, world::World};

/// Pids of the program's sessions.
const SESSIONS: &str = "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sync-operator'";

/// A store whose one connection is open, an execution, and that session.
async fn opened(world: &World) -> (Store, i64, Option<String>) {
    let store = world.store(1);
    let id = world.number("INSERT INTO sync_executions (mode, status) VALUES ('update', 'running') RETURNING id").await;
    store.by_id(id).await.unwrap();
    (store, id, sessions(world).await)
}

/// A transaction that holds the execution locked.
async fn lock(world: &World, id: i64) -> PgConnection {
    let mut holder = PgConnection::connect(&world.database_url).await.unwrap();
    sqlx::query("BEGIN").execute(&mut holder).await.unwrap();
    sqlx::query("SELECT FROM sync_executions WHERE id = $1 FOR UPDATE").bind(id).execute(&mut holder).await.unwrap();
    holder
}

async fn sessions(world: &World) -> Option<String> {
    sqlx::query_scalar(AssertSqlSafe(SESSIONS)).fetch_one(&world.database).await.unwrap()
}

#[tokio::test]
async fn a_statement_that_is_given_up_spoils_its_session_for_nobody() {
    let world = World::new("pool-given-up").await;
    let (store, id, before) = opened(&world).await;
    let holder = lock(&world, id).await;
    let given_up = timeout(Duration::from_millis(200), store.fail(id, FinishReason::AmbiguousLocalTime, "x")).await;
    assert!(given_up.is_err(), "it waits for the lock");
    // Although there may be one session only, and that one still waits.
    let execution = store.by_id(id).await.unwrap().unwrap();
    assert_eq!((execution.id, execution.status), (id, Status::Running), "its own answer, not that of the statement before");
    holder.close().await.unwrap();
    eventually("the session that was given up to end", async || (sessions(&world).await != before).then_some(())).await;
}

#[tokio::test]
async fn a_statement_that_the_server_refuses_leaves_its_session_to_the_next() {
    let world = World::new("pool-refused").await;
    let (store, id, before) = opened(&world).await;
    let holder = lock(&world, id).await;
    // After the 5 s of lock_timeout.
    let refused = store.fail(id, FinishReason::AmbiguousLocalTime, "x").await.unwrap_err();
    assert!(refused.to_string().contains("lock timeout"), "{refused}");
    assert_eq!(store.by_id(id).await.unwrap().unwrap().id, id);
    assert_eq!(sessions(&world).await, before);
    holder.close().await.unwrap();
}

#[tokio::test]
async fn a_session_that_the_server_ended_while_nobody_used_it_is_noticed_before_it_is_lent() {
    let world = World::new("pool-ended").await;
    let (store, id, before) = opened(&world).await;
    world
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'sync-operator'")
        .await;
    eventually("the session to end", async || sessions(&world).await.is_none().then_some(())).await;
    // Longer than one is believed without a question.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(store.by_id(id).await.unwrap().unwrap().id, id);
    assert_ne!(sessions(&world).await, before);
}
