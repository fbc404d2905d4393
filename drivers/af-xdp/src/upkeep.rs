//! The rest of the device: what it is, what it counted, waiting for it, and what its interface does.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fbufs::Pool;
use rustix::net::sockopt::xdp_statistics;
use unet::device::{
    Capabilities, Count, Device, DeviceError, Mode, OpenError, Statistics, Waiting,
};

use crate::AfXdp;
use crate::device::BURST;
use crate::interface::{Interface, Interfaces};
use crate::lent::Lease;
use crate::open::ETHERNET;
use crate::rings::Rings;
use crate::socket::{Binding, MAX_PIECES, RECEIVE_HEADROOM, stock};
use unet::device::held::{Places, Receiving, Sending};

/// What a device knows of its interface.
pub(crate) struct Upkeep {
    /// Where the interface is asked for; `None` where it is not in this process's namespace.
    interfaces: Option<Interfaces>,
    link: Result<(), DeviceError>,
    /// Frames that the interface dropped after they had been taken.
    pub failed: u64,
}

impl Upkeep {
    fn new(binding: &Binding) -> Self {
        let mut interfaces = Interfaces::new().ok();
        let found = interfaces.as_mut().and_then(|it| it.look(binding.interface).ok());
        let link = match found.filter(|found| found.mac == binding.mac) {
            Some(found) => found.carries(),
            None => {
                interfaces = None;
                Ok(())
            }
        };
        Self { interfaces, link, failed: 0 }
    }

    /// What is known of the interface.
    #[inline(always)]
    pub fn link(&self) -> Result<(), DeviceError> {
        self.link
    }

    fn look(&mut self, index: u32) -> Option<Result<Interface, DeviceError>> {
        self.interfaces.as_mut().map(|it| it.look(index))
    }
}

impl AfXdp {
    /// Maps the rings of a bound socket over a pool, and stocks it.
    pub(crate) fn new(socket: OwnedFd, pool: Pool, binding: Binding) -> Result<Self, OpenError> {
        let memory = pool.memory().filter(|memory| matches!(memory.buffer_bytes, 2048 | 4096));
        let valid = binding.rings.is_valid()
            && (binding.pieces == 1 || binding.pieces == MAX_PIECES)
            && matches!(binding.mode, Mode::Generic | Mode::Native | Mode::ZeroCopy);
        let Some(memory) = memory.filter(|_| valid) else {
            return Err(OpenError::BadValue("a binding that goes with the pool"));
        };
        let rings = Rings::map(&socket, binding.rings)
            .map_err(|errno| OpenError::Kernel { step: "map the rings", errno })?;
        let places = Places::new(memory.address, memory.buffer_bytes);
        let receiving = Receiving::new(places, memory.buffers);
        let sending = Sending::new(places, memory.buffers);
        let upkeep = Upkeep::new(&binding);
        let stock = stock(memory.buffers).min(binding.rings.receive as usize);
        let parts = (socket, Waiting::new()?, rings, pool);
        let tables = (receiving, sending);
        let sizes = (stock, memory.buffer_bytes);
        let mut device = Self::assemble(parts, tables, binding, upkeep, sizes);
        device.set_mtu(binding.mtu);
        device.restock();
        Ok(device)
    }

    /// The longest frame: what the interface carries, and as many pieces as there may be of what the
    /// other side can receive into a buffer.
    fn set_mtu(&mut self, mtu: usize) {
        let carried = self.binding.pieces * (self.buffer_bytes - RECEIVE_HEADROOM);
        self.longest = mtu.saturating_add(ETHERNET).min(carried);
    }
}

impl Device for AfXdp {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mode: self.binding.mode,
            mtu: self.longest - ETHERNET,
            headroom: 0,
            piece_bytes: self.buffer_bytes - RECEIVE_HEADROOM,
            pieces: self.binding.pieces,
            burst: BURST,
            stock: self.most,
        }
    }

    fn statistics(&mut self) -> Statistics {
        let mut counts = self.counts;
        let mut failed = self.upkeep.failed;
        if let Ok(kernel) = xdp_statistics(self.socket()) {
            let empty = kernel.rx_fill_ring_empty_descs.unwrap_or(0);
            // Where the kernel copies, it counts a packet as dropped when there was no buffer for it, and
            // when it was longer than one and may not have several.
            let no_buffer = if self.binding.pieces == 1 {
                empty.min(kernel.rx_dropped)
            } else {
                kernel.rx_dropped
            };
            counts.add(Count::NoBuffer, no_buffer);
            counts.add(Count::Truncated, kernel.rx_dropped - no_buffer);
            counts.add(Count::QueueFull, kernel.rx_ring_full.unwrap_or(0));
            counts.add(Count::Fault, kernel.rx_invalid_descs);
            failed += kernel.tx_invalid_descs;
        }
        counts.add(Count::Failed, failed);
        counts.add(Count::Sent, 0u64.wrapping_sub(failed));
        counts
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        if self.unsent {
            self.kick();
        }
        self.reap();
        // Who sleeps is away for long.
        self.expect_many();
        self.restock();
        if !matches!(self.rings.receive.available(), Ok(0)) {
            return Ok(false);
        }
        // The socket says when it has room by another event than the one that is waited for. There is
        // some within microseconds: it is worth no wait.
        if self.cramped && self.trouble().is_ok() {
            return Ok(false);
        }
        // Also while it is in trouble: what arrives all the same says that it is over.
        self.waiting.arm(&self.socket, false)?;
        self.trouble().map(|()| true)
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        self.expect_few_if_calm();
        // Who lent the queue takes no packet of it any more: it does not come back.
        if self.lease.as_ref().is_some_and(Lease::has_ended) {
            self.lease = None;
            self.upkeep.interfaces = None;
            self.upkeep.link = Err(DeviceError::Gone);
        }
        match self.upkeep.look(self.binding.interface) {
            None => {}
            Some(Ok(interface)) => {
                self.upkeep.link = interface.carries();
                if self.kicked == Err(DeviceError::Down) && self.upkeep.link.is_ok() {
                    self.kicked = Ok(());
                }
                self.set_mtu(interface.mtu);
                self.binding.mac = interface.mac;
            }
            Some(Err(DeviceError::Gone)) => self.upkeep.link = Err(DeviceError::Gone),
            // The answer may come another time; what was known stays.
            Some(Err(_)) => {}
        }
        if self.unsent {
            self.kick();
        }
        self.trouble()
    }
}

impl AsFd for AfXdp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waiting.as_fd()
    }
}
