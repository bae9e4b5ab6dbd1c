//! What must hold for every request, told from SQL, the queue and the objects, never from the operator itself.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::{Duration, Instant},
};

use sqlx::Row;

use super::{
    worker::{Taken, Worker},
    world::World,
};

/// I8: statuses whose counters differ from the table, seen in one snapshot.
pub const WRONG_COUNTERS: &str = "
    SELECT count(*) FROM
        (SELECT status, count(*) AS n, count(duration_seconds) AS d, COALESCE(sum(duration_seconds), 0) AS s
         FROM sync_executions GROUP BY status) AS counted
        FULL JOIN
        (SELECT status, sum(executions) AS n, sum(durations) AS d, sum(duration_seconds) AS s
         FROM sync_execution_counters GROUP BY status) AS kept
        USING (status)
    WHERE (COALESCE(counted.n, 0), COALESCE(counted.d, 0), COALESCE(counted.s, 0))
          IS DISTINCT FROM (COALESCE(kept.n, 0), COALESCE(kept.d, 0), COALESCE(kept.s, 0))";

/// I1–I5 for `count` objects whose messages, all of them, are in `taken`.
pub async fn check(world: &World, count: usize, taken: &[Taken]) {
    let rows =
        sqlx::query("SELECT id, request_uid::text, name, attempt, status FROM sync_executions").fetch_all(&world.database).await.unwrap();
    assert_eq!(rows.len(), count, "I1: one row per object");
    let mut ids_of: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for message in taken {
        ids_of.entry(message.execution()).or_default().insert(message.message_id());
    }
    for row in rows {
        let (id, uid, name): (i64, String, String) = (row.get(0), row.get(1), row.get(2));
        let object = world.objects().get(&name).await.unwrap();
        assert_eq!(object.metadata.uid, Some(uid.clone()), "I1: the row is the object's");
        assert_eq!(ids_of.remove(&id), Some(BTreeSet::from([format!("{uid}/1")])), "I2, I3: published, under one id");
        let status = world.status(&name, "its end", |status| status.completion_time.is_some()).await;
        assert_eq!(status.execution_id, Some(id.to_string()), "I5");
    }
    assert!(ids_of.is_empty(), "no message without a row: {ids_of:?}");
}

/// Takes everything from the queue and reports success by SQL, until every row has ended.
pub async fn work(world: &World, worker: &mut Worker, count: i64) -> Vec<Taken> {
    work_within(Duration::from_mins(2), world, worker, count).await
}

/// The same, given so long.
pub async fn work_within(patience: Duration, world: &World, worker: &mut Worker, count: i64) -> Vec<Taken> {
    let (mut taken, mut ended) = (Vec::new(), HashSet::new());
    let deadline = Instant::now() + patience;
    loop {
        let message = worker.take_within(Duration::from_millis(200)).await;
        let quiet = message.is_none();
        if let Some(message) = message {
            let end = "UPDATE sync_executions SET status = 'success', records_processed = 1 WHERE id = $1";
            sqlx::query(end).bind(message.execution()).execute(&world.database).await.unwrap();
            ended.insert(message.execution());
            taken.push(message);
        }
        // Counting reads the whole table: only when it may be over.
        let maybe = quiet || i64::try_from(ended.len()).unwrap() >= count;
        if maybe && world.number("SELECT count(*) FROM sync_executions WHERE status = 'success'").await >= count {
            return taken;
        }
        assert!(Instant::now() < deadline, "not all executions ended");
    }
}
