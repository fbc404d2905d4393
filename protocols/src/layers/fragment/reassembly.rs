//! Messages of which pieces are missing.

use std::collections::BTreeMap;
use std::time::Duration;

use fbufs::MAX_PARTS;

use super::Header;
use crate::layers::joining;
use crate::{Context, Instant, Message, Reason, Slot};

/// What a piece counts beside its bytes, so that many small ones cannot hold much.
const PIECE: usize = 512;

/// What became of a piece.
pub(super) enum Outcome {
    Waits,
    Complete(Message),
    Refused(Reason),
}

#[derive(Debug)]
struct Partial {
    total: u32,
    received: u32,
    /// Of all pieces.
    parts: usize,
    pieces: BTreeMap<u32, Message>,
    /// Older ones have smaller numbers.
    age: u64,
    deadline: Instant,
}

impl Partial {
    fn held(&self) -> usize {
        self.received as usize + self.pieces.len() * PIECE
    }

    /// Whether a piece is new, there already, or contradicts.
    fn check(&self, header: Header, len: u32, parts: usize) -> Result<(), Reason> {
        if header.total != self.total {
            return Err(Reason::Overlap);
        }
        // The header was checked: this does not overflow.
        let end = header.offset + len;
        if let Some((_, next)) = self.pieces.get_key_value(&header.offset) {
            let same = next.len() == len as usize;
            return Err(if same { Reason::Duplicate } else { Reason::Overlap });
        }
        let before = self.pieces.range(..header.offset).next_back();
        let runs_into =
            before.is_some_and(|(offset, piece)| *offset + piece.len() as u32 > header.offset);
        let covers = self.pieces.range(header.offset..end).next().is_some();
        if runs_into || covers {
            return Err(Reason::Overlap);
        }
        if self.parts + parts > MAX_PARTS { Err(Reason::TooLarge) } else { Ok(()) }
    }
}

/// What may wait.
#[derive(Debug)]
pub(super) struct Limits {
    /// Bytes, with [`PIECE`] more for each piece.
    pub memory: usize,
    pub messages: usize,
    /// Parts of all pieces.
    pub parts: usize,
    /// How long one message waits.
    pub timeout: Duration,
}

/// Everything that waits, bounded in bytes, pieces, messages and time.
#[derive(Debug)]
pub(super) struct Reassembly {
    limits: Limits,
    /// In the order of their keys, so that nothing depends on chance.
    partials: BTreeMap<(Slot, u32), Partial>,
    next_age: u64,
    pub(super) held: usize,
    pub(super) parts: usize,
    pub(super) completed: u64,
}

impl Reassembly {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, partials: BTreeMap::new(), next_age: 0, held: 0, parts: 0, completed: 0 }
    }

    pub(super) fn add(
        &mut self,
        slot: Slot,
        header: Header,
        mut piece: Message,
        context: &mut Context,
    ) -> Outcome {
        let key = (slot, header.message);
        let len = piece.len() as u32;
        joining::give_back_headroom(&mut piece);
        let parts = piece.parts().len();
        match self.partials.get(&key).map(|partial| partial.check(header, len, parts)) {
            None if parts > MAX_PARTS => return Outcome::Refused(Reason::TooLarge),
            None => self.begin(key, header.total, context),
            Some(Ok(())) => {}
            Some(Err(Reason::Duplicate)) => return Outcome::Refused(Reason::Duplicate),
            Some(Err(reason)) => {
                self.remove(key);
                return Outcome::Refused(reason);
            }
        }
        let cost = piece.len() + PIECE;
        while self.held + cost > self.limits.memory || self.parts + parts > self.limits.parts {
            // The one at hand goes too if it is the oldest: it takes up everything then.
            if self.drop_oldest(context) == Some(key) {
                return Outcome::Refused(Reason::QueueFull);
            }
        }
        self.held += cost;
        self.parts += parts;
        let Some(partial) = self.partials.get_mut(&key) else {
            return Outcome::Refused(Reason::QueueFull);
        };
        partial.pieces.insert(header.offset, piece);
        partial.received += len;
        partial.parts += parts;
        if partial.received < partial.total {
            return Outcome::Waits;
        }
        let mut whole = Message::new();
        for (_, piece) in self.remove(key).into_iter().flat_map(|partial| partial.pieces) {
            if let Err(reason) = joining::append(&mut whole, piece) {
                return Outcome::Refused(reason);
            }
        }
        self.completed += 1;
        Outcome::Complete(whole)
    }

    fn begin(&mut self, key: (Slot, u32), total: u32, context: &mut Context) {
        if self.partials.len() >= self.limits.messages {
            self.drop_oldest(context);
        }
        let deadline = context.now() + self.limits.timeout;
        context.wake_at(deadline);
        let age = self.next_age;
        self.next_age += 1;
        let pieces = BTreeMap::new();
        let partial = Partial { total, received: 0, parts: 0, pieces, age, deadline };
        self.partials.insert(key, partial);
    }

    fn remove(&mut self, key: (Slot, u32)) -> Option<Partial> {
        let partial = self.partials.remove(&key)?;
        self.held -= partial.held();
        self.parts -= partial.parts;
        Some(partial)
    }

    fn drop_oldest(&mut self, context: &mut Context) -> Option<(Slot, u32)> {
        let (key, _) = self.partials.iter().min_by_key(|(_, partial)| partial.age)?;
        let key = *key;
        self.remove(key);
        context.count(Reason::QueueFull);
        Some(key)
    }

    /// Gives up what has waited too long.
    pub(super) fn expire(&mut self, context: &mut Context) {
        let now = context.now();
        self.drop_where(context, Reason::Incomplete, |_, partial| partial.deadline <= now);
        if let Some(next) = self.partials.values().map(|partial| partial.deadline).min() {
            context.wake_at(next);
        }
    }

    /// Forgets a session's.
    pub(super) fn forget(&mut self, slot: Slot, context: &mut Context) {
        self.drop_where(context, Reason::Closed, |key, _| key.0 == slot);
    }

    fn drop_where(
        &mut self,
        context: &mut Context,
        reason: Reason,
        which: impl Fn(&(Slot, u32), &Partial) -> bool,
    ) {
        let (held, parts) = (&mut self.held, &mut self.parts);
        self.partials.retain(|key, partial| {
            let drop = which(key, partial);
            if drop {
                *held -= partial.held();
                *parts -= partial.parts;
                context.count(reason);
            }
            !drop
        });
    }
}
