//! What one receiver holds of this process's buffers and of those it passed on: the lender's side.
//!
//! Each part of a message that is handed over occupies a lease until the receiver gives it back. Which
//! lease stands for which buffer is known from this private table alone: a lying or dead receiver
//! cannot change it.

mod returning;

use std::sync::Arc;

use segment::blocks::Blocks;
use segment::free_queue::{CAPACITY, Reclaims};
use segment::geometry::PeerSegment;
use segment::guard::{GuardError, Secured};

use crate::descriptor::GENERATION;
use crate::path::{Hop, PeerRegion};
use crate::{Descriptor, Fbuf, Part, Path, Pool};

/// How many buffers a receiver can hold at most: as many as its free queue has words, so that each can
/// always be given back.
pub const MAX_LEASES: usize = CAPACITY;

/// In the number of a lease that is given back: a domain to which the receiver passed the buffer on may
/// still be reading it, and cannot be asked any more. The buffer is revoked before it is used again.
pub(crate) const LEFT_BEHIND: u16 = 0x8000;

/// What a receiver may hold, with hysteresis: once it holds the most, it gets nothing more until it has
/// given back enough, so that the sender is not woken for a crumb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Buffers at most, or parts of messages, for each counts, however many adjacent buffers it is: up to
    /// [`MAX_LEASES`].
    pub buffers: usize,
    /// Bytes of payload at most.
    pub bytes: u64,
    /// Sending goes on when it holds no more buffers than this.
    pub resume_buffers: usize,
    /// And no more bytes than this.
    pub resume_bytes: u64,
}

impl Default for Quota {
    /// All leases and any number of bytes, and no waiting once there is room again.
    fn default() -> Self {
        Self {
            buffers: MAX_LEASES,
            bytes: u64::MAX,
            resume_buffers: MAX_LEASES - 1,
            resume_bytes: u64::MAX,
        }
    }
}

/// Why a message was not lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LendError {
    /// A buffer of it belongs to a pool that the receiver has not mapped.
    #[error("the buffer is of a pool that is not on the channel's path")]
    Foreign,
    /// More at once than the receiver may ever hold.
    #[error("the message is larger than the receiver's quota")]
    TooMuch,
    /// The receiver holds as much as it may: back-pressure, try again when it has given some back.
    #[error("the receiver holds as much as it may")]
    Quota,
    /// It was to be handed over guarded, and other handles share the buffer.
    #[error("other handles share the buffer: drop them before it is handed over guarded")]
    Shared,
    /// It was to be handed over guarded, and its write access could not be taken away.
    #[error(transparent)]
    Guard(#[from] GuardError),
}

/// What stands for a buffer while the receiver holds it.
enum Lent {
    Part(Part),
    /// Of so many bytes of payload; its pages are read-only in this process too.
    Guarded(Secured, u32),
}

impl Lent {
    fn len(&self) -> u64 {
        match self {
            Self::Part(part) => part.len() as u64,
            Self::Guarded(_, len) => u64::from(*len),
        }
    }

    #[inline(always)]
    fn is_passed_on(&self) -> bool {
        matches!(self, Self::Part(Part::Peer(_)))
    }
}

/// Buffers that the receiver may be sent, as they are numbered in descriptors.
enum Export {
    /// A class: the number of its first buffer, and whether its pool outlives the channel.
    Own { blocks: Arc<Blocks>, first: usize, lives_on: bool },
    /// A region: the number of its first buffer.
    Peer { region: Arc<PeerRegion>, first: usize },
}

#[derive(Default)]
struct Lease {
    lent: Option<Lent>,
    generation: u32,
    /// Revoked, and not given back yet.
    revoked: bool,
}

/// A channel's lending side. Owned by the thread that owns the channel.
pub struct Leases {
    exports: Vec<Export>,
    /// Of them, where the last part was found: the next is there too, as a rule.
    last: usize,
    /// Those that were ever in use: memory for all of them is set aside, and touched when needed.
    leases: Vec<Lease>,
    vacant: Vec<u8>,
    generation: u32,
    bytes: u64,
    quota: Quota,
    throttled: bool,
    /// How many parts are other domains', who wait for them to be given back.
    passed_on: usize,
    reclaims: Reclaims,
}

impl Leases {
    /// The lending side of a channel whose receiver has mapped `pool`, if it is the one of the
    /// channel's segment, and then the regions of `path`.
    pub fn new(pool: &Pool, path: &Path, peer: &PeerSegment, quota: Quota) -> Self {
        let mut exports = Vec::new();
        let mut base = 0;
        let own = Hop::Own(pool.region().clone());
        for hop in std::iter::once(&own).chain(&path.hops) {
            match hop {
                Hop::Own(region) => exports.extend(region.classes.iter().map(|(blocks, first)| {
                    let lives_on = region.segment.is_some();
                    Export::Own { blocks: blocks.clone(), first: base + first, lives_on }
                })),
                Hop::Peer(region) => {
                    exports.push(Export::Peer { region: region.clone(), first: base });
                }
            }
            base += hop.buffers();
        }
        Self {
            exports,
            last: 0,
            leases: Vec::with_capacity(MAX_LEASES),
            vacant: Vec::with_capacity(MAX_LEASES),
            generation: 0,
            bytes: 0,
            quota: Quota { buffers: quota.buffers.min(MAX_LEASES), ..quota },
            throttled: false,
            passed_on: 0,
            reclaims: Reclaims::attach(peer),
        }
    }

    /// Finds what a part is of: what `of` makes of the export is some.
    #[inline(always)]
    fn find<T>(&mut self, of: impl Fn(&Export) -> Option<T>) -> Option<T> {
        if let Some(found) = self.exports.get(self.last).and_then(&of) {
            return Some(found);
        }
        let mut exports = self.exports.iter().enumerate();
        let (at, found) = exports.find_map(|(at, export)| of(export).map(|found| (at, found)))?;
        self.last = at;
        Some(found)
    }

    /// The number in descriptors of the first buffer of a class.
    #[inline(always)]
    fn own(&mut self, of: &Arc<Blocks>) -> Option<usize> {
        self.find(|export| match export {
            Export::Own { blocks, first, .. } if Arc::ptr_eq(of, blocks) => Some(*first),
            _ => None,
        })
    }

    /// The number of a part's buffer in descriptors, and its epoch.
    #[inline(always)]
    fn number(&mut self, part: &Part) -> Option<(u16, u16)> {
        match part {
            Part::Own(fbuf) => {
                let block = fbuf.block();
                let first = self.own(block.region())?;
                Some(((first + block.index()) as u16, block.region().epoch(block.index())))
            }
            Part::Peer(fbuf) => {
                let (of, index) = fbuf.buffer()?;
                let first = self.find(|export| match export {
                    Export::Peer { region, first } if Arc::ptr_eq(of, region) => Some(*first),
                    _ => None,
                })?;
                Some(((first + index) as u16, fbuf.epoch(index)))
            }
        }
    }

    /// Whether a message of these parts may be lent now.
    ///
    /// # Errors
    /// [`LendError`]; `Quota` is back-pressure.
    ///
    /// # Cost
    /// A few loads a part.
    pub fn has_room(&mut self, parts: &[Part], bytes: u64) -> Result<(), LendError> {
        if parts.iter().any(|part| self.number(part).is_none()) {
            return Err(LendError::Foreign);
        }
        self.within_quota(parts.len(), bytes)
    }

    /// Whether so many parts of so many bytes may be lent now.
    ///
    /// # Errors
    /// As [`Leases::has_room`], but not `Foreign`.
    pub fn has_room_for(&mut self, parts: usize, bytes: u64) -> Result<(), LendError> {
        self.within_quota(parts, bytes)
    }

    #[inline(always)]
    fn within_quota(&mut self, parts: usize, bytes: u64) -> Result<(), LendError> {
        let within = self.lent() + parts <= self.quota.buffers
            && self.bytes.saturating_add(bytes) <= self.quota.bytes;
        if within && !self.throttled { Ok(()) } else { self.over_quota(parts, bytes, within) }
    }

    #[cold]
    fn over_quota(&mut self, parts: usize, bytes: u64, within: bool) -> Result<(), LendError> {
        if parts > self.quota.buffers || bytes > self.quota.bytes {
            return Err(LendError::TooMuch);
        }
        let low = self.lent() <= self.quota.resume_buffers && self.bytes <= self.quota.resume_bytes;
        self.throttled = !(within && low);
        if self.throttled { Err(LendError::Quota) } else { Ok(()) }
    }

    /// Notes that a part is the receiver's from now on, and names it.
    ///
    /// # Errors
    /// [`LendError`], with the part.
    ///
    /// # Cost
    /// A few loads and stores in private memory.
    #[inline(always)]
    pub fn lend(&mut self, part: Part) -> Result<Descriptor, (LendError, Part)> {
        let (offset, len) = part.place();
        if let Err(refusal) = self.within_quota(1, len.into()) {
            return Err((refusal, part));
        }
        let Some((index, epoch)) = self.number(&part) else {
            return Err((LendError::Foreign, part));
        };
        let Some(lease) = self.take_vacant() else { return Err((LendError::Quota, part)) };
        let generation = self.note(lease, Lent::Part(part), len);
        Ok(Descriptor { lease, index, generation, epoch, offset, len })
    }

    #[inline(always)]
    fn take_vacant(&mut self) -> Option<u8> {
        self.vacant.pop().or_else(|| self.begin_another())
    }

    #[cold]
    fn begin_another(&mut self) -> Option<u8> {
        let next = u8::try_from(self.leases.len()).ok()?;
        self.leases.push(Lease::default());
        Some(next)
    }

    #[inline(always)]
    fn note(&mut self, lease: u8, lent: Lent, len: u32) -> u32 {
        let generation = self.generation;
        self.generation = (generation + 1) & GENERATION;
        self.bytes += u64::from(len);
        self.passed_on += usize::from(lent.is_passed_on());
        let entry = &mut self.leases[usize::from(lease)];
        entry.lent = Some(lent);
        entry.generation = generation;
        generation
    }

    /// As [`Leases::lend`], and takes this process's write access to the buffer away until it comes
    /// back: a stray write faults. A guard of an honest originator against its own bugs; what it
    /// promises nobody else is told in [`segment::guard`].
    ///
    /// # Errors
    /// [`LendError`], with the buffer.
    ///
    /// # Cost
    /// One system call now and one when the buffer comes back: worth it from 1 MiB on, in buffers of
    /// whole 2 MiB pages.
    pub fn lend_guarded(&mut self, fbuf: Fbuf) -> Result<Descriptor, (LendError, Fbuf)> {
        let (offset, len) = fbuf.place();
        if let Err(refusal) = self.within_quota(1, len.into()) {
            return Err((refusal, fbuf));
        }
        let Some(first) = self.own(fbuf.block().region()) else {
            return Err((LendError::Foreign, fbuf));
        };
        let block = match fbuf.into_block().try_unshare() {
            Ok(block) => block,
            Err(block) => return Err((LendError::Shared, Fbuf::of(block, offset, len))),
        };
        // Not before: it may have had to be revoked first.
        let epoch = block.region().epoch(block.index());
        let index = (first + block.index()) as u16;
        let Some(lease) = self.take_vacant() else {
            return Err((LendError::Quota, Fbuf::of(block.share(), offset, len)));
        };
        let secured = match Secured::new(block) {
            Ok(secured) => secured,
            Err((error, block)) => {
                self.vacant.push(lease);
                return Err((error.into(), Fbuf::of(block.share(), offset, len)));
            }
        };
        let generation = self.note(lease, Lent::Guarded(secured, len), len);
        Ok(Descriptor { lease, index, generation, epoch, offset, len })
    }

    /// How many leases are in use: parts that the receiver holds, or has to give back after they were
    /// revoked.
    #[inline(always)]
    pub fn lent(&self) -> usize {
        self.leases.len() - self.vacant.len()
    }

    /// How many bytes of payload the receiver holds.
    pub fn lent_bytes(&self) -> u64 {
        self.bytes
    }
}
