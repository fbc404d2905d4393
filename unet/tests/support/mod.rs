//! What the tests of this folder share: names, parts that run in a process of their own, a hostile peer.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code)]

pub mod hostile;
pub mod role;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use unet::{
    Address, Channel, ChannelId, Class, ConnectOptions, Endpoint, EndpointOptions, Event, Geometry,
    ListenOptions, Wait,
};

/// Every way to wait.
pub const WAITS: [Wait; 3] = [Wait::Spin, Wait::Adaptive, Wait::Park];

/// As long as nothing hangs, nothing takes so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A name that no other test and no other run has.
pub fn address(test: &str) -> Address {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("shm:test-{test}-{}-{number}", std::process::id());
    name.parse().expect("the name is valid")
}

/// A small segment: tests that make many need not wait for the kernel to clear pages.
pub fn small() -> Geometry {
    let mut geometry = Geometry { slots: 16, ..Geometry::default() };
    geometry.classes = Default::default();
    geometry.classes[0] = Class { buffer_bytes: 4096, buffers: 8 };
    geometry.classes[1] = Class { buffer_bytes: 65_536, buffers: 2 };
    geometry
}

/// How a client with a small segment connects.
pub fn connect_options(wait: Wait) -> ConnectOptions {
    let mut options = ConnectOptions { regions: 7, ..ConnectOptions::default() };
    options.channel.geometry = small();
    options.channel.wait = wait;
    options
}

/// How a listener with small segments listens.
pub fn listen_options() -> ListenOptions {
    let mut options = ListenOptions { regions: 7, ..ListenOptions::default() };
    options.channel.geometry = small();
    options
}

/// An endpoint that listens.
pub fn listening(address: &Address, wait: Wait) -> Endpoint {
    let options = EndpointOptions { wait, ..EndpointOptions::default() };
    let mut endpoint = Endpoint::new(options).expect("an endpoint");
    endpoint.listen(address, listen_options()).expect("the name is free");
    endpoint
}

/// Connects from a thread of its own while `endpoint` accepts.
pub fn join(endpoint: &mut Endpoint, address: &Address, wait: Wait) -> (ChannelId, Channel) {
    std::thread::scope(|scope| {
        let client = scope.spawn(|| Channel::connect(address, connect_options(wait)));
        let id = accept(endpoint);
        (id, client.join().expect("no panic").expect("connected"))
    })
}

/// Accepts the next client; anything else that happens before is a mistake of the test's.
pub fn accept(endpoint: &mut Endpoint) -> ChannelId {
    match endpoint.recv_timeout(PATIENCE) {
        Some(Event::Incoming(incoming)) => endpoint.accept(incoming, b"").expect("accepted"),
        other => panic!("a client was to connect, not {other:?}"),
    }
}

/// The next event; it must come.
pub fn event(endpoint: &mut Endpoint) -> Event {
    endpoint.recv_timeout(PATIENCE).expect("something was to happen")
}

/// Waits until something holds, looking often.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain waited for this: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A generator of numbers that repeats for a seed (xorshift64*, Vigna 2016).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}
