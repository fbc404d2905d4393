//! When messages of a load are due: drawn beforehand, so that nothing that happens delays them.

/// How many gaps are drawn; after them they come again.
const DRAWN: usize = 1 << 14;

/// Gaps between messages that come independently of each other: exponential, with a mean of one. Every
/// run has the same.
pub struct Schedule {
    gaps: Vec<f64>,
    next: usize,
}

impl Schedule {
    /// Draws the gaps.
    pub fn new() -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut gaps: Vec<f64> = (0..DRAWN)
            .map(|_| {
                // Marsaglia's xorshift.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let uniform = ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
                -uniform.ln()
            })
            .collect();
        let mean = gaps.iter().sum::<f64>() / DRAWN as f64;
        gaps.iter_mut().for_each(|gap| *gap /= mean);
        Self { gaps, next: 0 }
    }

    /// The next gap, where the mean is this long.
    #[inline(always)]
    pub fn next(&mut self, mean: f64) -> f64 {
        let gap = self.gaps[self.next];
        self.next = (self.next + 1) % DRAWN;
        gap * mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_have_their_mean_and_spread() {
        let mut schedule = Schedule::new();
        let gaps: Vec<f64> = (0..DRAWN).map(|_| schedule.next(50.0)).collect();
        let mean = gaps.iter().sum::<f64>() / DRAWN as f64;
        assert!((mean - 50.0).abs() < 1e-6);
        // Of an exponential distribution, about 63 in a hundred are shorter than the mean.
        let short = gaps.iter().filter(|gap| **gap < 50.0).count() as f64 / DRAWN as f64;
        assert!((0.61..0.65).contains(&short), "{short}");
    }
}
