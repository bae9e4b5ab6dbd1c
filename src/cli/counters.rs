//! The subcommand `counters`: which counters differ from a count of the rows, as a table, and mending them.

use std::io::Write;

use anyhow::anyhow;

use super::{CountersAction, CountersArgs, Failure, run};
use crate::store::{
    Store,
    counters::{Counter, Drift},
};

/// Connections: one transaction at a time.
const CONNECTIONS: u32 = 1;

pub(super) async fn counters(args: CountersArgs) -> Result<(), Failure> {
    let CountersAction::Verify = args.action;
    let store = Store::new(args.database.database()?, CONNECTIONS);
    store.ready().await?;
    let drift = if args.repair { store.repair_counters().await? } else { store.counter_drift().await? };
    run::close(&store).await;
    let mut out = std::io::stdout().lock();
    if drift.is_empty() {
        writeln!(out, "all counters equal a count of the rows")?;
        return Ok(());
    }
    table(&mut out, &drift)?;
    if args.repair {
        writeln!(out, "put right: {} counters", drift.len())?;
        return Ok(());
    }
    Err(anyhow!("{} counters differ from a count of the rows: put them right by --repair", drift.len()).into())
}

fn table(out: &mut impl Write, drift: &[Drift]) -> std::io::Result<()> {
    let mut line =
        |cells: [&str; 5]| writeln!(out, "{:<22}  {:>12}  {:>12}  {:>16}  {:>16}", cells[0], cells[1], cells[2], cells[3], cells[4]);
    line(["COUNTER", "KEPT", "COUNTED", "KEPT SECONDS", "COUNTED SECONDS"])?;
    for Drift { counter, kept, counted } in drift {
        let name = match counter {
            Counter::Status(status) => status.clone(),
            Counter::Minute(minute) => minute.format("%Y-%m-%dT%H:%MZ").to_string(),
        };
        let seconds = |hundredths: i64| match counter {
            Counter::Status(_) => format!("{}.{:02}", hundredths / 100, hundredths.abs() % 100),
            Counter::Minute(_) => "-".to_owned(),
        };
        let number = |number: i64| number.to_string();
        line([
            &name,
            &number(kept.executions),
            &number(counted.executions),
            &seconds(kept.duration_hundredths),
            &seconds(counted.duration_hundredths),
        ])?;
    }
    Ok(())
}
