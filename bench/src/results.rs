//! Records: one line of JSON for each thing measured in each round. The report is made of nothing else.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::machine::Run;

/// What was measured of one subject in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Which figure.
    pub figure: String,
    /// Which case of it, like a number of rows.
    pub case: String,
    /// Who.
    pub subject: String,
    /// From 1.
    pub round: u32,
    /// What, by name; the unit is in the name.
    pub values: BTreeMap<String, f64>,
}

impl Record {
    /// A record without values.
    #[must_use]
    pub fn new(figure: &str, case: &str, subject: &str, round: u32) -> Self {
        Self { figure: figure.into(), case: case.into(), subject: subject.into(), round, values: BTreeMap::new() }
    }

    /// The same with one value more.
    #[must_use]
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }
}

/// Where the records of a figure go.
pub struct Results {
    file: PathBuf,
    run: PathBuf,
}

impl Results {
    /// The records of a figure in that folder.
    #[must_use]
    pub fn of(work: &Path, figure: &str) -> Self {
        Self { file: work.join(format!("{figure}.jsonl")), run: work.join(format!("{figure}.run.json")) }
    }

    /// Forgets what an earlier run left, and says which run it is from now on.
    pub fn begin(&self, run: &Run) -> Result<()> {
        fs::write(&self.file, "").with_context(|| self.file.display().to_string())?;
        self.note(run)
    }

    /// Adds one, and tells it.
    pub fn add(&self, record: &Record) -> Result<()> {
        let values: Vec<String> = record.values.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
        println!("{}, {}, round {}, {}: {}", record.figure, record.case, record.round, record.subject, values.join(", "));
        let mut file = OpenOptions::new().append(true).open(&self.file).with_context(|| self.file.display().to_string())?;
        writeln!(file, "{}", serde_json::to_string(record)?).context("write a record")
    }

    /// Says how the run is getting on.
    pub fn note(&self, run: &Run) -> Result<()> {
        fs::write(&self.run, serde_json::to_vec_pretty(run)?).with_context(|| self.run.display().to_string())
    }

    /// All of them, and how they came about; nothing if it was never begun.
    pub fn read(&self) -> Result<Option<(Run, Vec<Record>)>> {
        if !self.run.exists() {
            return Ok(None);
        }
        let run = serde_json::from_slice(&fs::read(&self.run)?).context("a run")?;
        let records = fs::read_to_string(&self.file)?;
        Ok(Some((run, records.lines().map(|line| serde_json::from_str(line).context("a record")).collect::<Result<_>>()?)))
    }
}

/// The middle one; of an even number, the mean of the middle two.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 { Some(upper) } else { sorted.get(sorted.len() / 2 - 1).map(|lower| f64::midpoint(*lower, upper)) }
}

/// Three digits that count.
#[must_use]
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 || size == 0.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// A count as a number to divide by.
#[must_use]
pub fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn three_digits_are_shown() {
        assert_eq!([1234.5, 99.94, 9.994, 0.1234, 0.0].map(short), ["1234", "99.9", "9.99", "0.123", "0"]);
    }
}
