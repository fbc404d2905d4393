//! A deterministic simulator: hosts with a graph each, links between their devices, virtual time.
//!
//! A run is a function of the hosts' descriptions, the links and one seed: the same again does the
//! same, message by message, which [`Sim::trace`] proves. So whatever goes wrong once can be looked at
//! as often as it takes.
//!
//! ```
//! use protocols::sim::{Faults, Sim};
//! use protocols::{Kinds, Participants};
//!
//! let mut sim = Sim::new(7);
//! let stack = "sequencing: wire\nwire = device";
//! let a = sim.host(stack, &Kinds::standard())?;
//! let b = sim.host(stack, &Kinds::standard())?;
//! sim.link((a, "wire"), (b, "wire"), Faults { loss: 0.1, ..Faults::default() })?;
//! sim.graph(b).listen("sequencing", Participants::default())?;
//! let session = sim.graph(a).open("sequencing", Participants::default())?;
//! for number in 0..100u8 {
//!     sim.push(a, session, &[number]);
//! }
//! sim.run(10_000);
//! assert!(sim.take_received(b).len() > 70);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod link;

use std::collections::BinaryHeap;
use std::time::Duration;

use fbufs::{Class, MAX_CLASSES, PoolOptions};

pub use link::Faults;
use link::{Event, Link};

use crate::random::Random;
use crate::{
    BuildError, Description, Graph, Instant, Kinds, Limits, Message, NodeId, Pool, Session,
    description,
};

/// How a host is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostId(usize);

/// Why a simulation was not set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetUpError {
    /// The description is none.
    #[error(transparent)]
    Description(#[from] description::ParseError),
    /// It describes no graph.
    #[error(transparent)]
    Graph(#[from] BuildError),
    /// The host has no memory for its buffers.
    #[error("the host's buffers were not made: {0}")]
    Pool(String),
    /// There is no such device.
    #[error("the host has no node `{0}`: name a device of its description")]
    NoDevice(String),
}

struct Host {
    graph: Graph,
    /// Where frames go from each device that a link is at: the number of the link, and its end.
    devices: Vec<(NodeId, usize, usize)>,
    received: Vec<(Session, Vec<u8>)>,
}

/// A simulation.
pub struct Sim {
    seed: u64,
    random: Random,
    now: Instant,
    hosts: Vec<Host>,
    links: Vec<Link>,
    events: BinaryHeap<Event>,
    next_event: u64,
    trace: u64,
}

/// A small pool: a simulation is to find what is not given back.
const BUFFERS: [(u64, u32); 3] = [(2 << 10, 192), (4 << 10, 48), (64 << 10, 16)];

fn pool() -> Result<Pool, SetUpError> {
    let mut options =
        PoolOptions { classes: [Class::default(); MAX_CLASSES], ..Default::default() };
    for (class, (buffer_bytes, buffers)) in options.classes.iter_mut().zip(BUFFERS) {
        *class = Class { buffer_bytes: buffer_bytes as _, buffers };
    }
    Pool::new(options).map_err(|error| SetUpError::Pool(error.to_string()))
}

/// What the layers of a host choose by. Not drawn from the simulation's own numbers: the faults that a
/// seed makes do not depend on how many hosts there are.
fn host_seed(seed: u64, host: usize) -> u64 {
    Random::new(!seed).word() ^ Random::new(host as u64).word()
}

impl Sim {
    /// An empty one. Everything by chance comes from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            random: Random::new(seed),
            now: Instant(0),
            hosts: Vec::new(),
            links: Vec::new(),
            events: BinaryHeap::new(),
            next_event: 0,
            trace: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Adds a host whose graph is described by `text`.
    ///
    /// # Errors
    /// [`SetUpError`].
    pub fn host(&mut self, text: &str, kinds: &Kinds) -> Result<HostId, SetUpError> {
        let description: Description = text.parse()?;
        let seed = host_seed(self.seed, self.hosts.len());
        let graph = Graph::with_seed(&description, kinds, pool()?, Limits::default(), seed)?;
        self.hosts.push(Host { graph, devices: Vec::new(), received: Vec::new() });
        Ok(HostId(self.hosts.len() - 1))
    }

    /// Joins two devices.
    ///
    /// # Errors
    /// [`SetUpError::NoDevice`].
    pub fn link(
        &mut self,
        one: (HostId, &str),
        other: (HostId, &str),
        faults: Faults,
    ) -> Result<(), SetUpError> {
        let link = self.links.len();
        let mut ends = [(0, NodeId::default()); 2];
        for (end, (host, name)) in [one, other].into_iter().enumerate() {
            let host_at = &mut self.hosts[host.0];
            let device = host_at.graph.node(name);
            let device = device.ok_or_else(|| SetUpError::NoDevice(name.to_owned()))?;
            host_at.devices.push((device, link, end));
            ends[end] = (host.0, device);
        }
        let random = Random::new(self.random.word());
        self.links.push(Link { ends, faults, random, bursts: [false; 2] });
        Ok(())
    }

    /// A host's graph.
    pub fn graph(&mut self, host: HostId) -> &mut Graph {
        &mut self.hosts[host.0].graph
    }

    /// What time it is there.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Pushes bytes down a session of a host. `false`, and nothing sent, if the host has no buffer
    /// left or the session is closed.
    pub fn push(&mut self, host: HostId, session: Session, bytes: &[u8]) -> bool {
        let now = self.now;
        let graph = &mut self.hosts[host.0].graph;
        let headroom = graph.below(session).map_or(0, |below| below.headroom);
        let mut left = bytes;
        let message = graph.pool().message(headroom, bytes.len(), |room| {
            let (first, rest) = left.split_at(room.len());
            room.copy_from_slice(first);
            left = rest;
        });
        let pushed = message.is_ok_and(|message| graph.push(now, session, message).is_ok());
        self.collect(host.0);
        pushed
    }

    /// What a host's application received since it was asked last, as bytes.
    pub fn take_received(&mut self, host: HostId) -> Vec<(Session, Vec<u8>)> {
        std::mem::take(&mut self.hosts[host.0].received)
    }

    /// A number that stands for everything that happened up to now, in its order.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// How many buffers of a host are not free: what its graph, the links and other hosts hold.
    pub fn buffers_in_use(&mut self, host: HostId) -> usize {
        let pool = self.hosts[host.0].graph.pool();
        pool.total() - pool.free()
    }

    /// Lets time pass by `by`, with all that happens meanwhile, but no more than `limit` events: how
    /// many there were.
    pub fn run_for(&mut self, by: Duration, limit: usize) -> usize {
        let end = self.now + by;
        let mut done = 0;
        while done < limit && self.next_time().is_some_and(|at| at <= end) {
            self.step();
            done += 1;
        }
        if done < limit {
            self.now = end;
        }
        done
    }

    /// Runs until nothing is left to happen, but no more than `limit` events: how many there were.
    pub fn run(&mut self, limit: usize) -> usize {
        (0..limit).take_while(|_| self.step()).count()
    }

    /// When the next thing happens.
    fn next_time(&self) -> Option<Instant> {
        let wakes = self.hosts.iter().filter_map(|host| host.graph.next_wake());
        let event = self.events.peek().map(|event| event.due);
        wakes.chain(event).min().map(|at| at.max(self.now))
    }

    /// One event: `false` if there was none.
    pub fn step(&mut self) -> bool {
        let Some(now) = self.next_time() else { return false };
        self.now = now;
        if self.events.peek().is_some_and(|event| event.due <= now) {
            if let Some(event) = self.events.pop() {
                let (host, device) = self.links[event.link].ends[event.end];
                self.note(3, host as u64, &event.frame);
                self.hosts[host].graph.receive(now, device, event.frame);
                self.collect(host);
            }
            return true;
        }
        for host in 0..self.hosts.len() {
            if self.hosts[host].graph.next_wake().is_some_and(|at| at <= now) {
                self.hosts[host].graph.poll(now);
                self.collect(host);
                return true;
            }
        }
        false
    }

    /// Takes what a host's graph has put out: frames onto the links, messages to the application.
    fn collect(&mut self, host: usize) {
        for at in 0..self.hosts[host].devices.len() {
            let (device, link, end) = self.hosts[host].devices[at];
            while let Some(frame) = self.hosts[host].graph.transmitted(device) {
                self.note(1, host as u64, &frame);
                self.transmit(link, end, frame);
            }
        }
        while let Some(delivery) = self.hosts[host].graph.received() {
            self.note(2, host as u64, &delivery.message);
            // A message that nobody can read any more is none.
            if let Ok(bytes) = delivery.message.to_vec() {
                self.hosts[host].received.push((delivery.session, bytes));
            }
        }
    }

    fn transmit(&mut self, link: usize, end: usize, frame: Message) {
        let now = self.now;
        let (host, _) = self.links[link].ends[end];
        let pool = self.hosts[host].graph.pool();
        for (due, frame) in self.links[link].carry(now, end, frame, pool).into_iter().flatten() {
            let order = self.next_event;
            self.next_event += 1;
            self.events.push(Event { due, order, link, end: 1 - end, frame });
        }
    }

    /// Mixes into the trace what happened (FNV-1a).
    fn note(&mut self, what: u8, host: u64, message: &Message) {
        let mut trace = self.trace;
        let mut mix = |bytes: &[u8]| {
            for byte in bytes {
                trace = (trace ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
        };
        mix(&[what]);
        mix(&host.to_be_bytes());
        mix(&self.now.0.to_be_bytes());
        // Revoked parts do not exist here: nobody revokes.
        let _ = message.for_each_chunk(mix);
        self.trace = trace;
    }
}

/// Whatever fails in a test's thread says how to see it again.
impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the failing run is that of Sim::new({}), at {} ns", self.seed, self.now.0);
        }
    }
}

impl std::fmt::Debug for Sim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sim {{ seed: {}, now: {:?}, {} hosts }}", self.seed, self.now, self.hosts.len())
    }
}
