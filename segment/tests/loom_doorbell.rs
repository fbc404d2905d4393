//! Every interleaving of falling asleep and being woken: no wake-up is lost.
//!
//! The sender publishes and then looks whether the other sleeps; the sleeper announces its sleep and
//! then looks whether something was published. Both looking too early is the lost wake-up. It is
//! forbidden by a fence on the sender's side, or by membarrier(2) on the sleeper's.
//!
//! membarrier is modelled as what it promises: between its call and its return, every running thread
//! of the other process executes a full fence at some point of its program. Here the sleeper raises
//! a request; the sender, at every point between its operations, may see it, executes the fence and
//! acknowledges; and so does its end, for a thread that does not run has passed a fence. What the
//! real system call does within an operation (between the words of a slot, none of which the
//! sleeper reads before the last) is no different from before it.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering, fence};
use loom::thread;
use segment::doorbell::{Bell, Sleeper};
use segment::model;
use segment::ring::{Cell, Consumer, Popped, Producer};

fn cell() -> Cell {
    let mut cell = Cell::new(0);
    assert!(cell.append(&[1; 8]), "eight bytes fit");
    cell
}

fn take(consumer: &mut Consumer) -> bool {
    let mut taken = Cell::new(0);
    let popped = consumer.try_pop(&mut taken).expect("an honest producer");
    let there = popped != Popped::Nothing;
    assert_eq!(there, taken.len() == 8);
    there
}

/// One side's interruption by the other's membarrier.
#[derive(Clone)]
struct Membarrier {
    requested: Arc<AtomicBool>,
    acknowledged: Arc<AtomicBool>,
}

impl Membarrier {
    fn new() -> Self {
        Self {
            requested: Arc::new(AtomicBool::new(false)),
            acknowledged: Arc::new(AtomicBool::new(false)),
        }
    }

    /// The system call.
    fn call(&self) {
        fence(Ordering::SeqCst);
        self.requested.store(true, Ordering::Relaxed);
        while !self.acknowledged.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        fence(Ordering::SeqCst);
    }

    /// A point of the other's program at which the interruption may come.
    fn point(&self) {
        if self.requested.load(Ordering::Relaxed) {
            self.end();
        }
    }

    /// The other's program is over, or the interruption is here.
    fn end(&self) {
        fence(Ordering::SeqCst);
        self.acknowledged.store(true, Ordering::Relaxed);
    }
}

/// Announces sleep, orders it by `barrier`, looks: whether it would fall asleep.
fn falls_asleep(
    sleeper: &mut Sleeper,
    consumer: &Consumer,
    barrier: impl FnOnce(&Sleeper),
) -> bool {
    sleeper.arm();
    barrier(sleeper);
    !consumer.is_ready()
}

/// Publishes and looks: whether it would ring.
fn rings(producer: &mut Producer, bell: &Bell, mut point: impl FnMut()) -> bool {
    point();
    producer.try_push(&cell()).expect("there is room");
    point();
    let armed = model::look(bell);
    point();
    armed != 0
}

fn with_fence(sender_fences: bool) {
    loom::model(move || {
        let (mut producer, consumer) = model::ring(2);
        let (bell, mut sleeper) = model::doorbell(sender_fences);
        let sender = thread::spawn(move || rings(&mut producer, &bell, || {}));
        let asleep = falls_asleep(&mut sleeper, &consumer, Sleeper::settle);
        let rung = sender.join().expect("the sender ends");
        assert!(rung || !asleep, "a wake-up is lost");
    });
}

#[test]
fn with_the_senders_fence_no_wake_up_is_lost() {
    with_fence(true);
}

#[test]
#[should_panic(expected = "a wake-up is lost")]
fn without_any_barrier_on_the_senders_side_the_model_finds_the_lost_wake_up() {
    with_fence(false);
}

fn with_membarrier(sleeper_calls: bool) {
    loom::model(move || {
        let (mut producer, consumer) = model::ring(2);
        let (bell, mut sleeper) = model::doorbell(false);
        let membarrier = Membarrier::new();
        let interrupted = membarrier.clone();
        let sender = thread::spawn(move || {
            let rung = rings(&mut producer, &bell, || interrupted.point());
            interrupted.end();
            rung
        });
        let asleep = falls_asleep(&mut sleeper, &consumer, |sleeper| {
            sleeper.settle();
            if sleeper_calls {
                membarrier.call();
            }
        });
        let rung = sender.join().expect("the sender ends");
        assert!(rung || !asleep, "a wake-up is lost");
    });
}

#[test]
fn with_the_sleepers_membarrier_no_wake_up_is_lost() {
    with_membarrier(true);
}

#[test]
#[should_panic(expected = "a wake-up is lost")]
fn without_the_sleepers_membarrier_the_model_finds_the_lost_wake_up() {
    with_membarrier(false);
}

#[test]
fn who_wakes_by_itself_and_sleeps_again_is_rung_for_the_second_sleep() {
    // Two messages, two sleeps: the sender's memory of having rung must not hide the second.
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let (mut producer, mut consumer) = model::ring(2);
        let (bell, mut sleeper) = model::doorbell(true);
        let sender = thread::spawn(move || {
            let mut rung = 0;
            for _ in 0..2 {
                producer.try_push(&cell()).expect("there is room");
                rung = model::look(&bell).max(rung);
            }
            rung
        });
        let mut received = 0;
        let mut asleep_in = None;
        for epoch in 1..=2u64 {
            if falls_asleep(&mut sleeper, &consumer, Sleeper::settle) {
                asleep_in = Some(epoch);
                break;
            }
            sleeper.disarm();
            while take(&mut consumer) {
                received += 1;
            }
        }
        let rung = sender.join().expect("the sender ends");
        // Asleep with nothing outstanding needs no bell.
        if let Some(epoch) = asleep_in.filter(|_| received < 2) {
            assert_eq!(rung, epoch, "a wake-up is lost");
        }
    });
}

#[test]
fn two_channels_are_settled_by_one_membarrier() {
    // An endpoint arms many and settles once.
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let membarrier = Membarrier::new();
        let mut sleepers = Vec::new();
        let (producers, consumers): (Vec<_>, Vec<_>) = (0..2).map(|_| model::ring(2)).unzip();
        let mut bells = Vec::new();
        for _ in 0..2 {
            let (bell, sleeper) = model::doorbell(false);
            bells.push(bell);
            sleepers.push(sleeper);
        }
        let interrupted = membarrier.clone();
        // One process sends on both.
        let sender = thread::spawn(move || {
            let ends = producers.into_iter().zip(bells);
            let rung: Vec<bool> = ends
                .map(|(mut producer, bell)| rings(&mut producer, &bell, || interrupted.point()))
                .collect();
            interrupted.end();
            rung
        });
        sleepers.iter_mut().for_each(Sleeper::arm);
        membarrier.call();
        let asleep: Vec<bool> = consumers.iter().map(|consumer| !consumer.is_ready()).collect();
        let rung = sender.join().expect("the sender ends");
        for (rung, asleep) in rung.iter().zip(&asleep) {
            assert!(*rung || !*asleep, "a wake-up is lost");
        }
    });
}

#[test]
fn who_closes_is_seen_to_have_closed_after_its_last_message() {
    loom::model(|| {
        let (mut producer, mut consumer) = model::ring(2);
        let (bell, mut sleeper) = model::doorbell(true);
        // The side that closes: it sends, and its own armed word says farewell.
        let closer = thread::spawn(move || {
            producer.try_push(&cell()).expect("there is room");
            sleeper.close();
        });
        if bell.peer_has_closed() {
            assert!(take(&mut consumer), "the last message came before the farewell");
        }
        closer.join().expect("it ends");
    });
}
