//! One measurement's own namespace, database and vhost: no subject finds anything that another left.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgPoolOptions};

use crate::{
    client,
    load::{self, SyncExecution},
    stack::{Stack, TEMPLATE},
};

/// How long hanging up is taken for giving up the call: deleting a hundred thousand objects takes minutes.
const REMOVAL: Duration = Duration::from_mins(10);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// One measurement's own place.
pub struct Place {
    /// Names the namespace, the database and the vhost.
    pub name: String,
    /// The database, as superuser.
    pub database_url: String,
    /// The vhost, as administrator.
    pub rabbitmq_url: String,
    /// Objects of the namespace, as the ordinary account.
    pub objects: Api<SyncExecution>,
    admin: Client,
    server_url: String,
}

impl Place {
    /// A place with the migrated schema.
    pub async fn new(stack: &Stack, what: &str) -> Result<Self> {
        let name = format!("{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        client::namespace(&stack.admin, &name).await?;
        let mut server = PgConnection::connect(&stack.database_url).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE \"{name}\" TEMPLATE {TEMPLATE}"))).execute(&mut server).await?;
        stack.manage(reqwest::Method::PUT, &format!("vhosts/{name}"), None).await.context("create the vhost")?;
        let user = url::Url::parse(&stack.rabbitmq_url)?.username().to_owned();
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        stack.manage(reqwest::Method::PUT, &format!("permissions/{name}/{user}"), Some(all)).await?;
        Ok(Self {
            database_url: stack.database(&name)?,
            rabbitmq_url: stack.vhost(&name)?,
            objects: load::objects(stack.client.clone(), &name),
            admin: stack.admin.clone(),
            server_url: stack.database_url.clone(),
            name,
        })
    }

    /// The database, connected.
    pub async fn pool(&self) -> Result<PgPool> {
        Ok(PgPoolOptions::new().max_connections(4).connect(&self.database_url).await?)
    }

    /// One number out of the database.
    pub async fn number(&self, sql: &'static str) -> Result<i64> {
        let mut database = PgConnection::connect(&self.database_url).await?;
        Ok(sqlx::query_scalar(sql).fetch_one(&mut database).await?)
    }

    /// Transactions committed in the database since it was made, asked from outside of it. Sessions tell of their last second only
    /// when they end, so ask after everybody has.
    pub async fn commits(&self) -> Result<f64> {
        let mut server = PgConnection::connect(&self.server_url).await?;
        let sql = "SELECT xact_commit::float8 FROM pg_stat_database WHERE datname = $1";
        Ok(sqlx::query_scalar(sql).bind(&self.name).fetch_one(&mut server).await?)
    }

    /// Removes all of it. What runs there has been ended before.
    pub async fn remove(self, stack: &Stack) -> Result<()> {
        let admin = load::objects(self.admin.clone(), &self.name);
        let begun = Instant::now();
        while !admin.list_metadata(&ListParams::default().limit(1)).await?.items.is_empty() {
            // The server gives up a call after a minute, by a 504 or by hanging up; what it deleted by then is deleted.
            match admin.delete_collection(&DeleteParams::default(), &ListParams::default().limit(500)).await {
                Err(kube::Error::Api(status)) if status.code == 504 => {}
                Err(kube::Error::Service(_)) if begun.elapsed() < REMOVAL => {}
                deleted => drop(deleted.context("delete the objects")?),
            }
        }
        let mut server = PgConnection::connect(&self.server_url).await?;
        sqlx::query(AssertSqlSafe(format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name))).execute(&mut server).await?;
        stack.manage(reqwest::Method::DELETE, &format!("vhosts/{}", self.name), None).await.context("delete the vhost")
    }
}
