//! What a layer can ask of the graph that runs it.

use std::collections::VecDeque;

use fbufs::MAX_PARTS;

use crate::random::Random;
use crate::{Instant, Message, Participants, Pool, Reason, Slot, Verdict};

/// Of no link.
pub(crate) const NONE: u32 = u32::MAX;

/// A message that waits to go on from a layer.
#[derive(Debug)]
pub(crate) struct Work {
    /// The link that it has left.
    pub link: u32,
    pub down: bool,
    pub message: Message,
    pub attributes: Participants,
}

/// What the running layer can ask for: the time, buffers, to be called again, to run what it made.
pub struct Context {
    pub(crate) now: Instant,
    /// The node that runs.
    pub(crate) node: u32,
    /// Whether it has emitted since it was called.
    pub(crate) emitted: bool,
    /// Who talks to whom in the message at hand: see [`Participants`].
    pub attributes: Participants,
    /// What waits to run, the next at the end.
    pub(crate) work: Vec<Work>,
    pub(crate) work_limit: usize,
    pub(crate) pool: Pool,
    pub(crate) random: Random,
    /// By node.
    pub(crate) wakes: Vec<Instant>,
    pub(crate) drops: Vec<[u64; Reason::ALL.len()]>,
    pub(crate) links: Vec<Vec<u32>>,
    pub(crate) output: Vec<VecDeque<Message>>,
    pub(crate) output_limit: usize,
    /// What a starting layer listens for, with the place of the node below it.
    pub(crate) listening: Vec<(usize, Participants)>,
    /// Whether a message of the next generation has come.
    pub(crate) behind: bool,
    /// Whether the stack above the layer that is drained was changed.
    pub(crate) changed: bool,
}

impl Context {
    /// What time it is.
    #[inline]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Where headers that find no headroom, and messages of the layer's own, get their buffers.
    #[inline]
    pub fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// Numbers that the graph's seed determines, for where a layer is to begin with one that others do
    /// not know: see [`Graph::with_seed`](crate::Graph::with_seed). Whoever sees one whole can compute
    /// the next; no secret is made of them.
    #[inline]
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Adds a header in front of a message: in its headroom, or in a buffer from the pool.
    ///
    /// # Cost
    /// A copy of the header; a buffer if there is no headroom, and the message then has one part
    /// more: one that has [`MAX_PARTS`] already is to be dropped.
    #[inline]
    pub fn push_header(&mut self, message: &mut Message, header: &[u8]) -> Verdict {
        if message.push(header).is_ok() {
            return Verdict::Pass;
        }
        self.push_header_slowly(message, header)
    }

    #[cold]
    #[inline(never)]
    fn push_header_slowly(&mut self, message: &mut Message, header: &[u8]) -> Verdict {
        if message.parts().len() >= MAX_PARTS {
            return Verdict::Drop(Reason::TooLarge);
        }
        match message.push_with(&mut self.pool, header) {
            Ok(()) => Verdict::Pass,
            Err(_) => Verdict::Drop(Reason::NoBuffer),
        }
    }

    /// Asks for [`wake`](crate::Protocol::wake) at this time or soon after; of several requests of a
    /// layer the earliest counts. One that is woken asks anew for what else it waits for.
    #[inline]
    pub fn wake_at(&mut self, at: Instant) {
        if let Some(wake) = self.wakes.get_mut(self.node as usize) {
            *wake = at.min(*wake);
        }
    }

    /// Sends a message on downwards from a session of the running layer, with the attributes as they
    /// are now: after the message at hand if that one passes, after what was emitted before, and
    /// before everything else.
    ///
    /// If too much waits already, it is dropped and counted.
    pub fn emit_down(&mut self, slot: Slot, message: Message) {
        self.emit(slot, true, message);
    }

    /// Sends a message on upwards from a session of the running layer, in the same way.
    pub fn emit_up(&mut self, slot: Slot, message: Message) {
        self.emit(slot, false, message);
    }

    /// Sends a message on, downwards or upwards, in the same way.
    pub fn emit_down_or_up(&mut self, slot: Slot, down: bool, message: Message) {
        self.emit(slot, down, message);
    }

    fn emit(&mut self, slot: Slot, down: bool, message: Message) {
        let links = self.links.get(self.node as usize);
        let link = links.and_then(|links| links.get(slot.0 as usize)).copied().unwrap_or(NONE);
        if link == NONE {
            return self.count(Reason::Closed);
        }
        if self.work.len() >= self.work_limit {
            return self.count(Reason::QueueFull);
        }
        self.emitted = true;
        self.work.push(Work { link, down, message, attributes: self.attributes });
    }

    /// Puts a frame into the output of the running device, or drops it if nobody takes it out.
    #[inline]
    pub fn transmit(&mut self, message: &mut Message) -> Verdict {
        match self.output.get_mut(self.node as usize) {
            Some(output) if output.len() < self.output_limit => {
                output.push_back(std::mem::take(message));
                Verdict::Taken
            }
            _ => Verdict::Drop(Reason::QueueFull),
        }
    }

    /// Counts a drop of the running layer: of a message that it held. One at hand is counted by
    /// [`Verdict::Drop`].
    #[cold]
    pub fn count(&mut self, reason: Reason) {
        if let Some(drops) = self.drops.get_mut(self.node as usize) {
            drops[reason as usize] += 1;
        }
    }

    /// A message has come for the stack as it will be: the graph is to change it, if it knows how.
    pub(crate) fn stack_is_behind(&mut self) {
        self.behind = true;
    }

    /// Whether the running layer is drained since the stack above it has changed.
    pub(crate) fn stack_has_changed(&self) -> bool {
        self.changed
    }

    /// Listens at a node below, by its place in the description, for messages to the running layer
    /// itself. Only while it [starts](crate::Protocol::start).
    pub fn listen_below(&mut self, lower: usize, who: Participants) {
        self.listening.push((lower, who));
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context {{ node: {}, now: {:?} }}", self.node, self.now)
    }
}
