//! The subcommand `purge`: what the leader does by `RETENTION_DAYS`, once and by hand, and a rehearsal of it.

use std::io::Write;

use anyhow::Context;
use kube::Client;

use super::{Failure, PurgeArgs, run};
use crate::{retention::Retention, shutdown, store::Store};

/// Connections: one statement at a time.
const CONNECTIONS: u32 = 1;

pub(super) async fn purge(args: PurgeArgs) -> Result<(), Failure> {
    let Some(policy) = super::retention(&args.retention_days)? else {
        return Err(Failure::Setting(
            "--retention-days is not set: set RETENTION_DAYS, like 90, or success=90,error=365,cancelled=30".to_owned(),
        ));
    };
    let store = Store::new(args.database.database()?, CONNECTIONS);
    let client = Client::try_from(run::kube_config().await?).context("Kubernetes client")?;
    let retention = Retention { store: store.clone(), client, namespaces: args.watch_namespace.names(), policy };
    let stop = shutdown::on_signal().context("signal handlers")?;
    let outcomes = if args.dry_run { retention.rehearse().await? } else { retention.apply(|| !stop.is_cancelled()).await? };
    run::close(&store).await;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<10}  {:>6}  {:>12}  {:>20}",
        "STATUS",
        "DAYS",
        if args.dry_run { "WOULD DELETE" } else { "DELETED" },
        "KEPT: OBJECT EXISTS"
    )?;
    for outcome in outcomes {
        writeln!(out, "{:<10}  {:>6}  {:>12}  {:>20}", outcome.status.as_str(), outcome.days, outcome.deleted, outcome.kept)?;
    }
    Ok(())
}
