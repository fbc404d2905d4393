//! From a description to a graph.

use std::hash::{BuildHasher, RandomState};

use super::*;
use crate::Lower;
use crate::description::OptionError;
use crate::random::Random;

/// Why a description makes no graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No kind has that name.
    #[error("{at}: there is no kind `{kind}`: write one of {known}")]
    UnknownKind {
        /// Where.
        at: Place,
        /// What was written.
        kind: String,
        /// What there is.
        known: String,
    },
    /// An option is wrong.
    #[error("{at}: {error}")]
    Option {
        /// Where.
        at: Place,
        /// What.
        error: OptionError,
    },
    /// A node below is not described.
    #[error("{at}: `{lower}` is described nowhere: add a line for it, or correct the name")]
    UnknownLower {
        /// Where.
        at: Place,
        /// The name.
        lower: String,
    },
    /// Two nodes have one name.
    #[error("{at}: another node has that name: give one of them another")]
    NameTwice {
        /// Where.
        at: Place,
    },
    /// The node is below itself.
    #[error("{at}: it is below itself: edges must lead from upper nodes to lower ones")]
    Circle {
        /// Where.
        at: Place,
    },
    /// The node does not listen where its layer wants to.
    #[error("{at}: it cannot listen below: {error}")]
    Listen {
        /// Where.
        at: Place,
        /// Why.
        error: ListenError,
    },
}

/// A node, and the line that describes it if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The node's name.
    pub node: String,
    /// From 1; zero if it was not read from text.
    pub line: usize,
}

impl Place {
    pub(super) fn of(node: &NodeDescription) -> Self {
        Self { node: node.name.clone(), line: node.line }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, ", self.line)?;
        }
        write!(f, "node `{}`", self.node)
    }
}

impl Graph {
    /// Makes the graph of a description, of layers of these kinds, with buffers from `pool`. What its
    /// layers choose by chance is another time something else: the standard library has the seed from
    /// the system, as for its hash tables.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn new(
        description: &Description,
        kinds: &Kinds,
        pool: Pool,
        limits: Limits,
    ) -> Result<Self, BuildError> {
        let seed = RandomState::new().hash_one(0);
        Self::with_seed(description, kinds, pool, limits, seed)
    }

    /// Makes a graph whose layers choose by this seed, and so the same again.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn with_seed(
        description: &Description,
        kinds: &Kinds,
        pool: Pool,
        limits: Limits,
        seed: u64,
    ) -> Result<Self, BuildError> {
        let mut graph = Self::empty(pool, limits, Random::new(seed));
        for node in &description.nodes {
            graph.add(node, kinds)?;
        }
        for place in 0..graph.nodes.len() {
            graph.nodes[place].lowers = graph.find_lowers(&graph.nodes[place].description)?;
        }
        graph.refuse_circles()?;
        for place in 0..graph.nodes.len() as u32 {
            graph.start(place)?;
        }
        Ok(graph)
    }

    fn empty(pool: Pool, limits: Limits, random: Random) -> Self {
        let context = Context {
            now: Instant::default(),
            node: 0,
            emitted: false,
            attributes: Participants::default(),
            work: Vec::with_capacity(limits.work.min(64)),
            work_limit: limits.work,
            pool,
            random,
            wakes: Vec::new(),
            drops: Vec::new(),
            links: Vec::new(),
            output: Vec::new(),
            output_limit: limits.output,
            listening: Vec::new(),
            behind: false,
            changed: false,
        };
        Self {
            layers: Vec::new(),
            nodes: Vec::new(),
            links: Vec::new(),
            free_links: Vec::new(),
            below: Vec::new(),
            uppers: Vec::new(),
            applications: Vec::new(),
            free_applications: Vec::new(),
            inbox: VecDeque::new(),
            context,
            limits,
            staged: Vec::new(),
            free_nodes: Vec::new(),
            retired: [0; Reason::ALL.len()],
        }
    }

    /// Adds a node without edges.
    pub(super) fn add(&mut self, node: &NodeDescription, kinds: &Kinds) -> Result<u32, BuildError> {
        let at = Place::of(node);
        if self.node(&node.name).is_some() {
            return Err(BuildError::NameTwice { at });
        }
        let layer = match kinds.make(&node.kind, &node.options) {
            Some(Ok(layer)) => layer,
            Some(Err(error)) => return Err(BuildError::Option { at, error }),
            None => {
                let known = kinds.names().collect::<Vec<_>>().join(", ");
                return Err(BuildError::UnknownKind { at, kind: node.kind.clone(), known });
            }
        };
        let node = Node {
            description: node.clone(),
            lowers: Vec::new(),
            multiplexes: layer.multiplexes(),
            listener: None,
        };
        if let Some(place) = self.free_nodes.pop() {
            self.nodes[place as usize] = node;
            self.layers[place as usize] = layer;
            return Ok(place);
        }
        self.nodes.push(node);
        self.layers.push(layer);
        self.context.wakes.push(Instant::NEVER);
        self.context.drops.push([0; Reason::ALL.len()]);
        self.context.links.push(Vec::new());
        self.context.output.push(VecDeque::new());
        Ok(self.nodes.len() as u32 - 1)
    }

    pub(super) fn find_lowers(&self, node: &NodeDescription) -> Result<Vec<u32>, BuildError> {
        let find = |lower: &String| match self.node(lower) {
            Some(NodeId(place)) => Ok(place),
            None => Err(BuildError::UnknownLower { at: Place::of(node), lower: lower.clone() }),
        };
        node.lowers.iter().map(find).collect()
    }

    /// Takes away, again and again, the nodes without upper ones; what is left is a circle.
    fn refuse_circles(&self) -> Result<(), BuildError> {
        let mut uppers = vec![0usize; self.nodes.len()];
        for lower in self.nodes.iter().flat_map(|node| &node.lowers) {
            uppers[*lower as usize] += 1;
        }
        let mut free: Vec<usize> = (0..uppers.len()).filter(|place| uppers[*place] == 0).collect();
        while let Some(place) = free.pop() {
            for lower in &self.nodes[place].lowers {
                uppers[*lower as usize] -= 1;
                if uppers[*lower as usize] == 0 {
                    free.push(*lower as usize);
                }
            }
        }
        match uppers.iter().position(|uppers| *uppers > 0) {
            Some(place) => {
                Err(BuildError::Circle { at: Place::of(&self.nodes[place].description) })
            }
            None => Ok(()),
        }
    }

    /// Lets a layer take its place, and listen.
    pub(super) fn start(&mut self, place: u32) -> Result<(), BuildError> {
        let node = &self.nodes[place as usize];
        let lower = |lower: &u32| {
            let NodeDescription { name, kind, .. } = &self.nodes[*lower as usize].description;
            Lower { name: name.clone(), kind: kind.clone() }
        };
        let lowers: Vec<Lower> = node.lowers.iter().map(lower).collect();
        self.context.node = place;
        self.layers[place as usize].start(&lowers, &mut self.context);
        for (lower, who) in std::mem::take(&mut self.context.listening) {
            let node = &mut self.nodes[place as usize];
            node.listener.get_or_insert(Up::Nowhere);
            let Some(lower) = node.lowers.get(lower).copied() else { continue };
            self.listen_at(lower, who, Up::Node(place)).map_err(|error| {
                let at = Place::of(&self.nodes[place as usize].description);
                BuildError::Listen { at, error }
            })?;
        }
        Ok(())
    }
}
