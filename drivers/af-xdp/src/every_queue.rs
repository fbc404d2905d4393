//! Every queue of an interface as one device: for a port whose packets the hardware spreads over its queues.
//!
//! Each queue has a socket and buffers of its own. What arrives on any of them is received, from one after
//! the other; what is sent goes out on the first.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use fbufs::{Fbuf, FbufMut, Pool};
use rustix::event::epoll;
use unet::device::{Capabilities, Device, DeviceError, Frames, Kick, OpenError, Piece, Statistics};

use crate::interface::Interface;
use crate::open::attach;
use crate::options::{Options, Way};
use crate::program::{Hook, Program};
use crate::{AfXdp, Binding};

/// The most queues that one device has: each costs buffers, and a look at each receive.
pub const MAX_QUEUES: u32 = 64;

/// Every queue of an interface as one device. A buffer that was received on another queue than the first is
/// of another pool than [`Device::pool`]: sent on, it is copied.
pub struct EveryQueue {
    queues: Vec<AfXdp>,
    turn: usize,
    /// Watches the queues' descriptors.
    waiting: OwnedFd,
}

impl EveryQueue {
    /// Opens all queues of an interface with a program of its own.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Unsupported`] for more than [`MAX_QUEUES`].
    ///
    /// # Cost
    /// As [`AfXdp::open`] for each queue.
    pub fn open(interface: &str, options: &Options) -> Result<Self, OpenError> {
        let interface = Interface::find(interface)?;
        let program = Arc::new(attach(&interface, 0, options)?);
        Self::open_with(&program, &interface, options)
    }

    pub(crate) fn open_with(
        program: &Arc<Program>,
        interface: &Interface,
        options: &Options,
    ) -> Result<Self, OpenError> {
        if interface.queues > MAX_QUEUES {
            return Err(OpenError::Unsupported(
                "name a queue of the interface, or set it to 64 at most (ethtool -L IFACE combined 64)",
            ));
        }
        let mut options = *options;
        if program.hook() == Hook::Generic {
            // Whichever queue a packet comes in on is one of ours.
            options.way = Way::Generic;
        }
        let mut queues = Vec::new();
        for queue in 0..interface.queues.max(1) {
            let device = AfXdp::open_with(program, interface, queue, &options)?;
            // One of them keeps the port for all.
            (options.port, options.reserve) = (device.port(), false);
            queues.push(device);
        }
        let make = |errno| OpenError::Kernel { step: "watch the queues", errno };
        let waiting = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(make)?;
        for queue in &queues {
            let (data, flags) = (epoll::EventData::new_u64(0), epoll::EventFlags::IN);
            epoll::add(&waiting, queue, data, flags).map_err(make)?;
        }
        Ok(Self { queues, turn: 0, waiting })
    }

    /// The UDP port whose packets come to it.
    pub fn port(&self) -> u16 {
        self.first().binding().port
    }

    /// How many queues it has.
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    fn first(&self) -> &AfXdp {
        // There is one at least.
        &self.queues[0]
    }

    /// What each of its sockets is bound to.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.queues.iter().map(AfXdp::binding)
    }
}

impl AsFd for EveryQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waiting.as_fd()
    }
}

impl Device for EveryQueue {
    fn capabilities(&self) -> Capabilities {
        let stock = self.queues.iter().map(|queue| queue.capabilities().stock).sum();
        let burst = self.queues.iter().map(|queue| queue.capabilities().burst).sum();
        Capabilities { stock, burst, ..self.first().capabilities() }
    }

    fn statistics(&mut self) -> Statistics {
        let mut sum = Statistics::default();
        self.queues.iter_mut().for_each(|queue| sum += queue.statistics());
        sum
    }

    fn pool(&mut self) -> &mut Pool {
        self.queues[0].pool()
    }

    fn arm(&mut self) -> Result<bool, DeviceError> {
        // All of them are armed, whatever one says.
        let mut idle = Ok(true);
        for queue in &mut self.queues {
            let armed = queue.arm();
            idle = idle.and_then(|idle| Ok(idle & armed?));
        }
        idle
    }

    fn maintain(&mut self) -> Result<(), DeviceError> {
        self.queues.iter_mut().map(Device::maintain).fold(Ok(()), Result::and)
    }
}

impl Frames for EveryQueue {
    fn mac(&self) -> [u8; 6] {
        self.first().mac()
    }

    fn transmit(&mut self, frames: &mut VecDeque<Piece<Fbuf>>) -> Result<(), DeviceError> {
        self.queues[0].transmit(frames)
    }

    fn receive(&mut self, into: &mut Vec<Piece<FbufMut>>) -> Result<(), DeviceError> {
        let mut outcome = Ok(());
        for _ in 0..self.queues.len() {
            self.turn = (self.turn + 1) % self.queues.len();
            outcome = outcome.and(self.queues[self.turn].receive(into));
        }
        if into.is_empty() { outcome } else { Ok(()) }
    }

    fn transmit_one(&mut self, frame: Fbuf, kick: Kick) -> Result<(), Fbuf> {
        self.queues[0].transmit_one(frame, kick)
    }
}

impl std::fmt::Debug for EveryQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EveryQueue").field("queues", &self.queues).finish_non_exhaustive()
    }
}
