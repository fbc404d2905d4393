//! One program over every carrier: LRPC, and channels of every kind that needs no lab. The outcomes are the same.
//! `carriers_xdp.rs` runs it over AF_XDP.

#[path = "carriers/awaiting.rs"]
mod awaiting;
#[path = "carriers/carrying.rs"]
mod carrying;
#[path = "carriers/channels.rs"]
mod channels;
#[path = "carriers/cycles.rs"]
mod cycles;
#[path = "carriers/hardships.rs"]
mod hardships;
#[path = "carriers/killing.rs"]
mod killing;
#[path = "carriers/nearest.rs"]
mod nearest;
#[macro_use]
#[path = "carriers/parts.rs"]
mod parts;
#[path = "carriers/program.rs"]
mod program;
#[path = "carriers/repeating.rs"]
mod repeating;
#[path = "carriers/revoking.rs"]
mod revoking;
#[path = "carriers/service.rs"]
mod service;

/// Runs each part of the program over each carrier, as a test of its own.
macro_rules! over_each_carrier {
    ($($suite:ident: $($test:ident)*);*) => {
        $($(mod $test {
            use crate::carrying::{Channels, LOSSY, Lrpc, SHM, SIM, UDP};

            #[test]
            fn over_lrpc() {
                crate::$suite::$test(Lrpc);
            }

            #[test]
            fn over_shared_memory() {
                crate::$suite::$test(Channels(SHM));
            }

            #[test]
            fn over_udp() {
                crate::$suite::$test(Channels(UDP));
            }

            #[test]
            fn over_the_simulator() {
                crate::$suite::$test(Channels(SIM));
            }

            #[test]
            fn over_the_simulator_with_faults() {
                crate::$suite::$test(Channels(LOSSY));
            }
        })*)*
    };
}

each_part!(over_each_carrier);
over_each_carrier! {
    cycles:
        calls_come_back_to_a_server_that_waits
        nested_calls_carry_the_deadline
}

/// The program that is killed: see [`killing`].
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn child() {
    // The form says what an address is like that nobody has; the child is told one.
    killing::child(carrying::Channels(""));
}
