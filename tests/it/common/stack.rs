//! The shared servers: those of `SYNC_TEST_STACK` if set (`make test` sets it), else started by `hack/stack` once for this
//! process and ended with it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// Addresses of the shared servers.
#[derive(Debug)]
pub struct Stack {
    /// Superuser, database `sync`.
    pub database_url: String,
    /// Administrator, vhost `/`.
    pub rabbitmq_url: String,
    /// RabbitMQ's management API.
    pub management_url: String,
    /// Cluster administrator.
    pub kubeconfig: PathBuf,
    /// `PATH` with our kubectl first.
    pub path: String,
}

/// The template database, migrated once; of this process, so that two test runs can share the servers.
pub fn template() -> String {
    format!("it_template_{}", std::process::id())
}

static STACK: OnceLock<Stack> = OnceLock::new();

/// The shared servers, with the CRD installed and the template database migrated.
pub fn stack() -> &'static Stack {
    STACK.get_or_init(|| {
        let given = std::env::var_os("SYNC_TEST_STACK").map(PathBuf::from);
        let stack = Stack::read(&given.unwrap_or_else(|| {
            let directory = std::env::temp_dir().join(format!("sync-operator-it-{}", std::process::id()));
            start(&directory, &[]);
            directory
        }));
        prepare_cluster(&stack);
        prepare_database(&stack);
        stack
    })
}

/// Starts servers in `directory`, all or those named; they end with this process.
pub fn start(directory: &Path, parts: &[&str]) {
    let status = hack(directory, "up", parts);
    assert!(status, "hack/stack up {} failed", directory.display());
    let guard = format!("tail --pid={} -f /dev/null; exec '{}' down '{}'", std::process::id(), script(), directory.display());
    Command::new("setsid")
        .args(["--fork", "bash", "-c", &guard])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

/// Runs `hack/stack VERB directory ARGS…`; whether it succeeded.
pub fn hack(directory: &Path, verb: &str, args: &[&str]) -> bool {
    Command::new(script()).arg(verb).arg(directory).args(args).stdin(Stdio::null()).status().unwrap().success()
}

fn script() -> String {
    format!("{}/hack/stack", env!("CARGO_MANIFEST_DIR"))
}

impl Stack {
    /// Reads the addresses that `hack/stack` left in `directory/env`.
    pub fn read(directory: &Path) -> Self {
        let output = Command::new("bash").args(["-c", ". \"$0\"/env && env -0"]).arg(directory).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let mut variables: HashMap<&str, &str> = text.split('\0').filter_map(|line| line.split_once('=')).collect();
        let mut take = |name: &str| variables.remove(name).unwrap_or_default().to_owned();
        Self {
            database_url: take("DATABASE_URL"),
            rabbitmq_url: take("RABBITMQ_URL"),
            management_url: take("RABBITMQ_MANAGEMENT_URL"),
            kubeconfig: take("KUBECONFIG").into(),
            path: take("PATH"),
        }
    }
}

/// Installs the CRD.
pub fn prepare_cluster(stack: &Stack) {
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/");
    for arguments in
        [&["apply", "--server-side", "-f", crds][..], &["wait", "--for=condition=Established", "crd/syncexecutions.sync.pncp.io"]]
    {
        let done = Command::new("kubectl")
            .args(arguments)
            .env("PATH", &stack.path)
            .env("KUBECONFIG", &stack.kubeconfig)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(done.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Makes the template database.
pub fn prepare_database(stack: &Stack) {
    let psql = |sql: &str| {
        let done =
            Command::new("psql").args([&stack.database_url, "-v", "ON_ERROR_STOP=1", "-qc", sql]).stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
    };
    psql(&format!("CREATE DATABASE {}", template()));
    let migrated = Command::new(env!("CARGO_BIN_EXE_sync-operator"))
        .args(["migrate", "up"])
        .env("DATABASE_URL", with_database(&stack.database_url, &template()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
}

/// The same server, another database.
pub fn with_database(url: &str, database: &str) -> String {
    let mut url = url::Url::parse(url).unwrap();
    url.set_path(database);
    url.into()
}
