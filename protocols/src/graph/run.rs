//! Messages on their way.

use super::*;
use crate::context::Work;
use crate::{Demux, Verdict};

/// Why a message was not pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The session is closed.
    #[error("the session is closed: open another one")]
    Closed,
}

impl Graph {
    /// Sends a message from the application down a session. What becomes of it on the way is
    /// counted, not reported.
    ///
    /// # Errors
    /// [`PushError`]; the message is dropped.
    ///
    /// # Cost
    /// One indirect call a layer; no look-up, no allocation in steady state.
    #[inline]
    pub fn push(
        &mut self,
        now: Instant,
        session: Session,
        message: Message,
    ) -> Result<(), PushError> {
        self.push_to(now, session, message, &Participants::default())
    }

    /// Sends a message with attributes, for a session whose layers ask for them.
    ///
    /// # Errors
    /// [`PushError`]; the message is dropped.
    #[inline]
    pub fn push_to(
        &mut self,
        now: Instant,
        session: Session,
        mut message: Message,
        attributes: &Participants,
    ) -> Result<(), PushError> {
        let link = self.application(session).ok_or(PushError::Closed)?;
        self.context.now = now;
        self.context.attributes = *attributes;
        self.down(link, &mut message);
        self.run_work();
        Ok(())
    }

    /// Brings in a frame that a device received.
    #[inline]
    pub fn receive(&mut self, now: Instant, device: NodeId, mut message: Message) {
        self.context.now = now;
        self.context.attributes = Participants::default();
        let links = self.context.links.get(device.0 as usize);
        let link = links.and_then(|links| links.first()).copied().unwrap_or(NONE);
        let link = if link == NONE { self.first_from_below(device) } else { Some(link) };
        if let Some(link) = link {
            self.up(link, &mut message);
            self.run_work();
            if self.context.behind {
                self.catch_up();
            }
        }
    }

    #[cold]
    fn first_from_below(&mut self, device: NodeId) -> Option<u32> {
        self.nodes.get(device.0 as usize)?;
        match self.open_above(device.0, NONE) {
            Ok(link) => Some(link),
            Err(reason) => {
                self.context.node = device.0;
                self.context.count(reason);
                None
            }
        }
    }

    /// Takes out the next frame that a device is to send.
    #[inline]
    pub fn transmitted(&mut self, device: NodeId) -> Option<Message> {
        self.context.output.get_mut(device.0 as usize)?.pop_front()
    }

    /// Takes out the next message for the application.
    #[inline]
    pub fn received(&mut self) -> Option<Delivery> {
        self.inbox.pop_front()
    }

    /// When [`poll`](Self::poll) is to be called at the latest. `None` if nothing waits for time.
    pub fn next_wake(&self) -> Option<Instant> {
        self.context.wakes.iter().copied().min().filter(|at| *at != Instant::NEVER)
    }

    /// Lets the layers do what is due.
    pub fn poll(&mut self, now: Instant) {
        self.context.now = now;
        for place in 0..self.layers.len() {
            if self.context.wakes[place] > now {
                continue;
            }
            self.context.wakes[place] = Instant::NEVER;
            self.context.node = place as u32;
            self.context.attributes = Participants::default();
            self.layers[place].wake(&mut self.context);
            self.run_work();
        }
        if self.context.behind {
            self.catch_up();
        }
    }

    /// Runs a message down from a link, until it has left.
    #[inline]
    fn down(&mut self, from: u32, message: &mut Message) {
        let mut at = from;
        let mut mark = self.context.work.len();
        while let Some(&Link { node, slot, down, .. }) = self.links.get(at as usize) {
            self.context.node = node;
            let verdict = self.layers[node as usize].push(slot, message, &mut self.context);
            if self.context.emitted {
                mark = self.next_first(mark);
            }
            if !matches!(verdict, Verdict::Pass) {
                return self.ended(verdict);
            }
            at = down;
        }
        // The lowest layer passed it on: nothing is below.
        self.context.count(Reason::NoRoute);
    }

    /// Runs a message up from a link, until it has left.
    #[inline]
    fn up(&mut self, from: u32, message: &mut Message) {
        let mut at = from;
        let mut mark = self.context.work.len();
        while let Some(&Link { node, slot, up, .. }) = self.links.get(at as usize) {
            self.context.node = node;
            let verdict = self.layers[node as usize].pop(slot, message, &mut self.context);
            if self.context.emitted {
                mark = self.next_first(mark);
            }
            if !matches!(verdict, Verdict::Pass) {
                return self.ended(verdict);
            }
            at = match up {
                Up::Link(above) => above,
                _ => match self.up_from(at, up, message) {
                    Some(above) => above,
                    None => return,
                },
            };
        }
    }

    /// What a layer did not pass on has an end.
    #[inline]
    fn ended(&mut self, verdict: Verdict) {
        if let Verdict::Drop(reason) = verdict {
            self.context.count(reason);
        }
    }

    /// The link above one that leads to no certain one, or `None` if the message has left.
    #[inline]
    fn up_from(&mut self, at: u32, up: Up, message: &mut Message) -> Option<u32> {
        let mark = self.context.work.len();
        let above = self.find_above(at, up, message);
        if self.context.emitted {
            self.next_first(mark);
        }
        above
    }

    #[inline]
    fn find_above(&mut self, at: u32, up: Up, message: &mut Message) -> Option<u32> {
        match up {
            Up::Link(above) => Some(above),
            Up::Node(node) if self.nodes[node as usize].multiplexes => {
                self.context.node = node;
                match self.layers[node as usize].demux(message, &mut self.context) {
                    Demux::To(slot) => Some(self.link_of(node, slot)),
                    Demux::New(slot, upper) => {
                        let up =
                            self.uppers.get(upper.0 as usize).map_or(Up::Nowhere, |upper| upper.1);
                        self.joined(node, |graph| graph.join_above(node, slot, up, at))
                    }
                    Demux::Drop(reason) => {
                        self.context.count(reason);
                        self.refused(at, reason, message);
                        None
                    }
                }
            }
            Up::Node(node) => self.joined(node, |graph| graph.open_above(node, at)),
            Up::Application(application) => {
                self.deliver(application, message);
                None
            }
            Up::Listener => {
                let application = self.open_to_application(at);
                self.deliver(application, message);
                None
            }
            Up::Nowhere => {
                self.context.count(Reason::NoSession);
                None
            }
        }
    }

    /// Tells the layer below what became of the message that it has just passed up.
    #[cold]
    fn refused(&mut self, at: u32, reason: Reason, message: &mut Message) {
        let Some(&Link { node, slot, .. }) = self.links.get(at as usize) else { return };
        self.context.node = node;
        self.layers[node as usize].refused(slot, message, reason, &mut self.context);
    }

    #[cold]
    fn joined(
        &mut self,
        node: u32,
        join: impl FnOnce(&mut Self) -> Result<u32, Reason>,
    ) -> Option<u32> {
        match join(self) {
            Ok(link) => Some(link),
            Err(reason) => {
                self.context.node = node;
                self.context.count(reason);
                None
            }
        }
    }

    #[inline]
    fn deliver(&mut self, application: u32, message: &mut Message) {
        if self.inbox.len() >= self.limits.inbox {
            return self.context.count(Reason::InboxFull);
        }
        let generation = self.applications[application as usize].generation;
        self.inbox.push_back(Delivery {
            session: Session { index: application, generation },
            message: std::mem::take(message),
            participants: self.context.attributes,
        });
    }

    /// What a layer emitted waits with the last first: turned, so that the first is next. It is
    /// thereby run before everything that waited already, as in a recursive call.
    #[cold]
    fn next_first(&mut self, mark: usize) -> usize {
        self.context.emitted = false;
        self.context.work[mark..].reverse();
        self.context.work.len()
    }

    /// Runs what layers emitted, and what comes of that, until nothing waits.
    #[inline]
    pub(super) fn run_work(&mut self) {
        if !self.context.work.is_empty() {
            self.run_waiting();
        }
    }

    fn run_waiting(&mut self) {
        if self.context.emitted {
            self.next_first(0);
        }
        let mut steps = 0;
        while let Some(Work { link, down, mut message, attributes }) = self.context.work.pop() {
            let Some(&from) = self.links.get(link as usize) else { continue };
            self.context.node = from.node;
            steps += 1;
            if steps > self.limits.steps {
                self.context.count(Reason::Budget);
                continue;
            }
            self.context.attributes = attributes;
            if down {
                self.down(from.down, &mut message);
            } else if let Some(above) = self.up_from(link, from.up, &mut message) {
                self.up(above, &mut message);
            }
        }
    }
}
