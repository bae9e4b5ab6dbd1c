//! What it was measured on, and with which versions: written beside the records, for the report.

use std::{collections::BTreeMap, fs, path::Path, time::SystemTime};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};
use tokio::process::Command;

use crate::{options::Options, stack::Stack};

/// The machine and the versions, each as a line for people.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Machine(pub BTreeMap<String, String>);

/// When and how a figure was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// The commit, marked when files differed from it.
    pub commit: String,
    /// UTC.
    pub date: String,
    /// How often everything was measured.
    pub rounds: u32,
    /// Factor on numbers of objects, rows and seconds.
    pub scale: f64,
    /// How long it took; nothing while it is under way, or if it ended by an error.
    pub seconds: Option<u64>,
}

impl Machine {
    /// What was noted last.
    pub fn of(work: &Path) -> Result<Self> {
        let file = work.join("machine.json");
        serde_json::from_slice(&fs::read(&file).with_context(|| file.display().to_string())?).context("machine.json")
    }
}

/// Looks at the machine and the servers, and notes it.
pub async fn note(options: &Options, stack: &Stack) -> Result<()> {
    let mut database = PgConnection::connect(&stack.database_url).await?;
    let setting = |name: &'static str| format!("SELECT current_setting('{name}')");
    let mut lines = BTreeMap::new();
    let mut add = |name: &str, value: String| drop(lines.insert(name.to_owned(), value));
    add("Cores", std::thread::available_parallelism()?.to_string());
    add("Processor", field("/proc/cpuinfo", "model name"));
    add("Memory", field("/proc/meminfo", "MemTotal"));
    add("Kernel", words("uname", &["-sr"]).await);
    add("File system", words("findmnt", &["-no", "FSTYPE", "-T", &options.stack.display().to_string()]).await);
    add("fdatasync (pg_test_fsync)", fsync(options).await);
    add("sync-operator", words(&options.operator.display().to_string(), &["--version"]).await);
    add("Kubernetes", stack.admin.apiserver_version().await?.git_version);
    add("etcd", words(&format!("/proc/{}/exe", stack.pid("etcd")?), &["--version"]).await);
    add("PostgreSQL", sqlx::query_scalar("SELECT current_setting('server_version')").fetch_one(&mut database).await?);
    let mut durable = Vec::new();
    for name in ["fsync", "synchronous_commit", "full_page_writes", "shared_buffers"] {
        let value: String = sqlx::query_scalar(sqlx::AssertSqlSafe(setting(name))).fetch_one(&mut database).await?;
        durable.push(format!("{name}={value}"));
    }
    add("PostgreSQL settings", durable.join(", "));
    let overview = stack.ask_broker("overview").await?;
    add("RabbitMQ", overview["rabbitmq_version"].as_str().unwrap_or_default().to_owned());
    add("Go", words("go", &["version"]).await);
    add("Python", words("python3", &["--version"]).await);
    fs::write(options.work.join("machine.json"), serde_json::to_vec_pretty(&Machine(lines))?).context("machine.json")
}

/// The commit that is measured, `-dirty` if anything but the report differs from it, and now.
pub async fn commit_and_date(options: &Options) -> (String, String) {
    let home = options.home.display().to_string();
    let mut commit = words("git", &["-C", &home, "rev-parse", "--short=12", "HEAD"]).await;
    let differs = ["-C", &home, "diff", "--name-only", "HEAD", "--", ":/", ":(top,exclude)bench/RESULTS.md"];
    if words("git", &differs).await != NOTHING {
        commit.push_str("-dirty");
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    (commit, words("date", &["-u", "-d", &format!("@{now}"), "+%Y-%m-%d %H:%M UTC"]).await)
}

/// What a program says that says nothing.
const NOTHING: &str = "nothing";

/// The first line that a program says; what went wrong, if that is all it has to tell.
async fn words(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output().await {
        Ok(output) => String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or(NOTHING).trim().to_owned(),
        Err(error) => format!("{program}: {error}"),
    }
}

fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

/// On the disk of the servers.
async fn fsync(options: &Options) -> String {
    let file = options.stack.join("pg_test_fsync");
    let program = format!("{} -s 1 -f {}", "$(ls -d /usr/lib/postgresql/*/bin/pg_test_fsync | tail -n 1)", file.display());
    let output = Command::new("sh").args(["-c", &program]).output().await;
    let _ = fs::remove_file(file);
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let line = text.lines().find(|line| line.trim().starts_with("fdatasync")).unwrap_or("fdatasync not measured");
    line.trim().trim_start_matches("fdatasync").trim().to_owned()
}
