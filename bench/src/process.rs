//! Processes that are measured: started with settings, found in /proc with their children, ended or killed.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// What the kernel counts CPU time in, for programs: 100 a second on all machines that it runs on here.
const TICKS_A_SECOND: f64 = 100.0;
/// How long a process is given to end.
const END: Duration = Duration::from_secs(30);

/// A running process; killed when dropped.
pub struct Process {
    child: Child,
    /// Where it writes what it has to say.
    pub log: PathBuf,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Resident now.
    pub resident: f64,
    /// The most that was resident so far.
    pub peak: f64,
}

impl Process {
    /// Starts it with these variables, `PATH`, and nothing else of our environment.
    pub fn start(mut command: Command, variables: &[(&str, String)], log: &Path) -> Result<Self> {
        let words = File::create(log).with_context(|| log.display().to_string())?;
        let child = command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(variables.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::null())
            .stdout(words.try_clone()?)
            .stderr(words)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", command.as_std().get_program().display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its id.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("it has ended")
    }

    /// Everything it said so far.
    #[must_use]
    pub fn words(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails if it has ended by itself.
    pub fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("it ended by itself ({status}); its words are in {}", self.log.display()),
        }
    }

    /// Sends a signal and does not wait.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let sent = std::process::Command::new("kill").args(["-s", signal, &self.pid()?.to_string()]).status()?;
        if sent.success() { Ok(()) } else { bail!("kill -s {signal}: {sent}") }
    }

    /// Asks it to end, and waits until it has.
    pub async fn end(mut self) -> Result<()> {
        self.must_run()?;
        self.signal("TERM")?;
        if timeout(END, self.child.wait()).await.is_err() {
            eprintln!("bench: {} did not end within {} s of SIGTERM: killed", self.log.display(), END.as_secs());
            self.child.kill().await?;
        }
        Ok(())
    }
}

/// CPU seconds of a process and its descendants so far, those that have ended included.
#[must_use]
pub fn cpu_seconds(pid: u32) -> f64 {
    family(pid).into_iter().filter_map(|pid| Some(stat(pid)?.ticks)).sum::<f64>() / TICKS_A_SECOND
}

/// Memory of a process and its descendants.
#[must_use]
pub fn memory(pid: u32) -> Memory {
    family(pid)
        .into_iter()
        .map(own_memory)
        .fold(Memory::default(), |sum, one| Memory { resident: sum.resident + one.resident, peak: sum.peak + one.peak })
}

fn own_memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim_end_matches("kB").trim().parse::<f64>().unwrap_or_default() * 1024.0
    };
    Memory { resident: bytes("VmRSS:"), peak: bytes("VmHWM:") }
}

struct Stat {
    parent: u32,
    ticks: f64,
}

/// User and system time, with that of children that were waited for.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks })
}

fn family(pid: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(children.get(&pid).into_iter().flatten());
        next += 1;
    }
    found
}
