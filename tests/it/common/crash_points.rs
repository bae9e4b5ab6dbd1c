//! The program with crash points, as `hack/crash-points` builds it: what it is told, and what it leaves.

use std::{
    collections::VecDeque,
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
        Self::of(&std::fs::read_to_string(path).unwrap_or_default())
    }

    /// Reads lines of such a file.
    fn of(text: &str) -> Self {
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

    /// Whether a message may have been on its way when one of them died: published, and the record does not say what became of
    /// it. What is published while earlier ones are marked is on its way when that is over.
    pub fn died_between_publish_and_mark(&self) -> bool {
        let (mut published, mut settled) = (0, 0);
        let mut being_settled = VecDeque::new();
        self.0.iter().any(|(what, name)| {
            match (what.as_str(), name.as_str()) {
                ("before", "publish a message") => published += 1,
                ("before", "mark executions as published" | "note a publish problem") => being_settled.push_back(published),
                ("after", "mark executions as published" | "note a publish problem") => {
                    settled = being_settled.pop_front().unwrap_or(settled);
                }
                ("died", _) => {
                    let under_way = published > settled || !being_settled.is_empty();
                    (published, settled) = (0, 0);
                    being_settled.clear();
                    return under_way;
                }
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

#[test]
fn a_message_is_on_its_way_until_what_became_of_it_is_in_the_record() {
    let died = |points: &[&str]| Trace::of(&points.join("\n")).died_between_publish_and_mark();
    let (publish, begin, end) = ("before publish a message", "before mark executions as published", "after mark executions as published");
    assert!(died(&[publish, "died take a confirm"]));
    assert!(died(&[publish, begin, "died write a status"]));
    assert!(!died(&[publish, begin, end, "died write a status"]));
    assert!(!died(&[publish, "before note a publish problem", "after note a publish problem", "died write a status"]));
    assert!(died(&[publish, begin, publish, end, "died write a status"]), "the second one is not marked");
    assert!(died(&[publish, begin, publish, begin, end, "died write a status"]), "one of two batches is not marked");
    assert!(!died(&[publish, begin, publish, begin, end, end, "died write a status"]));
    assert!(!died(&[publish, begin, end, "died write a status", "before claim executions", "died claim executions"]));
}
