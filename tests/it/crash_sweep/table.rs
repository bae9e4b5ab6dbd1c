//! Goes along all lanes, several at a time, and counts: points tried, crashes, violations of each invariant, second copies.

use std::{collections::BTreeMap, fmt};

use futures::StreamExt;

use super::{
    outside::Violation,
    plans::Lane,
    run::{Outcome, run},
};

/// Lanes at a time, unless `SYNC_SWEEP_LANES` says otherwise: runs mostly wait.
const AT_A_TIME: usize = 8;

/// The columns of violations.
const INVARIANTS: [&str; 7] = ["I1", "I2", "I3", "I4", "I5", "I8", "stuck"];

/// What came of one lane.
#[derive(Default)]
struct Tried {
    points: u64,
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
        let tried = futures::stream::iter(lanes).map(|lane| async move { (lane, along(lane).await) });
        Self(tried.buffer_unordered(at_a_time).collect::<Vec<_>>().await.into_iter().collect())
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
        let Outcome { met, effects: _, violations, duplicates } = run(lane.job(occurrence)).await;
        for (invariant, text) in &violations {
            eprintln!("{invariant}: {text}");
        }
        tried.points += 1;
        tried.met += u64::from(met);
        tried.violations.extend(violations);
        tried.duplicates += duplicates;
        if !met {
            tried.ended_without = true;
            break;
        }
    }
    tried
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| Effect | Moment | Runs | Points met | Swept | Second copies |")?;
        for invariant in INVARIANTS {
            write!(f, " {invariant} |")?;
        }
        writeln!(f, "\n|---|---|---|---|---|---|{}", "---|".repeat(INVARIANTS.len()))?;
        for (lane, tried) in &self.0 {
            let (effect, moment) = lane.name();
            let swept = if tried.ended_without { "to the end" } else { "the first" };
            write!(f, "| {effect} | {moment} | {} | {} | {swept} | {} |", tried.points, tried.met, tried.duplicates)?;
            for invariant in INVARIANTS {
                write!(f, " {} |", tried.violations.iter().filter(|(of, _)| *of == invariant).count())?;
            }
            writeln!(f)?;
        }
        let all = |_: &Lane| true;
        let violations = self.sum(all, |tried| tried.violations.len().try_into().unwrap());
        write!(
            f,
            "{} runs, {} points met, {violations} violations, {} second copies",
            self.sum(all, |tried| tried.points),
            self.sum(all, |tried| tried.met),
            self.duplicates(all)
        )
    }
}
