//! One test's namespace, database and vhost on the shared servers.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ObjectMeta, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, postgres::PgPoolOptions};
use sync_operator::{
    source::Source,
    store::{Store, database::Database},
};

use super::{
    private::Private,
    program::{Program, Settings},
    proxy::Proxy,
    stack::{Stack, stack, template, with_database},
    worker::Worker,
};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// One test's own place.
pub struct World {
    /// Kubernetes namespace; also names the database and the vhost.
    pub name: String,
    /// Cluster administrator.
    pub client: Client,
    /// The cluster, for programs and kubectl.
    pub kubeconfig: PathBuf,
    /// The test's database, as superuser.
    pub database_url: String,
    /// The same, connected.
    pub database: PgPool,
    /// The test's vhost, as administrator.
    pub rabbitmq_url: String,
    /// RabbitMQ's management API.
    pub management_url: String,
    /// `PATH` with our kubectl first.
    pub path: String,
}

impl World {
    /// A world with the migrated schema.
    pub async fn new(test: &str) -> Self {
        Self::on(stack(), test, Some(template())).await
    }

    /// A world whose database is empty.
    pub async fn with_empty_database(test: &str) -> Self {
        Self::on(stack(), test, None).await
    }

    /// A world whose database is empty, where one server is the test's own.
    pub async fn with_empty_database_on(private: &Private, test: &str) -> Self {
        Self::on(&private.stack, test, None).await
    }

    /// A world with the migrated schema where one server is the test's own.
    pub async fn with(private: &Private, test: &str) -> Self {
        Self::on(&private.stack, test, Some(template())).await
    }

    async fn on(stack: &Stack, test: &str, template: Option<String>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let name = format!("{test}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let client = client(&stack.kubeconfig).await;
        create_namespace(&client, &name).await;

        let mut admin = PgConnection::connect(&stack.database_url).await.unwrap();
        let from = template.map(|template| format!("TEMPLATE {template}")).unwrap_or_default();
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE \"{name}\" {from}"))).execute(&mut admin).await.unwrap();
        let database_url = with_database(&stack.database_url, &name);
        let database = PgPoolOptions::new().max_connections(5).connect(&database_url).await.unwrap();

        let world = Self {
            rabbitmq_url: with_database(&stack.rabbitmq_url, &name),
            name,
            client,
            kubeconfig: stack.kubeconfig.clone(),
            database_url,
            database,
            management_url: stack.management_url.clone(),
            path: stack.path.clone(),
        };
        let user = url::Url::parse(&world.rabbitmq_url).unwrap().username().to_owned();
        world.manage(reqwest::Method::PUT, &format!("vhosts/{}", world.name), None).await;
        let all = serde_json::json!({"configure": ".*", "write": ".*", "read": ".*"});
        world.manage(reqwest::Method::PUT, &format!("permissions/{}/{user}", world.name), Some(all)).await;
        world
    }

    /// Takes all of it away: hundreds of them would fill the servers.
    pub async fn remove(self) {
        Api::<Namespace>::all(self.client.clone()).delete(&self.name, &DeleteParams::background()).await.unwrap();
        self.manage(reqwest::Method::DELETE, &format!("vhosts/{}", self.name), None).await;
        self.database.close().await;
        let mut admin = PgConnection::connect(&with_database(&self.database_url, "postgres")).await.unwrap();
        let drop = format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name);
        sqlx::query(AssertSqlSafe(drop)).execute(&mut admin).await.unwrap();
    }

    /// Calls RabbitMQ's management API; panics unless it succeeds.
    pub async fn manage(&self, method: reqwest::Method, path: &str, body: Option<serde_json::Value>) -> String {
        let base = url::Url::parse(&self.management_url).unwrap();
        let request = reqwest::Client::new()
            .request(method, format!("http://{}:{}/api/{path}", base.host_str().unwrap(), base.port().unwrap()))
            .basic_auth(base.username(), base.password());
        let response = match body {
            Some(body) => request.json(&body),
            None => request.header("content-type", "application/json"),
        }
        .send()
        .await
        .unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "management {path}: {status} {text}");
        text
    }

    /// The record, as a program with so many connections has it.
    pub fn store(&self, connections: u32) -> Store {
        Store::new(Database::new(Source::Value(self.database_url.clone().into()), None).unwrap(), connections)
    }

    /// Settings of programs in this world: change what the test is about.
    pub fn settings(&self) -> Settings {
        Settings {
            log_name: self.name.clone(),
            variables: [
                ("DATABASE_URL", self.database_url.clone()),
                ("RABBITMQ_URL", self.rabbitmq_url.clone()),
                ("KUBECONFIG", self.kubeconfig.display().to_string()),
                ("WATCH_NAMESPACE", self.name.clone()),
                ("LEASE_NAMESPACE", self.name.clone()),
                ("LEASE_DURATION_SECONDS", "6".to_owned()),
                ("FORCE_NAMESPACE", self.name.clone()),
                ("METRICS_LISTEN", "127.0.0.1:0".to_owned()),
                ("API_LISTEN", "127.0.0.1:0".to_owned()),
                ("ADMIN_USERNAME", "admin".to_owned()),
                ("ADMIN_PASSWORD", "s3cret".to_owned()),
                ("LOG_LEVEL", "info,sync_operator=debug".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into(),
        }
    }

    /// A ready controller.
    pub async fn controller(&self) -> Program {
        let program = self.settings().start("controller");
        program.ready().await;
        program
    }

    /// A ready API server.
    pub async fn api(&self) -> Program {
        let program = self.settings().start("api");
        program.ready().await;
        program
    }

    /// A proxy before the API server, and a kubeconfig that goes through it.
    pub async fn kubeconfig_by_proxy(&self) -> (Proxy, PathBuf) {
        let mut config = Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let cluster = config.clusters[0].cluster.as_mut().unwrap();
        let (proxy, url) = Proxy::for_url(cluster.server.as_ref().unwrap()).await;
        cluster.server = Some(url);
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.kubeconfig", self.name));
        std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
        (proxy, path)
    }

    /// A worker on the work queue.
    pub async fn worker(&self) -> Worker {
        Worker::connect(&self.rabbitmq_url).await
    }

    /// Where the API server is.
    pub fn server(&self) -> String {
        Kubeconfig::read_from(&self.kubeconfig).unwrap().clusters[0].cluster.as_ref().unwrap().server.clone().unwrap()
    }

    /// A role that owns the test's database, or its new password; the URL with both.
    pub async fn owner_url(&self, password: &str) -> String {
        let role = format!("{}-owner", self.name);
        for sql in [
            format!("DO $$ BEGIN CREATE ROLE \"{role}\" LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"),
            format!("ALTER ROLE \"{role}\" PASSWORD '{password}'"),
            format!("ALTER DATABASE \"{}\" OWNER TO \"{role}\"", self.name),
        ] {
            sqlx::query(AssertSqlSafe(sql)).execute(&self.database).await.unwrap();
        }
        let mut url = url::Url::parse(&self.database_url).unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some(password)).unwrap();
        url.into()
    }

    /// A role that owns nothing, with the rights that docs/install.md names on what the owner will make. After [`Self::owner_url`].
    pub async fn plain_role_url(&self, password: &str) -> String {
        let (owner, role) = (format!("{}-owner", self.name), format!("{}-plain", self.name));
        for sql in [
            format!("CREATE ROLE \"{role}\" LOGIN PASSWORD '{password}'"),
            format!("ALTER DEFAULT PRIVILEGES FOR ROLE \"{owner}\" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO \"{role}\""),
            format!("ALTER DEFAULT PRIVILEGES FOR ROLE \"{owner}\" GRANT USAGE ON SEQUENCES TO \"{role}\""),
        ] {
            sqlx::query(AssertSqlSafe(sql)).execute(&self.database).await.unwrap();
        }
        let mut url = url::Url::parse(&self.database_url).unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some(password)).unwrap();
        url.into()
    }

    /// Ends every session of the owner, as a restart of the server would.
    pub async fn end_owner_sessions(&self) {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1";
        sqlx::query(sql).bind(format!("{}-owner", self.name)).execute(&self.database).await.unwrap();
    }

    /// How many executions are not published.
    pub async fn unpublished(&self) -> i64 {
        self.number("SELECT count(*) FROM sync_executions WHERE published_at IS NULL").await
    }

    /// How many executions are claimed, whether or not the claims have run out.
    pub async fn claimed(&self) -> i64 {
        self.number("SELECT count(*) FROM sync_executions WHERE claimed_until IS NOT NULL").await
    }

    /// Runs one number-valued query on the test's database.
    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.database).await.unwrap()
    }

    /// Runs one statement on the test's database; how many rows it touched.
    pub async fn sql(&self, sql: &'static str) -> u64 {
        sqlx::query(sql).execute(&self.database).await.unwrap().rows_affected()
    }
}

/// A client of the cluster of that kubeconfig.
pub async fn client(kubeconfig: &std::path::Path) -> Client {
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig).unwrap(), &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

async fn create_namespace(client: &Client, name: &str) {
    let namespace = Namespace { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, ..Namespace::default() };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
}
