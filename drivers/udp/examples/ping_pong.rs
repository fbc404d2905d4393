//! Round trips of 64 bytes over the kernel's UDP, spinning on both sides: through the device, or by the
//! bare loop of the same kind (`--raw`), to compare.
//!
//! ```text
//! taskset -c 1 ping_pong serve 127.0.0.1:7001 127.0.0.1:7002 sockets 100000 &
//! taskset -c 0 ping_pong ask   127.0.0.1:7002 127.0.0.1:7001 sockets 100000 [--raw]
//! ```

use std::collections::VecDeque;
use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use driver_udp::{Path, UdpOptions};
use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode};
use unet::device::{Datagrams, Destination, Outgoing, Piece, Received};

const BYTES: usize = 64;
const USAGE: &str = "ping_pong serve|ask LOCAL REMOTE sockets|io-uring COUNT [--raw]";

/// One end of a round trip.
trait End {
    fn send(&mut self);
    /// Spins until a datagram has arrived.
    fn receive(&mut self);
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [role, local, remote, path, count, rest @ ..] = &args[..] else { return Err(USAGE.into()) };
    let (local, remote): (SocketAddr, SocketAddr) = (local.parse()?, remote.parse()?);
    let path = match &path[..] {
        "sockets" => Path::Sockets,
        "io-uring" => Path::IoUring,
        _ => return Err(USAGE.into()),
    };
    let raw = rest.iter().any(|arg| arg == "--raw");
    let mut end: Box<dyn End> = match (raw, path) {
        (false, _) => Box::new(Device::open(local, remote, path)?),
        (true, Path::Sockets) => Box::new(Raw::open(local, remote)?),
        (true, _) => Box::new(RawRing::open(local, remote)?),
    };
    let (count, warm_up) = (count.parse::<usize>()?.max(1), 1000);
    if role == "serve" {
        for _ in 0..warm_up + count {
            end.receive();
            end.send();
        }
        return Ok(());
    }
    let mut times = Vec::with_capacity(count);
    for round in 0..warm_up + count {
        let begin = Instant::now();
        end.send();
        end.receive();
        if round >= warm_up {
            times.push(begin.elapsed().as_nanos());
        }
    }
    times.sort_unstable();
    let at = |part: usize| times[(count - 1) * part / 100];
    let kind = if raw { "raw" } else { "device" };
    println!("{path:?} {kind}: min {} p50 {} p99 {} ns", at(0), at(50), at(99));
    Ok(())
}

struct Device {
    device: Box<dyn Datagrams>,
    to: Destination,
    queue: VecDeque<Outgoing>,
    received: Vec<Received>,
}

impl Device {
    fn open(local: SocketAddr, remote: SocketAddr, path: Path) -> Result<Self, Box<dyn Error>> {
        let mut device = driver_udp::open(local, UdpOptions { path, ..UdpOptions::default() })?;
        let to = device.open(remote)?;
        Ok(Self { device, to, queue: VecDeque::new(), received: Vec::new() })
    }
}

impl End for Device {
    fn send(&mut self) {
        let Ok(mut buffer) = self.device.pool().alloc(BYTES) else { return };
        buffer.fill(1);
        self.queue.push_back(Outgoing { to: self.to, piece: Piece::whole(buffer.freeze()) });
        self.device.transmit(&mut self.queue).expect("the device carries");
    }

    fn receive(&mut self) {
        while self.received.is_empty() {
            self.device.receive(&mut self.received).expect("the device carries");
        }
        for datagram in self.received.drain(..) {
            self.device.pool().recycle(datagram.piece.bytes.freeze());
        }
    }
}

struct Raw {
    socket: UdpSocket,
    remote: SocketAddr,
    bytes: [u8; 2048],
}

impl Raw {
    fn open(local: SocketAddr, remote: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let socket = UdpSocket::bind(local)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, remote, bytes: [1; 2048] })
    }
}

impl End for Raw {
    fn send(&mut self) {
        _ = self.socket.send_to(&self.bytes[..BYTES], self.remote);
    }

    fn receive(&mut self) {
        while self.socket.recv_from(&mut self.bytes).is_err() {}
    }
}

/// Receives by one request into provided buffers; sends by a plain call, which is the faster of the two.
struct RawRing {
    ring: IoUring,
    socket: Raw,
    header: Box<libc::msghdr>,
    entries: *mut BufRingEntry,
    tail: u16,
    bytes: Vec<u8>,
}

const ENTRIES: u16 = 64;

impl RawRing {
    fn open(local: SocketAddr, remote: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let ring: IoUring =
            IoUring::builder().setup_coop_taskrun().setup_taskrun_flag().build(64)?;
        let layout = std::alloc::Layout::from_size_align(4096, 4096)?;
        // SAFETY: of that size; never freed.
        let entries: *mut BufRingEntry = unsafe { std::alloc::alloc_zeroed(layout) }.cast();
        // SAFETY: zero is a value of it.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        header.msg_namelen = if local.is_ipv6() { 28 } else { 16 };
        let bytes = vec![0; usize::from(ENTRIES) * 2048];
        let socket = Raw::open(local, remote)?;
        let mut end = Self { ring, socket, header, entries, tail: 0, bytes };
        (0..ENTRIES).for_each(|place| end.give(place));
        // SAFETY: the entries live for ever, what they point to as long as the ring.
        unsafe {
            end.ring.submitter().register_buf_ring_with_flags(entries as u64, ENTRIES, 0, 0)?;
        }
        end.arm();
        Ok(end)
    }

    fn give(&mut self, place: u16) {
        // SAFETY: within the ring, whose one writer is this.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail % ENTRIES));
            entry.set_addr(self.bytes.as_mut_ptr().add(usize::from(place) * 2048) as u64);
            entry.set_len(2048);
            entry.set_bid(place);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(self.entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    fn arm(&mut self) {
        let fd = Fd(self.socket.socket.as_raw_fd());
        let entry = opcode::RecvMsgMulti::new(fd, &*self.header, 0).build();
        // SAFETY: the header lives as long as the ring.
        unsafe { self.ring.submission().push(&entry) }.expect("room for one");
        self.ring.submit().expect("a submission");
    }
}

impl End for RawRing {
    fn send(&mut self) {
        self.socket.send();
    }

    fn receive(&mut self) {
        loop {
            let entry = self.ring.completion().next();
            if let Some(entry) = entry {
                if let Some(place) = cqueue::buffer_select(entry.flags()) {
                    self.give(place);
                }
                if !cqueue::more(entry.flags()) {
                    self.arm();
                }
                if entry.result() >= 0 {
                    return;
                }
            } else if self.ring.submission().taskrun() {
                self.ring.submit().expect("a submission");
            }
        }
    }
}
