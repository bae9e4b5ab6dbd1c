//! What is measured: the operator and its peers, each a process that gets the same settings.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::process::Command;

use crate::{
    load,
    observer::{Observer, Shown},
    options::Options,
    place::Place,
    process::Process,
    stack::Stack,
};

static COUNT: AtomicU32 = AtomicU32::new(0);
/// How long anything is waited for that should take a moment.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A program that does the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// This project.
    Operator,
    /// controller-runtime, pgx, amqp091-go, with the client limits that client-go has by default.
    GoDefault,
    /// The same without client limits.
    GoLifted,
    /// kopf, asyncpg, aio-pika.
    Kopf,
}

impl Subject {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Operator, Self::GoDefault, Self::GoLifted, Self::Kopf];

    /// Its name in records and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::GoDefault => "go-default",
            Self::GoLifted => "go-lifted",
            Self::Kopf => "kopf",
        }
    }

    fn program(self, options: &Options) -> PathBuf {
        let built = options.home.join("target");
        match self {
            Self::Operator => options.operator.clone(),
            Self::GoDefault | Self::GoLifted => built.join("go-peer"),
            Self::Kopf => built.join("kopf-venv/bin/python"),
        }
    }

    /// Whether it was built.
    #[must_use]
    pub fn is_built(self, options: &Options) -> bool {
        let built = self.program(options).exists();
        if !built {
            eprintln!("bench: {} is not built ({}): left out", self.name(), self.program(options).display());
        }
        built
    }

    /// Starts it on that place; it may not be ready yet.
    pub fn start(self, options: &Options, stack: &Stack, place: &Place, more: &[(&'static str, String)]) -> Result<Process> {
        let mut command = Command::new(self.program(options));
        match self {
            Self::Operator => drop(command.arg("controller")),
            Self::GoDefault | Self::GoLifted => {}
            Self::Kopf => drop(command.args(["-m", "peer"]).current_dir(options.home.join("peers/kopf"))),
        }
        let limits = if self == Self::GoDefault { "default" } else { "lifted" };
        let mut variables = vec![
            ("KUBECONFIG", stack.kubeconfig.display().to_string()),
            ("DATABASE_URL", place.database_url.clone()),
            ("RABBITMQ_URL", place.rabbitmq_url.clone()),
            ("WATCH_NAMESPACE", place.name.clone()),
            ("PEER_LIMITS", limits.to_owned()),
            ("LEASE_NAMESPACE", place.name.clone()),
            ("METRICS_LISTEN", "127.0.0.1:0".to_owned()),
        ];
        variables.extend_from_slice(more);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Process::start(command, &variables, &options.work.join(format!("{}-{}-{number}.log", place.name, self.name())))
    }

    /// Starts it and waits until it has taken an object the whole way to the queue and back: it is warm then.
    pub async fn start_warm(self, options: &Options, stack: &Stack, place: &Place, observer: &Observer) -> Result<Process> {
        let mut process = self.start(options, stack, place, &[])?;
        load::create_one(&place.objects, "warm").await?;
        let warm = observer.wait(Shown::Published, 1, PATIENCE).await;
        process.must_run().with_context(|| self.name())?;
        warm.with_context(|| format!("{} does not get going; its words are in {}", self.name(), process.log.display()))?;
        observer.quiet().await;
        Ok(process)
    }
}
