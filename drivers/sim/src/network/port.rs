//! Where a device is joined to its network: what has arrived there, and what was dropped.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use unet::device::{Count, Statistics};

use crate::faults::Dice;
use crate::stock::Stock;
use crate::wake::Wake;

/// What a device is reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    Frames([u8; 6]),
    Datagrams(SocketAddr),
}

/// A packet in a device's queue.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub from: Name,
    pub bytes: Vec<u8>,
}

/// See the module.
pub(crate) struct Port {
    pub name: Name,
    pub generation: u32,
    pub up: bool,
    /// Taken away, and kept for what it counted.
    pub gone: bool,
    pub dice: Dice,
    /// How many of its packets are under way, and how many at most when another is taken.
    pub sending: usize,
    pub most: usize,
    /// What has arrived, and how many buffers of the stock are left for more.
    pub queue: VecDeque<Arrived>,
    pub room: usize,
    pub piece_bytes: usize,
    pub pieces: usize,
    /// What arrived and was dropped.
    pub dropped: Statistics,
    pub wake: Arc<Wake>,
    pub armed: bool,
    /// When the timer goes off, in real time.
    pub wakes_at: Duration,
    pub wants_to_send: bool,
}

impl Port {
    /// Takes a packet in, or counts why not and gives it back.
    pub fn accept(&mut self, arrived: Arrived) -> Result<(), Vec<u8>> {
        let needed = Stock::pieces_of(arrived.bytes.len(), self.piece_bytes);
        let refusal = match () {
            () if !self.is_meant(&arrived.bytes) => Some(Count::Foreign),
            () if needed > self.pieces => Some(Count::Truncated),
            () if self.queue.len() >= self.most => Some(Count::QueueFull),
            () if needed > self.room => Some(Count::NoBuffer),
            () => None,
        };
        if let Some(reason) = refusal {
            self.dropped.add(reason, 1);
            return Err(arrived.bytes);
        }
        self.room -= needed;
        self.queue.push_back(arrived);
        if self.armed {
            self.wake.after(Duration::ZERO);
        }
        Ok(())
    }

    /// Whether a frame is for this device or for several: a bit of its address may have turned over.
    fn is_meant(&self, bytes: &[u8]) -> bool {
        let Name::Frames(mac) = self.name else { return true };
        bytes.first().is_some_and(|first| first & 1 == 1) || bytes.get(..6) == Some(&mac[..])
    }

    /// Whether another of its packets is taken: two of it may be under way.
    pub fn has_room(&self) -> bool {
        self.sending < self.most
    }

    /// Ends the wait for the descriptor.
    pub fn disarm(&mut self) {
        if std::mem::take(&mut self.armed) {
            self.wake.off();
        }
    }

    /// Takes note of how many buffers stand ready.
    pub fn set_stock(&mut self, ready: usize) {
        let pieces = |arrived: &Arrived| Stock::pieces_of(arrived.bytes.len(), self.piece_bytes);
        let spoken_for: usize = self.queue.iter().map(pieces).sum();
        self.room = ready.saturating_sub(spoken_for);
    }
}
