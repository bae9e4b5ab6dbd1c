//! The servers of hack/stack: where they are, which processes they are, and what surrounds a measurement on them.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result, ensure};
use kube::Client;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::process::Command;

use crate::{client, options::Options};

/// The servers whose CPU time is told.
pub const SERVERS: [&str; 4] = ["apiserver", "etcd", "postgres", "rabbitmq"];
/// The database that all others are copies of.
pub const TEMPLATE: &str = "bench_template";

/// The servers.
pub struct Stack {
    /// Administrator of the cluster.
    pub admin: Client,
    /// A client of the ordinary service account.
    pub client: Client,
    /// The kubeconfig of that account.
    pub kubeconfig: PathBuf,
    /// Superuser of the database server.
    pub database_url: String,
    /// Administrator of the broker.
    pub rabbitmq_url: String,
    /// The broker's management API.
    pub management_url: String,
    directory: PathBuf,
}

impl Stack {
    /// The stack of the environment, with CRD, account and template in place.
    pub async fn prepare(options: &Options) -> Result<Self> {
        let variable = |name: &str| env::var(name).with_context(|| format!("{name} is not set: source the stack's env"));
        let admin_kubeconfig = PathBuf::from(variable("KUBECONFIG")?);
        fs::create_dir_all(&options.work)?;
        let admin = client::client(&admin_kubeconfig).await?;
        let kubeconfig = options.work.join("kubeconfig");
        client::ordinary_account(&admin, &admin_kubeconfig, &kubeconfig).await?;
        let stack = Self {
            client: client::client(&kubeconfig).await?,
            admin,
            kubeconfig,
            database_url: variable("DATABASE_URL")?,
            rabbitmq_url: variable("RABBITMQ_URL")?,
            management_url: variable("RABBITMQ_MANAGEMENT_URL")?,
            directory: options.stack.clone(),
        };
        stack.crd(options).await?;
        stack.template(options).await?;
        Ok(stack)
    }

    async fn crd(&self, options: &Options) -> Result<()> {
        let output = Command::new(&options.operator).arg("crd").output().await.context("print the CRD")?;
        ensure!(output.status.success(), "{} crd failed", options.operator.display());
        // YAML that kubectl takes is more than JSON: kubectl applies it.
        let file = options.work.join("crd.yaml");
        fs::write(&file, output.stdout)?;
        let applied = Command::new("kubectl").args(["apply", "--server-side", "-f"]).arg(&file).output().await.context("kubectl")?;
        ensure!(applied.status.success(), "kubectl apply: {}", String::from_utf8_lossy(&applied.stderr));
        let waited = Command::new("kubectl")
            .args(["wait", "--for=condition=Established", "--timeout=60s", "crd/syncexecutions.sync.pncp.io"])
            .output()
            .await?;
        ensure!(waited.status.success(), "the CRD is not served: {}", String::from_utf8_lossy(&waited.stderr));
        Ok(())
    }

    async fn template(&self, options: &Options) -> Result<()> {
        let mut server = PgConnection::connect(&self.database_url).await?;
        let there: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)").bind(TEMPLATE).fetch_one(&mut server).await?;
        if !there {
            sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {TEMPLATE}"))).execute(&mut server).await?;
        }
        let output = Command::new(&options.operator)
            .args(["migrate", "up"])
            .env("DATABASE_URL", self.database(TEMPLATE)?)
            .output()
            .await
            .context("migrate")?;
        ensure!(output.status.success(), "migrate up: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// The URL of another database of the server.
    pub fn database(&self, name: &str) -> Result<String> {
        with_path(&self.database_url, name)
    }

    /// The URL of another vhost of the broker.
    pub fn vhost(&self, name: &str) -> Result<String> {
        with_path(&self.rabbitmq_url, name)
    }

    /// The process of a part.
    pub fn pid(&self, part: &str) -> Result<u32> {
        let file = self.directory.join(format!("{part}.pid"));
        fs::read_to_string(&file).with_context(|| file.display().to_string())?.trim().parse().context("a pid")
    }

    /// The log of a part.
    pub fn log(&self, part: &str) -> PathBuf {
        self.directory.join(format!("{part}.log"))
    }

    /// Asks the management API of the broker.
    pub async fn ask_broker(&self, path: &str) -> Result<serde_json::Value> {
        let base = url::Url::parse(&self.management_url)?;
        let url = format!("http://{}:{}/api/{path}", base.host_str().unwrap_or_default(), base.port().unwrap_or_default());
        let request = reqwest::Client::new().get(url).basic_auth(base.username(), base.password());
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// Calls the management API of the broker.
    pub async fn manage(&self, method: reqwest::Method, path: &str, body: Option<serde_json::Value>) -> Result<()> {
        let base = url::Url::parse(&self.management_url)?;
        let url = format!("http://{}:{}/api/{path}", base.host_str().unwrap_or_default(), base.port().unwrap_or_default());
        let request = reqwest::Client::new().request(method, url).basic_auth(base.username(), base.password());
        let request = match body {
            Some(body) => request.json(&body),
            None => request.header("content-type", "application/json"),
        };
        request.send().await?.error_for_status()?;
        Ok(())
    }
}

fn with_path(url: &str, path: &str) -> Result<String> {
    let mut url = url::Url::parse(url)?;
    url.set_path(path);
    Ok(url.into())
}
