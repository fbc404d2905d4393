//! Every interleaving of a ring's two ends, and of a free queue's three.
#![cfg(loom)]

use loom::thread;
use segment::model;
use segment::ring::{Cell, Consumer, Popped, Producer, PushRefusal};

/// A cell of two words, so that a torn one would show.
fn cell(number: u64) -> Cell {
    let mut cell = Cell::new(0);
    assert!(cell.append(&number.to_ne_bytes()) && cell.append(&(!number).to_ne_bytes()));
    cell
}

fn is_cell(cell: &Cell, number: u64) {
    assert_eq!((cell.len(), cell.words()[0], cell.words()[1]), (16, number, !number));
}

fn push(producer: &mut Producer, number: u64) {
    while let Err(refusal) = producer.try_push(&cell(number)) {
        assert_eq!(refusal, PushRefusal::Full);
        thread::yield_now();
    }
}

fn try_pop(consumer: &mut Consumer) -> Option<Cell> {
    let mut cell = Cell::new(0);
    let popped = consumer.try_pop(&mut cell).expect("an honest producer");
    (popped != Popped::Nothing).then_some(cell)
}

fn pop(consumer: &mut Consumer) -> Cell {
    loop {
        match try_pop(consumer) {
            Some(cell) => return cell,
            None => thread::yield_now(),
        }
    }
}

fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
}

#[test]
fn what_is_pushed_is_popped_whole_and_in_order() {
    explore(None, || {
        let (mut producer, mut consumer) = model::ring(4);
        let sender = thread::spawn(move || (1..=2).for_each(|number| push(&mut producer, number)));
        (1..=2).for_each(|number| is_cell(&pop(&mut consumer), number));
        assert!(try_pop(&mut consumer).is_none());
        sender.join().expect("the sender ends");
    });
}

#[test]
fn a_full_ring_takes_more_when_its_consumer_has_given_credit_and_not_before() {
    explore(Some(3), || {
        let (mut producer, mut consumer) = model::ring(2);
        // Full, before anybody else is there.
        (1..=2).for_each(|number| assert_eq!(producer.try_push(&cell(number)), Ok(())));
        assert_eq!(producer.try_push(&cell(3)), Err(PushRefusal::Full));
        let sender = thread::spawn(move || {
            (3..=5).for_each(|number| push(&mut producer, number));
        });
        // Two laps and a half: no slot is overwritten before it was read.
        (1..=5).for_each(|number| is_cell(&pop(&mut consumer), number));
        assert!(try_pop(&mut consumer).is_none());
        sender.join().expect("the sender ends");
    });
}

#[test]
fn credit_given_a_quarter_lap_late_suffices() {
    explore(Some(3), || {
        let (mut producer, mut consumer) = model::ring(8);
        (0..8).for_each(|number| assert_eq!(producer.try_push(&cell(number)), Ok(())));
        let mut taken = Cell::default();
        assert_eq!(consumer.try_pop(&mut taken), Ok(Popped::Cell));
        is_cell(&taken, 0);
        assert_eq!(producer.try_push(&cell(8)), Err(PushRefusal::Full), "one is no quarter lap");
        let sender = thread::spawn(move || {
            (8..10).for_each(|number| push(&mut producer, number));
            producer
        });
        assert_eq!(consumer.try_pop(&mut taken), Ok(Popped::CellAndCredit));
        is_cell(&taken, 1);
        let mut producer = sender.join().expect("the sender ends");
        assert_eq!(producer.try_push(&cell(10)), Err(PushRefusal::Full));
        (2..10).for_each(|number| is_cell(&pop(&mut consumer), number));
        assert!(try_pop(&mut consumer).is_none());
    });
}

#[test]
fn a_look_without_taking_promises_what_taking_finds() {
    explore(None, || {
        let (mut producer, mut consumer) = model::ring(4);
        let sender = thread::spawn(move || push(&mut producer, 1));
        if consumer.is_ready() {
            is_cell(&try_pop(&mut consumer).expect("it is ready"), 1);
        }
        sender.join().expect("the sender ends");
    });
}

#[test]
fn buffers_returned_by_two_threads_are_reclaimed_once_each() {
    explore(Some(3), || {
        let (returns, mut reclaims) = model::free_queue();
        let returns = loom::sync::Arc::new(returns);
        let other = returns.clone();
        let one = thread::spawn(move || returns.push(1, 10));
        let two = thread::spawn(move || {
            other.push(2, 20);
            other.push(3, 30);
        });
        let mut reclaimed = Vec::new();
        while reclaimed.len() < 3 {
            match reclaims.try_pop().expect("an honest receiver") {
                Some(returned) => reclaimed.push(returned),
                None => thread::yield_now(),
            }
        }
        assert_eq!(reclaims.try_pop(), Ok(None));
        let at = |returned| reclaimed.iter().position(|found| *found == returned);
        assert!(at((1, 10)).is_some(), "{reclaimed:?}");
        assert!(at((2, 20)) < at((3, 30)) && at((2, 20)).is_some(), "{reclaimed:?}");
        one.join().expect("it ends");
        two.join().expect("it ends");
    });
}

#[test]
fn a_returned_buffers_last_reads_come_before_its_next_writes() {
    explore(None, || {
        let (returns, mut reclaims) = model::free_queue();
        // Loom's cell panics if an access is not ordered after the other's.
        let buffer = loom::sync::Arc::new(loom::cell::UnsafeCell::new(7));
        let read = buffer.clone();
        let receiver = thread::spawn(move || {
            // SAFETY: the owner does not write before this side has returned it; loom checks that.
            read.with(|bytes| assert_eq!(unsafe { *bytes }, 7));
            returns.push(0, 0);
        });
        if reclaims.try_pop().expect("an honest receiver").is_some() {
            // SAFETY: the receiver has returned it; loom checks that too.
            buffer.with_mut(|bytes| unsafe { *bytes = 8 });
        }
        receiver.join().expect("it ends");
    });
}
