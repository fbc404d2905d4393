//! What the tests of the program share.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long is too long, on a busy machine also: the programs that are killed would run for a minute.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The program, with its output caught and its colour left to chance.
pub fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unet-bench"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> Output {
    program(arguments).output().expect("the program starts")
}

/// What a program wrote, as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the output is text")
}

/// The server process of a running benchmark, once there is one that has been up for a while.
pub fn server_of(pid: u32) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    let mut last = None;
    while Instant::now() < deadline {
        let now = children(pid).first().copied();
        if let (Some(now), true) = (now, now == last) {
            return now;
        }
        last = now;
        sleep(Duration::from_millis(300));
    }
    panic!("no server process lasted")
}

/// The server process that a benchmark starts after another one; none if it ends before, or is long at it.
pub fn server_after(server: u32, benchmark: &mut Child) -> Option<u32> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && benchmark.try_wait().expect("it is ours").is_none() {
        let next = children(benchmark.id()).into_iter().find(|child| *child != server);
        if next.is_some() {
            return next;
        }
        sleep(Duration::from_millis(1));
    }
    None
}

/// The child of a process that was started as a hidden subcommand.
pub fn child_as(pid: u32, subcommand: &str) -> Option<u32> {
    children(pid).into_iter().find(|child| {
        let said = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        said.split('\0').nth(1) == Some(subcommand)
    })
}

/// The children of all threads of a process.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| list.split(' ').filter_map(|n| n.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Whether a process is there and not merely unburied.
pub fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
        && fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|s| s.starts_with(" Z")))
}

/// Waits until a process is gone.
pub fn gone_within(pid: u32, time: Duration) -> bool {
    let deadline = Instant::now() + time;
    while alive(pid) {
        if Instant::now() > deadline {
            return false;
        }
        sleep(Duration::from_millis(5));
    }
    true
}
