//! Where datagrams go: destinations with their headers, looked at again in turn.

use std::net::SocketAddr;

use super::template::Template;
use crate::device::{Destination, DeviceError};

/// The way to a destination, as it was found last.
#[derive(Debug)]
pub struct Way {
    /// The headers.
    pub template: Template,
    /// The most bytes of an IP packet.
    pub mtu: usize,
}

/// A destination that is open.
#[derive(Debug)]
pub struct Entry {
    /// Where it is.
    pub to: SocketAddr,
    /// How one gets there; `None` while nobody knows.
    pub way: Option<Way>,
    /// The most bytes of an IP packet that it had last.
    pub mtu: usize,
}

/// The destinations that are open, as many as there may be.
#[derive(Debug, Default)]
pub struct Table {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    most: usize,
    /// The place that was looked at last.
    turn: usize,
}

impl Table {
    /// An empty table for `most` destinations.
    pub fn new(most: usize) -> Self {
        Self { most: most.min(u32::MAX as usize), ..Self::default() }
    }

    /// Whether no further one can be added.
    pub fn is_full(&self) -> bool {
        self.free.is_empty() && self.entries.len() >= self.most
    }

    /// Adds a destination.
    pub fn add(&mut self, entry: Entry) -> Result<Destination, DeviceError> {
        if self.is_full() {
            return Err(DeviceError::TooManyDestinations);
        }
        let place = match self.free.pop() {
            Some(place) => {
                self.entries[place as usize] = Some(entry);
                place
            }
            None => {
                self.entries.push(Some(entry));
                (self.entries.len() - 1) as u32
            }
        };
        Ok(Destination(place))
    }

    /// Forgets a destination.
    pub fn remove(&mut self, destination: Destination) {
        let place = self.entries.get_mut(destination.0 as usize);
        if place.and_then(Option::take).is_some() {
            self.free.push(destination.0);
        }
    }

    #[inline(always)]
    pub fn get(&self, destination: Destination) -> Option<&Entry> {
        self.entries.get(destination.0 as usize)?.as_ref()
    }

    #[inline(always)]
    pub fn get_mut(&mut self, destination: Destination) -> Option<&mut Entry> {
        self.entries.get_mut(destination.0 as usize)?.as_mut()
    }

    /// How many places there are, taken or free.
    pub fn places(&self) -> usize {
        self.entries.len()
    }

    /// Turns to the next place; the entry there, if it is taken.
    pub fn next(&mut self) -> Option<&mut Entry> {
        self.turn = if self.turn + 1 < self.entries.len() { self.turn + 1 } else { 0 };
        self.current()
    }

    /// The entry whose turn it is.
    pub fn current(&mut self) -> Option<&mut Entry> {
        self.entries.get_mut(self.turn)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(port: u16) -> Entry {
        Entry { to: SocketAddr::from(([192, 0, 2, 1], port)), way: None, mtu: 1500 }
    }

    #[test]
    fn as_many_as_there_may_be_are_added_and_a_closed_one_makes_room() {
        let mut table = Table::new(2);
        let first = table.add(entry(1)).expect("there is room");
        table.add(entry(2)).expect("there is room");
        assert_eq!(table.add(entry(3)), Err(DeviceError::TooManyDestinations));
        table.remove(first);
        table.remove(first);
        assert!(table.get(first).is_none());
        assert_eq!(table.add(entry(3)), Ok(first));
        assert!(table.is_full());
    }

    #[test]
    fn places_that_never_were_are_not_removed() {
        let mut table = Table::new(2);
        table.remove(Destination(u32::MAX));
        assert!(table.next().is_none());
        assert_eq!(table.add(entry(1)), Ok(Destination(0)));
    }

    #[test]
    fn every_entry_has_its_turn() {
        let mut table = Table::new(3);
        for port in 1..=3 {
            table.add(entry(port)).expect("there is room");
        }
        table.remove(Destination(1));
        let mut seen: Vec<u16> =
            (0..3).filter_map(|_| table.next().map(|entry| entry.to.port())).collect();
        seen.sort();
        assert_eq!(seen, [1, 3]);
    }
}
