//! The destinations that a device of datagrams has open.

use std::net::SocketAddr;

use unet::device::{Destination, DeviceError};

/// The most that are open at a time.
const MAX: usize = 4096;

/// Destinations, by their places. A place that was closed is used again.
#[derive(Debug)]
pub(crate) struct Destinations<T> {
    open: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Destinations<T> {
    pub fn new() -> Self {
        Self { open: Vec::new(), free: Vec::new() }
    }

    pub fn open(&mut self, what: T) -> Result<Destination, DeviceError> {
        if let Some(place) = self.free.pop() {
            self.open[place as usize] = Some(what);
            return Ok(Destination(place));
        }
        if self.open.len() >= MAX {
            return Err(DeviceError::TooManyDestinations);
        }
        self.open.push(Some(what));
        Ok(Destination(self.open.len() as u32 - 1))
    }

    pub fn close(&mut self, destination: Destination) {
        let place = self.open.get_mut(destination.0 as usize);
        if place.and_then(Option::take).is_some() {
            self.free.push(destination.0);
        }
    }

    pub fn get(&self, destination: Destination) -> Option<&T> {
        self.open.get(destination.0 as usize)?.as_ref()
    }

    pub fn get_mut(&mut self, destination: Destination) -> Option<&mut T> {
        self.open.get_mut(destination.0 as usize)?.as_mut()
    }
}

/// Whether one address can send to another.
pub(crate) fn check(local: SocketAddr, to: SocketAddr) -> Result<(), DeviceError> {
    let reachable = local.is_ipv4() == to.is_ipv4() && to.port() != 0;
    if reachable { Ok(()) } else { Err(DeviceError::Unreachable) }
}
