//! Sessions end.

use super::*;

impl Graph {
    /// Closes a session: what its layers hold is sent and delivered as far as it can be, then each
    /// forgets the session, unless another session uses it too. `false` if it was not open.
    pub fn close(&mut self, now: Instant, session: Session) -> bool {
        if self.application(session).is_none() {
            return false;
        }
        self.context.now = now;
        self.settle();
        let Some(link) = self.application(session) else { return false };
        self.drain_from(link);
        self.applications[session.index as usize].link = NONE;
        self.free_applications.push(session.index);
        self.release(link);
        true
    }

    /// Lets the layers that only this session uses give out what they hold, from the top down.
    fn drain_from(&mut self, link: u32) {
        let mut at = link;
        while let Some(link) = self.links.get(at as usize).copied()
            && link.uses <= 1
        {
            self.context.node = link.node;
            self.layers[link.node as usize].drain(link.slot, &mut self.context);
            self.run_work();
            at = link.down;
        }
    }

    /// One session less uses this one, and so on below.
    pub(super) fn release(&mut self, link: u32) {
        let mut at = link;
        while let Some(link) = self.links.get_mut(at as usize) {
            link.uses = link.uses.saturating_sub(1);
            if link.uses > 0 {
                return;
            }
            let Link { node, slot, down, .. } = *link;
            (link.up, link.down) = (Up::Nowhere, NONE);
            self.context.node = node;
            self.layers[node as usize].close(slot, &mut self.context);
            self.context.links[node as usize][slot.0 as usize] = NONE;
            self.free_links.push(at);
            if let Some(below) = self.links.get_mut(down as usize)
                && below.up == Up::Link(at)
            {
                below.up = Up::Node(node);
            }
            at = down;
        }
    }
}
