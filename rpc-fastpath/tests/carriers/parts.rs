//! The parts of the program that is the same over every carrier.

/// Gives them to a macro: the functions, by the files that they are in.
macro_rules! each_part {
    ($with:ident) => {
        $with! {
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
            killing:
                calls_of_a_killed_server_are_in_doubt_and_are_not_repeated
                a_stopped_server_executes_what_came_meanwhile_once
        }
    };
}
