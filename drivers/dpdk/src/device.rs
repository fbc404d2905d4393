//! The device: `unet::device::Frames` over a port: what it has, and the order of things. How it is opened is in
//! `opening`, the ways of frames in `transmit` and `receive`, the rest in `upkeep`.
//!
//! # Invariants
//!
//! 1. A buffer that DPDK can reach has its token here: in `receiving`, while the mbuf of its number is in the
//!    mempool to receive into or in the port's hands; in `sent`, from before its mbuf is handed over until that mbuf
//!    was taken out of its mempool again, into which DPDK puts what it has sent.
//! 2. Where DPDK still has an mbuf when the port is closed (another port took it, and did not free it), its token and
//!    the mempool are leaked: the memory stays. So it does where the port cannot be closed.
//! 3. Where the port has packets of its own (`packets`), no buffer is where DPDK can reach it.
//! 4. DPDK, its drivers and their tables are in this process, and are believed in what mbuf they hand over; where its
//!    bytes are, and whose it is, is compared all the same.

use std::collections::VecDeque;
use std::mem;
use std::os::fd::OwnedFd;
use std::time::Duration;

use dpdk_sys as sys;
use fbufs::{Fbuf, FbufMut, Pool};
use unet::device::held::{Places, Receiving};
use unet::device::{DeviceError, Frames, Piece, Statistics};

use crate::interface::Interface;
use crate::manner::Manner;
use crate::mbufs::{Mbuf, Mbufs};
use crate::packets::Packets;
use crate::port::{Facts, Port, setup};
use crate::registered::Registered;
use crate::upkeep;

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
    pub(crate) places: Places,

    /// Mbufs to send, which are out: their numbers.
    pub(crate) idle: Vec<u32>,
    /// Packets that the port has not taken yet.
    pub(crate) queue: Vec<Mbuf>,
    /// What was received when somebody was about to wait.
    pub(crate) early: VecDeque<Mbuf>,
    /// Room for a burst: nothing stays in it.
    pub(crate) burst: Box<[Mbuf]>,
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
        while self.idle.len() < self.sent.len() {
            let mut done = mem::take(&mut self.burst);
            let taken = self.tables().transmit.take(&mut done);
            for mbuf in &done[..taken] {
                let Some(number) = self.tables().transmit.number(&segment(*mbuf)) else { continue };
                self.let_go(number);
            }
            self.burst = done;
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
        if self.early.is_empty() {
            let mut mbufs = mem::take(&mut self.burst);
            let came = self.look(&mut mbufs);
            mbufs[..came].iter().for_each(|mbuf| _ = self.accept(*mbuf, into));
            self.burst = mbufs;
            if came == 0 {
                // What can wait is done when there is nothing else to do.
                self.reap();
                self.restock();
                return self.link;
            }
        }
        while let Some(mbuf) = self.early.pop_front() {
            self.accept(mbuf, into);
        }
        self.nap = upkeep::SHORTEST_NAP;
        if self.receiving.count() + BURST <= self.stock {
            self.restock();
        }
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
        let closed = self.port.close();
        if let Some(packets) = self.packets.take().filter(|_| closed) {
            packets.free();
        }
        let Some(Tables { receive, transmit }) = self.mbufs.take() else { return };
        // Invariant 2.
        let out = self.registered.memory().buffers - self.receiving.count();
        if !closed || !receive.free(out) {
            self.receiving.leak();
        }
        if !closed || !transmit.free(self.idle.len()) {
            self.sent.iter_mut().for_each(|fbuf| mem::forget(fbuf.take()));
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
pub(crate) fn stock_up(
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

/// What an mbuf says.
#[inline(always)]
pub(crate) fn segment(mbuf: Mbuf) -> sys::unet_segment {
    // SAFETY: it is an mbuf that DPDK handed over, or one of a mempool of ours.
    unsafe { sys::unet_segment(mbuf) }
}
