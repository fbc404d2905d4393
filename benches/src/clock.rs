//! The clock that stamps operations.

use std::hint::black_box;

use quanta::Clock;

/// A monotonic clock read from user space: the time-stamp counter where it is trustworthy.
pub struct Stamps {
    clock: Clock,
    picoseconds_per_tick: f64,
    cost_ns: f64,
    step_ns: f64,
}

impl Stamps {
    /// Calibrates the clock and measures what one stamp costs.
    pub fn calibrate() -> Self {
        const TICKS: u64 = 1 << 32;
        let clock = Clock::new();
        let picoseconds_per_tick = clock.delta_as_nanos(0, TICKS) as f64 * 1000.0 / TICKS as f64;
        let mut stamps = Self { clock, picoseconds_per_tick, cost_ns: 0.0, step_ns: 0.0 };
        stamps.cost_ns = stamps.measure_cost();
        stamps.step_ns = stamps.measure_step();
        stamps
    }

    /// Now, in ticks.
    #[inline(always)]
    pub fn now(&self) -> u64 {
        self.clock.raw()
    }

    /// The time between two stamps. A counter that steps back between cores counts as no time.
    #[inline(always)]
    pub fn picoseconds(&self, ticks: u64) -> u64 {
        (ticks as f64 * self.picoseconds_per_tick) as u64
    }

    /// What one stamp adds to an interval between two of them.
    pub fn cost_ns(&self) -> f64 {
        self.cost_ns
    }

    /// The clock's name and resolution.
    pub fn describe(&self) -> String {
        if (self.picoseconds_per_tick - 1000.0).abs() < 1e-6 {
            return format!("the system's monotonic clock in steps of {:.1} ns", self.step_ns);
        }
        let gigahertz = 1e3 / self.picoseconds_per_tick;
        format!("TSC of {gigahertz:.2} GHz in steps of {:.1} ns", self.step_ns)
    }

    /// How far the counter goes at once. Some processors advance it by many ticks, so that it often
    /// stands still between two stamps (but for a tick of rounding, where a hypervisor scales it);
    /// no percentile is finer than such a step.
    fn measure_step(&self) -> f64 {
        const PAIRS: usize = 20_000;
        let mut steps: Vec<u64> = (0..PAIRS)
            .map(|_| {
                let first = self.now();
                self.now().saturating_sub(first)
            })
            .collect();
        steps.sort_unstable();
        let still = steps.partition_point(|step| *step <= 1);
        let step = if still < PAIRS / 100 { 1 } else { steps[still + (PAIRS - still) / 2] };
        self.picoseconds(step) as f64 / 1000.0
    }

    /// The median over batches keeps a preemption out of the figure.
    fn measure_cost(&self) -> f64 {
        const BATCHES: usize = 33;
        const STAMPS: u32 = 1000;
        let mut costs: Vec<f64> = (0..BATCHES)
            .map(|_| {
                let start = self.now();
                for _ in 0..STAMPS {
                    black_box(self.now());
                }
                self.picoseconds(self.now() - start) as f64 / 1000.0 / f64::from(STAMPS)
            })
            .collect();
        costs.sort_by(f64::total_cmp);
        costs[BATCHES / 2]
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_stamped_sleep_lasts_as_long_as_the_system_clock_says() {
        let stamps = Stamps::calibrate();
        let (start, system) = (stamps.now(), Instant::now());
        std::thread::sleep(Duration::from_millis(30));
        let stamped = stamps.picoseconds(stamps.now() - start) as f64 / 1e12;
        let told = system.elapsed().as_secs_f64();
        assert!((stamped / told - 1.0).abs() < 0.1, "{stamped} s against {told} s");
        assert!(stamps.cost_ns() > 0.0);
    }
}
