//! What the tests of this crate share: veth pairs, frames, and patience.

#![allow(dead_code)]

pub mod frame;
#[path = "../../../../unet/tests/support/role.rs"]
pub mod role;

use std::collections::VecDeque;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use driver_af_xdp::{AfXdp, Options, Way};
use fbufs::{Fbuf, FbufMut};
use unet::device::{Count, Device, Frames, Piece};

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const PORT: u16 = 4791;
pub const WAYS: [Way; 2] = [Way::Generic, Way::Native];

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Runs `ip` with words between spaces.
pub fn ip(words: &str) {
    assert!(try_ip(words), "ip {words}");
}

pub fn try_ip(words: &str) -> bool {
    Command::new("ip").args(words.split(' ')).status().expect("iproute2 is there").success()
}

/// A veth pair of its own, deleted when dropped.
pub struct Pair {
    pub near: String,
    pub far: String,
}

impl Pair {
    pub fn new() -> Self {
        Self::with(1500, 1)
    }

    pub fn with(mtu: u32, queues: u32) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:x}{number:x}", std::process::id());
        let pair = Self { near: format!("n{id}"), far: format!("f{id}") };
        let (near, far) = (&pair.near, &pair.far);
        let size = format!("mtu {mtu} numtxqueues {queues} numrxqueues {queues}");
        ip(&format!("link add {near} {size} type veth peer name {far} {size}"));
        for end in [near, far] {
            // The tests send what they mean to, and count it.
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1");
            ip(&format!("link set {end} up"));
        }
        let deadline = Instant::now() + PATIENCE;
        while [near, far]
            .iter()
            .any(|end| !driver_af_xdp::Interface::find(end).expect("it was made").carrier)
        {
            assert!(Instant::now() < deadline, "no carrier");
            std::thread::sleep(Duration::from_millis(5));
        }
        pair
    }

    /// Both ends as devices.
    pub fn open(&self, options: &Options) -> (AfXdp, AfXdp) {
        let open = |name: &str| AfXdp::open(name, 0, options).expect("a queue that is free");
        (open(&self.near), open(&self.far))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // One end takes the other with it; a test may have deleted it.
        let _ = Command::new("ip").args(["link", "del", &self.near]).output();
    }
}

pub fn options(way: Way, buffers: u32) -> Options {
    Options { way, port: PORT, buffers, ..Options::default() }
}

/// A frame to the device's port in one buffer of its pool; `None` when none is free.
pub fn compose(device: &mut AfXdp, payload: &[u8]) -> Option<Piece<Fbuf>> {
    let bytes = frame::Udp4::between(device.mac(), [2; 6], PORT).frame(payload);
    plain(device, &bytes)
}

/// Bytes as a frame of one piece.
pub fn plain(device: &mut AfXdp, bytes: &[u8]) -> Option<Piece<Fbuf>> {
    let mut fbuf = device.pool().alloc(bytes.len()).ok()?;
    fbuf.copy_from_slice(bytes);
    Some(Piece::whole(fbuf.freeze()))
}

/// Hands over everything, however many calls it takes.
pub fn send_all(device: &mut AfXdp, frames: &mut VecDeque<Piece<Fbuf>>) {
    let deadline = Instant::now() + PATIENCE;
    while !frames.is_empty() {
        assert!(Instant::now() < deadline, "no room came back");
        device.transmit(frames).expect("the interface is up");
    }
}

/// Receives until there are `count` pieces, or nothing comes for a while.
pub fn receive(device: &mut AfXdp, count: usize) -> Vec<Piece<FbufMut>> {
    let mut got = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while got.len() < count && Instant::now() < deadline {
        device.receive(&mut got).expect("the interface is up");
    }
    got
}

/// Receives whatever comes within a moment.
pub fn drain(device: &mut AfXdp) -> Vec<Piece<FbufMut>> {
    let mut got = Vec::new();
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(50) {
        let before = got.len();
        device.receive(&mut got).expect("the interface is up");
        if got.len() != before {
            last = Instant::now();
        }
    }
    got
}

/// Lets the device take back all that is on its way.
pub fn settle(device: &mut AfXdp) {
    let total = device.pool().total();
    let deadline = Instant::now() + PATIENCE;
    let mut none = VecDeque::new();
    loop {
        device.transmit(&mut none).expect("the interface is up");
        assert!(drain(device).is_empty(), "all was received before");
        let stock = device.capabilities().stock;
        if device.pool().free() + stock == total {
            return;
        }
        assert!(Instant::now() < deadline, "{} of {total} are free", device.pool().free());
    }
}

/// The payload of a frame of `compose`.
pub fn payload(frame: &[u8]) -> &[u8] {
    &frame[42..]
}

pub fn counted(device: &mut AfXdp, count: Count) -> u64 {
    device.statistics()[count]
}
