//! What the tests of single layers share.
#![allow(dead_code)]

use std::time::Duration;

use fbufs::PoolOptions;
use protocols::{
    Description, Graph, Instant, Kinds, Limits, Message, NodeId, Participants, Pool, Reason,
    Session,
};

pub fn graph_of(text: &str, kinds: &Kinds) -> Graph {
    let description: Description = text.parse().expect("it is a description");
    let pool = Pool::new(PoolOptions::default()).expect("memory is left");
    Graph::new(&description, kinds, pool, Limits::default()).expect("it makes a graph")
}

/// One host, whose only device is played by the test.
pub struct Host {
    pub graph: Graph,
    pub wire: NodeId,
    pub session: Session,
    pub now: Instant,
}

impl Host {
    pub fn new(text: &str, top: &str) -> Self {
        let mut graph = graph_of(text, &Kinds::standard());
        let wire = graph.node("wire").expect("the device has that name");
        let session = graph.open(top, Participants::default()).expect("it opens");
        Self { graph, wire, session, now: Instant(0) }
    }

    pub fn message(&mut self, bytes: &[u8]) -> Message {
        let mut left = bytes;
        let message = self.graph.pool().message(64, bytes.len(), |room| {
            let (first, rest) = left.split_at(room.len());
            room.copy_from_slice(first);
            left = rest;
        });
        message.expect("a buffer is left")
    }

    pub fn push(&mut self, bytes: &[u8]) {
        let message = self.message(bytes);
        self.graph.push(self.now, self.session, message).expect("it is open");
    }

    /// The frames that went out, as bytes.
    pub fn frames(&mut self) -> Vec<Vec<u8>> {
        let frames = std::iter::from_fn(|| self.graph.transmitted(self.wire));
        frames.map(|frame| frame.to_vec().expect("it can be read")).collect()
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        let message = self.message(bytes);
        self.graph.receive(self.now, self.wire, message);
    }

    /// What was delivered, as bytes.
    pub fn deliveries(&mut self) -> Vec<Vec<u8>> {
        let deliveries = std::iter::from_fn(|| self.graph.received());
        deliveries.map(|delivery| delivery.message.to_vec().expect("it can be read")).collect()
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.graph.poll(self.now);
    }

    pub fn drops(&self, node: &str, reason: Reason) -> u64 {
        self.graph.drops(self.graph.node(node).expect("it is there"), reason)
    }

    pub fn number(&self, node: &str, name: &str) -> u64 {
        let mut found = 0;
        self.graph.statistics(|at, what, count| {
            if at == node && what == name {
                found = count;
            }
        });
        found
    }

    pub fn buffers_in_use(&mut self) -> usize {
        let pool = self.graph.pool();
        pool.total() - pool.free()
    }
}
