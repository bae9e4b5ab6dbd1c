//! Writes RESULTS.md from the records: first what was to be reached, then each figure with its medians and all of its rounds.

use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use anyhow::{Context, Result};

use crate::{
    figures,
    machine::{Machine, Run},
    options::{Figure, Options},
    results::{Record, Results, short},
    targets::{Records, targets},
};

/// Writes it.
pub fn write(options: &Options, file: &Path) -> Result<()> {
    let mut text = String::from(HEAD);
    text += "\n## The machine\n\n| | |\n|---|---|\n";
    for (name, value) in Machine::of(&options.work)?.0 {
        writeln!(text, "| {name} | {value} |")?;
    }
    let mut all = Vec::new();
    let mut sections = String::new();
    let mut runs = String::from("\n| Figure | Commit | Date | Rounds | Scale | Took |\n|---|---|---|---|---|---|\n");
    for figure in figures::ALL {
        let Some((run, records)) = Results::of(&options.work, figure.name()).read()? else { continue };
        let Run { commit, date, rounds, scale, seconds } = &run;
        let took = seconds.map_or_else(|| "ended by an error; its records up to then".to_owned(), |seconds| format!("{seconds} s"));
        writeln!(runs, "| {} | {commit} | {date} | {rounds} | {scale} | {took} |", figure.name())?;
        section(&mut sections, figure, &records)?;
        all.extend(records);
    }
    text += &runs;
    text += "\n## What was to be reached\n\n| Target | Measured (medians, unless it says otherwise) | Reached |\n|---|---|---|\n";
    for target in targets(&Records(&all)) {
        writeln!(text, "| {} | {} | {} |", target.words, target.measured, if target.reached { "yes" } else { "**no**" })?;
    }
    text += &sections;
    fs::write(file, text).with_context(|| file.display().to_string())
}

const HEAD: &str = "# What was measured

Written by `make bench`; do not edit. How it is measured: [README.md](README.md).
";

fn section(text: &mut String, figure: Figure, records: &[Record]) -> Result<()> {
    let (title, words) = about(figure);
    writeln!(text, "\n## {title}\n\n{words}")?;
    let names: BTreeSet<&str> = records.iter().map(|record| record.figure.as_str()).collect();
    for name in names {
        table(text, name, records)?;
    }
    rounds(text, records)
}

/// The medians: a row for each case and subject, a column for each value.
fn table(text: &mut String, name: &str, records: &[Record]) -> Result<()> {
    let records: Vec<Record> = records.iter().filter(|record| record.figure == name).cloned().collect();
    let values: BTreeSet<&str> = records.iter().flat_map(|record| record.values.keys().map(String::as_str)).collect();
    let all = Records(&records);
    writeln!(text, "\nMedians, {name}:\n")?;
    write!(text, "| Case | Subject |")?;
    for value in &values {
        write!(text, " {} |", value.replace('_', " "))?;
    }
    writeln!(text, "\n|---|---|{}", "--:|".repeat(values.len()))?;
    for case in all.cases(name) {
        for subject in subjects(&records, case) {
            write!(text, "| {} | {subject} |", case.trim())?;
            for value in &values {
                write!(text, " {} |", all.median(name, case, subject, value).map(short).unwrap_or_default())?;
            }
            writeln!(text)?;
        }
    }
    Ok(())
}

fn subjects<'a>(records: &'a [Record], case: &str) -> BTreeSet<&'a str> {
    records.iter().filter(|record| record.case == case).map(|record| record.subject.as_str()).collect()
}

/// Every round, as it was.
fn rounds(text: &mut String, records: &[Record]) -> Result<()> {
    writeln!(text, "\n<details><summary>Every round</summary>\n\n```")?;
    for record in records {
        let values: Vec<String> = record.values.iter().map(|(name, value)| format!("{name}={}", short(*value))).collect();
        writeln!(text, "{} | {} | {} | {} | {}", record.figure, record.case.trim(), record.round, record.subject, values.join(" "))?;
    }
    writeln!(text, "```\n\n</details>").context("write")
}

fn about(figure: Figure) -> (&'static str, &'static str) {
    match figure {
        Figure::Objects => (
            "Objects a second, and what an object costs",
            "A burst of SyncExecutions, 32 creations in flight, by the same load for all, until the watch of the bench has seen the last \
             of them show that it is published; and, with an instant worker, that it succeeded. The ceiling is the API server alone: \
             the same creations, and one or two status patches of the size that the operator writes, with nothing behind them. \
             `go-default` and `kopf` get a tenth of the objects. CPU is in seconds per 1,000 objects: `subject` is the program that is \
             measured, `bench` the load and its watch. Writes are counted by the API server, a patch that changes nothing by the events that it did not \
             cause.",
        ),
        Figure::Memory => (
            "Memory and start-up",
            "Each subject is started on objects that are all recorded, published and shown; `start s` is from the start until it used \
             less than a tenth of a core for 3 s. Before that the operator is started on objects of which it knows some or none, as many \
             as the case says, and `start s` is until the last new one shows that it is published. A run fails if anything known is \
             recorded again, or if anything new is not recorded and published exactly once.",
        ),
        Figure::Latency => (
            "From the worker's commit to the object",
            "Reports of success by SQL, one by one, at a steady rate; from the commit of each to the watch event with the object that shows it.",
        ),
        Figure::Publisher => (
            "Messages a second",
            "The ceiling publishes the same messages, persistent and mandatory, 200 unconfirmed at any time, on one channel, and does \
             nothing else. The operator claims rows, publishes, awaits the confirms and marks the rows.",
        ),
        Figure::Rest => (
            "REST",
            "Closed loop by wrk with 10 connections for the rate; times at a steady rate of 300 requests/s (or 0.6 of the rate, where that is less), \
             counted from when each was to be sent. pgbench sends the statements that the product was seen to send for the \
             request, prepared, with 10 connections: no HTTP, no JSON. Ten clients that ask the same at once share answers of the \
             operator; `unshared requests per s` is the rate when no two requests are the same. Answers were checked against SQL before. Under ingest: 200 rows a second \
             are inserted and then reported on. The FastAPI peer has no cursors and no filters, and its sums are over the newest 100 rows only, \
             as in the existing service.",
        ),
        Figure::Failover => (
            "Failover",
            "Two replicas, a lease of 15 s, 20 creations a second. The longest time in which no object came to be shown as published, after \
             the leader was killed or asked to end. Every object was published in the end, or the run fails.",
        ),
    }
}
