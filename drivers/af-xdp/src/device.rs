//! The device: `unet::device::Frames` over a bound socket. The way of a packet is here; opening is in
//! `open`, the rest of the device in `upkeep`.
//!
//! # Invariants
//!
//! The kernel reads and writes a buffer only between the moment its address is published in the fill or
//! the transmit ring and the moment it comes back in the receive or the completion ring.
//!
//! 1. A buffer's token is in `receiving` or `sending` for all that time.
//! 2. Fields are dropped in their order: packets are not steered here any more, the rings are unmapped,
//!    the socket is closed, and only then are tokens dropped. Closing ends the kernel's access where it
//!    copies and nobody else has the descriptor; hardware may go on for a moment.
//! 3. The pool goes with the device, so what was in the kernel's hands then is never allocated again: what
//!    it may still write there, nobody reads. The kernel has the pages pinned until it lets go of them.
//!    Where the caller has put another pool in its place, which `Device::pool` lets it do, tokens are
//!    leaked.
//! 4. Only buffers of the registered memory are held and published: their address is compared.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use fbufs::{Fbuf, FbufMut, Pool, RegisteredMemory};
use rustix::net::{RecvFlags, recv};
use unet::device::{Count, DeviceError, Frames, Kick, Piece, Statistics, Waiting};

use crate::lent::Lease;
use crate::port::Reservation;
use crate::program::Program;
use crate::rings::{CONTINUED, Descriptor, Overrun, Rings};
use crate::socket::Binding;
use crate::upkeep::Upkeep;
use unet::device::held::{Fault, Receiving, Sending};

/// The most frames that one call receives.
pub(crate) const BURST: usize = 64;
/// How many buffers the kernel has to receive into while it is calm: it takes them in turn, so that few
/// stay in the cache.
const FEW: usize = 128;
/// It is not calm when so many frames wait at a look: a quarter of the few buffers is used up then.
const CROWD: u32 = 32;

/// What steers packets to the socket, where this process does.
pub(crate) struct Kept {
    pub program: Arc<Program>,
    pub queue: u32,
    pub port: u16,
    pub _reservation: Option<Reservation>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.program.stop_port(self.queue, self.port);
        self.program.stop_queue(self.queue);
    }
}

/// A queue of an interface as a device: an AF_XDP socket whose rings and buffers are mapped here.
///
/// It carries whole Ethernet frames. The program steers UDP packets to one port to it; what it sends goes
/// out on its queue, past the kernel's packet scheduler and firewall. A UDP packet that a kernel socket
/// sent over veth arrives with a checksum that nobody has completed, unless `ethtool -K PEER tx off`.
pub struct AfXdp {
    // In this order: invariant 2.
    pub(crate) kept: Option<Kept>,
    pub(crate) rings: Rings,
    pub(crate) socket: OwnedFd,
    pub(crate) waiting: Waiting,
    pub(crate) receiving: Receiving,
    pub(crate) sending: Sending,
    pub(crate) pool: Pool,
    /// Tells who lent the queue that it is free again: when all of the above is gone.
    pub(crate) lease: Option<Lease>,

    pub(crate) binding: Binding,
    pub(crate) counts: Statistics,
    pub(crate) upkeep: Upkeep,
    /// Receive system calls poll the driver.
    pub(crate) poll_driver: bool,
    /// How many buffers the kernel is to have to receive into: `most`, or few while it is calm.
    pub(crate) stock: usize,
    pub(crate) most: usize,
    /// Somebody looks all the time, and no crowd of frames waited, since the device was maintained last.
    calm: bool,
    /// How many descriptors cannot wait until nothing arrives: what is done then is off the way of a packet.
    much: usize,
    pub(crate) buffer_bytes: usize,
    /// The most bytes of a frame, now.
    pub(crate) longest: usize,
    /// Published frames that the last kick left behind.
    pub(crate) unsent: bool,
    /// The last burst was not taken whole.
    pub(crate) cramped: bool,
    /// What the last kick said of the interface.
    pub(crate) kicked: Result<(), DeviceError>,
    /// Pieces of a frame whose end has not come.
    partial: Vec<Piece<FbufMut>>,
    /// The rest of a frame that is being dropped is passed over.
    skipping: bool,
}

impl AfXdp {
    /// The UDP port whose packets come to it.
    pub fn port(&self) -> u16 {
        self.binding.port
    }

    pub(crate) fn assemble(
        (socket, waiting, rings, pool): (OwnedFd, Waiting, Rings, Pool),
        (receiving, sending): (Receiving, Sending),
        binding: Binding,
        upkeep: Upkeep,
        (stock, buffer_bytes): (usize, usize),
    ) -> Self {
        Self {
            kept: None,
            rings,
            socket,
            waiting,
            receiving,
            sending,
            pool,
            lease: None,
            binding,
            counts: Statistics::default(),
            upkeep,
            poll_driver: false,
            stock,
            most: stock,
            calm: false,
            much: stock.min(4 * BURST) / 4,
            buffer_bytes,
            longest: 0,
            unsent: false,
            cramped: false,
            kicked: Ok(()),
            partial: Vec::new(),
            skipping: false,
        }
    }

    /// Gives the kernel buffers to receive into, as many as it should have, while the pool has some.
    #[inline(always)]
    pub(crate) fn restock(&mut self) {
        if self.receiving.count() >= self.stock {
            return;
        }
        while self.receiving.count() < self.stock {
            let Some(fbuf) = self.pool.alloc_to_receive(self.buffer_bytes) else { break };
            // There is room: the ring has as many entries as the stock has buffers.
            // A pool that the caller put in the place of ours has nothing for this device.
            let Some(address) = self.receiving.hold(fbuf) else { break };
            self.rings.fill.put(address);
        }
        self.rings.fill.publish();
        if self.rings.fill.needs_wakeup() {
            self.poll_driver();
        }
    }

    /// Many frames may come before the next look: the kernel gets all the buffers there are for that.
    #[cold]
    pub(crate) fn expect_many(&mut self) {
        (self.stock, self.calm) = (self.most, false);
    }

    /// Few buffers do from now on, if it was calm since this was asked last.
    pub(crate) fn expect_few_if_calm(&mut self) {
        if std::mem::replace(&mut self.calm, true) {
            self.stock = self.most.min(FEW);
        }
    }

    /// Restocks before nothing arrives, if much is missing.
    #[inline(always)]
    fn restock_early(&mut self) {
        if self.receiving.count() + self.much <= self.stock {
            self.reap();
            self.restock();
        }
    }

    #[cold]
    fn poll_driver(&mut self) {
        self.counts.add(Count::Kicks, 1);
        // Whatever it says, what arrived is in the ring.
        let _ = recv(&self.socket, &mut [0u8; 0][..], RecvFlags::DONTWAIT);
    }

    /// Why nothing can be carried now, if so.
    pub(crate) fn trouble(&self) -> Result<(), DeviceError> {
        self.upkeep.link().and(self.kicked)
    }

    #[cold]
    fn try_again(&mut self) -> Result<(), DeviceError> {
        if self.kicked == Err(DeviceError::Down) {
            self.kick();
        }
        self.trouble()
    }

    /// Hands a received piece on: whether a frame ended.
    #[inline(always)]
    fn accept(&mut self, of: Descriptor, into: &mut Vec<Piece<FbufMut>>) -> bool {
        let taken = self.receiving.take(of.address, of.len);
        let more = of.options & CONTINUED != 0;
        match taken {
            Ok(fbuf) if !more && !self.skipping && self.partial.is_empty() => {
                self.counts.add(Count::Received, 1);
                self.counts.add(Count::ReceivedBytes, u64::from(of.len));
                // Room first, so that it is written where it stays.
                into.extend(std::iter::once_with(|| Piece::whole(fbuf)));
                true
            }
            taken => self.accept_piece(taken, more, into),
        }
    }

    #[cold]
    fn accept_piece(
        &mut self,
        taken: Result<FbufMut, Fault>,
        more: bool,
        into: &mut Vec<Piece<FbufMut>>,
    ) -> bool {
        let wrong = match taken {
            _ if self.skipping => None,
            Err(Fault) => Some(Count::Fault),
            Ok(_) if self.partial.len() >= self.binding.pieces => Some(Count::Truncated),
            Ok(bytes) => {
                self.partial.push(Piece { bytes, more });
                None
            }
        };
        if let Some(count) = wrong {
            self.counts.add(count, 1);
            self.skipping = true;
            self.partial.clear();
        }
        if !more && !std::mem::take(&mut self.skipping) {
            let len: usize = self.partial.iter().map(|piece| piece.bytes.len()).sum();
            self.counts.add(Count::Received, 1);
            self.counts.add(Count::ReceivedBytes, len as u64);
            into.append(&mut self.partial);
        }
        !more
    }

    /// Nothing arrived: what else there is to do.
    #[inline]
    fn idle(&mut self) -> Result<(), DeviceError> {
        self.reap();
        self.restock();
        if self.unsent {
            self.kick();
        }
        if self.poll_driver {
            self.poll_driver();
        }
        self.trouble()
    }
}

impl Frames for AfXdp {
    fn mac(&self) -> [u8; 6] {
        self.binding.mac
    }

    fn transmit(&mut self, frames: &mut VecDeque<Piece<Fbuf>>) -> Result<(), DeviceError> {
        if self.trouble().is_err() {
            self.try_again()?;
        }
        if frames.is_empty() || self.sending.count() >= self.much {
            self.reap();
        }
        let mut put = false;
        while let Some(Piece { bytes, more }) = frames.pop_front() {
            put = true;
            if !more && self.rings.transmit.room(1) > 0 {
                self.put_or_drop(bytes);
            } else if !self.put_pieces(Piece { bytes, more }, frames) {
                break;
            }
        }
        self.cramped = !frames.is_empty();
        if put || self.unsent {
            self.kick();
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<Piece<FbufMut>>) -> Result<(), DeviceError> {
        self.waiting.disarm(&self.socket);
        let available = match self.rings.receive.available() {
            Ok(0) => return self.idle(),
            Ok(available) => available,
            Err(Overrun) => {
                self.counts.add(Count::Fault, 1);
                return self.idle();
            }
        };
        if available >= CROWD {
            self.expect_many();
        }
        let mut frames = 0;
        for _ in 0..available {
            let descriptor = self.rings.receive.take();
            frames += usize::from(self.accept(descriptor, into));
            if frames == BURST {
                break;
            }
        }
        self.rings.receive.release();
        self.restock_early();
        Ok(())
    }

    #[inline]
    fn transmit_one(&mut self, frame: Fbuf, kick: Kick) -> Result<(), Fbuf> {
        let is_ready = self.trouble().is_ok() && !self.cramped;
        if !is_ready || self.rings.transmit.room(1) == 0 || !self.can_send(&frame) {
            return Err(frame);
        }
        if self.sending.count() >= self.much {
            self.reap();
        }
        self.put(frame);
        match kick {
            Kick::Now => self.kick(),
            Kick::Later => self.unsent = true,
        }
        Ok(())
    }

    #[inline]
    fn receive_one(&mut self) -> Option<FbufMut> {
        let is_between = !self.waiting.is_armed() && !self.skipping && self.partial.is_empty();
        let Ok(available @ 1..) = self.rings.receive.available() else { return None };
        if available >= CROWD {
            self.expect_many();
        }
        if !is_between {
            return None;
        }
        let of = self.rings.receive.peek();
        if of.options & CONTINUED != 0 {
            return None;
        }
        let _ = self.rings.receive.take();
        self.rings.receive.release();
        let Ok(fbuf) = self.receiving.take(of.address, of.len) else { return self.count_fault() };
        fbuf.prefetch();
        self.counts.add(Count::Received, 1);
        self.counts.add(Count::ReceivedBytes, u64::from(of.len));
        self.restock_early();
        Some(fbuf)
    }
}

impl AfXdp {
    /// What its socket is bound to, and how.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }

    #[cold]
    fn count_fault(&mut self) -> Option<FbufMut> {
        self.counts.add(Count::Fault, 1);
        None
    }
}

impl Drop for AfXdp {
    fn drop(&mut self) {
        let ours = |memory: RegisteredMemory| memory.address == self.sending.base();
        if !self.pool.memory().is_some_and(ours) {
            self.receiving.leak();
        }
    }
}

impl std::fmt::Debug for AfXdp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AfXdp").field("binding", &self.binding).finish_non_exhaustive()
    }
}
