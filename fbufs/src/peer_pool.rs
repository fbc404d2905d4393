//! The receiver's side: descriptors are checked, buffers read and given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use segment::Fault;
use segment::control::Socket;
use segment::doorbell::Bell;
use segment::failpoint;
use segment::free_queue::Returns;
use segment::geometry::{MAX_CLASSES, OwnSegment, PeerSegment};
use segment::memory::PeerBytes;

use crate::Descriptor;

struct Class {
    bytes: PeerBytes,
    buffer_bytes: usize,
    first: usize,
}

struct Shared {
    classes: Vec<Class>,
    returns: Returns,
    /// By index: the generation the next descriptor must have, shifted by one, and whether the
    /// buffer is held here. Written by whoever holds the buffer's handle, and by `accept`.
    states: Box<[AtomicU64]>,
    bell: Arc<Bell>,
    socket: Arc<Socket>,
}

const HELD: u64 = 1;

/// The peer's buffers, as this process sees them. Owned by the thread that owns the channel.
pub struct PeerPool {
    shared: Arc<Shared>,
    /// References for handles to come, so that receiving and giving back count none.
    spares: Vec<Arc<Shared>>,
}

impl PeerPool {
    /// Takes the receiving side. `bell` and `socket` wake the owner when a buffer goes back.
    pub fn new(own: &OwnSegment, peer: &PeerSegment, bell: Arc<Bell>, socket: Arc<Socket>) -> Self {
        let mut classes = Vec::new();
        let mut first = 0;
        for number in 0..MAX_CLASSES {
            let class = peer.geometry().classes[number];
            let Some(bytes) = peer.class(number).filter(|_| class.buffers > 0) else { continue };
            classes.push(Class { bytes, buffer_bytes: class.buffer_bytes as usize, first });
            first += class.buffers as usize;
        }
        let states = (0..first).map(|_| AtomicU64::new(0)).collect();
        let returns = Returns::attach(own);
        let shared = Arc::new(Shared { classes, returns, states, bell, socket });
        Self { shared, spares: Vec::with_capacity(first) }
    }

    /// Checks a descriptor, and takes the buffer it names.
    ///
    /// # Errors
    /// The [`Fault`] that the peer committed; nothing is held then.
    ///
    /// # Cost
    /// A few loads of private memory.
    #[inline]
    pub fn accept(&mut self, descriptor: Descriptor) -> Result<PeerFbuf, Fault> {
        let shared = &*self.shared;
        let index = usize::from(descriptor.index);
        let state = shared.states.get(index).ok_or(Fault::BufferIndex)?;
        let class = shared.classes.iter().rev().find(|class| class.first <= index);
        let class = class.ok_or(Fault::BufferIndex)?;
        let (offset, len) = (descriptor.offset as usize, descriptor.len as usize);
        if offset > class.buffer_bytes || len > class.buffer_bytes - offset {
            return Err(Fault::BufferRange);
        }
        // PAIRS: peer_pool.state with `PeerFbuf::drop`.
        let found = state.load(Ordering::Acquire);
        if found & HELD != 0 {
            return Err(Fault::BufferHeld);
        }
        if found != u64::from(descriptor.generation) << 1 {
            return Err(Fault::BufferGeneration);
        }
        state.store(found | HELD, Ordering::Relaxed);
        // Within a segment, whose size fits: `MAX_SEGMENT_BYTES`.
        let start = ((index - class.first) * class.buffer_bytes + offset) as u32;
        failpoint::hit("receive.2-buffer-held");
        let pool = Some(self.spares.pop().unwrap_or_else(|| self.shared.clone()));
        Ok(PeerFbuf {
            pool,
            index: descriptor.index,
            generation: descriptor.generation,
            start,
            len: descriptor.len,
        })
    }

    /// Gives a buffer back, as dropping it does, but cheaper: for the thread that owns the channel.
    ///
    /// # Cost
    /// One locked instruction and two stores.
    #[inline]
    pub fn give_back(&mut self, mut fbuf: PeerFbuf) {
        let Some(pool) = fbuf.pool.take_if(|pool| Arc::ptr_eq(pool, &self.shared)) else {
            // Another channel's: it knows its way itself.
            return;
        };
        pool.give_back(fbuf.index, fbuf.generation);
        if self.spares.len() < self.spares.capacity() {
            self.spares.push(pool);
        }
    }

    /// How many of the peer's buffers are held here.
    pub fn held(&self) -> usize {
        self.shared.states.iter().filter(|state| state.load(Ordering::Relaxed) & HELD != 0).count()
    }
}

/// A buffer of the peer's that was handed to this process. Dropping it, on any thread, gives it
/// back: two locked instructions, one cache line written, and a system call if the owner sleeps.
///
/// It is *volatile*: a hostile owner can still change it. So its bytes can be copied out, and the
/// copy checked; there is no reference to them.
pub struct PeerFbuf {
    /// Always there, but in a handle that was given back otherwise and is only to be forgotten.
    pool: Option<Arc<Shared>>,
    index: u16,
    generation: u32,
    start: u32,
    len: u32,
}

impl PeerFbuf {
    /// How many bytes were handed over.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether none were.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `to` with the bytes from `offset` on. `false`, and nothing copied, if that is outside.
    ///
    /// # Cost
    /// One copy.
    #[must_use]
    pub fn copy_to(&self, offset: usize, to: &mut [u8]) -> bool {
        let Some(end) = offset.checked_add(to.len()) else { return false };
        if end > self.len() {
            return false;
        }
        let Some(pool) = &self.pool else { return false };
        let class = pool.classes.iter().rev().find(|class| class.first <= self.index.into());
        class.is_some_and(|class| class.bytes.copy_to(self.start as usize + offset, to))
    }

    /// A private copy of all bytes.
    ///
    /// # Cost
    /// One allocation and one copy.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        let copied = self.copy_to(0, &mut bytes);
        assert!(copied, "the whole buffer lies within itself");
        bytes
    }
}

impl std::fmt::Debug for PeerFbuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerFbuf {{ index: {}, len: {} }}", self.index, self.len)
    }
}

impl Shared {
    /// Out of line, so that dropping a message without a buffer is a test and no call.
    #[inline(never)]
    fn give_back(&self, index: u16, generation: u32) {
        let next = u64::from(generation.wrapping_add(1)) << 1;
        // PAIRS: peer_pool.state with `PeerPool::accept`. Before the return, after which the owner
        // may hand the buffer over again.
        self.states[usize::from(index)].store(next, Ordering::Release);
        self.returns.push(index, generation);
        failpoint::hit("receive.3-buffer-returned");
        // A closed peer does not want it; nothing is to be done about that here.
        let _ = self.bell.notify(&self.socket);
    }
}

impl Drop for PeerFbuf {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give_back(self.index, self.generation);
        }
    }
}
