//! What headers, checksums and their checks cost a packet, each way: datagrams over a device that hands
//! back what it was given, beside that device alone.
//!
//! ```text
//! cargo run --release -p unet --example framed_cost [PAYLOAD [PACKETS]]
//! valgrind --tool=callgrind --toggle-collect='*send_burst*' target/release/examples/framed_cost 64 100000
//! ```
//!
//! To be collected are `send_burst` and `receive_burst`; `bare_send` and `bare_receive` are the device's
//! share in them.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use unet::device::{
    Capabilities, Datagrams, Destination, Device, DeviceError, Framed, FramedOptions, Frames, Mode,
    Outgoing, Piece, Received, Route, StaticRoutes, Statistics,
};
use unet::{Class, Fbuf, FbufMut, Pool, PoolOptions};

const BURST: usize = 32;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A device that hands back what it was given.
struct Loop {
    pool: Pool,
    fd: File,
    held: VecDeque<Piece<Fbuf>>,
}

impl Loop {
    fn new() -> Result<Self, Box<dyn Error>> {
        let mut options = PoolOptions { classes: Default::default(), ..PoolOptions::default() };
        options.classes[0] = Class { buffer_bytes: 2048, buffers: 256 };
        let (pool, fd) = (Pool::new(options)?, File::open("/dev/null")?);
        Ok(Self { pool, fd, held: VecDeque::with_capacity(BURST) })
    }
}

impl AsFd for Loop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Device for Loop {
    fn capabilities(&self) -> Capabilities {
        let (mode, mtu) = (Mode::Simulated, 1500);
        Capabilities {
            mode,
            mtu,
            headroom: 0,
            piece_bytes: 2048,
            pieces: 1,
            burst: BURST,
            stock: 0,
        }
    }

    fn statistics(&mut self) -> Statistics {
        Statistics::default()
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        Ok(self.held.is_empty())
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

impl Frames for Loop {
    fn mac(&self) -> [u8; 6] {
        MAC
    }

    #[inline(always)]
    fn transmit(&mut self, frames: &mut VecDeque<Piece<Fbuf>>) -> Result<(), DeviceError> {
        self.held.append(frames);
        Ok(())
    }

    #[inline(always)]
    fn receive(&mut self, into: &mut Vec<Piece<FbufMut>>) -> Result<(), DeviceError> {
        let unique = |piece: Piece<Fbuf>| piece.bytes.try_into_mut().ok().map(Piece::whole);
        into.extend(self.held.drain(..).filter_map(unique));
        Ok(())
    }
}

/// What each burst took.
type Times = Vec<Duration>;

type Device4 = Framed<Loop, StaticRoutes>;

#[inline(never)]
fn send_burst(device: &mut Device4, out: &mut VecDeque<Outgoing>) -> Result<(), DeviceError> {
    device.transmit(out)
}

#[inline(never)]
fn receive_burst(device: &mut Device4, into: &mut Vec<Received>) -> Result<(), DeviceError> {
    device.receive(into)
}

#[inline(never)]
fn bare_send(device: &mut Loop, out: &mut VecDeque<Piece<Fbuf>>) -> Result<(), DeviceError> {
    device.transmit(out)
}

#[inline(never)]
fn bare_receive(device: &mut Loop, into: &mut Vec<Piece<FbufMut>>) -> Result<(), DeviceError> {
    device.receive(into)
}

fn framed(address: IpAddr, payload: usize, rounds: usize) -> Result<[Times; 2], Box<dyn Error>> {
    let way = Route { source: address, mac: MAC, mtu: 1500 };
    let routes = StaticRoutes { local: vec![address], routes: HashMap::from([(address, way)]) };
    let port = NonZeroU16::new(7000).ok_or("no port")?;
    let mut device = Framed::new(Loop::new()?, routes, FramedOptions::at(port));
    let to: Destination = device.open((address, 7000).into())?;
    let headroom = device.capabilities().headroom;
    let mut out = VecDeque::with_capacity(BURST);
    for number in 0..BURST {
        let mut fbuf = device.pool().alloc_with_headroom(headroom, payload)?;
        fbuf.fill(number as u8);
        out.push_back(Outgoing { to, piece: Piece::whole(fbuf.freeze()) });
    }
    let mut received = Vec::with_capacity(BURST);
    let mut took = [Times::with_capacity(rounds), Times::with_capacity(rounds)];
    for _ in 0..rounds {
        let start = Instant::now();
        send_burst(&mut device, &mut out)?;
        let sent = Instant::now();
        receive_burst(&mut device, black_box(&mut received))?;
        took[1].push(sent.elapsed());
        took[0].push(sent - start);
        assert_eq!(received.len(), BURST, "nothing is lost");
        let again = |one: Received| Outgoing { to, piece: Piece::whole(one.piece.bytes.freeze()) };
        out.extend(received.drain(..).map(again));
    }
    Ok(took)
}

fn bare(payload: usize, rounds: usize) -> Result<[Times; 2], Box<dyn Error>> {
    let mut device = Loop::new()?;
    let mut out = VecDeque::with_capacity(BURST);
    for _ in 0..BURST {
        out.push_back(Piece::whole(device.pool().alloc(payload)?.freeze()));
    }
    let mut received = Vec::with_capacity(BURST);
    let mut took = [Times::with_capacity(rounds), Times::with_capacity(rounds)];
    for _ in 0..rounds {
        let start = Instant::now();
        bare_send(&mut device, &mut out)?;
        let sent = Instant::now();
        bare_receive(&mut device, black_box(&mut received))?;
        took[1].push(sent.elapsed());
        took[0].push(sent - start);
        out.extend(received.drain(..).map(|one| Piece::whole(one.bytes.freeze())));
    }
    Ok(took)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let payload = arguments.next().unwrap_or(Ok(64))?;
    let rounds = (arguments.next().unwrap_or(Ok(3_200_000))? / BURST).max(1);
    let print = |what: &str, took: [Times; 2]| {
        // The middle burst, which nobody interrupted, and the mean of all.
        let each = |mut times: Times| {
            times.sort_unstable();
            let mean = times.iter().sum::<Duration>() / times.len() as u32;
            [times[times.len() / 2], mean].map(|time| time.as_nanos() as f64 / BURST as f64)
        };
        let [[send, mean_send], [receive, mean_receive]] = took.map(each);
        println!(
            "{what:>6} {payload} B: send {send:.1} ns (mean {mean_send:.1}), receive {receive:.1} ns \
             (mean {mean_receive:.1}) a packet"
        );
    };
    print("device", bare(payload, rounds)?);
    print("IPv4", framed("192.0.2.1".parse()?, payload, rounds)?);
    print("IPv6", framed("2001:db8::1".parse()?, payload, rounds)?);
    Ok(())
}
