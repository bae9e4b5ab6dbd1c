//! `kubectl sync history`: the newest executions. Reads a page at a time and keeps no more than it will print.

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Utc};
use clap::{Args, builder::PossibleValuesParser};
use sync_operator::{clock, crd::SyncExecution};

use crate::{
    age,
    cluster::Cluster,
    failure::Failure,
    output::{Format, OutputArgs, many, print},
};

/// `kubectl sync history`.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// How many at most; 0 prints all.
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    limit: usize,
    /// Only of this mode.
    #[arg(long, value_parser = PossibleValuesParser::new(["update", "backfill"]))]
    mode: Option<String>,
    /// Only in this phase.
    #[arg(long, value_parser = PossibleValuesParser::new(["Pending", "Queued", "Running", "Succeeded", "Failed", "Cancelled"]))]
    phase: Option<String>,
    /// Only those created since so long ago.
    #[arg(long, value_name = "DURATION", value_parser = age::parse_positive)]
    since: Option<Duration>,
    /// Only with all these words in their error: whole words, in any order, whatever the case.
    #[arg(long, value_name = "WORDS")]
    error: Option<String>,
    /// Of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs it.
///
/// # Errors
/// [`Failure`].
pub async fn run(args: &HistoryArgs, cluster: &Cluster) -> Result<(), Failure> {
    let now = clock::now();
    let selectors = [("spec.mode", &args.mode), ("status.phase", &args.phase)];
    let fields: Vec<String> = selectors.iter().filter_map(|(field, word)| Some(format!("{field}={}", word.as_ref()?))).collect();
    let since = args.since.and_then(|since| now.checked_sub_signed(chrono::TimeDelta::from_std(since).ok()?));
    let mut newest = Newest::new(args.limit);
    cluster
        .each_page(args.all_namespaces, &fields.join(","), |page| {
            let wanted = |object: &SyncExecution| {
                since.is_none_or(|since| created(object) >= since) && args.error.as_ref().is_none_or(|error| failed_with(object, error))
            };
            newest.take(page.into_iter().filter(wanted));
        })
        .await?;
    let objects = newest.into_sorted();
    if objects.is_empty() && !matches!(args.output.output, Some(Format::Json | Format::Yaml)) {
        let place = if args.all_namespaces { "any namespace".to_owned() } else { format!("namespace {}", cluster.namespace) };
        eprintln!("No SyncExecutions found in {place}.");
        return Ok(());
    }
    print(&many(&objects, args.output, args.all_namespaces, now)?)
}

/// Whether the object's error has all those words.
fn failed_with(object: &SyncExecution, wanted: &str) -> bool {
    let words = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
    };
    let error = object.status.as_ref().and_then(|status| status.error.as_deref());
    error.is_some_and(|error| words(wanted).is_subset(&words(error)))
}

/// When the object was created.
#[must_use]
pub fn created(object: &SyncExecution) -> DateTime<Utc> {
    object.metadata.creation_timestamp.as_ref().and_then(age::time).unwrap_or_default()
}

/// The newest of many, without keeping the many.
pub struct Newest {
    limit: usize,
    kept: Vec<SyncExecution>,
}

impl Newest {
    /// Keeps `limit`; all if it is 0.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self { limit, kept: Vec::new() }
    }

    /// Looks at some more.
    pub fn take(&mut self, objects: impl IntoIterator<Item = SyncExecution>) {
        self.kept.extend(objects);
        if self.limit > 0 && self.kept.len() > self.limit {
            self.sort();
            self.kept.truncate(self.limit);
        }
    }

    /// The newest first.
    #[must_use]
    pub fn into_sorted(mut self) -> Vec<SyncExecution> {
        self.sort();
        self.kept
    }

    fn sort(&mut self) {
        self.kept.sort_by(|a, b| created(b).cmp(&created(a)).then_with(|| a.metadata.name.cmp(&b.metadata.name)));
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;
    use serde_json::Value;

    use super::*;
    use crate::output::tests::object;

    fn at(name: &str, second: i64) -> SyncExecution {
        let mut object = object(name, Value::Null);
        object.metadata.creation_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap()));
        object
    }

    fn names(newest: Newest) -> Vec<String> {
        newest.into_sorted().iter().map(ResourceExt::name_any).collect()
    }

    #[test]
    fn the_newest_are_kept_whatever_page_they_come_in() {
        let mut newest = Newest::new(2);
        newest.take([at("old", 1), at("newest", 9)]);
        newest.take([at("older", 0), at("newer", 5)]);
        assert_eq!(newest.kept.len(), 2, "no more is kept than asked for");
        assert_eq!(names(newest), ["newest", "newer"]);
    }

    #[test]
    fn an_error_is_found_by_its_words_and_what_did_not_fail_by_none() {
        let failed = object("failed", serde_json::json!({"error": "page 17: the source answered 503"}));
        for (wanted, found) in [("503", true), ("Answered page", true), ("answer", false), ("source 504", false), ("page-17", true)] {
            assert_eq!(failed_with(&failed, wanted), found, "{wanted}");
        }
        assert!(!failed_with(&object("runs", Value::Null), "503"));
    }

    #[test]
    fn a_limit_of_zero_keeps_all() {
        let mut newest = Newest::new(0);
        newest.take((0..5).map(|second| at(&second.to_string(), second)));
        assert_eq!(names(newest), ["4", "3", "2", "1", "0"]);
    }
}
