//! The time a cache line takes from one core to the other and back.
//!
//! Two threads stand in for two processes: a cache line does not know whose it is.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::cpus::{Cpus, pin};
use crate::fault::Fault;

/// Mean round trips in nanoseconds: one line shared or one in each direction, polled with a
/// `pause` between the loads or without.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Variants {
    /// One line, polled without `pause`.
    pub one_line_ns: f64,
    /// One line, polled with `pause`.
    pub one_line_pause_ns: f64,
    /// A line in each direction, polled without `pause`.
    pub two_lines_ns: f64,
    /// A line in each direction, polled with `pause`.
    pub two_lines_pause_ns: f64,
}

impl Variants {
    /// The floor.
    pub fn fastest(self) -> f64 {
        [self.one_line_ns, self.one_line_pause_ns, self.two_lines_ns, self.two_lines_pause_ns]
            .into_iter()
            .fold(f64::INFINITY, f64::min)
    }
}

/// Two lines' worth, since some processors fetch neighbouring lines in pairs.
#[repr(align(128))]
struct Line(AtomicU64);

impl Line {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }
}

/// Tells the answering thread to leave.
const STOP: u64 = u64::MAX;
/// Round trips in a batch. A preemption spoils its batch; the median over batches leaves it out.
const BATCH: u64 = 500;

/// Measures the four variants within about `time`.
pub fn sample(cpus: Cpus, time: Duration) -> Result<Variants, Fault> {
    let each = time / 4;
    Ok(Variants {
        one_line_ns: variant::<false>(cpus, each, 1)?,
        one_line_pause_ns: variant::<true>(cpus, each, 1)?,
        two_lines_ns: variant::<false>(cpus, each, 2)?,
        two_lines_pause_ns: variant::<true>(cpus, each, 2)?,
    })
}

fn variant<const PAUSE: bool>(cpus: Cpus, time: Duration, lines: usize) -> Result<f64, Fault> {
    let pair = [Line::new(), Line::new()];
    let (there, back) = (&pair[0].0, &pair[lines - 1].0);
    thread::scope(|scope| {
        let answering = scope.spawn(|| {
            pin(cpus.server)?;
            answer::<PAUSE>(there, back);
            Ok::<_, Fault>(())
        });
        let mean = pin(cpus.client).map(|()| {
            // The answering thread has to arrive at its core first.
            let done = ping::<PAUSE>(there, back, 0, 1);
            medians(time, done, |from, count| ping::<PAUSE>(there, back, from, count))
        });
        there.store(STOP, Ordering::Release);
        answering.join().expect("the answering thread does not panic")?;
        mean
    })
}

/// The median of the batches' means.
fn medians(time: Duration, mut done: u64, mut batch: impl FnMut(u64, u64) -> u64) -> f64 {
    let started = Instant::now();
    let mut means = Vec::with_capacity(4096);
    while started.elapsed() < time || means.is_empty() {
        let start = Instant::now();
        done = batch(done, BATCH);
        means.push(start.elapsed().as_nanos() as f64 / BATCH as f64);
    }
    means.sort_by(f64::total_cmp);
    means[means.len() / 2]
}

/// Odd numbers go there, the even ones that follow come back.
#[inline(never)]
fn ping<const PAUSE: bool>(there: &AtomicU64, back: &AtomicU64, from: u64, count: u64) -> u64 {
    for trip in from..from + count {
        // PAIRS: answer's acquire load of the same odd number.
        there.store(2 * trip + 1, Ordering::Release);
        while back.load(Ordering::Acquire) != 2 * trip + 2 {
            if PAUSE {
                spin_loop();
            }
        }
    }
    from + count
}

#[inline(never)]
fn answer<const PAUSE: bool>(there: &AtomicU64, back: &AtomicU64) {
    let mut due = 1;
    loop {
        let seen = there.load(Ordering::Acquire);
        if seen == due {
            // PAIRS: ping's acquire load of the same even number.
            back.store(due + 1, Ordering::Release);
            due += 2;
        } else if seen == STOP {
            return;
        } else if PAUSE {
            spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpus::usable;

    #[test]
    fn every_variant_takes_some_time_between_two_cores() {
        let cpus = usable().unwrap();
        let [client, server, ..] = cpus[..] else { return };
        thread::spawn(move || {
            let times = sample(Cpus { client, server }, Duration::from_millis(20)).unwrap();
            assert!(times.fastest() > 1.0 && times.fastest() < 1e6, "{times:?}");
        })
        .join()
        .unwrap();
    }
}
