//! What was to be reached, and whether it was. Pure: from records to lines of a table.

use crate::results::{Record, median, short};

/// A target and what came of it.
pub struct Target {
    /// In words, with the limit.
    pub words: &'static str,
    /// What was measured.
    pub measured: String,
    /// Whether that is enough.
    pub reached: bool,
}

/// The records of all figures.
pub struct Records<'a>(pub &'a [Record]);

impl Records<'_> {
    fn values(&self, figure: &str, case: &str, subject: &str, value: &str) -> Vec<f64> {
        let those = self.0.iter().filter(|record| record.figure == figure && record.case == case && record.subject == subject);
        those.filter_map(|record| record.values.get(value).copied()).collect()
    }

    /// The median over the rounds.
    pub fn median(&self, figure: &str, case: &str, subject: &str, value: &str) -> Option<f64> {
        median(&self.values(figure, case, subject, value))
    }

    /// The worst round of what should be small.
    fn most(&self, figure: &str, case: &str, subject: &str, value: &str) -> Option<f64> {
        self.values(figure, case, subject, value).into_iter().reduce(f64::max)
    }

    /// The cases of a figure, in the order in which they were measured.
    pub fn cases(&self, figure: &str) -> Vec<&str> {
        let mut cases: Vec<&str> = Vec::new();
        for record in self.0.iter().filter(|record| record.figure == figure) {
            if !cases.contains(&record.case.as_str()) {
                cases.push(&record.case);
            }
        }
        cases
    }

    /// The rate of the bare API server at this many writes an object: between, or in line with, those at two and at three.
    pub fn ceiling_at(&self, writes: f64) -> Option<f64> {
        let two = self.median("objects", "published", "ceiling", "objects_per_s")?.recip();
        let three = self.median("objects", "succeeded", "ceiling", "objects_per_s")?.recip();
        Some((two + (three - two) * (writes - 2.0)).recip())
    }
}

/// All targets that the records can tell of.
pub fn targets(records: &Records<'_>) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut least = |words, limit: f64, measured: Option<(f64, String)>| {
        targets.extend(measured.map(|(value, text)| Target { words, measured: text, reached: value >= limit }));
    };
    least("objects to published ≥ 0.9 of the bare API server at the same number of writes", 0.9, of_ceiling(records, "published"));
    least("objects to succeeded ≥ 0.9 of the bare API server at the same number of writes", 0.9, of_ceiling(records, "succeeded"));
    least(
        "publisher ≥ 0.8 of the bare confirming publisher",
        0.8,
        ratio(
            records.median("publisher", "drain", "operator", "messages_per_s"),
            records.median("publisher", "drain", "ceiling", "messages_per_s"),
        ),
    );
    least(
        "REST ≥ 0.7 of pgbench with the same statements, each request and size; ten clients that ask the same share answers",
        0.7,
        worst(rest_ratios(records, "requests_per_s", "pgbench"), f64::lt),
    );
    least(
        "REST ≥ 0.7 of pgbench when no two requests are the same, so that nothing is shared",
        0.7,
        worst(rest_ratios(records, "unshared_requests_per_s", "pgbench"), f64::lt),
    );
    least(
        "REST ≥ 30 times the FastAPI peer, each request and size",
        30.0,
        worst(rest_ratios(records, "requests_per_s", "fastapi"), f64::lt),
    );
    let mut most = |words, limit: f64, measured: Option<(f64, String)>| {
        targets.extend(measured.map(|(value, text)| Target { words, measured: text, reached: value <= limit }));
    };
    let plain = |value: Option<f64>, unit: &str| value.map(|value| (value, format!("{}{unit}", short(value))));
    most(
        "at most 3 API writes an object, its creation included (worst round)",
        3.0,
        plain(records.most("objects", "succeeded", "operator", "api_writes_per_object"), ""),
    );
    most(
        "no patch that changes nothing (worst round)",
        0.0,
        plain(
            records
                .most("objects", "succeeded", "operator", "noop_patches")
                .zip(records.most("objects", "published", "operator", "noop_patches"))
                .map(|(a, b)| a.max(b)),
            "",
        ),
    );
    most("CPU of the operator ≤ 0.25 of the Go peer's (limits lifted), an object to succeeded", 0.25, cpu_ratio(records, "go-lifted"));
    most("CPU of the operator ≤ 0.05 of the kopf peer's, an object to succeeded", 0.05, cpu_ratio(records, "kopf"));
    most(
        "at most 100 MB resident at 100,000 objects (worst round)",
        100.0,
        plain(records.most("memory", "100000 objects", "operator", "rss_mb"), " MB"),
    );
    for (words, case) in [
        ("at most 100 MB resident at 100,000 objects of which half are new at the start (peak)", "100000 objects, 50000 known"),
        ("at most 100 MB resident at 100,000 objects of which all are new at the start (peak)", "100000 objects, 0 known"),
    ] {
        most(words, 100.0, plain(records.most("memory", case, "operator", "peak_rss_mb"), " MB"));
    }
    most("p99 of REST at the most rows ≤ 1.2 of that at the fewest, each request", 1.2, worst(flatness(records), f64::gt));
    let gap = records.most("failover", "kill -9", "operator", "gap_s");
    let duration = records.most("failover", "kill -9", "operator", "lease_s");
    most(
        "failover ≤ lease duration + 1 s (worst round, seconds after the lease duration)",
        1.0,
        gap.zip(duration).map(|(gap, duration)| (gap - duration, format!("{} s ({} s in all)", short(gap - duration), short(gap)))),
    );
    most("planned handover ≤ 1 s (worst round)", 1.0, plain(records.most("failover", "SIGTERM", "operator", "gap_s"), " s"));
    targets
}

fn ratio(part: Option<f64>, whole: Option<f64>) -> Option<(f64, String)> {
    let ratio = part? / whole?;
    Some((ratio, short(ratio)))
}

fn of_ceiling(records: &Records<'_>, case: &str) -> Option<(f64, String)> {
    let rate = records.median("objects", case, "operator", "objects_per_s")?;
    let writes = records.median("objects", case, "operator", "api_writes_per_object")?;
    let ceiling = records.ceiling_at(writes)?;
    let ratio = rate / ceiling;
    Some((ratio, format!("{} ({} of {} objects/s at {} writes)", short(ratio), short(rate), short(ceiling), short(writes))))
}

fn cpu_ratio(records: &Records<'_>, peer: &str) -> Option<(f64, String)> {
    let of = |subject| records.median("objects", "succeeded", subject, "cpu_s_per_1000_subject");
    let (own, other) = (of("operator")?, of(peer)?);
    Some((own / other, format!("{} ({} of {} s per 1,000 objects)", short(own / other), short(own), short(other))))
}

/// For each case that both have.
fn rest_ratios(records: &Records<'_>, value: &str, other: &str) -> Vec<(f64, String)> {
    let rate = |case: &str, subject: &str, value: &str| records.median("rest", case, subject, value);
    let ratio = |case| Some(rate(case, "operator", value)? / rate(case, other, "requests_per_s")?);
    let ratios = records.cases("rest").into_iter().filter_map(|case| Some((ratio(case)?, case)));
    ratios.map(|(ratio, case)| (ratio, case.trim().to_owned())).collect()
}

/// For each request, p99 at the most rows by p99 at the fewest.
fn flatness(records: &Records<'_>) -> Vec<(f64, String)> {
    let cases = records.cases("rest");
    let split: Vec<(&str, &str)> = cases.iter().filter_map(|case| case.trim_start().split_once(" rows ")).collect();
    let sizes: Vec<u64> = split.iter().filter_map(|(size, _)| size.parse().ok()).collect();
    let (Some(fewest), Some(most)) = (sizes.iter().min(), sizes.iter().max()) else { return Vec::new() };
    let p99 = |size: u64, request: &str| records.median("rest", &format!("{size:>8} rows {request}"), "operator", "p99_ms");
    let requests = split.iter().filter(|(size, _)| *size == fewest.to_string());
    requests.filter_map(|(_, request)| Some((p99(*most, request)? / p99(*fewest, request)?, (*request).to_owned()))).collect()
}

/// The one that decides, and how many there were.
fn worst(ratios: Vec<(f64, String)>, worse: fn(&f64, &f64) -> bool) -> Option<(f64, String)> {
    let count = ratios.len();
    let (ratio, case) = ratios.into_iter().reduce(|worst, next| if worse(&next.0, &worst.0) { next } else { worst })?;
    Some((ratio, format!("{} ({case}, the worst of {count})", short(ratio))))
}
