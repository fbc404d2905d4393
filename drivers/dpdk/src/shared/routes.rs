//! The ways over a port that is shared: one table of neighbours for all, and each is told when it has changed.

use std::net::{IpAddr, Ipv4Addr};

use unet::device::{DeviceError, Route, Routes};

use super::{Part, lock};

/// The ways that all who share a port have.
pub(crate) struct SharedRoutes {
    part: Part,
    local: [IpAddr; 1],
    mac: [u8; 6],
    /// Which changes it was told of.
    told: u64,
}

impl SharedRoutes {
    pub(super) fn new(part: Part, address: Ipv4Addr, mac: [u8; 6]) -> Self {
        Self { part, local: [address.into()], mac, told: 0 }
    }
}

impl Routes for SharedRoutes {
    fn resolve(&mut self, to: IpAddr) -> Result<Route, DeviceError> {
        if to == self.local[0] {
            return Ok(Route { source: to, mac: self.mac, mtu: usize::MAX });
        }
        lock(&self.part.get()).routes.resolve(to)
    }

    fn local(&self) -> &[IpAddr] {
        &self.local
    }

    fn maintain(&mut self) -> Result<bool, DeviceError> {
        let shared = self.part.get();
        let mut within = lock(&shared);
        within.changes += u64::from(within.routes.maintain()?);
        Ok(std::mem::replace(&mut self.told, within.changes) != within.changes)
    }

    fn hear(&mut self, frame: &[u8]) {
        lock(&self.part.get()).routes.hear(frame);
    }

    fn say(&mut self) -> Option<Vec<u8>> {
        lock(&self.part.get()).routes.say()
    }
}
