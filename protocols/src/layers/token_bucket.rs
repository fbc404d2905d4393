//! A limit to how often something is done.

use std::time::Duration;

use crate::Instant;

/// So many at once, and then one each interval.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    burst: u32,
    interval: Duration,
    left: u32,
    filled: Instant,
}

impl TokenBucket {
    /// A full one.
    pub(super) fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, left: burst, filled: Instant::default() }
    }

    /// Whether it may be done now; then it counts as done.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let interval = self.interval.as_nanos().max(1);
        let earned = now.since(self.filled).as_nanos() / interval;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(self.burst);
            // What has passed of the next interval counts for it, unless the bucket is full.
            self.filled =
                if self.left == self.burst { now } else { self.filled + self.interval * earned };
        }
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => return false,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let start = Instant(1_000_000_000_000);
        let mut bucket = TokenBucket::new(3, Duration::from_millis(10));
        assert_eq!((0..10).filter(|_| bucket.take(start)).count(), 3);
        assert!(!bucket.take(start + Duration::from_millis(9)));
        assert!(bucket.take(start + Duration::from_millis(10)));
        assert!(!bucket.take(start + Duration::from_millis(19)));
        assert!(bucket.take(start + Duration::from_millis(20)));
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| bucket.take(later)).count(), 3, "it fills up no further");
    }
}
