//! The machines' time, and numbers that nobody can guess.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};
use unet::Incarnation;

/// Nanoseconds since it was made, by the kernel's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    made: Instant,
    made_at: u64,
    /// How far ticks are from each other.
    pub tick: u64,
}

impl Clock {
    pub fn new() -> Self {
        /// Both are the same clock; nothing lies between two looks but for the scheduler.
        const TOGETHER: u64 = 1_000;
        const TRIES: usize = 16;
        let tick = nanoseconds(clock_getres(ClockId::MonotonicCoarse));
        let look = || {
            let before = read(ClockId::Monotonic);
            let made = Instant::now();
            (read(ClockId::Monotonic) - before, before, made)
        };
        let mut best = look();
        for _ in 0..TRIES {
            if best.0 <= TOGETHER {
                break;
            }
            let again = look();
            if again.0 < best.0 {
                best = again;
            }
        }
        let (_, made_at, made) = best;
        Self { made, made_at, tick }
    }

    /// The time now: some 25 ns, and the processor waits for all loads before it.
    #[inline(always)]
    pub fn now(&self) -> u64 {
        read(ClockId::Monotonic).saturating_sub(self.made_at)
    }

    /// When the kernel's last tick was: a few nanoseconds, and nothing is waited for.
    #[inline(always)]
    pub fn last_tick(&self) -> u64 {
        read(ClockId::MonotonicCoarse).saturating_sub(self.made_at)
    }

    pub fn at(&self, time: u64) -> Option<Instant> {
        self.made.checked_add(Duration::from_nanos(time))
    }

    /// When an instant is; now, where it is past.
    pub fn of(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.made).as_nanos().min(u128::from(u64::MAX)) as u64
    }
}

#[inline(always)]
fn read(clock: ClockId) -> u64 {
    nanoseconds(clock_gettime(clock))
}

#[inline(always)]
fn nanoseconds(time: Timespec) -> u64 {
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// A number from the kernel's strong generator.
///
/// # Errors
/// The kernel has none: early in a boot.
pub(super) fn draw() -> Result<u64, NoRandom> {
    Incarnation::draw().map(|number| number.0).ok_or(NoRandom)
}

/// The kernel gave no random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel gave no random number")]
pub struct NoRandom;
