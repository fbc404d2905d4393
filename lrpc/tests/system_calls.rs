//! While both sides poll, the number of system calls does not grow with the number of calls.
//!
//! A client and a server process, each on a core of its own, run under strace(1): once with few
//! calls, once with ten times as many. What may grow with the time, and with nothing else, is how
//! often each side asks the kernel whether the other lives: every two milliseconds.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lrpc::{BindOptions, Binding, ExportOptions, Server};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use unet::{Address, Wait};

lrpc::interface! {
    /// What is called here.
    Calls = "system-calls", version 1 {
        /// Nothing.
        Null(()) -> ();
    }
}

const FEW: u64 = 10_000;
const MANY: u64 = 100_000;
/// How often a poller asks the kernel about its peer.
const LIVENESS_PERIOD: Duration = Duration::from_millis(2);
/// Questions a period: the client's two, and the server's one.
const QUESTIONS: u64 = 3;
/// What they are asked with, by the kernel's and the library's age.
const LIVENESS: [&str; 6] =
    ["recvmsg", "poll", "ppoll", "epoll_wait", "epoll_pwait", "epoll_pwait2"];
const ARGUMENTS: &str = "SYSTEM_CALLS_ROLE";

/// The first two cores that this process may use.
fn two_cores() -> Option<[usize; 2]> {
    let usable = sched_getaffinity(None).expect("the kernel says which cores are usable");
    let mut cores = (0..CpuSet::MAX_CPU).filter(|cpu| usable.is_set(*cpu));
    Some([cores.next()?, cores.next()?])
}

fn pin(core: &str) {
    let mut set = CpuSet::new();
    set.set(core.parse().expect("a number"));
    sched_setaffinity(None, &set).expect("the core is usable");
}

fn role(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["--exact", name, "--ignored", "--nocapture"]);
    command.env(ARGUMENTS, arguments.join(" "));
    command
}

fn arguments() -> Option<Vec<String>> {
    Some(std::env::var(ARGUMENTS).ok()?.split(' ').map(str::to_owned).collect())
}

#[test]
#[ignore = "a part of the test below, in a process of its own"]
fn serve() {
    let Some(arguments) = arguments() else { return };
    let [address, core] = &arguments[..] else { panic!("an address and a core") };
    pin(core);
    let options = ExportOptions { wait: Wait::Spin, ..ExportOptions::default() };
    let address: Address = address.parse().expect("the name is valid");
    let server = Server::<Calls>::export(&address, options).expect("the name is free");
    let server = server.on::<Null>(|_, ()| Ok(()));
    println!("\n@ready");
    while server.served() == 0 || server.bindings() > 0 {
        server.serve_timeout(Duration::from_secs(1));
    }
}

#[test]
#[ignore = "a part of the test below, in a process of its own"]
fn call() {
    let Some(arguments) = arguments() else { return };
    let [calls, client_core, server_core] = &arguments[..] else { panic!("calls and two cores") };
    pin(client_core);
    let address = format!("shm:system-calls-{}", std::process::id());
    let mut server = role("serve", &[&address, server_core]);
    let mut server = server.stdout(Stdio::piped()).spawn().expect("it can be run again");
    // Kept open to the end, for what the server's test harness says.
    let mut said = BufReader::new(server.stdout.take().expect("it was piped")).lines();
    let ready = said.any(|line| line.expect("it writes text") == "@ready");
    assert!(ready, "the server was to start");

    let address: Address = address.parse().expect("the name is valid");
    let options = BindOptions { wait: Wait::Spin, ..BindOptions::default() };
    let binding = Binding::<Calls>::bind(&address, options).expect("it serves");
    for _ in 0..calls.parse::<u64>().expect("a number") {
        binding.call::<Null>(&()).executed().expect("it is served");
    }
    drop(binding);
    assert!(server.wait().expect("it is a child").success());
}

/// Runs client and server under strace; how often each system call was made, and how long it took.
fn traced(calls: u64, [client, server]: [usize; 2]) -> (BTreeMap<String, u64>, Duration) {
    let summary = std::env::temp_dir().join(format!("strace-{}-{calls}", std::process::id()));
    let part = role("call", &[&calls.to_string(), &client.to_string(), &server.to_string()]);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-c", "-o"]).arg(&summary).arg(part.get_program()).args(part.get_args());
    for (name, value) in part.get_envs() {
        strace.env(name, value.expect("it is set"));
    }
    let start = Instant::now();
    let mut running = match strace.process_group(0).stdout(Stdio::null()).spawn() {
        Ok(running) => running,
        Err(error) => panic!(
            "strace could not be started ({error}): install it, as with `apt-get install strace`"
        ),
    };
    let status = loop {
        if let Some(status) = running.try_wait().expect("it is a child") {
            break status;
        }
        if start.elapsed() > Duration::from_secs(120) {
            kill_process_group(Pid::from_child(&running), Signal::KILL).expect("it lives");
            panic!("{calls} calls took more than two minutes");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let took = start.elapsed();
    assert!(status.success(), "{calls} calls: {status}");
    let counts = read(&summary);
    let _ = std::fs::remove_file(&summary);
    (counts, took)
}

/// Reads strace's summary: `% time, seconds, usecs/call, calls, errors or nothing, name`.
fn read(summary: &Path) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(summary).expect("strace wrote a summary");
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|words| words.len() >= 5 && words[0].parse::<f64>().is_ok());
    let counts: BTreeMap<String, u64> = rows
        .filter(|words| words.last() != Some(&"total"))
        .map(|words| (words[words.len() - 1].to_owned(), words[3].parse().expect("a count")))
        .collect();
    assert!(counts.values().sum::<u64>() > 50, "strace's summary was not understood:\n{text}");
    counts
}

#[test]
fn ten_times_the_calls_make_no_more_system_calls() {
    let Some(cores) = two_cores() else {
        eprintln!("one core: nobody can poll there, so there is nothing to count");
        return;
    };
    let (few, _) = traced(FEW, cores);
    let (many, took) = traced(MANY, cores);
    // At most, if both sides look in vain all the time.
    let periods = took.as_millis() / LIVENESS_PERIOD.as_millis();
    let due = u64::try_from(periods).expect("it is short") * QUESTIONS;
    let grown = many.iter().map(|(name, count)| {
        let before = few.get(name).copied().unwrap_or(0);
        (name.as_str(), count.saturating_sub(before))
    });
    let grown = grown.filter(|(_, by)| *by > 0);
    let (asked, others): (Vec<_>, Vec<_>) = grown.partition(|(name, _)| LIVENESS.contains(name));
    let sum = |list: &[(&str, u64)]| list.iter().map(|(_, count)| count).sum::<u64>();
    println!("{} calls more, in {took:?}: {asked:?}, and of others {others:?}", MANY - FEW);
    // What starting two processes takes may differ by a little.
    assert!(sum(&others) < 100, "others than liveness checks have grown: {others:?}");
    assert!(sum(&asked) <= due + 100, "{asked:?} in {took:?}, {due} are due");
    assert!(due < (MANY - FEW) / 2, "the machine is too busy to tell: {took:?} for {MANY} calls");
}
