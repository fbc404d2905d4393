//! A process is killed at each step of a service's calls, and the other side is told, and goes on.
//!
//! What is certain at which step is shown by the tests of `lrpc`; here it is the stubs, the buffers that
//! values are encoded into, and the workers.

// Failpoints are in no program without debug assertions, so nothing of this can be tested there.
#![cfg(debug_assertions)]

#[path = "../../unet/tests/support/role.rs"]
#[allow(dead_code)]
mod role;
mod support;

use std::time::{Duration, Instant};

use role::Role;
use rpc_fastpath::service::{Outcome, Server, ServerOptions, UnknownReason, service};
use rustix::process::Signal;
use support::{address, bind_options, server_options};
use unet::Address;

const PATIENCE: Duration = Duration::from_secs(20);

#[service(name = "clerk", version = 1)]
trait Clerk {
    fn double(&self, number: u64) -> u64;
    fn echo(&self, text: &str) -> String;
    #[slow]
    fn slowly(&self, text: &str) -> String;
}

struct Handler;

impl Clerk for Handler {
    fn double(&self, number: u64) -> u64 {
        number * 2
    }

    fn echo(&self, text: &str) -> String {
        text.to_owned()
    }

    fn slowly(&self, text: &str) -> String {
        std::thread::sleep(Duration::from_millis(20));
        text.to_owned()
    }
}

/// Too long for a slot.
fn long() -> String {
    "text".repeat(1000)
}

fn options() -> ServerOptions {
    ServerOptions { workers: 1, backlog: 3, backlog_of_a_client: 4, ..server_options() }
}

fn told<T: PartialEq + std::fmt::Debug>(outcome: Outcome<T>, expected: &T) {
    match outcome {
        Outcome::Executed(result) => assert_eq!(result, *expected),
        Outcome::Unknown(UnknownReason::Closed(_)) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
#[ignore = "a part of other tests"]
fn role_server() {
    let Some(arguments) = role::arguments() else { return };
    let [step, nth, address] = &arguments[..] else { panic!("three arguments") };
    let address: Address = address.parse().expect("an address");
    let server = Server::<ClerkService>::export(&address, Handler, options()).expect("a free name");
    assert!(segment::failpoint::arm(step, nth.parse().expect("a number"), Signal::KILL));
    role::say("exported");
    server.serve_until(|| false);
}

#[test]
#[ignore = "a part of other tests"]
fn role_client() {
    let Some(arguments) = role::arguments() else { return };
    let [step, nth, address] = &arguments[..] else { panic!("three arguments") };
    let address: Address = address.parse().expect("an address");
    let client = ClerkClient::bind(&address, bind_options()).expect("bound");
    assert!(segment::failpoint::arm(step, nth.parse().expect("a number"), Signal::KILL));
    loop {
        let slow: Vec<_> = (0..4).filter_map(|_| client.start_slowly(&long()).ok()).collect();
        let _ = (client.double(1), client.echo(&long()));
        drop(slow);
    }
}

fn killed(mut role: Role) {
    let deadline = Instant::now() + PATIENCE;
    while !role.has_ended() {
        assert!(Instant::now() < deadline, "the step was not reached");
        std::thread::sleep(Duration::from_millis(1));
    }
    role.wait_killed();
}

#[test]
fn calls_end_with_a_server_that_is_killed_at_any_step() {
    let steps = ["reply.1-call-taken", "reply.3-result-written", "reply.4-posted"];
    let steps = steps.into_iter().chain(["receive.2-buffer-held", "handoff.2-lent"]);
    let address = address("dying-server");
    for step in steps {
        // Each of the calls below is the one at which it dies, once.
        for nth in ["1", "2", "3"] {
            let server = role::spawn("role_server", &[step, nth, &address.to_string()]);
            server.expect("exported");
            let client = ClerkClient::bind(&address, bind_options()).expect("bound");
            let slow = client.start_slowly(&long());
            told(client.echo(&long()), &long());
            if let Ok(slow) = slow {
                told(slow.wait(), &long());
            }
            for _ in 0..10 {
                match client.echo(&long()) {
                    Outcome::Refused(_) => break,
                    other => told(other, &long()),
                }
            }
            killed(server);
            assert!(client.start_double(1).is_err(), "{step}");
            let (free, lent, total) = client.caller().binding().buffers();
            assert_eq!((free, lent), (total, 0), "{step}");
        }
    }
    let _server =
        Server::<ClerkService>::export(&address, Handler, options()).expect("a free name");
}

#[test]
fn a_client_that_is_killed_at_any_step_leaves_nothing_behind_it() {
    let steps = ["call.1-arguments-written", "call.2-posted", "call.3-waiting"];
    let steps = steps.into_iter().chain(["handoff.1-buffer-taken", "receive.2-buffer-held"]);
    let address = address("dying-client");
    let server = Server::<ClerkService>::export(&address, Handler, options()).expect("a free name");
    let _running = server.spawn();
    let honest = ClerkClient::bind(&address, bind_options()).expect("bound");
    for step in steps {
        for nth in ["1", "3", "8"] {
            killed(role::spawn("role_client", &[step, nth, &address.to_string()]));
            assert_eq!(honest.double(2), Outcome::Executed(4));
            assert_eq!(honest.echo(&long()), Outcome::Executed(long()));
        }
    }
    // Its places with the workers come back: there are four in all.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let calls: Vec<_> =
            (0..4).map(|_| honest.start_slowly(&long()).expect("it is sent")).collect();
        let outcomes: Vec<_> = calls.into_iter().map(|call| call.wait_timeout(PATIENCE)).collect();
        if outcomes.iter().all(|outcome| *outcome == Outcome::Executed(long())) {
            break;
        }
        assert!(Instant::now() < deadline, "{outcomes:?}");
    }
}
