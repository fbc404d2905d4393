//! A host of the graph's layers, and frames to it.

use std::time::Duration;

use fbufs::{Class, PoolOptions};
use protocols::{Description, Graph, Instant, Kinds, Limits, Message, NodeId, Participants, Pool};

/// The link address of the host.
pub const US: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The link address of everybody else.
pub const THEM: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// To everybody.
pub const ALL: [u8; 6] = [0xff; 6];
/// The host's address.
pub const US4: [u8; 4] = [192, 0, 2, 2];
/// The others' address.
pub const THEM4: [u8; 4] = [192, 0, 2, 1];
const US6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const THEM6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

const GRAPH: &str = "
    udp: ipv4 ipv6
    icmp: ipv4 ipv6
    ipv4(address=192.0.2.2/24): arp
    arp(mac=02:00:00:00:00:02, address=192.0.2.2): ether
    ipv6(mac=02:00:00:00:00:02, address=2001:db8::2/64): ether
    ether(mac=02:00:00:00:00:02): tap
    tap = device(mtu=1514)
";

/// The host.
pub struct Host {
    graph: Graph,
    device: NodeId,
    now: Instant,
    pool: Pool,
}

fn pool() -> Pool {
    let mut options = PoolOptions::default();
    options.classes = Default::default();
    options.classes[0] = Class { buffer_bytes: 2048, buffers: 256 };
    Pool::new(options).expect("memory is left")
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// A host that listens at port 7.
    pub fn new() -> Self {
        let description: Description = GRAPH.parse().expect("it is a description");
        let graph =
            Graph::with_seed(&description, &Kinds::standard(), pool(), Limits::default(), 0);
        let mut graph = graph.expect("it makes a graph");
        let mut who = Participants::default();
        who.local.port = Some(7);
        graph.listen("udp", who).expect("nobody else listens");
        let device = graph.node("tap").expect("it is there");
        Self { graph, device, now: Instant(1_000_000_000), pool: pool() }
    }

    /// Takes a frame if a buffer is free, and answers what is sent because of it.
    pub fn exchange(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        if let Ok(mut buffer) = self.pool.alloc_with_headroom(128, frame.len()) {
            buffer.copy_from_slice(frame);
            self.graph.receive(self.now, self.device, Message::from(buffer));
        }
        let mut sent = Vec::new();
        while let Some(frame) = self.graph.transmitted(self.device) {
            sent.push(frame.to_vec().expect("it is ours"));
        }
        sent
    }

    /// Lets time pass; what is sent meanwhile is lost.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(wake) = self.graph.next_wake().filter(|wake| *wake <= end) {
            assert!(wake > self.now, "who is woken has done what was due");
            self.now = wake;
            self.graph.poll(self.now);
        }
        self.now = end;
        while self.graph.transmitted(self.device).is_some() {}
    }

    /// What was delivered.
    pub fn delivered(&mut self) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        while let Some(delivery) = self.graph.received() {
            payloads.push(delivery.message.to_vec().expect("it is ours"));
        }
        payloads
    }

    /// How many bytes wait for the rest of their datagrams.
    pub fn held(&self) -> u64 {
        let mut held = 0;
        self.graph.statistics(|_, what, count| {
            if what == "unfinished_bytes" {
                held += count;
            }
        });
        held
    }
}

/// RFC 1071, as it is written down there.
pub fn sum(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += (u32::from(word[0]) << 8) | u32::from(*word.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!(sum as u16)).to_be_bytes()
}

/// Puts the sum of a payload of version 6 in its place.
pub fn sum_ipv6(protocol: u8, at: usize, payload: &mut [u8]) {
    let len = (payload.len() as u32).to_be_bytes();
    let right = sum(&[&THEM6[..], &US6, &len, &[0, 0, 0, protocol], payload].concat());
    payload[at..at + 2].copy_from_slice(&right);
}

/// A frame.
pub fn ether(to: [u8; 6], from: [u8; 6], kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind, payload].concat()
}

/// An ARP packet; an answer goes to the others.
pub fn arp(op: u8, mac: [u8; 6], from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let to_mac = if op == 2 { THEM } else { [0; 6] };
    [&[0, 1, 8, 0, 6, 4, 0, op][..], &mac, &from, &to_mac, &to].concat()
}

/// A packet of version 4 to the host, with these flags and fragment offset.
pub fn ipv4(protocol: u8, place: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let total = (20 + payload.len() as u16).to_be_bytes();
    let head = [0x45, 0, total[0], total[1], 0, 7, place[0], place[1], 64, protocol, 0, 0];
    let mut header = [&head[..], &THEM4, &US4].concat();
    let right = sum(&header);
    header[10..12].copy_from_slice(&right);
    [&header, payload].concat()
}

/// A packet of version 6 to the host.
pub fn ipv6(next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    [&[0x60, 0, 0, 0, len[0], len[1], next, hops][..], &THEM6, &US6, payload].concat()
}
