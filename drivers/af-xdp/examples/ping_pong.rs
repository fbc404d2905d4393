//! Compares the device with the baseline on the two ends of a veth pair: round trip and rate of 64 bytes.
//!
//! ```text
//! unshare --net sh -c 'ip link add va type veth peer name vb && ip link set va up && \
//!     ip link set vb up && ping_pong va vb generic'
//! ```

use std::collections::VecDeque;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use driver_af_xdp::{AfXdp, Options, Way, raw};
use rustix::thread::{CpuSet, sched_setaffinity};
use unet::device::{Device, Frames, Piece};

#[allow(dead_code)]
#[path = "../tests/support/frame.rs"]
mod frame;

const PORT: u16 = 4791;
const BYTES: usize = 64;
const ROUNDS: usize = 60_000;
const WARM: usize = 5_000;
const RATE: Duration = Duration::from_millis(700);
const RATE_BURST: usize = 32;

/// What both kinds of socket can do.
trait Port: Send {
    fn send(&mut self, count: usize) -> usize;
    fn receive(&mut self) -> usize;
    /// Sends back what arrives.
    fn echo(&mut self) -> usize;
}

struct Ours {
    device: AfXdp,
    frame: Vec<u8>,
    out: VecDeque<Piece<fbufs::Fbuf>>,
    got: Vec<Piece<fbufs::FbufMut>>,
}

impl Port for Ours {
    #[inline]
    fn send(&mut self, count: usize) -> usize {
        let mut sent = 0;
        while sent < count {
            let Ok(mut fbuf) = self.device.pool().alloc(self.frame.len()) else { break };
            fbuf.copy_from_slice(&self.frame);
            self.out.push_back(Piece::whole(fbuf.freeze()));
            sent += 1;
        }
        self.device.transmit(&mut self.out).expect("the interface is up");
        while let Some(left) = self.out.pop_back() {
            self.device.pool().recycle(left.bytes);
            sent -= 1;
        }
        sent
    }

    #[inline]
    fn receive(&mut self) -> usize {
        self.device.receive(&mut self.got).expect("the interface is up");
        let count = self.got.len();
        for piece in self.got.drain(..) {
            self.device.pool().recycle(piece.bytes.freeze());
        }
        count
    }

    #[inline]
    fn echo(&mut self) -> usize {
        self.device.receive(&mut self.got).expect("the interface is up");
        let count = self.got.len();
        if count > 0 {
            self.out.extend(self.got.drain(..).map(|it| Piece::whole(it.bytes.freeze())));
            self.device.transmit(&mut self.out).expect("the interface is up");
        }
        count
    }
}

impl Port for raw::Socket {
    #[inline]
    fn send(&mut self, count: usize) -> usize {
        raw::Socket::send(self, count as u32, BYTES as u32) as usize
    }

    #[inline]
    fn receive(&mut self) -> usize {
        raw::Socket::receive(self) as usize
    }

    #[inline]
    fn echo(&mut self) -> usize {
        let count = raw::Socket::receive(self);
        if count > 0 {
            raw::Socket::send(self, count, BYTES as u32);
        }
        count as usize
    }
}

fn pin(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).expect("there are two cores");
}

/// Nanoseconds of a round trip: the tenth percentile, the median, the 99th percentile.
fn round_trip<P: Port>(mut near: P, mut far: P) -> (u64, u64, u64) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            while !stop.load(Ordering::Relaxed) {
                if far.echo() == 0 {
                    spin_loop();
                }
            }
        });
        pin(0);
        let mut times = Vec::with_capacity(ROUNDS);
        for round in 0..WARM + ROUNDS {
            let start = Instant::now();
            near.send(1);
            while near.receive() == 0 {
                if start.elapsed() > Duration::from_millis(100) {
                    // A packet was lost; another one goes round.
                    break;
                }
                spin_loop();
            }
            if round >= WARM {
                times.push(start.elapsed().as_nanos() as u64);
            }
        }
        stop.store(true, Ordering::Relaxed);
        times.sort_unstable();
        (times[ROUNDS / 10], times[ROUNDS / 2], times[ROUNDS * 99 / 100])
    })
}

/// Packets a second: sent, received.
fn rate<P: Port>(mut near: P, mut far: P) -> (f64, f64) {
    let stop = AtomicBool::new(false);
    let received = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            while !stop.load(Ordering::Relaxed) {
                match far.receive() {
                    0 => spin_loop(),
                    count => {
                        received.fetch_add(count as u64, Ordering::Relaxed);
                    }
                }
            }
        });
        pin(0);
        let (start, mut sent) = (Instant::now(), 0);
        while start.elapsed() < RATE {
            sent += near.send(RATE_BURST);
        }
        let seconds = start.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        (sent as f64 / seconds, received.load(Ordering::Relaxed) as f64 / seconds)
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().collect();
    let [_, near, far, way, rest @ ..] = &words[..] else {
        return Err("ping_pong NEAR FAR generic|native [RUNS]".into());
    };
    let way = match way.as_str() {
        "generic" => Way::Generic,
        "native" => Way::Native,
        _ => return Err("generic or native".into()),
    };
    let runs: usize = rest.first().map_or(Ok(3), |runs| runs.parse())?;
    // As many frames as the baseline has.
    let options = Options { way, port: PORT, buffers: 4096, ..Options::default() };
    let payload = [7u8; BYTES - 42];
    let frame = frame::Udp4::between([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], PORT).frame(&payload);
    let ours = |name: &str| -> Result<Ours, unet::device::OpenError> {
        let device = AfXdp::open(name, 0, &options)?;
        Ok(Ours { device, frame: frame.clone(), out: VecDeque::new(), got: Vec::new() })
    };
    let plain = |name: &str| -> Result<raw::Socket, unet::device::OpenError> {
        let mut socket = raw::Socket::open(name, 0, &options)?;
        socket.prepare(&frame);
        Ok(socket)
    };
    for run in 1..=runs {
        let raw_trip = round_trip(plain(near)?, plain(far)?);
        let our_trip = round_trip(ours(near)?, ours(far)?);
        let raw_rate = rate(plain(near)?, plain(far)?);
        let our_rate = rate(ours(near)?, ours(far)?);
        println!(
            "{run}: round trip p10/p50/p99 ns: raw {} {} {}, ours {} {} {}, ratio {:.3} {:.3}",
            raw_trip.0,
            raw_trip.1,
            raw_trip.2,
            our_trip.0,
            our_trip.1,
            our_trip.2,
            our_trip.0 as f64 / raw_trip.0 as f64,
            our_trip.1 as f64 / raw_trip.1 as f64,
        );
        println!(
            "{run}: rate sent/received a second: raw {:.0} {:.0}, ours {:.0} {:.0}, ratio {:.3} {:.3}",
            raw_rate.0,
            raw_rate.1,
            our_rate.0,
            our_rate.1,
            our_rate.0 / raw_rate.0,
            our_rate.1 / raw_rate.1,
        );
    }
    Ok(())
}
