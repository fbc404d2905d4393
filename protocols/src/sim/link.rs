//! A link, and what goes wrong on it.

use std::cmp::Ordering;
use std::time::Duration;

use crate::layers::joining;
use crate::random::Random;
use crate::{Instant, Message, NodeId, Pool};

/// What a link does to frames. By default nothing, but that they take 10 µs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Faults {
    /// The probability that a frame is lost.
    pub loss: f64,
    /// The probability that a burst of losses begins; it lasts four frames on average.
    pub burst: f64,
    /// The probability that a frame arrives twice.
    pub duplicate: f64,
    /// The probability that a bit of a frame is wrong.
    pub corrupt: f64,
    /// How long a frame takes.
    pub delay: Duration,
    /// How much longer it may take: thereby frames overtake each other.
    pub jitter: Duration,
    /// The longest frame; longer ones are lost.
    pub mtu: usize,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            loss: 0.0,
            burst: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            delay: Duration::from_micros(10),
            jitter: Duration::ZERO,
            mtu: 1500,
        }
    }
}

pub(super) struct Link {
    /// By end: the number of the host, and its device.
    pub ends: [(usize, NodeId); 2],
    pub faults: Faults,
    pub random: Random,
    /// By sending end: whether it is in a burst of losses.
    pub bursts: [bool; 2],
}

impl Link {
    /// When the frame, and its copy, arrive, if they do.
    pub fn carry(
        &mut self,
        now: Instant,
        end: usize,
        mut frame: Message,
        pool: &mut Pool,
    ) -> [Option<(Instant, Message)>; 2] {
        let faults = self.faults;
        let burst = &mut self.bursts[end];
        if self.random.happens(if *burst { 0.25 } else { faults.burst }) {
            *burst = !*burst;
        }
        let lost = self.random.happens(faults.loss) || *burst || frame.len() > faults.mtu;
        if self.random.happens(faults.corrupt) {
            match self.corrupt(frame, pool) {
                Some(wrong) => frame = wrong,
                None => return [None, None],
            }
        }
        let twice = self.random.happens(faults.duplicate);
        let (first, second) = (self.arrival(now), self.arrival(now));
        if lost {
            return [None, None];
        }
        let copy = twice.then(|| (second, frame.clone()));
        [Some((first, frame)), copy]
    }

    fn arrival(&mut self, now: Instant) -> Instant {
        let jitter = u64::try_from(self.faults.jitter.as_nanos()).unwrap_or(u64::MAX);
        now + self.faults.delay + Duration::from_nanos(self.random.below(jitter))
    }

    /// The frame with a bit turned over, in a byte that takes the original one's place. Without a
    /// buffer for that, or with too many parts, it is lost.
    fn corrupt(&mut self, mut frame: Message, pool: &mut Pool) -> Option<Message> {
        let at = self.random.below(frame.len() as u64) as usize;
        let bit = self.random.below(8);
        if frame.is_empty() {
            return Some(frame);
        }
        let mut wrong = frame.split_to(at)?;
        let mut byte = [0];
        frame.pop(&mut byte).ok()?;
        let mut buffer = pool.alloc(1).ok()?;
        buffer[0] = byte[0] ^ (1 << bit);
        joining::append(&mut wrong, buffer.into()).ok()?;
        joining::append(&mut wrong, frame).ok()?;
        Some(wrong)
    }
}

/// A frame on its way.
pub(super) struct Event {
    pub due: Instant,
    pub order: u64,
    pub link: usize,
    /// The end at which it arrives.
    pub end: usize,
    pub frame: Message,
}

/// The first due is the greatest, as the heap wants it.
impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.order).cmp(&(self.due, self.order))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}

impl Eq for Event {}
