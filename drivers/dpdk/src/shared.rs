//! A port that several devices of this process share, each at a UDP port of its own: so an agent has many clients'
//! ports and channels over one. There is one address, and one table of neighbours.
//!
//! ```text
//!   Sharer at 9000 ─┐                        ┌── queue of 9000 ── what is for it, copied into its own pool
//!   Sharer at 9001 ─┼── Shared: one DpdkPort ┼── queue of 9001
//!   Sharer at 49152 ┘                        └── anything else: to whoever looked
//! ```
//!
//! A frame is copied once each way, between the port's buffers and the sharer's, and counted
//! ([`Count::Copied`]). Whoever looks sorts what came for all; a queue has a bound, so that a sharer that does not
//! look loses what is for it, and nobody else's. What is sent to the port's own address comes back in.

mod routes;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use fbufs::{Class, Fbuf, FbufMut, Pool};
use unet::device::held::First;
use unet::device::{
    Capabilities, Count, Device, DeviceError, Frames, Neighbours, OpenError, Piece, Statistics,
};

pub(crate) use routes::SharedRoutes;

use crate::device::{BURST, ETHERNET};
use crate::{DpdkPort, Options, upkeep};

/// Where an address does not say: the dynamic ports.
const DYNAMIC: std::ops::RangeInclusive<u16> = 49_152..=65_535;
/// The most sharers of a port; each has room for some frames at least.
const MOST: usize = 128;
const FEWEST_FRAMES: usize = 16;
/// Buffers of the port, for all.
const BUFFERS: u32 = 4096;
const BUFFER_BYTES: u32 = 2048;
/// What the port lost, whosever it was: told to the sharer that asks first, and to no other.
const LOSSES: [Count; 4] = [Count::NoBuffer, Count::QueueFull, Count::Truncated, Count::Fault];

/// How a port is shared: all who share it have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// DPDK's device arguments.
    pub arguments: String,
    pub options: Options,
    pub address: Ipv4Addr,
    pub prefix: u8,
    pub gateway: Option<Ipv4Addr>,
}

/// What has come for a sharer, and how much found no room.
#[derive(Default)]
struct Waiting {
    frames: VecDeque<FbufMut>,
    dropped: u64,
}

struct Shared {
    plan: Plan,
    waiting: HashMap<u16, Waiting>,
    out: VecDeque<Piece<Fbuf>>,
    came: Vec<Piece<FbufMut>>,
    routes: Neighbours,
    /// How often the ways have changed.
    changes: u64,
    /// Of the port's losses, what was told.
    told: Statistics,
    port: DpdkPort,
}

type Ports = Vec<Weak<Mutex<Shared>>>;

/// The ports that are shared; its lock comes before a port's.
static SHARED: Mutex<Ports> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a thread that panicked left is whole: nothing is changed in two steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a UDP datagram over IPv4 is to: its port.
fn udp_port(frame: &[u8]) -> Option<u16> {
    let fixed = frame.first_chunk::<34>()?;
    let is_udp = fixed[12..14] == [8, 0] && fixed[14] >> 4 == 4 && fixed[23] == 17;
    let start = ETHERNET + usize::from(fixed[14] & 0xf) * 4;
    let port = frame.get(start + 2..start + 4).filter(|_| is_udp)?;
    Some(u16::from_be_bytes([port[0], port[1]]))
}

/// Whether a frame is an IPv4 packet to an address. Ethernet addresses do not tell: a TAP interface has the port's.
fn is_for(address: Ipv4Addr, frame: &[u8]) -> bool {
    let fixed = frame.first_chunk::<34>();
    fixed.is_some_and(|fixed| fixed[12..14] == [8, 0] && fixed[30..] == address.octets())
}

impl Shared {
    fn new(plan: &Plan) -> Result<Self, OpenError> {
        let options = Options { buffers: BUFFERS, buffer_bytes: BUFFER_BYTES, ..plan.options };
        let port = DpdkPort::open(&plan.arguments, &options)?;
        let routes = Neighbours::new(port.mac(), plan.address, plan.prefix, plan.gateway);
        Ok(Self {
            plan: plan.clone(),
            waiting: HashMap::new(),
            out: VecDeque::with_capacity(BURST),
            came: Vec::with_capacity(BURST),
            routes: routes.ok_or(OpenError::BadValue("an address that a host can have"))?,
            changes: 0,
            told: Statistics::default(),
            port,
        })
    }

    /// Takes a UDP port: this one, or any that is free, if it is 0.
    fn enter(&mut self, port: u16) -> Result<u16, OpenError> {
        if self.waiting.len() >= MOST {
            return Err(OpenError::Busy("the DPDK port is shared by as many as can be"));
        }
        let is_free = |port: &u16| !self.waiting.contains_key(port);
        let port = if port == 0 { DYNAMIC.into_iter().find(is_free) } else { Some(port) };
        let port = port.filter(is_free).ok_or(OpenError::AddressInUse)?;
        self.waiting.insert(port, Waiting::default());
        Ok(port)
    }

    /// Hands a frame to whom it is for; or to `looks`, who counts it.
    fn sort(&mut self, frame: FbufMut, looks: u16) {
        let most = (BUFFERS as usize / 2 / self.waiting.len().max(1)).max(FEWEST_FRAMES);
        let to = udp_port(&frame).filter(|port| self.waiting.contains_key(port)).unwrap_or(looks);
        let Some(waiting) = self.waiting.get_mut(&to) else { return };
        if waiting.frames.len() < most {
            waiting.frames.push_back(frame);
        } else {
            waiting.dropped += 1;
            self.port.pool().recycle_received(frame.freeze());
        }
    }

    /// Looks whether something came, unless something waits.
    fn look(&mut self, looks: u16) -> Result<(), DeviceError> {
        if self.has_some(looks) {
            return Ok(());
        }
        let mut came = std::mem::take(&mut self.came);
        let received = self.port.receive(&mut came);
        came.drain(..).for_each(|piece| self.sort(piece.bytes, looks));
        self.came = came;
        received
    }

    fn has_some(&self, port: u16) -> bool {
        self.waiting.get(&port).is_some_and(|waiting| !waiting.frames.is_empty())
    }
}

/// A part in a port. Who opens the port finds it open, or closed: not in between.
struct Part(Option<Arc<Mutex<Shared>>>);

impl Part {
    fn get(&self) -> Arc<Mutex<Shared>> {
        self.0.clone().expect("it is not being dropped")
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ports = lock(&SHARED);
        self.0 = None;
    }
}

/// A device among those that share a port.
pub(crate) struct Sharer {
    part: Part,
    /// Its UDP port.
    number: u16,
    mac: [u8; 6],
    capabilities: Capabilities,
    pool: Pool,
    counts: Statistics,
    timer: OwnedFd,
    armed: bool,
    nap: Duration,
    /// Whether something waits for room.
    cramped: bool,
}

impl Sharer {
    /// Opens a port, unless it is open already, to share it at a UDP port; which, if that is 0, is said.
    pub fn open(
        plan: &Plan,
        port: u16,
        buffers: u32,
    ) -> Result<(Self, SharedRoutes, u16), OpenError> {
        let mut ports = lock(&SHARED);
        ports.retain(|shared| shared.strong_count() > 0);
        let name = |arguments: &str| arguments.split(',').next().map(str::to_owned);
        let mut open = ports.iter().filter_map(Weak::upgrade);
        let found = open.find(|it| name(&lock(it).plan.arguments) == name(&plan.arguments));
        let shared = match found {
            Some(shared) if lock(&shared).plan != *plan => {
                return Err(OpenError::Busy("the DPDK port is shared with other options"));
            }
            Some(shared) => shared,
            None => {
                let shared = Arc::new(Mutex::new(Shared::new(plan)?));
                ports.push(Arc::downgrade(&shared));
                shared
            }
        };
        let class = Class { buffer_bytes: BUFFER_BYTES, buffers };
        let pool = Pool::for_device(class, false).map_err(|_| OpenError::MemoryLock)?;
        let errno = |errno| OpenError::Kernel { step: "make a timer", errno };
        let timer = upkeep::timer().map_err(errno)?;
        let mut within = lock(&shared);
        let (mac, below) = (within.port.mac(), within.port.capabilities());
        let number = within.enter(port)?;
        drop(within);
        let routes = SharedRoutes::new(Part(Some(shared.clone())), plan.address, mac);
        let sharer = Self {
            part: Part(Some(shared)),
            number,
            mac,
            capabilities: Capabilities {
                headroom: 0,
                piece_bytes: BUFFER_BYTES as usize,
                pieces: 1,
                stock: 0,
                ..below
            },
            pool,
            counts: Statistics::default(),
            timer,
            armed: false,
            nap: upkeep::SHORTEST_NAP,
            cramped: false,
        };
        Ok((sharer, routes, number))
    }

    fn disarm(&mut self) {
        if std::mem::take(&mut self.armed) {
            // It can only be set.
            let _ = upkeep::set(&self.timer, Duration::ZERO);
        }
    }

    /// Copies a frame into the port's buffers and has it sent, or drops it: `false` if there is no room.
    fn put(&mut self, frames: &mut VecDeque<Piece<Fbuf>>, shared: &mut Shared) -> bool {
        let First { pieces, len, is_whole } = First::of(frames);
        let longest = shared.port.capabilities().mtu + ETHERNET;
        let wrong =
            if !is_whole || pieces != 1 || len < ETHERNET || !self.pool.owns(&frames[0].bytes) {
                Some(Count::Malformed)
            } else {
                (len > longest).then_some(Count::TooLong)
            };
        if wrong.is_none() {
            let Ok(mut copy) = shared.port.pool().alloc(len) else { return false };
            copy.copy_from_slice(&frames[0].bytes);
            self.counts.add(Count::Sent, 1);
            self.counts.add(Count::SentBytes, len as u64);
            if is_for(shared.plan.address, &copy) {
                shared.sort(copy, self.number);
            } else {
                shared.out.push_back(Piece::whole(copy.freeze()));
            }
        } else if let Some(count) = wrong {
            self.counts.add(count, 1);
        }
        frames.drain(..pieces.max(1)).for_each(|piece| self.pool.recycle(piece.bytes));
        true
    }
}

impl Frames for Sharer {
    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn transmit(&mut self, frames: &mut VecDeque<Piece<Fbuf>>) -> Result<(), DeviceError> {
        let shared = self.part.get();
        let mut within = lock(&shared);
        let Shared { port, out, .. } = &mut *within;
        // What the port did not take before goes first.
        port.transmit(out)?;
        while !frames.is_empty() && within.out.len() < BURST && self.put(frames, &mut within) {}
        let Shared { port, out, .. } = &mut *within;
        let sent = port.transmit(out);
        self.cramped = !frames.is_empty() || !out.is_empty();
        sent
    }

    fn receive(&mut self, into: &mut Vec<Piece<FbufMut>>) -> Result<(), DeviceError> {
        self.disarm();
        let shared = self.part.get();
        let mut within = lock(&shared);
        let looked = within.look(self.number);
        let Shared { port, waiting, .. } = &mut *within;
        let Some(waiting) = waiting.get_mut(&self.number) else { return looked };
        let count = waiting.frames.len().min(BURST);
        for frame in waiting.frames.drain(..count) {
            match self.pool.alloc_to_receive(frame.len()) {
                Some(mut copy) => {
                    copy.copy_from_slice(&frame);
                    self.counts.add(Count::Received, 1);
                    self.counts.add(Count::ReceivedBytes, frame.len() as u64);
                    self.counts.add(Count::Copied, 1);
                    into.push(Piece::whole(copy));
                }
                None => self.counts.add(Count::NoBuffer, 1),
            }
            port.pool().recycle_received(frame.freeze());
        }
        if count == 0 {
            return looked;
        }
        self.nap = upkeep::SHORTEST_NAP;
        Ok(())
    }
}

impl Device for Sharer {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn statistics(&mut self) -> Statistics {
        let shared = self.part.get();
        let mut within = lock(&shared);
        if let Some(waiting) = within.waiting.get_mut(&self.number) {
            self.counts.add(Count::QueueFull, std::mem::take(&mut waiting.dropped));
        }
        let port = within.port.statistics();
        for count in LOSSES {
            let new = port[count].saturating_sub(within.told[count]);
            self.counts.add(count, new);
            within.told.add(count, new);
        }
        let failed = port[Count::Failed].saturating_sub(within.told[Count::Failed]);
        let failed = failed.min(self.counts[Count::Sent]);
        self.counts.add(Count::Failed, failed);
        self.counts.add(Count::Sent, 0u64.wrapping_sub(failed));
        within.told.add(Count::Failed, failed);
        self.counts
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        let shared = self.part.get();
        let mut within = lock(&shared);
        let Shared { port, out, .. } = &mut *within;
        let sent = port.transmit(out);
        let looked = within.look(self.number);
        if within.has_some(self.number) {
            return Ok(false);
        }
        sent.and(looked)?;
        if !self.armed {
            let nap = upkeep::nap(&mut self.nap, self.cramped);
            upkeep::set(&self.timer, nap).map_err(DeviceError::Kernel)?;
            self.armed = true;
        }
        Ok(true)
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        let shared = self.part.get();
        let mut within = lock(&shared);
        let maintained = within.port.maintain();
        self.mac = within.port.mac();
        self.capabilities.mtu = within.port.capabilities().mtu;
        maintained
    }
}

impl AsFd for Sharer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

impl Drop for Sharer {
    fn drop(&mut self) {
        lock(&self.part.get()).waiting.remove(&self.number);
    }
}
