//! The graph: it owns the layers and runs messages through them.

mod build;
mod changing;
mod closing;
mod listening;
mod opening;
mod relinking;
mod run;

use std::collections::VecDeque;

use crate::context::{Context, NONE};
use crate::description::NodeDescription;
use crate::{
    Answer, Below, Description, Instant, Kinds, Message, Participants, Pool, Protocol, Reason,
    Request, Slot,
};

pub use build::{BuildError, Place};
pub use changing::ChangeError;
pub use listening::ListenError;
pub use opening::OpenError;
pub use run::PushError;

/// A node of a graph, by which the caller names it without a look-up. The default is the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeId(u32);

/// An open session of the application's. Of one graph; once closed, it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    index: u32,
    generation: u32,
}

/// A message that came up to the application.
#[derive(Debug)]
pub struct Delivery {
    /// The session. If it was made for this message because the application listens, it is new to
    /// the application, and open until it closes it.
    pub session: Session,
    /// The message, without the headers.
    pub message: Message,
    /// Who it came from, as far as the layers said.
    pub participants: Participants,
}

/// How much a graph may hold and do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages that layers have emitted and that have not gone on yet.
    pub work: usize,
    /// Messages that layers emit on account of one that came in, altogether.
    pub steps: usize,
    /// Frames that wait in one device to be taken out.
    pub output: usize,
    /// Messages that wait for the application.
    pub inbox: usize,
    /// Sessions, counting those of every layer.
    pub sessions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { work: 4096, steps: 65_536, output: 8192, inbox: 4096, sessions: 65_536 }
    }
}

/// Where a message goes from a session upwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Up {
    /// Nowhere: the layer keeps what it gets, or nobody wants it.
    Nowhere,
    /// To the one session above.
    Link(u32),
    /// To the session above that this node finds.
    Node(u32),
    /// To the application.
    Application(u32),
    /// To the application, which does not know the session yet.
    Listener,
}

/// A session's place in the graph. Together they are the ways that messages take.
#[derive(Clone, Copy, Debug)]
struct Link {
    node: u32,
    slot: Slot,
    down: u32,
    up: Up,
    /// How many sessions above hold this one.
    uses: u32,
}

/// What the graph knows about a node, beside its layer.
struct Node {
    description: NodeDescription,
    lowers: Vec<u32>,
    multiplexes: bool,
    /// Of a linear layer: where the sessions lead that messages from below open.
    listener: Option<Up>,
}

#[derive(Clone, Copy)]
struct Application {
    link: u32,
    generation: u32,
}

/// Protocols, their sessions, and the messages on their way. Owned by whoever calls it.
pub struct Graph {
    /// By node; apart from the rest, for every message walks along it.
    layers: Vec<Box<dyn Protocol>>,
    nodes: Vec<Node>,
    links: Vec<Link>,
    free_links: Vec<u32>,
    /// What the session can rely on, by link.
    below: Vec<Below>,
    /// What layers name by [`Upper`](crate::Upper), with the layer that does.
    uppers: Vec<(u32, Up)>,
    applications: Vec<Application>,
    free_applications: Vec<u32>,
    inbox: VecDeque<Delivery>,
    context: Context,
    limits: Limits,
    /// Changes that wait for the other side.
    staged: Vec<relinking::Staged>,
    free_nodes: Vec<u32>,
    /// What the layers dropped that were taken out.
    retired: [u64; Reason::ALL.len()],
}

impl Graph {
    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<NodeId> {
        let place = self.nodes.iter().position(|node| node.description.name == name)?;
        Some(NodeId(place as u32))
    }

    /// What the graph is made of now. Its `Display` is the text that makes the same graph, and it
    /// can be drawn: see [`to_dot`](Self::to_dot).
    pub fn description(&self) -> Description {
        let nodes = self.nodes.iter().map(|node| node.description.clone());
        Description { nodes: nodes.filter(|node| !node.name.is_empty()).collect() }
    }

    /// The graph as it is now, as Graphviz draws it.
    pub fn to_dot(&self) -> String {
        self.description().to_dot()
    }

    /// Tells every count that is not zero: the node's name, and the reason of a drop or the name of
    /// a number that the layer itself counts.
    pub fn statistics(&self, mut tell: impl FnMut(&str, &str, u64)) {
        for (place, node) in self.nodes.iter().enumerate() {
            let name = node.description.name.as_str();
            for reason in Reason::ALL {
                let count = self.context.drops[place][reason as usize];
                if count != 0 {
                    tell(name, &format!("dropped: {reason:?}"), count);
                }
            }
            self.layers[place].statistics(&mut |what, count| {
                if count != 0 {
                    tell(name, what, count);
                }
            });
        }
        for reason in Reason::ALL {
            let count = self.retired[reason as usize];
            if count != 0 {
                tell("layers taken out", &format!("dropped: {reason:?}"), count);
            }
        }
    }

    /// How many messages a node dropped for a reason.
    pub fn drops(&self, node: NodeId, reason: Reason) -> u64 {
        self.context.drops.get(node.0 as usize).map_or(0, |drops| drops[reason as usize])
    }

    /// How many messages were dropped, in all nodes and for all reasons.
    pub fn all_drops(&self) -> u64 {
        self.context.drops.iter().flatten().chain(&self.retired).sum()
    }

    /// Where the graph gets buffers; the application may take its messages' buffers from there too.
    pub fn pool(&mut self) -> &mut Pool {
        &mut self.context.pool
    }

    /// What a session offers: the longest message, and the headroom that makes it cheap to send.
    pub fn below(&self, session: Session) -> Option<Below> {
        self.below.get(self.application(session)? as usize).copied()
    }

    /// Asks the layers of a session, from the top down, until one answers.
    pub fn control(&mut self, session: Session, request: Request<'_>) -> Option<Answer> {
        let mut at = self.application(session)?;
        if request == Request::Below {
            return self.below(session).map(Answer::Below);
        }
        while let Some(link) = self.links.get(at as usize).copied() {
            let answer = self.layers[link.node as usize].control(link.slot, request);
            if answer.is_some() {
                return answer;
            }
            at = link.down;
        }
        None
    }

    /// The names of the nodes that a session's messages go through, from the top down.
    pub fn route(&self, session: Session) -> Vec<&str> {
        let mut names = Vec::new();
        let mut at = self.application(session).unwrap_or(NONE);
        while let Some(link) = self.links.get(at as usize) {
            names.push(self.nodes[link.node as usize].description.name.as_str());
            at = link.down;
        }
        names
    }

    /// The link at which an application's session begins.
    fn application(&self, session: Session) -> Option<u32> {
        let known = self.applications.get(session.index as usize)?;
        (known.generation == session.generation && known.link != NONE).then_some(known.link)
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Graph {{ {} nodes, {} links }}", self.nodes.len(), self.links.len())
    }
}

/// The text of [`Graph::description`].
impl std::fmt::Display for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.description().fmt(f)
    }
}
