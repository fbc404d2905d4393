//! How long an answer takes, and how long to wait for one: RFC 6298, in nanoseconds.

use super::options::Timers;

/// The smoothed round trip, its variation, and what follows from them.
#[derive(Debug)]
pub(super) struct RoundTrip {
    smoothed: u64,
    variation: u64,
    timeout: u64,
    bounds: (u64, u64),
}

impl RoundTrip {
    pub fn new(timers: &Timers) -> Self {
        let bounds = (timers.rto_min, timers.rto_max);
        Self { smoothed: 0, variation: 0, timeout: timers.rto_initial, bounds }
    }

    /// From the first measured time on, waits at least so long.
    pub fn wait_at_least(&mut self, least: u64) {
        self.bounds.0 = self.bounds.0.max(least).min(self.bounds.1);
    }

    /// Takes a measured time. By Karn's rule, of something that was sent only once.
    pub fn sample(&mut self, measured: u64) {
        let measured = measured.min(self.bounds.1);
        if self.smoothed == 0 {
            self.smoothed = measured.max(1);
            self.variation = measured / 2;
        } else {
            let off = self.smoothed.abs_diff(measured);
            self.variation = self.variation - self.variation / 4 + off / 4;
            self.smoothed = (self.smoothed - self.smoothed / 8 + measured / 8).max(1);
        }
        let timeout = self.smoothed + 4 * self.variation;
        self.timeout = timeout.clamp(self.bounds.0, self.bounds.1);
    }

    /// The smoothed time; zero before the first.
    pub fn smoothed(&self) -> u64 {
        self.smoothed
    }

    /// How long to wait for the first answer.
    #[inline(always)]
    pub fn timeout(&self) -> u64 {
        self.timeout
    }

    /// How long to wait after so many times in vain: twice as long each time, and up to an eighth longer
    /// by chance, so that those who failed together do not come back together.
    pub fn backed_off(&self, times: u32, chance: u64) -> u64 {
        let doubled = self.timeout.saturating_mul(1 << times.min(20)).min(self.bounds.1);
        doubled + chance % (doubled / 8).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timers() -> Timers {
        Timers { rto_initial: 1000, rto_min: 100, rto_max: 100_000, ..Timers::default() }
    }

    #[test]
    fn the_timeout_follows_what_is_measured() {
        let mut it = RoundTrip::new(&timers());
        assert_eq!(it.timeout(), 1000);
        it.sample(200);
        assert_eq!((it.smoothed(), it.timeout()), (200, 600));
        (0..200).for_each(|_| it.sample(200));
        assert!((200..250).contains(&it.timeout()), "{}", it.timeout());
        it.sample(2000);
        assert!(it.timeout() > 2000);
    }

    #[test]
    fn the_timeout_stays_within_its_bounds() {
        let mut it = RoundTrip::new(&timers());
        (0..100).for_each(|_| it.sample(0));
        assert_eq!(it.timeout(), 100);
        (0..100).for_each(|_| it.sample(u64::MAX));
        assert_eq!(it.timeout(), 100_000);
    }

    #[test]
    fn waiting_doubles_up_to_a_bound() {
        let it = RoundTrip::new(&timers());
        assert_eq!(it.backed_off(0, 0), 1000);
        assert_eq!(it.backed_off(3, 0), 8000);
        assert_eq!(it.backed_off(60, 0), 100_000);
        assert!((0..100).all(|chance| it.backed_off(0, chance * 77) < 1125));
    }
}
