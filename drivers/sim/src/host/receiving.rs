//! What has come from other processes and is not due yet, or was not asked for.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{RecvFlags, SocketAddrUnix, recvfrom};
use unet::device::{Count, Statistics};

use super::{name, wire};
use crate::DeviceOptions;
use crate::faults::LONGEST;

/// The most datagrams that one look takes in: what is sent meanwhile waits for the next.
const LOOK: usize = 1024;

struct Waiting {
    due: Duration,
    order: u64,
    from: SocketAddr,
    bytes: Vec<u8>,
}

/// See the module.
pub(super) struct Receiving {
    network: String,
    waiting: BinaryHeap<Reverse<Waiting>>,
    order: u64,
    most: usize,
    longest: usize,
    spare: Vec<Vec<u8>>,
    scratch: Vec<u8>,
}

impl Receiving {
    pub fn new(network: &str, options: DeviceOptions) -> Self {
        // Not more than the buffers that a packet may take hold; a byte more than that is too long.
        let longest = options.buffer_bytes as usize * options.pieces;
        Self {
            network: network.to_owned(),
            waiting: BinaryHeap::new(),
            order: 0,
            most: options.queue,
            longest,
            spare: Vec::new(),
            scratch: vec![0; wire::HEADER + longest + 1],
        }
    }

    /// Takes in what the kernel has, and counts what is dropped.
    pub fn take_in(&mut self, socket: &OwnedFd, said: &mut Statistics) {
        for _ in 0..LOOK {
            let flags = RecvFlags::DONTWAIT;
            let Ok((len, _, from)) = recvfrom(socket, &mut self.scratch[..], flags) else { return };
            let from = from.and_then(|from| SocketAddrUnix::try_from(from).ok());
            let from = from.and_then(|from| name::address(&self.network, &from));
            if let Err(reason) = self.admit(len, from) {
                said.add(reason, 1);
            }
        }
    }

    fn admit(&mut self, len: usize, from: Option<SocketAddr>) -> Result<(), Count> {
        let from = from.ok_or(Count::Foreign)?;
        let bytes = self.scratch.get(..len).ok_or(Count::BadHeader)?;
        let due = wire::due(bytes).ok_or(Count::BadHeader)?;
        if bytes.len() > wire::HEADER + self.longest {
            return Err(Count::Truncated);
        }
        // A delay, a jitter and a lateness of the longest each.
        if due > wire::now().saturating_add(LONGEST * 3) {
            return Err(Count::BadHeader);
        }
        if self.waiting.len() >= self.most {
            return Err(Count::QueueFull);
        }
        let mut own = self.spare.pop().unwrap_or_default();
        own.extend_from_slice(&bytes[wire::HEADER..]);
        self.waiting.push(Reverse(Waiting { due, order: self.order, from, bytes: own }));
        self.order += 1;
        Ok(())
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.waiting.peek().map(|Reverse(waiting)| waiting.due)
    }

    /// The next one that is due.
    pub fn pop(&mut self, now: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        self.next_due().filter(|due| *due <= now)?;
        self.waiting.pop().map(|Reverse(waiting)| (waiting.from, waiting.bytes))
    }

    /// Keeps the memory for another packet.
    pub fn give_back(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < self.most {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.order).cmp(&(other.due, other.order))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}
