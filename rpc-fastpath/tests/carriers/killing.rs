//! Servers that are killed while they execute, and others in their place.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rpc_fastpath::service::{Outcome, PendingCall, UnknownReason};
use rustix::process::{Pid, Signal, kill_process};
use unet::Address;

use crate::carrying::{Carrier, Lrpc};
use crate::service::{EverywhereClient, Handler, Seen, until};

const ADDRESS: &str = "CARRIERS_TEST_ADDRESS";
/// Where a server writes which calls it began.
const LOG: &str = "CARRIERS_TEST_LOG";
/// Whether it never ends what it begins.
const STUCK: &str = "CARRIERS_TEST_STUCK";
const BY_LRPC: &str = "CARRIERS_TEST_BY_LRPC";

/// A server in a process of its own, which is killed at the latest when this is dropped.
pub struct Killed(Child);

impl Killed {
    pub fn start<C: Carrier>(address: &Address, Log(log): &Log, is_stuck: bool) -> Self {
        let exe = std::env::current_exe().expect("this program");
        let by_lrpc = std::any::TypeId::of::<C>() == std::any::TypeId::of::<Lrpc>();
        let child = Command::new(exe)
            .args(["--ignored", "--exact", "child"])
            .env(ADDRESS, address.to_string())
            .env(LOG, log)
            .env(STUCK, is_stuck.to_string())
            .env(BY_LRPC, by_lrpc.to_string())
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("a process"))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id() as i32).expect("a process has a number");
        kill_process(pid, signal).expect("it has not been waited for");
    }

    /// Stops it, until it is told to go on.
    fn stop(&self) {
        self.signal(Signal::STOP);
        let state = format!("/proc/{}/stat", self.0.id());
        until("it stops", || {
            let state = fs::read_to_string(&state).expect("it has not been waited for");
            state.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
        });
    }

    pub fn kill(mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file that is not there any more when this is dropped.
pub struct Log(PathBuf);

impl Log {
    pub fn new(address: &Address) -> Self {
        let name = format!("began-{address}").replace([':', '@', '?', '/', '&', '='], "-");
        let log = Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name));
        fs::write(&log.0, "").expect("written");
        log
    }

    /// How often calls with that number began.
    pub fn times(&self, number: u64) -> usize {
        let log = fs::read_to_string(&self.0).expect("the log");
        log.lines().filter(|line| *line == number.to_string()).count()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The server's process; who serves where it is not LRPC.
pub fn child(channels: impl Carrier) {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let address = address.parse().expect("an address");
    let log = std::env::var(LOG).expect("set with the address");
    let is = |name| std::env::var(name).expect("set with the address") == "true";
    let is_stuck = is(STUCK);
    let handler = || {
        let log = fs::File::options().append(true).open(&log).expect("a file");
        let began = move |number: u64| {
            (&log).write_all(format!("{number}\n").as_bytes()).expect("written");
            if is_stuck {
                forever();
            }
        };
        Handler { began: Box::new(began), ..Handler::new(&Arc::new(Seen::default())) }
    };
    // The one before may hold the address until the kernel has ended it.
    let _running = loop {
        let running = match is(BY_LRPC) {
            true => Lrpc.try_serve(&address, handler()),
            false => channels.try_serve(&address, handler()),
        };
        match running {
            Some(running) => break running,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    forever();
}

fn forever() -> ! {
    loop {
        std::thread::park();
    }
}

/// A client that may come before its server.
pub fn connect<C: Carrier>(carrier: C, address: &Address) -> C::Caller {
    let mut client = None;
    until("there is a server", || {
        client = carrier.try_connect(address);
        client.is_some()
    });
    client.expect("it was there")
}

pub fn calls_of_a_killed_server_are_in_doubt_and_are_not_repeated<C: Carrier>(carrier: C) {
    let address = carrier.address();
    let log = Log::new(&address);
    let server = Killed::start::<C>(&address, &log, true);
    let client = EverywhereClient::new(connect(carrier, &address));
    assert_eq!(client.double(2), Outcome::Executed(4));
    let next = std::thread::scope(|scope| {
        let next = scope.spawn(|| {
            until("it begins", || log.times(7) == 1);
            server.kill();
            Killed::start::<C>(&address, &log, false)
        });
        let outcome = client.change(7);
        let in_doubt = matches!(
            outcome,
            Outcome::Unknown(
                UnknownReason::Closed(_) | UnknownReason::SessionLost | UnknownReason::NoAnswer
            )
        );
        assert!(in_doubt, "{outcome:?}");
        next.join().expect("no panic")
    });
    // Its device, where it has one, is nobody else's.
    drop(client);
    let client = EverywhereClient::new(connect(carrier, &address));
    assert_eq!(client.change(8), Outcome::Executed(8));
    assert_eq!((log.times(7), log.times(8)), (1, 1));
    drop(next);
}

pub fn a_stopped_server_executes_what_came_meanwhile_once<C: Carrier>(carrier: C) {
    let address = carrier.address();
    let log = Log::new(&address);
    let server = Killed::start::<C>(&address, &log, false);
    let client = EverywhereClient::new(connect(carrier, &address));
    assert_eq!(client.change(1), Outcome::Executed(1));
    server.stop();
    let mut waiting = client.start_change(7).expect("it is sent");
    // Longer than the timers that send again.
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(700) {
        assert_eq!(waiting.try_take(), None, "the server is stopped");
        std::thread::sleep(Duration::from_millis(1));
    }
    let given_up = client.start_change(8).expect("it is sent");
    let outcome = given_up.wait_timeout(Duration::from_millis(20));
    assert_eq!(outcome, Outcome::Unknown(UnknownReason::TimedOut));
    server.signal(Signal::CONT);
    assert_eq!(waiting.wait(), Outcome::Executed(7));
    assert_eq!(client.change(9), Outcome::Executed(9));
    assert_eq!((log.times(7), log.times(9)), (1, 1));
    assert!(log.times(8) <= 1, "what its caller gave up was executed twice");
}

/// Over channels: by LRPC nothing is repeated.
pub fn an_idempotent_call_outlives_its_server<C: Carrier>(carrier: C) {
    let address = carrier.address();
    let log = Log::new(&address);
    let server = Killed::start::<C>(&address, &log, true);
    let client = EverywhereClient::new(connect(carrier, &address));
    std::thread::scope(|scope| {
        let next = scope.spawn(|| {
            until("one begins", || log.times(7) + log.times(9) == 1);
            server.kill();
            Killed::start::<C>(&address, &log, false)
        });
        let another = client.start_look(9);
        assert_eq!(client.look(7), Outcome::Executed(7));
        assert_eq!(another.expect("it was sent").wait(), Outcome::Executed(9));
        drop(next.join().expect("no panic"));
    });
    // One by each server, and one that the first did not come to.
    let mut times = [log.times(7), log.times(9)];
    times.sort();
    assert_eq!(times, [1, 2]);
}
