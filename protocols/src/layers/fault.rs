//! `fault`: what can go wrong, on purpose.

mod plan;

use std::collections::BinaryHeap;
use std::mem;
use std::time::Duration;

use plan::{Chances, Held, Loss};

use super::joining;
use crate::description::OptionError;
use crate::random::Random;
use crate::{
    Context, Message, Opened, Options, Participants, Protocol, Reason, Refusal, Slot, Slots,
    Verdict,
};

/// Loses, repeats, delays, reorders and corrupts messages, as its seed says: the same seed does the
/// same to the same messages.
///
/// It may stand anywhere in a graph. It has no header.
///
/// | option | what |
/// |---|---|
/// | `seed` | the seed (0) |
/// | `way` | `up`, `down` or `both` (both): which messages |
/// | `loss` | the probability that one is lost (0) |
/// | `burst` | the probability that losses begin to come in a burst (0) |
/// | `recover` | the probability, at each message, that a burst is over (0.25) |
/// | `burst-loss` | the probability that one is lost in a burst (1) |
/// | `duplicate` | the probability that one comes twice (0) |
/// | `corrupt` | the probability that a bit of one is wrong (0) |
/// | `delay` | how long each takes (0ns) |
/// | `jitter` | how much longer it may take, evenly (0ns); thereby they overtake each other |
/// | `reorder` | the probability that one takes `late` longer (0) |
/// | `late` | how much longer that is (1ms) |
/// | `held` | how many may be under way (1024); more are dropped |
///
/// Losses and bursts are those of Gilbert, *Capacity of a Burst-Noise Channel* (1960), and Elliott
/// (1963). A corrupted message shares all but one byte with the original, which stays as it is;
/// one that would have too many parts thereby is dropped.
#[derive(Debug)]
pub struct Fault {
    random: Random,
    chances: Chances,
    /// The state of each direction.
    bursts: [bool; 2],
    held: BinaryHeap<Held>,
    next: u64,
    sessions: Slots<()>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    duplicated: u64,
    corrupted: u64,
    delayed: u64,
}

impl Fault {
    /// From a description.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        let (chances, seed) = Chances::from_options(options)?;
        Ok(Self {
            random: Random::new(seed),
            chances,
            bursts: [false; 2],
            held: BinaryHeap::new(),
            next: 0,
            sessions: Slots::new(1 << 16),
            counts: Counts::default(),
        })
    }

    fn pass(
        &mut self,
        slot: Slot,
        down: bool,
        message: &mut Message,
        context: &mut Context,
    ) -> Verdict {
        let chances = self.chances;
        if !chances.way(down) {
            return Verdict::Pass;
        }
        let Loss { begin, end, good, bad } = chances.loss;
        let burst = &mut self.bursts[usize::from(down)];
        let change = if *burst { end } else { begin };
        if self.random.happens(change) {
            *burst = !*burst;
        }
        if self.random.happens(if *burst { bad } else { good }) {
            return Verdict::Drop(Reason::Injected);
        }
        if self.random.happens(chances.corrupt)
            && let Err(reason) = self.corrupt(message, context)
        {
            return Verdict::Drop(reason);
        }
        let twice = self.random.happens(chances.duplicate).then(|| message.clone());
        let (first, second) = (self.lateness(), self.lateness());
        if let Some(twin) = twice {
            self.counts.duplicated += 1;
            if first.is_zero() && second.is_zero() && self.none_due(context) {
                context.emit_down_or_up(slot, down, twin);
            } else {
                self.hold(slot, down, second, twin, context);
            }
        }
        if first.is_zero() && self.none_due(context) {
            return Verdict::Pass;
        }
        self.hold(slot, down, first, mem::take(message), context);
        Verdict::Taken
    }

    /// Whether a message that takes no time overtakes only those that take longer.
    fn none_due(&self, context: &Context) -> bool {
        self.held.peek().is_none_or(|first| first.due > context.now())
    }

    /// How long the next message takes.
    fn lateness(&mut self) -> Duration {
        let jitter = u64::try_from(self.chances.jitter.as_nanos()).unwrap_or(u64::MAX);
        let jitter = Duration::from_nanos(self.random.below(jitter));
        let late = self.random.happens(self.chances.reorder);
        self.chances.delay + jitter + if late { self.chances.late } else { Duration::ZERO }
    }

    fn hold(
        &mut self,
        slot: Slot,
        down: bool,
        lateness: Duration,
        message: Message,
        context: &mut Context,
    ) {
        if self.held.len() >= self.chances.held {
            return context.count(Reason::QueueFull);
        }
        let due = context.now() + lateness;
        let (order, attributes) = (self.next, context.attributes);
        self.next += 1;
        self.counts.delayed += 1;
        self.held.push(Held { due, order, slot, down, message, attributes });
        context.wake_at(due);
    }

    /// Turns a bit over, in a byte that takes the place of the original one.
    fn corrupt(&mut self, message: &mut Message, context: &mut Context) -> Result<(), Reason> {
        if message.is_empty() {
            return Ok(());
        }
        let at = self.random.below(message.len() as u64) as usize;
        let bit = self.random.below(8);
        let mut rest = mem::take(message);
        let mut front = rest.split_to(at).ok_or(Reason::Unreadable)?;
        let mut byte = [0];
        rest.pop(&mut byte).map_err(|_| Reason::Unreadable)?;
        byte[0] ^= 1 << bit;
        let mut wrong = context.pool().alloc(1).map_err(|_| Reason::NoBuffer)?;
        wrong.copy_from_slice(&byte);
        joining::append(&mut front, wrong.into())?;
        joining::append(&mut front, rest)?;
        *message = front;
        self.counts.corrupted += 1;
        Ok(())
    }

    /// Emits what is due, or all there is of a session.
    fn emit(&mut self, held: Held, context: &mut Context) {
        context.attributes = held.attributes;
        context.emit_down_or_up(held.slot, held.down, held.message);
    }
}

impl Protocol for Fault {
    fn open(&mut self, _who: &mut Participants, _context: &mut Context) -> Result<Opened, Refusal> {
        let slot = self.sessions.insert(()).map_err(|()| Refusal::Limit)?;
        Ok(Opened { slot, lower: 0 })
    }

    fn push(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        self.pass(slot, true, message, context)
    }

    fn pop(&mut self, slot: Slot, message: &mut Message, context: &mut Context) -> Verdict {
        self.pass(slot, false, message, context)
    }

    fn wake(&mut self, context: &mut Context) {
        while let Some(first) = self.held.peek() {
            if first.due > context.now() {
                context.wake_at(first.due);
                return;
            }
            if let Some(held) = self.held.pop() {
                self.emit(held, context);
            }
        }
    }

    fn drain(&mut self, slot: Slot, context: &mut Context) {
        let held = mem::take(&mut self.held).into_sorted_vec();
        // Sorted from the greatest, which is the first due, to the smallest: see `Held`.
        for held in held.into_iter().rev() {
            if held.slot == slot { self.emit(held, context) } else { self.held.push(held) }
        }
        if let Some(first) = self.held.peek() {
            context.wake_at(first.due);
        }
    }

    fn close(&mut self, slot: Slot, context: &mut Context) {
        self.sessions.remove(slot);
        self.held.retain(|held| {
            let keep = held.slot != slot;
            if !keep {
                context.count(Reason::Closed);
            }
            keep
        });
    }

    fn statistics(&self, tell: &mut dyn FnMut(&'static str, u64)) {
        tell("duplicated", self.counts.duplicated);
        tell("corrupted", self.counts.corrupted);
        tell("delayed", self.counts.delayed);
        tell("held", self.held.len() as u64);
    }
}

/// The first due is the greatest, as the heap wants it; of those due together, the one held first.
impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.order).cmp(&(self.due, self.order))
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.order) == (other.due, other.order)
    }
}

impl Eq for Held {}
