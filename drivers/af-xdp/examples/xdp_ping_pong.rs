//! Compares the device with the baseline on two veth pairs: round trip and rate of 64 bytes, by turns, so
//! that both meet the same machine.
//!
//! ```text
//! unshare --net sh -c 'for p in r o; do ip link add ${p}a type veth peer name ${p}b && \
//!     ip link set ${p}a up && ip link set ${p}b up; done; xdp_ping_pong ra rb oa ob generic'
//! ```

use std::collections::VecDeque;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use driver_af_xdp::{AfXdp, Options, Way, raw};
use rustix::thread::{CpuSet, sched_setaffinity};
use unet::device::{Device, Frames, Piece};

#[allow(dead_code)]
#[path = "../tests/support/frame.rs"]
mod frame;

const PORT: u16 = 4791;
const BYTES: usize = 64;
const BLOCKS: usize = 31;
const BLOCK: usize = 4_000;
const WARM: usize = 200;
const RATE: Duration = Duration::from_millis(60);
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

/// What the far side does: one of the two pairs at a time, or nothing.
#[derive(Clone, Copy, PartialEq)]
#[repr(u32)]
enum Task {
    EchoRaw,
    EchoOurs,
    TakeRaw,
    TakeOurs,
    End,
}

/// What the two threads share.
struct Far {
    task: AtomicU32,
    received: AtomicU64,
}

fn far_side(far: &Far, raw: &mut impl Port, ours: &mut impl Port) {
    let is = |task: Task| far.task.load(Ordering::Relaxed) == task as u32;
    loop {
        while is(Task::EchoRaw) {
            pause_if(raw.echo() == 0);
        }
        while is(Task::EchoOurs) {
            pause_if(ours.echo() == 0);
        }
        while is(Task::TakeRaw) {
            far.received.fetch_add(take(raw), Ordering::Relaxed);
        }
        while is(Task::TakeOurs) {
            far.received.fetch_add(take(ours), Ordering::Relaxed);
        }
        if is(Task::End) {
            return;
        }
    }
}

fn take(port: &mut impl Port) -> u64 {
    let count = port.receive();
    pause_if(count == 0);
    count as u64
}

#[inline(always)]
fn pause_if(idle: bool) {
    if idle {
        spin_loop();
    }
}

/// Nanoseconds of round trips in one block, sorted.
fn round_trips(near: &mut impl Port, far: &Far, task: Task) -> Vec<u64> {
    near.receive();
    far.task.store(task as u32, Ordering::Relaxed);
    let mut times = Vec::with_capacity(BLOCK);
    for round in 0..WARM + BLOCK {
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
    times.sort_unstable();
    times
}

/// Packets a second in one block: sent, received.
fn rate(near: &mut impl Port, far: &Far, task: Task) -> [f64; 2] {
    far.task.store(task as u32, Ordering::Relaxed);
    let before = far.received.load(Ordering::Relaxed);
    let (start, mut sent) = (Instant::now(), 0);
    while start.elapsed() < RATE {
        sent += near.send(RATE_BURST);
    }
    let seconds = start.elapsed().as_secs_f64();
    let received = far.received.load(Ordering::Relaxed) - before;
    [sent as f64 / seconds, received as f64 / seconds]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The medians of blocks of both, and of the ratio of neighbouring blocks.
fn compare(what: &str, raw: &[f64], ours: &[f64]) {
    let ratios = ours.iter().zip(raw).map(|(ours, raw)| ours / raw).collect();
    println!(
        "{what:28} raw {:9.0}  ours {:9.0}  ratio {:.3}",
        median(raw.to_vec()),
        median(ours.to_vec()),
        median(ratios)
    );
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().collect();
    let [_, raw_near, raw_far, our_near, our_far, way] = &words[..] else {
        return Err("xdp_ping_pong RAW-NEAR RAW-FAR OUR-NEAR OUR-FAR generic|native".into());
    };
    let way = match way.as_str() {
        "generic" => Way::Generic,
        "native" => Way::Native,
        _ => return Err("generic or native".into()),
    };
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
    let (mut raw_near, mut raw_far) = (plain(raw_near)?, plain(raw_far)?);
    let (mut our_near, mut our_far) = (ours(our_near)?, ours(our_far)?);
    let far = Far { task: AtomicU32::new(Task::EchoRaw as u32), received: AtomicU64::new(0) };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            far_side(&far, &mut raw_far, &mut our_far);
        });
        pin(0);
        let mut trips: [[Vec<f64>; 3]; 2] = Default::default();
        let mut rates: [[Vec<f64>; 2]; 2] = Default::default();
        for _ in 0..BLOCKS {
            let times = [
                round_trips(&mut raw_near, &far, Task::EchoRaw),
                round_trips(&mut our_near, &far, Task::EchoOurs),
            ];
            for (all, times) in trips.iter_mut().zip(times) {
                let at = [BLOCK / 10, BLOCK / 2, BLOCK * 99 / 100];
                all.iter_mut().zip(at).for_each(|(all, at)| all.push(times[at] as f64));
            }
        }
        for _ in 0..BLOCKS {
            let rate = [
                rate(&mut raw_near, &far, Task::TakeRaw),
                rate(&mut our_near, &far, Task::TakeOurs),
            ];
            for (all, rate) in rates.iter_mut().zip(rate) {
                all.iter_mut().zip(rate).for_each(|(all, rate)| all.push(rate));
            }
        }
        far.task.store(Task::End as u32, Ordering::Relaxed);
        println!("{} mode, medians of {BLOCKS} blocks of each, by turns", raw_near.mode());
        for (at, what) in ["p10", "p50", "p99"].into_iter().enumerate() {
            compare(&format!("round trip {what}, ns"), &trips[0][at], &trips[1][at]);
        }
        for (at, what) in ["sent", "received"].into_iter().enumerate() {
            compare(&format!("{what} a second"), &rates[0][at], &rates[1][at]);
        }
    });
    Ok(())
}
