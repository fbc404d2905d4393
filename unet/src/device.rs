//! Devices: bursts of frames or of datagrams, over buffers that were registered beforehand.
//!
//! ```text
//!   an endpoint's network channels                       what a driver implements
//!   ──────────────────────────────
//!            Datagrams                UDP payloads to and from (address, port): udp, or
//!       ┌────────┴────────┐
//!     udp             Framed<F, R>    puts Ethernet, IP and UDP headers before them, over
//!   (the kernel)           │
//!                        Frames       Ethernet frames: af-xdp, sim, dpdk, …
//! ```
//!
//! A driver owns a [`Pool`] of one class of buffers and has told its device where they lie
//! ([`Pool::memory`]). It keeps the device stocked with free ones. What arrives comes out as an
//! [`FbufMut`], which is the caller's until it is dropped, or given to [`Pool::recycle_received`]: that is
//! cheaper, and there the driver finds its next ones ([`Pool::alloc_to_receive`]). What is sent is handed in
//! as an [`Fbuf`] of the same pool, and the driver lets go of it when the device has read it. While a handle is inside the driver, its bytes are the device's.
//!
//! # What a driver promises
//!
//! 1. Every buffer is in one place: the pool, the caller's hands, or the device. None is lost, none comes
//!    twice, whatever the device says: its word is checked against private tables.
//! 2. Packets of one device to one destination stay in order, where the network keeps it.
//! 3. What is not delivered is counted ([`Statistics`]), by reason, once.
//! 4. No call waits, and each has a bound; none allocates once the device has been used a while.
//! 5. A device that goes down, or away, is an error ([`DeviceError`]), not a panic; one that comes back up
//!    goes on.
//!
//! The feature `conformance` has these as tests, to be run on any driver.

mod capabilities;
mod drivers;
mod echo;
mod framed;
pub mod held;
mod neighbours;
mod routes;
mod statistics;
mod waiting;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use fbufs::{Fbuf, FbufMut, Pool};
use rustix::io::Errno;

pub use capabilities::{Capabilities, Mode};
pub use drivers::{Driver, Drivers, OpenError, Opening};
#[doc(hidden)]
pub use framed::{Filter, parse};
pub use framed::{Framed, FramedOptions, MAX_ADDRESSES, UdpChecksum, Verify};
pub use neighbours::Neighbours;
pub use routes::{Route, Routes, StaticRoutes};
pub use statistics::{Count, Statistics};
pub use waiting::Waiting;

/// What frames and datagrams have in common. A device belongs to one thread at a time.
pub trait Device: AsFd + Send {
    /// What it is and can do. The MTU may change ([`Device::maintain`]), the rest does not.
    fn capabilities(&self) -> Capabilities;

    /// What it counted since it was opened, the kernel's and the hardware's counts among it.
    ///
    /// # Cost
    /// A system call, perhaps.
    fn statistics(&mut self) -> Statistics;

    /// The registered buffers: what is sent is allocated here, what was received goes back here.
    fn pool(&mut self) -> &mut Pool;

    /// Asks that the descriptor ([`AsFd`]) become readable when something arrives, or when room to send
    /// comes back after a burst was not taken whole. `false` if something is there already: then receive,
    /// and do not wait. Holds until the next receive.
    ///
    /// # Errors
    /// [`DeviceError`].
    ///
    /// # Cost
    /// A system call or two, for each socket that it has.
    fn arm(&mut self) -> Result<bool, DeviceError>;

    /// What need not be done for every packet: takes note of a changed MTU, of an interface that went down,
    /// came up or away, of neighbours. To be called some ten times a second, and a few times in the
    /// milliseconds after a destination was opened, which it may serve better from then on.
    ///
    /// # Errors
    /// [`DeviceError`], as the next transmission would have it.
    ///
    /// # Cost
    /// A few system calls, no wait.
    fn maintain(&mut self) -> Result<(), DeviceError>;
}

/// A piece of a frame or datagram: all of it, or the first ones of several.
#[derive(Debug)]
pub struct Piece<B> {
    /// Its bytes.
    pub bytes: B,
    /// The frame goes on in the next piece. Only where [`Capabilities::pieces`] is more than one.
    pub more: bool,
}

impl<B> Piece<B> {
    /// All of a frame or datagram.
    #[inline(always)]
    pub fn whole(bytes: B) -> Self {
        Self { bytes, more: false }
    }
}

/// Until when a device may keep what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// It is sent, behind all that waits, before the call returns, as far as the device can.
    Now,
    /// It waits for the next one that does not, or for the next `transmit`, which may be one of nothing. It
    /// is counted as sent already, and a process that is killed meanwhile takes it along. A device may send
    /// it before that, such as when it finds nothing else to do. One that cannot hold it does not take it.
    Later,
}

/// A device that carries Ethernet frames, from the destination's address on, without the check sequence.
pub trait Frames: Device {
    /// The device's Ethernet address.
    fn mac(&self) -> [u8; 6];

    /// Hands frames over, first to last, as many as there is room for: what was not taken stays in
    /// `frames`. Takes back what was sent before. A frame that the device cannot carry (too long, too
    /// short, in too many pieces, of a foreign pool) is taken, dropped and counted.
    ///
    /// # Errors
    /// [`DeviceError`]; nothing is taken then.
    ///
    /// # Cost
    /// Some ten nanoseconds a frame; a system call a burst where the device must be told.
    fn transmit(&mut self, frames: &mut VecDeque<Piece<Fbuf>>) -> Result<(), DeviceError>;

    /// Appends what has arrived, at most [`Capabilities::burst`] frames, whole ones only.
    ///
    /// # Errors
    /// [`DeviceError`], when nothing is left to be received.
    ///
    /// # Cost
    /// Some ten nanoseconds a frame, and a look where nothing arrived.
    fn receive(&mut self, into: &mut Vec<Piece<FbufMut>>) -> Result<(), DeviceError>;

    /// Hands one frame in one piece over, where the device takes it at once: through no queue, for who sends
    /// one by one. When it is sent, `kick` says. A driver need not have this way.
    ///
    /// # Errors
    /// The frame, and nothing has happened: [`Frames::transmit`] takes it, or says what is wrong.
    ///
    /// # Cost
    /// As [`Frames::transmit`], less three moves of a buffer's handle through memory.
    fn transmit_one(&mut self, frame: Fbuf, kick: Kick) -> Result<(), Fbuf> {
        let _ = kick;
        Err(frame)
    }

    /// Takes the frame that arrived first, as [`Frames::receive`] does, where it is in one piece. A driver
    /// need not have this way, so `None` says nothing: [`Frames::receive`] is to be asked then, at once or
    /// after a few more looks by this way. What went wrong is kept for it.
    ///
    /// # Cost
    /// As [`Frames::receive`], less two moves of a buffer's handle through memory.
    fn receive_one(&mut self) -> Option<FbufMut> {
        None
    }
}

/// A destination that was resolved, by its place in the device's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination(pub u32);

/// A datagram, or a piece of one, to be sent.
#[derive(Debug)]
pub struct Outgoing {
    /// Where to.
    pub to: Destination,
    /// Its payload; [`Capabilities::headroom`] bytes before the first piece are for the device.
    pub piece: Piece<Fbuf>,
}

/// A datagram, or a piece of one, that arrived.
#[derive(Debug)]
pub struct Received {
    /// Who sent it, by the network's word.
    pub from: SocketAddr,
    /// Its payload.
    pub piece: Piece<FbufMut>,
}

/// A device that carries UDP datagrams from and to one local port.
pub trait Datagrams: Device {
    /// The local address: unspecified where it is any of the host's. The port is never zero.
    fn local(&self) -> SocketAddr;

    /// Makes a destination: finds the way there, once, and the headers, where the device writes them.
    /// The same address may be opened several times.
    ///
    /// # Errors
    /// [`DeviceError::Unreachable`] where there is no route; [`DeviceError::Unresolved`] where the
    /// neighbour has not answered yet: ask again.
    ///
    /// # Cost
    /// System calls; not for every packet.
    fn open(&mut self, to: SocketAddr) -> Result<Destination, DeviceError>;

    /// Forgets a destination.
    fn close(&mut self, destination: Destination);

    /// The most bytes of payload that fit into one datagram to a destination, now.
    fn max_payload(&self, destination: Destination) -> usize;

    /// As [`Frames::transmit`], for datagrams. To a destination whose neighbour is not known any more, a
    /// datagram is dropped and counted.
    ///
    /// # Errors
    /// As [`Frames::transmit`].
    ///
    /// # Cost
    /// As [`Frames::transmit`], and the headers.
    fn transmit(&mut self, datagrams: &mut VecDeque<Outgoing>) -> Result<(), DeviceError>;

    /// As [`Frames::receive`], for datagrams.
    ///
    /// # Errors
    /// As [`Frames::receive`].
    ///
    /// # Cost
    /// As [`Frames::receive`].
    fn receive(&mut self, into: &mut Vec<Received>) -> Result<(), DeviceError>;

    /// As [`Frames::transmit_one`], for datagrams.
    ///
    /// # Errors
    /// The payload, and nothing has happened.
    ///
    /// # Cost
    /// As [`Frames::transmit_one`], and the headers.
    fn transmit_one(&mut self, to: Destination, payload: Fbuf, kick: Kick) -> Result<(), Fbuf> {
        let _ = (to, kick);
        Err(payload)
    }

    /// As [`Frames::receive_one`], for datagrams, with who sent it.
    ///
    /// # Cost
    /// As [`Frames::receive_one`].
    fn receive_one(&mut self) -> Option<(SocketAddr, FbufMut)> {
        None
    }
}

/// Why a device does not carry anything, now or for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The interface is down, or has no carrier. It may come back.
    #[error("the interface is down or has no carrier: bring it up (ip link set IFACE up), or wait")]
    Down,
    /// The interface is gone, or the device was taken away. It does not come back.
    #[error("the interface is gone: open the device anew when it is there again")]
    Gone,
    /// No route leads there.
    #[error("no route leads there from this device")]
    Unreachable,
    /// The neighbour's Ethernet address is not known yet.
    #[error("the next hop has not told its Ethernet address yet: ask again")]
    Unresolved,
    /// As many destinations as there may be are open.
    #[error("no further destination can be opened on this device")]
    TooManyDestinations,
    /// The kernel refused.
    #[error("the kernel refused: {0}")]
    Kernel(Errno),
}

impl DeviceError {
    /// Whether the device can be used again later without being opened anew.
    pub fn is_passing(self) -> bool {
        !matches!(self, Self::Gone | Self::Kernel(_))
    }
}
