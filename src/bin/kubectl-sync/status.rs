//! `kubectl sync status`: whether the operator answers, and what is going on now; or how one execution stands.

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;
use sync_operator::{
    clock,
    crd::SyncExecution,
    domain::{Mode, Phase},
};

use crate::{
    advice, age,
    cluster::Cluster,
    failure::Failure,
    history::{Newest, created},
    output::{self, Format, OutputArgs, many, one, plain, print},
};

/// Most rows of a table.
const ROWS: usize = 10;

/// Where the operator runs.
#[derive(Args, Clone, Debug)]
pub struct OperatorArgs {
    /// Namespace in which the operator runs.
    #[arg(long, value_name = "NAMESPACE", default_value = "sync-operator")]
    pub operator_namespace: String,
    /// Name of its Lease (LEASE_NAME).
    #[arg(long, value_name = "NAME", default_value = "sync-operator")]
    pub lease_name: String,
}

/// `kubectl sync status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// One execution; what is going on in general if not given.
    name: Option<String>,
    /// Of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "name")]
    all_namespaces: bool,
    #[command(flatten)]
    operator: OperatorArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(args: &StatusArgs, cluster: &Cluster) -> Result<(), Failure> {
    let now = clock::now();
    if let Some(name) = &args.name {
        let object = cluster.get(name).await?;
        print(&one(&object, args.output, now)?)?;
        return match advice::next(&object, now).filter(|_| args.output.output.is_none()) {
            Some(advice) => print(&format!("\nNext: {advice}")),
            None => Ok(()),
        };
    }
    let mut overview = Overview::default();
    cluster.each_page(args.all_namespaces, "", |page| overview.take(page, now)).await?;
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), &args.operator.operator_namespace);
    let lease = cluster.call("read the operator's Lease", leases.get(&args.operator.lease_name)).await;
    let operator = operator(&lease.map_err(|failure| failure.to_string()), &args.operator, now);
    print(&overview.print(operator, args, now)?)
}

/// Whether the operator answers, by the Lease of its leader.
#[derive(Debug, PartialEq, Eq)]
struct Operator {
    state: &'static str,
    text: String,
}

fn operator(lease: &Result<Lease, String>, args: &OperatorArgs, now: DateTime<Utc>) -> Operator {
    let place = format!("Lease {} in namespace {}", args.lease_name, args.operator_namespace);
    let lease = match lease {
        Ok(lease) => lease.spec.clone().unwrap_or_default(),
        Err(reason) => {
            let elsewhere = "if it runs elsewhere, name its namespace with --operator-namespace";
            return Operator { state: "unknown", text: format!("it cannot be told whether it runs: {reason}; {elsewhere}") };
        }
    };
    let holder = lease.holder_identity.filter(|holder| !holder.is_empty());
    let renewed = lease.renew_time.and_then(|time| DateTime::from_timestamp(time.0.as_second(), 0)).unwrap_or_default();
    let lasts = TimeDelta::seconds(lease.lease_duration_seconds.unwrap_or_default().into());
    let ago = age::between(renewed, now);
    match holder {
        None => Operator { state: "silent", text: format!("nobody leads: {place} was released {ago} ago: are the controllers stopped?") },
        Some(holder) if renewed + lasts < now => Operator {
            state: "silent",
            text: format!("nobody leads: {holder} renewed {place} last {ago} ago: look at the controllers' Pods and logs"),
        },
        Some(holder) => Operator { state: "leads", text: format!("{holder} leads, {place} was renewed {ago} ago") },
    }
}

/// What is going on. Keeps few objects, however many there are.
struct Overview {
    update: Newest,
    backfill: Newest,
    under_way: Newest,
    failed: Newest,
    silent: Newest,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    silent: u64,
    pending: u64,
    queued: u64,
    running: u64,
    succeeded: u64,
    failed: u64,
    cancelled: u64,
}

impl Default for Overview {
    fn default() -> Self {
        Self {
            update: Newest::new(1),
            backfill: Newest::new(1),
            under_way: Newest::new(ROWS),
            failed: Newest::new(ROWS),
            silent: Newest::new(ROWS),
            counts: Counts::default(),
        }
    }
}

impl Overview {
    fn take(&mut self, page: Vec<SyncExecution>, now: DateTime<Utc>) {
        for object in page {
            let one = || [object.clone()];
            match object.spec.mode {
                Mode::Update => self.update.take(one()),
                Mode::Backfill => self.backfill.take(one()),
            }
            let status = object.status.as_ref();
            let ended = status.and_then(|status| status.completion_time).unwrap_or_else(|| created(&object));
            let today = now - ended < TimeDelta::hours(24);
            match status.and_then(|status| status.phase) {
                None if (now - created(&object)).num_seconds() > advice::LONG_SECONDS => {
                    self.counts.silent += 1;
                    self.silent.take(one());
                }
                None | Some(Phase::Pending) => {
                    self.counts.pending += 1;
                    self.under_way.take(one());
                }
                Some(Phase::Queued) => {
                    self.counts.queued += 1;
                    self.under_way.take(one());
                }
                Some(Phase::Running) => {
                    self.counts.running += 1;
                    self.under_way.take(one());
                }
                Some(Phase::Succeeded) => self.counts.succeeded += u64::from(today),
                Some(Phase::Cancelled) => self.counts.cancelled += u64::from(today),
                Some(Phase::Failed) if today => {
                    self.counts.failed += 1;
                    self.failed.take(one());
                }
                Some(Phase::Failed) => {}
            }
        }
    }

    fn print(self, operator: Operator, args: &StatusArgs, now: DateTime<Utc>) -> Result<String, Failure> {
        let mut newest = self.update.into_sorted();
        newest.extend(self.backfill.into_sorted());
        let (under_way, failed, silent) = (self.under_way.into_sorted(), self.failed.into_sorted(), self.silent.into_sorted());
        let counts = &self.counts;
        match args.output.output {
            Some(format @ (Format::Json | Format::Yaml)) => {
                let document = json!({
                    "operator": {"state": operator.state, "message": operator.text},
                    "now": {"unanswered": counts.silent, "pending": counts.pending, "queued": counts.queued, "running": counts.running},
                    "last24Hours": {"succeeded": counts.succeeded, "failed": counts.failed, "cancelled": counts.cancelled},
                    "newest": newest, "underWay": under_way, "failed": failed, "unanswered": silent,
                });
                output::document(&document, format)
            }
            Some(Format::Name) => {
                let mut names: Vec<String> = newest.iter().chain(&under_way).chain(&failed).chain(&silent).map(output::kind_name).collect();
                names.sort_unstable();
                names.dedup();
                Ok(names.join("\n"))
            }
            _ => {
                let mut blocks = vec![format!(
                    "Operator:  {}\nNow:       {} running, {} queued, {} pending\nLast 24h:  {} succeeded, {} failed, {} cancelled",
                    plain(&operator.text),
                    counts.running,
                    counts.queued,
                    counts.pending,
                    counts.succeeded,
                    counts.failed,
                    counts.cancelled
                )];
                let unanswered = format!("{} not taken by any controller for more than {} s:", counts.silent, advice::LONG_SECONDS);
                for (title, objects) in
                    [("Newest of each mode:", &newest), ("Under way:", &under_way), ("Failed:", &failed), (unanswered.as_str(), &silent)]
                {
                    if !objects.is_empty() {
                        blocks.push(format!("{title}\n{}", many(objects, args.output, args.all_namespaces, now)?));
                    }
                }
                Ok(blocks.join("\n\n"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
    use kube::ResourceExt;
    use serde_json::Value;

    use super::*;
    use crate::output::tests::object;

    fn told(holder: &str, renewed: i64) -> &'static str {
        let spec = LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
            ..LeaseSpec::default()
        };
        let args = OperatorArgs { operator_namespace: "ns".into(), lease_name: "l".into() };
        operator(&Ok(Lease { spec: Some(spec), ..Lease::default() }), &args, DateTime::from_timestamp(100, 0).unwrap()).state
    }

    #[test]
    fn a_lease_that_is_renewed_has_a_leader() {
        assert_eq!(told("a", 90), "leads");
        assert_eq!(told("a", 80), "silent");
        assert_eq!(told("", 99), "silent");
    }

    #[test]
    fn what_may_not_be_read_is_unknown_and_says_why() {
        let args = OperatorArgs { operator_namespace: "ns".into(), lease_name: "l".into() };
        let told = operator(&Err("forbidden".into()), &args, DateTime::default());
        assert_eq!(told.state, "unknown");
        assert!(told.text.contains("forbidden") && told.text.contains("--operator-namespace"), "{}", told.text);
    }

    #[test]
    fn objects_are_counted_by_what_they_wait_for_and_old_failures_are_no_news() {
        let mut overview = Overview::default();
        let now = "2025-07-10T13:00:00Z".parse().unwrap();
        overview.take(
            vec![
                object("silent", Value::Null),
                object("running", json!({"phase": "Running"})),
                object("failed", json!({"phase": "Failed", "completionTime": "2025-07-10T12:30:00Z"})),
                object("failed-long-ago", json!({"phase": "Failed", "completionTime": "2025-07-01T12:30:00Z"})),
            ],
            now,
        );
        assert_eq!((overview.counts.silent, overview.counts.running, overview.counts.failed), (1, 1, 1));
        assert_eq!(overview.failed.into_sorted().iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["failed"]);
    }
}
