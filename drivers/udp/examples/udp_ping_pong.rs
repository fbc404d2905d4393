//! Round trips of 64 bytes over the kernel's UDP, spinning on both sides: through the device, or by the
//! bare loop of the same kind (`--raw`), to compare.
//!
//! ```text
//! taskset -c 1 udp_ping_pong serve 127.0.0.1:7001 127.0.0.1:7002 sockets 100000 &
//! taskset -c 0 udp_ping_pong ask   127.0.0.1:7002 127.0.0.1:7001 sockets 100000 [--raw]
//! ```

use std::collections::VecDeque;
use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use driver_udp::{Path, UdpOptions, raw};
use unet::device::{Datagrams, Destination, Outgoing, Piece, Received};

const BYTES: usize = 64;
const USAGE: &str = "udp_ping_pong serve|ask LOCAL REMOTE sockets|io-uring COUNT [--raw]";

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

/// The bare loop over io_uring.
struct RawRing {
    ring: raw::Ring,
    bytes: [u8; 2048],
}

impl RawRing {
    fn open(local: SocketAddr, remote: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let socket = UdpSocket::bind(local)?;
        socket.connect(remote)?;
        let ring = raw::Ring::open(socket.into(), true, 2048)?;
        Ok(Self { ring, bytes: [1; 2048] })
    }
}

impl End for RawRing {
    fn send(&mut self) {
        _ = self.ring.send(&self.bytes[..BYTES]);
    }

    fn receive(&mut self) {
        // Whom nobody listens to yet is told so, by an error.
        while !matches!(self.ring.try_receive(&mut self.bytes), Ok(Some(_))) {}
    }
}
