//! The program that runs over every carrier, over AF_XDP, in both modes, between two hosts of the lab: the
//! server is in one, the client in the other.

#[allow(dead_code)]
#[path = "carriers/carrying.rs"]
mod carrying;
#[path = "carriers/killing.rs"]
mod killing;
#[path = "../../drivers/tests/pair/mod.rs"]
mod pair;
#[macro_use]
#[path = "carriers/parts.rs"]
mod parts;
#[path = "carriers/program.rs"]
mod program;
#[path = "carriers/service.rs"]
mod service;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use carrying::{Carrier, Channels, of_client};
use pair::{enter, in_host, run};
use rpc_fastpath::service::{Outcome, PendingCall, Remote, Running, UnknownReason};
use service::{EverywhereClient, EverywhereService, Handler, Seen, until};
use unet::Address;

const GENERIC: Xdp = Xdp("xdp:lab-b0@10.77.0.2:PORT?mode=generic");
const NATIVE: Xdp = Xdp("xdp:lab-b0@10.77.0.2:PORT?mode=native");

/// A server in `lab-b`, at an address of that form, and a client in `lab-a`, where the test's thread is.
#[derive(Clone, Copy)]
struct Xdp(&'static str);

impl Carrier for Xdp {
    type Caller = Remote<EverywhereService>;

    fn address(self) -> Address {
        Channels(self.0).address()
    }

    fn try_serve(self, address: &Address, handler: Handler) -> Option<Running> {
        let in_its_host = || {
            enter("lab-b");
            Channels(self.0).try_serve(address, handler)
        };
        thread::scope(|scope| scope.spawn(in_its_host).join().expect("the lab is there"))
    }

    fn try_connect(self, address: &Address) -> Option<Self::Caller> {
        Channels(self.0).try_connect(&here(address))
    }
}

/// A server's address, as it is reached from `lab-a`.
fn here(address: &Address) -> Address {
    address.to_string().replace("lab-b0", "lab-a0").parse().expect("an address")
}

macro_rules! over_xdp {
    ($($suite:ident: $($test:ident)*);*) => {
        $($(mod $test {
            #[test]
            fn in_generic_mode() {
                crate::in_host(|| crate::$suite::$test(crate::GENERIC));
            }

            #[test]
            fn in_native_mode() {
                crate::in_host(|| crate::$suite::$test(crate::NATIVE));
            }
        })*)*
    };
}

each_part!(over_xdp);
over_xdp!(killing: an_idempotent_call_outlives_its_server);

/// The link is cut for longer than the patience, and than the silence after which a channel is given up: what was
/// under way is in doubt, and later calls are executed when the link is there again.
#[test]
fn a_link_that_is_cut_for_longer_than_every_timer_leaves_doubt_and_then_all_is_well() {
    for xdp in [GENERIC, NATIVE] {
        in_host(|| {
            let (address, seen) = (xdp.address(), Arc::new(Seen::default()));
            let _running = xdp.try_serve(&address, Handler::new(&seen)).expect("a free port");
            let mut options = of_client();
            options.connection.timers.patience = 1_000_000_000;
            options.connection.connect.network.silence = Duration::from_millis(1500);
            let remote = Remote::begin(&[here(&address)], options).expect("an endpoint");
            let client = EverywhereClient::new(remote);
            until("a call is executed", || client.double(1) == Outcome::Executed(2));
            let mut slow = client.start_slowly("text").expect("it is sent");
            until("it begins", || {
                assert!(slow.try_take().is_none());
                seen.slow.load(SeqCst) == 1
            });
            run("ip -n lab-a link set lab-a0 down");
            let outcome = slow.wait_timeout(Duration::from_secs(20));
            let in_doubt = matches!(
                outcome,
                Outcome::Unknown(
                    UnknownReason::Closed(_) | UnknownReason::SessionLost | UnknownReason::NoAnswer
                )
            );
            assert!(in_doubt, "{outcome:?}");
            let outcome = client.double(2);
            assert!(!matches!(outcome, Outcome::Executed(_)), "{outcome:?}");
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(2500) {
                client.caller().progress();
                thread::sleep(Duration::from_millis(1));
            }
            run("ip -n lab-a link set lab-a0 up");
            until("calls are executed again", || client.double(3) == Outcome::Executed(6));
            assert_eq!(seen.slow.load(SeqCst), 1, "it was executed twice");
            seen.go.store(u64::MAX, SeqCst);
        });
    }
}

/// The program that is killed: see [`killing`].
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn child() {
    // The form says what an address is like that nobody has; the child is told one.
    killing::child(Xdp(""));
}
