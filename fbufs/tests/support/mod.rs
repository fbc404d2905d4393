//! Two segments in one process, each attached to the other: one side owns buffers, one receives them.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code)]

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fbufs::{PeerPool, Pool};
use segment::Incarnation;
use segment::control::{Listener, Socket};
use segment::doorbell::Bell;
use segment::free_queue::CAPACITY;
use segment::geometry::{Class, FREE_QUEUE, Geometry, OwnSegment, PeerSegment};
use segment::scribble::Scribbler;

/// Sizes and numbers of the buffers.
pub const CLASSES: [(usize, usize); 3] = [(64, 5), (256, 4), (4096, 3)];
/// How many buffers there are.
pub const TOTAL: usize = 12;

pub fn geometry() -> Geometry {
    let mut geometry = Geometry { slots: 8, ..Geometry::default() };
    geometry.classes = Default::default();
    for (class, (bytes, buffers)) in geometry.classes.iter_mut().zip(CLASSES) {
        *class = Class { buffer_bytes: bytes as u32, buffers: buffers as u32 };
    }
    geometry
}

/// How large a buffer is.
pub fn buffer_bytes(index: usize) -> usize {
    let mut first = 0;
    for (bytes, buffers) in CLASSES {
        first += buffers;
        if index < first {
            return bytes;
        }
    }
    panic!("there is no buffer {index}");
}

fn sockets() -> (Socket, Socket) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("fbufs-{}-{number}", std::process::id());
    let listener = Listener::bind(&name).expect("the name is free");
    let near = Socket::connect(&name).expect("it listens");
    (near, listener.accept().expect("a descriptor").expect("one connects"))
}

fn attach(own: &OwnSegment, incarnation: Incarnation) -> PeerSegment {
    Geometry::attach(own.as_fd(), incarnation).expect("it is honest")
}

/// The owner's pool, and the receiver's segment to be scribbled on.
pub struct Owner {
    pub pool: Pool,
    free_queue: Scribbler,
    returned: u64,
}

impl Owner {
    pub fn new() -> Self {
        let incarnation = Incarnation::draw().expect("random numbers");
        let mut own = geometry().create(incarnation, false).expect("memory");
        let receiver = geometry().create(incarnation, false).expect("memory");
        let pool = Pool::new(&mut own, &attach(&receiver, incarnation));
        Self { pool, free_queue: Scribbler::over(&receiver), returned: 0 }
    }

    /// Gives a buffer back, as a receiver that need not have it.
    pub fn give_back(&mut self, index: u16, generation: u32) {
        let sequence = u64::from((self.returned as u16).wrapping_add(1));
        self.write(sequence << 48 | u64::from(index) << 32 | u64::from(generation));
    }

    /// Writes the next word of the free queue.
    pub fn write(&mut self, word: u64) {
        let at = self.returned as usize % CAPACITY;
        self.free_queue.store(FREE_QUEUE + at * 8, word);
        self.returned += 1;
    }
}

/// The receiver's pool alone: descriptors come from the test.
pub struct Receiver {
    pub pool: PeerPool,
    _far: Socket,
}

impl Receiver {
    pub fn new() -> Self {
        let (_, pool, far) = both();
        Self { pool, _far: far }
    }
}

/// Both honest sides of one direction, and the far end of the socket they ring by.
pub fn both() -> (Pool, PeerPool, Socket) {
    let incarnation = Incarnation::draw().expect("random numbers");
    let mut own = geometry().create(incarnation, false).expect("memory");
    let receiver = geometry().create(incarnation, false).expect("memory");
    let owners = attach(&own, incarnation);
    let (near, far) = sockets();
    let bell = Arc::new(Bell::attach(&owners, true));
    let peer_pool = PeerPool::new(&receiver, &owners, bell, Arc::new(near));
    let pool = Pool::new(&mut own, &attach(&receiver, incarnation));
    (pool, peer_pool, far)
}
