//! The subcommand `migrate`: waits for the database if it is told to, runs, and lists what there is now.

use std::{io::Write, time::Duration};

use anyhow::{Context, anyhow};
use chrono_tz::Tz;
use tokio::time::Instant;
use tracing::warn;

use super::{Direction, Failure, MigrateArgs};
use crate::{
    backoff::Backoff,
    shutdown,
    store::{
        self,
        database::Database,
        migrate::{Migrations, State},
    },
};

/// How often the same reason for waiting is told.
const TELL_EVERY: Duration = Duration::from_secs(30);

pub(super) async fn migrate(args: MigrateArgs) -> Result<(), Failure> {
    let database = args.database.database()?;
    let wait = if args.direction == Direction::Up { Duration::from_secs(args.wait_seconds.into()) } else { Duration::ZERO };
    let migrations = connect(&database, args.zone.worker_timezone, wait).await?;
    let before = migrations.status().await?;
    match args.direction {
        Direction::Status => {}
        Direction::Up => migrations.up().await?,
        Direction::Down => {
            let applied = before.iter().filter(|migration| migration.state == State::Applied).map(|migration| migration.version);
            let target = args.to.unwrap_or_else(|| applied.rev().nth(1).unwrap_or_default());
            migrations.down(target).await?;
        }
    }
    let mut out = std::io::stdout().lock();
    for migration in migrations.status().await? {
        let was_applied = before.iter().any(|was| was.version == migration.version && was.state != State::NotApplied);
        let state = match (migration.state, was_applied) {
            (State::Applied, false) => "applied now",
            (State::Applied, true) => "applied",
            (State::NotApplied, true) => "taken back now",
            (State::NotApplied, false) => "not applied",
            (State::AppliedByNewer, _) => "applied, by a newer release",
        };
        writeln!(out, "{:04}  {:<40} {state}", migration.version, migration.name)?;
    }
    Ok(())
}

/// Connects; tries again until `wait` is over.
async fn connect(database: &Database, zone: Tz, wait: Duration) -> Result<Migrations, Failure> {
    let stop = shutdown::on_signal().context("signal handlers")?;
    let deadline = Instant::now() + wait;
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
    let mut told: Option<(String, Instant)> = None;
    loop {
        let why = match Migrations::connect(database, zone).await {
            Ok(migrations) => return Ok(migrations),
            Err(error) => store::explain(&error),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(anyhow!(
                "cannot connect to the database of --database-url (DATABASE_URL): {why}: \
                 is it up, and are user, password and database right?"
            )
            .into());
        }
        if told.as_ref().is_none_or(|(before, at)| *before != why || at.elapsed() >= TELL_EVERY) {
            warn!(database = database.address(), error = why, seconds_left = left.as_secs(), "waiting for the database");
            told = Some((why, Instant::now()));
        }
        tokio::select! {
            () = stop.cancelled() => return Err(anyhow!("stopped by a signal while waiting for the database").into()),
            () = tokio::time::sleep(backoff.next_wait().min(left)) => {}
        }
    }
}
