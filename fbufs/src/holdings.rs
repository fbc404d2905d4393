//! What this process holds of other domains' buffers: the borrower's side of a channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use segment::Fault;
use segment::control::Socket;
use segment::doorbell::Bell;
use segment::failpoint;
use segment::free_queue::Returns;
use segment::geometry::{OwnSegment, PeerSegment};

use crate::descriptor::GENERATION;
use crate::leases::{LEFT_BEHIND, MAX_LEASES};
use crate::path::{Hop, PeerRegion, Place};
use crate::{AllocError, Descriptor, Fbuf, Path, Pool};

/// Why bytes were not read. What was copied out before that is not to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There are not as many bytes.
    #[error("the message has not as many bytes")]
    OutOfRange,
    /// The originator took the buffer back: this process held it for too long, or a domain between
    /// the two is gone. Drop the message.
    #[error("the originator has revoked the buffer")]
    Revoked,
}

/// Why a message was not secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecureError {
    /// No buffer to copy it to.
    #[error(transparent)]
    Alloc(#[from] AllocError),
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// In a lease's state: a later domain may still be reading the buffer.
const LEFT_BEHIND_STATE: u64 = 1 << 63;

/// How many references are kept for handles to come: who holds more buffers at once counts for the rest.
const SPARES: usize = 32;

struct Shared {
    regions: Vec<Arc<PeerRegion>>,
    places: Box<[Place]>,
    returns: Returns,
    /// By lease: whether it was left behind (bit 63), the generation of the hand-off (55..32), and how
    /// many handles there are (31..0).
    leases: Box<[AtomicU64]>,
    bell: Arc<Bell>,
    socket: Arc<Socket>,
}

/// A channel's borrowing side. Owned by the thread that owns the channel.
pub struct Holdings {
    shared: Arc<Shared>,
    /// References for handles to come, so that receiving and giving back count none.
    spares: Vec<Arc<Shared>>,
    /// The generation of the next hand-off.
    generation: u32,
}

impl Holdings {
    /// Takes the borrowing side. `path` are the regions that the peer offered beside its segment's;
    /// `bell` and `socket` wake it when a buffer goes back.
    pub fn new(
        own: &OwnSegment,
        peer: &PeerSegment,
        path: &Path,
        bell: Arc<Bell>,
        socket: Arc<Socket>,
    ) -> Self {
        let mut regions = vec![PeerRegion::of_segment(peer)];
        regions.extend(path.hops.iter().filter_map(|hop| match hop {
            Hop::Peer(region) => Some(region.clone()),
            Hop::Own(_) => None,
        }));
        let places = regions.iter().enumerate().flat_map(|(at, region)| region.places(at));
        let places = places.collect();
        let leases = (0..MAX_LEASES).map(|_| AtomicU64::new(0)).collect();
        let returns = Returns::attach(own);
        let shared = Arc::new(Shared { regions, places, returns, leases, bell, socket });
        Self { shared, spares: Vec::with_capacity(SPARES), generation: 0 }
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
        let place = shared.places.get(usize::from(descriptor.index)).ok_or(Fault::BufferIndex)?;
        if descriptor.offset > place.bytes || descriptor.len > place.bytes - descriptor.offset {
            return Err(Fault::BufferRange);
        }
        if descriptor.generation != self.generation {
            return Err(Fault::BufferGeneration);
        }
        let lease = &shared.leases[usize::from(descriptor.lease)];
        // PAIRS: holdings.lease with `Shared::give_back`.
        if lease.load(Ordering::Acquire) as u32 != 0 {
            return Err(Fault::BufferHeld);
        }
        let region = &shared.regions[usize::from(place.region)];
        let epoch = region.epochs.meant(usize::from(place.index), descriptor.epoch);
        lease.store(u64::from(self.generation) << 32 | 1, Ordering::Relaxed);
        self.generation = (self.generation + 1) & GENERATION;
        failpoint::hit("receive.2-buffer-held");
        Ok(PeerFbuf {
            start: place.start + descriptor.offset,
            len: descriptor.len,
            place: descriptor.index,
            epoch,
            lease: descriptor.lease,
            holdings: Some(self.spares.pop().unwrap_or_else(|| self.shared.clone())),
        })
    }

    /// Gives a buffer back, as dropping it does, but cheaper: for the thread that owns the channel.
    ///
    /// # Cost
    /// One locked instruction and two stores.
    #[inline]
    pub fn give_back(&mut self, mut fbuf: PeerFbuf) {
        let Some(shared) = fbuf.holdings.take_if(|shared| Arc::ptr_eq(shared, &self.shared)) else {
            // Another channel's: it knows its way itself.
            return;
        };
        shared.let_go(fbuf.lease);
        if self.spares.len() < self.spares.capacity() {
            self.spares.push(shared);
        }
    }

    /// How many leases of the peer's are held here.
    pub fn held(&self) -> usize {
        let held = |lease: &&AtomicU64| lease.load(Ordering::Relaxed) as u32 != 0;
        self.shared.leases.iter().filter(held).count()
    }

    /// How many bytes of payload this library copied out of the peer's segment and the path's regions
    /// in this process.
    pub fn copied(&self) -> u64 {
        self.shared.regions.iter().map(|region| region.copied.load(Ordering::Relaxed)).sum()
    }
}

/// A buffer of another domain that was handed to this process, or a part of one. Clones and slices
/// share it; dropping the last one, on any thread, gives it back: two locked instructions, one cache
/// line written, and a system call if the peer sleeps.
///
/// It is *volatile*: a hostile originator can still change it. So its bytes can be copied out, and the
/// copy checked, or be summed up; there is no reference to them. [`PeerFbuf::secure`] makes a copy that
/// nobody can change.
pub struct PeerFbuf {
    /// Always there, but in a handle that was given back otherwise and is only to be forgotten.
    holdings: Option<Arc<Shared>>,
    /// Where it begins in its region: a segment's size fits.
    start: u32,
    len: u32,
    /// Its number in descriptors of the channel that it came by.
    place: u16,
    lease: u8,
    epoch: u32,
}

impl PeerFbuf {
    /// How many bytes were handed over.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether none were.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    fn whereabouts(&self) -> Option<(&Arc<PeerRegion>, Place)> {
        let shared = self.holdings.as_ref()?;
        let place = shared.places[usize::from(self.place)];
        Some((&shared.regions[usize::from(place.region)], place))
    }

    /// Its region, and its buffer's number there.
    #[inline(always)]
    pub(crate) fn buffer(&self) -> Option<(&Arc<PeerRegion>, usize)> {
        self.whereabouts().map(|(region, place)| (region, usize::from(place.index)))
    }

    /// As it stands in descriptors.
    #[inline(always)]
    pub(crate) fn epoch(&self, index: usize) -> u16 {
        self.buffer().map_or(0, |(region, _)| region.epochs.passed_on(index, self.epoch))
    }

    /// Drops it for a receiver that this process passed it on to, which may go on reading it unnoticed:
    /// the originator is told, and revokes it before it uses the buffer again.
    #[cold]
    pub(crate) fn leave_behind(self) {
        if let Some(shared) = &self.holdings {
            // Under a handle that exists, so before the return that the last one makes.
            shared.leases[usize::from(self.lease)].fetch_or(LEFT_BEHIND_STATE, Ordering::Relaxed);
        }
    }

    /// Where it begins in its buffer, and how many bytes it has.
    #[inline(always)]
    pub(crate) fn place(&self) -> (u32, u32) {
        (self.start - self.whereabouts().map_or(self.start, |(_, place)| place.start), self.len)
    }

    /// Whether the originator has taken the buffer back.
    ///
    /// # Cost
    /// One load, of a cache line that is written at revocations only.
    #[inline(always)]
    pub fn is_revoked(&self) -> bool {
        self.buffer().is_none_or(|(region, index)| !region.epochs.is(index, self.epoch))
    }

    /// Fills `to` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`ReadError`]; `to` is not to be used then.
    ///
    /// # Cost
    /// One copy.
    #[inline]
    pub fn copy_to(&self, offset: usize, to: &mut [u8]) -> Result<(), ReadError> {
        let region = self.range(offset, to.len())?;
        if !region.bytes.copy_to(self.start as usize + offset, to) {
            return Err(ReadError::OutOfRange);
        }
        self.still_current()
    }

    /// Passes all bytes to `each`, as words in the byte order of the machine, the last one filled up
    /// with zeros: to sum up or compare what is too large to be copied for that. What `each` made of
    /// them is not to be used if this fails.
    ///
    /// # Errors
    /// [`ReadError::Revoked`].
    ///
    /// # Cost
    /// One load a word where the part begins at a word, else one small copy a word.
    pub fn for_each_word(&self, each: impl FnMut(u64)) -> Result<(), ReadError> {
        let region = self.range(0, self.len())?;
        if !region.bytes.for_each_word(self.start as usize, self.len(), each) {
            return Err(ReadError::OutOfRange);
        }
        self.still_current()
    }

    fn range(&self, offset: usize, len: usize) -> Result<&PeerRegion, ReadError> {
        let end = offset.checked_add(len).ok_or(ReadError::OutOfRange)?;
        if end > self.len() {
            return Err(ReadError::OutOfRange);
        }
        self.buffer().map(|(region, _)| &**region).ok_or(ReadError::Revoked)
    }

    #[inline(always)]
    fn still_current(&self) -> Result<(), ReadError> {
        if self.is_revoked() { Err(ReadError::Revoked) } else { Ok(()) }
    }

    /// Notes that payload was copied out.
    #[inline]
    pub(crate) fn count_copy(&self, bytes: usize) {
        if let Some((region, _)) = self.buffer() {
            region.copied.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// A private copy of all bytes.
    ///
    /// # Errors
    /// [`ReadError::Revoked`].
    ///
    /// # Cost
    /// One allocation and one copy.
    pub fn to_vec(&self) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; self.len()];
        self.copy_to(0, &mut bytes)?;
        self.count_copy(bytes.len());
        Ok(bytes)
    }

    /// A copy in a buffer of this process, which no other domain can change: the single copy that
    /// secures a message against a hostile originator.
    ///
    /// # Errors
    /// [`SecureError`]; where no buffer of the pool is large enough, [`Message::secure`] takes several.
    ///
    /// [`Message::secure`]: crate::Message::secure
    ///
    /// # Cost
    /// One copy.
    pub fn secure(&self, pool: &mut Pool) -> Result<Fbuf, SecureError> {
        let mut fbuf = pool.alloc(self.len())?;
        self.copy_to(0, &mut fbuf)?;
        pool.count_copy(self.len());
        Ok(fbuf.freeze())
    }

    /// A part of it, which shares the buffer. `None` if the range is outside.
    ///
    /// # Cost
    /// Two locked instructions.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let mut part = self.clone();
        part.start += range.start as u32;
        part.len = (range.end - range.start) as u32;
        Some(part)
    }

    /// Drops bytes in front, which must be there.
    #[inline(always)]
    pub(crate) fn advance(&mut self, count: usize) {
        debug_assert!(count <= self.len(), "the caller has checked");
        let count = (count as u32).min(self.len);
        self.start += count;
        self.len -= count;
    }

    /// Keeps the first bytes only.
    #[inline(always)]
    pub(crate) fn keep(&mut self, len: usize) {
        self.len = self.len.min(len as u32);
    }
}

impl Clone for PeerFbuf {
    fn clone(&self) -> Self {
        if let Some(shared) = &self.holdings {
            let handles = shared.leases[usize::from(self.lease)].fetch_add(1, Ordering::Relaxed);
            // As `Arc` does: only a leak in a loop gets there.
            if handles as u32 > u32::MAX / 2 {
                std::process::abort();
            }
        }
        Self { holdings: self.holdings.clone(), ..*self }
    }
}

impl std::fmt::Debug for PeerFbuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerFbuf {{ buffer: {}, len: {} }}", self.place, self.len)
    }
}

impl Shared {
    /// Drops a handle. Out of line, so that dropping a message without a buffer is a test and no call.
    #[inline(never)]
    fn let_go(&self, lease: u8) {
        let state = &self.leases[usize::from(lease)];
        // PAIRS: holdings.handles with the subtraction below: what other handles read, they have read.
        let mut now = state.load(Ordering::Acquire);
        if now as u32 != 1 {
            now = state.fetch_sub(1, Ordering::AcqRel);
            if now as u32 != 1 {
                return;
            }
        }
        // PAIRS: holdings.lease with `Holdings::accept`. Before the return, after which the owner may
        // use the lease again.
        state.store(0, Ordering::Release);
        let left_behind = if now & LEFT_BEHIND_STATE != 0 { LEFT_BEHIND } else { 0 };
        self.returns.push(u16::from(lease) | left_behind, (now >> 32) as u32 & GENERATION);
        failpoint::hit("receive.3-buffer-returned");
        // A closed peer does not want it; nothing is to be done about that here.
        let _ = self.bell.notify(&self.socket);
    }
}

impl Drop for PeerFbuf {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(shared) = &self.holdings {
            shared.let_go(self.lease);
        }
    }
}
