//! What a message over a network costs beside its device, for a tool that counts instructions.
//!
//! ```text
//! cargo build --release -p unet --example link_cost
//! valgrind --tool=callgrind --toggle-collect='*::measured*' --toggle-collect='*::in_device_*' \
//!     target/release/examples/link_cost send 10000
//! ```
//!
//! What the device does is left out: the second pattern turns the counting off while it works. The
//! operations are those of `main`; `cargo xtask bench --network --instructions` counts them all.

use std::collections::VecDeque;
use std::error::Error;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use unet::device::{
    Capabilities, Datagrams, Destination, Device, DeviceError, Driver, Drivers, Mode, OpenError,
    Opening, Outgoing, Piece, Received, Statistics,
};
use unet::{
    Address, Arrival, Channel, ChannelId, Class, ConnectOptions, Delivery, Endpoint,
    EndpointOptions, Event, ListenOptions, NetworkOptions, Offer, Pool, PoolOptions, Wait,
};

type Done = Result<(), Box<dyn Error>>;

/// Bytes of a message.
const PAYLOAD: usize = 64;
/// Datagrams that wait at most for somebody to receive them.
const DEPTH: usize = 64;
/// Bytes of the headers before a datagram.
const HEADERS: usize = 42;
/// Where the listener is.
const PORT: u16 = 7000;
/// How often a spinning receiver looks in vain, beside those that find something.
const VAIN: u32 = 10;

fn main() -> Done {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().ok_or("say what, and how often: `link_cost send 1000`")?;
    let count = arguments.next().ok_or("say how often")?.parse()?;
    let mut pair = Pair::join()?;
    pair.wire.counted.store(true, Ordering::Relaxed);
    match what.as_str() {
        "send" => measured(count, || pair.send()),
        "endpoint" => measured(count, || pair.send().and_then(|()| pair.receive())),
        "round-trip" => measured(count, || pair.round_trip()),
        "vain-channel" => {
            measured(count, || match pair.channel.try_recv_into(&mut pair.answer)? {
                false => Ok(()),
                true => Err("something came".into()),
            })
        }
        "vain-endpoint" => measured(count, || match pair.endpoint.try_recv_into(&mut pair.asked) {
            None => Ok(()),
            Some(_) => Err("something came".into()),
        }),
        "spin-channel" => measured(count, || {
            pair.send()?;
            pair.receive()?;
            pair.reply()?;
            pair.wire.vain.store(VAIN, Ordering::Relaxed);
            Ok(pair.channel.recv_into(&mut pair.answer)?)
        }),
        "spin-endpoint" => measured(count, || {
            pair.send()?;
            pair.wire.vain.store(VAIN, Ordering::Relaxed);
            pair.receive()
        }),
        _ => Err("there is no such operation: see the program's text".into()),
    }
}

#[inline(never)]
fn measured(count: u32, mut operation: impl FnMut() -> Done) -> Done {
    (0..count).try_for_each(|_| operation())
}

/// Both sides, in one thread.
struct Pair {
    wire: Wire,
    endpoint: Endpoint,
    id: ChannelId,
    channel: Channel,
    asked: Delivery,
    answer: Delivery,
}

impl Pair {
    fn join() -> Result<Self, Box<dyn Error>> {
        let wire = Wire::default();
        let drivers = Drivers::default().with(wire.clone());
        let network = NetworkOptions { drivers, buffers: 256, ..NetworkOptions::default() };
        let address: Address = format!("wire:127.0.0.1:{PORT}").parse()?;
        let mut endpoint =
            Endpoint::new(EndpointOptions { wait: Wait::Spin, ..EndpointOptions::default() })?;
        let options = ListenOptions { network: network.clone(), ..ListenOptions::default() };
        endpoint.listen(&address, options)?;
        let mut options = ConnectOptions { network, ..ConnectOptions::default() };
        options.channel.wait = Wait::Spin;
        let client = std::thread::spawn(move || Channel::connect(&address, options));
        let Event::Incoming(incoming) = endpoint.recv() else { return Err("nobody came".into()) };
        let id = endpoint.accept(incoming, b"")?;
        let channel = client.join().map_err(|_| "the connecting thread panicked")??;
        let (asked, answer) = (Delivery::default(), Delivery::default());
        Ok(Self { wire, endpoint, id, channel, asked, answer })
    }

    #[inline(always)]
    fn send(&mut self) -> Done {
        taken(self.channel.try_send(&[1; PAYLOAD])?)
    }

    #[inline(always)]
    fn receive(&mut self) -> Done {
        match self.endpoint.recv_into(&mut self.asked) {
            Arrival::Message(_) => Ok(()),
            Arrival::Other => Err("something else happened".into()),
        }
    }

    #[inline(always)]
    fn reply(&mut self) -> Done {
        let channel = self.endpoint.channel_mut(self.id).ok_or("the channel is there")?;
        taken(channel.try_send(&[2; PAYLOAD])?)
    }

    #[inline(always)]
    fn round_trip(&mut self) -> Done {
        self.send()?;
        self.receive()?;
        self.reply()?;
        Ok(self.channel.recv_into(&mut self.answer)?)
    }
}

#[inline(always)]
fn taken(offer: Offer) -> Done {
    if offer == Offer::Taken { Ok(()) } else { Err("there was no room".into()) }
}

/// A wire with two ends, the listener's and the client's: the driver of its devices.
#[derive(Clone, Default)]
struct Wire {
    /// What is under way to each.
    ways: Arc<[Mutex<VecDeque<Vec<u8>>>; 2]>,
    /// How often yet a look finds nothing, whatever is there.
    vain: Arc<AtomicU32>,
    /// Whether the counting has begun.
    counted: Arc<AtomicBool>,
}

impl Wire {
    fn way(&self, to: usize) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.ways[to].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address_of(end: usize) -> SocketAddr {
    ([127, 0, 0, 1], PORT + end as u16).into()
}

impl Driver for Wire {
    fn scheme(&self) -> &'static str {
        "wire"
    }

    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn Datagrams>, OpenError> {
        let mut options = PoolOptions { classes: Default::default(), ..PoolOptions::default() };
        options.classes[0] = Class { buffer_bytes: 2048, buffers: opening.buffers as u32 };
        let pool = Pool::new(options).map_err(|_| OpenError::AddressInUse)?;
        let fd = UnixDatagram::unbound().map_err(|_| OpenError::AddressInUse)?;
        let end = usize::from(opening.port != PORT);
        Ok(Box::new(End { wire: self.clone(), pool, fd, end }))
    }
}

struct End {
    wire: Wire,
    pool: Pool,
    fd: UnixDatagram,
    end: usize,
}

impl End {
    #[inline(never)]
    fn in_device_transmit(&mut self, datagrams: &mut VecDeque<Outgoing>) {
        self.put(datagrams);
    }

    #[inline(never)]
    fn in_device_receive(&mut self, into: &mut Vec<Received>) {
        self.take(into);
    }

    #[inline(never)]
    fn put(&mut self, datagrams: &mut VecDeque<Outgoing>) {
        let mut way = self.wire.way(1 - self.end);
        for datagram in datagrams.drain(..) {
            way.push_back(datagram.piece.bytes.to_vec());
            self.pool.recycle(datagram.piece.bytes);
            if way.len() > DEPTH {
                way.pop_front();
            }
        }
    }

    #[inline(never)]
    fn take(&mut self, into: &mut Vec<Received>) {
        let vain = self.wire.vain.load(Ordering::Relaxed);
        if vain > 0 {
            return self.wire.vain.store(vain - 1, Ordering::Relaxed);
        }
        let Some(bytes) = self.wire.way(self.end).pop_front() else { return };
        if let Ok(mut fbuf) = self.pool.alloc_with_headroom(HEADERS, bytes.len()) {
            fbuf.copy_from_slice(&bytes);
            into.push(Received { from: address_of(1 - self.end), piece: Piece::whole(fbuf) });
        }
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Device for End {
    fn capabilities(&self) -> Capabilities {
        let (mode, mtu) = (Mode::Simulated, 1472);
        let (headroom, piece_bytes, pieces) = (HEADERS, 2048, 1);
        Capabilities { mode, mtu, headroom, piece_bytes, pieces, burst: 16, stock: 0 }
    }

    fn statistics(&mut self) -> Statistics {
        Statistics::default()
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        Ok(false)
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

impl Datagrams for End {
    fn local(&self) -> SocketAddr {
        address_of(self.end)
    }

    fn open(&mut self, _to: SocketAddr) -> Result<Destination, DeviceError> {
        Ok(Destination(0))
    }

    fn close(&mut self, _destination: Destination) {}

    fn max_payload(&self, _destination: Destination) -> usize {
        1472
    }

    fn transmit(&mut self, datagrams: &mut VecDeque<Outgoing>) -> Result<(), DeviceError> {
        match self.wire.counted.load(Ordering::Relaxed) {
            true => self.in_device_transmit(datagrams),
            false => self.put(datagrams),
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<Received>) -> Result<(), DeviceError> {
        match self.wire.counted.load(Ordering::Relaxed) {
            true => self.in_device_receive(into),
            false => self.take(into),
        }
        Ok(())
    }
}
