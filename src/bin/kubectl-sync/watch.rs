//! `kubectl sync watch`: a line for each change, as they happen, across lost connections.

use std::{collections::HashMap, pin::pin, time::Duration};

use clap::Args;
use futures::StreamExt;
use kube::ResourceExt;
use sync_operator::{
    clock,
    crd::{ConditionType, SyncExecution},
    domain::{Phase, window::rfc3339},
};
use tokio::time::{Instant, timeout_at};

use crate::{
    age,
    cluster::Cluster,
    failure::Failure,
    follow::{Step, Troubles, follow},
    outcome::{self, Outcome},
    output::{self, Format, OutputArgs, plain, print},
};

/// `kubectl sync watch`.
#[derive(Args, Debug)]
pub struct WatchArgs {
    /// The execution to follow to its end, with the exit codes of wait; all, for ever, if not given.
    name: Option<String>,
    /// Of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "name")]
    all_namespaces: bool,
    /// Longest time to watch; 0 watches for ever.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = age::parse)]
    timeout: Duration,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(args: &WatchArgs, cluster: &Cluster) -> Result<(), Failure> {
    let again = args.name.as_deref().unwrap_or_default();
    tokio::select! {
        result = follow_all(args, cluster) => result,
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted(
            format!("no longer watching; what is under way goes on. To look again: kubectl sync watch {again}").trim_end().to_owned(),
        )),
    }
}

async fn follow_all(args: &WatchArgs, cluster: &Cluster) -> Result<(), Failure> {
    let deadline = (!args.timeout.is_zero()).then(|| Instant::now() + args.timeout);
    let mut steps = pin!(follow(cluster, args.all_namespaces, args.name.as_deref()));
    let mut known: HashMap<String, Shown> = HashMap::new();
    let (mut listed, mut troubles) = (false, Troubles::default());
    loop {
        let step = match deadline {
            Some(deadline) => timeout_at(deadline, steps.next()).await.map_err(|_| {
                Failure::TimedOut(format!("watched for {}; what is under way goes on", humantime::format_duration(args.timeout)))
            })?,
            None => steps.next().await,
        };
        let Some(step) = step else { return Ok(()) };
        match step? {
            Step::Seen(object) => {
                troubles.over();
                let shown = Shown::of(&object);
                let before = known.insert(object.uid().unwrap_or_default(), shown.clone());
                // What had ended before the watch began is not news.
                let old = !listed && before.is_none() && outcome::of(&object).is_some() && args.name.is_none();
                if let Some(changes) = shown.changes(before.as_ref()).filter(|_| !old) {
                    line(args, &object, &changes)?;
                }
                if args.name.is_some()
                    && let Some(end) = outcome::of(&object)
                {
                    return ended(end);
                }
            }
            Step::Deleted(object) => {
                known.remove(&object.uid().unwrap_or_default());
                line(args, &object, "deleted")?;
                if args.name.is_some() {
                    let gone = || Outcome::NotWell(format!("{} was deleted before it ended", object.name_any()));
                    return ended(outcome::of(&object).unwrap_or_else(gone));
                }
            }
            Step::Listed { any } => {
                troubles.over();
                if let Some(name) = args.name.as_ref().filter(|_| !any) {
                    let text = if listed { "was deleted" } else { "is not there" };
                    return Err(Failure::NotWell(format!("SyncExecution {name} {text} in namespace {}", cluster.namespace)));
                }
                listed = true;
            }
            Step::Trouble(trouble) => {
                if let Some(text) = troubles.line(&trouble, &cluster.server) {
                    eprintln!("{text}");
                }
            }
        }
    }
}

fn ended(outcome: Outcome) -> Result<(), Failure> {
    match outcome {
        Outcome::Well(_) => Ok(()),
        Outcome::NotWell(words) => Err(Failure::NotWell(words)),
    }
}

fn line(args: &WatchArgs, object: &SyncExecution, changes: &str) -> Result<(), Failure> {
    match args.output.output {
        Some(Format::Json) => {
            let text = serde_json::to_string(object).map_err(|error| Failure::NotWell(error.to_string()))?;
            print(&text)
        }
        Some(Format::Yaml) => print(&format!("---\n{}", output::document(object, Format::Yaml)?)),
        Some(Format::Name) => print(&output::kind_name(object)),
        _ => {
            let place = if args.all_namespaces { format!("{}/", object.namespace().unwrap_or_default()) } else { String::new() };
            let now = rfc3339(chrono::SubsecRound::trunc_subsecs(clock::now(), 0));
            print(&format!("{now}  {place}{}  {changes}", object.name_any()))
        }
    }
}

/// What of an object is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shown {
    phase: Option<Phase>,
    records: Option<i64>,
    conditions: Vec<(String, String, String, String)>,
}

impl Shown {
    fn of(object: &SyncExecution) -> Self {
        let status = object.status.clone().unwrap_or_default();
        let conditions = status.conditions.into_iter().map(|c| (c.type_, c.status, c.reason, c.message)).collect();
        Self { phase: status.phase, records: status.records_processed, conditions }
    }

    /// What is different from before, on one line; `None` if nothing is.
    fn changes(&self, before: Option<&Self>) -> Option<String> {
        if before == Some(self) {
            return None;
        }
        let nothing = Self::default();
        let old = before.unwrap_or(&nothing);
        let mut words = Vec::new();
        if self.phase != old.phase || before.is_none() {
            words.push(self.phase.map_or("created", Phase::as_str).to_owned());
        }
        if self.records != old.records
            && let Some(records) = self.records
        {
            words.push(format!("{records} records"));
        }
        for condition in self.conditions.iter().filter(|condition| !old.conditions.contains(condition)) {
            let (kind, is, reason, message) = condition;
            // What goes well needs no explanation, and Reconciling says what the phase says.
            let troubles = [ConditionType::Failed, ConditionType::Stalled].map(ConditionType::as_str).contains(&kind.as_str());
            let waits = [ConditionType::Recorded, ConditionType::Published].map(ConditionType::as_str).contains(&kind.as_str());
            if kind == ConditionType::Reconciling.as_str() || (kind == ConditionType::Finished.as_str() && is == "False") {
                continue;
            }
            let message = if troubles || (waits && is == "False") { format!(": {}", plain(message)) } else { String::new() };
            words.push(format!("{kind}={is} {reason}{message}"));
        }
        (!words.is_empty()).then(|| words.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::output::tests::object;

    fn shown(status: Value) -> Shown {
        Shown::of(&object("x", status))
    }

    fn is(kind: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2025-07-10T12:00:00Z"})
    }

    #[test]
    fn only_what_changed_is_told() {
        let new = shown(Value::Null);
        assert_eq!(new.changes(None).unwrap(), "created");
        assert_eq!(new.changes(Some(&new)), None);
        let running = shown(json!({"phase": "Running", "recordsProcessed": 0, "conditions": [is("Published", "True", "Confirmed", "m")]}));
        assert_eq!(running.changes(Some(&new)).unwrap(), "Running; 0 records; Published=True Confirmed");
        let more = shown(json!({"phase": "Running", "recordsProcessed": 9, "conditions": [is("Published", "True", "Confirmed", "m")]}));
        assert_eq!(more.changes(Some(&running)).unwrap(), "9 records");
    }

    #[test]
    fn what_goes_wrong_is_told_with_its_message() {
        let failed = shown(json!({"phase": "Failed", "conditions": [is("Failed", "True", "WorkerError", "portal\nanswered 500")]}));
        assert_eq!(failed.changes(None).unwrap(), "Failed; Failed=True WorkerError: portal answered 500");
        let pending = shown(json!({"phase": "Pending", "conditions": [is("Published", "False", "BrokerUnavailable", "refused")]}));
        assert_eq!(pending.changes(None).unwrap(), "Pending; Published=False BrokerUnavailable: refused");
    }
}
