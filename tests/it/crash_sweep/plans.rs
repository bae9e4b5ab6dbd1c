//! Which points are tried. A lane is one kind of point; along it the first, the second, the third … occurrence is tried, each by
//! a run of its own, until a run ends without meeting it.

use super::{
    run::{Job, Process},
    workload::Interrupted,
};
use crate::common::crash_points::{Moment, Plan};

/// Every effect of the controller, sorted, but that of the retention: what it deletes ended long ago.
pub const CONTROLLER: [&str; 23] = [
    "ack a report",
    "cancel abandoned executions",
    "cancel executions of deleted objects",
    "claim executions",
    "delete an object",
    "end an execution as failed",
    "end overdue executions",
    "fold counters",
    "fold the counters of the last day",
    "mark executions as published",
    "note a publish problem",
    "note that the broker is away",
    "publish a message",
    "put an execution aside",
    "record executions",
    "release the lease",
    "renew the lease",
    "skip ids",
    "take a confirm",
    "take the lease",
    "write a report",
    "write a status",
    "write an event",
];

/// Every effect of the REST API.
const API: [&str; 4] = ["create an object", "match a run of the worker", "record a run of the worker", "write a report"];

/// Those that come by the clock, again and again, mostly with nothing to do: how often depends on how long a run takes, so only so
/// many are tried. What they do to the work of the sweep is among the first of them.
const BY_THE_CLOCK: [(&str, u64); 6] = [
    ("cancel abandoned executions", 5),
    ("claim executions", 10),
    ("end overdue executions", 5),
    ("fold counters", 1),
    ("fold the counters of the last day", 1),
    ("renew the lease", 3),
];

/// No lane is that long: it would not end.
const LONGEST: u64 = 200;

/// So many of each effect are done twice: what a lost answer does is the same for the others.
const TWICE: u64 = 4;

/// One kind of point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane {
    process: Process,
    interrupted: Option<Interrupted>,
    effect: Option<&'static str>,
    /// Of one program after the other; before or after if there is none.
    moments: &'static [Moment],
    /// How far it is gone at most.
    pub limit: u64,
}

impl Lane {
    /// The run for its occurrence of that number.
    pub fn job(self, occurrence: u64) -> Job {
        let Self { process, interrupted, effect, moments, limit: _ } = self;
        let plan = |moment| Plan { effect, moment, occurrence, draining: interrupted.is_some() };
        let plans = if moments.is_empty() { vec![plan(None)] } else { moments.iter().map(|moment| plan(Some(*moment))).collect() };
        Job { process, plans, interrupted }
    }

    /// How it is called in a table.
    pub fn name(self) -> (String, &'static str) {
        let effect = match (self.effect, self.interrupted) {
            (Some(effect), _) if self.process == Process::Api => format!("{effect} (REST API)"),
            (Some(effect), _) => effect.to_owned(),
            (None, Some(Interrupted::Recording)) => "any, after SIGTERM while requests are recorded".to_owned(),
            (None, Some(Interrupted::Publishing)) => "any, after SIGTERM while messages are published".to_owned(),
            (None, Some(Interrupted::Reporting)) => "any, after SIGTERM while workers report".to_owned(),
            (None, None) => "any".to_owned(),
        };
        let moment = match self.moments {
            [] => "before or after",
            [Moment::Before] => "before",
            [Moment::After] => "after",
            [Moment::Twice] => "twice",
            _ => "before, then after",
        };
        (effect, moment)
    }

    /// Whether it is about the drain.
    pub const fn is_drain(&self) -> bool {
        self.interrupted.is_some()
    }

    /// Whether it is not.
    pub const fn is_crash(&self) -> bool {
        self.interrupted.is_none()
    }
}

/// All of them, to their ends.
pub fn all() -> Vec<Lane> {
    let effects = CONTROLLER.map(|effect| (Process::Controller, effect)).into_iter().chain(API.map(|effect| (Process::Api, effect)));
    let mut lanes = Vec::new();
    for (process, effect) in effects {
        let limit = BY_THE_CLOCK.iter().find(|(clock, _)| *clock == effect).map_or(LONGEST, |(_, limit)| *limit);
        for moments in [&[Moment::Before], &[Moment::After], &[Moment::Twice]] {
            let limit = if moments == &[Moment::Twice] { limit.min(TWICE) } else { limit };
            // The client library lets an ack be sent once; a confirm is no call of ours.
            if moments[0] != Moment::Twice || !["ack a report", "take a confirm"].contains(&effect) {
                lanes.push(Lane { process, interrupted: None, effect: Some(effect), moments, limit });
            }
        }
    }
    for interrupted in [Interrupted::Recording, Interrupted::Publishing, Interrupted::Reporting] {
        lanes.push(Lane { process: Process::Controller, interrupted: Some(interrupted), effect: None, moments: &[], limit: LONGEST });
    }
    lanes
}

/// The first occurrence of each effect of the controller: the program dies before it, and the one started after it dies after it.
/// Of what is done twice and of the drain, some.
pub fn representative() -> Vec<Lane> {
    let twice = ["mark executions as published", "publish a message", "record executions", "write a status"];
    let mut lanes = all();
    lanes.retain(|lane| match (lane.process, lane.moments) {
        (Process::Api, _) => false,
        (_, [Moment::Twice]) => lane.effect.is_some_and(|effect| twice.contains(&effect)),
        // That is the last of a program, so no second one has to do it again.
        (_, [Moment::After]) => lane.effect == Some("release the lease"),
        _ => true,
    });
    for lane in &mut lanes {
        lane.limit = 1;
        if lane.moments == [Moment::Before] && lane.effect != Some("release the lease") {
            lane.moments = &[Moment::Before, Moment::After];
        }
    }
    lanes
}
