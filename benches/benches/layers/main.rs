//! What single operations of the layers cost on one core: ring and pool.

use criterion::{criterion_group, criterion_main};

mod pair;
mod pool;
mod ring;

criterion_group!(benches, ring::ring, pool::pool);
criterion_main!(benches);
