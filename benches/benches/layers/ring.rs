//! What the ring's operations cost on one core, without the way between cores.

use std::hint::black_box;

use criterion::Criterion;
use segment::ring::{Cell, Consumer, Producer};

use crate::pair;

/// Every operation, with nobody else on the lines.
pub fn ring(criterion: &mut Criterion) {
    let (first, second) = pair::sides();
    let mut producer = Producer::attach(&first.own, &first.peer);
    let mut consumer = Consumer::attach(&second.own, &second.peer);
    let mut group = criterion.benchmark_group("ring");
    for bytes in [8, 56] {
        let cell = Cell::with_bytes(0, &vec![1; bytes]).expect("it fits into a slot");
        group.bench_function(format!("push and pop, {bytes} B"), |bencher| {
            bencher.iter(|| {
                producer.try_push(black_box(&cell)).expect("there is room");
                consumer.try_pop().expect("nothing is wrong").expect("it was just pushed")
            });
        });
    }
    group.bench_function("look in vain", |bencher| {
        bencher.iter(|| consumer.try_pop().expect("nothing is wrong").is_none());
    });
    let cell = Cell::with_bytes(0, &[1; 8]).expect("it fits into a slot");
    while producer.try_push(&cell).is_ok() {}
    group.bench_function("push in vain", |bencher| {
        bencher.iter(|| producer.try_push(black_box(&cell)).is_err());
    });
}
