//! What the ring's operations cost on one core, without the way between cores.

use std::hint::black_box;

use criterion::Criterion;
use segment::ring::{Cell, Consumer, Popped, Producer};

use crate::pair;

/// Every operation, with nobody else on the lines.
pub fn ring(criterion: &mut Criterion) {
    let (first, second) = pair::sides();
    let mut producer = Producer::attach(&first.own, &first.peer);
    let mut consumer = Consumer::attach(&second.own, &second.peer);
    let mut popped = Cell::default();
    let mut group = criterion.benchmark_group("ring");
    for bytes in [8, 56] {
        let cell = filled(bytes);
        group.bench_function(format!("push and pop, {bytes} B"), |bencher| {
            bencher.iter(|| {
                producer.try_push(black_box(&cell)).expect("there is room");
                assert_ne!(consumer.try_pop(&mut popped), Ok(Popped::Nothing));
                black_box(&popped);
            });
        });
    }
    group.bench_function("look in vain", |bencher| {
        bencher.iter(|| consumer.try_pop(&mut popped).expect("nothing is wrong"));
    });
    let cell = filled(8);
    while producer.try_push(&cell).is_ok() {}
    group.bench_function("push in vain", |bencher| {
        bencher.iter(|| producer.try_push(black_box(&cell)).is_err());
    });
}

/// A cell with so many bytes of payload.
fn filled(bytes: usize) -> Cell {
    let mut cell = Cell::new(0);
    assert!(cell.append(&vec![1; bytes]), "it fits into a slot");
    cell
}
