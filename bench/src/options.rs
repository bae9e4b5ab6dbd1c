//! Flags of the driver. hack/bench sets them; see there.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Measures sync-operator beside its ceilings and its peers.
#[derive(Parser)]
pub struct Options {
    /// The folder of hack/stack.
    #[arg(long, env = "BENCH_STACK")]
    pub stack: PathBuf,
    /// The folder bench/ of the checkout.
    #[arg(long, env = "BENCH_HOME")]
    pub home: PathBuf,
    /// The released program.
    #[arg(long, env = "BENCH_OPERATOR")]
    pub operator: PathBuf,
    /// Where records, logs and the kubeconfig go.
    #[arg(long, env = "BENCH_WORK")]
    pub work: PathBuf,
    /// How often everything is measured.
    #[arg(long, env = "ROUNDS", default_value_t = 5)]
    pub rounds: u32,
    /// Factor on every number of objects, rows and seconds.
    #[arg(long, env = "SCALE", default_value_t = 1.0)]
    pub scale: f64,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Measure, and add to the records.
    Run {
        /// Which figures; all if none is named.
        figures: Vec<Figure>,
    },
    /// Write the report from the records.
    Report {
        /// Where to.
        file: PathBuf,
    },
}

/// A figure: one file in figures/.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Figure {
    /// Objects a second, and what an object costs.
    Objects,
    /// Memory and start-up by number of objects.
    Memory,
    /// From the worker's commit to the object.
    Latency,
    /// Messages a second.
    Publisher,
    /// REST requests a second, and their time.
    Rest,
    /// How long nobody leads.
    Failover,
}

impl Figure {
    /// Its name, as on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Objects => "objects",
            Self::Memory => "memory",
            Self::Latency => "latency",
            Self::Publisher => "publisher",
            Self::Rest => "rest",
            Self::Failover => "failover",
        }
    }
}

impl Options {
    /// `full`, scaled, but not less than `least`.
    #[must_use]
    pub fn scaled(&self, full: u32, least: u32) -> usize {
        let scaled = (f64::from(full) * self.scale).round().clamp(f64::from(least), f64::from(u32::MAX));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
        let scaled = scaled as usize;
        scaled
    }
}
