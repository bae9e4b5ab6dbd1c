//! Secrets that rotate in their files, as kubelet swaps them: no restart, nothing lost.

use reqwest::Method;
use serde_json::json;
use sqlx::{AssertSqlSafe, Executor};

use crate::common::{eventually, mount::Mount, objects::update, program::Program, proxy::Proxy, worker::Worker, world::World};

/// A role of the test's own that may do everything in its database.
struct Role<'a> {
    world: &'a World,
    name: String,
}

impl<'a> Role<'a> {
    async fn new(world: &'a World, name: &str) -> Self {
        let role = Self { world, name: format!("{name}-{}", world.name) };
        role.admin(format!("CREATE ROLE \"{}\" SUPERUSER LOGIN", role.name)).await;
        role
    }

    async fn admin(&self, sql: String) {
        self.world.database.execute(AssertSqlSafe(sql)).await.unwrap();
    }

    /// Gives it that password; the URL with it.
    async fn password(&self, password: &str) -> String {
        self.admin(format!("ALTER ROLE \"{}\" PASSWORD '{password}'", self.name)).await;
        with_credentials(&self.world.database_url, &self.name, password)
    }

    async fn end_its_sessions(&self) {
        self.admin(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'", self.name)).await;
    }

    async fn sessions(&self) -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
        sqlx::query_scalar(count).bind(&self.name).fetch_one(&self.world.database).await.unwrap()
    }

    async fn drop(self) {
        self.end_its_sessions().await;
        self.admin(format!("DROP ROLE \"{}\"", self.name)).await;
    }
}

fn with_credentials(url: &str, user: &str, password: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_username(user).unwrap();
    url.set_password(Some(password)).unwrap();
    url.into()
}

/// A request goes all the way out, and the worker's end comes all the way back.
async fn goes_through(world: &World, worker: &mut Worker, name: &str) {
    world.create(name, update()).await;
    worker.take().await;
    world.phase(name, "Queued").await;
    world.sql("UPDATE sync_executions SET status = 'success'").await;
    world.phase(name, "Succeeded").await;
}

#[tokio::test]
async fn a_database_password_that_rotates_needs_no_restart() {
    let world = World::new("rotation-database").await;
    let role = Role::new(&world, "db").await;
    let mount = Mount::new(&[("url", &format!("{}\n", role.password("hunter2-first").await))]);
    let settings = world.settings().without("DATABASE_URL").with("DATABASE_URL_FILE", mount.file("url"));
    let (controller, api) = (settings.start("controller"), settings.start("api"));
    controller.ready().await;
    api.ready().await;
    let mut worker = world.worker().await;
    goes_through(&world, &mut worker, "before").await;

    let url = role.password("hunter2-second").await;
    // Between the two nobody can connect anew; sessions that are open go on.
    assert!(role.sessions().await > 0);
    mount.swap(&[("url", &url)]);
    role.end_its_sessions().await;
    goes_through(&world, &mut worker, "after").await;
    controller.ready().await;
    // Each program reads the file in its own time.
    api.ready().await;
    assert_eq!(api.get("/sync/history").await["success_count"], 2);
    for program in [controller, api] {
        assert!(!program.log().contains("hunter2"), "a secret is logged");
    }
    role.drop().await;
}

#[tokio::test]
async fn after_a_change_of_the_user_no_session_of_the_old_one_stays() {
    let world = World::new("rotation-user").await;
    let (old, new) = (Role::new(&world, "old").await, Role::new(&world, "new").await);
    let mount = Mount::new(&[("url", &old.password("hunter2-first").await)]);
    let controller = world.settings().without("DATABASE_URL").with("DATABASE_URL_FILE", mount.file("url")).start("controller");
    controller.ready().await;
    let mut worker = world.worker().await;
    goes_through(&world, &mut worker, "before").await;

    mount.swap(&[("url", &new.password("hunter2-second").await)]);
    eventually("the old user's sessions to end", async || (old.sessions().await == 0).then_some(())).await;
    goes_through(&world, &mut worker, "after").await;
    drop(controller);
    old.drop().await;
    new.drop().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_for_a_while_changes_nothing() {
    let world = World::new("rotation-broken").await;
    let mount = Mount::new(&[("url", &world.database_url)]);
    let controller = world.settings().without("DATABASE_URL").with("DATABASE_URL_FILE", mount.file("url")).start("controller");
    controller.ready().await;
    let mut worker = world.worker().await;
    let sessions = "SELECT pg_terminate_backend(pid)::int::bigint FROM pg_stat_activity
                    WHERE application_name = 'sync-operator' AND datname = current_database()";
    for (number, broken) in ["", "amqp://host", "postgres://host:port/sync"].into_iter().enumerate() {
        mount.swap(&[("url", broken)]);
        eventually("a line about it", async || (troubles(&controller) > number).then_some(())).await;
        world.sql(sessions).await;
        goes_through(&world, &mut worker, &format!("while-broken-{number}")).await;
    }
    assert_eq!(troubles(&controller), 3, "each is told once");
}

fn troubles(program: &Program) -> usize {
    program.log().matches("a setting cannot be read from its file").count()
}

#[tokio::test]
async fn a_broker_password_that_rotates_counts_from_the_next_connection_on() {
    let world = World::new("rotation-broker").await;
    let user = format!("mq-{}", world.name);
    let rotate = async |password: &str| {
        world.manage(Method::PUT, &format!("users/{user}"), Some(json!({"password": password, "tags": ""}))).await;
    };
    rotate("hunter2-first").await;
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    world.manage(Method::PUT, &format!("permissions/{}/{user}", world.name), Some(all)).await;
    let (proxy, url) = Proxy::for_url(&world.rabbitmq_url).await;
    let mount = Mount::new(&[("url", &with_credentials(&url, &user, "hunter2-first"))]);
    let controller = world.settings().without("RABBITMQ_URL").with("RABBITMQ_URL_FILE", mount.file("url")).start("controller");
    controller.ready().await;
    let mut worker = world.worker().await;
    goes_through(&world, &mut worker, "before").await;

    rotate("hunter2-second").await;
    mount.swap(&[("url", &with_credentials(&url, &user, "hunter2-second"))]);
    goes_through(&world, &mut worker, "on-the-old-connection").await;
    proxy.cut();
    goes_through(&world, &mut worker, "on-a-new-connection").await;
    controller.ready().await;
    drop(controller);
    world.manage(Method::DELETE, &format!("users/{user}"), None).await;
}

#[tokio::test]
async fn an_administrators_password_that_rotates_counts_from_the_next_request_on() {
    let world = World::new("rotation-admin").await;
    let mount = Mount::new(&[("username", "ana\n"), ("password", "hunter2-first\n")]);
    let api = world
        .settings()
        .without("ADMIN_USERNAME")
        .without("ADMIN_PASSWORD")
        .with("ADMIN_USERNAME_FILE", mount.file("username"))
        .with("ADMIN_PASSWORD_FILE", mount.file("password"))
        .start("api");
    let code = async |name: &str, password: &str| {
        let request = api.anonymous(Method::GET, "/sync/status").await.basic_auth(name, Some(password));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((code("ana", "hunter2-first").await, code("ana", "hunter2-second").await), (200, 401));
    mount.swap(&[("username", "eva"), ("password", "hunter2-second")]);
    eventually("the new credentials to count", async || (code("eva", "hunter2-second").await == 200).then_some(())).await;
    assert_eq!((code("ana", "hunter2-first").await, code("eva", "hunter2-first").await), (401, 401));
}
