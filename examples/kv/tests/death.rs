//! The server is killed in the middle of puts, at each step: what the client was told is what happened.

// Failpoints are in no program without debug assertions, so nothing of this can be tested there.
#![cfg(debug_assertions)]

#[path = "../../../unet/tests/support/role.rs"]
#[allow(dead_code)]
mod role;
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use kv::client::{Client, GetError, Putting, get, open, put, start_put};
use kv::server::{ServeOptions, serve};
use kv::service::{INLINE, KeyValueService, Shared};
use kv::store::{Limits, PutError, Store};
use rpc_fastpath::service::{Nearest, Outcome, UnknownReason};
use rustix::process::Signal;
use unet::{Address, Wait};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
#[ignore = "a part of other tests"]
fn role_server() {
    let Some(arguments) = role::arguments() else { return };
    let [way, step, nth, address] = &arguments[..] else { panic!("four arguments") };
    let address: Address = address.parse().expect("an address");
    let store = Arc::new(Shared::new(Store::new(Limits::default())));
    let ready = || {
        if step != "none" {
            let nth = nth.parse().expect("a number");
            assert!(segment::failpoint::arm(step, nth, Signal::KILL));
        }
        role::say("serving");
    };
    let options = ServeOptions { channels: way == "channels", ..ServeOptions::default() };
    serve(&[address], &store, options, &AtomicBool::new(false), ready).expect("a free name");
}

fn server(way: &str, step: &str, nth: &str, address: &Address) -> role::Role {
    let server = role::spawn("role_server", &[way, step, nth, &address.to_string()]);
    server.expect("serving");
    server
}

fn opened(address: &Address) -> Client {
    open(std::slice::from_ref(address), Wait::Adaptive, 8).expect("opened")
}

fn key(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// Short values and long ones, by turns.
fn value(number: u64) -> Vec<u8> {
    vec![number as u8; if number.is_multiple_of(2) { 20 } else { INLINE + 100 }]
}

fn ended(call: &mut Putting<'_, Nearest<KeyValueService>>) -> Outcome<Result<u64, PutError>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(outcome) = call.take() {
            return outcome;
        }
        assert!(Instant::now() < deadline, "a call has no outcome");
        std::thread::yield_now();
    }
}

#[test]
fn a_server_that_is_killed_at_any_step_of_a_put_loses_no_acknowledged_one_and_repeats_none() {
    let address = support::address("killed");
    for step in ["reply.1-call-taken", "reply.3-result-written", "reply.4-posted"] {
        // Twenty calls are put and got before; then it dies in the middle of several at once.
        let mut dying = server("lrpc", step, "45", &address);
        let store = opened(&address);
        for number in 1..=20 {
            // The revision counts executed puts: one that was executed twice would be seen here.
            let outcome = put(&store, &key(number), &value(number));
            assert_eq!(outcome, Outcome::Executed(Ok(number)), "{step}");
            assert_eq!(get(&store, &key(number)), Outcome::Executed(Ok(value(number))), "{step}");
        }
        let (mut acknowledged, mut unknown, mut number) = (20, 0, 20);
        while unknown == 0 {
            let calls: Vec<_> = (0..6)
                .map_while(|_| {
                    number += 1;
                    start_put(&store, &key(number), &value(number)).ok()
                })
                .collect();
            assert!(!calls.is_empty(), "it died and nobody was told: {step}");
            for mut call in calls {
                match ended(&mut call) {
                    Outcome::Executed(Ok(revision)) => {
                        // In their order, each once; and none after one whose outcome is unknown.
                        assert_eq!((revision, unknown), (acknowledged + 1, 0), "{step}");
                        acknowledged = revision;
                    }
                    Outcome::Unknown(UnknownReason::Closed(_)) => unknown += 1,
                    other => panic!("{step}: {other:?}"),
                }
            }
        }
        dying.wait_killed();
        // Afterwards it is certain again: nothing is executed.
        assert!(matches!(put(&store, b"late", b"1"), Outcome::Refused(_)), "{step}");
        // The next server has nothing of its predecessor's calls.
        let _next = server("lrpc", "none", "0", &address);
        let usage = opened(&address).usage().executed().expect("it is told");
        assert_eq!((usage.keys, usage.revision), (0, 0), "{step}");
        assert_eq!(get(&opened(&address), b"late"), Outcome::Executed(Err(GetError::Missing)));
    }
}

#[test]
fn over_channels_a_killed_server_loses_no_acknowledged_put_and_the_next_one_repeats_none() {
    for address in [support::address("killed"), support::udp()] {
        let mut dying = server("channels", "none", "0", &address);
        let store = opened(&address);
        let start = |number| start_put(&store, &key(number), &value(number)).expect("room");
        for number in 1..=20 {
            let outcome = put(&store, &key(number), &value(number));
            assert_eq!(outcome, Outcome::Executed(Ok(number)), "{address}");
            assert_eq!(get(&store, &key(number)), Outcome::Executed(Ok(value(number))));
        }
        // It is killed with eight calls under way, of which some may have been executed.
        let calls: Vec<_> = (21..=28).map(start).collect();
        dying.signal(Signal::KILL);
        dying.wait_killed();
        let _successor = server("channels", "none", "0", &address);
        let mut acknowledged = BTreeSet::new();
        for mut call in calls {
            match ended(&mut call) {
                // Each was executed once, so no revision comes twice and none beyond the last.
                Outcome::Executed(Ok(revision)) => {
                    assert!((21..=28).contains(&revision) && acknowledged.insert(revision));
                }
                Outcome::Unknown(_) | Outcome::Refused(_) => {}
                other => panic!("{address}: {other:?}"),
            }
        }
        // Nothing of its predecessor's calls reached the next server, which the same client goes on to.
        let usage = store.usage().executed().expect("the client has found the next server");
        assert_eq!((usage.keys, usage.revision), (0, 0), "{address}");
        assert_eq!(put(&store, b"late", b"1"), Outcome::Executed(Ok(1)), "{address}");
    }
}
