//! The device: `unet::device::Frames` over a port. The way of a frame is here; the rest in `upkeep`.
//!
//! # Invariants
//!
//! 1. A buffer that DPDK can reach has its token here: in `receiving`, while the mbuf of its number is in the
//!    mempool to receive into or in the port's hands; in `sent`, from before its mbuf is handed over until that mbuf
//!    was taken out of its mempool again, into which DPDK puts what it has sent.
//! 2. Where DPDK still has an mbuf when the port is closed (another port took it, and did not free it), its token and
//!    the mempool are leaked: the memory stays.
//! 3. Where the port has packets of its own (`packets`), no buffer is where DPDK can reach it.
//! 4. DPDK, its drivers and their tables are in this process, and are believed in what mbuf they hand over; where its
//!    bytes are, and whose it is, is compared all the same.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::ptr;
use std::time::Duration;

use dpdk_sys as sys;
use fbufs::{Class, Fbuf, FbufMut, Pool};
use unet::device::held::{First, Places, Receiving};
use unet::device::{Count, DeviceError, Frames, Piece, Statistics};

use crate::eal;
use crate::error::{Error, Said};
use crate::interface::Interface;
use crate::manner::Manner;
use crate::mbufs::{Mbuf, Mbufs};
use crate::packets::Packets;
use crate::port::{Facts, Options, Port, Registered, is_card, setup, step};
use crate::{rings, upkeep};

const BUFFER_BYTES: std::ops::RangeInclusive<u32> = 2048..=32_768;
/// The most frames that one call receives.
pub(crate) const BURST: usize = 64;
/// The most pieces of a frame.
pub(crate) const MAX_PIECES: usize = 8;
/// An Ethernet header.
pub(crate) const ETHERNET: usize = 14;
/// What a port leaves free before what it receives.
pub(crate) const RECEIVE_HEADROOM: usize = sys::RTE_PKTMBUF_HEADROOM as usize;

/// One queue a direction of a DPDK port as a device. It carries whole Ethernet frames.
pub struct DpdkPort {
    // In this order: the port is closed before what it reads and writes.
    pub(crate) port: Port,
    pub(crate) registered: Registered,
    pub(crate) facts: Facts,
    pub(crate) manner: Manner,
    pub(crate) interface: Option<Interface>,
    /// `None` where the port has packets of its own, and while it is dropped.
    pub(crate) mbufs: Option<Tables>,
    /// The port's own packets, where it cannot use the pool's memory.
    pub(crate) packets: Option<Packets>,
    pub(crate) receiving: Receiving,
    pub(crate) sent: Box<[Option<Fbuf>]>,
    pub(crate) pool: Pool,
    places: Places,

    /// Mbufs to send, which are out: their numbers.
    pub(crate) idle: Vec<u32>,
    /// Packets that the port has not taken yet.
    pub(crate) queue: Vec<Mbuf>,
    /// What was received when somebody was about to wait.
    pub(crate) early: VecDeque<Mbuf>,
    pub(crate) counts: Statistics,
    pub(crate) link: Result<(), DeviceError>,
    pub(crate) cramped: bool,
    pub(crate) timer: OwnedFd,
    pub(crate) nap: Duration,
    pub(crate) armed: bool,
    pub(crate) stock: usize,
    /// The most bytes of a frame.
    pub(crate) longest: usize,
}

/// The mbufs of a device.
pub(crate) struct Tables {
    /// One for each buffer.
    pub receive: Mbufs,
    /// As many as can be under way.
    pub transmit: Mbufs,
}

// SAFETY: what it points to is DPDK's, for one thread at a time (port, invariant 1), or a mempool, which threads share.
unsafe impl Send for DpdkPort {}

impl DpdkPort {
    /// Opens a port by DPDK's device arguments, such as `net_memif0,role=client,socket=/run/memif`, or `0000:3b:00.0`
    /// for a network card, which must be the first port of the process.
    ///
    /// # Errors
    /// [`Error`].
    ///
    /// # Cost
    /// The first one begins DPDK: some 100 ms.
    pub fn open(arguments: &str, options: &Options) -> Result<Self, Error> {
        begin(options, is_card(arguments))?;
        Self::with(options, || Port::find(arguments))
    }

    /// Two ports of one process that are joined: what one sends, the other receives. Their names to DPDK are
    /// `net_ring_NAME0` and `net_ring_NAME1`.
    ///
    /// # Errors
    /// [`Error`].
    #[doc(hidden)]
    pub fn pair(name: &str, options: &Options) -> Result<(Self, Self), Error> {
        begin(options, false)?;
        let [first, second] = {
            let _turn = setup();
            rings::pair(name, options.ring)?
        };
        let one = |number: u8, end| {
            Self::with(options, || Port::of_rings(&format!("{name}{number}"), end))
        };
        Ok((one(0, first)?, one(1, second)?))
    }

    /// A device over a port that is found when DPDK is ready.
    fn with(options: &Options, find: impl FnOnce() -> Result<Port, Error>) -> Result<Self, Error> {
        let _turn = setup();
        let class = Class { buffer_bytes: options.buffer_bytes, buffers: options.buffers };
        let pool = Pool::for_device(class, false);
        let mut pool = pool.map_err(|error| Error::Memory(Said(error.to_string())))?;
        let memory =
            pool.memory().ok_or(Error::Unsupported("its pool has no memory of its own"))?;
        let timer = upkeep::timer().map_err(|errno| step("make a timer", errno))?;
        let mut registered = Registered::new(memory);
        // From here on it is closed before what stands above is gone, wherever this ends.
        let mut port = find()?;
        let interface =
            Interface::of(port.interface()).map_err(|errno| step("make a socket", errno))?;
        let mut manner = port.manner(options.copy);
        if manner.shows_all && Registered::all() > 0 {
            return Err(Error::Unsupported(
                "it would show its peer the buffers of other ports, and cannot: give it a process of its own, or have \
                 the others copy (copy=yes)",
            ));
        }
        // A card that cannot reach the pool's memory has packets where it can.
        manner.copies = manner.copies || !port.map(&mut registered)?;
        let socket = port.socket();
        let (packets, receive) = if manner.copies {
            (Some(Packets::new(manner, options.ring, memory.buffer_bytes, socket)?), None)
        } else {
            (None, Some(Mbufs::new(memory.buffers, &memory, socket, !manner.alone)?))
        };
        let places = Places::new(memory.address, memory.buffer_bytes);
        let mut receiving = Receiving::new(places, memory.buffers);
        let mut stock = 0;
        if let Some(receive) = &receive {
            stock = (usize::from(options.ring) + BURST).min(memory.buffers / 2).max(1);
            // A port may take its first ones while it is set up.
            stock_up(&mut pool, &mut receiving, receive, (stock, memory.buffer_bytes));
        }
        let mempool = packets.as_ref().map(Packets::mempool);
        let mempool = mempool.or(receive.as_ref().map(Mbufs::mempool)).unwrap_or(ptr::null_mut());
        let ready = port.start(mempool, options.ring).and_then(|facts| {
            let under_way = usize::from(facts.transmit_ring) + BURST;
            match receive.is_some() {
                true => Ok((
                    facts,
                    Some(Mbufs::new(under_way, &memory, socket, !manner.alone)?),
                    under_way,
                )),
                false => Ok((facts, None, 0)),
            }
        });
        let (facts, transmit, under_way) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                port.close();
                packets.map(Packets::free);
                let out = memory.buffers - receiving.count();
                if receive.is_some_and(|receive| !receive.free(out)) {
                    receiving.leak();
                }
                return Err(error);
            }
        };
        let mbufs = receive.zip(transmit).map(|(receive, transmit)| Tables { receive, transmit });
        let mut device = Self {
            link: Err(DeviceError::Down),
            port,
            registered,
            facts,
            manner,
            interface,
            mbufs,
            packets,
            receiving,
            sent: (0..under_way).map(|_| None).collect(),
            pool,
            places,
            idle: (0..under_way as u32).collect(),
            queue: Vec::with_capacity(under_way.max(BURST)),
            early: VecDeque::with_capacity(BURST),
            counts: Statistics::default(),
            cramped: false,
            timer,
            nap: upkeep::SHORTEST_NAP,
            armed: false,
            stock,
            longest: 0,
        };
        device.look_at_link();
        Ok(device)
    }

    pub(crate) fn tables(&self) -> &Tables {
        self.mbufs.as_ref().expect("it is not being dropped, and goes by the pool's memory")
    }

    /// The most pieces of a frame.
    pub(crate) fn pieces(&self) -> usize {
        if self.facts.chains || self.manner.copies { MAX_PIECES } else { 1 }
    }

    /// Gives the port buffers to receive into.
    #[inline]
    pub(crate) fn restock(&mut self) {
        let how = (self.stock, self.registered.memory().buffer_bytes);
        let Some(tables) = &self.mbufs else { return };
        stock_up(&mut self.pool, &mut self.receiving, &tables.receive, how);
    }

    /// Takes back what was sent.
    #[inline]
    pub(crate) fn reap(&mut self) {
        let mut done = [ptr::null_mut(); BURST];
        while self.idle.len() < self.sent.len() {
            let taken = self.tables().transmit.take(&mut done);
            for mbuf in &done[..taken] {
                let Some(number) = self.tables().transmit.number(&segment(*mbuf)) else { continue };
                self.let_go(number);
            }
            if taken < BURST {
                break;
            }
        }
    }

    /// An mbuf is out again: so is what it pointed at.
    #[inline(always)]
    fn let_go(&mut self, number: usize) {
        if let Some(fbuf) = self.sent[number].take() {
            self.pool.recycle(fbuf);
        }
        self.idle.push(number as u32);
    }

    /// Hands over what waits. Whether the port took all of it.
    #[inline]
    pub(crate) fn flush(&mut self) -> bool {
        let mut gone = 0;
        while gone < self.queue.len() {
            let packets = &mut self.queue[gone..];
            let count = packets.len().min(BURST) as u16;
            let taken = self.port.burst(|id| {
                // SAFETY: invariant 1: each packet's mbufs were out, and are the port's now, as many as it takes.
                unsafe { sys::unet_transmit(id, 0, packets.as_mut_ptr(), count) }
            });
            let taken = taken.unwrap_or(0).min(count);
            gone += usize::from(taken);
            if taken < count {
                self.queue.drain(..gone);
                return false;
            }
        }
        self.queue.clear();
        true
    }

    /// Lets go of what the port did not take before its link went down: it would be stale when that is back.
    #[cold]
    pub(crate) fn drop_queue(&mut self) {
        for mbuf in self.queue.drain(..) {
            self.counts.add(Count::Failed, 1);
            self.counts.add(Count::Sent, 0u64.wrapping_sub(1));
            // SAFETY: it is out, and not any more.
            unsafe { sys::unet_free(mbuf) };
        }
    }

    /// Whether a piece lies in one buffer of this device, and has bytes at all.
    #[inline(always)]
    fn can_carry(&self, fbuf: &Fbuf) -> bool {
        let range = fbuf.range();
        let room = self.registered.memory().buffer_bytes;
        range.start < range.end
            && range.end <= room
            && self.places.has(fbuf.number(), range.start, fbuf)
    }

    /// Puts a frame into the queue, of which this is the first piece, or drops it: `false` if there is no room, and
    /// all of it is in `frames`.
    #[inline(always)]
    fn put(&mut self, first: Piece<Fbuf>, frames: &mut VecDeque<Piece<Fbuf>>) -> bool {
        let len = first.bytes.range().len();
        if !first.more
            && (ETHERNET..=self.longest).contains(&len)
            && self.can_carry(&first.bytes)
            && let Some(number) = self.idle.pop()
        {
            let mbuf = self.fill(number, first.bytes);
            self.queue.push(mbuf);
            self.counts.add(Count::Sent, 1);
            self.counts.add(Count::SentBytes, len as u64);
            return true;
        }
        self.put_pieces(first, frames)
    }

    /// An mbuf of this number becomes a segment, of a piece that this device can carry.
    #[inline(always)]
    fn fill(&mut self, number: u32, bytes: Fbuf) -> Mbuf {
        let number = number as usize;
        let mbuf = self.tables().transmit.fill(number, bytes.number(), bytes.range());
        self.sent[number] = Some(bytes);
        mbuf
    }

    /// As [`DpdkPort::put`], of a frame in several pieces, or one that may be wrong, or to be copied.
    #[inline(never)]
    fn put_pieces(&mut self, first: Piece<Fbuf>, frames: &mut VecDeque<Piece<Fbuf>>) -> bool {
        frames.push_front(first);
        let First { pieces, len, is_whole } = First::of(frames);
        let carried = frames.iter().take(pieces).all(|piece| self.can_carry(&piece.bytes));
        let wrong = if !is_whole || pieces > self.pieces() || !carried || len < ETHERNET {
            Some(Count::Malformed)
        } else if len > self.longest {
            Some(Count::TooLong)
        } else {
            None
        };
        if let Some(count) = wrong {
            self.counts.add(count, 1);
            frames.drain(..pieces).for_each(|piece| self.pool.recycle(piece.bytes));
            return true;
        }
        if self.idle.len() < pieces {
            return self.put_copy(frames, pieces, len);
        }
        let (mut head, mut last): (Mbuf, Mbuf) = (ptr::null_mut(), ptr::null_mut());
        for piece in frames.drain(..pieces) {
            let Some(number) = self.idle.pop() else { break };
            let mbuf = self.fill(number, piece.bytes);
            if head.is_null() {
                head = mbuf;
            } else {
                // SAFETY: the mbufs are out (invariant 1).
                unsafe { sys::unet_chain(head, last, mbuf) };
            }
            last = mbuf;
        }
        self.queue.push(head);
        self.counts.add(Count::Sent, 1);
        self.counts.add(Count::SentBytes, len as u64);
        true
    }

    /// Hands a received packet on, or drops it. Whether it was handed on.
    fn accept(&mut self, mbuf: Mbuf, into: &mut Vec<Piece<FbufMut>>) -> bool {
        let first = segment(mbuf);
        let tables = self.mbufs.as_ref();
        if first.next.is_null() && tables.is_some_and(|it| it.receive.number(&first).is_some()) {
            return match self.own(&first) {
                Some(fbuf) => {
                    self.counts.add(Count::Received, 1);
                    self.counts.add(Count::ReceivedBytes, u64::from(first.len));
                    into.push(Piece::whole(fbuf));
                    true
                }
                None => false,
            };
        }
        self.accept_chain(mbuf, into)
    }

    /// The buffer of a segment that is one of this device's: its mbuf is out.
    #[inline(always)]
    fn own(&mut self, segment: &sys::unet_segment) -> Option<FbufMut> {
        let base = self.registered.memory().address;
        let address = (segment.bytes as usize).wrapping_sub(base) as u64;
        match self.receiving.take(address, segment.len) {
            Ok(fbuf) => Some(fbuf),
            Err(_) => {
                self.counts.add(Count::Fault, 1);
                None
            }
        }
    }

    /// A packet of several segments, or in memory that is not the pool's, is copied into one buffer.
    #[inline(never)]
    fn accept_chain(&mut self, head: Mbuf, into: &mut Vec<Piece<FbufMut>>) -> bool {
        let room = self.registered.memory().buffer_bytes;
        let mut copy = self.pool.alloc_to_receive(room);
        let (mut len, mut fits) = (0, copy.is_some());
        let mut mbuf = head;
        // So long a chain no port makes.
        for _ in 0..usize::from(u16::MAX) {
            let of = segment(mbuf);
            let end = len + of.len as usize;
            if let Some(copy) = copy.as_mut().filter(|_| end <= room) {
                // SAFETY: DPDK says that so many bytes are there, in this process (invariant 4), and nobody writes
                // them until the mbuf is freed.
                let bytes =
                    unsafe { std::slice::from_raw_parts(of.bytes.cast::<u8>(), of.len as usize) };
                copy[len..end].copy_from_slice(bytes);
            } else {
                fits = false;
            }
            len = end;
            if of.next.is_null() {
                break;
            }
            mbuf = of.next;
        }
        // SAFETY: it was received, and nobody else has it. What is of this device goes back to its mempool, from
        // where it is received into again: its token stays.
        unsafe { sys::unet_free(head) };
        let copy =
            copy.filter(|_| fits).and_then(|mut copy| copy.set_range(0..len).then_some(copy));
        match copy {
            Some(copy) => {
                self.counts.add(Count::Received, 1);
                self.counts.add(Count::ReceivedBytes, len as u64);
                self.counts.add(Count::Copied, 1);
                into.push(Piece::whole(copy));
                true
            }
            None => {
                self.counts.add(if len > room { Count::Truncated } else { Count::NoBuffer }, 1);
                false
            }
        }
    }

    /// Receives a burst: how many there are.
    #[inline(always)]
    pub(crate) fn look(&mut self, mbufs: &mut [Mbuf; BURST]) -> usize {
        let count = self.port.burst(|id| {
            // SAFETY: there is room for as many; each is out then, or another pool's, and nobody else's.
            unsafe { sys::unet_receive(id, 0, mbufs.as_mut_ptr(), BURST as u16) }
        });
        usize::from(count.unwrap_or(0)).min(BURST)
    }
}

impl Frames for DpdkPort {
    fn mac(&self) -> [u8; 6] {
        self.facts.mac
    }

    fn transmit(&mut self, frames: &mut VecDeque<Piece<Fbuf>>) -> Result<(), DeviceError> {
        if self.link.is_err() {
            self.look_at_link();
            self.link?;
        }
        if frames.is_empty() || self.idle.len() < BURST {
            self.reap();
        }
        if self.idle.len() < BURST {
            self.port.burst(|id| {
                // SAFETY: the port is this device's (port, invariant 1).
                unsafe { sys::unet_clean(id, 0) }
            });
            self.reap();
        }
        // What the port did not take before goes first.
        let mut has_room = self.flush();
        while has_room && let Some(first) = frames.pop_front() {
            if !self.put(first, frames) {
                break;
            }
            if self.queue.len() == BURST {
                has_room = self.flush();
            }
        }
        self.flush();
        self.cramped = !frames.is_empty();
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<Piece<FbufMut>>) -> Result<(), DeviceError> {
        self.disarm();
        if !self.queue.is_empty() {
            self.flush();
        }
        let mut mbufs = [ptr::null_mut(); BURST];
        let mut came = 0;
        while came < BURST
            && let Some(mbuf) = self.early.pop_front()
        {
            mbufs[came] = mbuf;
            came += 1;
        }
        if came == 0 {
            came = self.look(&mut mbufs);
        }
        if came == 0 {
            self.reap();
            self.restock();
            return self.link;
        }
        self.nap = upkeep::SHORTEST_NAP;
        for mbuf in &mbufs[..came] {
            self.accept(*mbuf, into);
        }
        self.restock();
        Ok(())
    }
}

impl Drop for DpdkPort {
    fn drop(&mut self) {
        let _turn = setup();
        for mbuf in self.early.drain(..) {
            // SAFETY: it was received, and nobody else has it.
            unsafe { sys::unet_free(mbuf) };
        }
        // A packet in the queue is in nobody's hands: its mbufs go to their mempool.
        for mbuf in self.queue.drain(..) {
            // SAFETY: it is out, and not any more.
            unsafe { sys::unet_free(mbuf) };
        }
        self.port.close();
        self.packets.take().map(Packets::free);
        let Some(Tables { receive, transmit }) = self.mbufs.take() else { return };
        // Invariant 2.
        let out = self.registered.memory().buffers - self.receiving.count();
        if !receive.free(out) {
            self.receiving.leak();
        }
        if !transmit.free(self.idle.len()) {
            self.sent.iter_mut().for_each(|fbuf| std::mem::forget(fbuf.take()));
        }
    }
}

impl std::fmt::Debug for DpdkPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DpdkPort").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Gives buffers to receive into, until there are as many as there should be.
#[inline]
fn stock_up(
    pool: &mut Pool,
    receiving: &mut Receiving,
    mbufs: &Mbufs,
    (stock, buffer_bytes): (usize, usize),
) {
    let mut some = [0; BURST];
    loop {
        let mut count = 0;
        while count < BURST && receiving.count() < stock {
            let Some(fbuf) = pool.alloc_to_receive(buffer_bytes) else { break };
            some[count] = fbuf.number() as u32;
            // A pool that the caller put in the place of ours has nothing for this device.
            if receiving.hold(fbuf).is_none() {
                break;
            }
            count += 1;
        }
        if count == 0 {
            return;
        }
        mbufs.give(&some[..count]);
    }
}

/// Begins DPDK for a port, unless what is asked for makes no sense.
fn begin(options: &Options, card: bool) -> Result<(), Error> {
    if !options.buffer_bytes.is_power_of_two() || !BUFFER_BYTES.contains(&options.buffer_bytes) {
        return Err(Error::Unsupported(
            "its buffers are no power of two from 2048 to 32,768 bytes",
        ));
    }
    eal::begin(options.memory, card)
}

/// What an mbuf says.
#[inline(always)]
pub(crate) fn segment(mbuf: Mbuf) -> sys::unet_segment {
    // SAFETY: it is an mbuf that DPDK handed over, or one of a mempool of ours.
    unsafe { sys::unet_segment(mbuf) }
}
