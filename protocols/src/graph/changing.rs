//! Layers come and go while messages pass.
//!
//! A change takes effect between two messages. What the layer that goes still holds is sent and
//! delivered first, in order. So on this side no message is lost, repeated or overtaken by a change.
//!
//! A layer with a header must come and go on both sides at one place of the message stream. There are
//! two ways. *Nothing is under way*: both sides [`insert`](Graph::insert) or
//! [`remove`](Graph::remove). *In step*: a `generation` layer stands right below the place, on both
//! sides. The other side is told what will change, by whatever means, and calls
//! [`expect_insert`](Graph::expect_insert); only then one side calls
//! [`begin_insert`](Graph::begin_insert). What it sends from then on is of the next generation. The
//! first such message makes the other side change both its ways, sending and receiving; the first
//! message that comes back makes the first side change its receiving. If the layers below keep the
//! order of messages, none is lost, repeated or overtaken by the change. If they do not, those that
//! are overtaken by one of the next generation are dropped and counted as
//! [`Reason::Generation`](crate::Reason::Generation): put `sequencing` below `generation`. So are
//! those that wait in `generation` for a change that is not made within its `timeout`.
//!
//! A change is complete when both ways have changed; until then the next one at that place is
//! refused. Sessions that are opened meanwhile use the old stack, and keep it; open none while one side
//! has completed the change and the other has not, for their two ends would differ. Closing a session
//! completes all changes of its graph, whatever the other side does.

use super::relinking::Staged;
use super::*;
use crate::Refusal;
use crate::layers::generation::{RECEIVING, SENDING};

/// Why a graph was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// There is no such node.
    #[error("there is no node `{0}` in the graph: name one of its description")]
    NoNode(String),
    /// The two nodes are not joined.
    #[error("no edge leads from `{upper}` to `{lower}`: name two nodes that are joined")]
    NoEdge {
        /// The upper one.
        upper: String,
        /// The lower one.
        lower: String,
    },
    /// Only a linear layer over one other can come and go.
    #[error("`{0}` is not a linear layer over one other node: only such come and go")]
    NotLinear(String),
    /// The layer could not be made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The layer did not open a session for one that is open.
    #[error("the layer refuses: {0}")]
    Refused(#[from] Refusal),
    /// A change at that place is not complete.
    #[error("the change before is not complete: wait until the other side has sent a message")]
    Busy,
    /// Changes in step need a layer that tells generations apart.
    #[error("no `generation` layer is right below: put one there, on both sides")]
    NoGeneration,
}

/// When a change is to happen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    Begin,
    Expect,
}

impl Graph {
    /// Puts a new linear layer over the one node that its description names below it: under `upper`,
    /// or with `None` right under the application's sessions. All sessions that run there run through
    /// it from now on.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed then.
    ///
    /// # Cost
    /// A walk over all sessions of the graph.
    pub fn insert(
        &mut self,
        now: Instant,
        upper: Option<&str>,
        node: &NodeDescription,
        kinds: &Kinds,
    ) -> Result<NodeId, ChangeError> {
        self.insert_when(now, upper, node, kinds, When::Now)
    }

    /// Begins to [insert](Self::insert) a layer in step with the other side, which expects it.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed then.
    pub fn begin_insert(
        &mut self,
        now: Instant,
        upper: Option<&str>,
        node: &NodeDescription,
        kinds: &Kinds,
    ) -> Result<NodeId, ChangeError> {
        self.insert_when(now, upper, node, kinds, When::Begin)
    }

    /// Inserts a layer as soon as the other side has.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed then.
    pub fn expect_insert(
        &mut self,
        now: Instant,
        upper: Option<&str>,
        node: &NodeDescription,
        kinds: &Kinds,
    ) -> Result<NodeId, ChangeError> {
        self.insert_when(now, upper, node, kinds, When::Expect)
    }

    /// Takes a linear layer out. Its name and its [`NodeId`] are then free for others.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed then.
    ///
    /// # Cost
    /// A walk over all sessions of the graph.
    pub fn remove(&mut self, now: Instant, node: &str) -> Result<(), ChangeError> {
        self.remove_when(now, node, When::Now)
    }

    /// Begins to [remove](Self::remove) a layer in step with the other side, which expects it.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed then.
    pub fn begin_remove(&mut self, now: Instant, node: &str) -> Result<(), ChangeError> {
        self.remove_when(now, node, When::Begin)
    }

    /// Removes a layer as soon as the other side has.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed then.
    pub fn expect_remove(&mut self, now: Instant, node: &str) -> Result<(), ChangeError> {
        self.remove_when(now, node, When::Expect)
    }

    /// Whether a change waits for the other side.
    pub fn is_changing(&self) -> bool {
        !self.staged.is_empty()
    }

    fn insert_when(
        &mut self,
        now: Instant,
        upper: Option<&str>,
        node: &NodeDescription,
        kinds: &Kinds,
        when: When,
    ) -> Result<NodeId, ChangeError> {
        let [lower] = node.lowers.as_slice() else {
            return Err(ChangeError::NotLinear(node.name.clone()));
        };
        let no_node = |name: &str| ChangeError::NoNode(name.to_owned());
        let below = self.node(lower).ok_or_else(|| no_node(lower))?.0;
        let above = match upper {
            Some(upper) => Some(self.node(upper).ok_or_else(|| no_node(upper))?.0),
            None => None,
        };
        if let Some(above) = above
            && !self.nodes[above as usize].lowers.contains(&below)
        {
            let upper = upper.unwrap_or_default().to_owned();
            return Err(ChangeError::NoEdge { upper, lower: lower.clone() });
        }
        self.may_change(below, when)?;
        self.context.now = now;
        let place = self.attach(above, below, node, kinds)?;
        let pending = self.links_of(place);
        self.change(Staged { node: place, above, insert: true, sends: false, pending }, when);
        Ok(NodeId(place))
    }

    fn remove_when(&mut self, now: Instant, node: &str, when: When) -> Result<(), ChangeError> {
        let no_node = || ChangeError::NoNode(node.to_owned());
        let place = self.node(node).filter(|_| !node.is_empty()).ok_or_else(no_node)?.0;
        let not_linear = || ChangeError::NotLinear(node.to_owned());
        let known = &self.nodes[place as usize];
        let [below] = known.lowers[..] else { return Err(not_linear()) };
        if known.multiplexes {
            return Err(not_linear());
        }
        self.may_change(below, when)?;
        self.context.now = now;
        let pending = self.links_of(place);
        self.change(
            Staged { node: place, above: None, insert: false, sends: false, pending },
            when,
        );
        Ok(())
    }

    /// Whether nothing else is changed above that node, which must be able to tell generations apart
    /// where that matters.
    fn may_change(&self, below: u32, when: When) -> Result<(), ChangeError> {
        let busy = |staged: &Staged| {
            staged.node == below || self.nodes[staged.node as usize].lowers.contains(&below)
        };
        if self.staged.iter().any(busy) {
            return Err(ChangeError::Busy);
        }
        let kind = self.nodes[below as usize].description.kind.as_str();
        if when != When::Now && kind != "generation" {
            return Err(ChangeError::NoGeneration);
        }
        Ok(())
    }

    fn change(&mut self, mut staged: Staged, when: When) {
        match when {
            When::Now => self.complete(staged),
            When::Expect => self.stage(staged),
            When::Begin => {
                for link in staged.pending.clone() {
                    self.change_sending(&staged, link);
                    self.tell_below(link, SENDING);
                }
                staged.sends = true;
                self.stage(staged);
            }
        }
    }

    /// Remembers a change; without sessions there is nobody to wait for.
    fn stage(&mut self, staged: Staged) {
        if staged.pending.is_empty() { self.complete(staged) } else { self.staged.push(staged) }
    }

    /// Messages of the next generation have come: changes the ways of their sessions.
    #[cold]
    pub(super) fn catch_up(&mut self) {
        self.context.behind = false;
        for mut staged in std::mem::take(&mut self.staged) {
            let waiting: Vec<u32> = staged.pending.clone();
            for link in waiting {
                if self.waits_below(link) {
                    staged.pending.retain(|pending| *pending != link);
                    self.change_in_step(&staged, link);
                }
            }
            if staged.pending.is_empty() { self.finish(staged) } else { self.staged.push(staged) }
        }
    }

    fn change_in_step(&mut self, staged: &Staged, link: u32) {
        if !staged.sends {
            self.change_sending(staged, link);
            self.tell_below(link, SENDING);
        }
        self.change_receiving(staged, link);
        self.tell_below(link, RECEIVING);
        let Some(below) = self.below_of(link) else { return };
        self.context.changed = true;
        self.drain_one(below);
        self.context.changed = false;
    }

    /// Makes every change complete, whether the other side has or not.
    pub(super) fn settle(&mut self) {
        for staged in std::mem::take(&mut self.staged) {
            self.complete(staged);
        }
    }

    fn complete(&mut self, staged: Staged) {
        for link in staged.pending.clone() {
            if !staged.sends {
                self.change_sending(&staged, link);
            }
            self.change_receiving(&staged, link);
        }
        self.finish(staged);
    }
}
