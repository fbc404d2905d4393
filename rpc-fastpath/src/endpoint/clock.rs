//! The machines' time, and numbers that nobody can guess.

use std::time::{Duration, Instant};

use unet::Incarnation;

/// Nanoseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub fn new() -> Self {
        Self(Instant::now())
    }

    #[inline(always)]
    pub fn now(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    pub fn at(&self, time: u64) -> Option<Instant> {
        self.0.checked_add(Duration::from_nanos(time))
    }

    /// When an instant is; now, where it is past.
    pub fn of(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.0).as_nanos().min(u128::from(u64::MAX)) as u64
    }
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
