//! Random calls over two bindings, against a model of what may become of them.
//!
//! Every call has a number of its own, which the server writes down when it executes it. So whatever
//! the outcome said can be checked against what was done: executed is exactly once, refused is never,
//! and a call that was given up is executed once all the same, for the server lives.

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lrpc::{A_STACKS, Binding, Outcome, Reason, Server, UnknownReason};
use support::{Random, WAITS, address, bind, bind_beside, export, serve_all};
use unet::{Address, Wait};

lrpc::interface! {
    /// Procedures that write down what they did.
    Book = "book", version 1 {
        /// In the message.
        Small([u64; 2]) -> [u64; 2];
        /// In the A-stack.
        Large([u64; 40]) -> [u64; 40];
        /// Little in, much out.
        Grow([u64; 1]) -> [u64; 40];
        /// Declines when asked to, and writes nothing down.
        Decline([u64; 2]) -> [u64; 2];
        /// Sends the buffer back that it got.
        Bulk([u64; 1]) -> [u64; 1];
    }
}

/// The kinds of calls, each one of the procedures.
const KINDS: usize = 5;
const NUMBER: u16 = 77;

/// How often each call was executed.
type Done = Arc<Mutex<BTreeMap<u64, u32>>>;

fn book(address: &Address, wait: Wait) -> (Server<Book>, Done) {
    let done = Done::default();
    let writing = || {
        let done = done.clone();
        move |number| *done.lock().expect("no panic").entry(number).or_default() += 1
    };
    let (small, large, grow, bulk) = (writing(), writing(), writing(), writing());
    let server = export::<Book>(address, wait)
        .on::<Small>(move |_, [number, other]| {
            small(number);
            Ok([other, number])
        })
        .on::<Large>(move |_, mut numbers| {
            large(numbers[0]);
            numbers.reverse();
            Ok(numbers)
        })
        .on::<Grow>(move |_, [number]| {
            grow(number);
            Ok([number; 40])
        })
        .on::<Decline>(|_, _| Err(NUMBER))
        .on::<Bulk>(move |call, [number]| {
            bulk(number);
            let taken = call.take_bulk().ok_or(1u16)?.to_vec().map_err(|_| 2u16)?;
            let mut reply = call.alloc(taken.len()).map_err(|_| 2u16)?;
            reply.copy_from_slice(&taken);
            call.reply_with(reply.freeze());
            Ok([number])
        });
    (server, done)
}

/// The way a call is made.
trait Way {
    fn call<P: lrpc::Procedure<Interface = Book>>(
        &self,
        binding: &Binding<Book>,
        arguments: &P::Arguments,
    ) -> Outcome<P::Results>;
}

/// Given up at once, or after a while.
struct GiveUp(Duration);

impl Way for GiveUp {
    fn call<P: lrpc::Procedure<Interface = Book>>(
        &self,
        binding: &Binding<Book>,
        arguments: &P::Arguments,
    ) -> Outcome<P::Results> {
        binding.call_timeout::<P>(arguments, self.0)
    }
}

/// Waited for, while this thread serves.
struct Serving<'a>(&'a Server<Book>);

impl Way for Serving<'_> {
    fn call<P: lrpc::Procedure<Interface = Book>>(
        &self,
        binding: &Binding<Book>,
        arguments: &P::Arguments,
    ) -> Outcome<P::Results> {
        binding.call_serving::<P, _>(arguments, self.0)
    }
}

/// Makes a call of a kind, and checks its results if there are any.
fn call(way: &impl Way, binding: &Binding<Book>, kind: usize, number: u64) -> Outcome<()> {
    match kind {
        0 => {
            let outcome = way.call::<Small>(binding, &[number, !number]);
            outcome.map(|results| assert_eq!(results, [!number, number]))
        }
        1 => {
            let numbers: [u64; 40] = std::array::from_fn(|at| number + (at as u64) * 1_000_000);
            let mut reversed = numbers;
            reversed.reverse();
            way.call::<Large>(binding, &numbers).map(|results| assert_eq!(results, reversed))
        }
        2 => {
            let outcome = way.call::<Grow>(binding, &[number]);
            outcome.map(|results| assert_eq!(results, [number; 40]))
        }
        3 => way.call::<Decline>(binding, &[number, 0]).map(|_| panic!("it declines")),
        _ => bulk(binding, number),
    }
}

/// By a binding whose server is another thread's.
fn bulk(binding: &Binding<Book>, number: u64) -> Outcome<()> {
    let len = 8 + (number as usize * 7919) % 60_000;
    // The server may hold buffers of calls that were given up; then there is none.
    let Ok(mut fbuf) = binding.alloc(len) else {
        return Outcome::Refused(Reason::QueueFull);
    };
    fbuf.fill(number as u8);
    fbuf[..8].copy_from_slice(&number.to_le_bytes());
    binding.call_bulk::<Bulk>(&[number], Some(fbuf.freeze())).map(|reply| {
        assert_eq!(reply.results, [number]);
        let bytes = reply.bulk.expect("it comes back").to_vec().expect("nothing was revoked");
        assert_eq!(bytes.len(), len);
        assert_eq!(bytes[..8], number.to_le_bytes());
        assert!(bytes[8..].iter().all(|byte| *byte == number as u8));
    })
}

/// What the outcomes said: how often each call must have been executed.
#[derive(Default)]
struct Said(BTreeMap<u64, u32>);

impl Said {
    fn note(&mut self, kind: usize, number: u64, outcome: &Outcome<()>) {
        let times = match outcome {
            Outcome::Executed(()) => 1,
            Outcome::Refused(Reason::Declined(NUMBER)) if kind == 3 => 0,
            Outcome::Refused(Reason::NoAStack | Reason::QueueFull) => 0,
            Outcome::Unknown(UnknownReason::TimedOut) if kind == 3 => 0,
            Outcome::Unknown(UnknownReason::TimedOut) => 1,
            other => panic!("call {number} of kind {kind}: {other:?}"),
        };
        if times > 0 {
            self.0.insert(number, times);
        }
    }

    fn is_what_was(&self, done: &Done, what: &str) {
        assert_eq!(*done.lock().expect("no panic"), self.0, "{what}");
    }
}

/// On one thread nothing is left to chance but the seed, so the model knows every outcome: calls that
/// were given up hold their A-stacks until the server has got to them.
#[test]
fn every_outcome_on_one_thread_is_what_the_model_says() {
    for seed in 0..15 {
        let mut random = Random::new(seed);
        let address = address("model");
        // A park without patience gives up before it looks.
        let wait = Wait::Park;
        let (server, done) = book(&address, wait);
        let bindings = [0, 1].map(|_| bind_beside::<Book>(&server, &address, wait));
        let mut said = Said::default();
        // By binding and kind: calls that were given up, and the server has not got to.
        let mut waiting = [[0usize; KINDS]; 2];
        for number in 0..400 {
            let what = format!("seed {seed}, call {number}");
            let (at, kind) = (random.below(2), random.below(KINDS - 1));
            let full = waiting[at][kind] == A_STACKS;
            let outcome = match random.below(8) {
                0 => {
                    serve_all(&server);
                    waiting = Default::default();
                    continue;
                }
                1 | 2 => {
                    let outcome = call(&Serving(&server), &bindings[at], kind, number);
                    if !full {
                        // Those before it on its channel were served before it; of the other's
                        // none or some.
                        serve_all(&server);
                        waiting = Default::default();
                        let expected = match kind {
                            3 => Outcome::Refused(Reason::Declined(NUMBER)),
                            _ => Outcome::Executed(()),
                        };
                        assert_eq!(outcome, expected, "{what}");
                    }
                    outcome
                }
                _ => {
                    let way = GiveUp(Duration::ZERO);
                    let outcome = call(&way, &bindings[at], kind, number);
                    if !full {
                        waiting[at][kind] += 1;
                        assert_eq!(outcome, Outcome::Unknown(UnknownReason::TimedOut), "{what}");
                    }
                    outcome
                }
            };
            if full {
                assert_eq!(outcome, Outcome::Refused(Reason::NoAStack), "{what}");
            }
            said.note(kind, number, &outcome);
        }
        serve_all(&server);
        said.is_what_was(&done, &format!("seed {seed}"));
        for binding in &bindings {
            for kind in 0..KINDS - 1 {
                let outcome = call(&Serving(&server), binding, kind, 1_000 + kind as u64);
                assert!(matches!(outcome, Outcome::Executed(()) | Outcome::Refused(_)));
            }
            assert_eq!(binding.closed(), None);
        }
    }
}

/// With a server of its own thread time decides; the outcomes must still be the truth.
#[test]
fn every_outcome_beside_a_server_is_the_truth() {
    for wait in WAITS {
        for seed in 0..6 {
            let what = format!("seed {seed}, {wait:?}");
            let address = address("model-beside");
            let (server, done) = book(&address, wait);
            let end = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let end = &end;
                scope.spawn(move || {
                    let mut random = Random::new(!seed);
                    while !end.load(Ordering::Relaxed) {
                        server.serve_timeout(Duration::from_millis(1));
                        if random.below(50) == 0 {
                            // So that some are given up.
                            std::thread::sleep(Duration::from_micros(300));
                        }
                    }
                });
                let _end = End(end);
                let bindings = [0, 1].map(|_| bind::<Book>(&address, wait));
                let mut random = Random::new(seed);
                let mut said = Said::default();
                for number in 0..600 {
                    let (at, kind) = (random.below(2), random.below(KINDS));
                    let patience = match random.below(4) {
                        0 => Duration::ZERO,
                        1 => Duration::from_micros(random.below(100) as u64),
                        _ => support::PATIENCE,
                    };
                    let outcome = call(&GiveUp(patience), &bindings[at], kind, number);
                    said.note(kind, number, &outcome);
                }
                // A last call by each stands behind whatever was given up.
                for binding in &bindings {
                    let way = GiveUp(support::PATIENCE);
                    support::eventually("there is an A-stack again", || {
                        let outcome = way.call::<Decline>(binding, &[0, 0]);
                        outcome == Outcome::Refused(Reason::Declined(NUMBER))
                    });
                    support::eventually("all buffers come back", || {
                        let _ = way.call::<Decline>(binding, &[0, 0]);
                        let (free, lent, total) = binding.buffers();
                        (free, lent) == (total, 0)
                    });
                    assert_eq!(binding.closed(), None, "{what}");
                }
                said.is_what_was(&done, &what);
            });
        }
    }
}

/// So that a test that fails ends its server too.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
