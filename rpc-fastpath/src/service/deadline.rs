//! When a call's time is up, by this host's monotonic clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

/// This host's monotonic clock, which all its processes share, in nanoseconds.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

/// When a deadline of that length, set now, passes.
pub(super) fn expiry(deadline: Option<Duration>) -> u64 {
    let after = |deadline: Duration| u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX);
    deadline.map_or(NEVER, |deadline| now().saturating_add(after(deadline)))
}

/// Whether a deadline has passed. No look at the clock if there is none.
#[inline(always)]
pub(super) fn has_passed(expires: u64) -> bool {
    expires != NEVER && now() >= expires
}
