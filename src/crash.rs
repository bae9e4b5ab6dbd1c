//! Crash points: each side effect passes one before it and one after it, so that a test can let the program die exactly there,
//! or do an effect twice. Only with the feature `crash-points`, which no release is built with: without it an effect is done,
//! and nothing else. Decides nothing about effects.

pub use points::{after, before, claim_seconds, drain_begins, effect};

#[cfg(not(feature = "crash-points"))]
mod points {
    /// Does it.
    pub fn effect<T>(_name: &'static str, act: impl Fn() -> T) -> T {
        act()
    }

    /// An effect that is no call of ours begins.
    pub const fn before(_name: &'static str) {}

    /// It is over.
    pub const fn after(_name: &'static str) {}

    /// The first signal to end has come.
    pub const fn drain_begins() {}

    /// How long a claim holds.
    #[must_use]
    pub const fn claim_seconds(seconds: f64) -> f64 {
        seconds
    }
}

#[cfg(feature = "crash-points")]
mod points {
    use std::{
        fs::File,
        io::Write,
        sync::{LazyLock, Mutex, PoisonError},
    };

    use serde::Deserialize;

    /// JSON of a [`Plan`].
    const PLAN: &str = "SYNC_CRASH_PLAN";
    /// A file: one line for each point passed.
    const TRACE: &str = "SYNC_CRASH_TRACE";
    /// A sweep of hundreds of crashes must not wait for 20 s after each.
    const CLAIM_SECONDS: &str = "SYNC_CRASH_CLAIM_SECONDS";

    /// Where to die, or what to do twice.
    #[derive(Deserialize)]
    struct Plan {
        /// Any if not given.
        effect: Option<String>,
        /// Either if not given.
        moment: Option<Moment>,
        /// The how manieth of those.
        occurrence: u64,
        /// Count from the signal to end on, not from the start.
        #[serde(default)]
        draining: bool,
    }

    #[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Moment {
        Before,
        After,
        /// Once more, as if the first answer had been lost.
        Twice,
    }

    struct Points {
        plan: Option<Plan>,
        trace: Option<File>,
        draining: bool,
        counted: u64,
    }

    static POINTS: LazyLock<Mutex<Points>> = LazyLock::new(|| {
        #[expect(clippy::expect_used, reason = "a plan that cannot be read must not look like a run without a crash")]
        let plan = std::env::var(PLAN).ok().map(|plan| serde_json::from_str(&plan).expect("SYNC_CRASH_PLAN"));
        let trace = std::env::var(TRACE).ok().and_then(|path| File::options().create(true).append(true).open(path).ok());
        Mutex::new(Points { plan, trace, draining: false, counted: 0 })
    });

    impl Points {
        /// Whether the plan means this one.
        fn is_it(&mut self, name: &str, moment: Moment) -> bool {
            let Some(plan) = &self.plan else { return false };
            let meant = match plan.moment {
                Some(planned) => planned == moment,
                None => moment != Moment::Twice,
            };
            if !meant || plan.effect.as_ref().is_some_and(|effect| effect != name) || plan.draining && !self.draining {
                return false;
            }
            self.counted += 1;
            self.counted == plan.occurrence
        }

        /// A line is in the file when this returns: no buffer dies with the process.
        fn note(&mut self, what: &str, name: &str) {
            if let Some(trace) = &mut self.trace {
                let _ = trace.write_all(format!("{what} {name}\n").as_bytes());
            }
        }
    }

    fn pass(name: &'static str, moment: Moment) -> bool {
        let mut points = POINTS.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = points.is_it(name, moment);
        match moment {
            Moment::Before => points.note("before", name),
            Moment::After => points.note("after", name),
            Moment::Twice if is_it => points.note("twice", name),
            Moment::Twice => {}
        }
        if is_it && moment != Moment::Twice {
            points.note("died", name);
            // Like kill -9: no destructor runs, nothing is flushed.
            std::process::abort();
        }
        is_it
    }

    /// Does it, between two points; twice if planned, and then the second answer counts.
    pub async fn effect<T, F: Future<Output = T>>(name: &'static str, act: impl Fn() -> F) -> T {
        before(name);
        let mut answer = act().await;
        if pass(name, Moment::Twice) {
            answer = act().await;
        }
        after(name);
        answer
    }

    /// An effect that is no call of ours begins.
    pub fn before(name: &'static str) {
        pass(name, Moment::Before);
    }

    /// It is over.
    pub fn after(name: &'static str) {
        pass(name, Moment::After);
    }

    /// The first signal to end has come.
    pub fn drain_begins() {
        let mut points = POINTS.lock().unwrap_or_else(PoisonError::into_inner);
        points.draining = true;
        points.note("drain", "begins");
    }

    /// How long a claim holds.
    #[must_use]
    pub fn claim_seconds(seconds: f64) -> f64 {
        std::env::var(CLAIM_SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(seconds)
    }
}
