//! Databases with so many rows, for REST: filled by bench/rows.sql, and a writer that adds to them while they are read.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::{process::Command, task::JoinHandle, time};

use crate::{
    options::Options,
    stack::{Stack, TEMPLATE},
};

/// Rows that the writer adds each second, and then reports on.
pub const WRITES_A_SECOND: u32 = 200;
/// Rows of one statement of the writer.
const BATCH: u32 = 10;

/// A fresh database with this many rows; its name.
pub async fn database(options: &Options, stack: &Stack, rows: usize) -> Result<String> {
    let name = format!("rows-{rows}-{}", std::process::id());
    let mut server = PgConnection::connect(&stack.database_url).await?;
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE \"{name}\" TEMPLATE {TEMPLATE}"))).execute(&mut server).await?;
    let filled = Command::new("psql")
        .args(["-q", "-v", "ON_ERROR_STOP=1", "-v", &format!("rows={rows}"), "-f"])
        .arg(options.home.join("rows.sql"))
        .arg(stack.database(&name)?)
        .output()
        .await
        .context("psql")?;
    ensure!(filled.status.success(), "rows.sql: {}", String::from_utf8_lossy(&filled.stderr));
    sqlx::query("CHECKPOINT").execute(&mut server).await?;
    Ok(name)
}

/// Drops it.
pub async fn drop_database(stack: &Stack, name: &str) -> Result<()> {
    let mut server = PgConnection::connect(&stack.database_url).await?;
    sqlx::query(AssertSqlSafe(format!("DROP DATABASE \"{name}\" WITH (FORCE)"))).execute(&mut server).await?;
    Ok(())
}

/// Adds rows and ends them, until stopped.
pub fn ingest(pool: PgPool) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut tick = time::interval(Duration::from_secs(1) * BATCH / WRITES_A_SECOND);
        loop {
            tick.tick().await;
            if let Err(error) = write(&pool).await {
                eprintln!("bench: ingest: {error}");
            }
        }
    })
}

async fn write(pool: &PgPool) -> Result<(), sqlx::Error> {
    let ids: Vec<i64> = sqlx::query_scalar(
        "INSERT INTO sync_executions (mode, status, created_at, updated_at, request_uid, namespace, name)
         SELECT 'update', 'running', now(), now(), gen_random_uuid(), 'ingest', 'ingest-' || n FROM generate_series(1, $1) AS n
         RETURNING id",
    )
    .bind(i32::try_from(BATCH).unwrap_or_default())
    .fetch_all(pool)
    .await?;
    sqlx::query("UPDATE sync_executions SET status = 'success', records_processed = 7, duration_seconds = 0.1 WHERE id = ANY($1)")
        .bind(ids)
        .execute(pool)
        .await?;
    Ok(())
}

/// Takes away what the writer added, so that each round reads the same number of rows.
pub async fn forget_ingested(pool: &PgPool) -> Result<()> {
    sqlx::query("DELETE FROM sync_executions WHERE namespace = 'ingest'").execute(pool).await?;
    for table in ["sync_executions", "sync_execution_counters"] {
        sqlx::query(AssertSqlSafe(format!("VACUUM (ANALYZE) {table}"))).execute(pool).await?;
    }
    sqlx::query("CHECKPOINT").execute(pool).await?;
    Ok(())
}
