//! The destinations that are open.

use std::net::SocketAddr;

use unet::device::{Destination, DeviceError};

use crate::name::Name;

/// The most that can be open: places and generations share the 32 bits of a [`Destination`].
const PLACE_BITS: u32 = 16;
const PLACES: u32 = 1 << PLACE_BITS;

/// A destination.
#[derive(Debug)]
pub(crate) struct Entry {
    pub name: Name,
    pub address: SocketAddr,
    /// The most payload that gets there, as far as is known.
    pub max_payload: usize,
    /// It has a socket of its own.
    pub favoured: bool,
    /// Closed ones are kept, to be used again under another generation.
    open: bool,
    generation: u16,
}

/// The table of them.
#[derive(Debug, Default)]
pub(crate) struct Destinations {
    entries: Vec<Entry>,
    closed: Vec<u32>,
}

impl Destinations {
    pub fn open(
        &mut self,
        address: SocketAddr,
        max_payload: usize,
    ) -> Result<Destination, DeviceError> {
        let name = Name::of(address);
        let entry = |generation| Entry {
            name,
            address,
            max_payload,
            favoured: false,
            open: true,
            generation,
        };
        if let Some(place) = self.closed.pop() {
            let old = &mut self.entries[place as usize];
            *old = entry(old.generation.wrapping_add(1));
            return Ok(Destination(place | u32::from(old.generation) << PLACE_BITS));
        }
        let place = self.entries.len() as u32;
        if place == PLACES {
            return Err(DeviceError::TooManyDestinations);
        }
        self.entries.push(entry(0));
        Ok(Destination(place))
    }

    pub fn close(&mut self, destination: Destination) {
        if let Some(entry) = self.get_mut(destination) {
            entry.open = false;
            self.closed.push(destination.0 % PLACES);
        }
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.entries.len() - self.closed.len()
    }

    pub fn is_only(&self, destination: Destination) -> bool {
        self.count() == 1 && self.get(destination).is_some()
    }

    /// The only one that is open.
    pub fn only(&self) -> Option<Destination> {
        if self.count() != 1 {
            return None;
        }
        let place = self.entries.iter().position(|entry| entry.open)?;
        Some(Destination(place as u32 | u32::from(self.entries[place].generation) << PLACE_BITS))
    }

    /// `None` if it was closed, or never opened.
    #[inline(always)]
    pub fn get(&self, destination: Destination) -> Option<&Entry> {
        let entry = self.entries.get((destination.0 % PLACES) as usize)?;
        let same = entry.open && u32::from(entry.generation) == destination.0 >> PLACE_BITS;
        same.then_some(entry)
    }

    pub fn get_mut(&mut self, destination: Destination) -> Option<&mut Entry> {
        let entry = self.entries.get_mut((destination.0 % PLACES) as usize)?;
        let same = entry.open && u32::from(entry.generation) == destination.0 >> PLACE_BITS;
        same.then_some(entry)
    }

    /// The next one that is open, from a place on and round, and the place behind it. Looks at a few.
    pub fn next(&mut self, place: usize) -> (usize, Option<&mut Entry>) {
        const LOOKS: usize = 64;
        let count = self.entries.len();
        let places = (0..count.min(LOOKS)).map(|step| (place + step) % count);
        match places.into_iter().find(|place| self.entries[*place].open) {
            Some(found) => ((found + 1) % count, Some(&mut self.entries[found])),
            None => ((place + LOOKS) % count.max(1), None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_destination_is_not_the_next_one_at_its_place() {
        let mut table = Destinations::default();
        let address: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let first = table.open(address, 1).unwrap();
        table.close(first);
        table.close(first);
        assert_eq!(table.count(), 0);
        let second = table.open(address, 2).unwrap();
        assert!(table.get(first).is_none());
        assert_eq!(table.get(second).unwrap().max_payload, 2);
        assert_ne!(table.open(address, 3).unwrap(), second);
        assert!(table.get(Destination(u32::MAX)).is_none());
    }

    #[test]
    fn no_more_destinations_than_have_a_place() {
        let mut table = Destinations::default();
        let address: SocketAddr = "127.0.0.1:9".parse().unwrap();
        (0..PLACES).for_each(|_| _ = table.open(address, 1).unwrap());
        assert_eq!(table.open(address, 1), Err(DeviceError::TooManyDestinations));
    }

    #[test]
    fn each_open_destination_comes_round() {
        let mut table = Destinations::default();
        assert!(table.next(0).1.is_none());
        let ports: Vec<SocketAddr> =
            (1..=3).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let opened: Vec<_> = ports.iter().map(|to| table.open(*to, 1).unwrap()).collect();
        table.close(opened[1]);
        let (place, first) = table.next(0);
        assert_eq!(first.map(|entry| entry.address), Some(ports[0]));
        let (place, second) = table.next(place);
        assert_eq!(second.map(|entry| entry.address), Some(ports[2]));
        assert_eq!(place, 0);
    }
}
