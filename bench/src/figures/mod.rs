//! One file per figure. Each measures its subjects in turn, round after round, another one first each time.

mod failover;
mod latency;
mod memory;
mod objects;
mod publisher;
mod rest;

use std::time::Instant;

use anyhow::{Context, Result};

use crate::{
    machine::{self, Run},
    options::{Figure, Options},
    results::Results,
    stack::Stack,
};

/// What every figure needs.
pub struct Bench<'a> {
    /// Flags.
    pub options: &'a Options,
    /// Servers.
    pub stack: Stack,
    /// Where records go.
    pub results: Results,
}

/// In the order in which they are measured and told.
pub const ALL: [Figure; 6] = [Figure::Objects, Figure::Memory, Figure::Latency, Figure::Publisher, Figure::Rest, Figure::Failover];

/// Measures these figures, or all.
pub async fn run(options: &Options, figures: &[Figure]) -> Result<()> {
    let stack = Stack::prepare(options).await?;
    machine::note(options, &stack).await?;
    let mut bench = Bench { options, stack, results: Results::of(&options.work, "") };
    for figure in if figures.is_empty() { &ALL } else { figures } {
        let begun = Instant::now();
        let (commit, date) = machine::commit_and_date(options).await;
        bench.results = Results::of(&options.work, figure.name());
        let mut run = Run { commit, date, rounds: options.rounds, scale: options.scale, seconds: None };
        bench.results.begin(&run)?;
        match figure {
            Figure::Objects => objects::run(&bench).await,
            Figure::Memory => memory::run(&bench).await,
            Figure::Latency => latency::run(&bench).await,
            Figure::Publisher => publisher::run(&bench).await,
            Figure::Rest => rest::run(&bench).await,
            Figure::Failover => failover::run(&bench).await,
        }
        .with_context(|| format!("figure {}", figure.name()))?;
        let seconds = begun.elapsed().as_secs();
        run.seconds = Some(seconds);
        bench.results.note(&run)?;
        println!("figure {} took {seconds} s", figure.name());
    }
    Ok(())
}

/// The subjects of a round: each round begins with another one, so that none has always the freshest servers.
pub fn rotated<T: Copy>(subjects: &[T], round: u32) -> Vec<T> {
    let mut subjects = subjects.to_vec();
    if !subjects.is_empty() {
        let length = subjects.len();
        subjects.rotate_left(usize::try_from(round).unwrap_or_default() % length);
    }
    subjects
}
