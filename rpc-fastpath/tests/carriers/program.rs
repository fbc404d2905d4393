//! The program: what it expects, it expects over every carrier.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use rpc_fastpath::service::{Caller, Message, Outcome, PendingCall, Reason, UnknownReason};

use crate::carrying::{Carrier, LARGEST, Scene};
use crate::service::{EverywhereService, NotFound, until};

pub fn values_go_there_and_back(carrier: impl Carrier) {
    let Scene { client, running: _running, .. } = carrier.scene();
    for number in 0..200 {
        assert_eq!(client.double(number), Outcome::Executed(number * 2));
    }
    assert_eq!(client.join(vec!["a", "é"], ", "), Outcome::Executed("a, é".into()));
    for len in (0..70).chain(4080..4090).chain([LARGEST - 20]) {
        let part = "x".repeat(len);
        assert!(client.join(vec![&part], "") == Outcome::Executed(part), "{len}");
    }
}

pub fn errors_of_the_service_are_results(carrier: impl Carrier) {
    let Scene { client, running: _running, .. } = carrier.scene();
    assert_eq!(client.find("here"), Outcome::Executed(Ok(7)));
    let gone = NotFound::Gone { since: u64::MAX };
    assert_eq!(client.find("gone"), Outcome::Executed(Err(gone)));
    assert_eq!(client.find("elsewhere"), Outcome::Executed(Err(NotFound::Never)));
}

fn filled(caller: &impl Caller<EverywhereService>, len: usize, value: u8) -> Message {
    let mut buffer = caller.alloc(len).expect("a buffer is free");
    buffer.fill(value);
    buffer.freeze().into()
}

pub fn bulk_goes_there_and_back(carrier: impl Carrier) {
    let Scene { client, running: _running, .. } = carrier.scene();
    for len in [1, 20, 30, 100, 1_000, 5_000, 60_000] {
        for value in 1..5 {
            let bytes = filled(client.caller(), len, value);
            let sum = 3 + len as u64 * u64::from(value);
            assert_eq!(client.sum("key", bytes), Outcome::Executed(sum), "{len}");
            let made = client.make(len as u32, value).executed().expect("executed");
            let made = made.expect("it is made").to_vec().expect("it was not revoked");
            assert!(made == vec![value; len], "{len}");
        }
    }
    assert_eq!(client.sum("none", Message::new()), Outcome::Executed(4));
    let none = client.make(10, 0).executed().expect("executed");
    assert_eq!(none.err(), Some(NotFound::Never));
    let none = client.make(0, 1).executed().expect("executed");
    assert_eq!(none.expect("it is made").len(), 0);
}

pub fn a_panic_fails_its_call_and_no_other(carrier: impl Carrier) {
    let Scene { client, running: _running, .. } = carrier.scene();
    for _ in 0..5 {
        assert_eq!(client.panic(), Outcome::Unknown(UnknownReason::Failed));
        assert_eq!(client.double(2), Outcome::Executed(4));
    }
}

pub fn what_is_too_large_is_told(carrier: impl Carrier) {
    let Scene { client, running: _running, .. } = carrier.scene();
    let long = "x".repeat(LARGEST);
    assert_eq!(client.join(vec![&long], ""), Outcome::Refused(Reason::TooLarge));
    let too_large = Outcome::Unknown(UnknownReason::ResultsTooLarge);
    assert_eq!(client.zeros(LARGEST as u32), too_large);
    assert_eq!(client.zeros(1000), Outcome::Executed(vec![0; 1000]));
}

pub fn one_way_calls_are_executed_once(carrier: impl Carrier) {
    let Scene { client, seen, running: _running } = carrier.scene();
    let mut sent = 0;
    for by in 1..200 {
        match client.count(by) {
            Ok(()) => sent += by,
            Err(why) => assert!(matches!(why, Reason::NoAStack | Reason::Overloaded), "{why}"),
        }
    }
    assert!(sent > 0);
    // What is lost on the way is repeated by who calls again.
    until("all are executed", || {
        match client.counted() {
            Outcome::Executed(counted) => assert!(counted <= sent),
            // As many wait as may.
            other => assert_eq!(other, Outcome::Refused(Reason::Overloaded)),
        }
        seen.counted.load(SeqCst) == sent
    });
    for _ in 0..10 {
        assert_eq!(client.counted(), Outcome::Executed(sent));
    }
}

pub fn calls_are_pipelined(carrier: impl Carrier) {
    let Scene { client, running: _running, .. } = carrier.scene();
    for round in 0..30u64 {
        let calls: Vec<_> =
            (0..7).map(|n| client.start_double(round + n).expect("it is sent")).collect();
        let mut text = client.start_join(vec!["a", "b"], "-").expect("it is sent");
        drop(client.start_zeros(5_000).expect("it is sent"));
        assert_eq!(client.double(round), Outcome::Executed(round * 2));
        for (n, call) in calls.into_iter().enumerate().rev() {
            let outcome = call.wait_timeout(Duration::from_secs(20));
            assert_eq!(outcome, Outcome::Executed((round + n as u64) * 2));
        }
        let mut outcome = None;
        until("it ends", || {
            outcome = text.try_take();
            outcome.is_some()
        });
        assert_eq!(outcome, Some(Outcome::Executed("a-b".into())));
        assert_eq!(text.try_take(), None, "there is no other");
    }
}

pub fn slow_methods_keep_nobody_waiting(carrier: impl Carrier) {
    let Scene { client, seen, running: _running } = carrier.scene();
    let mut slow = client.start_slowly("text").expect("it is sent");
    until("it begins", || {
        assert!(slow.try_take().is_none());
        seen.slow.load(SeqCst) == 1
    });
    for number in 0..50 {
        assert_eq!(client.double(number), Outcome::Executed(number * 2));
    }
    assert!(slow.try_take().is_none());
    let begin = Instant::now();
    let given_up = client.start_slowly("nobody waits").expect("it is sent");
    let outcome = given_up.wait_timeout(Duration::from_millis(30));
    assert_eq!(outcome, Outcome::Unknown(UnknownReason::TimedOut));
    assert!(begin.elapsed() >= Duration::from_millis(30));
    seen.go.store(u64::MAX, SeqCst);
    assert_eq!(slow.wait(), Outcome::Executed("TEXT".into()));
}

pub fn more_slow_calls_than_may_wait_are_refused(carrier: impl Carrier) {
    let Scene { client, seen, running: _running } = carrier.scene();
    let calls: Vec<_> = (0..7).map(|_| client.start_slowly("a").expect("it is sent")).collect();
    // Three have a place, whichever came first; the others are told at once.
    let (mut refused, mut waiting) = (0, calls);
    until("the others are refused", || {
        waiting.retain_mut(|call| match call.try_take() {
            None => true,
            Some(outcome) => {
                assert_eq!(outcome, Outcome::Refused(Reason::Overloaded));
                refused += 1;
                false
            }
        });
        refused == 4
    });
    seen.go.store(u64::MAX, SeqCst);
    for call in waiting {
        assert_eq!(call.wait(), Outcome::Executed("A".into()));
    }
    // Whoever has a reply has the place back.
    for _ in 0..20 {
        assert_eq!(client.slowly("b"), Outcome::Executed("B".into()));
    }
}

pub fn what_workers_panic_with_is_told(carrier: impl Carrier) {
    let Scene { client, seen, running: _running } = carrier.scene();
    seen.go.store(u64::MAX, SeqCst);
    for _ in 0..3 {
        assert_eq!(client.slow_panic(), Outcome::Unknown(UnknownReason::Failed));
        assert_eq!(client.slowly("a"), Outcome::Executed("A".into()));
    }
}

pub fn a_call_whose_deadline_passes_is_not_begun(carrier: impl Carrier) {
    let Scene { client, seen, running: _running } = carrier.scene();
    // A busy machine may need more than one.
    until("one is in time", || client.until(7) == Outcome::Executed(7));
    let in_time = seen.until.load(SeqCst);
    let mut slow = client.start_slowly("text").expect("it is sent");
    until("it begins", || {
        assert!(slow.try_take().is_none());
        seen.slow.load(SeqCst) == 1
    });
    let begin = Instant::now();
    assert_eq!(client.slow_until(8), Outcome::Unknown(UnknownReason::TimedOut));
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    // Over a channel the time counts from when the server took the call: that was before this one.
    assert_eq!(client.double(1), Outcome::Executed(2));
    std::thread::sleep(Duration::from_millis(1_100));
    seen.go.store(u64::MAX, SeqCst);
    assert_eq!(slow.wait(), Outcome::Executed("TEXT".into()));
    // The worker has come to that one before this one.
    assert_eq!(client.slowly("a"), Outcome::Executed("A".into()));
    assert_eq!(seen.until.load(SeqCst), in_time, "it was begun after its deadline");
    until("one is in time", || client.slow_until(9) == Outcome::Executed(9));
}

pub fn a_server_that_ends_finishes_what_runs(carrier: impl Carrier) {
    let Scene { client, seen, running } = carrier.scene();
    let mut first = client.start_slowly("one").expect("it is sent");
    until("it begins", || {
        assert!(first.try_take().is_none());
        seen.slow.load(SeqCst) == 1
    });
    let second = client.start_slowly("two").expect("it is sent");
    // It has come before this is answered, or comes when the server is about to end.
    assert_eq!(client.double(1), Outcome::Executed(2));
    let ended = std::thread::spawn(move || drop(running));
    std::thread::sleep(Duration::from_millis(150));
    seen.go.store(1, SeqCst);
    let lost = |outcome: &Outcome<String>| {
        matches!(
            outcome,
            Outcome::Unknown(
                UnknownReason::Closed(_) | UnknownReason::SessionLost | UnknownReason::NoAnswer
            )
        )
    };
    let outcome = first.wait_timeout(Duration::from_secs(20));
    // A reply that is lost with its server is in doubt.
    assert!(outcome == Outcome::Executed("ONE".into()) || lost(&outcome), "{outcome:?}");
    let outcome = second.wait_timeout(Duration::from_secs(20));
    assert!(outcome == Outcome::Refused(Reason::Stopping) || lost(&outcome), "{outcome:?}");
    ended.join().expect("it ended");
    assert_eq!(seen.slow.load(SeqCst), 1, "what waited was begun");
}

pub fn a_server_that_ends_sends_all_of_a_long_reply(carrier: impl Carrier) {
    for _ in 0..3 {
        let Scene { client, seen, running } = carrier.scene();
        let text = "x".repeat(LARGEST - 20);
        let mut call = client.start_slowly(&text).expect("it is sent");
        until("it begins", || {
            assert!(call.try_take().is_none());
            seen.slow.load(SeqCst) == 1
        });
        let ended = std::thread::spawn(move || drop(running));
        // So that it waits for its worker by then; if not, the reply is sent all the same.
        std::thread::sleep(Duration::from_millis(150));
        seen.go.store(1, SeqCst);
        let outcome = call.wait_timeout(Duration::from_secs(20));
        assert!(outcome == Outcome::Executed(text.to_uppercase()), "{:?}", outcome.map(|_| ()));
        ended.join().expect("it ended");
    }
}
