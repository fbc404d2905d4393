//! Servers that are killed while they execute, and others in their place.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rpc_fastpath::service::{Outcome, PendingCall, Remote, UnknownReason};
use unet::Address;

use crate::carrying::{Carrier, Channels, LOSSY, Lrpc, SHM, SIM, UDP, of_client};
use crate::service::{EverywhereClient, Handler, Seen, until};

const ADDRESS: &str = "CARRIERS_TEST_ADDRESS";
/// Where a server writes which calls it began.
const LOG: &str = "CARRIERS_TEST_LOG";
/// Whether it never ends what it begins.
const STUCK: &str = "CARRIERS_TEST_STUCK";
const BY_LRPC: &str = "CARRIERS_TEST_BY_LRPC";

/// A server in a process of its own, which is killed at the latest when this is dropped.
struct Killed(Child);

impl Killed {
    fn start<C: Carrier>(address: &Address, Log(log): &Log, is_stuck: bool) -> Self {
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

    fn kill(mut self) {
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
struct Log(PathBuf);

impl Log {
    fn new(address: &Address) -> Self {
        let name = format!("began-{address}").replace([':', '@', '?', '/', '&', '='], "-");
        let log = Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name));
        fs::write(&log.0, "").expect("written");
        log
    }

    /// How often calls with that number began.
    fn times(&self, number: u64) -> usize {
        let log = fs::read_to_string(&self.0).expect("the log");
        log.lines().filter(|line| *line == number.to_string()).count()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

pub fn child() {
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
            // The form says what an address is like that nobody has; this is one.
            false => Channels("").try_serve(&address, handler()),
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
fn connect<C: Carrier>(carrier: C, address: &Address) -> C::Caller {
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
    let client = EverywhereClient::new(connect(carrier, &address));
    assert_eq!(client.change(8), Outcome::Executed(8));
    assert_eq!((log.times(7), log.times(8)), (1, 1));
    drop(next);
}

fn an_idempotent_call_outlives_its_server(form: &'static str) {
    let carrier = Channels(form);
    let address = carrier.address();
    let log = Log::new(&address);
    let server = Killed::start::<Channels>(&address, &log, true);
    let client = EverywhereClient::new(connect(carrier, &address));
    std::thread::scope(|scope| {
        let next = scope.spawn(|| {
            until("one begins", || log.times(7) + log.times(9) == 1);
            server.kill();
            Killed::start::<Channels>(&address, &log, false)
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

#[test]
fn an_idempotent_call_outlives_its_server_over_shared_memory() {
    an_idempotent_call_outlives_its_server(SHM);
}

#[test]
fn an_idempotent_call_outlives_its_server_over_udp() {
    an_idempotent_call_outlives_its_server(UDP);
}

#[test]
fn an_idempotent_call_outlives_its_server_over_the_simulator() {
    an_idempotent_call_outlives_its_server(SIM);
}

#[test]
fn an_idempotent_call_outlives_its_server_over_the_simulator_with_faults() {
    an_idempotent_call_outlives_its_server(LOSSY);
}

#[test]
fn an_idempotent_call_is_repeated_so_often_and_then_in_doubt() {
    let address = Channels(SHM).address();
    let log = Log::new(&address);
    let mut server = Killed::start::<Channels>(&address, &log, true);
    let mut options = of_client();
    options.retries = 2;
    // Ends what waits for a server that does not come back.
    options.connection.timers.patience = 1_000_000_000;
    drop(connect(Channels(SHM), &address));
    let remote = Remote::open(std::slice::from_ref(&address), options).expect("a session");
    let client = EverywhereClient::new(remote);
    std::thread::scope(|scope| {
        let (log, address) = (&log, &address);
        scope.spawn(move || {
            for times in 1..=3 {
                until("it begins", || log.times(7) == times);
                server.kill();
                server = Killed::start::<Channels>(address, log, true);
            }
        });
        let outcome = client.look(7);
        assert_eq!(outcome, Outcome::Unknown(UnknownReason::SessionLost));
    });
    assert_eq!(log.times(7), 3, "once, and twice again");
}
