//! The distribution of a measurement.

use hdrhistogram::Histogram;

/// Times in picoseconds, from one to a minute, to three digits.
pub struct Spread(Histogram<u64>);

const LONGEST_PS: u64 = 60_000_000_000_000;

impl Spread {
    /// An empty distribution, its memory touched.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_PS, 3);
        Self(histogram.expect("the bounds are in order and three digits are allowed"))
    }

    /// Puts the distribution together again from its buckets.
    pub fn from_buckets(buckets: &[(u64, u64)]) -> Self {
        let mut spread = Self::new();
        for &(picoseconds, count) in buckets {
            spread.add(picoseconds, count);
        }
        spread
    }

    /// Enters `count` operations of the same length; what lies outside is put at the edge.
    #[inline]
    pub fn add(&mut self, picoseconds: u64, count: u64) {
        self.0.saturating_record_n(picoseconds.max(1), count);
    }

    /// Each recorded value with its count, ascending.
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        self.0.iter_recorded().map(|v| (v.value_iterated_to(), v.count_at_value())).collect()
    }

    /// The shortest, in nanoseconds.
    pub fn min_ns(&self) -> f64 {
        self.0.min() as f64 / 1000.0
    }

    /// The mean, in nanoseconds.
    pub fn mean_ns(&self) -> f64 {
        self.0.mean() / 1000.0
    }

    /// The longest, in nanoseconds.
    pub fn max_ns(&self) -> f64 {
        self.0.max() as f64 / 1000.0
    }

    /// The mean of what took no longer than eight medians, in nanoseconds: longer ones were
    /// interrupted, where all do the same work.
    pub fn uninterrupted_mean_ns(&self) -> f64 {
        let limit = 8 * self.0.value_at_quantile(0.5).max(1);
        let (mut sum, mut count) = (0.0, 0u64);
        for (value, times) in self.buckets().into_iter().filter(|(value, _)| *value <= limit) {
            sum += value as f64 * times as f64;
            count += times;
        }
        sum / 1000.0 / count.max(1) as f64
    }

    /// The value that the given share of operations does not exceed, in nanoseconds.
    pub fn quantile_ns(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_carry_the_whole_distribution() {
        let mut spread = Spread::new();
        for picoseconds in [80_000, 81_000, 81_000, 5_000_000] {
            spread.add(picoseconds, 1);
        }
        let copy = Spread::from_buckets(&spread.buckets());
        assert_eq!(copy.0.len(), 4);
        assert_eq!(copy.quantile_ns(0.5), spread.quantile_ns(0.5));
        assert!((copy.quantile_ns(0.5) / 81.0 - 1.0).abs() < 0.002);
        assert!((copy.max_ns() / 5000.0 - 1.0).abs() < 0.002);
    }

    #[test]
    fn an_interruption_does_not_count_in_the_mean_without_them() {
        let mut spread = Spread::new();
        spread.add(100_000, 9);
        spread.add(200_000, 1);
        spread.add(5_000_000_000, 1);
        assert!((spread.uninterrupted_mean_ns() / 110.0 - 1.0).abs() < 0.002);
    }

    #[test]
    fn values_outside_are_kept_at_the_edge() {
        let mut spread = Spread::new();
        spread.add(0, 1);
        spread.add(u64::MAX, 1);
        assert_eq!(spread.0.len(), 2);
        assert!(spread.max_ns() >= 60e9);
    }
}
