//! The requests of the REST figure: how each is found for a database, and that its answer is right, checked once against SQL.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sqlx::PgPool;

use crate::http_load;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The newest execution.
    Status,
    /// The first page of 50.
    FirstPage,
    /// A page of 50 in the middle, by cursor.
    DeepPage,
    /// The first page of 50 failed updates.
    Filtered,
    /// The first page of 50 whose error has a rare text.
    ErrorText,
    /// Sums.
    Dashboard,
}

impl Request {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Status, Self::FirstPage, Self::DeepPage, Self::Filtered, Self::ErrorText, Self::Dashboard];

    /// In records and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::FirstPage => "first page",
            Self::DeepPage => "deep page",
            Self::Filtered => "filtered",
            Self::ErrorText => "error text",
            Self::Dashboard => "dashboard",
        }
    }

    /// Whether the existing service has it, and so its peer.
    #[must_use]
    pub fn has_peer(self) -> bool {
        matches!(self, Self::Status | Self::FirstPage | Self::Dashboard)
    }

    /// The path of the operator's API, checked: its answer is what SQL says.
    pub async fn path(self, base: &str, database: &PgPool) -> Result<String> {
        match self {
            Self::Status => self.status(base, database).await,
            Self::FirstPage => self.page(base, database, "/sync/history?limit=50".into(), "true").await,
            Self::Filtered => {
                let path = "/sync/history?limit=50&status=error&mode=update".into();
                self.page(base, database, path, "status = 'error' AND mode = 'update'").await
            }
            Self::ErrorText => {
                let path = "/sync/history?limit=50&error=snapshot%20too%20old".into();
                self.page(base, database, path, "error_message LIKE '%snapshot too old%'").await
            }
            Self::DeepPage => self.deep(base, database).await,
            Self::Dashboard => self.dashboard(base, database).await,
        }
    }

    async fn status(self, base: &str, database: &PgPool) -> Result<String> {
        let path = "/sync/status".to_owned();
        let answer = http_load::json(&format!("{base}{path}")).await?;
        let newest: i64 =
            sqlx::query_scalar("SELECT id FROM sync_executions ORDER BY created_at DESC, id DESC LIMIT 1").fetch_one(database).await?;
        ensure!(answer["id"].as_i64() == Some(newest), "{path} says {answer}, the newest row is {newest}");
        Ok(path)
    }

    async fn dashboard(self, base: &str, database: &PgPool) -> Result<String> {
        let path = "/sync/dashboard".to_owned();
        let answer = http_load::json(&format!("{base}{path}")).await?;
        let all: i64 = sqlx::query_scalar("SELECT count(*) FROM sync_executions").fetch_one(database).await?;
        ensure!(answer["total_executions"].as_i64() == Some(all), "{path} says {answer}, there are {all} rows");
        Ok(path)
    }

    /// A page: exactly the newest rows that this condition holds for.
    async fn page(self, base: &str, database: &PgPool, path: String, condition: &'static str) -> Result<String> {
        let answer = http_load::json(&format!("{base}{path}")).await?;
        let sql = format!("SELECT id FROM sync_executions WHERE {condition} ORDER BY created_at DESC, id DESC LIMIT 50");
        let wanted: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(database).await?;
        let got = ids(&answer)?;
        ensure!(got == wanted, "{path} shows {got:?} instead of {wanted:?}");
        Ok(path)
    }

    /// The cursor is the one that the API gives after the page of the middle.
    async fn deep(self, base: &str, database: &PgPool) -> Result<String> {
        let all: i64 = sqlx::query_scalar("SELECT count(*) FROM sync_executions").fetch_one(database).await?;
        // The ids of the rows are in the order of their times: no need to count half of them.
        let middle: String = sqlx::query_scalar(
            "SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') FROM sync_executions
             WHERE id >= (SELECT min(id) FROM sync_executions) + $1 ORDER BY id LIMIT 1",
        )
        .bind(all / 2)
        .fetch_one(database)
        .await?;
        let before = http_load::json(&format!("{base}/sync/history?limit=50&to={middle}")).await?;
        let cursor = before["next"].as_str().context("no cursor after the page of the middle")?;
        let path = format!("/sync/history?limit=50&cursor={cursor}");
        let got = ids(&http_load::json(&format!("{base}{path}")).await?)?;
        let last = *ids(&before)?.last().context("an empty page")?;
        let wanted: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM sync_executions WHERE (created_at, id) < (SELECT created_at, id FROM sync_executions WHERE id = $1)
             ORDER BY created_at DESC, id DESC LIMIT 50",
        )
        .bind(last)
        .fetch_all(database)
        .await?;
        if got != wanted || got.is_empty() {
            bail!("{path} shows {got:?} instead of {wanted:?}");
        }
        Ok(path)
    }
}

fn ids(page: &Value) -> Result<Vec<i64>> {
    let executions = page["executions"].as_array().context("a page without executions")?;
    executions.iter().map(|execution| execution["id"].as_i64().context("an execution without id")).collect()
}
