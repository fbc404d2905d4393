//! Early ends: a dead server, Ctrl-C, a killed client. Nothing is left behind, and nobody waits.

use std::time::{Duration, Instant};

use crate::support::{PATIENCE, gone_within, program, server_after, server_of, text};
use rustix::process::{Pid, Signal, kill_process};

fn pid(raw: u32) -> Pid {
    Pid::from_raw(i32::try_from(raw).expect("a pid fits")).expect("a pid is positive")
}

const LONG: [&str; 5] = ["rtt", "--size", "8", "--duration", "60s"];

/// Starts a long run and waits for its server to be at work.
fn long_run(system: &str, wait: &str) -> (std::process::Child, u32) {
    let arguments = [&LONG[..], &["--system", system, "--wait", wait]].concat();
    let child = program(&arguments).spawn().expect("the program starts");
    let server = server_of(child.id());
    (child, server)
}

/// Kills a server, or finds it gone.
fn kill_now(server: u32) -> Instant {
    let _ = kill_process(pid(server), Signal::KILL);
    Instant::now()
}

/// How long after its server's death a run ends.
fn death_is_reported(system: &str, wait: &str) -> Duration {
    let (mut child, mut server) = long_run(system, wait);
    let mut killed = kill_now(server);
    // A run that goes on had just let go of the server that its limits were measured with.
    while let Some(next) = server_after(server, &mut child) {
        server = next;
        killed = kill_now(server);
    }
    let output = child.wait_with_output().expect("the program ends");
    let took = killed.elapsed();
    assert!(took < PATIENCE, "{took:?}");
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    assert!(error.contains(&server.to_string()) && error.contains("signal 9"), "{error}");
    assert!(output.stdout.is_empty());
    took
}

/// Repeats a death until it is seen that it can be reported within a second: others use the machine too.
fn death_is_reported_soon(system: &str, wait: &str) {
    let mut all = Vec::new();
    while all.last().is_none_or(|took| *took >= Duration::from_secs(1)) {
        assert!(all.len() < 5, "{system}: {all:?}");
        all.push(death_is_reported(system, wait));
    }
}

#[test]
fn a_server_that_breaks_a_pipe_by_dying_is_reported_within_a_second() {
    death_is_reported_soon("pipe", "spin");
}

#[test]
fn a_server_that_falls_silent_by_dying_is_reported_within_a_second() {
    death_is_reported_soon("udp", "park");
}

#[test]
fn a_server_that_dies_at_shared_memory_is_reported_within_a_second() {
    death_is_reported_soon("unet", "park");
    death_is_reported_soon("lrpc", "spin");
    death_is_reported_soon("rpc", "spin");
}

#[test]
fn ctrl_c_and_terminate_leave_no_server_behind() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let (child, server) = long_run("uds", "spin");
        kill_process(pid(child.id()), signal).expect("the program is ours");
        let output = child.wait_with_output().expect("the program ends");
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(gone_within(server, Duration::ZERO), "the server outlives the program");
        assert_eq!(text(&output.stderr).trim_end().lines().count(), 1);
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_killed_client_takes_its_server_along() {
    let (mut child, server) = long_run("tcp", "spin");
    kill_process(pid(child.id()), Signal::KILL).expect("the program is ours");
    child.wait().expect("the program ends");
    assert!(gone_within(server, PATIENCE), "the server outlives the program");
}
