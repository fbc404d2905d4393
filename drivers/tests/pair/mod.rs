//! A veth between the lab's two hosts, made anew for every test, with an echo in one and a client in the
//! other.
#![allow(dead_code)] // Each test program uses a part of it.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use unet::{
    Channel, ChannelId, ConnectOptions, Delivery, Endpoint, EndpointOptions, Event, LinkStatus,
    ListenOptions, NetworkOptions, Offer,
};

/// After how long without a word a channel is given up.
pub const SILENCE: Duration = Duration::from_secs(3);
/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a command, which must succeed.
pub fn run(command: &str) {
    let mut words = command.split_whitespace();
    let said = Command::new(words.next().expect("a program")).args(words).output();
    let said = said.expect("it is installed");
    assert!(said.status.success(), "{command}: {}", String::from_utf8_lossy(&said.stderr));
}

/// Makes the veth anew, and runs a test on a thread in `lab-a`.
pub fn in_lab(test: impl FnOnce() + Send) {
    join_hosts();
    in_host(test);
}

/// Runs a test on a thread in `lab-a`.
pub fn in_host(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            enter("lab-a");
            test();
        });
    });
}

/// Makes the veth anew.
pub fn join_hosts() {
    separate_hosts();
    let (near, far) = (end("a", 1), end("b", 2));
    run(&format!("ip -n lab-a link add lab-a0 {near} type veth peer name lab-b0 {far}"));
    bring_up();
}

/// Joins the hosts by a switch, so that either keeps its carrier whatever becomes of the other.
pub fn join_hosts_by_switch() {
    separate_hosts();
    run("ip -n lab-a link add switch0 type bridge");
    for (host, last) in [("a", 1), ("b", 2)] {
        let end = end(host, last);
        let port = format!("port-{host}");
        run(&format!("ip -n lab-a link add {port} type veth peer name lab-{host}0 {end}"));
        run(&format!("ip -n lab-a link set {port} master switch0 up"));
    }
    run("ip -n lab-a link set switch0 up");
    bring_up();
}

/// What a test before this one left is gone.
fn separate_hosts() {
    for link in ["lab-a0", "port-b", "switch0"] {
        _ = Command::new("ip").args(["-n", "lab-a", "link", "del", link]).output();
    }
}

/// A host's end of a veth. One queue: what a kernel's socket sends would go by any of several, and the driver
/// reads one.
fn end(host: &str, last: u8) -> String {
    format!("address 02:00:00:4d:00:0{last} numtxqueues 1 numrxqueues 1 netns lab-{host}")
}

/// Gives both hosts their addresses.
fn bring_up() {
    for (host, last) in [("a", 1), ("b", 2)] {
        run(&format!("ip -n lab-{host} link set lab-{host}0 addrgenmode none"));
        run(&format!("ip -n lab-{host} address add 10.77.0.{last}/24 dev lab-{host}0"));
        run(&format!("ip -n lab-{host} address add fd77::{last}/64 dev lab-{host}0 nodad"));
        // Without one the kernel asks for no neighbour.
        run(&format!("ip -n lab-{host} address add fe80::ff:fe4d:{last}/64 dev lab-{host}0 nodad"));
        // What a socket sends is to have a whole checksum: the other end takes it by AF_XDP.
        run(&format!("nsenter --net=/run/netns/lab-{host} ethtool -K lab-{host}0 tx off"));
        run(&format!("ip -n lab-{host} link set lab-{host}0 up"));
    }
}

/// Moves this thread into a host, for ever.
pub fn enter(host: &str) {
    let namespace = File::open(format!("/run/netns/{host}")).expect("the lab is there");
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root");
}

pub fn network() -> NetworkOptions {
    NetworkOptions { drivers: drivers::linked(), silence: SILENCE, ..NetworkOptions::default() }
}

/// A way between the hosts: what the echo in `lab-b` listens at, and what leads there from `lab-a`.
#[derive(Clone, Copy, Debug)]
pub struct Way(pub &'static str, pub &'static str);

pub const GENERIC: Way =
    Way("xdp:lab-b0@10.77.0.2:9000?mode=generic", "xdp:lab-a0@10.77.0.2:9000?mode=generic");
pub const NATIVE: Way =
    Way("xdp:lab-b0@10.77.0.2:9000?mode=native", "xdp:lab-a0@10.77.0.2:9000?mode=native");
pub const UDP: Way = Way("udp:10.77.0.2:9000", "udp:10.77.0.2:9000");
pub const WAYS: [Way; 3] = [UDP, GENERIC, NATIVE];

/// Sends back what comes, in `lab-b`, until it is dropped.
pub struct Echo {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
    status: Arc<Mutex<Option<LinkStatus>>>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub fn start(address: &str) -> Self {
        let [stop, asked, ready] = std::array::from_fn(|_| Arc::new(AtomicBool::new(false)));
        let status: Arc<Mutex<Option<LinkStatus>>> = Arc::default();
        let shared = (stop.clone(), asked.clone(), ready.clone(), Arc::clone(&status));
        let address = address.to_owned();
        let thread = std::thread::spawn(move || {
            enter("lab-b");
            let (stop, asked, ready, status) = shared;
            let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("memory");
            let options = ListenOptions { network: network(), ..ListenOptions::default() };
            endpoint.listen(&address.parse().expect("valid"), options).expect("it is free");
            ready.store(true, Ordering::Release);
            while !stop.load(Ordering::Relaxed) {
                match endpoint.recv_timeout(Duration::from_millis(2)) {
                    Some(Event::Message(from, message)) => {
                        let bytes = message.to_vec().expect("its own");
                        if let Some(channel) = endpoint.channel_mut(from) {
                            _ = channel.try_send(&bytes);
                        }
                    }
                    Some(Event::Incoming(incoming)) => _ = endpoint.accept(incoming, b""),
                    _ => {}
                }
                if asked.swap(false, Ordering::AcqRel) {
                    *status.lock().expect("no panic") = endpoint.links().pop();
                }
            }
        });
        let begin = Instant::now();
        while !ready.load(Ordering::Acquire) {
            assert!(begin.elapsed() < PATIENCE && !thread.is_finished(), "no echo");
            sleep(Duration::from_millis(1));
        }
        Self { stop, asked, status, thread: Some(thread) }
    }

    /// What its link counted by now.
    pub fn status(&self) -> LinkStatus {
        self.status.lock().expect("no panic").take();
        self.asked.store(true, Ordering::Release);
        let begin = Instant::now();
        loop {
            assert!(begin.elapsed() < PATIENCE, "the echo does not answer");
            if let Some(status) = self.status.lock().expect("no panic").take() {
                return status;
            }
            sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the echo panicked");
        }
    }
}

/// A client with one channel.
pub struct Client {
    pub endpoint: Endpoint,
    pub id: ChannelId,
    rounds: u64,
}

impl Client {
    pub fn connect(address: &str) -> Self {
        let mut endpoint = Endpoint::new(EndpointOptions::default()).expect("memory");
        let id = connect(&mut endpoint, address);
        Self { endpoint, id, rounds: 0 }
    }

    /// Connects the same endpoint once more.
    pub fn reconnect(&mut self, address: &str) {
        self.id = connect(&mut self.endpoint, address);
    }

    pub fn channel(&mut self) -> &mut Channel {
        self.endpoint.channel_mut(self.id).expect("it is open")
    }

    pub fn link(&self) -> LinkStatus {
        self.endpoint.links().pop().expect("it has one")
    }

    /// Sends a message of `len` bytes, and waits for its echo a while.
    pub fn call(&mut self, len: usize, patience: Duration) -> bool {
        self.rounds += 1;
        let mut bytes = vec![self.rounds as u8; len];
        bytes[..8].copy_from_slice(&self.rounds.to_le_bytes());
        if !matches!(self.channel().try_send(&bytes), Ok(Offer::Taken)) {
            self.endpoint.recv_timeout(Duration::from_millis(1));
            return false;
        }
        let begin = Instant::now();
        while begin.elapsed() < patience {
            match self.endpoint.recv_timeout(Duration::from_millis(10)) {
                Some(Event::Message(_, echo)) if is_same(&echo, &bytes) => return true,
                Some(Event::Message(..)) | None => {}
                other => panic!("the channel was to go on: {other:?}"),
            }
        }
        false
    }

    /// Goes on calling until it is answered.
    pub fn expect_echo(&mut self, len: usize) {
        let begin = Instant::now();
        while !self.call(len, Duration::from_millis(200)) {
            assert!(begin.elapsed() < PATIENCE, "no echo of {len} bytes");
        }
    }

    /// Looks after the endpoint for a while; nothing but messages comes.
    pub fn idle(&mut self, time: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < time {
            let event = self.endpoint.recv_timeout(Duration::from_millis(5));
            assert!(matches!(event, None | Some(Event::Message(..))), "{event:?}");
        }
    }
}

fn connect(endpoint: &mut Endpoint, address: &str) -> ChannelId {
    let options = ConnectOptions { network: network(), timeout: PATIENCE, ..Default::default() };
    let connected = endpoint.connect(&address.parse().expect("valid"), options);
    connected.unwrap_or_else(|error| panic!("{address}: {error}"))
}

fn is_same(echo: &Delivery, bytes: &[u8]) -> bool {
    echo.to_vec().is_ok_and(|echo| echo == bytes)
}
