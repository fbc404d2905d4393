//! Clients and servers over every way that needs no lab: the same programs, the same outcomes.

#[path = "endpoint/alone.rs"]
mod alone;
#[path = "endpoint/calls.rs"]
mod calls;
#[path = "endpoint/counting.rs"]
mod counting;
#[path = "endpoint/draining.rs"]
mod draining;
#[path = "endpoint/failures.rs"]
mod failures;
#[path = "endpoint/lifelong.rs"]
mod lifelong;
#[path = "endpoint/restarts.rs"]
mod restarts;
#[path = "endpoint/scene.rs"]
mod scene;
#[path = "endpoint/serving.rs"]
mod serving;
#[path = "endpoint/timely.rs"]
mod timely;

use scene::{LOSSY, SHM, SIM, UDP, Way};

/// Runs each behaviour over each way, as a test of its own.
macro_rules! conformance {
    ($($suite:ident: $($test:ident)*);*) => {
        $($(mod $test {
            #[test]
            fn over_shared_memory() {
                crate::$suite::$test(crate::SHM);
            }

            #[test]
            fn over_udp() {
                crate::$suite::$test(crate::UDP);
            }

            #[test]
            fn over_the_simulator() {
                crate::$suite::$test(crate::SIM);
            }

            #[test]
            fn over_the_simulator_with_faults() {
                crate::$suite::$test(crate::LOSSY);
            }
        })*)*
    };
}

conformance! {
    calls:
        a_null_call_is_executed
        sizes_of_every_kind_go_there_and_back
        a_full_window_and_its_backlog_are_answered
        a_one_way_call_is_delivered
        two_clients_have_their_own_sessions
        replies_are_given_later_by_workers
        an_event_loop_waits_on_the_descriptor
        buffers_are_handed_over;
    failures:
        a_deadline_that_passed_before_is_a_refusal
        a_slow_call_is_in_doubt_after_its_deadline_and_told_when_asked
        an_unknown_method_is_refused
        a_panic_ends_the_call_and_not_the_server
        a_reply_that_is_too_large_is_told
        more_calls_than_may_wait_are_refused
        more_late_replies_than_may_wait_are_refused
        an_abandoned_call_is_told
        another_service_is_rejected
        garbage_is_counted_and_others_go_on
        an_epoch_that_is_over_takes_a_new_session;
    restarts:
        a_server_that_is_killed_and_restarted_executes_nothing_twice
        a_client_that_is_killed_frees_its_session;
    timely:
        a_call_beside_one_that_was_left_alone_has_its_patience
}

/// The program that is killed: see [`restarts`].
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn child() {
    restarts::child();
}

/// Nobody is there, and nobody comes.
#[test]
fn an_address_without_a_server_is_an_error() {
    for way in [SHM, Way { limit: 500, ..UDP }] {
        scene::nobody_answers(way);
    }
}

/// Over a network, what nobody reads is lost, and nothing waits.
#[test]
fn a_client_that_does_not_read_is_let_go_of() {
    failures::a_client_that_does_not_read_is_let_go_of(SHM);
}
