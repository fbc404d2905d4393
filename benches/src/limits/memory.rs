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

/// Copies of one size within memory: what one thread takes to move as many bytes once.
pub struct Copier {
    from: Vec<u8>,
    places: Vec<u8>,
    next: usize,
}

/// So much does no processor's cache hold.
const BEYOND_CACHES: usize = 256 << 20;

impl Copier {
    /// Of so many bytes, one at least.
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.max(1);
        let places = (BEYOND_CACHES / bytes).max(2) * bytes;
        Self { from: vec![1; bytes], places: vec![2; places], next: 0 }
    }

    /// Nanoseconds of a copy to the same place again and again: warm, as far as a cache holds both.
    pub fn warm(&mut self, time: Duration) -> f64 {
        self.copies(time, 0)
    }

    /// Nanoseconds of a copy of the same bytes to one place after the other, which is in no cache by then.
    pub fn cold(&mut self, time: Duration) -> f64 {
        self.copies(time, self.from.len())
    }

    fn copies(&mut self, time: Duration, step: usize) -> f64 {
        let Self { from, places, next } = self;
        let batch = (SIZES[3] / from.len()).clamp(1, 1 << 12) as u32;
        median(time, batch, || {
            let to = &mut places[*next..*next + from.len()];
            to.copy_from_slice(black_box(from));
            black_box(to);
            *next += step;
            if *next + from.len() > places.len() {
                *next = 0;
            }
        })
    }
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
