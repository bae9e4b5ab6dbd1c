//! `kubectl sync force`: creates a SyncExecution, and waits for its end if asked to.

use std::time::Duration;

use chrono_tz::Tz;
use clap::{Args, Subcommand, ValueEnum};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::{
    Api, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use sync_operator::{
    clock,
    crd::{SyncExecution, SyncExecutionSpec, SyncWindow},
    domain::{Mode, Window, window::parse_time},
};
use uuid::Uuid;

use crate::{
    age,
    cluster::{Cluster, ClusterFlags, without_managed_fields},
    failure::Failure,
    output::{self, Format, OutputArgs, kind_name, print},
    wait::{self, TimeoutArgs},
};

/// Longest `requestedBy`, as the SyncExecution takes it.
const REQUESTED_BY_MAX: usize = 253;

/// What to sync.
#[derive(Debug, Subcommand)]
pub enum ForceCommand {
    /// Sync the last minutes; the worker computes which.
    Update(ForceArgs),
    /// Sync a time window.
    Backfill {
        #[command(flatten)]
        window: WindowArgs,
        #[command(flatten)]
        args: ForceArgs,
    },
}

/// The window of a backfill.
#[derive(Args, Debug)]
pub struct WindowArgs {
    /// Start of the window: RFC 3339, or a local time like 2025-07-10T12:00, or a date.
    #[arg(long, value_name = "TIME")]
    from: String,
    /// End of the window, excluded.
    #[arg(long, value_name = "TIME")]
    to: String,
    /// The worker's time zone (IANA name), in which times without an offset are read.
    #[arg(long, env = "WORKER_TIMEZONE", value_name = "ZONE", default_value = "America/Cuiaba", value_parser = zone)]
    timezone: Tz,
}

/// Flags of both.
#[derive(Args, Debug)]
pub struct ForceArgs {
    /// Name of the SyncExecution; generated if not given.
    #[arg(long)]
    name: Option<String>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who asks, for the record; the name by which the API server knows you if not given.
    #[arg(long, value_name = "TEXT")]
    requested_by: Option<String>,
    /// End it as failed so long after it is recorded.
    #[arg(long, value_name = "DURATION", value_parser = age::parse_positive)]
    deadline: Option<Duration>,
    /// Delete the object so long after its end; the record stays.
    #[arg(long, value_name = "DURATION", value_parser = age::parse)]
    ttl: Option<Duration>,
    /// client: print what would be sent. server: let the server check it, without keeping it.
    #[arg(long, value_enum, value_name = "WHERE", default_value = "none")]
    dry_run: DryRun,
    /// Wait for the end. Exit code 0: it succeeded; 1: it failed or was cancelled; 124: it had not ended in time.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    limit: TimeoutArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DryRun {
    None,
    Client,
    Server,
}

fn zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| "it is an IANA time zone name like America/Cuiaba".to_owned())
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(command: &ForceCommand, flags: &ClusterFlags) -> Result<(), Failure> {
    let (mode, window, args) = match command {
        ForceCommand::Update(args) => (Mode::Update, None, args),
        ForceCommand::Backfill { window, args } => (Mode::Backfill, Some(window.read()?), args),
    };
    let mut object = args.object(mode, window);
    if args.dry_run == DryRun::Client {
        object.metadata.namespace = flags.given_namespace().map(str::to_owned);
        return args.created(&object, " (dry run)");
    }
    let cluster = flags.connect().await?;
    if object.spec.requested_by.is_none() {
        object.spec.requested_by = Some(who(&cluster).await);
    }
    let params = PostParams { dry_run: args.dry_run == DryRun::Server, ..PostParams::default() };
    let name = object.name_any();
    let hint = format!(". It may have been taken: see kubectl sync status -n {} {name} before you ask again", cluster.namespace);
    let created = cluster
        .call_with_hint("create the SyncExecution", &hint, cluster.objects(false).create(&params, &object))
        .await
        .map(without_managed_fields)?;
    if args.dry_run == DryRun::Server {
        return args.created(&created, " (server dry run)");
    }
    if !args.wait {
        return args.created(&created, "");
    }
    let for_programs = matches!(args.output.output, Some(Format::Json | Format::Yaml));
    if !for_programs {
        args.created(&created, "")?;
    }
    let (ended, failures) = wait::all(&[name], args.limit.timeout, &cluster).await?;
    match ended.first() {
        Some(object) if for_programs => print(&output::one(object, args.output, clock::now())?)?,
        Some(object) if args.output.output.is_none() => wait::tell(object)?,
        _ => {}
    }
    wait::last_of(failures)
}

impl WindowArgs {
    fn read(&self) -> Result<Window, Failure> {
        let time = |flag: &str, text: &str| parse_time(text, self.timezone).map_err(|error| Failure::Usage(format!("{flag}: {error}")));
        let window =
            Window::new(time("--from", &self.from)?, time("--to", &self.to)?).map_err(|error| Failure::Usage(error.to_string()))?;
        // The worker reads local time: what that cannot say is refused now rather than by the controller later.
        window.to_local(self.timezone).map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(window)
    }
}

impl ForceArgs {
    fn object(&self, mode: Mode, window: Option<Window>) -> SyncExecution {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let spec = SyncExecutionSpec {
            mode,
            window: window.map(|window| SyncWindow { start: window.start(), end: window.end() }),
            requested_by: self.requested_by.clone(),
            reason: self.reason.clone(),
            active_deadline_seconds: self.deadline.map(seconds),
            ttl_seconds_after_finished: self.ttl.map(seconds),
        };
        // The name is made here, so that it can be told even if no answer comes.
        let name = self.name.clone().unwrap_or_else(|| format!("{}-{}", mode.as_str(), &Uuid::new_v4().simple().to_string()[..10]));
        SyncExecution { metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() }, spec, status: None }
    }

    fn created(&self, object: &SyncExecution, note: &str) -> Result<(), Failure> {
        match self.output.output {
            Some(Format::Name) => print(&kind_name(object)),
            Some(_) => print(&output::one(object, self.output, clock::now())?),
            None => print(&format!("{} created{note}", kind_name(object))),
        }
    }
}

/// The name by which the API server knows the user; that of the person at this machine if it does not say.
async fn who(cluster: &Cluster) -> String {
    let api: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    let question = SelfSubjectReview::default();
    let answer = cluster.call("ask who you are", api.create(&PostParams::default(), &question)).await.ok();
    let name = answer.and_then(|review| review.status?.user_info?.username).filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| {
        let of = |variable: &str| std::env::var(variable).ok().filter(|value| !value.is_empty());
        let host = of("HOSTNAME").or_else(|| std::fs::read_to_string("/etc/hostname").ok()).unwrap_or_default();
        format!("{}@{}", of("USER").unwrap_or_else(|| "unknown".to_owned()), host.trim())
    });
    name.chars().take(REQUESTED_BY_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(from: &str, to: &str, timezone: &str) -> Result<(String, String), String> {
        let args = WindowArgs { from: from.into(), to: to.into(), timezone: timezone.parse().unwrap() };
        args.read().map(|window| (window.start().to_rfc3339(), window.end().to_rfc3339())).map_err(|failure| failure.to_string())
    }

    #[test]
    fn times_are_read_in_the_zone_that_is_given() {
        let midnight = |start: &str, end: &str| Ok((start.to_owned(), end.to_owned()));
        assert_eq!(read("2025-07-10", "2025-07-11", "America/Cuiaba"), midnight("2025-07-10T04:00:00+00:00", "2025-07-11T04:00:00+00:00"));
        assert_eq!(
            read("2025-07-10T12:00", "2025-07-10T18:00:00+02:00", "Europe/Berlin"),
            midnight("2025-07-10T10:00:00+00:00", "2025-07-10T16:00:00+00:00")
        );
    }

    #[test]
    fn what_is_no_window_is_refused_with_the_flag_and_the_remedy() {
        assert!(read("yesterday", "2025-07-11", "America/Cuiaba").unwrap_err().starts_with("--from: `yesterday` is not a time"));
        assert!(read("2018-11-04T00:30", "2018-11-05", "America/Cuiaba").unwrap_err().contains("does not exist in America/Cuiaba"));
        assert!(read("2019-02-10", "2019-02-16T23:30", "America/Cuiaba").unwrap_err().contains("happened twice"));
        assert!(read("2019-02-10", "2019-02-17T03:30:00Z", "America/Cuiaba").unwrap_err().contains("happened twice"));
        assert!(read("2025-07-11", "2025-07-10", "America/Cuiaba").unwrap_err().contains("swap them"));
    }
}
