//! Reading a message in place, and what it is compared with: one core that reads its own memory.

use std::hint::black_box;
use std::time::{Duration, Instant};

use unet::{Delivery, Part};

use super::{failed, stream};
use crate::fault::Fault;
use crate::systems::Rival;

/// The sum of all words.
#[inline(always)]
pub fn sum(delivery: &Delivery) -> Result<u64, Fault> {
    let mut sum = 0u64;
    for part in delivery.message().parts() {
        if let Part::Peer(fbuf) = part {
            fbuf.for_each_word(|word| sum = sum.wrapping_add(word))
                .map_err(|error| failed("reading", &error))?;
        }
    }
    Ok(sum)
}

/// Reads memory of its own, of the same kind and as much of it in turn, in the faster one of two ways
/// that the compiler makes of a plain sum of words.
pub fn rival(bytes: usize) -> Result<Rival, Fault> {
    let mut pool = stream::pool_of(bytes)?;
    let mut buffers = Vec::new();
    while let Ok(fbuf) = pool.alloc(bytes) {
        buffers.push(fbuf);
    }
    // By turns, and a mean as that of the pipeline is: both have the machine's bad moments in them.
    let sample = move |time: Duration| {
        let started = Instant::now();
        let ways = [sum_of_words as fn(&[u8]) -> u64, sum_in_eights];
        let (mut took, mut rounds) = ([Duration::ZERO; 2], 0);
        while started.elapsed() < time {
            for (took, sum) in took.iter_mut().zip(ways) {
                let start = Instant::now();
                for buffer in &buffers {
                    black_box(sum(black_box(buffer)));
                }
                *took += start.elapsed();
            }
            rounds += 1;
        }
        let faster = took.into_iter().min().unwrap_or_default();
        faster.as_secs_f64() * 1e9 / (rounds * buffers.len()) as f64
    };
    Ok(Rival {
        name: "time one core takes to read as much memory of its own",
        sample: Box::new(sample),
    })
}

#[inline(never)]
fn sum_of_words(bytes: &[u8]) -> u64 {
    let words = bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word));
    words.fold(0, u64::wrapping_add)
}

/// Eight sums at a time.
#[inline(never)]
fn sum_in_eights(bytes: &[u8]) -> u64 {
    let mut sums = [0u64; 8];
    for block in bytes.as_chunks::<64>().0 {
        for (sum, word) in sums.iter_mut().zip(block.as_chunks().0) {
            *sum = sum.wrapping_add(u64::from_ne_bytes(*word));
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}
