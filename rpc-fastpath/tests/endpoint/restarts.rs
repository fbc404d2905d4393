//! Processes that are killed.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rpc_fastpath::endpoint::*;

use crate::scene::*;

const ADDRESS: &str = "RPC_TEST_ADDRESS";
/// Where a server writes each number that it was called with, and when it began.
const LOG: &str = "RPC_TEST_LOG";
const ROLE: &str = "RPC_TEST_ROLE";

/// A process that runs [`child`], and is killed at the latest when this is dropped.
struct Killed(Child);

impl Killed {
    fn start(role: &str, scene: &str, Log(log): &Log) -> Self {
        let exe = std::env::current_exe().expect("this program");
        let child = Command::new(exe)
            .args(["--ignored", "--exact", "child"])
            .env(ROLE, role)
            .env(ADDRESS, scene)
            .env(LOG, log)
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("a process"))
    }

    fn kill(&mut self) {
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

pub fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let address = std::env::var(ADDRESS).expect("set with the role").parse().expect("an address");
    let log = std::env::var(LOG).expect("set with the role");
    match role.as_str() {
        "server" => serve(&address, &log),
        _ => {
            let mut connection = Connection::open(&address, of_client(SHM)).expect("a session");
            // With a call that is never answered, and half of one.
            connection.start(KEEP, b"", How::default()).expect("room");
            connection.start(ECHO, pattern(30 << 20), How::default()).expect("room");
            connection.flush();
            fs::write(&log, "there").expect("written");
            // Who says nothing for long is taken for dead.
            loop {
                std::thread::sleep(Duration::from_millis(100));
                connection.poll(|_| {});
            }
        }
    }
}

fn serve(address: &unet::Address, log: &str) {
    // The one before may hold the address until the kernel has ended it.
    let mut service = loop {
        match Service::listen(std::slice::from_ref(address), of_server()) {
            Ok(service) => break service,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let mut log = fs::File::options().append(true).create(true).open(log).expect("a file");
    let mut executes = |_: &Context, bytes: Bytes<'_>, reply: &mut Reply<'_>| {
        let mut number = [0; 8];
        bytes.copy_to(0, &mut number)?;
        let line = format!("{}\n", u64::from_le_bytes(number));
        log.write_all(line.as_bytes()).map_err(|_| Failure::Abandoned)?;
        reply.write(&number);
        Ok(())
    };
    service.serve(&mut executes, &AtomicBool::new(false));
}

/// A file that is not there yet, and not any more when this is dropped.
struct Log(PathBuf);

impl Log {
    fn new(name: &str, address: &unet::Address) -> Self {
        let name = format!("{name}-{address}").replace([':', '@', '?', '/', '&', '='], "-");
        let log = Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name));
        let _ = fs::remove_file(&log.0);
        log
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

pub fn a_server_that_is_killed_and_restarted_executes_nothing_twice(way: Way) {
    let address = way.address();
    let log = Log::new("executed", &address);
    let mut server = Killed::start("server", &address.to_string(), &log);
    let mut options = of_client(way);
    options.limits.window = 16;
    options.connect.network.silence = Duration::from_secs(1);
    let mut connection =
        Connection::begin(std::slice::from_ref(&address), options).expect("an endpoint");

    let (mut number, mut ends) = (0u64, HashMap::new());
    let (mut tokens, mut kills) = (HashMap::new(), 0);
    let (mut executed, mut after) = (0, 0);
    let begin = Instant::now();
    while kills < 4 || after < 200 {
        assert!(begin.elapsed() < Duration::from_secs(60), "{kills} kills, {executed} executed");
        while connection.under_way() < 12 {
            match connection.start(COUNT, &number.to_le_bytes(), How::default()) {
                Ok(token) => assert!(tokens.insert(token, number).is_none()),
                Err(why) => {
                    assert!(matches!(why, Refusal::NoSession | Refusal::Overload), "{why}");
                    break;
                }
            }
            number += 1;
        }
        connection.poll_timeout(Duration::from_millis(10), |end| {
            let number = tokens[&end.token];
            let outcome = end.outcome.map(|reply| reply.to_vec().expect("readable"));
            if outcome == Outcome::Executed(number.to_le_bytes().into()) {
                (executed, after) = (executed + 1, after + 1);
            }
            assert!(ends.insert(number, outcome).is_none(), "a call ends once");
        });
        if after > 300 && kills < 4 {
            server.kill();
            server = Killed::start("server", &address.to_string(), &log);
            (kills, after) = (kills + 1, 0);
        }
    }
    connection.close(|end| {
        let outcome = end.outcome.map(|reply| reply.to_vec().expect("readable"));
        assert!(ends.insert(tokens[&end.token], outcome).is_none(), "a call ends once");
    });
    drop(server);

    let lines = fs::read_to_string(&log.0).expect("the log");
    let mut times: HashMap<u64, u64> = HashMap::new();
    for line in lines.lines() {
        *times.entry(line.parse().expect("a number")).or_default() += 1;
    }
    assert!(times.values().all(|times| *times == 1), "nothing is executed twice");
    assert_eq!(ends.len(), tokens.len(), "every call has ended");
    let mut unknown = 0;
    for (number, outcome) in &ends {
        let times = times.get(number).copied().unwrap_or(0);
        match outcome {
            Outcome::Executed(_) => assert_eq!(times, 1, "{number} was acknowledged"),
            Outcome::Refused(_) => assert_eq!(times, 0, "{number} was refused"),
            Outcome::Unknown(_) => unknown += 1,
            other => panic!("{number}: {other:?}"),
        }
    }
    assert!(unknown > 0, "calls were under way when it was killed");
}

pub fn a_client_that_is_killed_frees_its_session(way: Way) {
    with_server(way, of_server(), |scene| {
        let log = Log::new("client", &scene.address);
        let mut connection = scene.connect();
        for round in 0..2 {
            let mut client = Killed::start("client", &scene.address.to_string(), &log);
            // Who says nothing for long is taken for dead.
            let mut lives = || {
                assert_eq!(connection.call(NULL, b"", How::default()), Outcome::Executed(vec![]));
            };
            until("the client has its session", || {
                lives();
                log.0.exists() && scene.clients() == 2
            });
            client.kill();
            until("the session is free", || {
                lives();
                scene.clients() == 1
            });
            fs::remove_file(&log.0).unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
    });
}
