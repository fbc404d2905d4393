//! Datagrams over a device that carries frames: byte by byte, by a foreign reader of headers, and with
//! everything that can be wrong.

mod pieces;
mod receiving;
mod refusals;
mod sending;
mod steady;
mod ways;
mod wire;

use std::collections::HashMap;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use unet::Fbuf;
use unet::device::{
    Count, Datagrams, Destination, Device, DeviceError, Framed, FramedOptions, Outgoing, Piece,
    Received, Route, Routes,
};

use wire::{MAC, Wire};

/// The other side's Ethernet address.
const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];
const PORT: u16 = 7000;
const V4: &str = "192.0.2.1";
const V6: &str = "2001:db8::1";
const THEIRS4: &str = "192.0.2.2:9";
const THEIRS6: &str = "[2001:db8::2]:9";

/// A table that a test changes.
#[derive(Default)]
struct Table {
    local: Vec<IpAddr>,
    routes: HashMap<IpAddr, Result<Route, DeviceError>>,
    changed: bool,
    state: Option<DeviceError>,
    asked: usize,
    /// It says what it hears.
    echoes: bool,
    heard: Vec<Vec<u8>>,
}

impl Routes for Table {
    fn resolve(&mut self, to: IpAddr) -> Result<Route, DeviceError> {
        self.asked += 1;
        self.routes.get(&to).copied().unwrap_or(Err(DeviceError::Unreachable))
    }

    fn local(&self) -> &[IpAddr] {
        &self.local
    }

    fn maintain(&mut self) -> Result<bool, DeviceError> {
        self.state.map_or(Ok(std::mem::take(&mut self.changed)), Err)
    }

    fn hear(&mut self, frame: &[u8]) {
        if self.echoes {
            self.heard.push(frame.to_vec());
        }
    }

    fn say(&mut self) -> Option<Vec<u8>> {
        self.heard.pop()
    }
}

type Device4 = Framed<Wire, Table>;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("it is an address")
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("it is an address")
}

fn options() -> FramedOptions {
    FramedOptions::at(NonZeroU16::new(PORT).expect("it is not zero"))
}

fn table() -> Table {
    let route = |source| Ok(Route { source: ip(source), mac: THEIRS, mtu: 1500 });
    let routes = [(at(THEIRS4).ip(), route(V4)), (at(THEIRS6).ip(), route(V6))];
    Table { local: vec![ip(V4), ip(V6)], routes: routes.into(), ..Table::default() }
}

fn device(options: FramedOptions) -> Device4 {
    Framed::new(Wire::default(), table(), options)
}

/// A payload with the device's headroom before it.
fn payload(device: &mut Device4, bytes: &[u8]) -> Fbuf {
    let headroom = device.capabilities().headroom;
    let fbuf = device.pool().alloc_with_headroom(headroom, bytes.len());
    let mut fbuf = fbuf.expect("a buffer is free");
    fbuf.copy_from_slice(bytes);
    fbuf.freeze()
}

fn send(device: &mut Device4, to: Destination, bytes: &[u8]) -> VecDeque<Outgoing> {
    let fbuf = payload(device, bytes);
    let mut out = VecDeque::from([Outgoing { to, piece: Piece::whole(fbuf) }]);
    device.transmit(&mut out).expect("the device is up");
    out
}

/// The only frame that was sent, in one piece.
fn sent(device: &mut Device4) -> Vec<u8> {
    let mut frames = std::mem::take(&mut device.device().sent);
    assert_eq!(frames.len(), 1);
    let mut pieces = frames.remove(0);
    assert_eq!(pieces.len(), 1);
    pieces.remove(0)
}

/// What is received when frames arrive.
fn receive(device: &mut Device4, frames: &[Vec<u8>]) -> Vec<Received> {
    device.device().arriving.extend(frames.iter().map(|frame| vec![frame.clone()]));
    let mut into = Vec::new();
    for _ in frames {
        device.receive(&mut into).expect("the device is up");
    }
    into
}

/// A frame to us that is as it should be, by etherparse's word.
fn frame(from: &str, payload: &[u8]) -> Vec<u8> {
    frame_to(from, PORT, payload)
}

fn frame_to(from: &str, port: u16, payload: &[u8]) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2(THEIRS, MAC);
    let from = at(from);
    let builder = match (from.ip(), ip(V4), ip(V6)) {
        (IpAddr::V4(from), IpAddr::V4(to), _) => builder.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), _, IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
        _ => unreachable!("they are of these families"),
    };
    let mut bytes = Vec::new();
    builder.udp(from.port(), port).write(&mut bytes, payload).expect("it fits");
    bytes
}

/// Sets bytes of a frame, and makes the IPv4 header's checksum right again.
fn with(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    if frame[12..14] == [8, 0] && (14..34).contains(&at) {
        frame[24..26].fill(0);
        let header = 14 + usize::from(frame[14] & 0xf).max(5) * 4;
        let words =
            frame[14..header].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        let sum: u32 = words.sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    frame
}

/// What the device counted, of what can go wrong.
fn counted(device: &mut Device4) -> Vec<(&'static str, u64)> {
    let statistics = device.statistics();
    let good = ["sent", "sent-bytes", "received", "received-bytes"];
    let counted: Vec<_> = statistics.iter().filter(|(name, _)| !good.contains(name)).collect();
    // What arrived at the device is received or dropped.
    let handed_on = statistics[Count::Received];
    assert!(handed_on + statistics.sum(&Count::DROPPED) >= handed_on);
    counted
}
