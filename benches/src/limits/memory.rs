//! What one core does alone: a system call, and copies within memory.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;

/// The speed of copies of one size.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Copy {
    /// Bytes in a copy.
    pub bytes: usize,
    /// Gigabytes (10⁹) copied in a second; each is read once and written once.
    pub gigabytes_per_second: f64,
}

/// From the first cache to main memory.
const SIZES: [usize; 4] = [4 << 10, 64 << 10, 1 << 20, 16 << 20];

/// Nanoseconds for a system call that only reads a number.
pub fn system_call(time: Duration) -> f64 {
    median(time, 1000, || {
        black_box(rustix::process::getppid());
    })
}

/// Copies between two buffers whose pages are touched, by size.
pub fn copies(time: Duration) -> Vec<Copy> {
    SIZES
        .iter()
        .map(|&bytes| {
            let from = vec![1_u8; bytes];
            let mut to = vec![2_u8; bytes];
            let batch = (SIZES[3] / bytes) as u32;
            let nanoseconds = median(time / SIZES.len() as u32, batch, || {
                to.copy_from_slice(black_box(&from));
                black_box(&mut to);
            });
            Copy { bytes, gigabytes_per_second: bytes as f64 / nanoseconds }
        })
        .collect()
}

/// Nanoseconds for one act: the median over batches, which leaves preemptions out.
fn median(time: Duration, batch: u32, mut act: impl FnMut()) -> f64 {
    let started = Instant::now();
    let mut means = Vec::new();
    while started.elapsed() < time || means.len() < 3 {
        let start = Instant::now();
        (0..batch).for_each(|_| act());
        means.push(start.elapsed().as_nanos() as f64 / f64::from(batch));
    }
    means.sort_by(f64::total_cmp);
    means[means.len() / 2]
}
