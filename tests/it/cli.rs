//! The command line: settings that are missing or wrong, secrets that never show, help, and how a process ends.

use std::time::Duration;

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use crate::common::{
    certificates::Authority,
    command::Ended,
    program::{Program, Settings},
    proxy::{Mode, Proxy},
    world::World,
};

/// A password that is easy to find wherever it is written; percent-encoded nowhere.
const SECRET: &str = "hunter2hunter2";

/// Settings that are complete, and point nowhere.
fn settings() -> Settings {
    let kubeconfig = concat!(env!("CARGO_TARGET_TMPDIR"), "/cli.kubeconfig");
    let config = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "x", "user": {}}], "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}]}"#;
    // Tests side by side write the same; a rename never shows half of it.
    let draft = format!("{kubeconfig}.{}", uuid::Uuid::new_v4());
    std::fs::write(&draft, config).unwrap();
    std::fs::rename(draft, kubeconfig).unwrap();
    Settings {
        log_name: "cli".to_owned(),
        variables: [
            ("DATABASE_URL", format!("postgres://ana:{SECRET}@127.0.0.1:9/sync")),
            ("RABBITMQ_URL", format!("amqp://ana:{SECRET}@127.0.0.1:9/%2f")),
            ("KUBECONFIG", kubeconfig.to_owned()),
            ("ADMIN_USERNAME", "admin".to_owned()),
            ("ADMIN_PASSWORD", SECRET.to_owned()),
            ("METRICS_LISTEN", "127.0.0.1:0".to_owned()),
            ("API_LISTEN", "127.0.0.1:0".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
    }
}

#[track_caller]
fn refused(ended: &Ended, says: &[&str]) {
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for text in says {
        assert!(ended.err.contains(text), "`{text}` is not in {}", ended.err);
    }
    assert!(!ended.err.contains(SECRET) && !ended.out.contains(SECRET), "a secret is printed: {ended:?}");
}

#[tokio::test]
async fn a_missing_setting_is_told_with_flag_variable_and_fix() {
    let example = "set DATABASE_URL, like postgres://user:password@host:5432/sync";
    for arguments in [&["controller"][..], &["api"], &["migrate", "up"]] {
        refused(&settings().without("DATABASE_URL").run(arguments).await, &["--database-url is not set", example]);
    }
    let ended = settings().without("RABBITMQ_URL").run(&["controller"]).await;
    refused(&ended, &["--rabbitmq-url is not set", "set RABBITMQ_URL, like amqp://user:password@host:5672/%2f"]);
    for missing in ["ADMIN_USERNAME", "ADMIN_PASSWORD"] {
        let ended = settings().without(missing).run(&["api"]).await;
        refused(
            &ended,
            &["--admin-username and --admin-password are not both set", "set ADMIN_USERNAME and ADMIN_PASSWORD", "--allow-anonymous"],
        );
    }
    for subcommand in ["controller", "api"] {
        let ended = settings().without("KUBECONFIG").with("HOME", "/nonexistent").run(&[subcommand]).await;
        refused(&ended, &["no Kubernetes cluster is configured: set KUBECONFIG to a kubeconfig file that can be read", "or run in a pod"]);
    }
}

#[tokio::test]
async fn an_empty_password_is_a_missing_password() {
    for name in ["ADMIN_USERNAME", "ADMIN_PASSWORD"] {
        refused(&settings().with(name, "").run(&["api"]).await, &["--admin-username and --admin-password are not both set"]);
    }
}

#[tokio::test]
async fn a_wrong_setting_is_told_with_flag_variable_and_fix_and_without_the_secret_in_it() {
    let database = ["--database-url", "DATABASE_URL", "write it like postgres://user:password@host:5432/sync"];
    let broker = ["--rabbitmq-url", "RABBITMQ_URL", "write it like amqp://user:password@host:5672/%2f"];
    for wrong in [
        "mysql://ana:S@host/sync",
        "S",
        "",
        "postgres://ana:S@host:port/sync",
        "postgres://ana:S@[::/sync",
        "postgres://ana:S@host:99999/sync",
    ] {
        let ended = settings().with("DATABASE_URL", wrong.replace('S', SECRET)).run(&["controller"]).await;
        refused(&ended, &database);
    }
    for wrong in
        ["http://ana:S@host/", "amqp:ana:S@host", "ana:S@host", "S", "", "amqp://ana:S@host:port/", "amqp://ana:S@host/?heartbeat=S"]
    {
        let ended = settings().with("RABBITMQ_URL", wrong.replace('S', SECRET)).run(&["controller"]).await;
        refused(&ended, &broker);
    }
    for (subcommand, name, value, says) in [
        ("controller", "WORKER_TIMEZONE", "America/Cuiabá", "--worker-timezone"),
        ("api", "WORKER_TIMEZONE", "local", "--worker-timezone"),
        ("api", "LOG_LEVEL", "info,=x=y", "--log-level (LOG_LEVEL)"),
        ("api", "API_LISTEN", "localhost", "--api-listen"),
        ("controller", "METRICS_LISTEN", "8081", "--metrics-listen"),
        ("controller", "LEASE_DURATION_SECONDS", "0", "--lease-duration-seconds"),
        ("controller", "EVENTS", "many", "--events"),
        ("api", "ALLOW_ANONYMOUS", "perhaps", "--allow-anonymous"),
        ("api", "DATABASE_MAX_CONNECTIONS", "1", "--database-max-connections"),
        ("api", "KUBECONFIG", "/nonexistent", "set KUBECONFIG to a kubeconfig file that can be read (now /nonexistent)"),
    ] {
        refused(&settings().with(name, value).run(&[subcommand]).await, &[says]);
    }
}

/// A file of a test's own with that text.
fn file(text: &str) -> String {
    let path = format!("{}/cli-{}", env!("CARGO_TARGET_TMPDIR"), uuid::Uuid::new_v4());
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn a_setting_and_its_file_are_not_taken_together_and_a_file_of_no_use_is_told() {
    for (subcommand, name, flag) in [
        (&["controller"][..], "DATABASE_URL", "--database-url"),
        (&["api"], "DATABASE_URL", "--database-url"),
        (&["migrate", "up"], "DATABASE_URL", "--database-url"),
        (&["controller"], "RABBITMQ_URL", "--rabbitmq-url"),
        (&["api"], "ADMIN_USERNAME", "--admin-username"),
        (&["api"], "ADMIN_PASSWORD", "--admin-password"),
    ] {
        let variable = format!("{name}_FILE");
        let settings = settings().with(&variable, file(&settings().variables[name]));
        let both = format!("{flag} ({name}) and {flag}-file ({variable}) are both set: keep one of them");
        refused(&settings.run(subcommand).await, &[&both]);
        let settings = settings.without(name);
        for (path, why) in [("/nonexistent".to_owned(), "/nonexistent: No such file"), (file(""), "is empty"), (file("\n"), "is empty")] {
            let ended = settings.clone().with(&variable, path).run(subcommand).await;
            refused(&ended, &[&format!("{flag}-file ({variable}) cannot be used: "), why, "name a file that holds"]);
        }
    }
    for (name, wrong) in [("DATABASE_URL", "mysql://ana:S@host/sync"), ("RABBITMQ_URL", "http://ana:S@host/")] {
        let variable = format!("{name}_FILE");
        let ended = settings().without(name).with(&variable, file(&wrong.replace('S', SECRET))).run(&["controller"]).await;
        refused(&ended, &[&variable, "cannot be used: it does not begin with"]);
    }
}

#[tokio::test]
async fn a_ca_that_cannot_do_its_work_is_told_with_the_fix() {
    let authority = Authority::new();
    for (flag, variable) in [("--database-ca-file", "DATABASE_CA_FILE"), ("--rabbitmq-ca-file", "RABBITMQ_CA_FILE")] {
        for (path, why) in [
            ("/nonexistent".to_owned(), "No such file"),
            (file(""), "is empty"),
            (file("hello\n"), "it holds no certificate"),
            (file("-----BEGIN CERTIFICATE-----\n"), "it is no PEM"),
        ] {
            let ended = settings().with(variable, path).run(&["controller"]).await;
            refused(&ended, &[&format!("{flag} ({variable}) cannot be used: "), why, "name a PEM file with the server's CA"]);
        }
    }
    let settings = settings().with("DATABASE_CA_FILE", authority.file()).with("RABBITMQ_CA_FILE", authority.file());
    let plain = settings.variables["DATABASE_URL"].clone() + "?sslmode=disable";
    let ended = settings.clone().with("DATABASE_URL", plain).run(&["controller"]).await;
    refused(&ended, &["--database-url (DATABASE_URL)", "sslmode=disable", "remove one of the two"]);
    refused(&settings.run(&["controller"]).await, &["--rabbitmq-url (RABBITMQ_URL)", "write amqps:// and the broker's TLS port"]);
}

#[tokio::test]
async fn a_wrong_name_in_the_list_of_namespaces_is_told() {
    for wrong in ["team_a", "a,,b", "a,"] {
        let ended = settings().with("WATCH_NAMESPACE", wrong).run(&["controller"]).await;
        refused(&ended, &["--watch-namespace", "WATCH_NAMESPACE", "write names separated by commas"]);
    }
}

/// Whether every migration of this list was there already.
fn all_applied(list: &str) -> bool {
    !list.is_empty() && list.lines().all(|line| line.ends_with(" applied") && !line.ends_with(" not applied"))
}

#[tokio::test]
async fn an_older_release_finds_its_way_on_the_schema_of_a_newer_one() {
    let world = World::new("cli-newer").await;
    let settings = world.settings();
    assert!(all_applied(&settings.succeed(&["migrate", "up"]).await));
    world
        .sql(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9001, 'of the next release', true, '', 0)",
        )
        .await;
    for direction in ["up", "status"] {
        let told = settings.succeed(&["migrate", direction]).await;
        let last = told.lines().last().unwrap();
        assert!(last.starts_with("9001  of the next release ") && last.ends_with(" applied, by a newer release"), "{told}");
    }
    let ended = settings.run(&["migrate", "down"]).await;
    assert!(ended.code == Some(1) && ended.err.contains("migration 9001 was applied by a newer release than this one"), "{ended:?}");
    world.api().await;
}

#[tokio::test]
async fn migrate_waits_for_a_database_that_is_not_up_yet_as_long_as_it_is_told() {
    let world = World::with_empty_database("cli-wait").await;
    let (proxy, url) = Proxy::for_url(&world.database_url).await;
    proxy.set(Mode::Refuse);
    let settings = world.settings().with("DATABASE_URL", url);
    let impatient = settings.clone().with("MIGRATE_WAIT_SECONDS", 1).run(&["migrate", "up"]).await;
    assert_eq!(impatient.code, Some(1));
    assert!(impatient.err.contains("waiting for the database") && impatient.err.contains("error: cannot connect"), "{impatient:?}");
    let up = async || settings.succeed(&["migrate", "up", "--wait", "60"]).await;
    // Several replicas at once: one does it, the others wait.
    let (first, second, ()) = tokio::join!(up(), up(), async {
        proxy.refuses_another().await;
        proxy.set(Mode::Pass);
    });
    let now = |told: &str| told.matches("applied now").count();
    assert!(now(&first) > 0 || now(&second) > 0);
    assert!(all_applied(&settings.succeed(&["migrate", "status"]).await));
}

#[tokio::test]
async fn an_address_in_use_is_told_with_the_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    for (subcommand, flag, variable) in [("api", "--api-listen", "API_LISTEN"), ("controller", "--metrics-listen", "METRICS_LISTEN")] {
        let ended = settings().with(variable, address).run(&[subcommand]).await;
        refused(&ended, &[flag, &address.to_string(), "choose another address"]);
    }
}

#[tokio::test]
async fn migrate_says_in_one_sentence_why_it_cannot_connect() {
    let world = World::with_empty_database("cli-migrate").await;
    let mut url = url::Url::parse(&world.database_url).unwrap();
    url.set_password(Some(SECRET)).unwrap();
    for (what, url, why) in [
        ("wrong password", url.as_str(), "password authentication failed"),
        ("no server", &settings().variables["DATABASE_URL"], "no connection in time"),
    ] {
        let ended = settings().with("DATABASE_URL", url).run(&["migrate", "up"]).await;
        assert_eq!(ended.code, Some(1), "{what}: {ended:?}");
        let told = format!("error: cannot connect to the database of --database-url (DATABASE_URL): {why}");
        assert!(ended.err.starts_with(&told) && ended.err.contains("is it up"), "{what}: {ended:?}");
        assert!(ended.err.trim_end().lines().count() == 1 && !ended.err.contains(SECRET), "{what}: {ended:?}");
    }
}

#[tokio::test]
async fn no_secret_is_logged_however_much_is_logged() {
    let world = World::new("cli-secrets").await;
    let (user, password) = (format!("ana-{}", world.name), format!("{SECRET}-{}", world.name));
    let role = format!("CREATE ROLE \"{user}\" SUPERUSER LOGIN PASSWORD '{password}'");
    sqlx::query(sqlx::AssertSqlSafe(role)).execute(&world.database).await.unwrap();
    let everything = serde_json::json!({"configure": ".*", "write": ".*", "read": ".*"});
    world.manage(reqwest::Method::PUT, &format!("users/{user}"), Some(serde_json::json!({"password": password, "tags": ""}))).await;
    world.manage(reqwest::Method::PUT, &format!("permissions/{}/{user}", world.name), Some(everything)).await;
    let with_secret = |url: &str| {
        let mut url = url::Url::parse(url).unwrap();
        url.set_username(&user).unwrap();
        url.set_password(Some(&password)).unwrap();
        String::from(url)
    };
    let mut settings = world.settings().with("ADMIN_PASSWORD", &password).with("LOG_LEVEL", "trace");
    for name in ["DATABASE_URL", "RABBITMQ_URL"] {
        settings = settings.clone().with(name, with_secret(&settings.variables[name]));
    }
    let (controller, api) = (settings.start("controller"), settings.start("api"));
    controller.ready().await;
    api.ready().await;
    let (code, _) = api.call(reqwest::Method::POST, "/sync/force", Some(serde_json::json!({"mode": "update"}))).await;
    assert_eq!(code, 200);
    for program in [controller, api] {
        let log = finished(program).await;
        assert!(log.contains("TRACE"), "logged at trace");
        for secret in secrets(&world, &password) {
            let line = log.lines().find(|line| line.contains(&secret));
            assert!(line.is_none(), "a secret is logged: {}", line.unwrap_or_default());
        }
    }
    world.manage(reqwest::Method::DELETE, &format!("users/{user}"), None).await;
    let role = format!("DROP ROLE \"{user}\"");
    sqlx::query(sqlx::AssertSqlSafe(role)).execute(&world.database).await.unwrap();
}

/// The password, as it is and as HTTP sends it, and the token of the kubeconfig.
fn secrets(world: &World, password: &str) -> Vec<String> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let kubeconfig = std::fs::read_to_string(&world.kubeconfig).unwrap();
    let token = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("token:")).unwrap().trim().trim_matches('"').to_owned();
    assert!(token.len() >= 16, "the kubeconfig has a token");
    vec![password.to_owned(), STANDARD.encode(format!("admin:{password}")), token]
}

/// Its whole log, after it was asked to end.
async fn finished(program: Program) -> String {
    program.signal("TERM");
    let (status, log) = program.ended().await;
    assert_eq!(status.code(), Some(0));
    log
}

#[tokio::test]
async fn crd_prints_what_is_committed() {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/crds");
    let files: Vec<_> = std::fs::read_dir(committed).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(settings().succeed(&["crd"]).await, std::fs::read_to_string(&files[0]).unwrap());
}

#[tokio::test]
async fn help_lists_every_variable_and_shows_no_value_of_a_secret() {
    let everywhere = ["LOG_LEVEL", "LOG_FORMAT"];
    let database = ["DATABASE_URL", "DATABASE_URL_FILE", "DATABASE_CA_FILE", "WORKER_TIMEZONE"];
    for (subcommand, own) in [
        (
            "controller",
            &[
                "RABBITMQ_URL",
                "RABBITMQ_URL_FILE",
                "RABBITMQ_CA_FILE",
                "RABBITMQ_QUEUE",
                "RABBITMQ_STATUS_QUEUE",
                "WATCH_NAMESPACE",
                "LEASE_NAME",
                "LEASE_NAMESPACE",
                "LEASE_DURATION_SECONDS",
                "LEASE_IDENTITY",
                "STATUS_GATHER_MILLISECONDS",
                "EVENTS",
                "RETENTION_DAYS",
                "COUNTERS_COMPARE_SECONDS",
                "METRICS_LISTEN",
                "DATABASE_MAX_CONNECTIONS",
                "KUBECONFIG",
            ][..],
        ),
        (
            "api",
            &[
                "API_LISTEN",
                "ADMIN_USERNAME",
                "ADMIN_USERNAME_FILE",
                "ADMIN_PASSWORD",
                "ADMIN_PASSWORD_FILE",
                "ALLOW_ANONYMOUS",
                "FORCE_NAMESPACE",
                "FORCE_TTL_SECONDS",
                "FORCE_WAIT_MILLISECONDS",
                "DATABASE_MAX_CONNECTIONS",
                "KUBECONFIG",
            ],
        ),
        ("migrate", &["MIGRATE_WAIT_SECONDS"]),
    ] {
        let help = settings().succeed(&[subcommand, "--help"]).await;
        for variable in everywhere.iter().chain(&database).chain(own) {
            assert!(help.contains(variable), "{variable} is not in {subcommand} --help");
        }
        assert!(!help.contains(SECRET), "{help}");
    }
}

#[tokio::test]
async fn one_signal_drains_at_once_even_with_idle_and_half_said_connections() {
    let world = World::new("cli-drain").await;
    let (controller, api) = (world.controller().await, world.api().await);
    let address = api.address().await;
    let _idle = TcpStream::connect(&address).await.unwrap();
    let mut half = TcpStream::connect(&address).await.unwrap();
    half.write_all(b"GET /sync/status HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    api.get("/sync/status").await;
    for program in [controller, api] {
        let (status, took) = program.terminate().await;
        assert!(status.code() == Some(0) && took < Duration::from_secs(8), "{status} after {took:?}");
    }
}

#[tokio::test]
async fn a_second_signal_aborts() {
    let world = World::new("cli-abort").await;
    let api = world.api().await;
    // A request that is not all there holds up the drain.
    let mut half = TcpStream::connect(api.address().await).await.unwrap();
    half.write_all(b"POST /sync/force HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YWRtaW46czNjcmV0\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{").await.unwrap();
    api.get("/sync/status").await;
    api.signal("TERM");
    api.logged("a second signal aborts").await;
    api.signal("INT");
    let (status, _) = api.ended().await;
    assert_eq!(status.code(), Some(143));
}
