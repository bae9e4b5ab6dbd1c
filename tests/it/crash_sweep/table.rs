//! Goes along all lanes, several at a time, and counts: points tried, crashes, violations of each invariant, second copies.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

use futures::StreamExt;

use super::{
    outside::Violation,
    plans::Lane,
    run::{Outcome, run},
};
use crate::common::crash_points;

/// Lanes at a time, unless `SYNC_SWEEP_LANES` says otherwise: runs mostly wait.
const AT_A_TIME: usize = 4;

/// The columns of violations.
const INVARIANTS: [&str; 7] = ["I1", "I2", "I3", "I4", "I5", "I8", "stuck"];

/// What came of one lane.
#[derive(Default)]
struct Tried {
    runs: u64,
    met: u64,
    ended_without: bool,
    violations: Vec<Violation>,
    duplicates: usize,
}

/// What came of all.
pub struct Table(BTreeMap<Lane, Tried>);

impl Table {
    /// Goes along these lanes.
    pub async fn of(lanes: Vec<Lane>) -> Self {
        let at_a_time = std::env::var("SYNC_SWEEP_LANES").ok().and_then(|text| text.parse().ok()).unwrap_or(AT_A_TIME);
        // Before, since it may take a while: nothing else goes on in the thread that asks for it.
        tokio::task::spawn_blocking(crash_points::program).await.unwrap();
        let along = |lane| async move { (lane, tokio::spawn(along(lane)).await.unwrap()) };
        let mut tried = futures::stream::iter(lanes).map(along).buffer_unordered(at_a_time);
        let mut table = Self(BTreeMap::new());
        while let Some((lane, tried)) = tried.next().await {
            eprintln!("{}", line(lane, &tried));
            table.0.insert(lane, tried);
        }
        table
    }

    fn sum(&self, of: impl Fn(&Lane) -> bool, what: impl Fn(&Tried) -> u64) -> u64 {
        self.0.iter().filter(|(lane, _)| of(lane)).map(|(_, tried)| what(tried)).sum()
    }

    /// How many second copies there were in those lanes.
    pub fn duplicates(&self, of: impl Fn(&Lane) -> bool) -> usize {
        self.0.iter().filter(|(lane, _)| of(lane)).map(|(_, tried)| tried.duplicates).sum()
    }

    /// What was seen in those lanes, for people.
    pub fn seen(&self, of: impl Fn(&Lane) -> bool + Copy) -> String {
        let lanes = self.0.keys().filter(|lane| of(lane)).count();
        format!("{} kinds of points, {} met, no violation", lanes, self.sum(of, |tried| tried.met))
    }

    /// Panics unless all points of all lanes were met, and nothing was violated.
    pub fn holds(&self) {
        let violations: Vec<String> =
            self.0.values().flat_map(|tried| &tried.violations).map(|(invariant, text)| format!("{invariant}: {text}")).collect();
        assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
        let never: Vec<_> = self.0.iter().filter(|(_, tried)| tried.met == 0).map(|(lane, _)| lane.name()).collect();
        assert!(never.is_empty(), "never met: {never:?}");
    }
}

async fn along(lane: Lane) -> Tried {
    let mut tried = Tried::default();
    for occurrence in 1..=lane.limit {
        let job = lane.job(occurrence);
        let planned = job.plans.len() as u64;
        let Outcome { met, effects: _, violations, duplicates } = run(job).await;
        for (invariant, text) in &violations {
            eprintln!("{invariant}: {text}");
        }
        tried.runs += 1;
        tried.met += met;
        tried.violations.extend(violations);
        tried.duplicates += duplicates;
        if met < planned {
            tried.ended_without = true;
            break;
        }
    }
    tried
}

fn line(lane: Lane, tried: &Tried) -> String {
    let (effect, moment) = lane.name();
    let swept = if tried.ended_without { "to the end" } else { "the first" };
    let mut text = format!("| {effect} | {moment} | {} | {} | {swept} | {} |", tried.runs, tried.met, tried.duplicates);
    for invariant in INVARIANTS {
        let _ = write!(text, " {} |", tried.violations.iter().filter(|(of, _)| *of == invariant).count());
    }
    text
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| Effect | Moment | Runs | Points met | Swept | Second copies |")?;
        for invariant in INVARIANTS {
            write!(f, " {invariant} |")?;
        }
        writeln!(f, "\n|---|---|---|---|---|---|{}", "---|".repeat(INVARIANTS.len()))?;
        for (lane, tried) in &self.0 {
            writeln!(f, "{}", line(*lane, tried))?;
        }
        let all = |_: &Lane| true;
        let violations = self.sum(all, |tried| tried.violations.len().try_into().unwrap());
        write!(
            f,
            "{} runs, {} points met, {violations} violations, {} second copies",
            self.sum(all, |tried| tried.runs),
            self.sum(all, |tried| tried.met),
            self.duplicates(all)
        )
    }
}
