//! The way between both: it loses, in bursts too, doubles, delays, reorders, and is cut for a while.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rpc_fastpath::protocol::Fragment;

use super::random::Random;

pub const MICROSECOND: u64 = 1_000;
pub const MILLISECOND: u64 = 1_000_000;
/// The longest that anything is under way: longer than every timer.
pub const LONGEST: u64 = 400 * MILLISECOND;

/// The most bytes of fragments that are joined.
const JOINED: usize = 300;

/// Bytes `from..to` of the message of a call; what the payload's handle stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub call: usize,
    pub from: usize,
    pub to: usize,
}

/// What is joined is in a row, and only so much of it.
impl Fragment for Piece {
    fn join(&mut self, next: Self) -> Option<Self> {
        assert_eq!((self.call, self.to), (next.call, next.from), "not in a row");
        if next.to - self.from > JOINED {
            return Some(next);
        }
        self.to = next.to;
        None
    }
}

/// A packet: its head, and how much payload follows.
#[derive(Clone, Debug)]
pub struct Packet {
    pub head: [u8; 48],
    pub head_len: usize,
    pub piece: Piece,
}

/// How bad it is, of a thousand packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub lost: u64,
    /// Begins a burst of loss.
    pub burst: u64,
    pub doubled: u64,
    /// Takes up to the longest time.
    pub late: u64,
    /// What else it may take longer than the shortest time.
    pub jitter: u64,
}

impl Faults {
    pub fn drawn(random: &mut Random) -> Self {
        let mut some = |of_a_thousand, most| {
            if random.happens(of_a_thousand) { random.within(1..most) } else { 0 }
        };
        Self {
            lost: some(600, 250),
            burst: some(300, 40),
            doubled: some(500, 150),
            late: some(400, 60),
            jitter: some(700, 2_000 * MICROSECOND),
        }
    }
}

/// What is under way, by when it arrives.
pub struct Network<T> {
    pub faults: Faults,
    pub is_cut: bool,
    burst: u64,
    queue: BinaryHeap<Reverse<(u64, u64, usize)>>,
    items: Vec<Option<T>>,
    count: u64,
}

impl<T: Clone> Network<T> {
    pub fn new(faults: Faults) -> Self {
        Self {
            faults,
            is_cut: false,
            burst: 0,
            queue: BinaryHeap::new(),
            items: Vec::new(),
            count: 0,
        }
    }

    /// For what is no packet: arrives just then.
    pub fn at(&mut self, time: u64, item: T) {
        self.count += 1;
        self.items.push(Some(item));
        self.queue.push(Reverse((time, self.count, self.items.len() - 1)));
    }

    pub fn send(&mut self, now: u64, random: &mut Random, packet: T) {
        let faults = self.faults;
        if random.happens(faults.burst) {
            self.burst = random.within(2..10);
        }
        self.burst = self.burst.saturating_sub(1);
        if self.is_cut || self.burst > 0 || random.happens(faults.lost) {
            return;
        }
        let copies = if random.happens(faults.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let late = if random.happens(faults.late) { random.within(0..LONGEST) } else { 0 };
            let delay = 20 * MICROSECOND + random.within(0..faults.jitter + 1) + late;
            self.at(now + delay, packet.clone());
        }
    }

    pub fn next_time(&self) -> u64 {
        self.queue.peek().map_or(u64::MAX, |Reverse((time, ..))| *time)
    }

    pub fn next(&mut self) -> Option<(u64, T)> {
        let Reverse((time, _, index)) = self.queue.pop()?;
        Some((time, self.items[index].take()?))
    }
}
