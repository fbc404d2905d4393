//! How a layer is joined to the ways of messages, and taken out of them: each direction by itself.

use super::*;
use crate::graph::changing::ChangeError;
use crate::{Answer, Context, Opened, Options, Refusal, Verdict};

/// A change that is under way.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    /// The layer that comes or goes.
    pub node: u32,
    /// Where it comes: under this node, or right under the application.
    pub above: Option<u32>,
    pub insert: bool,
    /// Whether what is sent goes the new way already.
    pub sends: bool,
    /// Its links whose receiving has not changed.
    pub pending: Vec<u32>,
}

/// In the place of a layer that was taken out.
struct Nothing;

impl Protocol for Nothing {
    fn open(&mut self, _: &mut Participants, _: &mut Context) -> Result<Opened, Refusal> {
        Err(Refusal::Unsupported)
    }

    fn push(&mut self, _: Slot, _: &mut Message, _: &mut Context) -> Verdict {
        Verdict::Drop(Reason::NoSession)
    }

    fn pop(&mut self, _: Slot, _: &mut Message, _: &mut Context) -> Verdict {
        Verdict::Drop(Reason::NoSession)
    }
}

impl Graph {
    /// All links of a node.
    pub(super) fn links_of(&self, place: u32) -> Vec<u32> {
        self.context.links[place as usize].iter().copied().filter(|link| *link != NONE).collect()
    }

    pub(super) fn below_of(&self, link: u32) -> Option<u32> {
        let down = self.links.get(link as usize)?.down;
        (down != NONE).then_some(down)
    }

    /// Makes a new node with a session over every session that leads from `below` to `above`. No
    /// message goes through them yet.
    pub(super) fn attach(
        &mut self,
        above: Option<u32>,
        below: u32,
        node: &NodeDescription,
        kinds: &Kinds,
    ) -> Result<u32, ChangeError> {
        let joined: Vec<u32> = self
            .links_of(below)
            .into_iter()
            .filter(|link| self.leads_to(self.links[*link as usize].up, above))
            .collect();
        let free = self.limits.sessions.saturating_sub(self.links.len() - self.free_links.len());
        if joined.len() > free {
            return Err(Refusal::Limit.into());
        }
        let place = self.add(node, kinds)?;
        self.nodes[place as usize].lowers = vec![below];
        let linear = !self.nodes[place as usize].multiplexes;
        let started = if linear { self.start(place).map_err(Into::into) } else { Ok(()) };
        let opened = started.and_then(|()| match linear {
            true => joined.iter().try_for_each(|under| self.open_over(place, *under)),
            false => Err(ChangeError::NotLinear(node.name.clone())),
        });
        match opened {
            Ok(()) => Ok(place),
            Err(error) => {
                for link in self.links_of(place) {
                    let uses = self.links[link as usize].uses;
                    if let Some(under) = self.below_of(link) {
                        self.links[under as usize].uses = uses;
                    }
                }
                self.detach(place);
                Err(error)
            }
        }
    }

    fn leads_to(&self, up: Up, above: Option<u32>) -> bool {
        match (up, above) {
            (Up::Application(_) | Up::Listener, None) => true,
            (Up::Node(node), Some(above)) => node == above,
            (Up::Link(link), Some(above)) => self.links[link as usize].node == above,
            _ => false,
        }
    }

    fn open_over(&mut self, place: u32, under: u32) -> Result<(), ChangeError> {
        let mut who = Participants::default();
        self.context.node = place;
        let opened = self.layers[place as usize].open(&mut who, &mut self.context)?;
        let Link { up, uses, .. } = self.links[under as usize];
        let link = Link { node: place, slot: opened.slot, down: under, up, uses };
        match self.new_link(link) {
            Some(link) => {
                self.links[under as usize].uses = 1;
                self.announce(link);
                Ok(())
            }
            None => Err(Refusal::Limit.into()),
        }
    }

    /// Where a session that begins now over `from` sends to, and which session it holds, while a
    /// change is under way there.
    pub(super) fn ways(&self, from: u32) -> (u32, u32) {
        for staged in &self.staged {
            for link in &staged.pending {
                let below = self.links[*link as usize].down;
                match (staged.insert, staged.sends) {
                    (true, true) if below == from => return (*link, *link),
                    (true, false) if below == from => return (from, *link),
                    (false, true) if *link == from => return (below, from),
                    _ => {}
                }
            }
        }
        (from, from)
    }

    /// Lets what is sent go through the layer, or past it.
    pub(super) fn change_sending(&mut self, staged: &Staged, link: u32) {
        let Some(below) = self.below_of(link) else { return };
        if !staged.insert {
            self.drain_one(link);
        }
        let (from, to) = if staged.insert { (below, link) } else { (link, below) };
        for above in self.links.iter_mut().filter(|above| above.node != staged.node) {
            if above.down == from {
                above.down = to;
            }
        }
        for application in self.applications.iter_mut().filter(|known| known.link == from) {
            application.link = to;
        }
        self.announce_above(to);
    }

    /// Lets what is received go through the layer, or past it.
    pub(super) fn change_receiving(&mut self, staged: &Staged, link: u32) {
        let Some(below) = self.below_of(link) else { return };
        if staged.insert {
            let up = self.links[below as usize].up;
            self.links[link as usize].up = up;
            self.links[below as usize].up = Up::Link(link);
        } else {
            self.drain_one(link);
            self.links[below as usize].up = self.links[link as usize].up;
        }
    }

    /// The change is complete in every session: the description says so, and those to come follow.
    pub(super) fn finish(&mut self, staged: Staged) {
        let Staged { node: place, above, insert, .. } = staged;
        let below = self.nodes[place as usize].lowers[0];
        let name = |graph: &Graph, place: u32| graph.nodes[place as usize].description.name.clone();
        if insert {
            let (upper, to) = (above.map_or(Up::Listener, Up::Node), Up::Node(place));
            let listened = self.redirect(below, upper, to);
            if listened {
                self.nodes[place as usize].listener = Some(upper);
            }
            if let Some(above) = above {
                let to = name(self, place);
                self.rename_lower(above, below, place, &to);
            }
        } else {
            let to = self.nodes[place as usize].listener.unwrap_or(Up::Nowhere);
            self.redirect(below, Up::Node(place), to);
            let to = name(self, below);
            for upper in 0..self.nodes.len() as u32 {
                self.rename_lower(upper, place, below, &to);
            }
            for link in self.links_of(place) {
                if let Some(under) = self.below_of(link) {
                    self.links[under as usize].uses = self.links[link as usize].uses;
                }
            }
            self.detach(place);
        }
    }

    /// Leads sessions to come, of one layer, to somebody else. Whether there was anything to lead.
    fn redirect(&mut self, place: u32, from: Up, to: Up) -> bool {
        let mut found = false;
        for (_, up) in self.uppers.iter_mut().filter(|upper| **upper == (place, from)) {
            *up = to;
            found = true;
        }
        let listener = &mut self.nodes[place as usize].listener;
        if *listener == Some(from) {
            *listener = Some(to);
            found = true;
        }
        found
    }

    fn rename_lower(&mut self, upper: u32, from: u32, to: u32, name: &str) {
        let node = &mut self.nodes[upper as usize];
        for (lower, written) in node.lowers.iter_mut().zip(&mut node.description.lowers) {
            if *lower == from {
                *lower = to;
                *written = name.to_owned();
            }
        }
    }

    /// Ends a node that no message goes through any more.
    pub(super) fn detach(&mut self, place: u32) {
        for link in self.links_of(place) {
            let slot = self.links[link as usize].slot;
            self.context.node = place;
            self.layers[place as usize].close(slot, &mut self.context);
            self.links[link as usize].down = NONE;
            self.links[link as usize].up = Up::Nowhere;
            self.free_links.push(link);
        }
        let at = place as usize;
        self.context.links[at].clear();
        self.context.wakes[at] = Instant::NEVER;
        for (retired, drops) in self.retired.iter_mut().zip(&mut self.context.drops[at]) {
            *retired += std::mem::take(drops);
        }
        self.layers[at] = Box::new(Nothing);
        let description = NodeDescription {
            name: String::new(),
            kind: String::new(),
            options: Options::default(),
            lowers: Vec::new(),
            line: 0,
        };
        self.nodes[at] =
            Node { description, lowers: Vec::new(), multiplexes: false, listener: None };
        self.free_nodes.push(place);
    }

    /// Lets a session give out what it holds.
    pub(super) fn drain_one(&mut self, link: u32) {
        let Link { node, slot, .. } = self.links[link as usize];
        self.context.node = node;
        self.context.attributes = Participants::default();
        self.layers[node as usize].drain(slot, &mut self.context);
        self.run_work();
    }

    /// Gives an order to the layer under a link.
    pub(super) fn tell_below(&mut self, link: u32, order: Request<'_>) {
        if let Some(below) = self.below_of(link) {
            let Link { node, slot, .. } = self.links[below as usize];
            self.layers[node as usize].control(slot, order);
        }
    }

    /// Whether messages of the next generation wait under a link.
    pub(super) fn waits_below(&mut self, link: u32) -> bool {
        let Some(below) = self.below_of(link) else { return false };
        let Link { node, slot, .. } = self.links[below as usize];
        let waiting = self.layers[node as usize].control(slot, Request::Number("waiting"));
        matches!(waiting, Some(Answer::Number(waiting)) if waiting > 0)
    }

    /// Tells a layer, and all above it, what is below.
    fn announce_above(&mut self, link: u32) {
        let mut left = vec![link];
        while let Some(at) = left.pop() {
            self.announce(at);
            let above = |(index, link): (usize, &Link)| (link.down == at).then_some(index as u32);
            left.extend(self.links.iter().enumerate().filter_map(above));
        }
    }
}
