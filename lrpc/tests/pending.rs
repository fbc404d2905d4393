//! Calls that are started and awaited apart, and answered later.

use std::cell::RefCell;
use std::time::Duration;

use lrpc::{A_STACKS, Answer, Binding, Later, Outcome, Reason, Server, UnknownReason};
use unet::Wait;

mod support;
use support::{address, bind_beside, export, serve_all};

lrpc::interface! {
    /// What the tests call.
    pub Desk = "desk", version 1 {
        /// Twice as much.
        Double(u64) -> u64;
        /// Answered when the test wants it.
        Put(u64) -> u64;
        /// Answered as it says.
        Fare(u8) -> u64;
    }
}

// Server and client of a test are one thread.
thread_local! {
    static PUT: RefCell<Vec<(Later<Put>, u64)>> = const { RefCell::new(Vec::new()) };
    static DOUBLED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

fn desk(test: &str) -> (Server<Desk>, Binding<Desk>) {
    let address = address(test);
    let server = export::<Desk>(&address, Wait::Adaptive)
        .on::<Double>(|_, number| {
            DOUBLED.with_borrow_mut(|doubled| doubled.push(number));
            Ok(number * 2)
        })
        .on_answering::<Put>(|call, number| {
            PUT.with_borrow_mut(|put| put.push((call.later(), number)));
            Answer::Later
        })
        .on_answering::<Fare>(|_, how| match how {
            0 => Answer::Results(0),
            1 => Answer::Refused(Reason::Overloaded),
            2 => Answer::Refused(Reason::TooLate),
            3 => Answer::Failed,
            _ => Answer::ResultsTooLarge,
        });
    let binding = bind_beside(&server, &address, Wait::Adaptive);
    (server, binding)
}

fn results<T>(outcome: Outcome<lrpc::Reply<T>>) -> Outcome<T> {
    outcome.map(|reply| reply.results)
}

#[test]
fn calls_under_way_are_taken_in_any_order() {
    let (server, binding) = desk("any-order");
    let mut calls: Vec<_> =
        (0..A_STACKS as u64).map(|n| binding.start::<Double>(&n, None).expect("sent")).collect();
    let none_left = binding.start::<Double>(&9, None).err();
    assert_eq!(none_left, Some(Reason::NoAStack));
    assert!(calls[3].try_take().is_none());
    serve_all(&server);
    for n in [5, 0, 7, 1, 2, 6, 3] {
        let outcome = calls[n].try_take().map(results);
        assert_eq!(outcome, Some(Outcome::Executed(2 * n as u64)));
        assert!(calls[n].try_take().is_none(), "an outcome is given once");
    }
    assert_eq!(results(calls.remove(4).wait()), Outcome::Executed(8));
}

#[test]
fn what_is_dropped_is_executed_and_its_a_stack_comes_back() {
    let (server, binding) = desk("dropped");
    for round in 0..3 * A_STACKS as u64 {
        if round % 2 == 0 {
            drop(binding.start::<Double>(&round, None).expect("there is an A-stack"));
        } else {
            binding.call_one_way::<Double>(&round, None).expect("there is an A-stack");
        }
        serve_all(&server);
    }
    DOUBLED.with_borrow(|doubled| assert_eq!(doubled.len(), 3 * A_STACKS));
}

#[test]
fn calls_are_answered_later_in_any_order_and_not_to_the_dead() {
    let (server, binding) = desk("later");
    let mut calls: Vec<_> = (0..3).map(|n| binding.start::<Put>(&n, None).expect("sent")).collect();
    serve_all(&server);
    let mut put = PUT.take();
    assert!(calls.iter_mut().all(|call| call.try_take().is_none()));
    put.reverse();
    for (later, number) in put {
        server.answer_later(later, Answer::Results(number + 100), None);
    }
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(results(call.wait()), Outcome::Executed(n as u64 + 100));
    }
    let late = binding.start::<Put>(&9, None).expect("sent");
    serve_all(&server);
    drop(late);
    drop(binding);
    serve_all(&server);
    assert_eq!(server.bindings(), 0);
    for (later, _) in PUT.take() {
        assert!(server.alloc_for(&later, 10).is_err());
        server.answer_later(later, Answer::Results(0), None);
    }
}

#[test]
fn a_handler_says_what_became_of_the_call() {
    let (server, binding) = desk("fare");
    let fare = |how| binding.call_serving::<Fare, _>(&how, &server);
    assert_eq!(fare(0), Outcome::Executed(0));
    assert_eq!(fare(1), Outcome::Refused(Reason::Overloaded));
    assert_eq!(fare(2), Outcome::Refused(Reason::TooLate));
    assert_eq!(fare(3), Outcome::Unknown(UnknownReason::Failed));
    assert_eq!(fare(4), Outcome::Unknown(UnknownReason::ResultsTooLarge));
    assert_eq!(fare(0), Outcome::Executed(0));
}

#[test]
fn waiting_for_one_ends_in_time_and_when_the_server_does() {
    let (server, binding) = desk("in-time");
    let call = binding.start::<Put>(&1, None).expect("sent");
    let outcome = results(call.wait_timeout(Duration::from_millis(5)));
    assert_eq!(outcome, Outcome::Unknown(UnknownReason::TimedOut));
    let call = binding.start::<Put>(&1, None).expect("sent");
    drop(server);
    assert!(matches!(call.wait(), Outcome::Unknown(UnknownReason::Closed(_))));
    let after = binding.start::<Put>(&1, None).err();
    assert!(matches!(after, Some(Reason::Closed(_))));
}
