//! Two segments in one process, each attached to the other: one side lends buffers, one borrows them.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code)]

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use fbufs::{Holdings, Leases, MAX_CLASSES, Path, PeerFbuf, Pool, PoolOptions, Quota};
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

pub fn classes() -> [Class; MAX_CLASSES] {
    let mut classes = [Class::default(); MAX_CLASSES];
    for (class, (bytes, buffers)) in classes.iter_mut().zip(CLASSES) {
        *class = Class { buffer_bytes: bytes as u32, buffers: buffers as u32 };
    }
    classes
}

pub fn geometry() -> Geometry {
    Geometry { slots: 8, classes: classes(), ..Geometry::default() }
}

/// A pool in a region of its own, with the same buffers.
pub fn region() -> Pool {
    Pool::new(PoolOptions { classes: classes(), ..PoolOptions::default() }).expect("memory")
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

/// How much can be handed over from the start of a buffer on: those of the largest class in runs.
pub fn reach(index: usize) -> usize {
    let (bytes, buffers) = CLASSES[2];
    let before = TOTAL - buffers;
    if index < before { buffer_bytes(index) } else { bytes * (TOTAL - index) }
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

/// The lender, and the borrower's segment to be scribbled on.
pub struct Lender {
    pub pool: Pool,
    pub leases: Leases,
    free_queue: Scribbler,
    returned: u64,
}

impl Lender {
    pub fn new() -> Self {
        let incarnation = Incarnation::draw().expect("random numbers");
        let mut own = geometry().create(incarnation, false).expect("memory");
        let receiver = geometry().create(incarnation, false).expect("memory");
        let pool = Pool::in_segment(&mut own);
        let peer = attach(&receiver, incarnation);
        let leases = Leases::new(&pool, &Path::default(), &peer, Quota::default());
        Self { pool, leases, free_queue: Scribbler::over(&receiver), returned: 0 }
    }

    /// Gives a lease back, as a receiver that need not have it.
    pub fn give_back(&mut self, lease: u16, generation: u32) {
        let sequence = u64::from((self.returned as u16).wrapping_add(1));
        self.write(sequence << 48 | u64::from(lease) << 32 | u64::from(generation));
    }

    /// Writes the next word of the free queue.
    pub fn write(&mut self, word: u64) {
        let at = self.returned as usize % CAPACITY;
        self.free_queue.store(FREE_QUEUE + at * 8, word);
        self.returned += 1;
    }
}

/// One direction between two domains, both of them honest: what `pool` and the regions of `offered`
/// have is lent by one and held by the other.
pub struct Hop {
    /// Of the lender's segment.
    pub pool: Pool,
    pub leases: Leases,
    pub holdings: Holdings,
    /// The regions of `offered`, as the borrower has mapped them.
    pub path: Path,
    /// The lender's end of the socket, which the borrower rings by.
    _far: Socket,
    _own: OwnSegment,
}

impl Hop {
    /// Without regions.
    pub fn bare() -> Self {
        Self::new(&Path::default(), Quota::default())
    }

    pub fn new(offered: &Path, quota: Quota) -> Self {
        let incarnation = Incarnation::draw().expect("random numbers");
        let mut own = geometry().create(incarnation, false).expect("memory");
        let receiver = geometry().create(incarnation, false).expect("memory");
        let lenders = attach(&own, incarnation);
        let (near, far) = sockets();
        let bell = Arc::new(Bell::attach(&lenders, true));
        let mapped = offered.descriptors().map(|fd| fd.try_clone_to_owned().expect("one is left"));
        let path = Path::attach(mapped.collect()).expect("they are honest");
        let holdings = Holdings::new(&receiver, &lenders, &path, bell, Arc::new(near));
        let pool = Pool::in_segment(&mut own);
        let leases = Leases::new(&pool, offered, &attach(&receiver, incarnation), quota);
        Self { pool, leases, holdings, path, _far: far, _own: own }
    }

    /// Hands a part over, which must be possible.
    pub fn hand_over(&mut self, part: fbufs::Part) -> PeerFbuf {
        let descriptor = self.leases.lend(part).expect("it may be lent");
        self.holdings.accept(descriptor).expect("it is honest")
    }

    /// A buffer of `bytes` of the lender's segment, as the borrower has it.
    pub fn lend_bytes(&mut self, bytes: &[u8]) -> PeerFbuf {
        let mut fbuf = self.pool.alloc(bytes.len()).expect("one is free");
        fbuf.copy_from_slice(bytes);
        self.hand_over(fbufs::Part::Own(fbuf.freeze()))
    }

    pub fn collect(&mut self) -> usize {
        self.leases.collect(&mut self.pool).expect("it is honest")
    }
}
