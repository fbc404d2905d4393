//! A server that replies what no honest one would, to a client that is also bound to an honest one.
//!
//! Whatever it says, the call ends with the named outcome, what was said is counted by the client, and
//! the other binding does not notice.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lrpc::{A_STACKS, BindError, BindOptions, Binding, Outcome, Procedure, Reason, UnknownReason};
use support::raw::{
    self, BAD_ARGUMENTS, DECLINED, EXECUTED, IN_A_STACK, NOT_SERVED, Word, message,
};
use support::{Random, WAITS, address, beside, bind, bind_beside, bind_options, export};
use unet::{
    Address, Channel, CloseReason, Delivery, Endpoint, EndpointOptions, Event, Fault,
    ListenOptions, Offer, Wait,
};

lrpc::interface! {
    /// What is lied about.
    Target = "target", version 1 {
        /// Nothing.
        Null(()) -> ();
        /// A number; it needs no A-stack.
        Number(()) -> u64;
        /// Not every byte is a boolean.
        Truth(()) -> bool;
        /// The same, in an A-stack.
        Truths(()) -> [bool; 100];
        /// Of another A-stack.
        Large(()) -> [u8; 1000];
    }
}

const AREA: u32 = 8 * (128 + 1024);
/// Where the A-stacks of `Truths` begin, which are the first.
const TRUTHS: usize = 0;

/// A server that answers each call with whatever `script` sends. Ends when dropped.
struct Liar<'a> {
    done: &'a AtomicBool,
}

impl Drop for Liar<'_> {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}

/// Does something as a client of a liar.
fn with_liar<T>(
    area_bytes: u32,
    script: impl FnMut(&mut Channel, &mut Delivery) + Send,
    client: impl FnOnce(&Address) -> T,
) -> T {
    with_liar_saying(area_bytes, |_| {}, script, client)
}

/// As [`with_liar`], of one that speaks unasked as soon as it has accepted.
fn with_liar_saying<T>(
    area_bytes: u32,
    mut first: impl FnMut(&mut Channel) + Send,
    mut script: impl FnMut(&mut Channel, &mut Delivery) + Send,
    client: impl FnOnce(&Address) -> T,
) -> T {
    let address = address("hostile-server");
    let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("an endpoint");
    let mut options = ListenOptions::default();
    options.channel.geometry = unet::Geometry { slots: 64, area_bytes, ..support::small() };
    endpoint.listen(&address, options).expect("the name is free");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let done = &done;
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                match endpoint.recv_timeout(Duration::from_millis(1)) {
                    Some(Event::Incoming(incoming)) => {
                        // The client may not like what it is offered.
                        if let Ok(id) = endpoint.accept(incoming, b"") {
                            first(endpoint.channel_mut(id).expect("just accepted"));
                        }
                    }
                    Some(Event::Message(id, mut message)) => {
                        let channel = endpoint.channel_mut(id).expect("it just spoke");
                        script(channel, &mut message);
                    }
                    Some(Event::Closed(..)) | None => {}
                    other => panic!("not to happen: {other:?}"),
                }
            }
        });
        let _liar = Liar { done };
        client(&address)
    })
}

const POISONED: CloseReason = CloseReason::Poisoned(Fault::Protocol);

/// What came of one call of a liar: the liar must have been found out.
fn is_poisoned<T: std::fmt::Debug + PartialEq>(
    what: &str,
    binding: &Binding<Target>,
    outcome: &Outcome<T>,
) {
    assert_eq!(*outcome, Outcome::Unknown(UnknownReason::Closed(POISONED)), "{what}");
    assert_eq!(binding.closed(), Some(POISONED), "{what}");
    for fault in Fault::ALL {
        let expected = u64::from(fault == Fault::Protocol);
        let counted = binding.with_counters(|counters| counters.faults(fault));
        assert_eq!(counted, expected, "{} after {what}", fault.name());
    }
    let closed = Reason::Closed(POISONED);
    assert_eq!(binding.call::<Null>(&()), Outcome::Refused(closed), "{what}");
    let (free, lent, total) = binding.buffers();
    assert_eq!((free, lent), (total, 0), "{what}");
}

/// An honest server, on a thread of its own, for the length of `test`.
fn beside_an_honest_one(test: impl FnOnce(&Binding<Target>) + Send) {
    let address = address("honest");
    let server = export::<Target>(&address, Wait::Park)
        .on::<Null>(|_, ()| Ok(()))
        .on::<Number>(|_, ()| Ok(7));
    let honest = bind_beside::<Target>(&server, &address, Wait::Park);
    beside(&server, move || {
        test(&honest);
        assert_eq!(honest.call::<Number>(&()), Outcome::Executed(7));
        assert_eq!(honest.closed(), None);
    });
}

type Lie = fn(&mut Channel, u16, Word);

/// Lies about a call of `P`, told by a liar with as large an area as it should have.
fn lies<P>(table: &[(&str, Lie)])
where
    P: Procedure<Interface = Target, Arguments = ()>,
    P::Results: std::fmt::Debug + PartialEq,
{
    beside_an_honest_one(|honest| {
        for (at, (what, lie)) in table.iter().enumerate() {
            let wait = WAITS[at % 3];
            let tell = |channel: &mut Channel, message: &mut Delivery| {
                lie(channel, message.tag(), Word::of(message));
            };
            with_liar(AREA, tell, |address| {
                let binding = bind::<Target>(address, wait);
                is_poisoned(what, &binding, &binding.call::<P>(&()));
            });
            assert_eq!(honest.call::<Number>(&()), Outcome::Executed(7), "{what}");
        }
    });
}

fn say(channel: &mut Channel, status: u16, word: Word, rest: &[u8]) {
    raw::send(channel, status, &message(word, rest));
}

#[test]
fn a_reply_to_no_call_poisons() {
    lies::<Null>(&[
        ("the next number", |channel, _, word| {
            say(channel, EXECUTED, Word { number: word.number + 1, ..word }, &[]);
        }),
        ("the number before", |channel, _, word| {
            say(channel, EXECUTED, Word { number: word.number.wrapping_sub(1), ..word }, &[]);
        }),
        ("a refusal by another number", |channel, _, word| {
            say(channel, NOT_SERVED, Word { number: !word.number, ..word }, &[]);
        }),
        ("another A-stack", |channel, _, word| {
            say(channel, EXECUTED, Word { a_stack: word.a_stack + 1, ..word }, &[]);
        }),
        ("an A-stack of another procedure", |channel, _, word| {
            say(channel, EXECUTED, Word { a_stack: word.a_stack + 8, ..word }, &[]);
        }),
        ("the first A-stack that is none", |channel, _, word| {
            say(channel, EXECUTED, Word { a_stack: 5 * A_STACKS as u16, ..word }, &[]);
        }),
        ("the last A-stack that is none", |channel, _, word| {
            say(channel, EXECUTED, Word { a_stack: u16::MAX, ..word }, &[]);
        }),
    ]);
}

#[test]
fn a_reply_that_is_too_short_for_one_poisons() {
    beside_an_honest_one(|_| {
        for len in 0..8 {
            let short = |channel: &mut Channel, _: &mut Delivery| {
                raw::send(channel, EXECUTED, &[0; 8][..len]);
            };
            with_liar(AREA, short, |address| {
                let binding = bind::<Target>(address, Wait::Adaptive);
                is_poisoned(&format!("{len} bytes"), &binding, &binding.call::<Null>(&()));
            });
        }
    });
}

#[test]
fn a_status_that_is_none_poisons() {
    beside_an_honest_one(|_| {
        for status in [9, 10, 0x7f, 0x80, 0xff] {
            let strange = |channel: &mut Channel, message: &mut Delivery| {
                say(channel, status, Word::of(message), &[]);
            };
            with_liar(AREA, strange, |address| {
                let binding = bind::<Target>(address, Wait::Adaptive);
                is_poisoned(&format!("status {status}"), &binding, &binding.call::<Null>(&()));
            });
        }
    });
}

#[test]
fn every_status_that_is_one_is_told_as_such() {
    let cases = [
        (NOT_SERVED, Outcome::Refused(Reason::NotServed)),
        (BAD_ARGUMENTS, Outcome::Refused(Reason::BadArguments)),
        (3, Outcome::Refused(Reason::TooDeep)),
        (4, Outcome::Unknown(UnknownReason::Failed)),
        (5, Outcome::Refused(Reason::Overloaded)),
        (6, Outcome::Refused(Reason::TooLate)),
        (7, Outcome::Unknown(UnknownReason::ResultsTooLarge)),
        (8, Outcome::Refused(Reason::Stopping)),
        (DECLINED, Outcome::Refused(Reason::Declined(0))),
        (DECLINED + 7, Outcome::Refused(Reason::Declined(7))),
        (u16::MAX, Outcome::Refused(Reason::Declined(65_279))),
        (EXECUTED, Outcome::Executed(())),
    ];
    let mut next = cases.iter();
    let script = |channel: &mut Channel, message: &mut Delivery| {
        let (status, _) = next.next().expect("one for each call");
        say(channel, *status, Word::of(message), &[]);
    };
    with_liar(AREA, script, |address| {
        let binding = bind::<Target>(address, Wait::Adaptive);
        for (status, outcome) in cases {
            assert_eq!(binding.call::<Null>(&()), outcome, "status {status}");
        }
        assert_eq!(binding.closed(), None);
    });
}

#[test]
fn results_of_the_wrong_length_poison() {
    lies::<Number>(&[
        ("none", |channel, _, word| say(channel, EXECUTED, word, &[])),
        ("one too few", |channel, _, word| say(channel, EXECUTED, word, &[0; 7])),
        ("one too many", |channel, _, word| say(channel, EXECUTED, word, &[0; 9])),
        ("as many as there is room for", |channel, _, word| {
            say(channel, EXECUTED, word, &[0; 48]);
        }),
    ]);
    lies::<Null>(&[("one where none are", |channel, _, word| say(channel, EXECUTED, word, &[0]))]);
    lies::<Large>(&[("in the message, not the A-stack", |channel, _, word| {
        say(channel, EXECUTED, word, &[0; 48]);
    })]);
}

#[test]
fn results_that_are_no_value_poison() {
    lies::<Truth>(&[
        ("2", |channel, _, word| say(channel, EXECUTED, word, &[2])),
        ("255", |channel, _, word| say(channel, EXECUTED, word, &[255])),
    ]);
    lies::<Truths>(&[
        ("the last one", |channel, _, word| {
            let offset = TRUTHS + 128 * usize::from(word.a_stack - 3 * 8) + 99;
            channel.area_mut()[offset] = 2;
            say(channel, EXECUTED, Word { flags: IN_A_STACK, ..word }, &[]);
        }),
        ("all", |channel, _, word| {
            channel.area_mut().fill(0xff);
            say(channel, EXECUTED, Word { flags: IN_A_STACK, ..word }, &[]);
        }),
    ]);
}

#[test]
fn results_in_an_a_stack_that_the_procedure_has_not_poison() {
    lies::<Number>(&[("in none", |channel, _, word| {
        say(channel, EXECUTED, Word { flags: IN_A_STACK, ..word }, &[0; 8]);
    })]);
}

#[test]
fn unknown_flags_in_a_reply_poison() {
    lies::<Number>(&[
        ("2", |channel, _, word| say(channel, EXECUTED, Word { flags: 2, ..word }, &[0; 8])),
        ("0x8000", |channel, _, word| {
            say(channel, EXECUTED, Word { flags: 0x8000, ..word }, &[0; 8]);
        }),
    ]);
    lies::<Truths>(&[("3", |channel, _, word| {
        say(channel, EXECUTED, Word { flags: 3, ..word }, &[]);
    })]);
}

#[test]
fn a_second_reply_poisons_at_the_next_call() {
    for second in [EXECUTED, NOT_SERVED] {
        let twice = |channel: &mut Channel, message: &mut Delivery| {
            say(channel, EXECUTED, Word::of(message), &[]);
            say(channel, second, Word::of(message), &[]);
        };
        with_liar(AREA, twice, |address| {
            let binding = bind::<Target>(address, Wait::Adaptive);
            assert_eq!(binding.call::<Null>(&()), Outcome::Executed(()));
            is_poisoned("a second reply", &binding, &binding.call::<Null>(&()));
        });
    }
}

#[test]
fn a_reply_before_any_call_poisons_the_first() {
    let unasked = |channel: &mut Channel| {
        say(channel, EXECUTED, Word::new(0, 0, 0), &[]);
    };
    with_liar_saying(
        AREA,
        unasked,
        |_, _| {},
        |address| {
            let binding = bind::<Target>(address, Wait::Adaptive);
            is_poisoned("unasked", &binding, &binding.call::<Null>(&()));
        },
    );
}

#[test]
fn a_late_reply_is_dropped_once_and_poisons_twice() {
    let mut held: Vec<Word> = Vec::new();
    // Holds the first reply back until the second call, and gives it twice with the third.
    let late = |channel: &mut Channel, message: &mut Delivery| {
        held.push(Word::of(message));
        match held.len() {
            1 => {}
            2 => {
                say(channel, EXECUTED, held[0], &[]);
                say(channel, EXECUTED, held[1], &[]);
            }
            _ => say(channel, EXECUTED, held[0], &[]),
        }
    };
    with_liar(AREA, late, |address| {
        let binding = bind::<Target>(address, Wait::Adaptive);
        let outcome = binding.call_timeout::<Null>(&(), Duration::from_millis(5));
        assert_eq!(outcome, Outcome::Unknown(UnknownReason::TimedOut));
        assert_eq!(binding.call::<Null>(&()), Outcome::Executed(()));
        is_poisoned("late, twice", &binding, &binding.call::<Null>(&()));
    });
}

#[test]
fn late_replies_twice_are_found_out_when_all_a_stacks_are_taken() {
    let mut held: Vec<Word> = Vec::new();
    let all = AtomicBool::new(false);
    let (told, all) = (&all, &all);
    let late = |channel: &mut Channel, message: &mut Delivery| {
        held.push(Word::of(message));
        if held.len() == A_STACKS {
            say(channel, EXECUTED, held[0], &[]);
            say(channel, EXECUTED, held[0], &[]);
            told.store(true, Ordering::Release);
        }
    };
    with_liar(AREA, late, |address| {
        let binding = bind::<Target>(address, Wait::Park);
        for _ in 0..A_STACKS {
            let outcome = binding.call_timeout::<Null>(&(), Duration::ZERO);
            assert_eq!(outcome, Outcome::Unknown(UnknownReason::TimedOut));
        }
        support::eventually("it lied", || all.load(Ordering::Acquire));
        // One A-stack was given back before the lie; the call on it is not sent any more.
        let outcome = binding.call_timeout::<Null>(&(), Duration::ZERO);
        assert_eq!(outcome, Outcome::Refused(Reason::Closed(POISONED)));
        assert_eq!(binding.with_counters(|counters| counters.faults(Fault::Protocol)), 1);
    });
}

#[test]
fn a_flood_of_replies_poisons_and_ends() {
    let flood = |channel: &mut Channel| {
        while channel.try_send(&[0xff; 48]) == Ok(Offer::Taken) {}
    };
    with_liar_saying(
        AREA,
        flood,
        |channel, _| flood(channel),
        |address| {
            for wait in WAITS {
                let binding = bind::<Target>(address, wait);
                is_poisoned("a flood", &binding, &binding.call::<Null>(&()));
            }
        },
    );
}

#[test]
fn a_server_that_never_replies_costs_its_caller_the_time_and_the_a_stacks_it_gives() {
    with_liar(
        AREA,
        |_, _| {},
        |address| {
            for wait in WAITS {
                let binding = bind::<Target>(address, wait);
                for _ in 0..A_STACKS {
                    let outcome = binding.call_timeout::<Null>(&(), Duration::from_millis(2));
                    assert_eq!(outcome, Outcome::Unknown(UnknownReason::TimedOut));
                }
                assert_eq!(binding.call::<Null>(&()), Outcome::Refused(Reason::NoAStack));
                // Another procedure has its own.
                let outcome = binding.call_timeout::<Number>(&(), Duration::from_millis(2));
                assert_eq!(outcome, Outcome::Unknown(UnknownReason::TimedOut));
                assert_eq!(binding.closed(), None);
            }
        },
    );
}

#[test]
fn a_server_that_takes_no_calls_fills_the_queue_and_blocks_nobody() {
    lrpc::interface! {
        /// As many A-stacks as the smallest queue has slots, and more.
        Two = "two", version 1 { P(()) -> (); Q(()) -> (); }
    }
    let address = address("takes-none");
    let server = export::<Two>(&address, Wait::Park);
    let mut options = bind_options(Wait::Park);
    options.geometry.slots = 8;
    let binding = beside(&server, || Binding::<Two>::bind(&address, options).expect("bound"));
    for _ in 0..8 {
        let outcome = binding.call_timeout::<P>(&(), Duration::ZERO);
        assert_eq!(outcome, Outcome::Unknown(UnknownReason::TimedOut));
    }
    for _ in 0..20 {
        let outcome = binding.call_timeout::<Q>(&(), Duration::ZERO);
        assert_eq!(outcome, Outcome::Refused(Reason::QueueFull));
        let bulk = binding.alloc(10).expect("it comes back each time").freeze();
        let outcome = binding.call_bulk::<Q>(&(), Some(bulk));
        assert!(matches!(outcome, Outcome::Refused(Reason::QueueFull)));
    }
    assert_eq!(binding.with_counters(|counters| counters.get(unet::Counter::QueueFull)), 40);
    let (free, lent, total) = binding.buffers();
    assert_eq!((free, lent), (total, 0));
    let server = server.on::<Q>(|_, ()| Ok(()));
    assert_eq!(binding.call_serving::<P, _>(&(), &server), Outcome::Refused(Reason::NoAStack));
    assert_eq!(binding.call_serving::<Q, _>(&(), &server), Outcome::Refused(Reason::QueueFull));
    support::serve_all(&server);
    assert_eq!(binding.call_serving::<Q, _>(&(), &server), Outcome::Executed(()));
    assert_eq!(binding.call_serving::<P, _>(&(), &server), Outcome::Refused(Reason::NotServed));
}

#[test]
fn a_buffer_that_comes_unasked_goes_back() {
    let generous = |channel: &mut Channel, request: &mut Delivery| {
        let fbuf = channel.alloc(4000).expect("they come back").freeze();
        let word = Word::of(request);
        let sent = channel.try_send_fbuf(EXECUTED, fbuf, &message(word, &[]));
        assert!(matches!(sent, Ok(Offer::Taken)));
    };
    with_liar(AREA, generous, |address| {
        let binding = bind::<Target>(address, Wait::Adaptive);
        // More often than the liar has buffers.
        for _ in 0..100 {
            assert_eq!(binding.call::<Null>(&()), Outcome::Executed(()));
        }
        assert_eq!(binding.closed(), None);
    });
}

#[test]
fn a_server_that_keeps_the_buffers_exhausts_this_binding_and_no_other() {
    beside_an_honest_one(|honest| {
        let mut kept = Vec::new();
        let keep = |channel: &mut Channel, message: &mut Delivery| {
            say(channel, EXECUTED, Word::of(message), &[]);
            kept.push(message.take_fbuf());
        };
        with_liar(AREA, keep, |address| {
            let binding = bind::<Target>(address, Wait::Adaptive);
            for _ in 0..10 {
                let bulk = binding.alloc(4000).expect("a buffer is free").freeze();
                let outcome = binding.call_bulk::<Null>(&(), Some(bulk));
                assert!(matches!(outcome, Outcome::Executed(_)));
            }
            let exhausted = binding.alloc(1).expect_err("the liar has them all");
            assert_eq!(exhausted, unet::AllocError::Exhausted);
            assert_eq!(binding.buffers(), (0, 10, 10));
            assert_eq!(binding.call::<Null>(&()), Outcome::Executed(()));
            drop(honest.alloc(4000).expect("the other binding has its own"));
        });
    });
}

#[test]
fn a_server_with_too_small_an_area_is_not_bound_to() {
    for area_bytes in [0, 64, AREA - 64] {
        with_liar(
            area_bytes,
            |_, _| {},
            |address| {
                let refused = Binding::<Target>::bind(address, BindOptions::default());
                assert_eq!(
                    refused.expect_err("it is too small"),
                    BindError::Protocol,
                    "{area_bytes}"
                );
            },
        );
    }
}

#[test]
fn random_replies_never_do_more_than_end_the_binding() {
    let mut random = Random::new(11);
    for _ in 0..60 {
        let mut seed = Random::new(random.next());
        let script = |channel: &mut Channel, request: &mut Delivery| {
            let honest = Word::of(request);
            for _ in 0..seed.below(3) {
                let word = match seed.below(6) {
                    0 => Word { number: seed.next() as u32, ..honest },
                    1 => Word { a_stack: seed.below(48) as u16, ..honest },
                    2 => Word { flags: seed.below(3) as u16, ..honest },
                    _ => honest,
                };
                let status = if seed.below(4) == 0 { seed.next() as u16 } else { EXECUTED };
                let rest: Vec<u8> = (0..seed.below(12)).map(|_| seed.next() as u8).collect();
                for byte in channel.area_mut().iter_mut().step_by(97) {
                    *byte = seed.next() as u8;
                }
                say(channel, status, word, &rest);
            }
        };
        with_liar(AREA, script, |address| {
            let binding = bind::<Target>(address, Wait::Adaptive);
            let timeout = Duration::from_millis(2);
            for _ in 0..20 {
                let _ = binding.call_timeout::<Null>(&(), timeout);
                let _ = binding.call_timeout::<Number>(&(), timeout);
                let _ = binding.call_timeout::<Truth>(&(), timeout);
                let _ = binding.call_timeout::<Truths>(&(), timeout);
                let _ = binding.call_timeout::<Large>(&(), timeout);
                match binding.closed() {
                    None => {}
                    Some(POISONED) => return,
                    Some(other) => panic!("not for {other}"),
                }
            }
        });
    }
}
