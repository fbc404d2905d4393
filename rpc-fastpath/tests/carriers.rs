//! One program over every carrier: LRPC, and channels of every kind that needs no lab. The outcomes are the same.

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
#[path = "carriers/program.rs"]
mod program;
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

over_each_carrier! {
    program:
        values_go_there_and_back
        errors_of_the_service_are_results
        bulk_goes_there_and_back
        a_panic_fails_its_call_and_no_other
        what_is_too_large_is_told
        one_way_calls_are_executed_once
        calls_are_pipelined
        slow_methods_keep_nobody_waiting
        more_slow_calls_than_may_wait_are_refused
        what_workers_panic_with_is_told
        a_call_whose_deadline_passes_is_not_begun
        a_server_that_ends_finishes_what_runs
        a_server_that_ends_sends_all_of_a_long_reply;
    cycles:
        calls_come_back_to_a_server_that_waits
        nested_calls_carry_the_deadline;
    killing:
        calls_of_a_killed_server_are_in_doubt_and_are_not_repeated
}

/// The program that is killed: see [`killing`].
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn child() {
    killing::child();
}
