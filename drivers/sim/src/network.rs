//! A network within a process: who is joined, what is under way, and what time it is.

mod port;
mod state;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use unet::device::OpenError;

pub(crate) use port::{Arrived, Name, Port};
pub(crate) use state::State;

use crate::{Account, Datagrams, DeviceOptions, Faults, Frames};

/// A simulated network, to which any number of devices is joined. A handle: cheap to clone.
///
/// What happens is a function of the seed, the faults and the calls, where time is virtual: it passes
/// when [`Network::advance`] says so. Frames go by their Ethernet address, as through a switch that knows
/// everybody; datagrams by address and port. The two do not meet.
///
/// ```
/// use driver_sim::{DeviceOptions, Faults, Network};
/// use std::time::Duration;
/// use unet::device::{Datagrams, Outgoing, Piece};
///
/// let faults = Faults { delay: Duration::from_micros(10), ..Faults::default() };
/// let network = Network::new(7, faults);
/// let mut a = network.datagrams("10.0.0.1:9000".parse()?, DeviceOptions::default())?;
/// let mut b = network.datagrams("10.0.0.2:9000".parse()?, DeviceOptions::default())?;
/// let to = a.open(b.local())?;
/// let mut hello = unet::device::Device::pool(&mut a).alloc(5)?;
/// hello.copy_from_slice(b"hello");
/// let piece = Piece::whole(hello.freeze());
/// a.transmit(&mut [Outgoing { to, piece }].into())?;
/// network.advance(Duration::from_micros(10));
/// let mut received = Vec::new();
/// b.receive(&mut received)?;
/// assert_eq!(&received[0].piece.bytes[..], b"hello");
/// assert_eq!(network.account().carried, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

/// Which of a network's devices: its place, by which its link is taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortId {
    pub(crate) place: u32,
    pub(crate) generation: u32,
}

impl Network {
    /// A network whose time is virtual. Everything by chance comes from `seed`.
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(State::new(seed, faults, false))))
    }

    /// A network that runs by the clock.
    pub fn in_real_time(seed: u64, faults: Faults) -> Self {
        Self(Arc::new(Mutex::new(State::new(seed, faults, true))))
    }

    /// Joins a device of frames.
    ///
    /// # Errors
    /// [`OpenError::AddressInUse`] if another one has the Ethernet address; [`OpenError::BadValue`].
    pub fn frames(&self, mac: [u8; 6], options: DeviceOptions) -> Result<Frames, OpenError> {
        Frames::join(self, mac, options)
    }

    /// Joins a device of datagrams. The address need not exist outside; port 0 is any that is free.
    ///
    /// # Errors
    /// [`OpenError::AddressInUse`] if another one has the address; [`OpenError::BadValue`].
    pub fn datagrams(
        &self,
        local: SocketAddr,
        options: DeviceOptions,
    ) -> Result<Datagrams, OpenError> {
        Datagrams::join(self, local, options)
    }

    /// Lets virtual time pass, and what is due arrive. No effect in real time but the latter.
    pub fn advance(&self, by: Duration) {
        self.state().advance(by);
    }

    /// What time it is: how long the network has been there.
    pub fn now(&self) -> Duration {
        self.state().now()
    }

    /// When the next packet arrives, if any is under way.
    pub fn next_arrival(&self) -> Option<Duration> {
        self.state().next_arrival()
    }

    /// What the network did so far.
    pub fn account(&self) -> Account {
        self.state().account
    }

    /// How many packets are under way, and how many wait in devices to be received.
    pub fn under_way(&self) -> (usize, usize) {
        self.state().under_way()
    }

    /// Changes what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// Changes the most bytes that packets may have, as devices count them. Devices learn it when they are
    /// maintained; longer packets are lost until then.
    pub fn set_mtu(&self, mtu: usize) {
        self.state().mtu = mtu;
    }

    /// Takes the link of a device down, or up again. `false` if there is no such device.
    pub fn set_link(&self, port: PortId, up: bool) -> bool {
        self.state().set_link(port, up)
    }

    /// Takes a device away for ever, as if its interface were unplugged. `false` if there is no such.
    pub fn unplug(&self, port: PortId) -> bool {
        self.state().unplug(port)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked did so in a call of ours that changed nothing half.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        write!(f, "Network {{ seed: {}, now: {:?}, {:?} }}", state.seed, state.now(), state.account)
    }
}
