//! The way to a destination: which next hop, from which source, how large.

use std::collections::HashMap;
use std::net::IpAddr;

use super::DeviceError;

/// The way to a destination over a device that carries frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The address to send from.
    pub source: IpAddr,
    /// The next hop's Ethernet address.
    pub mac: [u8; 6],
    /// The most bytes of an IP packet that get there, as far as is known.
    pub mtu: usize,
}

/// Finds the way to destinations: the kernel's tables, or a table of one's own.
pub trait Routes: Send {
    /// The way to a destination, now.
    ///
    /// # Errors
    /// [`DeviceError::Unreachable`]; [`DeviceError::Unresolved`] while the next hop is being asked.
    ///
    /// # Cost
    /// System calls, perhaps; no wait.
    fn resolve(&mut self, to: IpAddr) -> Result<Route, DeviceError>;

    /// The local addresses that packets may come in for.
    fn local(&self) -> &[IpAddr];

    /// Takes note of what changed. Whether routes that were resolved before should be resolved anew.
    ///
    /// # Errors
    /// [`DeviceError`], where the interface is down or gone.
    fn maintain(&mut self) -> Result<bool, DeviceError>;

    /// Looks at a frame that is for nobody here, its first piece: where no kernel stands behind the device, that is
    /// how neighbours answer, and ask; and pings.
    fn hear(&mut self, frame: &[u8]) {
        let _ = frame;
    }

    /// A frame that is to be sent, to find a neighbour or to answer it. To be asked after each of the above.
    fn say(&mut self) -> Option<Vec<u8>> {
        None
    }
}

/// A table of one's own.
#[derive(Clone, Debug, Default)]
pub struct StaticRoutes {
    /// The local addresses.
    pub local: Vec<IpAddr>,
    /// By destination.
    pub routes: HashMap<IpAddr, Route>,
}

impl Routes for StaticRoutes {
    fn resolve(&mut self, to: IpAddr) -> Result<Route, DeviceError> {
        self.routes.get(&to).copied().ok_or(DeviceError::Unreachable)
    }

    fn local(&self) -> &[IpAddr] {
        &self.local
    }

    fn maintain(&mut self) -> Result<bool, DeviceError> {
        Ok(false)
    }
}
