//! The program with crash points, as `hack/crash-points` builds it: what it is told, and what it leaves.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde::Serialize;

use super::program::Settings;

/// That program. Builds it if it is not there yet.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hack/crash-points");
        let output = Command::new(script).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "{script} failed; its words are above");
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
    })
}

/// Which point is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Moment {
    /// The program dies before the effect.
    Before,
    /// It dies after the effect.
    After,
    /// It lives, and does the effect once more.
    Twice,
}

/// Where to die, or what to do twice.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Plan {
    /// Any if not given.
    pub effect: Option<&'static str>,
    /// Before or after if not given.
    pub moment: Option<Moment>,
    /// The how manieth of those.
    pub occurrence: u64,
    /// Counted from SIGTERM on.
    pub draining: bool,
}

impl Settings {
    /// The same for a program that follows the plan, and writes each point that it passes into `trace`.
    pub fn with_crash(self, plan: Option<Plan>, trace: &Path) -> Self {
        let settings = self.with("SYNC_CRASH_TRACE", trace.display());
        match plan {
            Some(plan) => settings.with("SYNC_CRASH_PLAN", serde_json::to_string(&plan).unwrap()),
            None => settings,
        }
    }
}

/// The points that programs passed, one after the other: what (before, after, twice, died, drain) and which effect.
pub struct Trace(Vec<(String, String)>);

impl Trace {
    /// Reads what it left.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Self(text.lines().filter_map(|line| line.split_once(' ')).map(|(what, name)| (what.to_owned(), name.to_owned())).collect())
    }

    /// The names of all effects in it.
    pub fn effects(&self) -> std::collections::BTreeSet<&str> {
        self.0.iter().filter(|(what, _)| what == "before").map(|(_, name)| name.as_str()).collect()
    }

    /// Whether this effect was done twice.
    pub fn did_twice(&self, effect: &str) -> bool {
        self.0.iter().any(|(what, name)| what == "twice" && name == effect)
    }

    /// Whether a message may have been on its way when one of them died: published, and not marked in the record.
    pub fn died_between_publish_and_mark(&self) -> bool {
        let mut under_way = false;
        self.0.iter().any(|(what, name)| {
            match (what.as_str(), name.as_str()) {
                ("before", "publish a message") => under_way = true,
                ("after", "mark executions as published") => under_way = false,
                ("died", _) => return std::mem::take(&mut under_way),
                _ => {}
            }
            false
        })
    }
}

impl std::fmt::Display for Trace {
    /// Its end.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let last: Vec<String> = self.0.iter().rev().take(12).rev().map(|(what, name)| format!("{what} {name}")).collect();
        write!(f, "{} points, the last: {}", self.0.len(), last.join(", "))
    }
}
