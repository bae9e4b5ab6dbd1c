//! Every metric of the program, in one place. Labels come from closed sets only: never an id, a name or a text.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// `outcome` of an operation.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Outcome {
    /// One word of a closed set.
    pub outcome: &'static str,
}

/// A worker's report: by which way, and what became of it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReportLabels {
    /// `http` or `amqp`. Reports by SQL pass by this program.
    pub via: &'static str,
    /// `accepted`, `contradicts`, `unknown`, `invalid`.
    pub outcome: &'static str,
}

/// An answered HTTP request.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct HttpLabels {
    /// The method.
    pub method: String,
    /// The route's pattern, never the path.
    pub route: String,
    /// The status code.
    pub code: u16,
}

/// How many executions have this status.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct StatusLabel {
    /// The word of the column.
    pub status: &'static str,
}

/// All metrics. Registered once; fields are written where things happen.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Reconciles by outcome: `unchanged`, `written`, `later`, `deleted`, `error`, `invalid`.
    pub reconciles: Family<Outcome, Counter>,
    /// Seconds per reconcile.
    pub reconcile_seconds: Histogram,
    /// Status writes by outcome: `written`, `gone`, `refused`, `error`.
    pub status_writes: Family<Outcome, Counter>,
    /// Requests per ensure batch.
    pub ensure_batch_size: Histogram,
    /// Messages by outcome: `confirmed`, `BrokerUnavailable`, `Unroutable`, `Rejected`.
    pub publishes: Family<Outcome, Counter>,
    /// Messages published that may have been sent before: each can be a second copy on the wire, with the same id.
    pub publishes_again: Counter,
    /// Seconds from recording to confirm.
    pub publish_delay_seconds: Histogram,
    /// Executions that wait to be published.
    pub unpublished: Gauge,
    /// Age of the oldest of them, in seconds.
    pub unpublished_oldest_seconds: Gauge<f64, AtomicU64>,
    /// Executions that are published and that no worker has started.
    pub queued: Gauge,
    /// How long ago the oldest of them was published, in seconds.
    pub queued_oldest_seconds: Gauge<f64, AtomicU64>,
    /// Executions ended by the deadline.
    pub deadlines_exceeded: Counter,
    /// Reports of workers.
    pub reports: Family<ReportLabels, Counter>,
    /// 1 while this replica leads.
    pub leader: Gauge,
    /// All executions by status, from the record's counters.
    pub executions: Family<StatusLabel, Gauge>,
    /// Old executions that were deleted, by status.
    pub deleted_executions: Family<StatusLabel, Counter>,
    /// Counters that differed from a count of the table when they were last compared.
    pub counters_wrong: Gauge,
    /// When that was, in seconds since the epoch; 0 is never.
    pub counters_compared: Gauge,
    /// HTTP requests.
    pub http_requests: Family<HttpLabels, Counter>,
    /// Seconds per HTTP request.
    pub http_seconds: Histogram,
}

/// Buckets for what takes milliseconds to seconds.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Which process the metrics are of: each shows only what it can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `sync-operator controller`.
    Controller,
    /// `sync-operator api`.
    Api,
}

impl Metrics {
    /// All metrics at zero; those of `role` are shown.
    #[must_use]
    pub fn new(role: Role) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            reconcile_seconds: Histogram::new(SECONDS),
            status_writes: Family::default(),
            ensure_batch_size: Histogram::new([1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0]),
            publishes: Family::default(),
            publishes_again: Counter::default(),
            publish_delay_seconds: Histogram::new([0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3600.0]),
            unpublished: Gauge::default(),
            unpublished_oldest_seconds: Gauge::default(),
            queued: Gauge::default(),
            queued_oldest_seconds: Gauge::default(),
            deadlines_exceeded: Counter::default(),
            reports: Family::default(),
            leader: Gauge::default(),
            executions: Family::default(),
            deleted_executions: Family::default(),
            counters_wrong: Gauge::default(),
            counters_compared: Gauge::default(),
            http_requests: Family::default(),
            http_seconds: Histogram::new(SECONDS),
            registry: Registry::default(),
        };
        let mut registry = Registry::with_prefix("sync_operator");
        registry.register("reports", "Reports of workers by way and outcome", metrics.reports.clone());
        match role {
            Role::Controller => metrics.register_controller(&mut registry),
            Role::Api => metrics.register_api(&mut registry),
        }
        Self { registry, ..metrics }
    }

    fn register_api(&self, registry: &mut Registry) {
        registry.register("http_requests", "HTTP requests by method, route and code", self.http_requests.clone());
        registry.register_with_unit("http_request", "Time per HTTP request", Unit::Seconds, self.http_seconds.clone());
    }

    fn register_controller(&self, registry: &mut Registry) {
        registry.register("reconciles", "Reconciles by outcome", self.reconciles.clone());
        registry.register_with_unit("reconcile", "Time per reconcile", Unit::Seconds, self.reconcile_seconds.clone());
        registry.register("status_writes", "Status writes to the API server by outcome", self.status_writes.clone());
        registry.register("ensure_batch_size", "Requests recorded or looked up by one statement", self.ensure_batch_size.clone());
        registry.register("publishes", "Messages by outcome", self.publishes.clone());
        registry.register(
            "publishes_again",
            "Messages published that may have been sent before, with the same id",
            self.publishes_again.clone(),
        );
        let delay = self.publish_delay_seconds.clone();
        registry.register_with_unit("publish_delay", "Time from recording to the broker's confirm", Unit::Seconds, delay);
        registry.register("unpublished_executions", "Executions that wait to be published", self.unpublished.clone());
        let oldest = self.unpublished_oldest_seconds.clone();
        registry.register_with_unit("unpublished_oldest", "Age of the oldest execution that waits to be published", Unit::Seconds, oldest);
        registry.register("queued_executions", "Executions that are published and that no worker has started", self.queued.clone());
        let oldest = self.queued_oldest_seconds.clone();
        registry.register_with_unit(
            "queued_oldest",
            "Time since the oldest execution that no worker has started was published",
            Unit::Seconds,
            oldest,
        );
        registry.register("deadlines_exceeded", "Executions ended by activeDeadlineSeconds", self.deadlines_exceeded.clone());
        registry.register("leader", "1 while this replica leads", self.leader.clone());
        registry.register("executions", "All executions by status, from the record", self.executions.clone());
        let deleted = self.deleted_executions.clone();
        registry.register("deleted_executions", "Old executions that were deleted from the record, by status", deleted);
        let wrong = self.counters_wrong.clone();
        registry.register("counters_wrong", "Counters that differed from a count of the table when last compared", wrong);
        let compared = self.counters_compared.clone();
        registry.register("counters_compared_timestamp_seconds", "When counters were last compared with the table; 0 is never", compared);
    }

    /// The OpenMetrics text.
    ///
    /// # Errors
    /// When encoding fails, which only happens when a metric is registered wrongly.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
