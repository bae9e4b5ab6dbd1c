//! When an effect may begin, and when a lease may be taken. Pure: instants and durations are given, clocks and calls are elsewhere.

use std::time::{Duration, Instant};

/// What a renewal gave.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    /// Until then this side begins effects.
    until: Instant,
    /// From then on another replica may.
    passes: Instant,
}

impl Term {
    /// What a renewal gives that was begun at `began`: the answer may have taken its time.
    #[must_use]
    pub fn renewed(began: Instant, duration: Duration) -> Self {
        Self { until: began + trust(duration), passes: began + duration }
    }

    /// How long an effect that begins `now` may take, so that it is over before the lease can pass; `None` when none may begin.
    #[must_use]
    pub fn window(self, now: Instant) -> Option<Duration> {
        (now < self.until).then(|| self.passes.saturating_duration_since(now))
    }
}

/// Two thirds of the lease: after that without a renewal its holder stops. The last third covers what was just begun.
pub(super) fn trust(duration: Duration) -> Duration {
    duration * 2 / 3
}

/// Whether `identity` may take the lease that `holder` has and that was seen `unchanged` for so long: its own, one that was
/// released (nobody holds it), and one that was not renewed for its whole duration.
#[must_use]
pub fn may_take(identity: &str, holder: &str, unchanged: Duration, duration: Duration) -> bool {
    holder == identity || holder.is_empty() || unchanged >= duration
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(15);

    #[test]
    fn an_effect_may_begin_while_leadership_is_trusted_and_must_end_before_the_lease_can_pass() {
        let began = Instant::now();
        let after = |seconds| Term::renewed(began, LEASE).window(began + Duration::from_secs(seconds));
        assert_eq!(after(0), Some(LEASE));
        assert_eq!(after(9), Some(Duration::from_secs(6)));
        assert_eq!([10, 14, 15, 60].map(after), [None; 4], "nothing begins in the last third, nor after it");
    }

    #[test]
    fn a_lease_is_taken_when_it_is_ours_or_released_or_was_not_renewed_for_its_duration() {
        let second = Duration::from_secs(1);
        assert!(may_take("us", "us", Duration::ZERO, LEASE));
        assert!(may_take("us", "", Duration::ZERO, LEASE));
        assert!(!may_take("us", "them", LEASE.checked_sub(second).unwrap(), LEASE));
        assert!(may_take("us", "them", LEASE, LEASE));
    }
}
