//! Sessions: made from the top down, or from below for a message that somebody listens for.

use super::*;
use crate::{Opened, Refusal};

/// Why no session was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such node.
    #[error("there is no node `{0}` in the graph: name one of its description")]
    NoNode(String),
    /// A layer refuses.
    #[error("node `{node}`: {refusal}")]
    Refused {
        /// Which one.
        node: String,
        /// Why.
        refusal: Refusal,
    },
}

const NOTHING_BELOW: Below = Below { max_message: usize::MAX, headroom: 0, local: None };

impl Graph {
    /// Opens a session on top of a node, and below it in every layer down to a device.
    ///
    /// # Errors
    /// [`OpenError`]; nothing is open then.
    ///
    /// # Cost
    /// Tables grow. This is the slow way, which the messages of the session do not take.
    pub fn open(&mut self, node: &str, who: Participants) -> Result<Session, OpenError> {
        let Some(NodeId(place)) = self.node(node) else {
            return Err(OpenError::NoNode(node.to_owned()));
        };
        let session = self.new_application();
        match self.open_below(place, who, Up::Application(session.index)) {
            Ok(link) => {
                self.applications[session.index as usize].link = link;
                self.run_work();
                Ok(session)
            }
            Err(error) => {
                self.free_applications.push(session.index);
                Err(error)
            }
        }
    }

    fn new_application(&mut self) -> Session {
        if let Some(index) = self.free_applications.pop() {
            let application = &mut self.applications[index as usize];
            application.generation = application.generation.wrapping_add(1);
            return Session { index, generation: application.generation };
        }
        self.applications.push(Application { link: NONE, generation: 0 });
        Session { index: self.applications.len() as u32 - 1, generation: 0 }
    }

    fn open_below(&mut self, place: u32, who: Participants, up: Up) -> Result<u32, OpenError> {
        let (mut place, mut who, mut up) = (place, who, up);
        let mut made: Vec<u32> = Vec::new();
        let mut top = NONE;
        loop {
            let (link, lower) = match self.open_at(place, &mut who, up) {
                Ok(Found::New(link, lower)) => (link, Some(lower)),
                Ok(Found::Known(link)) => (link, None),
                Ok(Found::Instead { of, known }) => {
                    made.truncate(made.iter().position(|link| *link == of).unwrap_or(made.len()));
                    self.release(of);
                    (known, None)
                }
                Err(refusal) => {
                    if let Some(first) = made.first() {
                        self.release(*first);
                    }
                    let node = self.nodes[place as usize].description.name.clone();
                    return Err(OpenError::Refused { node, refusal });
                }
            };
            self.links[link as usize].uses += 1;
            match made.last() {
                Some(above) => self.links[*above as usize].down = link,
                None => top = link,
            }
            let Some(lower) = lower else { break };
            made.push(link);
            let node = &self.nodes[place as usize];
            up = if node.multiplexes { Up::Node(place) } else { Up::Link(link) };
            match node.lowers.get(lower) {
                Some(below) => place = *below,
                None => break,
            }
        }
        for link in made.iter().rev() {
            self.announce(*link);
        }
        Ok(top)
    }

    /// Opens one layer's session.
    fn open_at(&mut self, place: u32, who: &mut Participants, up: Up) -> Result<Found, Refusal> {
        self.context.node = place;
        let Opened { slot, lower } = self.layers[place as usize].open(who, &mut self.context)?;
        let known = self.link_of(place, slot);
        if known == NONE {
            return match self.new_link(Link { node: place, slot, down: NONE, up, uses: 0 }) {
                Some(link) => Ok(Found::New(link, lower)),
                None => {
                    self.layers[place as usize].close(slot, &mut self.context);
                    Err(Refusal::Limit)
                }
            };
        }
        let link = &mut self.links[known as usize];
        if link.up == Up::Nowhere || link.uses == 0 {
            link.up = up;
        }
        let shared = matches!(up, Up::Node(_)) || link.uses == 0;
        if link.up == up && shared {
            return Ok(Found::Known(known));
        }
        match (up, link.up) {
            (Up::Link(new), Up::Link(old)) => self.same_above(new, old).ok_or(Refusal::InUse),
            _ => Err(Refusal::InUse),
        }
    }

    /// Whether what was opened from `new` upwards is there already from `old` upwards: sessions of
    /// the same linear layers, and above them of one that multiplexes. These are shared as the one
    /// below them is.
    fn same_above(&self, new: u32, old: u32) -> Option<Found> {
        let (mut new, mut old) = (new, old);
        loop {
            let (of, known) = (self.links[new as usize], self.links[old as usize]);
            if of.node != known.node {
                return None;
            }
            match (of.up, known.up) {
                (Up::Link(above_new), Up::Link(above_old)) => (new, old) = (above_new, above_old),
                (Up::Node(one), Up::Node(other)) if one == other => {
                    return Some(Found::Instead { of: new, known: old });
                }
                _ => return None,
            }
        }
    }

    /// The link of a layer's session.
    #[inline]
    pub(super) fn link_of(&self, place: u32, slot: Slot) -> u32 {
        self.context.links[place as usize].get(slot.0 as usize).copied().unwrap_or(NONE)
    }

    pub(super) fn new_link(&mut self, link: Link) -> Option<u32> {
        let slot = link.slot.0 as usize;
        if self.links.len() - self.free_links.len() >= self.limits.sessions
            || slot >= self.limits.sessions
        {
            return None;
        }
        let slots = &mut self.context.links[link.node as usize];
        if slots.len() <= slot {
            slots.resize(slot + 1, NONE);
        }
        let index = self.free_links.pop().unwrap_or_else(|| {
            self.links.push(link);
            self.below.push(NOTHING_BELOW);
            self.links.len() as u32 - 1
        });
        self.links[index as usize] = link;
        self.context.links[link.node as usize][slot] = index;
        Some(index)
    }

    /// Tells a layer what is below its session.
    pub(super) fn announce(&mut self, at: u32) {
        let Link { node, slot, down, .. } = self.links[at as usize];
        let below = self.below.get(down as usize).copied().unwrap_or(NOTHING_BELOW);
        self.below[at as usize] = self.layers[node as usize].opened(slot, below);
    }

    /// Opens a linear layer's session for a message that came up from `from`, if somebody listens.
    pub(super) fn open_above(&mut self, place: u32, from: u32) -> Result<u32, Reason> {
        let up = self.nodes[place as usize].listener.ok_or(Reason::NoSession)?;
        let mut who = self.context.attributes;
        self.context.node = place;
        let opened = self.layers[place as usize].open(&mut who, &mut self.context);
        let Opened { slot, .. } = opened.map_err(|refusal| match refusal {
            Refusal::Limit => Reason::SessionLimit,
            _ => Reason::NoSession,
        })?;
        let link = self.join_above(place, slot, up, from)?;
        if let Some(from) = self.links.get_mut(from as usize) {
            from.up = Up::Link(link);
        }
        Ok(link)
    }

    /// Puts a session that was opened from below into its place.
    pub(super) fn join_above(
        &mut self,
        place: u32,
        slot: Slot,
        up: Up,
        from: u32,
    ) -> Result<u32, Reason> {
        if self.link_of(place, slot) != NONE {
            return Err(Reason::NoSession);
        }
        let (down, held) = self.ways(from);
        let link = Link { node: place, slot, down, up, uses: 0 };
        let Some(link) = self.new_link(link) else {
            self.context.node = place;
            self.layers[place as usize].close(slot, &mut self.context);
            return Err(Reason::SessionLimit);
        };
        if let Some(held) = self.links.get_mut(held as usize) {
            held.uses += 1;
        }
        self.announce(link);
        Ok(link)
    }

    /// Makes a session for the listening application.
    pub(super) fn open_to_application(&mut self, link: u32) -> u32 {
        let session = self.new_application();
        let (down, held) = self.ways(link);
        self.applications[session.index as usize].link = down;
        self.links[link as usize].up = Up::Application(session.index);
        self.links[held as usize].uses += 1;
        session.index
    }
}

/// What opening one layer's session has found.
enum Found {
    /// A new one, over the node below at that place.
    New(u32, usize),
    /// One that is open, and shared.
    Known(u32),
    /// One that is open, in place of one that was just made above and is not needed.
    Instead { of: u32, known: u32 },
}
