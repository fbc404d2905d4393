//! A distribution drawn with block characters, one cell for each step of a logarithmic scale.

/// A histogram over equal steps of the logarithm of time.
pub struct Steps {
    /// The lower end of the first step, in nanoseconds.
    pub from_ns: f64,
    /// The upper end of the last.
    pub to_ns: f64,
    /// The share of operations in each step.
    pub shares: Vec<f64>,
}

impl Steps {
    /// Sorts a distribution of (picoseconds, count) into steps between two times; what lies
    /// outside is in no step.
    pub fn between(buckets: &[(u64, u64)], from_ns: f64, to_ns: f64, steps: usize) -> Self {
        let from_ns = from_ns.max(0.001);
        // A distribution without width still needs a scale with some.
        let to_ns = to_ns.max(from_ns * 1.01);
        let width = (to_ns / from_ns).ln() / steps as f64;
        let total: u64 = buckets.iter().map(|&(_, count)| count).sum();
        let mut shares = vec![0.0; steps];
        for &(picoseconds, count) in buckets {
            let place = (picoseconds as f64 / 1000.0 / from_ns).ln() / width;
            if place > -0.5 && place < steps as f64 + 0.5 {
                let step = (place.max(0.0) as usize).min(steps - 1);
                shares[step] += count as f64 / total.max(1) as f64;
            }
        }
        Self { from_ns, to_ns, shares }
    }

    /// The lower end of a step, in nanoseconds.
    pub fn edge(&self, step: usize) -> f64 {
        let share = step as f64 / self.shares.len() as f64;
        self.from_ns * (self.to_ns / self.from_ns).powf(share)
    }
}

/// Draws the steps, the highest one full; a step with anything in it shows at least a line.
pub fn blocks(steps: &Steps) -> String {
    const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = steps.shares.iter().copied().fold(0.0, f64::max);
    steps
        .shares
        .iter()
        .map(|&share| match share {
            0.0 => BLOCKS[0],
            // The square root lets the tail be seen beside the peak.
            share => BLOCKS[((share / most).sqrt() * 8.0).round().clamp(1.0, 8.0) as usize],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_between_the_ends_is_in_a_step() {
        let buckets = [(100_000, 90), (110_000, 9), (200_000, 1)];
        let steps = Steps::between(&buckets, 100.0, 200.0, 10);
        assert!((steps.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!((steps.edge(10) - 200.0).abs() < 1e-6);
        let drawn = blocks(&steps);
        assert_eq!(drawn.chars().count(), 10);
        assert!(drawn.starts_with('█') && drawn.ends_with('▁'), "{drawn:?}");
    }

    #[test]
    fn a_distribution_without_width_is_one_block() {
        let steps = Steps::between(&[(50_000, 7)], 50.0, 50.0, 4);
        assert_eq!(blocks(&steps), "█   ");
    }
}
