//! A host of the graph's layers, and frames as another host would make them, written down here once
//! more so that the layers are not judged by themselves.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::time::Duration;

use fbufs::PoolOptions;
use protocols::{
    BuildError, Description, Graph, Instant, Kinds, Limits, Message, NodeId, Participants, Pool,
    Session,
};

/// The host under test, and the other one.
pub const US: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const THEM: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const ALL: [u8; 6] = [0xff; 6];
pub const US4: [u8; 4] = [192, 0, 2, 2];
pub const THEM4: [u8; 4] = [192, 0, 2, 1];

/// `2001:db8::n`, and `fe80::ff:fe00:n` as it follows from the link address.
pub fn global(n: u8) -> [u8; 16] {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    address[15] = n;
    address
}

pub struct Host {
    pub graph: Graph,
    pub device: NodeId,
    pub now: Instant,
    pub pool: Pool,
}

impl Host {
    /// Number 2 is `US`, number 1 is `THEM`.
    pub fn new(number: u8) -> Self {
        Self::make(number, Graph::new)
    }

    /// One that chooses by this seed.
    pub fn with_seed(number: u8, seed: u64) -> Self {
        Self::make(number, |text, kinds, pool, limits| {
            Graph::with_seed(text, kinds, pool, limits, seed)
        })
    }

    fn make(
        number: u8,
        graph: impl FnOnce(&Description, &Kinds, Pool, Limits) -> Result<Graph, BuildError>,
    ) -> Self {
        let text = format!(
            "udp: ipv4 ipv6
             icmp: ipv4 ipv6
             ipv4(address=192.0.2.{number}/24, gateway=192.0.2.99): arp
             arp(mac=02:00:00:00:00:0{number}, address=192.0.2.{number}): ether
             ipv6(mac=02:00:00:00:00:0{number}, address=2001:db8::{number}/64): ether
             ether(mac=02:00:00:00:00:0{number}): tap
             tap = device(mtu=1514)"
        );
        let description: Description = text.parse().expect("it is a description");
        let pool = || Pool::new(PoolOptions::default()).expect("memory is left");
        let graph = graph(&description, &Kinds::standard(), pool(), Limits::default());
        let graph = graph.expect("it makes a graph");
        let device = graph.node("tap").expect("it is there");
        Self { graph, device, now: Instant(1_000_000_000), pool: pool() }
    }

    /// One that knows the other's link addresses already.
    pub fn acquainted(number: u8) -> Self {
        Self::new(number).meet()
    }

    /// The same host, once it knows them.
    pub fn meet(mut self) -> Self {
        let host = &mut self;
        host.exchange(&ether(US, THEM, 0x0800, &ipv4(THEM4, US4, 1, &echo(8, b"?"))));
        host.exchange(&arp(2, THEM, THEM4, US, US4));
        let request = ping6(THEM, global(1), global(2), b"?");
        host.exchange(&request);
        host.exchange(&advertisement(global(1), THEM, 0x60));
        self
    }

    pub fn message(&mut self, bytes: &[u8]) -> Message {
        let mut rest = bytes;
        let fill = |room: &mut [u8]| {
            let (first, behind) = rest.split_at(room.len());
            room.copy_from_slice(first);
            rest = behind;
        };
        self.pool.message(128, bytes.len(), fill).expect("there is room")
    }

    /// Takes a frame, and answers what is sent because of it.
    pub fn exchange(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        let frame = self.message(frame);
        self.graph.receive(self.now, self.device, frame);
        self.sent()
    }

    /// What waits to be sent.
    pub fn sent(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.graph.transmitted(self.device) {
            frames.push(frame.to_vec().expect("it is ours"));
        }
        frames
    }

    /// Lets time pass, and answers what is sent meanwhile.
    pub fn pass(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let end = self.now + time;
        while let Some(wake) = self.graph.next_wake().filter(|wake| *wake <= end) {
            self.now = wake;
            self.graph.poll(self.now);
        }
        self.now = end;
        self.sent()
    }

    pub fn listen(&mut self, port: u16) {
        let mut who = Participants::default();
        who.local.port = Some(port);
        self.graph.listen("udp", who).expect("nobody else listens");
    }

    pub fn open(&mut self, node: &str, remote: &str, ports: (u16, u16)) -> Session {
        let mut who = Participants::default();
        who.remote.network = Some(remote.parse().expect("it is an address"));
        who.local.port = Some(ports.0);
        who.remote.port = Some(ports.1);
        self.graph.open(node, who).expect("it opens")
    }

    pub fn push(&mut self, session: Session, payload: &[u8]) {
        let message = self.message(payload);
        self.graph.push(self.now, session, message).expect("it is open");
    }

    /// Answers what was delivered last to whoever sent it, and tells what goes out.
    pub fn answer(&mut self, payload: &[u8]) -> Vec<Vec<u8>> {
        let delivery = self.graph.received().expect("it was delivered");
        let message = self.message(payload);
        let pushed =
            self.graph.push_to(self.now, delivery.session, message, &delivery.participants);
        pushed.expect("it is open");
        self.sent()
    }

    /// The payloads that were delivered, with who sent them.
    pub fn delivered(&mut self) -> Vec<(Vec<u8>, Participants)> {
        std::iter::from_fn(|| self.graph.received())
            .map(|delivery| (delivery.message.to_vec().expect("it is ours"), delivery.participants))
            .collect()
    }

    /// One of the counts of a node; zero if it was never counted.
    pub fn count(&self, node: &str, what: &str) -> u64 {
        let mut found = 0;
        self.graph.statistics(|name, counted, count| {
            if (name, counted) == (node, what) {
                found = count;
            }
        });
        found
    }
}

/// RFC 1071, as it is written down there.
pub fn sum(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!(sum as u16)).to_be_bytes()
}

pub fn ether(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

pub fn arp(op: u8, mac: [u8; 6], from: [u8; 4], to_mac: [u8; 6], to: [u8; 4]) -> Vec<u8> {
    let packet = [&[0, 1, 8, 0, 6, 4, 0, op][..], &mac, &from, &to_mac, &to].concat();
    ether(if op == 1 { ALL } else { to_mac }, mac, 0x0806, &packet)
}

/// Of a fragment: its offset in bytes, whether others follow, its identification.
pub fn ipv4_piece(
    from: [u8; 4],
    to: [u8; 4],
    protocol: u8,
    (offset, more, id): (usize, bool, u16),
    payload: &[u8],
) -> Vec<u8> {
    let total = (20 + payload.len() as u16).to_be_bytes();
    let place = ((offset as u16 / 8) | (u16::from(more) << 13)).to_be_bytes();
    let id = id.to_be_bytes();
    let head = [0x45, 0, total[0], total[1], id[0], id[1], place[0], place[1], 64, protocol, 0, 0];
    let mut header = [&head[..], &from, &to].concat();
    let right = sum(&header);
    header[10..12].copy_from_slice(&right);
    [&header, payload].concat()
}

pub fn ipv4(from: [u8; 4], to: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_piece(from, to, protocol, (0, false, 7), payload)
}

pub fn echo(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0, 0x12, 0x34, 0, 1][..], payload].concat();
    let right = sum(&message);
    message[2..4].copy_from_slice(&right);
    message
}

pub fn ipv6(from: [u8; 16], to: [u8; 16], next: u8, hops: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    [&[0x60, 0, 0, 0, len[0], len[1], next, hops][..], &from, &to, payload].concat()
}

/// A payload whose sum, at `at`, is over the pseudo-header too.
pub fn summed(from: &[u8], to: &[u8], protocol: u8, at: usize, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    let right = sum(&[from, to, &len, &[0, 0, 0, protocol], payload].concat());
    let mut payload = payload.to_vec();
    payload[at..at + 2].copy_from_slice(&right);
    payload
}

pub fn udp(from: &[u8], to: &[u8], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len() as u16).to_be_bytes();
    let (source, destination) = (ports.0.to_be_bytes(), ports.1.to_be_bytes());
    let datagram = [&source[..], &destination, &len, &[0, 0], payload].concat();
    summed(from, to, 17, 6, &datagram)
}

pub fn ping6(mac: [u8; 6], from: [u8; 16], to: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let message = [&[128, 0, 0, 0, 0x12, 0x34, 0, 1][..], payload].concat();
    let message = summed(&from, &to, 58, 2, &message);
    ether(US, mac, 0x86dd, &ipv6(from, to, 58, 64, &message))
}

/// Says, as if asked by us, that `target` is at `mac`; the flags are router, solicited, override.
pub fn advertisement(target: [u8; 16], mac: [u8; 6], flags: u8) -> Vec<u8> {
    let message = [&[136, 0, 0, 0, flags, 0, 0, 0][..], &target, &[2, 1], &mac].concat();
    let message = summed(&target, &global(2), 58, 2, &message);
    ether(US, mac, 0x86dd, &ipv6(target, global(2), 58, 255, &message))
}
