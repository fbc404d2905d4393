//! The examples do what their first lines say.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use unet::{Address, Channel, ConnectError, ConnectOptions, Wait};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running example. Killed when dropped.
struct Example {
    child: Child,
    output: BufReader<ChildStdout>,
}

fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("this program has a path");
    let target = tests.parent().and_then(|folder| folder.parent()).expect("it lies in deps");
    let program = target.join("examples").join(name);
    assert!(program.exists(), "the examples are not built: type `cargo test -p unet`, all of it");
    program
}

fn start(name: &str, arguments: &[&str]) -> Example {
    let mut command = Command::new(program(name));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it was built");
    let output = BufReader::new(child.stdout.take().expect("it was piped"));
    Example { child, output }
}

impl Example {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it writes text");
        line
    }

    /// Waits for its end, which must be a success.
    fn ends(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is a child") {
                break status;
            }
            assert!(Instant::now() < deadline, "it was to end");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "{status}");
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn name(test: &str) -> String {
    format!("shm:example-{test}-{}", std::process::id())
}

fn connect(name: &str) -> Channel {
    let address: Address = name.parse().expect("the name is valid");
    let mut options = ConnectOptions::default();
    options.channel.wait = Wait::Park;
    Channel::connect(&address, options).expect("it listens")
}

fn echoes(channel: &mut Channel, bytes: &[u8]) {
    channel.send(bytes).expect("it is there");
    let echo = channel.recv_timeout(PATIENCE).expect("it is there").expect("it answers in time");
    assert!(echo.to_vec().expect("nothing was revoked") == bytes, "{} bytes", bytes.len());
}

#[test]
fn echo_answers_its_own_client_and_others() {
    let name = name("echo");
    let mut server = start("echo", &["serve", &name]);
    assert_eq!(server.line(), format!("listening at {name}\n"));
    let mut client = start("echo", &["ask", &name, "hello", "there"]);
    assert!(client.line().starts_with("hello ("));
    assert!(client.line().starts_with("there ("));
    client.ends();
    let mut channel = connect(&name);
    [0, 56, 57, 100_000].into_iter().for_each(|len| echoes(&mut channel, &vec![7; len]));
}

#[test]
fn echo_says_that_nobody_listens() {
    let mut command = Command::new(program("echo"));
    let said = command.args(["ask", &name("nobody"), "x"]).output().expect("it was built");
    assert!(!said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("NobodyListens"));
}

#[test]
fn epoll_echoes_while_it_reads_its_input() {
    let name = name("epoll");
    let mut server = start("epoll", &[&name]);
    server.line();
    let mut first = connect(&name);
    let mut second = connect(&name);
    for round in 0..100u32 {
        echoes(&mut first, &round.to_ne_bytes());
        echoes(&mut second, &vec![round as u8; 5000]);
        if round % 25 == 0 {
            let input = server.child.stdin.as_mut().expect("it is open");
            writeln!(input, "line {round}").expect("it reads");
            assert_eq!(server.line(), format!("2 channels, and you typed line {round}\n"));
        }
    }
    drop(server.child.stdin.take());
    server.ends();
    let closed = first.recv_timeout(PATIENCE);
    assert!(closed.is_err(), "{closed:?}");
}

#[test]
fn tokio_echoes_and_ends_with_its_last_client() {
    let name = name("tokio");
    let mut server = start("tokio", &[&name]);
    server.line();
    let mut first = connect(&name);
    let mut second = connect(&name);
    for round in 0..100u32 {
        echoes(&mut first, &round.to_ne_bytes());
        echoes(&mut second, &vec![round as u8; 5000]);
    }
    drop(first);
    echoes(&mut second, b"still here");
    drop(second);
    server.ends();
    let address: Address = name.parse().expect("the name is valid");
    let after = Channel::connect(&address, ConnectOptions::default());
    assert_eq!(after.err(), Some(ConnectError::NobodyListens));
}

/// More clients at once than an endpoint takes from the kernel in one go: none may be forgotten by
/// a runtime that is told of each change once.
#[test]
fn tokio_forgets_none_of_many_clients() {
    const CLIENTS: usize = 96;
    let name = name("many");
    let mut server = start("tokio", &[&name]);
    server.line();
    // Stopped, so that they wait for it together.
    let pid = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("it runs");
    std::thread::scope(|scope| {
        // They say nothing, so that each accepted one gives no further reason to look.
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| connect(&name))).collect();
        std::thread::sleep(Duration::from_millis(300));
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("it lives");
        let channels: Vec<_> =
            clients.into_iter().map(|client| client.join().expect("it was served")).collect();
        drop(channels);
    });
    server.ends();
}

#[test]
fn pipeline_reads_every_byte_at_its_end_and_copies_none() {
    let mut pipeline = start("pipeline", &["40"]);
    pipeline.ends();
    let said: Vec<String> = (0..4).map(|_| pipeline.line()).collect();
    let word = 0x0101_0101_0101_0101u64;
    let sum = word.wrapping_mul(40 << 17);
    let read = format!("application: 40 messages, {} bytes read once (sum {sum:x})\n", 40 << 20);
    assert!(said.contains(&read), "{said:?}");
    for who in ["driver", "protocol"] {
        let copied = format!("{who}: 0 bytes copied");
        assert!(said.iter().any(|line| line.starts_with(&copied)), "{said:?}");
    }
    let ends = |line: &String| line.ends_with(" GB/s, 0 bytes copied\n");
    assert!(said.iter().any(ends), "{said:?}");
}

#[test]
fn pipeline_ends_with_a_word_when_one_of_its_processes_is_killed() {
    // More than can be sent before that.
    let mut pipeline = start("pipeline", &["1000000000"]);
    let pid = pipeline.child.id();
    let children = format!("/proc/{pid}/task/{pid}/children");
    let deadline = Instant::now() + PATIENCE;
    let protocol = loop {
        let children = std::fs::read_to_string(&children).expect("it runs");
        // In the order in which they were started.
        if let Some(protocol) = children.split_whitespace().nth(1) {
            break protocol.parse().expect("a number");
        }
        assert!(Instant::now() < deadline, "it was to start two");
        std::thread::sleep(Duration::from_millis(1));
    };
    std::thread::sleep(Duration::from_millis(100));
    let protocol = rustix::process::Pid::from_raw(protocol).expect("a process has a number");
    rustix::process::kill_process(protocol, rustix::process::Signal::KILL).expect("it runs");
    let status = pipeline.child.wait().expect("it is a child");
    assert_eq!(status.code(), Some(1), "the driver says what happened");
}
