//! Devices on the loopback interface.
#![allow(dead_code)]

#[cfg(feature = "lab")]
pub mod namespace;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use driver_udp::{Path, UdpOptions};
use unet::device::{Datagrams, Destination, Outgoing, Piece, Received, Statistics};

/// Each test, by either path.
#[macro_export]
macro_rules! by_both_paths {
    ($($name:ident),* $(,)?) => {
        mod sockets {
            $(#[test] fn $name() { super::$name(driver_udp::Path::Sockets); })*
        }
        mod io_uring {
            $(#[test] fn $name() { super::$name(driver_udp::Path::IoUring); })*
        }
    };
}

pub const V4: &str = "127.0.0.1:0";
pub const V6: &str = "[::1]:0";

pub fn options(path: Path) -> UdpOptions {
    UdpOptions { path, buffers: 128, ..UdpOptions::default() }
}

pub fn open(at: &str, options: UdpOptions) -> Box<dyn Datagrams> {
    driver_udp::open(at.parse().expect("an address"), options).expect("a device")
}

/// Two devices, and the way from the first to the second.
pub fn pair(
    at: &str,
    options: UdpOptions,
) -> (Box<dyn Datagrams>, Box<dyn Datagrams>, Destination) {
    let (mut a, b) = (open(at, options), open(at, options));
    let to = a.open(b.local()).expect("the loopback leads there");
    (a, b, to)
}

pub fn outgoing(device: &mut dyn Datagrams, to: Destination, payload: &[u8]) -> Outgoing {
    let mut buffer = device.pool().alloc(payload.len()).expect("a buffer");
    buffer.copy_from_slice(payload);
    Outgoing { to, piece: Piece::whole(buffer.freeze()) }
}

/// Hands payloads over as one burst: how many were not taken.
pub fn send(device: &mut dyn Datagrams, to: Destination, payloads: &[&[u8]]) -> usize {
    let mut queue: VecDeque<_> =
        payloads.iter().map(|payload| outgoing(device, to, payload)).collect();
    device.transmit(&mut queue).expect("no error");
    queue.len()
}

/// Receives until there are so many, or two seconds have gone by.
pub fn receive(device: &mut dyn Datagrams, count: usize) -> Vec<Received> {
    let (mut received, end) = (Vec::new(), Instant::now() + Duration::from_secs(2));
    while received.len() < count && Instant::now() < end {
        device.receive(&mut received).expect("no error");
    }
    received
}

/// Receives what has arrived, for a while.
pub fn receive_all(device: &mut dyn Datagrams) -> Vec<Received> {
    let (mut received, end) = (Vec::new(), Instant::now() + Duration::from_millis(20));
    while Instant::now() < end {
        device.receive(&mut received).expect("no error");
    }
    received
}

pub fn payloads(received: &[Received]) -> Vec<&[u8]> {
    received.iter().map(|datagram| &datagram.piece.bytes[..]).collect()
}

pub fn count(device: &mut dyn Datagrams, count: unet::device::Count) -> u64 {
    let counted: Statistics = device.statistics();
    counted[count]
}

/// How many buffers a device keeps for itself when nothing is under way.
pub fn in_stock(device: &mut dyn Datagrams) -> usize {
    // A look at nothing fills the stock.
    assert!(receive_all(device).is_empty());
    device.pool().total() - device.pool().free()
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// How many sockets of its family have an address's port, on this host.
pub fn sockets_at(local: SocketAddr) -> usize {
    // The other family's ports are others, even where the numbers are the same.
    let table = if local.is_ipv4() { "udp" } else { "udp6" };
    let port = format!(":{:04X}", local.port());
    let inode = |line: &str| {
        let mut words = line.split_whitespace();
        let is_there = words.nth(1).is_some_and(|local| local.ends_with(&port));
        words.nth(7).filter(|_| is_there).map(str::to_owned)
    };
    // A table is read in pieces, while other tests change it: a line can come twice, or be missed.
    let mut found = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap();
        found.extend(text.lines().filter_map(inode));
    }
    found.len()
}
