//! The program as a process: started with settings, found by the address it logs, stopped or killed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::{PATIENCE, eventually};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Environment of a program.
#[derive(Clone)]
pub struct Settings {
    /// For the name of the log file.
    pub log_name: String,
    /// All variables it gets, besides `PATH`.
    pub variables: BTreeMap<String, String>,
}

impl Settings {
    /// The same with one variable changed.
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.variables.insert(name.to_owned(), value.to_string());
        self
    }

    /// Starts `sync-operator SUBCOMMAND`; does not wait for anything.
    pub fn start(&self, subcommand: &str) -> Program {
        self.start_of(Path::new(env!("CARGO_BIN_EXE_sync-operator")), subcommand)
    }

    /// The same with the program of another release.
    pub fn start_of(&self, program: &Path, subcommand: &str) -> Program {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("logs");
        std::fs::create_dir_all(&directory).unwrap();
        let log = directory.join(format!("{}-{subcommand}-{number}.log", self.log_name));
        let child = Command::new(program)
            .arg(subcommand)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&self.variables)
            .env("LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Program { child, log, variables: self.variables.clone() }
    }
}

/// What a process holds, as the kernel counts it.
#[derive(Clone, Copy, Debug)]
pub struct Holds {
    /// Open files and sockets.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory.
    pub memory_kib: usize,
}

/// A running program; killed when dropped.
pub struct Program {
    child: Child,
    log: PathBuf,
    variables: BTreeMap<String, String>,
}

impl Program {
    /// Everything it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it logged a line that contains `text`.
    pub async fn logged(&self, text: &str) {
        eventually(&format!("`{text}` in {}", self.log.display()), async || self.log().contains(text).then_some(())).await;
    }

    /// Where it listens, from its log.
    pub async fn address(&self) -> String {
        eventually(&format!("an address in {}", self.log.display()), async || self.listens()).await
    }

    /// The same, if it has logged that yet.
    pub fn listens(&self) -> Option<String> {
        self.log().lines().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some(line.get("listen")?.as_str()?.to_owned())
        })
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until `/readyz` says so.
    pub async fn ready(&self) {
        let url = format!("http://{}/readyz", self.address().await);
        eventually(&format!("{url} (log {})", self.log.display()), async || {
            let response = reqwest::get(&url).await.ok()?;
            response.status().is_success().then_some(())
        })
        .await;
    }

    /// Sends a request with the administrator's credentials; status code and JSON body (null if there is none).
    pub async fn call(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let request = reqwest::Client::new()
            .request(method, format!("http://{}{path}", self.address().await))
            .basic_auth(&self.variables["ADMIN_USERNAME"], Some(&self.variables["ADMIN_PASSWORD"]))
            .timeout(PATIENCE);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let response = request.send().await.unwrap();
        let code = response.status().as_u16();
        (code, response.json().await.unwrap_or(Value::Null))
    }

    /// GETs JSON; panics unless 200.
    pub async fn get(&self, path: &str) -> Value {
        let (code, body) = self.call(reqwest::Method::GET, path, None).await;
        assert_eq!(code, 200, "{path}: {body}");
        body
    }

    /// The value of a metric line that begins with `name` (with labels, as Prometheus text writes them); 0 if it is not there.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = reqwest::get(format!("http://{}/metrics", self.address().await)).await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
    }

    /// Sends a signal: TERM, KILL, STOP, CONT …
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    /// What it holds now.
    pub fn holds(&self) -> Holds {
        let process = PathBuf::from(format!("/proc/{}", self.child.id().unwrap()));
        let count = |what: &str| std::fs::read_dir(process.join(what)).unwrap().count();
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        Holds { descriptors: count("fd"), threads: count("task"), memory_kib: memory.unwrap() }
    }

    /// Kills it at once and waits until it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to end and waits until it has; its exit status and how long it took.
    pub async fn terminate(mut self) -> (ExitStatus, Duration) {
        let started = std::time::Instant::now();
        self.signal("TERM");
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends after SIGTERM").unwrap();
        (status, started.elapsed())
    }

    /// Waits until it ends by itself.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends by itself").unwrap();
        (status, self.log())
    }
}
